//! What every signal of the simulated plant says at this moment.
//!
//! Written by the stepper (every 50 ms) and by commands; read by the servers. Cheap to clone: all clones see one state.

use crate::fault::{Defect, Flaw, Trouble, WireFault};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
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
    /// Wrong by command, until when; for ever without. The newest last.
    commanded: Vec<(Flaw, Option<Instant>)>,
    /// Wrong by the file, at this moment.
    scheduled: Vec<Flaw>,
}

impl Device {
    /// Everything that is wrong now, the file's faults first: what somebody commands counts more.
    fn flaws(&self) -> impl Iterator<Item = &Flaw> {
        let is_on = |until: &Option<Instant>| until.is_none_or(|until| Instant::now() < until);
        let commanded = self.commanded.iter().filter(move |(_, until)| is_on(until));
        self.scheduled.iter().chain(commanded.map(|(flaw, _)| flaw))
    }

    fn is_frozen(&self, signal: &str) -> bool {
        self.flaws().any(|flaw| flaw.defect == Defect::Frozen && flaw.is_of(signal))
    }

    /// What the signal says, with the quality that its faults leave it.
    fn view(&self, name: &str) -> Option<SignalView> {
        let signal = self.signals.get(name)?;
        let mut view = signal.view.clone();
        for flaw in self.flaws().filter(|flaw| flaw.is_of(name)) {
            if let Defect::Quality(quality) = flaw.defect {
                view.quality = worse(view.quality, quality);
            }
        }
        Some(view)
    }
}

