//! What every signal of the simulated plant says at this moment.
//!
//! Written by the stepper (every 50 ms) and by commands; read by the servers. Cheap to clone: all clones see one state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally_model::{Quality, Value};
use tokio::sync::watch;

/// The state of the whole plant; all clones share it.
#[derive(Clone)]
pub struct PlantState {
    shared: Arc<Shared>,
}

struct Shared {
    /// A std mutex is right: nobody holds it across an await, and every hold is a few map look-ups.
    devices: Mutex<BTreeMap<String, Device>>,
    /// Rises with every change, so that servers can push instead of poll.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Device {
    signals: BTreeMap<String, Signal>,
    silent_until: Option<Instant>,
    wire_fault: Option<WireFault>,
}

/// What is wrong with a device's Modbus answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// Every request gets this exception (Modbus Application Protocol V1.1b3 §7).
    Exception(u8),
    /// Every answer comes this late.
    Delay(Duration),
    /// Bytes that are no Modbus instead of the answer.
    Garbage,
    /// The first half of the answer, then nothing.
    Half,
}

struct Signal {
    view: SignalView,
    /// Set or frozen by a command: the stepper leaves it alone until it is released.
    held: bool,
}

/// What a signal says, and how far the simulated device trusts it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalView {
    /// The value.
    pub value: Value,
    /// Good unless a `fault` command said otherwise.
    pub quality: Quality,
}

impl Default for PlantState {
    fn default() -> Self {
        let shared = Shared { devices: Mutex::default(), changes: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl PlantState {
    /// The value of a signal, if there is such a signal.
    #[must_use]
    pub fn get(&self, device: &str, signal: &str) -> Option<Value> {
        self.view(device, signal).map(|view| view.value)
    }

    /// Value and quality of a signal, if there is such a signal.
    #[must_use]
    pub fn view(&self, device: &str, signal: &str) -> Option<SignalView> {
        Some(self.lock().get(device)?.signals.get(signal)?.view.clone())
    }

    /// All signals of a device with their values, in name order; empty for an unknown device.
    #[must_use]
    pub fn signals(&self, device: &str) -> Vec<(String, Value)> {
        let devices = self.lock();
        let signals = devices.get(device).into_iter().flat_map(|device| &device.signals);
        signals.map(|(name, signal)| (name.clone(), signal.view.value.clone())).collect()
    }

    /// Holds a signal at `value` until [`PlantState::release`]; makes the signal when there is none.
    pub fn set(&self, device: &str, signal: &str, value: Value) {
        self.change(device, signal, value, true);
    }

    /// What the stepper writes: ignored while the signal is held.
    pub(crate) fn drive(&self, device: &str, signal: &str, value: Value) {
        self.change(device, signal, value, false);
    }

    /// Holds a signal at what it says now. `false` when there is no such signal.
    pub fn freeze(&self, device: &str, signal: &str) -> bool {
        self.with_signal(device, signal, |signal| signal.held = true)
    }

    /// Lets the models and shapes drive a signal again. `false` when there is no such signal.
    pub fn release(&self, device: &str, signal: &str) -> bool {
        self.with_signal(device, signal, |signal| signal.held = false)
    }

    /// Changes the quality of a signal until it is changed back. `false` when there is no such signal.
    pub fn set_quality(&self, device: &str, signal: &str, quality: Quality) -> bool {
        self.with_signal(device, signal, |signal| signal.view.quality = quality)
    }

    /// Makes a device stop answering (or publishing) for `time`.
    pub fn silence(&self, device: &str, time: Duration) {
        self.lock().entry(device.to_owned()).or_default().silent_until = Instant::now().checked_add(time);
        self.announce();
    }

    /// Whether a device answers nothing at the moment.
    #[must_use]
    pub fn is_silent(&self, device: &str) -> bool {
        self.lock().get(device).and_then(|device| device.silent_until).is_some_and(|until| Instant::now() < until)
    }

    /// Spoils a device's Modbus answers until told otherwise.
    pub fn set_wire_fault(&self, device: &str, fault: Option<WireFault>) {
        self.lock().entry(device.to_owned()).or_default().wire_fault = fault;
    }

    /// What is wrong with a device's Modbus answers at the moment.
    #[must_use]
    pub fn wire_fault(&self, device: &str) -> Option<WireFault> {
        self.lock().get(device)?.wire_fault
    }

    /// A number that rises whenever anything changed (at most one wake-up per step is lost to merging).
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Wakes those who wait for [`PlantState::changes`].
    pub(crate) fn announce(&self) {
        self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn change(&self, device: &str, signal: &str, value: Value, by_command: bool) {
        let mut devices = self.lock();
        let signals = &mut devices.entry(device.to_owned()).or_default().signals;
        match signals.get_mut(signal) {
            Some(known) if known.held && !by_command => {}
            Some(known) => {
                known.view.value = value;
                known.held = by_command;
            }
            None => {
                let view = SignalView { value, quality: Quality::Good };
                signals.insert(signal.to_owned(), Signal { view, held: by_command });
            }
        }
        drop(devices);
        if by_command {
            self.announce();
        }
    }

    fn with_signal(&self, device: &str, signal: &str, change: impl FnOnce(&mut Signal)) -> bool {
        let found = match self.lock().get_mut(device).and_then(|device| device.signals.get_mut(signal)) {
            Some(signal) => {
                change(signal);
                true
            }
            None => false,
        };
        self.announce();
        found
    }

    /// A poisoned lock means a reader died between plain assignments: the values are still usable.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Device>> {
        self.shared.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_signal_is_left_alone_until_released() {
        let plant = PlantState::default();
        plant.drive("press", "vibration", Value::Float(2.0));
        plant.set("press", "vibration", Value::Float(9.5));
        plant.drive("press", "vibration", Value::Float(2.1));
        assert_eq!(plant.get("press", "vibration"), Some(Value::Float(9.5)));
        assert!(plant.release("press", "vibration"));
        plant.drive("press", "vibration", Value::Float(2.2));
        assert_eq!(plant.clone().get("press", "vibration"), Some(Value::Float(2.2)));
        assert!(!plant.freeze("press", "no-such-signal"));
    }

    #[test]
    fn quality_and_silence_are_told() {
        let plant = PlantState::default();
        plant.set("press", "running", Value::Bool(true));
        assert!(plant.set_quality("press", "running", Quality::Bad));
        assert_eq!(plant.view("press", "running").unwrap().quality, Quality::Bad);
        assert!(!plant.is_silent("press"));
        plant.silence("press", Duration::from_secs(60));
        assert!(plant.is_silent("press"));
    }
}
