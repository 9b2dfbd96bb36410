//! kill -9 of agent and node at any moment, while a plant fires rules several times a second and people call contracts.
//! Afterwards everything is looked at from outside: the ledger from its first entry to its last, the agent's journals, and
//! every receipt that anybody was ever given.
//!
//! Seeded: `TALLY_TEST_SEED=… cargo test -p tally-tests --test kill` chooses the moments of an earlier run again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_evidence::cbor::{int, text};
use tally_evidence::{Checkpoint, StatementId, Transition};
use tally_journal::{Journal, Options};
use tally_ledger_client::SubmitError;
use tally_tests::{Chain, Entry, Party, Process, Simulator, Site, eventually, free_port, random};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The promise of the issue.
const KILLS_MIN: u32 = 50;
/// The storm ends when both are reached and all of [`Seen`] came to pass, so that it is a storm on a slow machine too.
const STORM_MIN: Duration = Duration::from_secs(30);
/// Something is wrong when it is still not over.
const STORM_MAX: Duration = Duration::from_secs(600);
/// After so many strikes the plant is left alone until something comes of it: else a machine that is hardly up between two of them would
/// get nowhere.
const LULL_EVERY: u32 = 8;

const TRIGGERS_MIN: usize = 100;

const MACHINES: usize = 3;
const BEATS: usize = 4;

fn line(port: u16) -> String {
    let mut yaml = "plant: line\ndevices:\n".to_owned();
    let mut triggers = "triggers:\n".to_owned();
    for machine in 1..=MACHINES {
        yaml += &format!(
            "  - id: press-0{machine}\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit={machine}\"\n    every: 30ms\n    \
             points:\n      - {{id: worn, at: coil:0, unit: \"1\"}}\n      - {{id: load, at: holding:0, type: f32, unit: \"%\"}}\n"
        );
        let call =
            |action| format!("call: {{contract: maintenance-order, action: {action}, with: {{fault: \"'wear'\"}}}}");
        triggers += &format!("  - {{id: worn-{machine}, device: press-0{machine}, when: worn, {}}}\n", call("report"));
        triggers +=
            &format!("  - {{id: well-{machine}, device: press-0{machine}, when: \"!worn\", {}}}\n", call("confirm"));
    }
    yaml +=
        &format!("  - id: drum\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=9\"\n    every: 30ms\n    points:\n");
    for beat in 0..BEATS {
        yaml += &format!("      - {{id: b{beat}, at: coil:{beat}, unit: \"1\"}}\n");
        let priority = if beat == 0 { "critical" } else { "medium" };
        triggers += &format!("  - {{id: beat-{beat}, device: drum, when: b{beat}, priority: {priority}}}\n");
    }
    yaml + &triggers
}

fn simulation(port: u16) -> String {
    let mut yaml = "devices:\n".to_owned();
    let mut device = |id: String, unit: usize, signals: String| {
        yaml +=
            &format!("  - id: {id}\n    serve: \"modbus+tcp://127.0.0.1:{port}?unit={unit}\"\n    signals:\n{signals}");
    };
    for machine in 1..=MACHINES {
        let signals = "      - {id: worn, at: coil:0, from: {constant: false}}\n      \
                       - {id: load, at: holding:0, type: f32, from: {sine: {mean: 40, amplitude: 15, period: 2s}}}\n";
        device(format!("press-0{machine}"), machine, signals.to_owned());
    }
    let beats = (0..BEATS).map(|beat| format!("      - {{id: b{beat}, at: coil:{beat}, from: {{constant: false}}}}\n"));
    device("drum".to_owned(), 9, beats.collect());
    yaml
}

/// What has come to pass on the ledger so far.
#[derive(Debug, Default)]
struct Seen {
    triggers: usize,
    rules: BTreeSet<(String, String)>,
    opened: BTreeSet<String>,
    paid: BTreeSet<String>,
}

