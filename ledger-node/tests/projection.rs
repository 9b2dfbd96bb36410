//! The projection against the ledger's own answers, against one made anew from the log, and against what may go wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/postgres.rs"]
mod postgres;
#[path = "common/workload.rs"]
mod workload;

use common::{PATIENCE, START, TestClock, config, node_config, plant};
use postgres::Server;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_evidence::{
    BatchBody, BatchedTrigger, Checkpoint, OutcomeRecord, Receipt, SignedStatement, StateProof, leaf_hash,
    root_from_path,
};
use tally_ledger_client::{Client, NodeAddress, RequestError};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, Listen, Node, NodeConfig, NodeError, ProjectError, check, rebuild};
use tally_model::Priority;
use tally_projection::Place;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workload::Workload;

/// A node with a projection.
struct Served {
    engine: Engine,
    clock: Arc<TestClock>,
    client: Client,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
}

impl Served {
    async fn new(plant: &Plant, dir: &Path, place: Place) -> Self {
        let clock = TestClock::at(START);
        let mut config = config(plant, &dir.join("data"));
        config.clock = clock.clone();
        let engine = Engine::open(config).unwrap();
        let socket = dir.join("node.sock");
        let node = Node::bind(engine.clone(), &[Listen::Unix(socket.clone())]).await.unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(node.with_projection(Some(place)).serve(stop.clone()));
        Self { engine, clock, client: Client::new(NodeAddress::Unix(socket)), stop, serving }
    }

    fn head(&self) -> u64 {
        self.engine.store().head().unwrap().checkpoint.height
    }

    async fn get(&self, path: &str) -> Value {
        self.client.get_json(path).await.unwrap()
    }

