//! How the agent is doing: counters, and the last word of every part. Written by the parts, read by [`crate::api`]: whether
//! it is alive and ready ([`health`]), numbers for Prometheus ([`metrics`]), everything in words ([`words`]).

mod certificates;
mod clock;
mod count;
mod devices;
mod health;
mod metrics;
mod words;

pub use certificates::Ending;
pub use count::{Counted, Counter, Counters, Kind};

use crate::outbox::Outbox;
use crate::vault::{Kept, Retained, Vault};
use devices::Devices;
use health::Beat;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tally_connector_api::{LinkState, LinkStatus};
use tally_evidence::SealFault;
use tally_journal::Storage;
use tally_model::{ClockState, DeviceId, DeviceSpec};
use tally_rules::Watch;
use tokio::sync::watch;

/// What is wrong, in words an operator can act on; each kind at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The outbox is more than half full.
    OutboxHalfFull,
    /// The outbox is full.
    OutboxFull,
    /// The key cannot be used: nothing is sealed.
    KeyAway,
    /// Something lies with the dead letters.
    DeadLetters,
    /// The ledger signs with another key than it used to.
    LedgerKey,
    /// The vault is above its limits, because something is still needed.
    VaultHeldBack,
    /// A connector ended, which none ever should.
    ConnectorEnded,
    /// The computer's clock is behind the readings on disk.
    ClockBehind,
    /// The computer's clock leapt forward.
    ClockLeapt,
    /// A certificate of ours, or one that we trust, ends soon or has ended.
    Certificate,
    /// A store failed: the agent stops.
    Failed,
}

/// What a part says of itself.
#[derive(Debug, Clone)]
struct Word {
    well: bool,
    text: String,
    since: Instant,
}

/// Shared by all parts.
pub struct Status {
    /// Counters and gauges.
    pub count: Counters,
    started: Instant,
    beat: Mutex<Beat>,
    devices: Mutex<Devices>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: Vec<LinkLine>,
    watches: Vec<Value>,
    vault: Vec<Value>,
    alarms: std::collections::BTreeMap<Alarm, String>,
    node: Option<Word>,
    broker: Option<watch::Receiver<LinkStatus>>,
    /// `None` before the first look.
    clock: Option<ClockState>,
    /// Certificates that end soon; `None` before the first look.
    ending: Option<Vec<Ending>>,
}

struct LinkLine {
    name: String,
    devices: Vec<DeviceId>,
    status: watch::Receiver<LinkStatus>,
}

impl Default for Status {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            count: Counters::default(),
            started: now,
            beat: Mutex::new(Beat { at: now, synced: now }),
            devices: Mutex::default(),
            state: Mutex::default(),
        }
    }
}

impl Status {
    /// A batch was taken in.
    pub fn took(&self, kept: &Kept) {
        lock(&self.devices).took(kept);
    }

    /// These devices are read from now on; what is counted of their points is counted by rate.
    pub fn expect(&self, devices: &[DeviceSpec]) {
        lock(&self.devices).expect(devices);
    }

    /// Forgets what was counted of a device that is not read any more.
    pub fn forget(&self, device: &DeviceId) {
        lock(&self.devices).forget(device);
    }

    /// Sets an alarm; logs it when it is new.
    pub fn raise(&self, alarm: Alarm, text: impl Into<String>) {
        let text = text.into();
        let mut state = lock(&self.state);
        if !state.alarms.contains_key(&alarm) {
            tracing::error!(alarm = ?alarm, "{text}");
        }
        state.alarms.insert(alarm, text);
    }

    /// Ends an alarm; logs that it is over.
    pub fn clear(&self, alarm: Alarm) {
        if lock(&self.state).alarms.remove(&alarm).is_some() {
            tracing::info!(alarm = ?alarm, "the alarm is over");
        }
    }

    /// A link to listen to.
    pub fn add_link(&self, name: String, devices: Vec<DeviceId>, status: watch::Receiver<LinkStatus>) {
        lock(&self.state).links.push(LinkLine { name, devices, status });
    }

    /// Forgets the links of devices that are `gone`.
    pub fn remove_links(&self, gone: impl Fn(&DeviceId) -> bool) {
        lock(&self.state).links.retain(|link| !link.devices.iter().all(&gone));
    }

    /// The broker's link.
    pub fn set_broker(&self, status: watch::Receiver<LinkStatus>) {
        lock(&self.state).broker = Some(status);
    }

