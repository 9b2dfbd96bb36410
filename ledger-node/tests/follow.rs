//! A second node of a ledger: copied over HTTP, believed in nothing, followed block by block; and never able to order before an
//! operator says that the first one is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use common::{START, TestClock, config, node_config, open, plant, until};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_evidence::{SigningKey, VerifyingKey};
use tally_ledger_client::{Client, RequestError, SubmitError as Unsent};
use tally_ledger_node::follow::{JoinError, Joined, PromoteError, Source, SourceFault, join, promote};
use tally_ledger_node::retain::Retention;
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{
    Engine, EngineConfig, Listen, Node, NodeState, NotNow, OpenLedgerError, ReadError, SubmitError,
};
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400_000_000;

/// A node that orders, in this process.
struct Served {
    engine: Engine,
    address: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn of(node: Node) -> Self {
        let (engine, address, stop) = (node.engine().clone(), node.places()[0].to_string(), CancellationToken::new());
        let serving = node.serve(stop.clone());
        let task = tokio::spawn(async move { drop(serving.await) });
        Self { engine, address, stop, task }
    }

    async fn start(engine: Engine) -> Self {
        Self::of(Node::bind(engine, &[anywhere()]).await.unwrap()).await
    }

    fn source(&self) -> Source {
        Source::new(self.address.parse().unwrap()).impatient()
    }

