//! Wires the agent and runs it: this file reads like a table of contents.

mod change;
mod parts;
mod stop;

use crate::anchor::SubmitAnchors;
use crate::api::{self, ListenError};
use crate::certificates;
use crate::config::AgentConfig;
use crate::error::StoreError;
use crate::gate::{Gate, Hands};
use crate::ingest::{LATE_BATCHES_MAX, NewRules};
use crate::links::{self, Identity, LinkError, Running, Surroundings, Taken};
use crate::publish::Publishing;
use crate::reload::{self, Load, Loaded};
use crate::seal::Sealer;
use crate::status::Status;
use crate::store::{Journals, Sizes, Stores, open_anchors};
use crate::submit::{KeyError, LedgerKey};
use crate::systemd;
use crate::watch::{Watches, fingerprints};
use std::sync::Arc;
use stop::{ingest_ended, submit_ended};
use tally_connector_api::{Clock, ReadClockState, SINK_BATCHES_MAX, SystemClock};
use tally_door::Bound;
use tally_journal::DirStorage;
use tally_mappings::{reserved_device, reserved_point};
use tally_model::{ClockState, DeviceSpec, Timestamp};
use tally_rules::Rule;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Why the agent does not run, or stopped by itself. It is then started again by whoever watches it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The mapping has faults; all of them.
    #[error("{0}")]
    Mapping(String),
    /// A device cannot be read as described.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A store does not open, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger's key.
    #[error(transparent)]
    LedgerKey(#[from] KeyError),
    /// The agent's own interface.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A part of the agent died.
    #[error("{0} died; restart the agent and report this")]
    Died(&'static str),
}

/// What the agent reads and watches: a checked mapping.
#[derive(Debug, Clone)]
pub struct AgentPlant {
    /// Its name.
    pub name: String,
    /// Its devices.
    pub devices: Vec<DeviceSpec>,
    /// Its rules.
    pub rules: Vec<Arc<Rule>>,
}

/// Loads the mapping and runs until `stop` is cancelled. `clock_state` says how good the computer's clock is; triggers repeat it.
///
/// # Errors
/// [`AgentError`].
pub async fn run(config: AgentConfig, clock_state: ReadClockState, stop: CancellationToken) -> Result<(), AgentError> {
    let load = reload::load_from(config.mapping.clone());
    let Loaded { plant, warnings } = load().map_err(|refused| AgentError::Mapping(refused.text))?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let (requests, reloads) = mpsc::channel(1);
    let hangups = tokio::spawn(reload_on_hangup(requests.clone()));
    let reloading = Reloading { load: Some(load), requests, reloads };
    let ended = start(config, plant, reloading, system_clock(clock_state), stop).await;
    hangups.abort();
    ended
}

/// SIGHUP, as by `systemctl reload`: what came of it is in the log. It ends nothing as soon as this was called.
fn reload_on_hangup(requests: mpsc::Sender<reload::Request>) -> impl Future<Output = ()> {
    let hangups = signal(SignalKind::hangup());
    async move {
        let mut hangups = match hangups {
            Ok(hangups) => hangups,
            Err(fault) => {
                return tracing::warn!(%fault, "SIGHUP cannot be listened to; `tally reload` works all the same");
            }
        };
        while hangups.recv().await.is_some() {
            // Applying it says what changed, or why nothing did.
            let _ = reload::ask(&requests).await;
        }
    }
}

/// Runs over a plant that is checked already.
///
/// # Errors
/// [`AgentError`].
pub async fn run_plant(config: AgentConfig, plant: AgentPlant, stop: CancellationToken) -> Result<(), AgentError> {
    run_plant_with(config, plant, None, stop).await
}

/// The same, with a place where a changed plant is loaded from when somebody asks for it.
///
/// # Errors
/// [`AgentError`].
pub async fn run_plant_with(
    config: AgentConfig,
    plant: AgentPlant,
    load: Option<Load>,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let (requests, reloads) = mpsc::channel(1);
    start(config, plant, Reloading { load, requests, reloads }, system_clock(Box::new(ClockState::default)), stop).await
}

/// [`run_plant`] by another clock: `clock` is given the latest receive time on disk, and must not begin before it.
///
/// # Errors
/// [`AgentError`].
pub async fn run_plant_by(
    config: AgentConfig,
    plant: AgentPlant,
    clock: MakeClock,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let (requests, reloads) = mpsc::channel(1);
    start(config, plant, Reloading { load: None, requests, reloads }, clock, stop).await
}

/// Makes the clock that receive times come from, which must not begin before the latest one on disk.
pub type MakeClock = Box<dyn FnOnce(Timestamp) -> Arc<dyn Clock> + Send>;

fn system_clock(state: ReadClockState) -> MakeClock {
    Box::new(|latest| Arc::new(SystemClock::starting_at(latest).with_state(state)))
}

/// How a changed mapping comes in.
struct Reloading {
    load: Option<Load>,
    requests: mpsc::Sender<reload::Request>,
    reloads: mpsc::Receiver<reload::Request>,
}

async fn start(
    config: AgentConfig,
    plant: AgentPlant,
    reloading: Reloading,
    clock: MakeClock,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    check_names(&config, &plant)?;
    let status = Arc::new(Status::default());
    let links = links::make(&plant.devices, &identity(&config), |_| false)?;
    let listener = api::open(&config).await?;
    tracing::info!(address = ?listener, "the agent's interface listens");
    let (stores, watches) = open_stores(&config, &plant, &status).await?;
    let key = LedgerKey::new(config.ledger_key.clone(), config.data.join("ledger.pem"))?;
    let clock = clock(stores.vault().latest());
    let agent = Agent { config, plant, status, stores, clock };
    agent.run(links, listener, watches, key, reloading, stop).await
}

fn identity(config: &AgentConfig) -> Identity {
    Identity { agent: config.name.clone(), pki: config.pki.clone() }
}

/// Names that would mix with the agent's own topics (`docs/formats/topics.md`). A mapping file with one is not even loaded.
fn check_names(config: &AgentConfig, plant: &AgentPlant) -> Result<(), AgentError> {
    if config.broker.is_none() {
        return Ok(());
    }
    for device in &plant.devices {
        let point = || device.points.iter().find_map(|point| reserved_point(point.id.as_str()));
        if let Some(reserved) = reserved_device(device.id.as_str()).or_else(point) {
            let text = format!("device `{}`: {reserved}; {}", device.id, reserved.hint);
            return Err(AgentError::Mapping(text));
        }
    }
    Ok(())
}

type Disk = DirStorage;

struct Agent {
    config: AgentConfig,
    /// Without its devices once it runs: those are where a changed mapping is told of.
    plant: AgentPlant,
    status: Arc<Status>,
    stores: Arc<Stores<Disk>>,
    clock: Arc<dyn Clock>,
}

/// What runs, and the strings by which it is led.
struct Rooms {
    running: Running,
    /// The thread that keeps readings; gives how it ended.
    ingest: oneshot::Receiver<Result<(), StoreError>>,
    /// Triggers, anchors, the gate's reports.
    submit: [JoinHandle<Result<(), StoreError>>; 3],
    rules: mpsc::Sender<NewRules>,
    devices: watch::Sender<Arc<Vec<DeviceSpec>>>,
    api: JoinHandle<()>,
    publishing: Publishing,
    following: JoinHandle<()>,
    watchdog: JoinHandle<()>,
    /// Ends everything else once what is submitted has had its last chance.
    quit: CancellationToken,
    /// Ends what is submitted.
    drain: CancellationToken,
    /// Whoever drops the agent's future stops the agent: hard, but whole.
    _guards: [DropGuard; 2],
}

/// Opening reads everything kept (about a second a gigabyte), so it is done where waiting is allowed.
async fn open_stores(
    config: &AgentConfig,
    plant: &AgentPlant,
    status: &Arc<Status>,
) -> Result<(Arc<Stores<Disk>>, Watches), AgentError> {
    let (data, sealer, mut watches) = (config.data.clone(), sealer(config), Watches::new(&plant.rules));
    watches.read_by(fingerprints(&plant.devices));
    let anchors_every = config.anchors;
    let (vault_bytes_max, outbox_bytes_max) = (config.limits.vault_bytes_max, config.limits.outbox_bytes_max);
    let sizes = Sizes { vault_bytes_max, outbox_bytes_max };
    let opened = tokio::task::spawn_blocking(move || -> Result<_, StoreError> {
        let (stores, missed) = Stores::recover(Journals::open(&data, sizes)?, sizes, &mut watches, &sealer)?;
        if missed > 0 {
            tracing::info!(triggers = missed, "sealed what was decided but not sealed when the agent stopped");
        }
        if let Some(every) = anchors_every {
            stores.anchor(open_anchors(&data)?, &sealer, every)?;
        }
        Ok((Arc::new(stores), watches))
    });
    let (stores, watches) = opened.await.map_err(|_| AgentError::Died("opening the stores"))??;
    status.outbox(&stores.outbox());
    status.dead_letters(stores.receipts().dead_letter_count());
    status.vault(&stores.vault(), 0);
    status.watches(watches.iter());
    Ok((stores, watches))
}

fn sealer(config: &AgentConfig) -> Sealer {
    Sealer { agent: config.name.clone(), ledger: config.ledger.clone(), key: config.key.clone() }
}

impl Agent {
    async fn run(
        mut self,
        links: Vec<links::Made>,
        listener: Bound,
        watches: Watches,
        key: LedgerKey,
        mut reloading: Reloading,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let mut rooms = self.open_rooms(links, listener, watches, key, &reloading.requests).await?;
        let devices = rooms.devices.borrow().len();
        tracing::info!(agent = %self.config.name, plant = %self.plant.name, devices, triggers = self.plant.rules.len(), "the agent runs");
        let failed = self.look_after(&mut rooms, &mut reloading, &stop).await;
        self.close_rooms(rooms, failed).await
    }

    /// Starts everything, links last: whoever takes in what they say is there by then.
    async fn open_rooms(
        &mut self,
        links: Vec<links::Made>,
        listener: Bound,
        watches: Watches,
        key: LedgerKey,
        reloads: &mpsc::Sender<reload::Request>,
    ) -> Result<Rooms, AgentError> {
        let clock = self.clock.clone();
        let (sink, source) = mpsc::channel(SINK_BATCHES_MAX);
        let (history, late) = mpsc::channel(LATE_BATCHES_MAX);
        let (sealed, sealed_seen) = watch::channel(self.stores.outbox().next_number());
        let (quit, drain) = (CancellationToken::new(), CancellationToken::new());
        let guards = [quit.clone().drop_guard(), drain.clone().drop_guard()];
        let (rules, changes) = mpsc::channel(1);
        // From here on the devices stand there alone: 20,000 points are some megabytes.
        let (devices, devices_seen) = watch::channel(Arc::new(std::mem::take(&mut self.plant.devices)));

        let hands = Arc::new(Hands::new(identity(&self.config)));
        let gate = Arc::new(self.gate(&key, &hands, devices_seen.clone()).await?);
        let api = api::routes(Arc::new(self.api(reloads.clone(), &gate, &listener)));
        let api = tokio::spawn(listener.serve(api, quit.clone()));
        let publishing = self.publish(&gate, sealed_seen.clone(), devices_seen, &clock, &quit)?;
        let ingest = self.ingest(watches, (source, late), changes, sealed, publishing.live.clone(), clock.clone());
        let submit = self.submit_all(key, (sealed_seen, publishing.published.clone()), &gate, &drain);
        let taken = Arc::new(Taken::default());
        taken.recall(&self.stores.vault(), &links, clock.now())?;
        let status = self.status.clone();
        let mut running = Running::new(Surroundings { sink, history, clock, status, hands, taken });
        self.status.expect(&devices.borrow());
        running.start(links);
        let following = tokio::spawn(gate.follow(quit.clone()));
        let expiring = certificates::watch(self.certificates(), self.status.clone(), self.clock.clone(), quit.clone());
        tokio::spawn(expiring);
        let watchdog = systemd::started(self.status.clone(), quit.clone());
        Ok(Rooms {
            running,
            ingest,
            submit,
            rules,
            devices,
            api,
            publishing,
            following,
            watchdog,
            quit,
            drain,
            _guards: guards,
        })
    }

    /// Triggers, anchors, the gate's reports: what the ledger is told.
    fn submit_all(
        &self,
        key: LedgerKey,
        (sealed, published): (watch::Receiver<u64>, watch::Receiver<u64>),
        gate: &Arc<Gate<Disk>>,
        drain: &CancellationToken,
    ) -> [JoinHandle<Result<(), StoreError>>; 3] {
        let anchors = run_anchors(self.submit_anchors(&key), drain.clone());
        let triggers = self.submit(key, sealed, published).run(drain.clone());
        let reports = run_reports(gate.clone(), drain.clone());
        [tokio::spawn(triggers), tokio::spawn(anchors), tokio::spawn(reports)]
    }

    /// Loads changed mappings until it is told to stop, or until a part ends by itself, which gives why.
    async fn look_after(
        &mut self,
        rooms: &mut Rooms,
        reloading: &mut Reloading,
        stop: &CancellationToken,
    ) -> Option<AgentError> {
        let Rooms { running, ingest, submit: [submit, submit_anchors, submit_reports], rules, devices, .. } = rooms;
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                ended = &mut *ingest => return Some(ingest_ended(ended)),
                ended = &mut *submit => return Some(submit_ended(ended)),
                ended = &mut *submit_anchors => return Some(submit_ended(ended)),
                ended = &mut *submit_reports => return Some(submit_ended(ended)),
                Some(request) = reloading.reloads.recv() => {
                    let answer = self.reload(reloading.load.as_ref(), running, rules, devices).await;
                    // Who asked may have gone; the log has it too.
                    let _ = request.send(answer);
                }
            }
        }
    }
}

/// Without anchors there is nothing to do until the end.
async fn run_anchors(submit: Option<SubmitAnchors<Disk>>, stop: CancellationToken) -> Result<(), StoreError> {
    match submit {
        Some(submit) => submit.run(stop).await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    }
}

async fn run_reports(gate: Arc<Gate<Disk>>, stop: CancellationToken) -> Result<(), StoreError> {
    gate.submit(&stop).await
}