    /// Comes when everything so far is in the projection.
    async fn settled(&self) -> u64 {
        let head = self.head();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.client.get_json(&format!("/query/entries?limit=1&min_height={head}")).await {
                Ok(answer) => {
                    assert!(answer["height"].as_u64().unwrap() >= head, "{answer}");
                    return head;
                }
                Err(RequestError::NotNow { .. }) => tokio::time::sleep(Duration::from_millis(200)).await,
                Err(other) => panic!("{other}"),
            }
        }
        panic!("the projection does not come to block {head}");
    }

    /// All rows of a list, in pages of `limit`.
    async fn all(&self, path: &str, what: &str, limit: usize) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{mark}limit={limit}{cursor}")).await;
            let found = page[what].as_array().unwrap();
            assert!(found.len() <= limit);
            rows.extend(found.iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

fn sqlite(dir: &Path) -> Place {
    Place::Sqlite(dir.join("data/projection.sqlite"))
}

/// A mixed workload; the projection against `/agreements`, `/accounts`, `/entries`, `/parties`, `/devices`, and then against a
/// rebuild, row by row.
async fn tells_what_the_ledger_says(dir: &Path, place: Place, yaml: &str) {
    let plant = plant();
    let node = Served::new(&plant, dir, place.clone()).await;
    let mut workload = Workload::new(&plant, &node.engine, &node.clock);
    for round in 0..3 {
        workload.round(round).await;
        node.settled().await;
    }
    compare_agreements(&node).await;
    compare_the_rest(&node).await;
    compare_money(&node, &place).await;
    node.close().await;
    let config = node_config(&plant, dir, "data", &format!("projection: {yaml}\n"));
    // The connection to PostgreSQL blocks.
    tokio::task::block_in_place(|| compare_with_a_rebuild(&config, &place));
}

fn compare_with_a_rebuild(config: &NodeConfig, place: &Place) {
    let checked = check(config).unwrap();
    assert_eq!(checked.found.differences, Vec::<String>::new());
    assert!(checked.found.rows > 300, "{checked:?}");
    // A row that somebody changed, or took away, is found; making it anew puts it right.
    for sql in [
        "UPDATE agreements SET paid_minor = paid_minor + 1 WHERE agreement = 'mo-2'",
        "DELETE FROM events WHERE seq = 1",
    ] {
        tamper(place, sql);
        let checked = check(config).unwrap();
        assert!(!checked.found.differences.is_empty(), "{sql}");
        let rebuilt = rebuild(config).unwrap();
        assert_eq!(rebuilt.at, checked.at);
        assert_eq!(check(config).unwrap().found.differences, Vec::<String>::new());
    }
}

fn tamper(place: &Place, sql: &str) {
    match place {
        Place::Sqlite(file) => assert!(rusqlite::Connection::open(file).unwrap().execute(sql, []).unwrap() > 0),
        Place::Postgres(_) => assert!(place.reader().unwrap().run(sql, &[]).unwrap() > 0),
    }
}

async fn compare_agreements(node: &Served) {
    let theirs = node.get("/agreements?limit=1000").await;
    let ours = node.all("/query/agreements", "agreements", 4).await;
    let ours: BTreeMap<_, _> = ours.iter().map(|row| (row["agreement"].as_str().unwrap(), row)).collect();
    let theirs = theirs.as_array().unwrap();
    assert_eq!((theirs.len(), ours.len()), (18, 18));
    for agreement in theirs {
        let row = ours[agreement["id"].as_str().unwrap()];
        for (ours, theirs) in [
            ("contract", "contract"),
            ("version", "version"),
            ("state", "state"),
            ("ended", "ended"),
            ("fields", "fields"),
            ("parties", "parties"),
            ("currency", "currency"),
            ("held_minor", "escrow_minor"),
            ("opened_us", "opened_at"),
            ("updated_us", "updated_at"),
            ("due_us", "due"),
            ("notes", "notes"),
        ] {
            assert_eq!(row[ours], agreement[theirs], "{ours} of {row}");
        }
        assert_eq!(row["device"], agreement["fields"]["device"]);
        assert_eq!(row["fault"], agreement["fields"]["fault"]);
        let steps = agreement["history"].as_array().unwrap().len() + agreement["terms"].as_array().unwrap().len();
        assert_eq!(row["steps"], steps, "{row}");
        assert_eq!(row["opened_entry"], agreement["history"][0]);
        assert_eq!(row["closed_us"].is_null(), !agreement["ended"].as_bool().unwrap());
    }
    // Filters, each against the same done by hand.
    for (filter, fits) in [
        ("state=confirmed", ("state", "confirmed")),
        ("device=press-000", ("device", "press-000")),
        ("contract=maintenance-order", ("contract", "maintenance-order")),
    ] {
        let found = node.all(&format!("/query/agreements?{filter}"), "agreements", 1000).await;
        let by_hand = ours.values().filter(|row| row[fits.0] == fits.1).count();
        assert!(by_hand > 0 && found.len() == by_hand, "{filter}: {} {by_hand}", found.len());
    }
    assert_eq!(node.all("/query/agreements?party=fixit", "agreements", 1000).await.len(), 18);
    // One a round, and those that were left open the round before.
    assert_eq!(node.all("/query/agreements?party=fixit&state=lapsed", "agreements", 1000).await.len(), 5);
}

async fn compare_the_rest(node: &Served) {
    let size = node.engine.store().head().unwrap().checkpoint.size;
    let theirs = node.get("/entries?limit=1000").await;
    let ours = node.all("/query/entries", "entries", 7).await;
    assert_eq!((theirs["entries"].as_array().unwrap().len(), ours.len() as u64), (ours.len(), size));
    for (theirs, ours) in theirs["entries"].as_array().unwrap().iter().zip(&ours) {
        for name in ["entry", "height", "statement", "kind", "signer", "refusal"] {
            assert_eq!(theirs[name], ours[name], "{ours}");
        }
    }
    for (path, by_hand) in [("kind=anchor", 9), ("device=press-003", 3), ("agreement=mo-1", 4), ("party=theo-0", 0)] {
        let found = node.all(&format!("/query/entries?{path}"), "entries", 2).await;
        assert_eq!(found.len(), by_hand, "{path}");
    }
    // Everything that happened to an order, also the term that ran out, which no entry caused.
    let lapsed = node.all("/query/agreements?state=lapsed", "agreements", 10).await;
    let id = lapsed[0]["agreement"].as_str().unwrap();
    let history = node.all(&format!("/query/agreements/{id}/history"), "events", 2).await;
    let kinds: Vec<_> = history.iter().rev().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..3], ["agreement.opened", "escrow.held", "agreement.dispatched"]);
    assert!(
        history
            .iter()
            .any(|event| event["to_state"] == "lapsed" && event["entry"].is_null() && !event["due_us"].is_null())
    );
    // Of the party: what it sealed and what it got, each once, newest first.
    let party = node.all("/query/parties/fixit/history", "events", 3).await;
    let keys: Vec<_> = party.iter().map(|event| (event["height"].as_u64(), event["seq"].as_u64())).collect();
    assert!(keys.windows(2).all(|two| two[0] > two[1]), "{keys:?}");
    for kind in ["payment.made", "accounts.transferred", "registry.party-registered"] {
        assert!(party.iter().any(|event| event["kind"] == kind), "{kind}");
    }
    let device = node.all("/query/devices/press-000/history", "events", 5).await;
    for kind in ["registry.device-registered", "agreement.opened", "anchor.accepted", "payment.made"] {
        assert!(device.iter().any(|event| event["kind"] == kind), "{kind}");
    }
}

