//! The API over real sockets: good statements, bad ones, floods, slow clients, event streams, a failed disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{OnMem, PATIENCE, config, in_time, node_config, plant, until};
use futures_util::StreamExt;
use redb::backends::InMemoryBackend;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tally_evidence::{
    Checkpoint, EvidenceFile, OutcomeRecord, Receipt, SignedStatement, StateProof, VerifyingKey, cbor,
};
use tally_journal::testing::{DiskFault, MemStorage};
use tally_ledger_client::{Client, NodeAddress, RequestError, SubmitError};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{
    BindError, Engine, EngineConfig, FlushLimits, IndexDisk, Listen, LogDisk, Node, NodeError, init, run,
};
use tally_model::Priority;
use tally_verifier::Step;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node that serves on a unix socket and on TCP.
struct Served {
    dir: tempfile::TempDir,
    engine: Engine,
    tcp: SocketAddr,
    unix: PathBuf,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
}

impl Served {
    async fn with(plant: &Plant, change: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(plant, &dir.path().join("data"));
        change(&mut config);
        Self::on(dir, Engine::open(config).unwrap()).await
    }

    async fn on(dir: tempfile::TempDir, engine: Engine) -> Self {
        let unix = dir.path().join("node.sock");
        let listen = [Listen::Unix(unix.clone()), Listen::Tcp(([127, 0, 0, 1], 0).into())];
        let node = Node::bind(engine.clone(), &listen).await.unwrap();
        let places = node.places();
        let Some(Listen::Tcp(tcp)) = places.get(1).cloned() else { panic!("{places:?}") };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(node.serve(stop.clone()));
        Self { dir, engine, tcp, unix, stop, serving }
    }

    async fn new(plant: &Plant) -> Self {
        Self::with(plant, |_| {}).await
    }

    fn tcp(&self) -> Client {
        Client::new(format!("tcp:{}", self.tcp).parse().unwrap())
    }

    fn unix(&self) -> Client {
        Client::new(NodeAddress::Unix(self.unix.clone()))
    }

    /// A request as written; gives status line, head and body.
    async fn raw(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, head, answer.get(end + 4..).unwrap_or_default().to_vec())
    }

    async fn get(&self, path: &str, accept: &str) -> (u16, String, Vec<u8>) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: n\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
        self.raw(request.as_bytes()).await
    }

    async fn post(&self, content_type: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let head = format!(
            "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn stop(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.dir
    }
}

