//! What the tests share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../../tests/src/patience.rs"]
mod patience;

pub use patience::PATIENCE;
use redb::StorageBackend;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tally_contracts::views;
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, StatementKind, sign};
use tally_journal::testing::PlainFile;
use tally_ledger_node::testing::{Plant, key_of};
use tally_ledger_node::{Clock, Engine, EngineConfig, NodeConfig};
use tally_model::{ActionName, AgreementId, ContractName, PartyId, Timestamp};

/// What comes of `future`, which must come.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let come = tokio::time::timeout(PATIENCE, future).await;
    come.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Asks `holds` again and again until it does.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(what, asking).await;
}

/// A clock that moves when it is told to.
#[derive(Default)]
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(micros: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(micros)))
    }

    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

pub const START: i64 = 1_790_000_000_000_000;

pub fn plant() -> Plant {
    Plant::new("press-line", 2, 4).unwrap()
}

pub fn config(plant: &Plant, dir: &Path) -> EngineConfig {
    EngineConfig::new(&plant.ledger, dir, plant.key.clone()).with_genesis(plant.genesis().unwrap())
}

/// The configuration of a node of this ledger as an operator has it, in files: `DATA.yaml` and `node.key` in `dir`, with the data
/// folder `data` beside them; `more` are further lines of it.
pub fn node_config(plant: &Plant, dir: &Path, data: &str, more: &str) -> NodeConfig {
    let (file, key) = (dir.join(format!("{data}.yaml")), dir.join("node.key"));
    fs::write(&key, plant.key.to_pem().unwrap().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, format!("ledger: press-line\ndata: {data}\nkey: node.key\n{more}")).unwrap();
    NodeConfig::load(&file).unwrap()
}

pub fn open(plant: &Plant, dir: &Path) -> Engine {
    Engine::open(config(plant, dir)).unwrap()
}

/// A call of any contract, sealed by `signer`.
pub fn call(plant: &Plant, signer: &str, name: (&str, &str), nonce: u8, args: &[(&str, Cbor)]) -> Vec<u8> {
    let body = CallBody {
        contract: ContractName::try_new(name.0).unwrap(),
        action: ActionName::try_new(name.1).unwrap(),
        agreement: None,
        args: args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        nonce: [nonce; 16],
        at: Timestamp::from_micros(START),
    };
    let party = PartyId::try_new(signer).unwrap();
    sign(StatementKind::Call, &key_of(signer).unwrap(), &party, name.0, &plant.ledger, 0, body.encode())
}

/// State of an agreement; "none" when there is no such.
pub fn state_of(engine: &Engine, id: &str) -> String {
    let state = engine.store().state().unwrap();
    let agreement = views::agreement(&state, &AgreementId::try_new(id).unwrap());
    state.check().unwrap();
    agreement.map_or_else(|| "none".to_owned(), |agreement| agreement.state)
}

pub fn totals_are_zero(engine: &Engine) -> bool {
    let state = engine.store().state().unwrap();
    let totals = views::totals(&state);
    state.check().unwrap();
    !totals.is_empty() && totals.values().all(|total| *total == 0)
}

/// What must be the same after any restart: checkpoint, and the roots recomputed from what is kept.
pub fn fingerprint(engine: &Engine) -> (Vec<u8>, u64) {
    let head = engine.store().head().unwrap();
    (head.sealed.clone(), head.checkpoint.size)
}

/// redb on a file of a disk that loses power, fails and hangs on demand.
#[derive(Debug)]
pub struct OnMem(pub PlainFile);

impl StorageBackend for OnMem {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read_at(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write_at(offset, data)
    }
}
