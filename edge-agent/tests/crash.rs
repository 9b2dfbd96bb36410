//! Power cuts, kills and failing disks at random moments, on disks in memory that lose everything unsynced. After every
//! life the whole story is compared with a reference that never crashed: rules over the readings that survived.
//!
//! Seeds are printed on failure; `TALLY_TEST_SEED=…` runs one of them alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, agent_key};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tally_connector_api::{Batch, Clock, ClockHealth, HistoricalBatch};
use tally_edge_agent::disclose::disclose;
use tally_edge_agent::error::StoreError;
use tally_edge_agent::ingest::{Ingest, VaultLimits};
use tally_edge_agent::receipts::Receipted;
use tally_edge_agent::seal::{BatchLimits, Sealed, Sealer};
use tally_edge_agent::status::Status;
use tally_edge_agent::store::{Journals, Sizes, Stores, open_journal};
use tally_edge_agent::vault::Keeping;
use tally_edge_agent::watch::Watches;
use tally_evidence::{Disclosure, Hash, RemoteKey, SIGNATURE_BYTES, SealFault, SealingKey, Transition, VerifyingKey};
use tally_journal::Options;
use tally_journal::testing::{DiskFault, MemStorage, Random};
use tally_model::{
    ClockState, DeviceId, LinkProtocol, LinkSecurity, NoValue, Origin, PartyId, PointId, Priority, Quality, Reading,
    RuleSource, Sample, Timestamp, TriggerId, Unit, Value, ValueKind,
};
use tally_rules::{Firing, Rule, Watch, recompute};
use tokio::sync::watch;

const LIVES: usize = 6;
const GROUPS_PER_LIFE: usize = 25;
const SEEDS: u64 = 40;

fn source(id: &str, device: &str, when: &str, until: Option<&str>, on_delay_ms: u64) -> Arc<Rule> {
    let mut source = RuleSource {
        id: TriggerId::try_new(id).unwrap(),
        device: DeviceId::try_new(device).unwrap(),
        when: when.into(),
        on_delay: Duration::from_millis(on_delay_ms),
        until: until.map(str::to_owned),
        priority: Priority::High,
        disclose: Vec::new(),
        call: None,
        checks: None,
        points: BTreeMap::new(),
    };
    for point in ["a", "b"] {
        source.points.insert(PointId::try_new(point).unwrap(), (Some(ValueKind::Float), Unit::one()));
    }
    Arc::new(Rule::compile(&source).unwrap())
}

fn rules() -> Vec<Arc<Rule>> {
    vec![
        source("high", "d1", "a > 7.0", None, 0),
        source("worn", "d1", "mean(a, '300ms') > 5.5 && b > 2.0", Some("mean(a, '300ms') < 4.5"), 150),
        source("last", "d2", "last(b) > 6.0 && a > 3.0", Some("last(b) < 5.0"), 0),
        // Both conditions may hold at once: clearing then ends a run that would else go on.
        source("overlapping", "d2", "mean(a, '300ms') > 4.0", Some("b > 4.0"), 200),
        source("rising", "d2", "max(a, '200ms') - min(a, '200ms') > 4.0", None, 100),
    ]
}

struct Disks {
    vault: MemStorage,
    outbox: MemStorage,
    receipts: MemStorage,
    dead: MemStorage,
    unsealed: MemStorage,
    /// Whether the token with the key is out.
    pulled: Arc<AtomicBool>,
    /// Every other plant seals its triggers together.
    batch: Option<BatchLimits>,
}

impl Disks {
    fn new(seed: u64) -> Self {
        let new = MemStorage::new;
        let limits = BatchLimits { triggers: 3, within: Duration::ZERO };
        let batch = (seed % 2 == 1).then_some(limits);
        let pulled = Arc::default();
        Self { vault: new(), outbox: new(), receipts: new(), dead: new(), unsealed: new(), pulled, batch }
    }

    /// The next life: after a power cut, or after the process alone was killed.
    fn again(&self, random: &mut Random) -> Self {
        let power_cut = random.below(2) == 0;
        let mut next = |disk: &MemStorage| if power_cut { disk.power_cut(random.bits()) } else { disk.restart() };
        let (vault, outbox) = (next(&self.vault), next(&self.outbox));
        let (receipts, dead, unsealed) = (next(&self.receipts), next(&self.dead), next(&self.unsealed));
        Self { vault, outbox, receipts, dead, unsealed, pulled: self.pulled.clone(), batch: self.batch }
    }