    /// What the node says; the first failure and the recovery are logged.
    pub fn node(&self, well: bool, text: String) {
        let mut state = lock(&self.state);
        let before = state.node.as_ref().map(|word| word.well);
        match (before, well) {
            (Some(true) | None, false) => {
                tracing::warn!("the node does not take triggers, they wait in the outbox: {text}");
            }
            (Some(false) | None, true) => tracing::info!("the node takes triggers"),
            _ => {}
        }
        let since = state.node.take().filter(|word| word.well == well).map_or_else(Instant::now, |word| word.since);
        state.node = Some(Word { well, text, since });
    }

    /// How full the outbox is.
    pub fn outbox<S: Storage>(&self, outbox: &Outbox<S>) {
        let (bytes, bytes_max) = (outbox.pending_bytes(), outbox.bytes_max());
        self.count.outbox_triggers.set(outbox.pending());
        self.count.outbox_bytes.set(bytes);
        self.count.outbox_bytes_max.set(bytes_max);
        let waiting = outbox.pending();
        if bytes > bytes_max / 2 {
            let text = format!(
                "{waiting} triggers wait for the node, {bytes} of {bytes_max} bytes are used: see why it does not take them"
            );
            self.raise(Alarm::OutboxHalfFull, text);
        } else {
            self.clear(Alarm::OutboxHalfFull);
        }
        if outbox.has_room(tally_model::Priority::High, 2_048, 0) {
            self.clear(Alarm::OutboxFull);
        } else {
            self.raise(Alarm::OutboxFull, "the outbox is full: triggers are not sealed until the node takes some");
        }
    }

    /// How the key is: why it cannot be used, when it cannot, and how many triggers wait for it.
    pub fn key(&self, waiting: u64, away: Option<&SealFault>) {
        self.count.triggers_unsealed.set(waiting);
        if let Some(fault) = away {
            let text = format!(
                "nothing is sealed, because the key cannot be used: {fault}; readings are kept, {waiting} triggers wait on disk and are \
                 sealed when it is back"
            );
            self.count.key_away.set(1);
            self.raise(Alarm::KeyAway, text);
        } else if waiting == 0 {
            self.count.key_away.set(0);
            self.clear(Alarm::KeyAway);
        }
    }

    /// Why the key cannot be used, in words; `None` when it can.
    #[must_use]
    pub fn key_away(&self) -> Option<String> {
        lock(&self.state).alarms.get(&Alarm::KeyAway).cloned()
    }

    /// What SCADA is still to be told.
    pub fn spool_bytes(&self, bytes: u64) {
        self.count.spool_bytes.set(bytes);
    }

    /// What lies with the dead letters.
    pub fn dead_letters(&self, count: u64) {
        self.count.dead_letters.set(count);
        if count > 0 {
            let text = format!("{count} triggers were refused by the node for good: see /dead-letters");
            self.raise(Alarm::DeadLetters, text);
        }
    }

    /// How the vault stands, right after it was synced.
    pub fn vault<S: Storage>(&self, vault: &Vault<S>, unprovable: u64) {
        self.synced();
        self.count.vault_bytes.set(vault.bytes_on_disk());
        self.count.triggers_unprovable.set(unprovable);
        let mut chains: Vec<_> = vault.heads().collect();
        chains.sort_by_key(|(device, ..)| *device);
        let hex = |hash: [u8; 32]| tally_evidence::StatementId(hash).to_string();
        let lines = chains
            .into_iter()
            .map(|(device, next, head)| json!({"device": device, "readings": next, "head": hex(head)}));
        lock(&self.state).vault = lines.collect();
    }

    /// Whether the vault could be kept within its limits.
    pub fn held_back(&self, retained: &Retained) {
        match retained {
            Retained::WithinLimits => self.clear(Alarm::VaultHeldBack),
            Retained::HeldBack(Some(device)) => {
                let text = format!(
                    "the vault is above its limits, because a rule of `{device}` still looks at old readings: a point it reads has not changed for long"
                );
                self.raise(Alarm::VaultHeldBack, text);
            }
            Retained::HeldBack(None) => {
                let text =
                    "the vault is above its limits, because triggers that the node does not take stand on old readings";
                self.raise(Alarm::VaultHeldBack, text);
            }
        }
    }

    /// How every rule stands.
    pub fn watches<'a>(&self, watches: impl Iterator<Item = &'a Watch>) {
        let mut lines: Vec<_> = watches.map(words::watch_line).collect();
        lines.sort_by_key(|line| (line["device"].to_string(), line["trigger"].to_string()));
        lock(&self.state).watches = lines;
    }

    /// The state of the link that reads `device`.
    #[must_use]
    pub fn link_state(&self, device: &DeviceId) -> Option<LinkState> {
        let state = lock(&self.state);
        let link = state.links.iter().find(|link| link.devices.contains(device))?;
        let found = link.status.borrow().state.clone();
        Some(found)
    }
}

/// A panic between two assignments leaves values that are still usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