fn worse(one: Quality, other: Quality) -> Quality {
    match (one, other) {
        (Quality::Bad, _) | (_, Quality::Bad) => Quality::Bad,
        (Quality::Uncertain, _) | (_, Quality::Uncertain) => Quality::Uncertain,
        _ => Quality::Good,
    }
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
        self.lock().get(device)?.view(signal)
    }

    /// Views of several signals of a device at one moment, in the order of `names`.
    pub(crate) fn views<'n>(&self, device: &str, names: impl Iterator<Item = &'n str>) -> Vec<Option<SignalView>> {
        let devices = self.lock();
        let device = devices.get(device);
        names.map(|name| device?.view(name)).collect()
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
        self.afflict(device, Flaw { defect: Defect::Drop, signals: Vec::new() }, Some(time));
    }

    /// Whether a device answers nothing at the moment.
    #[must_use]
    pub fn is_silent(&self, device: &str) -> bool {
        self.trouble(device).is_silent
    }

    /// Makes something wrong with a device, for a time or until [`PlantState::heal`]. The same defect of the same signals is
    /// replaced.
    pub fn afflict(&self, device: &str, flaw: Flaw, lasts: Option<Duration>) {
        let until = lasts.map(|lasts| Instant::now().checked_add(lasts).unwrap_or_else(far_away));
        let mut devices = self.lock();
        let commanded = &mut devices.entry(device.to_owned()).or_default().commanded;
        let now = Instant::now();
        commanded.retain(|(old, until)| {
            let is_same = std::mem::discriminant(&old.defect) == std::mem::discriminant(&flaw.defect);
            !(is_same && old.signals == flaw.signals) && until.is_none_or(|until| now < until)
        });
        commanded.push((flaw, until));
        drop(devices);
        self.announce();
    }

    /// Ends what was made wrong by [`PlantState::afflict`], and nothing else. Gives how many faults that were.
    pub fn heal(&self, device: &str) -> usize {
        self.heal_where(device, |_| true)
    }

    /// Ends those of the commanded faults that `which` chooses.
    pub(crate) fn heal_where(&self, device: &str, which: impl Fn(&Defect) -> bool) -> usize {
        let mut devices = self.lock();
        let healed = match devices.get_mut(device) {
            Some(device) => {
                let before = device.flaws().count();
                device.commanded.retain(|(flaw, _)| !which(&flaw.defect));
                before - device.flaws().count()
            }
            None => 0,
        };
        drop(devices);
        self.announce();
        healed
    }

    /// What the file says is wrong now.
    pub(crate) fn schedule(&self, device: &str, flaws: Vec<Flaw>) {
        self.lock().entry(device.to_owned()).or_default().scheduled = flaws;
    }

    /// What is wrong with a device at the moment, for people.
    #[must_use]
    pub fn flaws(&self, device: &str) -> Vec<Flaw> {
        self.lock().get(device).map(|device| device.flaws().cloned().collect()).unwrap_or_default()
    }

    /// What a device's server must know before it answers or publishes.
    #[must_use]
    pub fn trouble(&self, device: &str) -> Trouble {
        self.lock().get(device).map(|device| Trouble::of(device.flaws())).unwrap_or_default()
    }

    /// What a device's own clock shows.
    #[must_use]
    pub fn now(&self, device: &str) -> SystemTime {
        self.trouble(device).clock.shown(SystemTime::now())
    }

    /// Spoils a device's answers until told otherwise.
    pub fn set_wire_fault(&self, device: &str, fault: Option<WireFault>) {
        match fault {
            Some(fault) => self.afflict(device, Flaw { defect: Defect::Wire(fault), signals: Vec::new() }, None),
            None => drop(self.heal_where(device, |defect| matches!(defect, Defect::Wire(_) | Defect::Delay(_)))),
        }
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
        // Looked up before it is made: the stepper comes here for every signal, twenty times a second.
        if !devices.contains_key(device) {
            devices.insert(device.to_owned(), Device::default());
        }
        let Some(device) = devices.get_mut(device) else { return };
        let is_frozen = !by_command && device.is_frozen(signal);
        let signals = &mut device.signals;
        match signals.get_mut(signal) {
            Some(known) if (known.held || is_frozen) && !by_command => {}
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

/// Instead of an instant beyond the clock's end.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(what: &str, of: Option<&str>, signals: &[&str]) -> Flaw {
        let signals = signals.iter().map(|signal| (*signal).to_owned()).collect();
        Flaw { defect: Defect::parse(what, of).unwrap(), signals }
    }

    #[test]
    fn faults_add_up_and_are_healed() {
        let plant = PlantState::default();
        plant.drive("press", "a", Value::Integer(1));
        plant.drive("press", "b", Value::Integer(1));
        plant.afflict("press", flaw("frozen", None, &["a"]), None);
        plant.afflict("press", flaw("uncertain", None, &[]), None);
        plant.afflict("press", flaw("bad", None, &["b"]), None);
        plant.afflict("press", flaw("delay", Some("2s"), &[]), None);
        plant.afflict("press", flaw("exception", Some("6"), &[]), None);
        plant.afflict("press", flaw("clock", Some("-1h"), &[]), None);
        plant.schedule("press", vec![flaw("exception", Some("4"), &[]), flaw("delay", Some("1s"), &[])]);
        plant.drive("press", "a", Value::Integer(2));
        plant.drive("press", "b", Value::Integer(2));
        let view = |name| plant.view("press", name).map(|view| (view.value, view.quality)).unwrap();
        assert_eq!(view("a"), (Value::Integer(1), Quality::Uncertain));
        assert_eq!(view("b"), (Value::Integer(2), Quality::Bad));
        let trouble = plant.trouble("press");
        assert_eq!((trouble.delay, trouble.wire), (Duration::from_secs(2), Some(WireFault::Exception(6))));
        assert!(plant.now("press") < SystemTime::now() - Duration::from_secs(3_000));
        assert!(!trouble.is_silent && !trouble.hangs_up);
        plant.afflict("press", flaw("exception", Some("2"), &[]), Some(Duration::ZERO));
        assert_eq!(
            plant.trouble("press").wire,
            Some(WireFault::Exception(4)),
            "the file's, after the command's is over"
        );
        assert_eq!(plant.heal("press"), 5, "{:?}", plant.flaws("press"));
        assert_eq!(plant.flaws("press").len(), 2, "what the file says goes on");
        plant.drive("press", "a", Value::Integer(3));
        assert_eq!(view("a"), (Value::Integer(3), Quality::Good));
        assert_eq!(plant.trouble("nobody"), Trouble::default());
    }

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