    fn client(&self) -> Client {
        Client::new(self.address.parse().unwrap())
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn anywhere() -> Listen {
    Listen::Tcp(([127, 0, 0, 1], 0).into())
}

async fn worn(engine: &Engine, plant: &Plant, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let statement = plant.worn(0, number, &format!("again {number}")).unwrap();
        assert_eq!(engine.submit(statement).await.unwrap().refusal, 0);
    }
}

/// A ledger of some segments whose oldest were pruned.
async fn pruned(plant: &Plant, data: &Path) -> Engine {
    let clock = TestClock::at(START);
    let mut config = config(plant, data);
    config.clock = Arc::<TestClock>::clone(&clock);
    config.retention = Retention { payloads: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    let engine = Engine::open(config).unwrap();
    for number in 0..40 {
        clock.set(START + i64::try_from(number).unwrap() * 2 * DAY);
        worn(&engine, plant, number..number + 1).await;
    }
    assert!(engine.retain().unwrap().segments > 3);
    engine
}

async fn joined(source: &Source, key: &VerifyingKey, data: &Path) -> Result<Joined, JoinError> {
    let joined = join(source, key, data, &mut |_| {}).await;
    let is_there = data.join("log").exists();
    assert_eq!(is_there, joined.is_ok(), "a ledger is there when all of it holds, and not before: {joined:?}");
    joined
}

fn follower(plant: &Plant, data: &Path) -> Engine {
    Engine::open(EngineConfig::new(&plant.ledger, data, plant.key.public().clone())).unwrap()
}

/// Everything that both can say is the same.
fn assert_same(ours: &Engine, theirs: &Engine) {
    assert_eq!(ours.store().head(), theirs.store().head());
    let height = ours.store().head().unwrap().checkpoint.height;
    for height in 0..=height {
        let (mine, other) = (ours.store().block(height).unwrap(), theirs.store().block(height).unwrap());
        assert_eq!(mine.unwrap().checkpoint, other.unwrap().checkpoint, "block {height}");
        if height >= theirs.store().kept_below() {
            assert_eq!(ours.store().block_record(height).unwrap(), theirs.store().block_record(height).unwrap());
            assert_eq!(ours.store().outcomes(height).unwrap(), theirs.store().outcomes(height).unwrap());
        }
    }
    assert_eq!(ours.store().kept_below(), theirs.store().kept_below());
    for key in [&b"party/acme"[..], b"nothing"] {
        assert_eq!(
            ours.store().prove_state(key).unwrap().unwrap().1,
            theirs.store().prove_state(key).unwrap().unwrap().1
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_same_ledger_and_can_seal_nothing() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = here.path().join("data");
    let first = Served::start(open(&plant, there.path())).await;
    worn(&first.engine, &plant, 0..30).await;
    let done = joined(&first.source(), plant.key.public(), &data).await.unwrap();
    assert_eq!((done.ledger.as_str(), done.height, done.executed_from, done.kept_below), ("press-line", 30, 0, 0));
    assert!(!data.join("joining").exists());
    let again = join(&first.source(), plant.key.public(), &data, &mut |_| {}).await.unwrap_err();
    assert!(matches!(again, JoinError::Occupied(_)), "{again}");

    let copy = follower(&plant, &data);
    assert_same(&copy, &first.engine);
    assert_eq!(copy.state(), NodeState::Following);
    let statement = plant.worn(0, 99, "not here").unwrap();
    assert_eq!(copy.submit(statement).await.unwrap_err(), SubmitError::NotNow(NotNow::Follower));
    let committed = copy.committed(7).unwrap().unwrap();
    assert!(matches!(copy.receipt(&committed), Err(ReadError::NoKey)));
    copy.close();
    drop(copy);

    // With the ledger's key beside it, it still does not order.
    match Engine::open(config(&plant, &data)).err().unwrap() {
        OpenLedgerError::Follows(words) => assert!(words.contains("promote"), "{words}"),
        other => panic!("{other}"),
    }
    // Only at an operator's word, and not while the other one answers.
    let node = node_config(&plant, here.path(), "data", "");
    let alive = promote(&node, &first.source()).await.unwrap_err();
    assert!(matches!(alive, PromoteError::Alive { height: 30, .. }), "{alive}");
    let gone = first.source();
    first.end().await;
    assert_eq!(promote(&node, &gone).await.unwrap().height, 30);
    assert!(matches!(promote(&node, &gone).await.unwrap_err(), PromoteError::NoFollower(_)));
    let promoted = Engine::open(config(&plant, &data)).unwrap();
    worn(&promoted, &plant, 30..31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_ledger_is_joined_by_its_snapshot() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(pruned(&plant, there.path()).await).await;
    let done = joined(&first.source(), plant.key.public(), here.path()).await.unwrap();
    assert!(done.executed_from > 0 && done.kept_below == first.engine.store().kept_below(), "{done:?}");
    let copy = follower(&plant, here.path());
    assert_same(&copy, &first.engine);
    // What is in the folder is explained, byte for byte.
    assert!(copy.store().usage().unwrap().parts.iter().all(|part| !part.what.contains("somebody")));
}

/// What a lying source does to an answer.
#[derive(Clone)]
enum Lie {
    /// Flips a bit of this byte of the answer to a path that begins so.
    Flip(&'static str, usize),
    /// Answers so many requests, then breaks off.
    Stop(u64),
    /// Prunes the ledger when the first file is asked for.
    Prune,
}

#[derive(Clone)]
struct Liar {
    honest: Client,
    engine: Engine,
    lie: Arc<Mutex<Lie>>,
    /// Requests so far.
    asked: Arc<AtomicU64>,
    /// Longest answer of the path that is altered.
    length: Arc<AtomicU64>,
}

impl Liar {
    async fn before(served: &Served, lie: Lie) -> (Self, Source) {
        let liar = Self {
            honest: served.client(),
            engine: served.engine.clone(),
            lie: Arc::new(Mutex::new(lie)),
            asked: Arc::default(),
            length: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let source = Source::new(format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap()).impatient();
        let router = Router::new().fallback(answer).with_state(liar.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (liar, source)
    }

    fn now(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
        self.asked.store(0, Ordering::SeqCst);
    }
}

async fn answer(State(liar): State<Liar>, request: Request) -> Response {
    let path = request.uri().to_string();
    let lie = liar.lie.lock().unwrap().clone();
    let asked = liar.asked.fetch_add(1, Ordering::SeqCst);
    match lie {
        Lie::Stop(after) if asked >= after => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Lie::Prune if path.starts_with("/copy/") => {
            liar.now(Lie::Stop(u64::MAX));
            assert!(liar.engine.retain().unwrap().segments > 0);
        }
        _ => {}
    }
    let mut bytes = match liar.honest.get_bytes(&path).await {
        Ok(bytes) => bytes,
        Err(RequestError::Refused { status, code, text, .. }) => {
            let body = serde_json::json!({"code": code, "detail": text}).to_string();
            return (StatusCode::from_u16(status).unwrap(), body).into_response();
        }
        Err(error) => panic!("{error}"),
    };
    if let Lie::Flip(prefix, at) = lie
        && path.starts_with(prefix)
    {
        liar.length.fetch_max(bytes.len() as u64, Ordering::SeqCst);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
    }
    bytes.into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lies_at_any_byte_is_refused_and_the_truth_taken_afterwards() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(pruned(&plant, there.path()).await).await;
    let (liar, source) = Liar::before(&first, Lie::Stop(u64::MAX)).await;
    let mut lies = 0;
    for (prefix, word) in [
        ("/copy/kept/", "kept/"),
        ("/copy/snapshot/", "snapshot/"),
        ("/copy/log/", "log/"),
        ("/checkpoint", "not sealed by the key"),
    ] {
        liar.length.store(0, Ordering::SeqCst);
        let mut at = 0;
        loop {
            liar.now(Lie::Flip(prefix, at));
            let refused = joined(&source, plant.key.public(), here.path()).await;
            let length = usize::try_from(liar.length.load(Ordering::SeqCst)).unwrap();
            if at >= length {
                break;
            }
            let words = refused.unwrap_err().to_string();
            assert!(words.contains(word), "{prefix}, byte {at}: {words}");
            lies += 1;
            // Dense at the beginning, where heads are, then in uneven steps.
            at += 1 + at / 3;
        }
        let _ = fs::remove_dir_all(here.path().join("log"));
        for entry in fs::read_dir(here.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    assert!(lies > 60, "{lies}");
    // What an earlier, lying run left does not stop an honest one.
    liar.now(Lie::Flip("/copy/log/", 900));
    joined(&source, plant.key.public(), here.path()).await.unwrap_err();
    joined(&first.source(), plant.key.public(), here.path()).await.unwrap();
    assert_same(&follower(&plant, here.path()), &first.engine);
}

/// Altered lists and blocks either change nothing or are refused; never is there another ledger.
#[tokio::test(flavor = "multi_thread")]
async fn altered_lists_and_blocks_never_make_another_ledger() {
    let (plant, there) = (plant(), tempfile::tempdir().unwrap());
    let first = Served::start(open(&plant, there.path())).await;
    worn(&first.engine, &plant, 0..3).await;
    let (liar, source) = Liar::before(&first, Lie::Stop(u64::MAX)).await;
    for at in (0..260).step_by(13) {
        let here = tempfile::tempdir().unwrap();
        liar.now(Lie::Flip("/copy", at));
        if joined(&source, plant.key.public(), here.path()).await.is_ok() {
            assert_same(&follower(&plant, here.path()), &first.engine);
        }
    }
    // Blocks behind the copy.
    let here = tempfile::tempdir().unwrap();
    joined(&first.source(), plant.key.public(), here.path()).await.unwrap();
    worn(&first.engine, &plant, 3..4).await;
    let record = first.engine.store().block_record(4).unwrap();
    let copy = follower(&plant, here.path());
    for at in (0..record.len()).step_by(7) {
        let mut forged = record.clone();
        forged[at] ^= 1 << (at % 8);
        copy.follow(&forged).unwrap_err();
        if copy.state() != NodeState::Following {
            // The seal over the checkpoint held, and the block does not give it: nobody goes on from there.
            assert!(matches!(copy.state(), NodeState::Failed(_)));
            copy.close();
            break;
        }
    }
    drop(copy);
    let copy = follower(&plant, here.path());
    assert!(copy.follow(&first.engine.store().block_record(2).unwrap()).is_err(), "not the next one");
    copy.follow(&record).unwrap();
    assert_same(&copy, &first.engine);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_not_the_ledgers() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(open(&plant, there.path())).await;
    let other = SigningKey::from_secret(&[9; 32]).unwrap();
    let refused = joined(&first.source(), other.public(), here.path()).await.unwrap_err();
    assert!(matches!(refused, JoinError::Source(SourceFault::Key { .. })), "{refused}");
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_broken_off_goes_on_where_it_stopped() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(pruned(&plant, there.path()).await).await;
    let (liar, source) = Liar::before(&first, Lie::Stop(0)).await;
    let mut fetched = Vec::new();
    let done = loop {
        liar.now(Lie::Stop(5));
        match joined(&source, plant.key.public(), here.path()).await {
            Err(JoinError::Source(SourceFault::Request(RequestError::NotNow { .. }))) => fetched.push(()),
            other => break other.unwrap(),
        }
        assert!(fetched.len() < 40, "it does not get on");
    };
    assert!(fetched.len() > 3);
    let files: u64 = ["kept", "snapshot", "log"]
        .iter()
        .flat_map(|folder| fs::read_dir(here.path().join(folder)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(done.fetched < files / 2, "the last run fetched {} of {files} bytes", done.fetched);
    assert_same(&follower(&plant, here.path()), &first.engine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_prunes_meanwhile_is_asked_for_its_list_again() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = TestClock::at(START);
    let mut config = config(&plant, there.path());
    config.clock = Arc::<TestClock>::clone(&clock);
    config.retention = Retention { payloads: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    let first = Served::start(Engine::open(config).unwrap()).await;
    for number in 0..40 {
        clock.set(START + i64::try_from(number).unwrap() * 2 * DAY);
        worn(&first.engine, &plant, number..number + 1).await;
    }
    let (_liar, source) = Liar::before(&first, Lie::Prune).await;
    let done = joined(&source, plant.key.public(), here.path()).await.unwrap();
    assert!(done.kept_below > 0 && done.kept_below == first.engine.store().kept_below());
    assert_same(&follower(&plant, here.path()), &first.engine);
}

async fn following(plant: &Plant, data: &Path, source: Source) -> Served {
    let node = Node::bind(follower(plant, data), &[anywhere()]).await.unwrap();
    Served::of(node.with_source(source)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_keeps_up_shows_what_it_knows_and_says_when_it_stands_still() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Served::start(open(&plant, there.path())).await;
    // From nothing at all: the genesis comes like every other block.
    let second = following(&plant, here.path(), first.source()).await;
    worn(&first.engine, &plant, 0..20).await;
    let head = || first.engine.store().head();
    until("the same head", async || second.engine.store().head() == head()).await;
    assert_same(&second.engine, &first.engine);

    let (client, ordering) = (second.client(), first.client());
    for path in [
        "/checkpoint",
        "/entries/3/statement",
        "/accounts",
        "/agreements",
        "/blocks/4",
        "/key.pem",
        "/copy/blocks?from=2",
    ] {
        assert_eq!(client.get_bytes(path).await.unwrap(), ordering.get_bytes(path).await.unwrap(), "{path}");
    }
    for path in ["/entries/3", "/consistency/2", "/tlog/checkpoint"] {
        match client.get_bytes(path).await {
            Err(RequestError::Refused { status: 421, code, .. }) => assert_eq!(code, "follower", "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    match client.submit(&plant.worn(0, 50, "keep me").unwrap()).await {
        Err(Unsent::NotNow { cause, .. }) => assert!(cause.contains("orders"), "{cause}"),
        other => panic!("an agent must keep its statement: {other:?}"),
    }
    let status = client.get_json("/status").await.unwrap();
    assert_eq!((&status["state"], &status["following"]["behind_blocks"]), (&"following".into(), &0.into()), "{status}");
    assert_eq!(client.get_bytes("/ready").await.unwrap(), b"following\n");

    // The one that orders goes and comes back, elsewhere.
    first.end().await;
    until("a fault", async || client.get_json("/status").await.unwrap()["following"]["fault"].is_string()).await;
    second.end().await;
    let first = Served::start(open(&plant, there.path())).await;
    worn(&first.engine, &plant, 20..25).await;
    let second = following(&plant, here.path(), first.source()).await;
    until("the same head", async || second.engine.store().head() == first.engine.store().head()).await;
    assert_same(&second.engine, &first.engine);
    // One that follows may be followed.
    let third = tempfile::tempdir().unwrap();
    joined(&second.source(), plant.key.public(), third.path()).await.unwrap();
    assert_same(&follower(&plant, third.path()), &first.engine);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_folder(&path, &target) } else { assert!(fs::copy(&path, target).is_ok()) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_history_stops_the_follower_with_a_proof() {
    let (plant, there, here) = (plant(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = open(&plant, there.path());
    worn(&engine, &plant, 0..5).await;
    engine.close();
    drop(engine);
    // A thief with the key and a copy goes another way from here.
    let elsewhere = tempfile::tempdir().unwrap();
    copy_folder(there.path(), elsewhere.path());
    let first = Served::start(open(&plant, there.path())).await;
    worn(&first.engine, &plant, 5..7).await;
    joined(&first.source(), plant.key.public(), here.path()).await.unwrap();
    let thief = Served::start(open(&plant, elsewhere.path())).await;
    for number in 5..9 {
        thief.engine.submit(plant.worn(1, number, "another story").unwrap()).await.unwrap();
    }
    let second = following(&plant, here.path(), thief.source()).await;
    until("the end", async || matches!(second.engine.state(), NodeState::Failed(_))).await;
    let NodeState::Failed(reason) = second.engine.state() else { panic!() };
    assert!(reason.contains("second history"), "{reason}");
    let proof = fs::read(here.path().join("second-history.block")).unwrap();
    assert_eq!(proof, thief.engine.store().block_record(8).unwrap());
}