    fn journals(&self) -> Result<Journals<MemStorage>, StoreError> {
        // Small segments, so that they begin and end all the time.
        let options = |bytes| Options { segment_bytes_max: bytes, ..Options::default() };
        Ok(Journals {
            vault: open_journal("vault", self.vault.clone(), options(3_000))?,
            outbox: open_journal("outbox", self.outbox.clone(), options(2_000))?,
            receipts: open_journal("receipts", self.receipts.clone(), options(4_000))?,
            unsealed: open_journal("unsealed triggers", self.unsealed.clone(), options(2_000))?,
            dead: open_journal("dead letters", self.dead.clone(), options(4_000))?,
            secret: [9; 32].into(),
        })
    }
}

/// The agent's key in a token that can be pulled out between any two signatures.
struct Token(Arc<AtomicBool>);

impl RemoteKey for Token {
    fn public(&self) -> Result<VerifyingKey, SealFault> {
        self.look().map(|()| agent_key().public().clone())
    }

    fn look(&self) -> Result<(), SealFault> {
        let is_out = self.0.load(Ordering::Relaxed);
        if is_out { Err(SealFault::Away("pulled out".to_owned())) } else { Ok(()) }
    }

    fn sign_digest(&self, digest: &Hash) -> Result<[u8; SIGNATURE_BYTES], SealFault> {
        self.look().map(|()| agent_key().sign_digest(digest).unwrap())
    }
}

/// Never says the same twice of how good it is: what a restart seals anew differs from what was lost.
#[derive(Default)]
struct NoClock(AtomicU64);

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn health(&self) -> ClockHealth {
        let error_us = self.0.fetch_add(1, Ordering::Relaxed);
        ClockHealth { wall: ClockState::Synchronised { error_us }, ..ClockHealth::default() }
    }
}

/// What must survive, seen from outside.
#[derive(Default)]
struct World {
    now: i64,
    values: BTreeMap<(String, String), f64>,
    /// Every reading as the vault should have numbered it.
    readings: BTreeMap<String, Vec<Reading>>,
    /// Of each of these, what the device called itself; nothing when it was not heard.
    said: BTreeMap<String, Vec<Option<String>>>,
    /// What the ledger has, by number. Never two different statements under one number.
    ledger: BTreeMap<u64, Sealed>,
    /// Triggers that were safe by the agent's word.
    promised: u64,
    /// Most that waited for the key at a time.
    waited: u64,
}

impl World {
    /// A batch of random readings, and what the vault must make of it.
    fn batch(&mut self, random: &mut Random) -> Batch {
        let device = if random.below(2) == 0 { "d1" } else { "d2" };
        let mut samples = Vec::new();
        for _ in 0..=random.below(4) {
            // Sometimes the clock goes back: the vault must not.
            self.now += if random.below(20) == 0 { -500_000 } else { i64::try_from(random.below(60_000)).unwrap() };
            let point = if random.below(3) == 0 { "b" } else { "a" };
            let value = self.values.entry((device.to_owned(), point.to_owned())).or_insert(5.0);
            #[allow(clippy::cast_precision_loss)]
            let step = random.below(4_000) as f64 / 1_000.0 - 2.0;
            *value = (*value + step).clamp(0.0, 10.0);
            let bad = random.below(12) == 0;
            samples.push(Sample {
                seal: None,
                point: PointId::try_new(point).unwrap(),
                outcome: if bad { Err(NoValue::Timeout) } else { Ok(Value::Float(*value)) },
                unit: Unit::one(),
                quality: if bad { Quality::Bad } else { Quality::Good },
                source_time: Timestamp::from_micros(self.now),
                received: Timestamp::from_micros(self.now),
            });
        }
        let id = DeviceId::try_new(device).unwrap();
        let kept = self.readings.entry(device.to_owned()).or_default();
        for sample in &samples {
            let mut sample = sample.clone();
            sample.received = kept.last().map_or(sample.received, |last| last.sample.received.max(sample.received));
            kept.push(Reading { device: id.clone(), number: kept.len() as u64, sample });
        }
        // From one of three devices under this name, or told during an outage.
        let identity = ["one", "two", "three"].get(random.below(8)).map(ToString::to_string);
        self.said.entry(device.to_owned()).or_default().extend(samples.iter().map(|_| identity.clone()));
        let link = LinkSecurity::none(LinkProtocol::Modbus);
        let origin = identity.map(|identity| Arc::new(Origin { link, identity: Some(identity) }));
        Batch { device: id, samples, origin }
    }