async fn compare_money(node: &Served, place: &Place) {
    let read = |sql: &str| tokio::task::block_in_place(|| place.reader().unwrap().rows(sql, &[]).unwrap());
    let accounts = node.get("/accounts").await;
    let theirs: BTreeMap<_, _> = accounts
        .as_array()
        .unwrap()
        .iter()
        .map(|account| {
            (
                account["id"].as_str().unwrap().to_owned(),
                (account["owner"].as_str().unwrap().to_owned(), account["balance_minor"].as_i64().unwrap()),
            )
        })
        .collect();
    let rows = read("SELECT account, owner, balance_minor FROM accounts");
    let text = |value: &tally_projection::Value| value.as_text().unwrap().to_owned();
    let ours: BTreeMap<_, _> =
        rows.iter().map(|row| (text(&row[0]), (text(&row[1]), row[2].as_integer().unwrap()))).collect();
    let ours: BTreeMap<_, _> =
        ours.into_iter().filter(|(id, _)| theirs.contains_key(id) || !id.starts_with("escrow:")).collect();
    let theirs_shown: BTreeMap<_, _> = theirs.into_iter().collect();
    assert_eq!(ours, theirs_shown);
    for table in ["postings", "accounts"] {
        let column = if table == "postings" { "amount_minor" } else { "balance_minor" };
        let sql = format!("SELECT currency, CAST(SUM({column}) AS BIGINT) FROM {table} GROUP BY currency");
        let sums = read(&sql);
        assert!(!sums.is_empty() && sums.iter().all(|row| row[1].as_integer() == Some(0)), "{table}: {sums:?}");
    }
    for (path, table, count) in [("/parties", "parties", 10), ("/devices", "devices", 4)] {
        let theirs = node.get(path).await.as_array().unwrap().len();
        let ours = read(&format!("SELECT COUNT(*) FROM {table}"))[0][0].as_integer().unwrap();
        assert_eq!((theirs, ours), (count, count as i64), "{table}");
    }
    let revoked = read("SELECT COUNT(*) FROM parties WHERE revoked_us IS NOT NULL AND firm = 'fixit'");
    assert_eq!(revoked[0][0].as_integer(), Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_tells_what_the_ledger_says() {
    let dir = tempfile::tempdir().unwrap();
    tells_what_the_ledger_says(dir.path(), sqlite(dir.path()), "sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_tells_what_the_ledger_says() {
    let Some(server) = tokio::task::block_in_place(Server::start) else { return };
    let dir = tempfile::tempdir().unwrap();
    let url = server.url();
    tells_what_the_ledger_says(dir.path(), Place::Postgres(url.clone()), &format!("{{postgres: \"{url}\"}}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_count_what_happened() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    let mut workload = Workload::new(&plant, &node.engine, &node.clock);
    for round in 0..2 {
        workload.round(round).await;
    }
    node.settled().await;
    let asked = node.get("/query/aggregates/agreements?by=maintainer,fault").await;
    let groups = asked["groups"].as_array().unwrap();
    let bearing = groups.iter().find(|group| group["fault"] == "bearing").unwrap();
    assert_eq!((&bearing["maintainer"], &bearing["currency"]), (&"fixit".into(), &"EUR".into()));
    assert_eq!(
        (&bearing["count"], &bearing["succeeded"], &bearing["success_rate"]),
        (&2.into(), &2.into(), &1.0.into())
    );
    // Accepted a second after it was opened, half an hour of work, then two more statements.
    let mean = bearing["mean_seconds"].as_f64().unwrap();
    assert!((1_800.0..1_810.0).contains(&mean), "{bearing}");
    assert!(bearing["paid_minor"].as_i64().unwrap() > 0);
    // Of those that ended: four repaired, two cancelled, two lapsed, and the one left open in the first round.
    let all = node.get("/query/aggregates/agreements?window=closed").await;
    assert_eq!((&all["groups"][0]["ended"], &all["groups"][0]["success_rate"]), (&9.into(), &(4.0 / 9.0).into()));
    let every = node.get("/query/aggregates/agreements?window=closed&success=confirmed,cancelled,lapsed").await;
    assert_eq!(every["groups"][0]["success_rate"], 1.0);
    // A window in the ledger's own time, to the day.
    let days = node.get("/query/aggregates/agreements?by=day").await;
    let counted: i64 = days["groups"].as_array().unwrap().iter().map(|day| day["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 12);
    let (from, to) = (START, START + 3_600_000_000 * 3);
    let window = node.get(&format!("/query/aggregates/agreements?by=week,state&from={from}&to={to}")).await;
    let counted: i64 = window["groups"].as_array().unwrap().iter().map(|group| group["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 5, "{window}");
    assert_eq!(node.get("/query/aggregates/agreements?to=0").await["groups"], serde_json::json!([]));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_carry_proofs_that_hold() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    Workload::new(&plant, &node.engine, &node.clock).round(0).await;
    node.settled().await;
    let key = node.engine.key().clone();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let entries = node.get("/query/entries?proofs=true").await;
    let history = node.get("/query/devices/press-000/history?proofs=true").await;
    let (mut of_entries, mut of_terms) = (0, 0);
    for row in entries["entries"].as_array().unwrap().iter().chain(history["events"].as_array().unwrap()) {
        let proof = &row["proof"];
        let checkpoint = Checkpoint::open(&bytes(&proof["checkpoint"]), &key).unwrap();
        let outcome = bytes(&proof["outcome"]);
        let path: Vec<[u8; 32]> =
            proof["outcome_path"].as_array().unwrap().iter().map(|hash| bytes(hash).try_into().unwrap()).collect();
        let index = proof["outcome_index"].as_u64().unwrap();
        let root = root_from_path(leaf_hash(&outcome), index, checkpoint.outcome_count, &path);
        assert_eq!(root, Some(checkpoint.outcomes));
        assert_eq!(Some(OutcomeRecord::decode(&outcome).unwrap().height), row["height"].as_u64());
        if row["entry"].is_null() {
            of_terms += 1;
            continue;
        }
        let statement = SignedStatement::parse(&bytes(&proof["statement"])).unwrap();
        let receipt = Receipt::parse(&bytes(&proof["receipt"])).unwrap();
        assert_eq!(receipt.check(&statement.id, &key).unwrap(), checkpoint.root);
        of_entries += 1;
    }
    assert!(of_entries > 20 && of_terms >= 2, "{of_entries} {of_terms}");
    for path in ["/query/agreements?proofs=true", "/query/aggregates/agreements?proofs=true"] {
        let answer = node.get(path).await;
        let answer = if answer["behind"].is_object() { &answer["behind"] } else { &answer };
        let checkpoint = Checkpoint::open(&bytes(&answer["state_checkpoint"]), &key).unwrap();
        let rows = answer["agreements"].as_array().unwrap();
        assert_eq!(rows.len(), 6);
        for row in rows {
            let proof = &row["proof"];
            let (name, value) = (bytes(&proof["key"]), bytes(&proof["value"]));
            assert_eq!(
                name,
                tally_contracts::state_key(&format!("agreement:{}", row["agreement"].as_str().unwrap())).unwrap()
            );
            let proof = StateProof::decode(&bytes(&proof["proof"])).unwrap();
            proof.verify(&checkpoint.state, &name, Some(&value)).unwrap();
        }
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trigger_of_a_batch_is_a_row() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    // Four orders and, because the order is open already, one mere note.
    let faults = ["a", "b", "c", "d", "a"];
    let triggers: Vec<_> =
        (0..).zip(faults).map(|(number, fault)| plant.body(0, 0, number, fault, Priority::High).unwrap()).collect();
    let batch = node.engine.submit(plant.batch(0, &triggers).unwrap()).await.unwrap();
    let single = node.engine.submit(plant.worn(1, 0, "e").unwrap()).await.unwrap();
    node.settled().await;
    let rows = node.all("/query/entries?proofs=true", "entries", 100).await;
    let places: Vec<_> =
        rows.iter().map(|row| (row["entry"].as_u64().unwrap(), row["item"].as_i64().unwrap())).collect();
    let mut expected = vec![(single.entry, 0)];
    expected.extend((-1..5).rev().map(|item| (batch.entry, item)));
    expected.push((0, 0));
    assert_eq!(places, expected);
    for row in rows.iter().filter(|row| row["entry"] == batch.entry) {
        let item = row["item"].as_i64().unwrap();
        assert_eq!((row["kind"] == "batch", row["statement"] == batch.id.to_string().as_str()), (item == -1, true));
        let statement =
            SignedStatement::parse(&hex::decode(row["proof"]["statement"].as_str().unwrap()).unwrap()).unwrap();
        let shown = &row["proof"]["batched"];
        assert_eq!(shown.is_null(), item == -1);
        if let Ok(item) = u32::try_from(item) {
            let hash = |hash: &Value| hex::decode(hash.as_str().unwrap()).unwrap().try_into().unwrap();
            let path = shown["path"].as_array().unwrap().iter().map(hash).collect();
            let shown = BatchedTrigger { item, body: hex::decode(shown["body"].as_str().unwrap()).unwrap(), path };
            let trigger = shown.check(&BatchBody::decode(&statement.payload).unwrap()).unwrap();
            assert_eq!((row["number"].as_u64(), row["device"].as_str()), (Some(trigger.number), Some("press-000")));
        }
    }
    let orders = node.all("/query/agreements", "agreements", 100).await;
    assert_eq!(orders.len(), 5);
    let noted = orders.iter().find(|order| order["fault"] == "a").unwrap();
    assert_eq!((&noted["notes"], &noted["opened_entry"]), (&1.into(), &batch.entry.into()));
    node.close().await;
    let checked = check(&node_config(&plant, dir.path(), "data", "projection: sqlite\n")).unwrap();
    assert_eq!(checked.found.differences, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_stay_while_blocks_come() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    let mut workload = Workload::new(&plant, &node.engine, &node.clock);
    workload.round(0).await;
    node.settled().await;
    let whole = node.all("/query/entries", "entries", 1000).await;
    let first = node.get("/query/entries?limit=5").await;
    workload.round(1).await;
    node.settled().await;
    let next = first["next"].as_str().unwrap();
    let rest = node.all(&format!("/query/entries?cursor={next}"), "entries", 1000).await;
    let of = |rows: &[Value]| rows.iter().map(|row| row["entry"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(of(&rest), of(&whole[5..]));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_questions_are_refused_in_words() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    node.settled().await;
    for (path, word) in [
        ("/query/entries?limit=0", "1 to 1000"),
        ("/query/entries?limit=1001", "1 to 1000"),
        ("/query/entries?limit=18446744073709551616", "query"),
        ("/query/entries?limit=101&proofs=true", "at most 100"),
        ("/query/entries?cursor=h1.1", "no cursor"),
        ("/query/entries?cursor=e1", "no cursor"),
        ("/query/entries?cursor=e1.1%20OR%201=1", "no cursor"),
        ("/query/agreements?cursor=a99999999999999999999.mo-1", "no cursor"),
        ("/query/entries?state=open", "state"),
        ("/query/agreements?kind=x", "kind"),
        ("/query/entries?from=yesterday", "RFC 3339"),
        ("/query/entries?last=1mo&from=0", "together"),
        ("/query/entries?last=soon", "last="),
        ("/query/entries?from=2&to=1", "swap them"),
        ("/query/aggregates/agreements?from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "swap them"),
        ("/query/entries?kind=triger", "`anchor`, `batch`"),
        ("/query/entries?by=fault", "by"),
        ("/query/entries?colour=red", "colour"),
        ("/query/aggregates/agreements?by=a'", "nothing to group by"),
        ("/query/aggregates/agreements?by=a,b,c,d,e", "at most four"),
        ("/query/aggregates/agreements?window=ajar", "opened"),
    ] {
        match node.client.get_json(path).await {
            Err(RequestError::Refused { status: 400, text, .. }) => assert!(text.contains(word), "{path}: {text}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!(node.get("/query/devices/nobody/history").await["events"], serde_json::json!([]));
    let far = node.client.get_json("/query/entries?min_height=999999").await;
    assert!(matches!(far, Err(RequestError::NotNow { code, .. }) if code == "projection-behind"));
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_damaged_and_foreign_files_are_made_anew() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let file = dir.path().join("data/projection.sqlite");
    let node = Served::new(&plant, dir.path(), sqlite(dir.path())).await;
    Workload::new(&plant, &node.engine, &node.clock).round(0).await;
    let head = node.settled().await;
    // Taken away under a running node: it notices, and the next block is there again.
    tally_projection::remove(&file).unwrap();
    let number = 3;
    node.engine.submit(plant.worn(3, number + 100, "later").unwrap()).await.unwrap();
    assert!(node.settled().await > head);
    let found = node.all("/query/entries", "entries", 1000).await;
    assert_eq!(found.len() as u64, node.engine.store().head().unwrap().checkpoint.size);
    node.close().await;
    let config = &node_config(&plant, dir.path(), "data", "projection: sqlite\n");
    for change in ["garbage", "other ledger", "newer schema", "other block"] {
        match change {
            "garbage" => {
                tally_projection::remove(&file).unwrap();
                std::fs::write(&file, vec![0x55; 20_000]).unwrap();
            }
            "other ledger" => tamper(&sqlite(dir.path()), "UPDATE meta SET ledger = 'other'"),
            "newer schema" => tamper(&sqlite(dir.path()), "UPDATE meta SET schema_version = 99"),
            _ => tamper(&sqlite(dir.path()), "UPDATE meta SET checkpoint = '00'"),
        }
        let checked = check(config).unwrap();
        assert_eq!(checked.found.differences, Vec::<String>::new(), "{change}");
        assert!(checked.found.rows > 50, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_cannot_be_stops_nothing() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let nowhere = Place::Sqlite(dir.path().join("no/such/folder/projection.sqlite"));
    let node = Served::new(&plant, dir.path(), nowhere).await;
    Workload::new(&plant, &node.engine, &node.clock).round(0).await;
    assert_eq!(node.get("/agreements").await.as_array().unwrap().len(), 6);
    let status = node.get("/status").await;
    assert!(status["projection"]["fault"].as_str().unwrap().contains("no/such/folder"), "{status}");
    assert!(matches!(node.client.get_json("/query/entries").await, Err(RequestError::NotNow { .. })));
    // A running ledger is not worked on from outside.
    let config = node_config(&plant, dir.path(), "data", "projection: sqlite\n");
    assert!(matches!(rebuild(&config), Err(ProjectError::InUse)));
    node.close().await;
    let off = node_config(&plant, dir.path(), "data", "projection: off\n");
    assert!(matches!(rebuild(&off), Err(ProjectError::Off)));
}
