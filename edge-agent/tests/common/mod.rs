//! A site for tests: a fake node that speaks real HTTP and answers real receipts, a plant that replays a CSV, and an agent.

#![allow(dead_code)] // each test file uses its part

pub mod ingest;
#[path = "../../../tests/src/patience.rs"]
mod patience;
pub mod pki;
#[path = "../../../tests/src/servers/ports.rs"]
pub mod ports;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
pub use patience::PATIENCE;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_connector_api::SystemClock;
use tally_door::Listen;
use tally_edge_agent::{AgentConfig, AgentError, AgentPlant, BrokerConfig, Limits, MakeClock};
use tally_evidence::{
    Disclosure, Receipt, SignedStatement, SigningKey, StatementId, Transition, Tree, TriggerBody, leaf_hash,
};
use tally_ledger_client::{Client, NodeAddress};
use tally_model::{
    ActionName, Address, CallTemplate, ContractName, DeviceId, DeviceSpec, Encoding, Endpoint, PartyId, PointId,
    PointSpec, Priority, RuleSource, TriggerId, Unit, ValueKind,
};
use tally_rules::{Firing, Rule, recompute};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LEDGER: &str = "press-line";

pub fn agent_key() -> SigningKey {
    SigningKey::from_secret(&[3; 32]).unwrap()
}

pub fn ledger_key() -> SigningKey {
    SigningKey::from_secret(&[5; 32]).unwrap()
}

/// What the fake node does with statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    NotNow,
    /// Refuses statements of this trigger number for good.
    Refuses(u64),
    /// Does not know the agent.
    Unknown,
    /// Takes, but never answers: the connection breaks.
    Breaks,
}

struct Ledger {
    key: SigningKey,
    mood: Mood,
    tree: Tree,
    /// In order, each once.
    entries: Vec<SignedStatement>,
    submissions: usize,
}

/// The fake node. Clones share it.
#[derive(Clone)]
pub struct Node {
    ledger: Arc<Mutex<Ledger>>,
    pub address: NodeAddress,
    stop: CancellationToken,
}

impl Node {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        let node = Self::new(address);
        let (routes, stop) = (node.routes(), node.stop.clone());
        tokio::spawn(async move { axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await });
        node
    }

    pub async fn start_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let node = Self::new(format!("unix:{}", path.display()).parse().unwrap());
        let (routes, stop) = (node.routes(), node.stop.clone());
        tokio::spawn(async move { axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await });
        node
    }

    fn new(address: NodeAddress) -> Self {
        let (tree, entries) = (Tree::default(), Vec::new());
        let ledger = Ledger { key: ledger_key(), mood: Mood::Takes, tree, entries, submissions: 0 };
        Self { ledger: Arc::new(Mutex::new(ledger)), address, stop: CancellationToken::new() }
    }

    fn routes(&self) -> Router {
        let key = get(async |State(node): State<Node>| node.ledger.lock().unwrap().key.public().to_pem().unwrap());
        Router::new()
            .route("/entries", post(submit))
            .route("/key.pem", key)
            .route("/events", get(events))
            .with_state(self.clone())
    }

    pub fn set(&self, mood: Mood) {
        self.ledger.lock().unwrap().mood = mood;
    }

    pub fn change_key(&self, key: SigningKey) {
        self.ledger.lock().unwrap().key = key;
    }

    pub fn bodies(&self) -> Vec<TriggerBody> {
        let ledger = self.ledger.lock().unwrap();
        ledger.entries.iter().map(|entry| TriggerBody::decode(&entry.payload).unwrap()).collect()
    }

    pub fn ids(&self) -> Vec<StatementId> {
        self.ledger.lock().unwrap().entries.iter().map(|entry| entry.id).collect()
    }

    pub fn submissions(&self) -> usize {
        self.ledger.lock().unwrap().submissions
    }

    /// Waits until the node has at least `count` entries.
    pub async fn wait_for(&self, count: usize) {
        wait("entries", || self.ledger.lock().unwrap().entries.len() >= count).await;
    }
}