fn code(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(problem["type"], format!("urn:tallystick:problem:{}", problem["code"].as_str().unwrap()));
    assert!(!problem["hint"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_order_from_trigger_to_evidence_over_both_kinds_of_socket() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let (unix, tcp) = (node.unix(), node.tcp());
    let worn = plant.worn(0, 0, "bearing").unwrap();
    let submitted = unix.submit(&worn).await.unwrap();
    assert_eq!((submitted.entry, submitted.refusal), (1, None));
    // The same statement over the other socket: the same receipt.
    assert_eq!(tcp.submit(&worn).await.unwrap(), submitted);
    for action in ["accept", "done"] {
        tcp.submit(&plant.call("tina", action, "mo-1", 0).unwrap()).await.unwrap();
    }
    unix.submit(&plant.good(0, 1, "bearing").unwrap()).await.unwrap();
    let refused = unix.submit(&plant.call("tina", "accept", "mo-1", 9).unwrap()).await.unwrap();
    assert!(refused.refusal.is_some());
    let order = tcp.get_json("/agreements/mo-1").await.unwrap();
    assert_eq!((&order["state"], &order["parties"]["technician"]), (&"confirmed".into(), &"tina".into()));
    assert_eq!(tcp.get_json("/agreements?state=confirmed&device=press-000").await.unwrap()[0]["id"], "mo-1");
    assert_eq!(tcp.get_json("/agreements?state=reported").await.unwrap(), Value::Array(vec![]));
    assert_eq!(tcp.get_json("/totals").await.unwrap()["EUR"], 0);
    // What its numbers mean stands in the contract, which the ledger shows as it was deployed.
    let text = tally_contracts::LIBRARY[0].1.as_bytes();
    let named = format!("/contracts/maintenance-order?version={}", order["version"]);
    for path in ["/contracts/maintenance-order", &named] {
        assert_eq!(tcp.get_bytes(path).await.unwrap(), text, "{path}");
    }
    let accounts = tcp.get_json("/accounts").await.unwrap();
    let fixit = accounts.as_array().unwrap().iter().find(|account| account["id"] == "fixit/EUR").unwrap();
    assert_eq!(fixit["balance_minor"], 50_000);
    check_evidence(&tcp.get_bytes("/agreements/mo-1/evidence").await.unwrap(), node.engine.key());
}

/// All but what the agent has to add: the readings.
fn check_evidence(file: &[u8], key: &VerifyingKey) {
    let evidence = EvidenceFile::decode(file).unwrap();
    // Genesis with device, signers and rules; two triggers, two calls.
    assert_eq!(evidence.entries.len(), 5);
    let report = tally_verifier::verify(file, Some(key));
    let broken: Vec<_> = report.links.iter().filter(|link| !link.holds).collect();
    assert!(broken.iter().all(|link| matches!(link.step, Step::Readings | Step::Recomputed)), "{broken:?}");
    assert!(report.links.iter().any(|link| link.holds && link.step == Step::Outcome), "{:?}", report.links);
}

#[tokio::test]
async fn an_entry_can_be_read_by_id_and_by_index() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let id = SignedStatement::parse(&statement).unwrap().id;
    let (status, head, receipt) = node.post("application/cose; cose-type=\"cose-sign1\"", &statement).await;
    assert_eq!(status, 201, "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("location: /entries/{id}")) && head.contains("tally-entry: 1"), "{head}");
    assert!(!head.contains("tally-refusal"), "{head}");
    let client = node.tcp();
    for name in [id.to_string(), "1".to_owned()] {
        assert_eq!(client.get_bytes(&format!("/entries/{name}")).await.unwrap(), receipt);
        assert_eq!(client.get_bytes(&format!("/entries/{name}/statement")).await.unwrap(), statement);
        let outcome = client.get_json(&format!("/entries/{name}/outcome")).await.unwrap();
        assert_eq!((&outcome["refusal"], &outcome["entry"]), (&0.into(), &1.into()));
        assert_eq!(outcome["events"][0]["kind"], "agreement.opened");
        let (_, _, as_cbor) = node.get(&format!("/entries/{name}/outcome"), "application/cbor").await;
        assert_eq!(OutcomeRecord::decode(&as_cbor).unwrap().height, 1);
    }
    let key = VerifyingKey::from_pem(&String::from_utf8(client.get_bytes("/key.pem").await.unwrap()).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&client.get_bytes("/checkpoint").await.unwrap(), &key).unwrap();
    assert_eq!(Receipt::parse(&receipt).unwrap().check(&id, &key), Ok(checkpoint.root));
    assert_eq!(client.get_json("/checkpoints/1").await.unwrap()["root"], hex::encode(checkpoint.root));
    for (path, status, expected) in [
        ("/entries/2", 404, "entry"),
        ("/entries/xyz", 400, "entry-id"),
        ("/checkpoints/9", 404, "height"),
        ("/checkpoints/x", 400, "height"),
        ("/agreements/mo-9", 404, "agreement"),
        ("/agreements/mo-9/evidence", 404, "agreement"),
        ("/agreements/%20", 400, "agreement-id"),
        ("/agreements?colour=red", 400, "query"),
        ("/contracts/maintenance-order?version=9", 404, "contract"),
        ("/contracts/lease", 404, "contract"),
        ("/contracts/%20", 400, "contract"),
        ("/contracts/maintenance-order?version=x", 400, "query"),
        ("/state/xyz", 400, "state-key"),
        ("/nothing", 404, "path"),
    ] {
        let (found, _, body) = node.get(path, "*/*").await;
        assert_eq!((found, code(&body).as_str()), (status, expected), "{path}");
    }
}

#[tokio::test]
async fn anyone_can_learn_the_key_and_check_the_state() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let client = node.tcp();
    let keys = cbor::decode(&client.get_bytes("/.well-known/scitt-keys").await.unwrap()).unwrap();
    let key = keys.as_array().unwrap()[0].as_map().unwrap();
    assert_eq!(key[1].1, cbor::bytes(node.engine.key().id().0));
    let one = format!("/.well-known/scitt-keys/{}", node.engine.key().id());
    assert_eq!(cbor::decode(&client.get_bytes(&one).await.unwrap()).unwrap(), keys.as_array().unwrap()[0]);
    let configuration = cbor::decode(&client.get_bytes("/.well-known/scitt-configuration").await.unwrap()).unwrap();
    assert!(configuration.as_map().unwrap().contains(&(cbor::text("issuer"), cbor::text("press-line"))));
    for (key, is_there) in [(&b"ano such account"[..], false), (b"aacme/EUR", true)] {
        let answer = client.get_bytes(&format!("/state/{}", hex::encode(key))).await.unwrap();
        let mut fields = cbor::Fields::decode(&answer).unwrap();
        let value = fields.take("value").map(|value| value.into_bytes().unwrap());
        let proof = StateProof::decode(&fields.bytes("proof").unwrap()).unwrap();
        let checkpoint = Checkpoint::open(&fields.bytes("checkpoint").unwrap(), node.engine.key()).unwrap();
        assert_eq!(value.is_some(), is_there);
        assert_eq!(proof.verify(&checkpoint.state, key, value.as_deref()), Ok(()));
    }
    assert_eq!(client.get_json("/devices").await.unwrap()[0]["agent"], "agent-00");
    let parties = client.get_json("/parties").await.unwrap();
    assert!(parties.as_array().unwrap().iter().any(|party| party["id"] == "tina" && party["revoked"] == false));
}

#[tokio::test]
async fn bad_statements_are_refused_and_the_node_goes_on() {
    let plant = plant();
    let node = Served::with(&plant, |config| config.limits.body_bytes_max = 4_096).await;
    let good = plant.worn(0, 0, "bearing").unwrap();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let elsewhere = Plant::new("other-line", 1, 1).unwrap().worn(0, 0, "bearing").unwrap();
    for (status, expected, body) in [
        (400, "malformed", b"".to_vec()),
        (400, "malformed", b"no statement".to_vec()),
        (400, "malformed", good[..good.len() - 1].to_vec()),
        (400, "seal", forged),
        (400, "wrong-ledger", elsewhere),
        (403, "unknown-signer", plant.call("nobody", "accept", "mo-1", 0).unwrap()),
        (413, "too-large", vec![0; 5_000]),
    ] {
        let (found, _, answer) = node.post("application/cose", &body).await;
        assert_eq!((found, code(&answer).as_str()), (status, expected));
        let refused = node.unix().submit(&body).await;
        assert!(matches!(&refused, Err(SubmitError::Refused { code, .. }) if code == expected), "{refused:?}");
    }
    let (status, _, answer) = node.post("application/json", &good).await;
    assert_eq!((status, code(&answer).as_str()), (415, "media-type"));
    let (status, _, answer) = node.raw(b"PUT /entries HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n").await;
    assert_eq!((status, code(&answer).as_str()), (405, "method"));
    let endless = b"POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\n\
        transfer-encoding: chunked\r\nconnection: close\r\n\r\n1400\r\n";
    let (status, _, answer) = node.raw(&[&endless[..], &vec![0; 0x1400], b"\r\n0\r\n\r\n"].concat()).await;
    assert_eq!((status, code(&answer).as_str()), (413, "too-large"));
    assert_eq!(node.raw(b"garbage\r\n\r\n").await.0, 400);
    // None of it is on the ledger, and a good one still is taken.
    assert_eq!(node.tcp().submit(&good).await.unwrap().entry, 1);
    let metrics = String::from_utf8(node.get("/metrics", "*/*").await.2).unwrap();
    assert!(metrics.contains("tally_refused_total{code=\"seal\"} 2"), "{metrics}");
    assert!(metrics.contains("tally_admitted_total 1"), "{metrics}");
}

#[tokio::test]
async fn one_signer_cannot_crowd_out_the_others() {
    let plant = plant();
    let node = Served::with(&plant, |config| config.limits.per_signer_per_second = 1).await;
    let client = node.tcp();
    // A thousand were taken where one a second is: for a quarter of an hour no clock lets this signer in again.
    let triggers = (0..1_000).map(|number| plant.body(0, 0, number, &format!("fault-{number}"), Priority::High));
    let batch = plant.batch(0, &triggers.collect::<Result<Vec<_>, _>>().unwrap()).unwrap();
    client.submit(&batch).await.unwrap();
    let statement = plant.worn(0, 1_000, "fault-1000").unwrap();
    let limited = client.submit(&statement).await;
    let Err(SubmitError::NotNow { retry_after: Some(wait), .. }) = limited else { panic!("{limited:?}") };
    assert!((500..=1_000).contains(&wait.as_secs()), "{wait:?}");
    let (status, _, answer) = node.post("application/cose", &statement).await;
    assert_eq!((status, code(&answer).as_str()), (429, "rate"));
    // Device 1 belongs to the other agent, who may send one: those forged in its name took nothing from it.
    let good = plant.worn(1, 0, "bearing").unwrap();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..5 {
        let (status, _, answer) = node.post("application/cose", &forged).await;
        assert_eq!((status, code(&answer).as_str()), (400, "seal"));
    }
    assert_eq!(client.submit(&good).await.unwrap().refusal, None);
}

#[tokio::test]
async fn too_many_requests_at_once_are_shed_and_health_still_answers() {
    let plant = plant();
    let node = Served::with(&plant, |config| config.limits.in_flight_max = 1).await;
    // Bodies that never arrive: each holds a place, one normal and eight for alarms.
    let mut slow = Vec::new();
    for _ in 0..9 {
        let mut stream = TcpStream::connect(node.tcp).await.unwrap();
        let head = "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\ncontent-length: 100\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let mut shed = (0, String::new(), Vec::new());
    until("the node to shed load", async || {
        shed = node.post("application/cose", &statement).await;
        shed.0 == 503
    })
    .await;
    let (status, head, answer) = shed;
    assert_eq!((status, code(&answer).as_str()), (503, "overloaded"));
    assert!(head.to_ascii_lowercase().contains("retry-after: 1"), "{head}");
    assert_eq!(node.get("/live", "*/*").await.0, 200);
    assert_eq!(node.get("/ready", "*/*").await.0, 200);
    assert_eq!(node.get("/totals", "*/*").await.0, 200);
    drop(slow);
    until("the places to be given back", async || node.post("application/cose", &statement).await.0 == 201).await;
}

#[tokio::test]
async fn events_are_followed_resumed_and_waited_for() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let client = node.tcp();
    client.submit(&plant.worn(0, 0, "bearing").unwrap()).await.unwrap();
    let mut from_start = client.events(Some(0));
    let mut seen = Vec::new();
    loop {
        let event = from_start.next().await.unwrap().unwrap();
        seen.push(event);
        if seen.last().unwrap().json["type"] == "tallystick.agreement.dispatched" {
            break;
        }
    }
    assert_eq!(seen[0].id, "0.0");
    let opened = seen.iter().position(|event| event.json["type"] == "tallystick.agreement.opened").unwrap();
    let event = &seen[opened].json;
    assert_eq!(
        (&event["specversion"], &event["subject"], &event["source"]),
        (&"1.0".into(), &"mo-1".into(), &"/ledgers/press-line".into())
    );
    assert_eq!((&event["data"]["entry"], &event["data"]["device"]), (&1.into(), &"press-000".into()));
    // Resumed behind the opening: exactly what followed.
    let mut resumed = node.unix().events_after(&seen[opened].id);
    for expected in &seen[opened + 1..] {
        assert_eq!(&resumed.next().await.unwrap().unwrap(), expected);
    }
    // From now on: nothing old, and a refusal is an event too.
    let mut live = client.events(None);
    let waiting = tokio::spawn(async move { live.next().await.unwrap().unwrap() });
    // Nobody says when the node has heard the question: the first refusals may be from before.
    let mut refused = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if waiting.is_finished() {
            break;
        }
        assert!(Instant::now() < deadline, "{number} refusals, and nothing is told");
        let answer = client.submit(&plant.call("tom", "accept", "mo-1", number).unwrap()).await.unwrap();
        refused.insert(answer.entry, answer.refusal.unwrap());
    }
    let event = waiting.await.unwrap();
    assert_eq!(event.json["type"], "tallystick.entry.refused");
    let entry = event.json["data"]["entry"].as_u64().unwrap();
    assert_eq!(event.json["data"]["refusal"], refused[&entry]);
    assert!(matches!(client.events_after("nonsense").next().await, Some(Err(RequestError::Refused { .. }))));
    // Stopping ends the streams; it does not wait for them.
    in_time("the node to stop", node.stop()).await;
    let rest: Vec<_> = resumed.collect().await;
    assert!(matches!(rest.as_slice(), [Ok(_), Err(RequestError::NoAnswer { .. })]), "{rest:?}");
}