    /// What the device called itself when it gave this reading.
    fn said_at(&self, device: &DeviceId, number: u64) -> Option<&String> {
        self.said.get(device.as_str())?.get(usize::try_from(number).ok()?)?.as_ref()
    }

    /// What a device had recorded during an outage: values that every rule would fire on, at times long gone. Nothing may
    /// come of it.
    fn recorded(&self, random: &mut Random) -> HistoricalBatch {
        let sample = |ago: usize| Sample {
            seal: None,
            point: PointId::try_new("a").unwrap(),
            outcome: Ok(Value::Float(if ago.is_multiple_of(2) { 100.0 } else { -100.0 })),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: Timestamp::from_micros(self.now - i64::try_from(ago).unwrap() * 10_000),
            received: Timestamp::from_micros(self.now),
        };
        let device = DeviceId::try_new(if random.below(2) == 0 { "d1" } else { "d2" }).unwrap();
        HistoricalBatch { device, samples: (0..=random.below(8)).rev().map(sample).collect() }
    }

    /// What rules say that never crashed, for each trigger: which way, and at which reading.
    fn reference(&self) -> HashMap<String, Vec<(Transition, u64)>> {
        let mut said = HashMap::new();
        for rule in rules() {
            let mut watch = Watch::new(rule.clone());
            let readings = self.readings.get(rule.source().device.as_str()).map(Vec::as_slice).unwrap_or_default();
            let read = |reading: &Reading| {
                readings
                    .iter()
                    .take_while(|r| r.number <= reading.number)
                    .map(|r| r.sample.point.clone())
                    .collect::<std::collections::BTreeSet<_>>()
            };
            let mut firings = Vec::new();
            for reading in readings {
                let Some(firing) = watch.observe(reading) else { continue };
                // Nobody could check a trigger of a rule whose points were not all read.
                if !rule.reads().is_subset(&read(reading)) {
                    watch.restore_raised(false);
                    continue;
                }
                firings.push((transition(&firing), firing.last));
            }
            said.insert(rule.source().id.to_string(), firings);
        }
        said
    }
}

fn transition(firing: &Firing) -> Transition {
    match firing.transition {
        tally_rules::Transition::Raised => Transition::Raised,
        tally_rules::Transition::Cleared => Transition::Cleared,
    }
}

const SIZES: Sizes = Sizes { vault_bytes_max: 1 << 30, outbox_bytes_max: 1 << 30 };

fn open(disks: &Disks) -> Result<Ingest<MemStorage>, StoreError> {
    let mut watches = Watches::new(&rules());
    let (agent, ledger) = (PartyId::try_new("agent-01").unwrap(), LEDGER.to_owned());
    let key = SealingKey::remote(Arc::new(Token(disks.pulled.clone())));
    let sealer = Sealer { agent, ledger, key };
    let (stores, _) = Stores::recover(disks.journals()?, SIZES, &mut watches, &sealer)?;
    let (sealed, _) = watch::channel(0);
    let limits = VaultLimits { days: 90, bytes_max: 1 << 30 };
    let (status, clock) = (Arc::new(Status::default()), Arc::new(NoClock::default()));
    let (_, changes) = tokio::sync::mpsc::channel(1);
    let (_, late) = tokio::sync::mpsc::channel(1);
    Ok(Ingest {
        stores: Arc::new(stores),
        watches,
        sealer,
        status,
        sealed,
        live: None,
        clock,
        limits,
        changes,
        late,
        batch: disks.batch,
    })
}