fn problem(status: StatusCode, code: &str) -> Response {
    let body = serde_json::json!({"code": code, "detail": format!("{code} it is"), "hint": "none"});
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

async fn submit(State(node): State<Node>, body: Bytes) -> Response {
    let mut ledger = node.ledger.lock().unwrap();
    ledger.submissions += 1;
    let statement = SignedStatement::parse(&body).unwrap();
    statement.check_seal(agent_key().public()).unwrap();
    assert_eq!((statement.audience.as_str(), statement.issuer.as_str()), (LEDGER, "agent-01"));
    let number = TriggerBody::decode(&statement.payload).unwrap().number;
    match ledger.mood {
        Mood::NotNow => return problem(StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Mood::Refuses(refused) if refused == number => return problem(StatusCode::BAD_REQUEST, "body"),
        Mood::Unknown => return problem(StatusCode::FORBIDDEN, "unknown-signer"),
        _ => {}
    }
    let known = ledger.entries.iter().position(|entry| entry.id == statement.id);
    let index = known.unwrap_or_else(|| {
        ledger.tree.push(leaf_hash(&statement.id.0));
        ledger.entries.push(statement.clone());
        ledger.entries.len() - 1
    }) as u64;
    if ledger.mood == Mood::Breaks {
        return problem(StatusCode::BAD_GATEWAY, "broken");
    }
    let size = index + 1;
    let (path, root) = (ledger.tree.inclusion_path(index, size).unwrap(), ledger.tree.root_at(size).unwrap());
    let receipt = Receipt::issue(&ledger.key, LEDGER, &statement.subject, size, index, &path, &root);
    let mut headers = HeaderMap::new();
    headers.insert("tally-entry", index.into());
    (StatusCode::CREATED, headers, receipt).into_response()
}

/// Two events, then silence.
async fn events(headers: HeaderMap) -> Response {
    let event = |id: &str| {
        let event = serde_json::json!({
            "specversion": "1.0", "id": id, "source": "/ledgers/press-line", "type": "tallystick.order.opened",
            "subject": "mo-1", "data": {"device": "press-01"},
        });
        format!("id: {id}\ndata: {event}\n\n")
    };
    let text = match headers.get("last-event-id").map(|id| id.to_str().unwrap()) {
        None => event("1.0") + &event("1.1"),
        Some("1.0") => event("1.1"),
        Some(_) => ": nothing new\n\n".to_owned(),
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

/// Waits up to [`PATIENCE`].
pub async fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn point(id: &str, unit: &str) -> PointSpec {
    PointSpec::new(
        PointId::try_new(id).unwrap(),
        Address::parse_column(&format!("column:{id}")).unwrap(),
        Encoding::Auto,
        Unit::try_new(unit).unwrap(),
    )
}

pub fn device(endpoint: Endpoint) -> DeviceSpec {
    DeviceSpec {
        every: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        points: vec![point("vibration", "mm/s"), point("running", "1"), point("secret", "1")],
        ..DeviceSpec::new(DeviceId::try_new("press-01").unwrap(), endpoint)
    }
}

/// Worn above 7.1 for two readings, good again below 4.5. `secret` is read by no rule.
pub fn rule(priority: Priority) -> Arc<Rule> {
    Arc::new(Rule::compile(&rule_source("bearing-worn", priority)).unwrap())
}

pub fn rule_source(id: &str, priority: Priority) -> RuleSource {
    RuleSource {
        id: TriggerId::try_new(id).unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        when: "mean(vibration, '100ms') > 7.1 && running".into(),
        on_delay: Duration::from_millis(50),
        until: Some("mean(vibration, '100ms') < 4.5".into()),
        priority,
        disclose: Vec::new(),
        call: Some(CallTemplate {
            contract: ContractName::try_new("maintenance-order").unwrap(),
            action: ActionName::try_new("report").unwrap(),
            with: [("peak".to_owned(), "max(vibration, '100ms')".to_owned())].into(),
        }),
        checks: None,
        points: [
            (PointId::try_new("vibration").unwrap(), (Some(ValueKind::Float), Unit::try_new("mm/s").unwrap())),
            (PointId::try_new("running").unwrap(), (Some(ValueKind::Bool), Unit::one())),
        ]
        .into(),
    }
}

/// Fine for a while, worn for a while, fine again; a round takes 1.2 s.
pub fn recording() -> String {
    let mut csv = String::from("time,vibration,running,secret\n");
    for row in 0..24 {
        let vibration = if (8..16).contains(&row) { 9.0 + f64::from(row) / 10.0 } else { 2.0 + f64::from(row) / 10.0 };
        csv.push_str(&format!("{:.2},{vibration},true,{}\n", f64::from(row) * 0.05, row * 7));
    }
    csv
}

/// The computer's wall clock, which a test may set.
#[derive(Clone, Default)]
pub struct Wall(Arc<AtomicI64>);

impl Wall {
    /// Sets it by so many microseconds.
    pub fn step(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn now(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        i64::try_from(real).unwrap() + self.0.load(Ordering::Relaxed)
    }

    pub fn clock(&self) -> MakeClock {
        let wall = self.clone();
        Box::new(move |latest| Arc::new(SystemClock::on_wall(Box::new(move || wall.now()), latest)))
    }
}

/// A folder with everything an agent needs.
pub struct Site {
    pub dir: tempfile::TempDir,
    pub config: AgentConfig,
    pub plant: AgentPlant,
}

impl Site {
    pub fn new(node: &NodeAddress) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("press.csv");
        std::fs::write(&file, recording()).unwrap();
        let config = AgentConfig {
            name: PartyId::try_new("agent-01").unwrap(),
            ledger: LEDGER.to_owned(),
            mapping: PathBuf::from("unused"),
            data: dir.path().join("data"),
            key: agent_key().into(),
            pki: dir.path().join("pki"),
            node: node.clone(),
            ledger_key: None,
            broker: None,
            access: tally_ledger_client::Access::default(),
            listen: vec![Listen::Unix(dir.path().join("agent.sock"))],
            listen_tls: None,
            gate: tally_edge_agent::gate::GateSetting::default(),
            anchors: None,
            batch: None,
            limits: Limits::default(),
        };
        let plant = AgentPlant {
            name: "press-line".to_owned(),
            devices: vec![device(Endpoint::Replay { file })],
            rules: vec![rule(Priority::High)],
        };
        Self { dir, config, plant }
    }

    pub fn with_broker(mut self, broker: BrokerConfig) -> Self {
        self.config.broker = Some(broker);
        self
    }

    /// A client of the agent's first socket.
    pub fn client(&self) -> Client {
        Client::new(self.config.listen[0].to_string().parse().unwrap())
    }

    pub fn start(&self) -> Agent {
        let stop = CancellationToken::new();
        let task = tokio::spawn(tally_edge_agent::run_plant(self.config.clone(), self.plant.clone(), stop.clone()));
        Agent { stop, task, client: self.client() }
    }

    /// The same by another clock.
    pub fn start_by(&self, clock: MakeClock) -> Agent {
        let (stop, config, plant) = (CancellationToken::new(), self.config.clone(), self.plant.clone());
        let task = tokio::spawn(tally_edge_agent::run_plant_by(config, plant, clock, stop.clone()));
        Agent { stop, task, client: self.client() }
    }
}

/// A running agent.
pub struct Agent {
    pub stop: CancellationToken,
    pub task: JoinHandle<Result<(), AgentError>>,
    pub client: Client,
}

impl Agent {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub async fn status(&self) -> serde_json::Value {
        self.client.get_json("/status").await.unwrap()
    }

    /// Stops it in the middle of whatever it does, as a crash would; returns when another one can begin.
    pub async fn kill(self, site: &Site) {
        self.task.abort();
        let _ = self.task.await;
        // Its thread notices that the channel is closed, its door that nobody keeps it open.
        let (vault, socket) = (site.config.data.join("vault"), site.dir.path().join("agent.sock"));
        wait("free site", || !socket.exists() && tally_journal::DirStorage::open(vault.clone()).is_ok()).await;
    }

    /// Waits until a counter of the status is at least `value`.
    pub async fn wait_for(&self, counter: &str, value: u64) -> serde_json::Value {
        self.until(counter, |status| status["counters"][counter].as_u64().unwrap() >= value).await
    }

    /// Waits until the status is as expected.
    pub async fn until(&self, what: &str, expected: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = self.client.get_json("/status").await {
                if expected(&status) {
                    return status;
                }
                assert!(Instant::now() < deadline, "{what} is not as expected within {PATIENCE:?}: {status:#}");
            }
            assert!(Instant::now() < deadline, "no status within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Every claim of a trigger follows from its disclosure, for a reader who knows nothing but the rule.
pub fn check_disclosure(body: &TriggerBody, disclosure: &[u8], rule: &Rule) {
    let disclosure = Disclosure::decode(disclosure).unwrap();
    let claim = &body.readings;
    assert_eq!((disclosure.first, disclosure.last), (claim.first, claim.last));
    assert_eq!(disclosure.root().unwrap(), claim.root);
    let readings = disclosure.readings(&claim.points).unwrap();
    assert!(readings.iter().all(|reading| reading.sample.point.as_str() != "secret"));
    assert!(disclosure.hidden() > 0);
    let firing = Firing {
        transition: match body.transition {
            Transition::Raised => tally_rules::Transition::Raised,
            Transition::Cleared => tally_rules::Transition::Cleared,
        },
        at: body.at,
        first: claim.first,
        last: claim.last,
        with: body.call.as_ref().map(|call| call.with.clone()).unwrap_or_default(),
    };
    recompute(rule, &readings, &firing).unwrap();
}

/// Numbers without gaps from 0, raised and cleared in turn, readings that only go forward.
pub fn check_story(bodies: &[TriggerBody]) {
    for (place, body) in bodies.iter().enumerate() {
        assert_eq!(body.number, place as u64, "numbers have no gaps and none comes twice");
        let expected = if place % 2 == 0 { Transition::Raised } else { Transition::Cleared };
        assert_eq!(body.transition, expected, "raised and cleared take turns (trigger {place})");
        assert_eq!(body.call.is_some(), body.transition == Transition::Raised);
    }
    for pair in bodies.windows(2) {
        assert!(pair[0].readings.last < pair[1].readings.last && pair[0].at < pair[1].at);
    }
}