impl Seen {
    fn note(&mut self, entry: &Entry) {
        if let Some(body) = entry.trigger("agent-01") {
            self.triggers += 1;
            self.rules.insert((body.device.to_string(), body.trigger.to_string()));
        }
        for (kind, subject) in &entry.events {
            match kind.as_str() {
                "agreement.opened" => self.opened.insert(subject.clone()),
                "payment.made" if self.opened.contains(subject) => self.paid.insert(subject.clone()),
                _ => continue,
            };
        }
    }

    /// Enough of everything that is looked at afterwards.
    fn is_storm(&self) -> bool {
        let is_every_rule = self.rules.len() == BEATS + 2 * MACHINES;
        self.triggers > TRIGGERS_MIN && is_every_rule && self.opened.len() > MACHINES && !self.paid.is_empty()
    }
}

/// Something somebody was told by node or agent, and may rely on for ever.
type Receipts = Arc<Mutex<BTreeMap<StatementId, Vec<u8>>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let seed = seed();
    eprintln!("TALLY_TEST_SEED={seed}");
    let port = free_port();
    let site = Arc::new(Site::new(&line(port), None).await);
    // The orders of a whole storm are more than the sample site has money for.
    site.edit("genesis.yaml", "amount: 5000000}", "amount: 5000000000}");
    let sim = Simulator::start(&site.outside(), &simulation(port)).await;
    let plant = Plant::start(sim);
    let mut pair =
        Pair { node: site.start_node().await, agent: site.start_agent().await, kills: 0, site: Arc::clone(&site) };
    let (receipts, seen) = (Receipts::default(), Arc::<Mutex<Seen>>::default());
    let actors = vec![
        tokio::spawn(drum(plant.clone(), seed)),
        tokio::spawn(technicians(Arc::clone(&site), plant.clone(), Arc::clone(&receipts))),
        tokio::spawn(payer(Arc::clone(&site), Arc::clone(&receipts))),
        tokio::spawn(collector(Arc::clone(&site), Arc::clone(&receipts), Arc::clone(&seen))),
    ];
    let began = Instant::now();
    let mut next = random(seed);
    for strike in 1.. {
        if pair.kills >= KILLS_MIN && began.elapsed() >= STORM_MIN && seen.lock().unwrap().is_storm() {
            break;
        }
        assert!(
            began.elapsed() < STORM_MAX,
            "{} kills, and only this came of it: {:#?}",
            pair.kills,
            seen.lock().unwrap()
        );
        pair.strike(&mut next).await;
        if strike % LULL_EVERY == 0 {
            lull(&seen).await;
        }
        for actor in &actors {
            assert!(!actor.is_finished(), "an actor ended early: see above");
        }
    }
    eprintln!("{} kills in {:.1?}", pair.kills, began.elapsed());
    calm(&site, &actors).await;
    examine(&site, &plant, &receipts, pair).await;
}

/// Waits for some more triggers on the ledger.
async fn lull(seen: &Mutex<Seen>) {
    let before = seen.lock().unwrap().triggers;
    eventually("ten more triggers on the ledger", async || {
        (seen.lock().unwrap().triggers >= before + 10).then_some(())
    })
    .await;
}

fn seed() -> u64 {
    match std::env::var("TALLY_TEST_SEED") {
        Ok(seed) => seed.parse().expect("TALLY_TEST_SEED is a number"),
        Err(_) => u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap(),
    }
}

/// The two processes that are killed.
struct Pair {
    node: Process,
    agent: Process,
    kills: u32,
    site: Arc<Site>,
}

impl Pair {
    /// Kills one or both after a while, leaves it dead for a while, and starts it again, sometimes only to kill it while it
    /// is starting.
    async fn strike(&mut self, next: &mut impl FnMut() -> u64) {
        self.must_run();
        sleep(Duration::from_millis(next() % 700)).await;
        let victims = next() % 5;
        let (strikes_agent, strikes_node) = (victims != 1 && victims != 3, victims != 0 && victims != 2);
        if strikes_agent {
            self.agent.kill().await;
            self.kills += 1;
        }
        if strikes_node {
            self.node.kill().await;
            self.kills += 1;
        }
        sleep(Duration::from_millis(next() % 150)).await;
        if strikes_node {
            self.node = self.site.spawn("node");
        }
        if strikes_agent {
            self.agent = self.site.spawn("agent");
        }
        // Most of the time they get ready; else the next strike hits them while they open their journals.
        if !next().is_multiple_of(3) {
            self.site.node_ready(&mut self.node).await;
            self.site.agent_live(&mut self.agent).await;
        }
    }