/// What the submit task does, at random.
fn submit(ingest: &Ingest<MemStorage>, world: &mut World, random: &mut Random) -> Result<(), StoreError> {
    let stores = &ingest.stores;
    for _ in 0..random.below(4) {
        let Some(sealed) = stores.outbox().next()? else { break };
        let known = world.ledger.entry(sealed.number).or_insert_with(|| sealed.clone());
        assert_eq!(*known, sealed, "two statements under number {}", sealed.number);
        if random.below(8) == 0 {
            return Ok(()); // the answer got lost
        }
        let receipted = Receipted { sealed, entry: 0, refusal: None, receipt: vec![1; 200] };
        stores.receipts().keep(&receipted)?;
        stores.outbox().done(&receipted.sealed);
    }
    if random.below(3) == 0 {
        stores.receipts().sync()?;
        stores.outbox().discard(u64::MAX)?;
    }
    Ok(())
}

fn keep_house(ingest: &mut Ingest<MemStorage>, world: &World, random: &mut Random) -> Result<(), StoreError> {
    if random.below(3) == 0 {
        ingest.sync()?;
    }
    if random.below(6) == 0 {
        let mut vault = ingest.stores.vault();
        vault.snapshot(true)?;
        vault.sync()?;
    }
    if random.below(10) == 0 {
        let since = Timestamp::from_micros(world.now).minus(Duration::from_millis(500));
        let unsealed = ingest.stores.unsealed().oldest_place();
        let unsent = ingest.stores.outbox().oldest_place().into_iter().chain(unsealed).min();
        ingest.stores.vault().retain(Keeping { since, bytes_max: 10_000, unsent })?;
        ingest.stores.receipts().retain(since)?;
    }
    Ok(())
}

fn sabotage(disks: &Disks, random: &mut Random) {
    let disk = [&disks.vault, &disks.outbox, &disks.receipts, &disks.unsealed][random.below(4)];
    let fault = [DiskFault::Io, DiskFault::NoSpace, DiskFault::PowerOff][random.below(3)];
    disk.fail_operation(1 + random.bits() % 60, fault);
}

/// Triggers that are on disk: sealed, or waiting for the key.
fn safe(ingest: &Ingest<MemStorage>) -> u64 {
    ingest.stores.outbox().next_number() + ingest.stores.unsealed().count()
}

/// One life: from opening to death or a clean stop.
fn live(disks: &Disks, world: &mut World, random: &mut Random) -> Result<(), StoreError> {
    let mut ingest = open(disks)?;
    // Whatever was lost of the unsynced end is lost; the numbers go on from there.
    for (device, readings) in &mut world.readings {
        let next = ingest.stores.vault().next_number(&DeviceId::try_new(device).unwrap());
        assert!(next <= readings.len() as u64);
        readings.truncate(usize::try_from(next).unwrap());
        world.said.entry(device.clone()).or_default().truncate(readings.len());
    }
    let found = safe(&ingest);
    assert!(found >= world.promised, "{} triggers were safe, {found} are there", world.promised);
    if random.below(3) == 0 {
        sabotage(disks, random);
    }
    for _ in 0..GROUPS_PER_LIFE {
        let group: Vec<_> = (0..=random.below(3)).map(|_| world.batch(random)).collect();
        ingest.take(group)?;
        if random.below(4) == 0 {
            ingest.take_late([world.recorded(random)])?;
        }
        world.promised = safe(&ingest);
        world.waited = world.waited.max(ingest.stores.unsealed().count());
        if random.below(5) == 0 {
            disks.pulled.fetch_not(Ordering::Relaxed);
        }
        submit(&ingest, world, random)?;
        keep_house(&mut ingest, world, random)?;
    }
    Ok(())
}

