//! The node's list of alarms: an agent that tells readings twice, and one that only sends its anchor again; who may look, who may
//! acknowledge, and what a restart leaves of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{config, in_time, plant};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tally_door::{NewToken, Tokens};
use tally_evidence::{AnchorBody, Gap, GapReason, StatementKind, sha256, sign};
use tally_ledger_client::{Access as Bring, Client, RequestError};
use tally_ledger_node::testing::{Plant, key_of};
use tally_ledger_node::{Access, Engine, EngineConfig, Listen, Node, NodeError};
use tally_model::{DeviceId, PartyId, Secret, Timestamp, Tls};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const DEVICE: &str = "press-000";

struct Served {
    engine: Engine,
    address: String,
    client: Client,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
}

impl Served {
    async fn start(config: EngineConfig, access: Access) -> Self {
        let engine = Engine::open(config).unwrap();
        let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
        let (node, stop) = (node.with_access(access), CancellationToken::new());
        let address = node.places()[0].to_string();
        let client = Client::new(address.parse().unwrap());
        let serving = tokio::spawn(node.serve(stop.clone()));
        Self { engine, address, client, stop, serving }
    }

    async fn submit(&self, statement: Vec<u8>) -> (u64, u16) {
        let committed = self.engine.submit(statement).await.unwrap();
        (committed.entry, committed.refusal)
    }