#[tokio::test]
async fn a_failed_disk_is_told_and_nothing_more_is_shown() {
    let plant = plant();
    let disk = MemStorage::new();
    let index = || IndexDisk::Backend(std::sync::Arc::new(|_| Box::new(InMemoryBackend::new())));
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open_on(config(&plant, dir.path()), LogDisk::new(disk.clone()), &index()).unwrap();
    let node = Served::on(dir, engine).await;
    assert_eq!(node.get("/ready", "*/*").await.0, 200);
    disk.fail_operation(1, DiskFault::NoSpace);
    let statement = plant.worn(0, 0, "bearing").unwrap();
    for _ in 0..2 {
        let (status, _, answer) = node.post("application/cose", &statement).await;
        assert_eq!((status, code(&answer).as_str()), (503, "failed"));
    }
    for path in ["/ready", "/totals", "/checkpoint", "/entries/0"] {
        let (status, _, answer) = node.get(path, "*/*").await;
        assert_eq!((status, code(&answer).as_str()), (503, "failed"), "{path}");
    }
    assert_eq!(node.get("/live", "*/*").await.0, 200);
    let status = node.tcp().get_json("/status").await.unwrap();
    assert_eq!(status["state"], "failed");
    assert!(String::from_utf8(node.get("/metrics", "*/*").await.2).unwrap().contains("tally_failed 1"));
    // Nobody stops it: it ends by itself, as a failure, so that whoever started it starts it again.
    let ended = in_time("the node to end by itself", node.serving).await;
    let Ok(Err(NodeError::Failed(reason))) = ended else { panic!("{ended:?}") };
    assert_eq!(reason, status["failure"].as_str().unwrap());
    assert!(TcpStream::connect(node.tcp).await.is_err());
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_before_it_is_sent() {
    let plant = plant();
    let node = Served::with(&plant, |config| config.limits.body_bytes_max = 4_096).await;
    for said in ["4097", "9223372036854775807", "18446744073709551615"] {
        let head = format!(
            "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\ncontent-length: {said}\r\n\r\n"
        );
        // Not a byte of the body, and no `connection: close`: the node answers and closes by itself.
        let (status, _, answer) = node.raw(head.as_bytes()).await;
        // The last one is more than HTTP can say; hyper refuses it in its own words.
        match said {
            "18446744073709551615" => assert!((400..500).contains(&status), "{status}"),
            _ => assert_eq!((status, code(&answer).as_str()), (413, "too-large"), "{said}"),
        }
    }
    // One that sends all the same is told as well: the answer comes before the closing.
    let refused = node.tcp().submit(&vec![0; 8 << 20]).await;
    assert!(matches!(&refused, Err(SubmitError::Refused { code, .. }) if code == "too-large"), "{refused:?}");
    assert_eq!(node.tcp().submit(&plant.worn(0, 0, "bearing").unwrap()).await.unwrap().entry, 1);
}

/// Sends one byte after another, slowly, until the other side closes; gives what it answered and when it closed.
async fn dribble(node: SocketAddr, head: &str) -> (String, Duration) {
    let began = Instant::now();
    let (mut reader, mut writer) = TcpStream::connect(node).await.unwrap().into_split();
    writer.write_all(head.as_bytes()).await.unwrap();
    let writing = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = Vec::new();
    // A reset ends it as well as a close.
    let _ = in_time("the node to close", reader.read_to_end(&mut answer)).await;
    let closed = began.elapsed();
    writing.abort();
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

#[tokio::test]
async fn whoever_dribbles_is_let_go() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let body = "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\ncontent-length: 100000\r\n\r\n";
    let (head, body, idle) =
        tokio::join!(dribble(node.tcp, "GET /status HTTP/1.1\r\nx: "), dribble(node.tcp, body), async {
            let began = Instant::now();
            let mut stream = TcpStream::connect(node.tcp).await.unwrap();
            let read = in_time("the node to close", stream.read(&mut [0; 64])).await;
            (read.unwrap_or(0), began.elapsed())
        });
    // Not before its time is over; that it closes at all was waited for.
    assert!(head.1 > Duration::from_secs(9) && !head.0.contains(" 200 "), "{head:?}");
    assert!(body.1 > Duration::from_secs(4) && body.0.starts_with("HTTP/1.1 408 "), "{body:?}");
    assert!(idle.0 == 0 && idle.1 > Duration::from_secs(9), "{idle:?}");
    assert_eq!(node.tcp().submit(&plant.worn(0, 0, "bearing").unwrap()).await.unwrap().entry, 1);
}

#[tokio::test]
async fn stopping_waits_for_nobody_who_is_still_sending() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let mut hanging = Vec::new();
    for half in [
        "",
        "POST /entr",
        "GET /status HTTP/1.1\r\nhost: n\r\n",
        "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\ncontent-length: 100\r\n\r\n",
        "POST /entries HTTP/1.1\r\nhost: n\r\ncontent-type: application/cose\r\ncontent-length: 100\r\n\r\nhalf",
        "GET /live HTTP/1.1\r\nhost: n\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(node.tcp).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        hanging.push(stream);
    }
    // All of them are accepted and read.
    assert_eq!(node.get("/live", "*/*").await.0, 200);
    assert!(hanging[5].peek(&mut [0]).await.unwrap() > 0, "who asked a whole question is answered");
    tokio::time::sleep(Duration::from_millis(200)).await;
    in_time("the node to stop", node.stop()).await;
    for (number, stream) in hanging.iter_mut().enumerate() {
        let mut rest = Vec::new();
        let _ = in_time("the end of a connection", stream.read_to_end(&mut rest)).await;
        let rest = String::from_utf8_lossy(&rest);
        // Nobody's time was waited for to be over: then he would have been told (408).
        assert_eq!(rest.starts_with("HTTP/1.1 "), number == 5, "{rest}");
    }
}

