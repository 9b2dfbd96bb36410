//! An ingest without rules, over disks of the test's choice.

use super::{LEDGER, agent_key};
use std::sync::Arc;
use tally_connector_api::Clock;
use tally_edge_agent::ingest::{Ingest, VaultLimits};
use tally_edge_agent::seal::Sealer;
use tally_edge_agent::status::Status;
use tally_edge_agent::store::{Journals, Sizes, Stores};
use tally_edge_agent::watch::Watches;
use tally_journal::Journal;
use tally_journal::testing::MemStorage;
use tally_model::PartyId;
use tokio::sync::{mpsc, watch};

/// `journal` opens each store by its name.
pub fn ingest(
    journal: impl Fn(&'static str) -> Journal<MemStorage>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
) -> Ingest<MemStorage> {
    let journals = Journals {
        vault: journal("vault"),
        outbox: journal("outbox"),
        receipts: journal("receipts"),
        unsealed: journal("unsealed triggers"),
        dead: journal("dead letters"),
        secret: [9; 32].into(),
    };
    let sizes = Sizes { vault_bytes_max: 1 << 30, outbox_bytes_max: 1 << 20 };
    let agent = PartyId::try_new("agent-01").unwrap();
    let sealer = Sealer { agent, ledger: LEDGER.to_owned(), key: agent_key().into() };
    let mut watches = Watches::new(&[]);
    let (stores, _) = Stores::recover(journals, sizes, &mut watches, &sealer).unwrap();
    Ingest {
        stores: Arc::new(stores),
        watches,
        sealer,
        status,
        sealed: watch::channel(0).0,
        live: None,
        clock,
        limits: VaultLimits { days: 90, bytes_max: 1 << 30 },
        batch: None,
        changes: mpsc::channel(1).1,
        late: mpsc::channel(1).1,
    }
}