    /// Neither may end by itself: not because of what it finds on disk, not because the other is gone.
    fn must_run(&mut self) {
        for process in [&mut self.node, &mut self.agent] {
            assert!(process.is_running(), "it ended by itself{}", process.tail());
        }
    }
}

/// Commands to the simulator, from several actors; and what each signal was set to last.
#[derive(Clone)]
struct Plant {
    commands: mpsc::Sender<String>,
    state: Arc<Mutex<BTreeMap<(String, String), bool>>>,
}

impl Plant {
    fn start(mut sim: Simulator) -> Self {
        let (commands, mut receiver) = mpsc::channel::<String>(16);
        tokio::spawn(async move {
            while let Some(command) = receiver.recv().await {
                sim.tell(&command).await;
            }
        });
        Self { commands, state: Arc::default() }
    }

    async fn set(&self, device: &str, signal: &str, value: bool) {
        self.commands.send(format!("set {device} {signal} {value}")).await.unwrap();
        self.state.lock().unwrap().insert((device.to_owned(), signal.to_owned()), value);
    }

    fn is(&self, device: &str, signal: &str) -> bool {
        self.state.lock().unwrap().get(&(device.to_owned(), signal.to_owned())).copied().unwrap_or(false)
    }
}

/// Toggles the coils of the drum, each long enough to be read, so that triggers fire all the time.
async fn drum(plant: Plant, seed: u64) {
    let mut next = random(seed ^ 0x5eed);
    loop {
        let signal = format!("b{}", next() % BEATS as u64);
        plant.set("drum", &signal, !plant.is("drum", &signal)).await;
        sleep(Duration::from_millis(40 + next() % 60)).await;
    }
}

/// Wears machines out and repairs them as orders demand: accept, repair, done; the machine confirms, the repair is paid.
async fn technicians(site: Arc<Site>, plant: Plant, receipts: Receipts) {
    loop {
        for machine in 1..=MACHINES {
            let device = format!("press-0{machine}");
            let Ok(orders) = site.node.get_json(&format!("/agreements?device={device}&limit=1000")).await else {
                continue;
            };
            let open = orders.as_array().unwrap().iter().find(|order| order["ended"] == false);
            let Some(order) = open else {
                plant.set(&device, "worn", true).await;
                continue;
            };
            let (id, technician) =
                (order["id"].as_str().unwrap(), order["parties"]["technician"].as_str().unwrap_or(""));
            let action = match order["state"].as_str().unwrap() {
                "reported" => "accept",
                "accepted" => "done",
                _ => {
                    plant.set(&device, "worn", false).await;
                    continue;
                }
            };
            let party = Party::of(&site, technician);
            submit(&site, &party.seal("maintenance-order", action, Some(id), &[]), &receipts).await;
        }
        sleep(Duration::from_millis(120)).await;
    }
}

/// Money moves all the time; each payment is submitted until it is acknowledged.
async fn payer(site: Arc<Site>, receipts: Receipts) {
    let acme = Party::of(&site, "acme");
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    loop {
        submit(&site, &acme.seal("accounts", "transfer", None, &args), &receipts).await;
        sleep(Duration::from_millis(50)).await;
    }
}

/// The same bytes again until they are acknowledged; then remembers what was said.
async fn submit(site: &Site, statement: &[u8], receipts: &Receipts) {
    let id = tally_evidence::SignedStatement::parse(statement).unwrap().id;
    loop {
        match site.node.submit(statement).await {
            Ok(submitted) => return remember(receipts, id, submitted.receipt),
            Err(SubmitError::NotNow { .. }) => sleep(Duration::from_millis(20)).await,
            Err(refused) => panic!("{refused}"),
        }
    }
}

