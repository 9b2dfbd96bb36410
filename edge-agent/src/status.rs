//! How the agent is doing: counters, and the last word of every part. Written by the parts, read by [`crate::api`].

mod devices;

use crate::outbox::Outbox;
use crate::vault::{Kept, Retained, Vault};
use devices::Devices;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally_connector_api::{LinkState, LinkStatus};
use tally_journal::Storage;
use tally_model::DeviceId;
use tally_rules::{Watch, WatchState};
use tokio::sync::watch;

/// Points that are not good shown for each link; the count is of all.
const POINTS_MAX: usize = 50;

/// The ingest thread beats at least once a second; without a beat for this long it hangs.
const BEAT_MAX: Duration = Duration::from_secs(15);
/// Missing parts of a condition that are told.
const MISSING_MAX: usize = 4;

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $kind:literal,)*) => {
        /// Everything that is counted; the doc line is also the help text of `/metrics`.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl Counters {
            /// Name, kind and value of each.
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $kind, self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Readings numbered and chained.
    readings: "counter",
    /// Triggers sealed.
    triggers_sealed: "counter",
    /// Triggers not sealed because the outbox was full.
    triggers_without_room: "counter",
    /// Triggers not sealed because a point of their rule was never read.
    triggers_unprovable: "counter",
    /// Triggers with a receipt.
    triggers_receipted: "counter",
    /// Triggers that a contract refused (they are entries all the same).
    triggers_refused: "counter",
    /// Triggers the node will never take; they lie with the dead letters.
    triggers_dead: "counter",
    /// Attempts to submit that were answered "not now" or not at all.
    submit_retries: "counter",
    /// Live values that SCADA missed while they were live.
    live_dropped: "counter",
    /// Readings that SCADA was told later, as history.
    history_published: "counter",
    /// Readings that SCADA was not told later either: it was away for too long.
    history_lost: "counter",
    /// Bytes of the vault that SCADA missed and is still to be told.
    spool_bytes: "gauge",
    /// Triggers that SCADA was told of.
    triggers_published: "counter",
    /// Triggers that SCADA was never told of, because its broker was away for too long.
    triggers_unpublished: "counter",
    /// Ledger events that SCADA was told of.
    events_published: "counter",
    /// Triggers waiting for their receipt.
    outbox_triggers: "gauge",
    /// Bytes of triggers waiting for their receipt.
    outbox_bytes: "gauge",
    /// Bytes above which no trigger is sealed.
    outbox_bytes_max: "gauge",
    /// Bytes of the vault.
    vault_bytes: "gauge",
    /// Dead letters on disk.
    dead_letters: "gauge",
}

/// What is wrong, in words an operator can act on; each kind at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The outbox is more than half full.
    OutboxHalfFull,
    /// The outbox is full.
    OutboxFull,
    /// Something lies with the dead letters.
    DeadLetters,
    /// The ledger signs with another key than it used to.
    LedgerKey,
    /// The vault is above its limits, because something is still needed.
    VaultHeldBack,
    /// A connector ended, which none ever should.
    ConnectorEnded,
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
    beat: Mutex<Instant>,
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
            beat: Mutex::new(now),
            devices: Mutex::default(),
            state: Mutex::default(),
        }
    }
}

impl Status {
    /// The ingest thread is alive.
    pub fn beat(&self) {
        *lock(&self.beat) = Instant::now();
    }

    /// A batch was taken in.
    pub fn took(&self, kept: &Kept) {
        lock(&self.devices).took(kept);
    }

    /// What is measured of each link and device, in Prometheus' text format 0.0.4.
    pub fn write_metrics(&self, text: &mut String) {
        use std::fmt::Write;
        let state = lock(&self.state);
        let mut samples = [
            ("link_up", "gauge", String::new()),
            ("link_faults_total", "counter", String::new()),
            ("link_connects_total", "counter", String::new()),
            ("link_overruns_total", "counter", String::new()),
        ];
        for link in &state.links {
            let status = link.status.borrow();
            // Two logins at one endpoint have the same name; a device has one link.
            let device = link.devices.first().map_or("", |device| device.as_str());
            let name = link.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let is_up = u64::from(matches!(status.state, LinkState::Up { .. }));
            for ((name_of, _, lines), value) in
                samples.iter_mut().zip([is_up, status.faults, status.connects, status.overruns])
            {
                // Writing into a String cannot fail.
                let _ = writeln!(lines, "tally_agent_{name_of}{{link=\"{name}\",first_device=\"{device}\"}} {value}");
            }
        }
        if let Some(broker) = &state.broker {
            let up = u64::from(matches!(broker.borrow().state, LinkState::Up { .. }));
            let _ = writeln!(text, "# TYPE tally_agent_broker_up gauge\ntally_agent_broker_up {up}");
        }
        for (name, kind, lines) in samples {
            let _ = write!(text, "# TYPE tally_agent_{name} {kind}\n{lines}");
        }
        drop(state);
        lock(&self.devices).write(text);
    }

