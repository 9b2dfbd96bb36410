//! Nodes that are each other's witnesses (`witness_for` of node.yaml): receipts become final by the other's word, one that is away
//! holds them back, and a second history is caught, told and remembered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../tests/src/patience.rs"]
mod patience;
#[allow(dead_code)] // not every test needs every kind of certificate
#[path = "common/pki.rs"]
mod pki;
#[path = "../../tests/src/servers/ports.rs"]
mod ports;

use patience::PATIENCE;
use pki::{Pki, When};
use ports::free_port;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_evidence::{Algorithm, LogKey, NoteSigningKey, Receipt, SignedNote, SignedStatement, SplitFile};
use tally_ledger_client::{Client, SubmitError};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::witness::{self, Records, Watching, WitnessConfig};
use tally_ledger_node::{ConfigError, Engine, EngineConfig, Node, NodeConfig, NodeError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node with a ledger of its own, which may be down.
struct Peer {
    plant: Plant,
    dir: PathBuf,
    port: u16,
    client: Client,
    running: Option<(CancellationToken, JoinHandle<Result<(), NodeError>>)>,
}

fn private(file: &Path, pem: &str) {
    std::fs::write(file, pem).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Peer {
    /// Keys, an empty ledger, and a configuration without witnesses. `secret` is that of the key it cosigns with.
    fn new(dir: &Path, ledger: &str, algorithm: Algorithm, secret: u8) -> Self {
        let (plant, dir, port) = (Plant::new(ledger, 1, 1).unwrap(), dir.join(ledger), free_port());
        std::fs::create_dir(&dir).unwrap();
        private(&dir.join("node.key"), &plant.key.to_pem().unwrap());
        std::fs::write(dir.join("node.pem"), plant.key.public().to_pem().unwrap()).unwrap();
        let key = NoteSigningKey::from_secret(algorithm, &[secret; 32]).unwrap();
        private(&dir.join("witness.key"), &key.to_pem().unwrap());
        std::fs::write(dir.join("witness.pem"), key.public().to_pem().unwrap()).unwrap();
        let config = EngineConfig::new(ledger, dir.join("data"), plant.key.clone());
        Engine::open(config.with_genesis(plant.genesis().unwrap())).unwrap().close();
        let client = Client::new(format!("tcp:127.0.0.1:{port}").parse().unwrap());
        let peer = Self { plant, dir, port, client, running: None };
        peer.configure("");
        peer
    }

    fn configure(&self, more: &str) {
        let (ledger, port) = (self.ledger(), self.port);
        let head = format!("ledger: {ledger}\ndata: data\nkey: node.key\nlisten: [\"tcp:127.0.0.1:{port}\"]\n");
        std::fs::write(self.file(), format!("{head}projection: off\n{more}")).unwrap();
    }

    /// What makes it the witness of `other`, and `other` its only one.
    fn both_ways(&self, other: &Self) {
        let (ledger, theirs, port) = (other.ledger(), other.dir.display(), other.port);
        self.configure(&format!(
            "witness_for:\n  name: {name}/node\n  key: witness.key\n  logs: [{{origin: {ledger}, key: {theirs}/node.pem}}]\n\
             witnesses:\n  need: 1\n  wait: 2s\n  of: [{{name: {ledger}/node, key: {theirs}/witness.pem, url: \"http://127.0.0.1:{port}/witness\"}}]\n",
            name = self.ledger(),
        ));
    }

    fn ledger(&self) -> &str {
        self.dir.file_name().unwrap().to_str().unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.join("node.yaml")
    }

    async fn open(&self) -> Result<Node, NodeError> {
        Node::open(NodeConfig::load(&self.file()).unwrap()).await
    }

    async fn start(&mut self) {
        let (node, stop) = (self.open().await.unwrap(), CancellationToken::new());
        self.running = Some((stop.clone(), tokio::spawn(node.serve(stop))));
    }

    async fn stop(&mut self) {
        let (stop, serving) = self.running.take().unwrap();
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    async fn submit(&self, number: u64) -> Result<Vec<u8>, SubmitError> {
        let statement = self.plant.worn(0, number, &format!("worn {number}")).unwrap();
        Ok(self.client.submit(&statement).await?.receipt)
    }

    /// Entries of the only ledger it watches, as cosigned last; and where the proof of two histories is.
    async fn watched(&self) -> (Option<u64>, Option<String>) {
        let status = self.client.get_json("/status").await.unwrap()["witness_for"].clone();
        let log = &status["logs"][0];
        (log["size"].as_u64(), log["alarm"].as_str().map(str::to_owned))
    }
}

async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
}

async fn is_final(peer: &Peer, number: u64) {
    let receipt = eventually("a final receipt", async || peer.submit(number).await.ok()).await;
    let id = SignedStatement::parse(&peer.plant.worn(0, number, &format!("worn {number}")).unwrap()).unwrap().id;
    assert!(Receipt::parse(&receipt).unwrap().check(&id, peer.plant.key.public()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_are_each_others_only_witness() {
    let dir = tempfile::tempdir().unwrap();
    let mut press = Peer::new(dir.path(), "press-line", Algorithm::Ed25519, 21);
    let mut mill = Peer::new(dir.path(), "mill", Algorithm::P256, 22);
    press.both_ways(&mill);
    mill.both_ways(&press);
    press.start().await;
    // Nobody is there to sign yet: durable, not final.
    assert!(matches!(press.submit(0).await, Err(SubmitError::NotFinal { .. })));
    mill.start().await;
    is_final(&press, 0).await;
    is_final(&mill, 0).await;
    let (size, alarm) = mill.watched().await;
    assert!(size > Some(1) && alarm.is_none(), "{size:?} {alarm:?}");
    assert!(press.watched().await.0 > Some(1));
    // What the press line shows carries both names, and what the mill keeps of it is the same note.
    let note = String::from_utf8(press.client.get_bytes("/tlog/checkpoint").await.unwrap()).unwrap();
    let names: Vec<_> = note.lines().filter_map(|line| line.strip_prefix("— ")?.split(' ').next()).collect();
    assert_eq!(names, ["press-line", "mill/node"], "{note}");
    let hash = hex::encode(tally_evidence::sha256(b"press-line"));
    let kept = mill.client.get_bytes(&format!("/witness/{hash}/checkpoint")).await.unwrap();
    let log = LogKey::new("press-line".to_owned(), press.plant.key.public().clone().into());
    let kept = SignedNote::parse(&String::from_utf8(kept).unwrap()).unwrap();
    assert_eq!(Some(log.check(&kept).unwrap().size), mill.watched().await.0);
    let metrics = String::from_utf8(mill.client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("tally_witness_alarm{log=\"press-line\"} 0"), "{metrics}");
    assert!(metrics.contains("tally_witness_answers_total{code=\"cosigned\"}"), "{metrics}");

    // The other one goes away and comes back: it goes on where it was.
    let before = mill.watched().await.0;
    mill.stop().await;
    assert!(matches!(press.submit(1).await, Err(SubmitError::NotFinal { .. })));
    mill.start().await;
    assert!(mill.watched().await.0 >= before, "it remembers over a restart");
    is_final(&press, 1).await;
    press.stop().await;
    mill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_history_is_caught_by_the_other_node_and_settled_with_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut press = Peer::new(dir.path(), "press-line", Algorithm::Ed25519, 21);
    let mut mill = Peer::new(dir.path(), "mill", Algorithm::Ed25519, 22);
    press.both_ways(&mill);
    mill.both_ways(&press);
    mill.start().await;
    press.start().await;
    // Where a size is a power of two no path proves anything (docs/formats/witness.md).
    let mut numbers = 0..;
    while mill.watched().await.0.is_none_or(u64::is_power_of_two) {
        is_final(&press, numbers.next().unwrap()).await;
    }
    press.stop().await;
    // The key begins anew: another ledger with the same name.
    std::fs::rename(press.dir.join("data"), press.dir.join("true")).unwrap();
    let config = EngineConfig::new("press-line", press.dir.join("data"), press.plant.key.clone());
    Engine::open(config.with_genesis(press.plant.genesis().unwrap())).unwrap().close();
    press.start().await;
    for number in 10..15 {
        assert!(matches!(press.submit(number).await, Err(SubmitError::NotFinal { .. })));
    }
    let proof = eventually("the alarm", async || mill.watched().await.1).await;
    let (split, _) = SplitFile::decode(&std::fs::read(&proof).unwrap()).unwrap().check().unwrap();
    assert!(split.is_proved());
    let metrics = String::from_utf8(mill.client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("tally_witness_alarm{log=\"press-line\"} 1"), "{metrics}");
    // The mill's own list has it, until somebody settles it; a word changes nothing.
    let listed = async |mill: &Peer| mill.client.get_json("/alarms").await.unwrap()["alarms"][0].clone();
    let alarm = eventually("the list", async || Some(listed(&mill).await).filter(|alarm| alarm.is_object())).await;
    assert_eq!((&alarm["kind"], &alarm["subject"]), (&"watched-history".into(), &"press-line".into()));
    assert_eq!(alarm["proof"].as_str(), Some(proof.as_str()));
    let said = serde_json::json!({"by": "mia", "words": "the press line was asked"});
    mill.client.post_json("/alarms/1", &said).await.unwrap();
    press.stop().await;
    mill.stop().await;

    // It outlives a restart; the true ledger is signed again only when somebody has settled it.
    std::fs::remove_dir_all(press.dir.join("data")).unwrap();
    std::fs::rename(press.dir.join("true"), press.dir.join("data")).unwrap();
    mill.start().await;
    press.start().await;
    assert_eq!(mill.watched().await.1, Some(proof));
    let next = numbers.next().unwrap();
    assert!(matches!(press.submit(next).await, Err(SubmitError::NotFinal { .. })));
    mill.stop().await;
    let watching = Watching::load(&mill.file()).unwrap();
    assert_eq!(watching.data, mill.dir.join("data/witness_for"));
    Records::open(&watching.data).unwrap().settle("press-line", false).unwrap();
    mill.start().await;
    is_final(&press, next).await;
    let over = async || listed(&mill).await["over"].as_str().map(str::to_owned);
    eventually("the alarm to be over", over).await;
    assert_eq!(listed(&mill).await["acknowledged"]["by"], "mia");
    press.stop().await;
    mill.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_never_its_own_witness_and_one_that_is_none_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut press = Peer::new(dir.path(), "press-line", Algorithm::Ed25519, 21);
    for (key, log, found) in [("node.key", "witness.pem", "`key`"), ("witness.key", "node.pem", "a key in `logs`")] {
        press.configure(&format!("witness_for: {{name: me, key: {key}, logs: [{{origin: other, key: {log}}}]}}\n"));
        let refused = press.open().await.err().unwrap();
        assert!(matches!(refused, NodeError::OwnWitness(what) if what == found), "{refused}");
    }
    // Two with one folder of memory would sign two histories.
    press.configure(
        "witness_for: {name: me, key: witness.key, data: here, logs: [{origin: other, key: witness.pem}]}\n",
    );
    let held = Records::open(&press.dir.join("here")).unwrap();
    let refused = press.open().await.err().unwrap().to_string();
    assert!(refused.contains("in use by another witness"), "{refused}");
    drop(held);
    press.configure("");
    press.start().await;
    for path in ["/witness/add-checkpoint", &format!("/witness/{}/checkpoint", "0".repeat(64))] {
        let asked = match path.ends_with("add-checkpoint") {
            true => press.client.post(path).await.map(|_| ()),
            false => press.client.get_bytes(path).await.map(|_| ()),
        };
        let text = asked.unwrap_err().to_string();
        assert!(text.contains("no witness of other ledgers"), "{text}");
    }
    assert!(press.client.get_json("/status").await.unwrap().get("witness_for").is_none());
    press.stop().await;
    let Err(ConfigError::Faults { faults, .. }) = Watching::load(&press.file()) else { panic!("it is none") };
    assert_eq!(faults[0].key, "witness_for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_behind_tls_signs_for_whom_it_lets_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut press = Peer::new(dir.path(), "press-line", Algorithm::Ed25519, 21);
    let (ca, port) = (Pki::new(dir.path(), "plant-ca"), free_port());
    let (certificate, key) = ca.issue("localhost", When::Now);
    let file = dir.path().join("witness.yaml");
    let (shown, theirs) = (|path: PathBuf| path.display().to_string(), press.dir.display().to_string());
    let authority = shown(ca.ca());
    let text = format!(
        "name: w1\nkey: {theirs}/witness.key\ndata: w1\nlisten: [\"tls:127.0.0.1:{port}\"]\n\
         tls: {{certificate: {}, key: {}, client_ca: {authority}}}\n\
         logs: [{{origin: press-line, key: {theirs}/node.pem}}]\n",
        shown(certificate),
        shown(key),
    );
    std::fs::write(&file, text).unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(witness::run(WitnessConfig::load(&file).unwrap(), stop.clone()));
    let asks = |more: &str| {
        format!(
            "witnesses:\n  need: 1\n  wait: 1s\n  of: [{{name: w1, key: {theirs}/witness.pem, url: \"https://localhost:{port}\", \
             tls: {{ca: {authority}{more}}}}}]\n"
        )
    };
    // Without a certificate it is not let in, and `/status` says so.
    press.configure(&asks(""));
    press.start().await;
    assert!(matches!(press.submit(0).await, Err(SubmitError::NotFinal { .. })));
    let refused = async || {
        let status = press.client.get_json("/status").await.unwrap();
        status["witnesses"]["of"][0]["fault"].as_str().filter(|fault| fault.contains("certificate")).map(str::to_owned)
    };
    eventually("the witness to turn it away", refused).await;
    press.stop().await;
    let ours = ca.client("press-line", When::Now);
    press.configure(&asks(&format!(
        ", certificate: {}, key: {}",
        shown(ours.certificate.clone().unwrap()),
        shown(ours.key.clone().unwrap())
    )));
    press.start().await;
    is_final(&press, 0).await;
    press.stop().await;
    let client = Client::new(format!("tls:localhost:{port}").parse().unwrap());
    let client = client.with_access(tally_ledger_client::Access { tls: ours, token: None });
    let metrics = String::from_utf8(client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("tally_connections_refused_total{code=\"no-certificate\"}"), "{metrics}");
    assert!(metrics.contains("tally_witness_certificate_expires_seconds"), "{metrics}");
    stop.cancel();
    serving.await.unwrap().unwrap();
}