/// After the last life: everything is submitted, and everything is looked at.
/// Gives the number of triggers that could be proved.
fn check(disks: &Disks, world: &mut World) -> usize {
    disks.pulled.store(false, Ordering::Relaxed);
    let mut ingest = open(disks).unwrap();
    ingest.catch_up().unwrap();
    assert_eq!(ingest.stores.unsealed().count(), 0);
    for (device, readings) in &mut world.readings {
        let next = ingest.stores.vault().next_number(&DeviceId::try_new(device).unwrap());
        readings.truncate(usize::try_from(next).unwrap());
    }
    loop {
        let Some(sealed) = ingest.stores.outbox().next().unwrap() else { break };
        let known = world.ledger.entry(sealed.number).or_insert_with(|| sealed.clone());
        assert_eq!(*known, sealed);
        ingest.stores.outbox().done(&sealed);
    }
    let numbers: Vec<_> = world.ledger.keys().copied().collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let mut found: HashMap<String, Vec<_>> =
        rules().iter().map(|rule| (rule.source().id.to_string(), vec![])).collect();
    for sealed in world.ledger.values() {
        let body = sealed.body().unwrap();
        found.get_mut(body.trigger.as_str()).unwrap().push((body.transition, body.readings.last));
    }
    assert_eq!(found, world.reference());
    check_watches(&ingest, &found);
    check_evidence(&ingest, world)
}

fn check_watches(ingest: &Ingest<MemStorage>, found: &HashMap<String, Vec<(Transition, u64)>>) {
    for watch in ingest.watches.iter() {
        let last = found[watch.rule().source().id.as_str()].last();
        assert_eq!(watch.is_raised(), last.is_some_and(|(way, _)| *way == Transition::Raised));
    }
}

/// Whatever the vault still keeps can be proved.
fn check_evidence(ingest: &Ingest<MemStorage>, world: &World) -> usize {
    let mut proved = 0;
    for sealed in world.ledger.values() {
        let Ok(disclosure) = disclose(&ingest.stores, sealed) else { continue };
        let (body, disclosure) = (sealed.body().unwrap(), Disclosure::decode(&disclosure).unwrap());
        assert_eq!(disclosure.root().unwrap(), body.readings.root);
        let rule = rules().into_iter().find(|rule| rule.source().id == body.trigger).unwrap();
        let readings = disclosure.readings(&body.readings.points).unwrap();
        let (first, last, at) = (body.readings.first, body.readings.last, body.at);
        let transition = match body.transition {
            Transition::Raised => tally_rules::Transition::Raised,
            Transition::Cleared => tally_rules::Transition::Cleared,
        };
        recompute(&rule, &readings, &Firing { transition, at, first, last, with: BTreeMap::new() }).unwrap();
        for (number, said) in (first..=last).filter_map(|number| Some((number, world.said_at(&body.device, number)?))) {
            let told = body.origins.iter().rfind(|stretch| stretch.from <= number).unwrap();
            assert_eq!(told.origin.identity.as_ref(), Some(said), "reading {number}");
        }
        proved += 1;
    }
    proved
}

/// Deaths, triggers, how many of them were in batches and could be proved, and whether any waited for the key.
fn one_world(seed: u64) -> (usize, usize, usize, usize, bool) {
    let mut random = Random(seed);
    let (mut disks, mut world, mut deaths) = (Disks::new(seed), World::default(), 0);
    for _ in 0..LIVES {
        deaths += usize::from(live(&disks, &mut world, &mut random).is_err());
        disks = disks.again(&mut random);
    }
    let proved = check(&disks, &mut world);
    let batched = world.ledger.values().filter(|sealed| sealed.batched.is_some()).count();
    (deaths, world.ledger.len(), batched, proved, world.waited > 1)
}

#[test]
fn decisions_follow_from_the_surviving_readings_and_nothing_else() {
    if let Ok(seed) = std::env::var("TALLY_TEST_SEED") {
        one_world(seed.parse().unwrap());
        return;
    }
    let (mut deaths, mut triggers, mut batched, mut proved, mut waited) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| one_world(seed));
        let (died, sealed, together, shown, has_waited) = outcome.unwrap_or_else(|_| panic!("TALLY_TEST_SEED={seed}"));
        deaths += died;
        triggers += sealed;
        batched += together;
        proved += shown;
        waited += u64::from(has_waited);
    }
    // A test in which nothing dies and nothing fires has tested nothing.
    let words = format!(
        "{deaths} deaths, {triggers} triggers ({batched} in batches), {proved} proved, {waited} plants waited for the key"
    );
    assert!(deaths > 20 && triggers > 800 && batched > 30 && proved > 100 && waited > 10, "{words}");
    println!("{words}");
}
