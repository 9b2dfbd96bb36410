//! Wires the agent and runs it: this file reads like a table of contents.

use crate::api::{self, Api, ListenError, Listener};
use crate::config::AgentConfig;
use crate::error::StoreError;
use crate::ingest::{Ingest, VaultLimits};
use crate::links::{self, Identity, LinkError};
use crate::publish;
use crate::seal::Sealer;
use crate::status::{Alarm, Status};
use crate::store::{Journals, Sizes, Stores};
use crate::submit::{KeyError, LedgerKey, Submit, on_disk};
use crate::systemd;
use crate::watch::Watches;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, Clock, SINK_BATCHES_MAX, SystemClock};
use tally_journal::DirStorage;
use tally_ledger_client::Client;
use tally_mappings::{reserved_device, reserved_point};
use tally_model::DeviceSpec;
use tally_rules::Rule;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// After the last reading is safe, what is in the outbox gets this long for its receipt.
const LAST_SUBMIT: Duration = Duration::from_secs(2);

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

/// Loads the mapping and runs until `stop` is cancelled.
///
/// # Errors
/// [`AgentError`].
pub async fn run(config: AgentConfig, stop: CancellationToken) -> Result<(), AgentError> {
    let environment = |name: &str| std::env::var(name).ok();
    let plant = tally_mappings::load(&config.mapping, &environment)
        .map_err(|faults| AgentError::Mapping(faults.render(false)))?;
    for warning in &plant.warnings {
        tracing::warn!("{warning}");
    }
    let plant = AgentPlant { name: plant.name, devices: plant.devices, rules: plant.rules };
    run_plant(config, plant, stop).await
}

/// Runs over a plant that is checked already.
///
/// # Errors
/// [`AgentError`].
pub async fn run_plant(config: AgentConfig, plant: AgentPlant, stop: CancellationToken) -> Result<(), AgentError> {
    check_names(&config, &plant)?;
    let status = Arc::new(Status::default());
    let links = links::make(&plant.devices, &Identity { agent: config.name.clone(), pki: config.pki.clone() })?;
    let listener = Listener::open(&config.listen).await?;
    tracing::info!(address = listener.address(), "the agent's interface listens");
    let (stores, watches) = open_stores(&config, &plant, &status).await?;
    let key = LedgerKey::new(config.ledger_key.clone(), config.data.join("ledger.pem"))?;
    let agent = Agent { config, plant, status, stores };
    agent.run(links, listener, watches, key, stop).await
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
    plant: AgentPlant,
    status: Arc<Status>,
    stores: Arc<Stores<Disk>>,
}