/// Asks node and agent for receipts of triggers while they come and go.
async fn collector(site: Arc<Site>, receipts: Receipts, seen: Arc<Mutex<Seen>>) {
    let mut index = 0;
    loop {
        let Ok(entry) = Entry::read(&site.node, index).await else {
            sleep(Duration::from_millis(30)).await;
            continue;
        };
        let id = entry.statement.id;
        seen.lock().unwrap().note(&entry);
        remember(&receipts, id, entry.receipt);
        if entry.statement.issuer.as_str() == "agent-01"
            && let Ok(receipt) = site.agent.get_bytes(&format!("/receipts/{id}")).await
        {
            remember(&receipts, id, receipt);
        }
        index += 1;
    }
}

/// Whoever asks is told the same, byte for byte, whenever he asks.
fn remember(receipts: &Receipts, id: StatementId, receipt: Vec<u8>) {
    let mut receipts = receipts.lock().unwrap();
    let first = receipts.entry(id).or_insert_with(|| receipt.clone());
    assert_eq!(*first, receipt, "the receipt of {id} changed");
}

/// Lets the plant rest, and waits until every sealed trigger has its receipt.
async fn calm(site: &Site, actors: &[JoinHandle<()>]) {
    actors.iter().for_each(JoinHandle::abort);
    let mut last = (0, Instant::now());
    eventually("an empty outbox and a ledger at rest", async || {
        let size = site.node.get_json("/status").await.ok()?["size"].as_u64().unwrap();
        if size != last.0 {
            last = (size, Instant::now());
        }
        let status = site.agent.get_json("/status").await.ok()?;
        let rests = last.1.elapsed() > Duration::from_secs(4);
        (rests && status["counters"]["outbox_triggers"] == 0).then_some(())
    })
    .await;
}

/// Looks at everything from outside.
async fn examine(site: &Site, plant: &Plant, receipts: &Receipts, mut pair: Pair) {
    pair.must_run();
    let key = site.ledger_key();
    let chain = Chain::read(&site.node, &key).await;
    let totals = site.node.get_json("/totals").await.unwrap();
    assert!(totals.as_object().unwrap().values().all(|sum| sum == 0), "{totals}");
    let sealed = every_trigger_once(&chain);
    every_firing_once(&chain, plant);
    orders_open_once(&chain);
    for (id, receipt) in receipts.lock().unwrap().iter() {
        let entry = chain.find(id).unwrap_or_else(|| panic!("{id} was acknowledged and is not on the ledger"));
        assert_eq!(entry.receipt, *receipt, "the receipt of {id} changed");
    }
    for (entry, _) in chain.triggers("agent-01") {
        let kept = site.agent.get_bytes(&format!("/receipts/{}", entry.statement.id)).await.unwrap();
        assert_eq!(kept, entry.receipt, "the agent keeps another receipt of entry {}", entry.index);
    }
    assert_eq!(pair.agent.terminate().await.code(), Some(0), "{}", pair.agent.tail());
    journals_agree(site, sealed);
    the_log_alone_gives_the_same_state(site, &chain, pair.node).await;
    eprintln!(
        "{} triggers, {} entries, {} blocks, {} receipts remembered",
        sealed,
        chain.entries.len(),
        chain.checkpoints.len(),
        receipts.lock().unwrap().len()
    );
}

/// Numbers from 0 without gap or double, whatever order they came in; none refused as a repeat.
fn every_trigger_once(chain: &Chain) -> u64 {
    let triggers = chain.triggers("agent-01");
    let mut numbers: Vec<_> = triggers.iter().map(|(_, body)| body.number).collect();
    numbers.sort_unstable();
    let count = u64::try_from(numbers.len()).unwrap();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "trigger numbers have gaps or doubles");
    // 101 and 102: the contracts saw a trigger or its readings a second time.
    let repeats = triggers.iter().filter(|(entry, _)| matches!(entry.refusal, 101 | 102)).count();
    assert_eq!(repeats, 0, "triggers were told twice");
    count
}

