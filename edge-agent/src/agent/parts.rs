//! What the agent is put together from, each part with what it needs of the others.

use super::{Agent, AgentError, Disk, sealer};
use crate::anchor::SubmitAnchors;
use crate::api::Api;
use crate::error::StoreError;
use crate::gate::{self, Gate, Hands};
use crate::ingest::{Ingest, NewRules, VaultLimits};
use crate::publish;
use crate::reload;
use crate::submit::{LedgerKey, Submit};
use crate::watch::Watches;
use std::collections::BTreeSet;
use std::sync::Arc;
use tally_connector_api::{Batch, Clock, HistoricalBatch};
use tally_door::{Bound, Expiry};
use tally_ledger_client::Client;
use tally_model::DeviceSpec;
use tally_tls::ServerTls;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

impl Agent {
    /// What ends some day: our certificates for node, broker and our own interface, and the authorities that we trust.
    pub(super) fn certificates(&self) -> Expiry {
        let broker = self.config.broker.as_ref().map(|broker| &broker.tls);
        let shown = [Some(&self.config.access.tls), broker].into_iter().flatten();
        let shown = shown.flat_map(|tls| [&tls.certificate, &tls.ca]).flatten();
        let files: BTreeSet<_> = shown.chain(self.config.listen_tls.iter().flat_map(ServerTls::certificates)).collect();
        Expiry::of(files.into_iter().cloned())
    }

    /// A client of the node, with what the agent brings along.
    pub(super) fn node(&self) -> Client {
        Client::new(self.config.node.clone()).with_access(self.config.access.clone())
    }

    /// `None` when anchors are off.
    pub(super) fn submit_anchors(&self, key: &LedgerKey) -> Option<SubmitAnchors<Disk>> {
        let sealed = self.stores.anchors().as_ref()?.subscribe();
        Some(SubmitAnchors {
            stores: self.stores.clone(),
            client: self.node(),
            ledger: self.config.ledger.clone(),
            key: key.clone(),
            sealed,
        })
    }

    /// Opens its book: everything in it is read.
    pub(super) async fn gate(
        &self,
        key: &LedgerKey,
        hands: &Arc<Hands>,
        devices: watch::Receiver<Arc<Vec<DeviceSpec>>>,
    ) -> Result<Gate<Disk>, AgentError> {
        let data = self.config.data.clone();
        let book = tokio::task::spawn_blocking(move || gate::open_book(&data)).await;
        let book = book.map_err(|_| AgentError::Died("opening the gate's book"))??;
        let parts = gate::Parts {
            hands: hands.clone(),
            sealer: sealer(&self.config),
            client: self.node(),
            key: key.clone(),
            devices,
            clock: self.clock.clone(),
            status: self.status.clone(),
            setting: self.config.gate,
            data: self.config.data.clone(),
        };
        Ok(Gate::new(book, parts))
    }

    pub(super) fn api(
        &self,
        reloads: mpsc::Sender<reload::Request>,
        gate: &Arc<Gate<Disk>>,
        listener: &Bound,
    ) -> Api<Disk> {
        Api {
            reloads,
            node: self.node(),
            gate: gate.clone(),
            places: listener.places(),
            connections: listener.tallies(),
            stores: self.stores.clone(),
            status: self.status.clone(),
            agent: self.config.name.to_string(),
            plant: self.plant.name.clone(),
            ledger: self.config.ledger.clone(),
            disclosures: Semaphore::new(1),
            expiry: self.certificates(),
        }
    }

    /// The thread that waits for the disk; its end comes through the channel.
    pub(super) fn ingest(
        &self,
        watches: Watches,
        (source, late): (mpsc::Receiver<Batch>, mpsc::Receiver<HistoricalBatch>),
        changes: mpsc::Receiver<NewRules>,
        sealed: watch::Sender<u64>,
        live: Option<mpsc::Sender<Arc<crate::vault::Kept>>>,
        clock: Arc<dyn Clock>,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let limits = VaultLimits { days: self.config.limits.vault_days, bytes_max: self.config.limits.vault_bytes_max };
        let (stores, status) = (self.stores.clone(), self.status.clone());
        let ingest = Ingest {
            stores,
            watches,
            sealer: sealer(&self.config),
            status,
            sealed,
            live,
            clock,
            limits,
            batch: self.config.batch,
            changes,
            late,
        };
        let (ended, end) = oneshot::channel();
        let runtime = Handle::current();
        let name = std::thread::Builder::new().name("ingest".to_owned());
        // Without the thread the channel is dropped, which reads as "died".
        let _ = name.spawn(move || ended.send(ingest.run(source, &runtime)));
        end
    }

    pub(super) fn submit(
        &self,
        key: LedgerKey,
        sealed: watch::Receiver<u64>,
        published: watch::Receiver<u64>,
    ) -> Submit<Disk> {
        Submit {
            stores: self.stores.clone(),
            client: self.node(),
            ledger: self.config.ledger.clone(),
            key,
            status: self.status.clone(),
            sealed,
            published,
        }
    }

    pub(super) fn publish(
        &self,
        gate: &Arc<Gate<Disk>>,
        sealed: watch::Receiver<u64>,
        devices: watch::Receiver<Arc<Vec<DeviceSpec>>>,
        clock: &Arc<dyn Clock>,
        quit: &CancellationToken,
    ) -> Result<publish::Publishing, AgentError> {
        let Some(broker) = &self.config.broker else { return Ok(publish::Publishing::off()) };
        let setting = publish::Setting {
            broker: broker.clone(),
            agent: self.config.name.clone(),
            plant: self.plant.name.clone(),
            devices,
            client: self.node(),
            data: self.config.data.clone(),
            clock: clock.clone(),
        };
        Ok(publish::start(setting, self.stores.clone(), self.status.clone(), gate.clone(), sealed, quit.clone())?)
    }
}