#[tokio::test]
async fn stopping_finishes_what_was_taken() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let client = node.tcp();
    let mut submitted = Vec::new();
    for number in 0..20 {
        let (client, statement) = (client.clone(), plant.worn(0, number, &format!("fault-{number}")).unwrap());
        submitted.push(tokio::spawn(async move { (client.submit(&statement).await, statement) }));
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let dir = node.stop().await;
    assert!(!dir.path().join("node.sock").exists());
    let engine = common::open(&plant, &dir.path().join("data"));
    for submitted in submitted {
        if let (Ok(answer), statement) = submitted.await.unwrap() {
            let committed = engine.submit(statement).await.unwrap();
            assert_eq!((committed.entry, engine.receipt(&committed).unwrap()), (answer.entry, answer.receipt));
        }
    }
}

#[tokio::test]
async fn sockets_left_behind_are_replaced_and_used_ones_are_not() {
    let plant = plant();
    let node = Served::new(&plant).await;
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&node.unix).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
    for place in [Listen::Unix(node.unix.clone()), Listen::Tcp(node.tcp)] {
        let second = Node::bind(node.engine.clone(), &[place]).await;
        assert!(matches!(second, Err(NodeError::Bind(BindError::InUse { .. }))));
    }
    let file = node.dir.path().join("file");
    std::fs::write(&file, "not a socket").unwrap();
    let in_the_way = Node::bind(node.engine.clone(), &[Listen::Unix(file)]).await;
    assert!(matches!(in_the_way, Err(NodeError::Bind(BindError::InTheWay { .. }))));
    let stale = node.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let replaced = Node::bind(node.engine.clone(), &[Listen::Unix(stale.clone())]).await.unwrap();
    drop(replaced);
    assert!(!stale.exists());
}