/// Opening reads everything kept (about a second a gigabyte), so it is done where waiting is allowed.
async fn open_stores(
    config: &AgentConfig,
    plant: &AgentPlant,
    status: &Arc<Status>,
) -> Result<(Arc<Stores<Disk>>, Watches), AgentError> {
    let (data, sealer, mut watches) = (config.data.clone(), sealer(config), Watches::new(&plant.rules));
    let (vault_bytes_max, outbox_bytes_max) = (config.limits.vault_bytes_max, config.limits.outbox_bytes_max);
    let sizes = Sizes { vault_bytes_max, outbox_bytes_max };
    let opened = tokio::task::spawn_blocking(move || -> Result<_, StoreError> {
        let (stores, missed) = Stores::recover(Journals::open(&data, sizes)?, sizes, &mut watches, &sealer)?;
        if missed > 0 {
            tracing::info!(triggers = missed, "sealed what was decided but not sealed when the agent stopped");
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
        self,
        links: Vec<Box<dyn tally_connector_api::Link>>,
        listener: Listener,
        watches: Watches,
        key: LedgerKey,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(self.stores.vault().latest()));
        let (sink, source) = mpsc::channel(SINK_BATCHES_MAX);
        let (sealed, sealed_seen) = watch::channel(self.stores.outbox().next_number());
        let (quit, drain) = (CancellationToken::new(), CancellationToken::new());
        // Whoever drops this future stops the agent: hard, but whole.
        let _guards = (quit.clone().drop_guard(), drain.clone().drop_guard());

        let api = tokio::spawn(api::serve(listener, api::routes(Arc::new(self.api())), quit.clone()));
        let publishing = self.publish(sealed_seen.clone(), &clock, &quit)?;
        let mut ingest = self.ingest(watches, source, sealed, publishing.live.clone(), clock.clone());
        let submit = self.submit(key, sealed_seen, publishing.published.clone());
        let mut submit = tokio::spawn(submit.run(drain.clone()));
        let running = links::start(links, &sink, &clock, &self.status);
        drop(sink);
        let watchdog = systemd::started(self.status.clone(), quit.clone());
        tracing::info!(agent = %self.config.name, plant = %self.plant.name, devices = self.plant.devices.len(), triggers = self.plant.rules.len(), "the agent runs");

        let failed = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut ingest => Some(ingest_ended(ended)),
            ended = &mut submit => Some(submit_ended(ended)),
        };
        let result = self.wind_down(failed, running, ingest, submit, drain).await;
        quit.cancel();
        publishing.stopped().await;
        let _ = tokio::time::timeout(Duration::from_secs(1), api).await;
        watchdog.abort();
        let waiting = self.stores.outbox().pending();
        tracing::info!(waiting, "the agent stopped; what waits in the outbox is submitted at the next start");
        result
    }

    /// Sources first; then everything they said is kept and sealed; then it gets a last chance to be submitted.
    async fn wind_down(
        &self,
        failed: Option<AgentError>,
        running: links::Running,
        ingest: oneshot::Receiver<Result<(), StoreError>>,
        mut submit: JoinHandle<Result<(), StoreError>>,
        drain: CancellationToken,
    ) -> Result<(), AgentError> {
        systemd::stopping();
        if let Some(fault) = failed {
            self.status.raise(Alarm::Failed, format!("failed: {fault}"));
            running.stop().await;
            submit.abort();
            return Err(fault);
        }
        running.stop().await;
        match ingest.await {
            Ok(Ok(())) => {}
            ended => return Err(ingest_ended(ended)),
        }
        drain.cancel();
        let last = self.last_submit(&mut submit).await;
        submit.abort();
        last
    }

    async fn last_submit(&self, submit: &mut JoinHandle<Result<(), StoreError>>) -> Result<(), AgentError> {
        if let Ok(ended) = tokio::time::timeout(LAST_SUBMIT, submit).await {
            ended.map_err(|_| AgentError::Died("submitting"))??;
        }
        Ok(on_disk(&self.stores, |stores| stores.receipts().sync()).await?)
    }

    fn api(&self) -> Api<Disk> {
        Api {
            stores: self.stores.clone(),
            status: self.status.clone(),
            agent: self.config.name.to_string(),
            plant: self.plant.name.clone(),
            ledger: self.config.ledger.clone(),
            disclosures: Semaphore::new(1),
        }
    }

    /// The thread that waits for the disk; its end comes through the channel.
    fn ingest(
        &self,
        watches: Watches,
        source: mpsc::Receiver<Batch>,
        sealed: watch::Sender<u64>,
        live: Option<mpsc::Sender<Arc<crate::vault::Kept>>>,
        clock: Arc<dyn Clock>,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let limits = VaultLimits { days: self.config.limits.vault_days, bytes_max: self.config.limits.vault_bytes_max };
        let (stores, status) = (self.stores.clone(), self.status.clone());
        let ingest = Ingest { stores, watches, sealer: sealer(&self.config), status, sealed, live, clock, limits };
        let (ended, end) = oneshot::channel();
        let runtime = Handle::current();
        let name = std::thread::Builder::new().name("ingest".to_owned());
        // Without the thread the channel is dropped, which reads as "died".
        let _ = name.spawn(move || ended.send(ingest.run(source, &runtime)));
        end
    }

    fn submit(&self, key: LedgerKey, sealed: watch::Receiver<u64>, published: watch::Receiver<u64>) -> Submit<Disk> {
        Submit {
            stores: self.stores.clone(),
            client: Client::new(self.config.node.clone()),
            ledger: self.config.ledger.clone(),
            key,
            status: self.status.clone(),
            sealed,
            published,
        }
    }

    fn publish(
        &self,
        sealed: watch::Receiver<u64>,
        clock: &Arc<dyn Clock>,
        quit: &CancellationToken,
    ) -> Result<publish::Publishing, AgentError> {
        let Some(broker) = &self.config.broker else { return Ok(publish::Publishing::off()) };
        let setting = publish::Setting {
            broker: broker.clone(),
            agent: self.config.name.clone(),
            plant: self.plant.name.clone(),
            devices: self.plant.devices.clone(),
            client: Client::new(self.config.node.clone()),
            data: self.config.data.clone(),
            clock: clock.clone(),
        };
        Ok(publish::start(setting, self.stores.clone(), self.status.clone(), sealed, quit.clone())?)
    }
}

fn ingest_ended(ended: Result<Result<(), StoreError>, oneshot::error::RecvError>) -> AgentError {
    match ended {
        Ok(Err(fault)) => fault.into(),
        _ => AgentError::Died("the thread that keeps readings"),
    }
}

fn submit_ended(ended: Result<Result<(), StoreError>, tokio::task::JoinError>) -> AgentError {
    match ended {
        Ok(Err(fault)) => fault.into(),
        _ => AgentError::Died("submitting"),
    }
}