    /// The list once it has so many alarms.
    async fn alarms(&self, count: usize) -> Vec<Value> {
        let found = async {
            loop {
                let list = self.client.get_json("/alarms").await.unwrap()["alarms"].as_array().unwrap().clone();
                if list.len() >= count {
                    return list;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        in_time(&format!("{count} alarms"), found).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Anchor `number` over ten readings, which `what` stands for.
fn anchor(before: Option<&AnchorBody>, number: u64, what: &str) -> AnchorBody {
    let (first, at) = (number * 10, Timestamp::from_micros(1_760_000_000_000_000));
    AnchorBody {
        device: DeviceId::try_new(DEVICE).unwrap(),
        number,
        previous: before.map_or([0; 32], AnchorBody::digest),
        first,
        last: first + 9,
        root: sha256(what.as_bytes()),
        head: sha256(b"head"),
        received: (at, at),
        source: (at, at),
        pause: 0,
        gaps: Vec::new(),
    }
}

fn sealed(plant: &Plant, agent: &str, at: i64, body: &AnchorBody) -> Vec<u8> {
    let issuer = PartyId::try_new(agent).unwrap();
    sign(StatementKind::Anchor, &key_of(agent).unwrap(), &issuer, DEVICE, &plant.ledger, at, body.encode())
}

/// Submits a chain of anchors; the second declares a gap that lets its number jump.
async fn chain(node: &Served, plant: &Plant) -> Vec<(u64, AnchorBody)> {
    let mut taken: Vec<(u64, AnchorBody)> = Vec::new();
    for number in [1, 3, 4, 5] {
        let mut body = anchor(taken.last().map(|(_, body)| body), number, &format!("readings {number}"));
        if number == 1 {
            body.first = 0;
        }
        if number == 3 {
            let to = body.received.0;
            body.gaps.push(Gap { reason: GapReason::Refused, from: Some(to), to, readings: Some((20, 29)) });
        }
        let (entry, refusal) = node.submit(sealed(plant, "agent-00", 1_760_000_000, &body)).await;
        assert_eq!(refusal, 0, "anchor {number}");
        taken.push((entry, body));
    }
    taken
}

const TWICE: u16 = 104;

#[tokio::test(flavor = "multi_thread")]
async fn readings_told_twice_are_an_alarm_and_the_same_anchor_again_is_none() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let node = Served::start(config(&plant, dir.path()), Access::default()).await;
    let taken = chain(&node, &plant).await;
    // The same words in a new envelope, and another agent's words: refused, and no contradiction of anybody.
    assert_eq!(node.submit(sealed(&plant, "agent-00", 1_760_000_001, &taken[1].1)).await.1, TWICE);
    let other = anchor(Some(&taken[0].1), 3, "what agent-01 says");
    assert_eq!(node.submit(sealed(&plant, "agent-01", 1_760_000_000, &other)).await.1, TWICE);
    // Anchor 3 told otherwise: the newest is 5, and the numbers jumped before it.
    let (second, refusal) = node.submit(sealed(&plant, "agent-00", 1_760_000_000, &other)).await;
    assert_eq!(refusal, TWICE);
    let alarms = node.alarms(1).await;
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
    let alarm = &alarms[0];
    assert_eq!((&alarm["kind"], &alarm["subject"]), (&json!("anchor-twice"), &json!(DEVICE)));
    assert_eq!(alarm["entries"], json!([taken[1].0, second]));
    assert!(alarm["text"].as_str().unwrap().contains("`agent-00` told readings of `press-000` twice"), "{alarm}");
    assert_eq!(node.client.get_json("/status").await.unwrap()["alarms"], 1);
    let metrics = String::from_utf8(node.client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("tally_alarms{kind=\"anchor-twice\"} 1"), "{metrics}");

    // One alarm waits for somebody; it is no other one behind a restart, and acknowledged it stays.
    node.end().await;
    let node = Served::start(config(&plant, dir.path()), Access::default()).await;
    assert_eq!(node.alarms(1).await, alarms);
    let said = json!({"by": "anna", "words": "the vault was restored from Sunday"});
    let done = node.client.post_json("/alarms/1", &said).await.unwrap();
    assert_eq!((&done["acknowledged"]["by"], &done["acknowledged"]["words"]), (&said["by"], &said["words"]));
    for (path, said, status) in [
        ("/alarms/1", said.clone(), 409),
        ("/alarms/2", said.clone(), 404),
        ("/alarms/one", said.clone(), 400),
        ("/alarms/1", json!({"by": "anna"}), 400),
        ("/alarms/1", json!({"by": "", "words": "x"}), 400),
    ] {
        let refused = node.client.post_json(path, &said).await.unwrap_err();
        assert!(matches!(refused, RequestError::Refused { status: found, .. } if found == status), "{path}: {refused}");
    }
    assert_eq!(node.client.get_json("/status").await.unwrap()["alarms"], 0);
    // Again: an alarm of its own. The newest anchor told otherwise is found by its digest alone.
    let again = anchor(Some(&taken[2].1), 5, "written anew");
    let (third, _) = node.submit(sealed(&plant, "agent-00", 1_760_000_000, &again)).await;
    let alarms = node.alarms(2).await;
    assert_eq!((&alarms[0], &alarms[1]["entries"]), (&done, &json!([taken[3].0, third])));
    node.end().await;
}

/// Readings under a fresh number that an anchor covers already: written anew, overlapping, or the very same.
#[tokio::test(flavor = "multi_thread")]
async fn readings_told_again_under_a_fresh_number_are_an_alarm() {
    const COVERED: u16 = 105;
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let node = Served::start(config(&plant, dir.path()), Access::default()).await;
    let taken = chain(&node, &plant).await;
    let newest = &taken[3].1;
    let told = |number: u64, first: u64, last: u64, what: &str| AnchorBody {
        number,
        first,
        last,
        previous: newest.digest(),
        ..anchor(None, 3, what)
    };
    // Others cannot make an agent look bad, and readings that it declared missing were told once: no alarm for either.
    let again = told(6, 45, 59, "written anew");
    assert_eq!(node.submit(sealed(&plant, "agent-01", 1_760_000_000, &again)).await.1, COVERED);
    assert_eq!(node.submit(sealed(&plant, "agent-00", 1_760_000_000, &told(6, 20, 29, "late"))).await.1, COVERED);
    let (second, refusal) = node.submit(sealed(&plant, "agent-00", 1_760_000_000, &again)).await;
    assert_eq!(refusal, COVERED);
    let alarms = node.alarms(1).await;
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
    assert_eq!((&alarms[0]["kind"], &alarms[0]["subject"]), (&json!("readings-twice"), &json!(DEVICE)));
    assert_eq!(alarms[0]["entries"], json!([taken[2].0, second]), "the first that covers some of them, anchor 4");
    let text = alarms[0]["text"].as_str().unwrap();
    assert!(text.contains("anchor 6 over readings 45 to 59") && text.contains("were told before"), "{text}");
    let metrics = String::from_utf8(node.client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("tally_alarms{kind=\"readings-twice\"} 1"), "{metrics}");
    node.client.post_json("/alarms/1", &json!({"by": "anna", "words": "seen"})).await.unwrap();
    // The very same readings under another number.
    let same = AnchorBody { number: 7, previous: newest.digest(), ..newest.clone() };
    let (third, _) = node.submit(sealed(&plant, "agent-00", 1_760_000_000, &same)).await;
    let alarms = node.alarms(2).await;
    assert_eq!(alarms[1]["entries"], json!([taken[3].0, third]));
    assert!(alarms[1]["text"].as_str().unwrap().contains("the same readings once more"), "{alarms:#?}");
    node.end().await;
}

/// What was refused while nobody looked is looked at afterwards, however the node ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_before_a_cut_is_still_noticed() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let engine = Engine::open(config(&plant, dir.path())).unwrap();
    let first = sealed(&plant, "agent-00", 1, &AnchorBody { first: 0, ..anchor(None, 1, "once") });
    assert_eq!(engine.submit(first).await.unwrap().refusal, 0);
    let twice = sealed(&plant, "agent-00", 1, &AnchorBody { first: 0, ..anchor(None, 1, "twice") });
    assert_eq!(engine.submit(twice).await.unwrap().refusal, TWICE);
    engine.close();
    drop(engine);
    let node = Served::start(config(&plant, dir.path()), Access::default()).await;
    assert_eq!(node.alarms(1).await[0]["kind"], "anchor-twice");
    node.end().await;
}

fn with_token(address: &str, tokens: &Path, role: &str) -> Client {
    let new = NewToken { name: role, role, now: 1, until: None, once: false };
    let token = Some(Secret::new(Tokens::add(tokens, &new).unwrap()));
    Client::new(address.parse().unwrap()).with_access(Bring { tls: Tls::default(), token })
}

#[tokio::test(flavor = "multi_thread")]
async fn auditors_read_and_operators_acknowledge() {
    let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
    let tokens = dir.path().join("tokens.json");
    let access = Access { is_local_open: false, tokens: Some(tokens.clone()), ..Access::default() };
    let node = Served::start(config(&plant, &dir.path().join("data")), access).await;
    let said = json!({"by": "anna", "words": "seen"});
    for (role, reads, acknowledges) in
        [("agent", 403, 403), ("regulator", 403, 403), ("auditor", 200, 403), ("operator", 200, 404)]
    {
        let client = with_token(&node.address, &tokens, role);
        let read = client.get_json("/alarms").await.map(|_| 200).unwrap_or_else(status);
        let done = client.post_json("/alarms/1", &said).await.map(|_| 200).unwrap_or_else(status);
        assert_eq!((read, done), (reads, acknowledges), "{role}");
    }
    node.end().await;
}

fn status(error: RequestError) -> u16 {
    match error {
        RequestError::Refused { status, .. } => status,
        other => panic!("{other}"),
    }
}