#[tokio::test]
async fn a_node_from_its_files() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let config = node_config(&plant, dir.path(), "data", "listen: [\"unix:node.sock\"]\n");
    let opened = run(config.clone(), CancellationToken::new()).await;
    assert!(opened.unwrap_err().to_string().contains("genesis"));
    let mut genesis = plant.genesis().unwrap();
    let rules = std::mem::take(&mut genesis.rules);
    init(&config, genesis.clone(), rules).unwrap();
    assert!(matches!(init(&config, genesis, Vec::new()), Err(NodeError::NotEmpty(_))));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(config, stop.clone()));
    let client = Client::new(NodeAddress::Unix(dir.path().join("node.sock")));
    until("the node to be ready", async || client.get_bytes("/ready").await.is_ok()).await;
    assert_eq!(client.submit(&plant.worn(0, 0, "bearing").unwrap()).await.unwrap().refusal, None);
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Asks until the statement is so far.
async fn until_state(node: &Served, id: &str, state: &str) -> (u16, Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, head, body) = node.get(&format!("/entries/{id}"), "*/*").await;
        if head.contains(&format!("tally-state: {state}")) {
            return (status, serde_json::from_slice(&body).unwrap_or_default());
        }
        assert!(Instant::now() < deadline, "not {state}: {head}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_of_a_statement_can_be_asked_for_while_many_repeat_it() {
    let plant = plant();
    let (log, index) = (MemStorage::new(), MemStorage::new());
    let mut config = config(&plant, Path::new("/nowhere"));
    // Without the thread of the index, whose disk then holds a statement between durable and final.
    config.flush = FlushLimits { blocks: 1, entries: 1, aside: false, ..FlushLimits::default() };
    let file = index.clone();
    let backend = IndexDisk::Backend(std::sync::Arc::new(move |name| Box::new(OnMem(file.file(name)))));
    let engine = Engine::open_on(config.clone(), LogDisk::new(log.clone()), &backend).unwrap();
    let node = Served::on(tempfile::tempdir().unwrap(), engine).await;
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let id = SignedStatement::parse(&statement).unwrap().id.to_string();
    let (status, head, _) = node.get(&format!("/entries/{id}"), "*/*").await;
    assert_eq!(status, 404, "{head}");

    log.set_hanging(true);
    index.set_hanging(true);
    let repeats: Vec<_> = (0..40)
        .map(|_| {
            tokio::spawn({
                let (engine, statement) = (node.engine.clone(), statement.clone());
                async move { engine.submit(statement).await }
            })
        })
        .collect();
    let (status, said) = until_state(&node, &id, "accepted").await;
    assert_eq!((status, &said["state"], &said["code"]), (202, &"accepted".into(), &"on-its-way".into()), "{said}");
    for part in ["statement", "outcome"] {
        assert_eq!(node.get(&format!("/entries/{id}/{part}"), "*/*").await.0, 202);
    }
    let asked = node.tcp().get_bytes(&format!("/entries/{id}")).await;
    assert!(matches!(&asked, Err(RequestError::OnItsWay { state, .. }) if state == "accepted"), "{asked:?}");
    log.set_hanging(false);
    assert_eq!(until_state(&node, &id, "durable").await.0, 202);
    // A repeat now waits for the first as well; a crash now loses nothing.
    let late = tokio::spawn({
        let (engine, statement) = (node.engine.clone(), statement.clone());
        async move { engine.submit(statement).await }
    });
    index.set_hanging(false);
    assert_eq!(until_state(&node, &id, "final").await.0, 200);
    let first = late.await.unwrap().unwrap();
    for repeat in repeats {
        assert_eq!(repeat.await.unwrap().unwrap(), first);
    }
    // Refused by the contracts is final, with a number.
    let refused = plant.call("tina", "accept", "mo-99", 0).unwrap();
    let (status, head, _) = node.post("application/cose", &refused).await;
    assert!(status == 201 && head.contains("tally-state: refused") && head.contains("tally-refusal: "), "{head}");
    let refused = format!("/entries/{}/outcome", SignedStatement::parse(&refused).unwrap().id);
    let says_which = |outcome: &[u8]| {
        let outcome: Value = serde_json::from_slice(outcome).unwrap();
        assert!(outcome["refusal_detail"].as_str().unwrap().contains("`mo-99`"), "{outcome}");
    };
    says_which(&node.get(&refused, "application/json").await.2);

    // The power goes while one is accepted: the node that comes back has never seen it, and has all that was final.
    log.set_hanging(true);
    let lost = plant.worn(0, 1, "belt").unwrap();
    let lost_id = SignedStatement::parse(&lost).unwrap().id;
    let waiting = tokio::spawn({
        let (engine, lost) = (node.engine.clone(), lost.clone());
        async move { engine.submit(lost).await }
    });
    until_state(&node, &lost_id.to_string(), "accepted").await;
    let after = log.power_cut(7);
    log.set_hanging(false);
    assert!(waiting.await.unwrap().is_err());
    let backend = IndexDisk::Backend(std::sync::Arc::new(|_| Box::new(InMemoryBackend::new())));
    let engine = Engine::open_on(config, LogDisk::new(after), &backend).unwrap();
    let again = Served::on(tempfile::tempdir().unwrap(), engine).await;
    assert_eq!(until_state(&again, &id, "final").await.0, 200);
    // Executed again, for the index was lost, and in the same words.
    says_which(&again.get(&refused, "application/json").await.2);
    // Its unsynced block may have reached the platter or not; both are said, and the same bytes are one entry.
    let before = again.get(&format!("/entries/{lost_id}"), "*/*").await.0;
    let size = again.engine.store().head().unwrap().checkpoint.size;
    let committed = again.engine.submit(lost).await.unwrap();
    assert_eq!(again.engine.store().head().unwrap().checkpoint.size, size + u64::from(before == 404));
    assert_eq!(again.get(&format!("/entries/{lost_id}"), "*/*").await.0, 200, "{committed:?}");
}

/// The order thread has nothing to do but to go round: the block that does not get to the disk must be seen all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_hangs_is_silence_also_in_an_idle_hour() {
    let plant = plant();
    let log = MemStorage::new();
    let backend = IndexDisk::Backend(std::sync::Arc::new(|_| Box::new(InMemoryBackend::new())));
    let engine = Engine::open_on(config(&plant, Path::new("/nowhere")), LogDisk::new(log.clone()), &backend).unwrap();
    log.set_hanging(true);
    let statement = plant.worn(0, 0, "bearing").unwrap();
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.submit(statement).await }
    });
    let silent = Duration::from_secs(2);
    until("the silence to be noticed", async || engine.silence() >= silent).await;
    log.set_hanging(false);
    waiting.await.unwrap().unwrap();
    assert!(engine.silence() < silent, "it goes on");
    engine.close();
}