    /// Forgets what was counted of a device that is not read any more.
    pub fn forget(&self, device: &DeviceId) {
        lock(&self.devices).0.remove(device);
    }

    /// Whether the ingest thread beat lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        lock(&self.beat).elapsed() < BEAT_MAX
    }

    /// Why the agent is not ready; empty when it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons: Vec<_> = lock(&self.state)
            .alarms
            .iter()
            .filter(|(alarm, _)| matches!(alarm, Alarm::Failed | Alarm::OutboxFull | Alarm::LedgerKey))
            .map(|(_, text)| text.clone())
            .collect();
        if !self.is_alive() {
            reasons.push(format!("nothing was taken in for {BEAT_MAX:?}: the disk hangs, or the program does"));
        }
        reasons
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

    /// How the vault stands.
    pub fn vault<S: Storage>(&self, vault: &Vault<S>, unprovable: u64) {
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
        let mut lines: Vec<_> = watches.map(watch_line).collect();
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

    /// The links that are down or still connecting.
    #[must_use]
    pub fn links_down(&self) -> usize {
        let state = lock(&self.state);
        state.links.iter().filter(|link| !matches!(link.status.borrow().state, LinkState::Up { .. })).count()
    }

    /// Everything, in plain words.
    #[must_use]
    pub fn as_json(&self, name: &str, plant: &str, ledger: &str) -> Value {
        let reasons = self.not_ready();
        let state = lock(&self.state);
        let links = state.links.iter().map(|link| link_line(&link.name, &link.devices, &link.status.borrow()));
        let counters = self.count.all().into_iter().map(|(name, _, value)| (name.to_owned(), json!(value)));
        let node = state.node.as_ref().map_or_else(
            || json!({"state": "nothing submitted yet"}),
            |word| json!({"state": word.text, "for_seconds": word.since.elapsed().as_secs()}),
        );
        json!({
            "agent": name, "plant": plant, "ledger": ledger,
            "up_for_seconds": self.started.elapsed().as_secs(),
            "ready": reasons.is_empty(), "not_ready_because": reasons,
            "alarms": state.alarms.values().collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
            "devices": lock(&self.devices).0.iter().map(device_line).collect::<Vec<_>>(),
            "broker": state.broker.as_ref().map(|broker| broker.borrow().state.to_string()),
            "node": node,
            "triggers": state.watches,
            "vault": state.vault,
            "counters": counters.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn link_line(name: &str, devices: &[DeviceId], status: &LinkStatus) -> Value {
    let LinkStatus { state, faults, connects, overruns, words } = status;
    let first = words.iter().take(POINTS_MAX);
    let points: serde_json::Map<_, _> =
        first.map(|((device, point), word)| (format!("{device}/{point}"), json!(word))).collect();
    json!({
        "link": name, "devices": devices, "state": state.to_string(), "faults": faults, "connects": connects,
        "overruns": overruns, "points": points, "points_not_good": words.len(),
    })
}

fn device_line((device, count): (&DeviceId, &devices::DeviceCount)) -> Value {
    let without = devices::REASONS.iter().zip(count.without).filter(|(_, count)| *count > 0);
    let without: serde_json::Map<_, _> =
        without.map(|((_, reason), count)| ((*reason).to_owned(), json!(count))).collect();
    let last = count
        .last_value
        .map_or_else(|| "no value yet".to_owned(), |at| format!("last value {:.1} s ago", at.elapsed().as_secs_f64()));
    json!({"device": device, "state": last, "values": count.values, "without": without})
}

fn watch_line(watch: &Watch) -> Value {
    let source = watch.rule().source();
    let state = match watch.state() {
        WatchState::Normal => "normal".to_owned(),
        WatchState::Pending { since } => format!("true since {since}, waiting for its on-delay"),
        WatchState::Raised { since } => format!("raised since {since}"),
        WatchState::TooThin { missing } => {
            let parts: Vec<_> = missing.iter().take(MISSING_MAX).map(ToString::to_string).collect();
            format!("cannot be judged: {}", parts.join("; "))
        }
    };
    json!({"device": source.device, "trigger": source.id, "raised": watch.is_raised(), "state": state})
}

/// A panic between two assignments leaves values that are still usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