/// Of each rule, raised and cleared alternate: a lost or doubled firing would break that. The last word fits the plant, and
/// later triggers stand on later readings.
fn every_firing_once(chain: &Chain, plant: &Plant) {
    let mut rules: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut triggers = chain.triggers("agent-01");
    triggers.sort_by_key(|(_, body)| body.number);
    for (_, body) in triggers {
        let rule = rules.entry((body.device.to_string(), body.trigger.to_string())).or_default();
        rule.push((body.transition, body.readings.last, body.number));
    }
    assert_eq!(rules.len(), BEATS + 2 * MACHINES, "every rule fired");
    for ((device, trigger), firings) in rules {
        let expected = [Transition::Raised, Transition::Cleared].into_iter().cycle();
        for ((transition, _, number), expected) in firings.iter().zip(expected) {
            assert_eq!(*transition, expected, "{device}/{trigger}: trigger {number} is out of turn: {firings:?}");
        }
        assert!(firings.is_sorted_by(|a, b| a.1 < b.1), "{device}/{trigger} stands on old readings: {firings:?}");
        let (signal, wanted) = match trigger.strip_prefix("beat-") {
            Some(beat) => (format!("b{beat}"), true),
            None => ("worn".to_owned(), trigger.starts_with("worn")),
        };
        let is_raised = firings.last().unwrap().0 == Transition::Raised;
        assert_eq!(
            is_raised,
            plant.is(&device, &signal) == wanted,
            "{device}/{trigger} does not stand as the plant does"
        );
    }
}

/// Each order was opened by one entry, by a raised trigger, and each such trigger opened one order at most.
fn orders_open_once(chain: &Chain) {
    let mut openers = BTreeMap::new();
    for entry in &chain.entries {
        let opened: Vec<_> = entry.events.iter().filter(|(kind, _)| kind == "agreement.opened").collect();
        assert!(opened.len() <= 1, "entry {} opened {opened:?}", entry.index);
        for (_, order) in opened {
            let before = openers.insert(order.clone(), entry.index);
            assert_eq!(before, None, "{order} was opened by two entries");
        }
    }
    let paid = chain.entries.iter().flat_map(|entry| &entry.events).filter(|(kind, _)| kind == "payment.made");
    let mut paid: Vec<_> = paid.map(|(_, order)| order).filter(|subject| openers.contains_key(*subject)).collect();
    let payments = paid.len();
    paid.sort_unstable();
    paid.dedup();
    assert_eq!(paid.len(), payments, "an order was paid twice");
    eprintln!("{} orders opened, {payments} paid", openers.len());
    assert!(openers.len() > MACHINES && payments > 0, "the storm let no order through");
}

/// The agent's own books: as many triggers sealed as are on the ledger, each with its receipt, none given up.
fn journals_agree(site: &Site, sealed: u64) {
    let next =
        |name: &str| Journal::open(site.dir().join("agent").join(name), Options::default()).unwrap().next_number();
    assert_eq!(next("outbox"), sealed, "the agent sealed another number of triggers than the ledger has");
    assert!(next("receipts") >= sealed);
    assert_eq!(next("dead-letters"), 0, "a trigger was given up");
}

/// State and indexes are rebuilt from the log: the same checkpoints, the same state.
async fn the_log_alone_gives_the_same_state(site: &Site, chain: &Chain, mut node: Process) {
    let before = Checkpoint::open(&site.node.get_bytes("/checkpoint").await.unwrap(), &site.ledger_key()).unwrap();
    let accounts = site.node.get_json("/accounts").await.unwrap();
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    let index = site.dir().join("node/state.redb");
    std::fs::remove_file(&index).unwrap();
    let mut node = site.start_node().await;
    let again = Chain::read(&site.node, &site.ledger_key()).await;
    // Terms and new calls aside (there are none), nothing has been added.
    assert_eq!(again.checkpoints[..chain.checkpoints.len()], chain.checkpoints[..]);
    let after = again.checkpoints.last().unwrap();
    assert_eq!((after.state, after.root, after.size), (before.state, before.root, before.size));
    assert_eq!(site.node.get_json("/accounts").await.unwrap(), accounts);
    for (old, new) in chain.entries.iter().zip(&again.entries) {
        assert_eq!((&old.receipt, old.refusal, &old.events), (&new.receipt, new.refusal, &new.events));
    }
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
