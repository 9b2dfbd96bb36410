//! Anchors through power cuts, kills and failing disks at random moments: whatever happens, the ledger gets every reading of the
//! vault exactly once, in numbered anchors that follow each other, and every break is declared.
//!
//! Seeds are printed on failure; `TALLY_TEST_SEED=…` runs one of them alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, agent_key};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tally_connector_api::Batch;
use tally_edge_agent::anchor::{Answer, book};
use tally_edge_agent::error::StoreError;
use tally_edge_agent::outbox;
use tally_edge_agent::receipts;
use tally_edge_agent::seal::Sealer;
use tally_edge_agent::store::{Journals, Sizes, Stores, open_journal};
use tally_edge_agent::vault;
use tally_edge_agent::watch::Watches;
use tally_evidence::{
    AnchorBody, AnchorFault, AnchorLink, Gap, GapReason, Hash, SignedStatement, StatementId, StatementKind, root_of,
};
use tally_journal::Options;
use tally_journal::testing::{DiskFault, MemStorage, Random};
use tally_model::{DeviceId, PartyId, PointId, Quality, Sample, Timestamp, Unit, Value};

const LIVES: usize = 6;
const ROUNDS: usize = 20;
const SEEDS: u64 = 30;
/// Anchors are sealed when the test says so.
const NEVER_BY_ITSELF: Duration = Duration::from_secs(3_600);
const SIZES: Sizes = Sizes { vault_bytes_max: 1 << 30, outbox_bytes_max: 1 << 30 };

struct Disks([MemStorage; 5]);

impl Disks {
    fn new() -> Self {
        Self(std::array::from_fn(|_| MemStorage::new()))
    }

    /// What a power cut leaves of them.
    fn again(&self, random: &mut Random) -> Self {
        Self(std::array::from_fn(|place| self.0[place].power_cut(random.bits())))
    }

    fn open(&self) -> Result<(Stores<MemStorage>, Sealer), StoreError> {
        let [vault, outbox, receipts, dead, anchors] = &self.0;
        let small = |options: Options| Options { segment_bytes_max: 64 << 10, ..options };
        let journals = Journals {
            vault: open_journal("vault", vault.clone(), small(vault::journal_options(1 << 30)))?,
            outbox: open_journal("outbox", outbox.clone(), outbox::journal_options(1 << 30))?,
            receipts: open_journal("receipts", receipts.clone(), receipts::journal_options())?,
            unsealed: open_journal("unsealed triggers", MemStorage::new(), receipts::journal_options())?,
            dead: open_journal("dead letters", dead.clone(), receipts::journal_options())?,
            secret: [7; 32].into(),
        };
        let sealer =
            Sealer { agent: PartyId::try_new("agent-01").unwrap(), ledger: LEDGER.to_owned(), key: agent_key().into() };
        let (stores, _) = Stores::recover(journals, SIZES, &mut Watches::default(), &sealer)?;
        let journal = open_journal("anchors", anchors.clone(), small(book::journal_options()))?;
        stores.anchor(journal, &sealer, NEVER_BY_ITSELF)?;
        Ok((stores, sealer))
    }
}

/// The ledger, as far as anchors go: the same statement again gets its first answer.
#[derive(Default)]
struct Ledger {
    last: HashMap<DeviceId, AnchorLink>,
    answers: HashMap<StatementId, u16>,
    taken: Vec<AnchorBody>,
    /// Refuses so many more, as if the agent were not the device's.
    strikes: u64,
}

impl Ledger {
    fn submit(&mut self, statement: &[u8]) -> u16 {
        let statement = SignedStatement::parse(statement).unwrap();
        statement.check_seal(agent_key().public()).unwrap();
        assert_eq!((statement.kind, statement.audience.as_str()), (StatementKind::Anchor, LEDGER));
        let body = AnchorBody::decode(&statement.payload).unwrap();
        assert_eq!(statement.subject, body.device.as_str());
        if let Some(answer) = self.answers.get(&statement.id) {
            return *answer;
        }
        let refusal = self.judge(&body);
        self.answers.insert(statement.id, refusal);
        if refusal == 0 {
            self.last.insert(body.device.clone(), body.link());
            self.taken.push(body);
        }
        refusal
    }

    fn judge(&mut self, body: &AnchorBody) -> u16 {
        if self.strikes > 0 {
            self.strikes -= 1;
            return 132;
        }
        match body.follow(self.last.get(&body.device)) {
            Ok(()) => 0,
            Err(AnchorFault::Replayed { .. }) => 104,
            Err(AnchorFault::Covered { .. }) => 105,
            Err(AnchorFault::Skips { .. }) => 177,
            Err(AnchorFault::Unchained { .. }) => 178,
            Err(AnchorFault::Missing { .. }) => 179,
        }
    }
}

#[derive(Default)]
struct World {
    ledger: Ledger,
    now: i64,
    refuses: bool,
    sealed: u64,
    /// Readings with which a life began: nobody read before them.
    resumed: HashSet<(DeviceId, u64)>,
}

impl World {
    fn begin(&mut self, stores: &Stores<MemStorage>) {
        let vault = stores.vault();
        self.resumed.extend(vault.ends().filter(|end| end.1 > 0).map(|(device, next, _)| (device.clone(), next)));
    }

    fn batch(&mut self, random: &mut Random) -> Batch {
        let device = DeviceId::try_new(["d1", "d2", "d3"][random.below(3)]).unwrap();
        let samples = (0..=random.below(5)).map(|_| {
            self.now += 1 + i64::try_from(random.below(50_000)).unwrap();
            Sample {
                seal: None,
                point: PointId::try_new("a").unwrap(),
                outcome: Ok(Value::Integer(self.now)),
                unit: Unit::one(),
                quality: Quality::Good,
                source_time: Timestamp::from_micros(self.now - 7),
                received: Timestamp::from_micros(self.now),
            }
        });
        Batch { device, samples: samples.collect(), origin: None }
    }
}

fn sabotage(disks: &Disks, random: &mut Random) {
    let disk = &disks.0[[0, 4][random.below(2)]];
    let fault = [DiskFault::Io, DiskFault::NoSpace, DiskFault::PowerOff][random.below(3)];
    disk.fail_operation(1 + random.bits() % 60, fault);
}

fn seal(stores: &Stores<MemStorage>, sealer: &Sealer) -> Result<u64, StoreError> {
    let mut vault = stores.vault();
    vault.sync()?;
    let place = vault.next_place();
    drop(vault);
    stores.anchors().as_mut().unwrap().seal(sealer, place, true)
}

/// What the submit task does, at random.
fn submit(stores: &Stores<MemStorage>, world: &mut World, random: &mut Random, all: bool) -> Result<(), StoreError> {
    let mut anchors = stores.anchors();
    let book = anchors.as_mut().unwrap().book_mut();
    let count = if all { usize::MAX } else { random.below(5) };
    for _ in 0..count {
        let Some((record, anchor)) = book.next()? else { break };
        let refusal = world.ledger.submit(&anchor.statement);
        if !all && random.below(6) == 0 {
            return Ok(()); // the answer got lost
        }
        book.answer(&Answer { anchor: record, refusal, entry: record, receipt: vec![1; 200] })?;
    }
    if random.below(2) == 0 { book.sync() } else { Ok(()) }
}

/// One life: from opening to death or a clean stop.
fn live(disks: &Disks, world: &mut World, random: &mut Random) -> Result<(), StoreError> {
    let (stores, sealer) = disks.open()?;
    world.begin(&stores);
    if random.below(3) == 0 {
        sabotage(disks, random);
    }
    for _ in 0..ROUNDS {
        for _ in 0..random.below(4) {
            let batch = world.batch(random);
            let kept = stores.vault().keep(batch, true)?;
            stores.anchors().as_mut().unwrap().note(&kept);
        }
        if random.below(3) == 0 {
            world.sealed += seal(&stores, &sealer)?;
        }
        if world.refuses && random.below(20) == 0 {
            world.ledger.strikes = 1 + random.bits() % 3;
        }
        submit(&stores, world, random, false)?;
        if random.below(10) == 0 {
            stores.anchors().as_mut().unwrap().book_mut().shrink(20_000)?;
        }
    }
    Ok(())
}

/// All leaves of the vault, with their receive times.
fn leaves(stores: &Stores<MemStorage>) -> HashMap<DeviceId, Vec<(Hash, Timestamp)>> {
    let (vault, mut place, mut leaves) = (stores.vault(), 0, HashMap::<_, Vec<_>>::new());
    while place < vault.next_place() {
        let (batches, next) = vault.walk(place).unwrap();
        for batch in batches {
            let readings = batch.readings.iter().map(|(reading, leaf)| (*leaf, reading.sample.received));
            leaves.entry(batch.device).or_default().extend(readings);
        }
        place = next;
    }
    leaves
}

/// Deaths, anchors taken, stops declared.
fn one_world(seed: u64, refuses: bool) -> (usize, usize, usize) {
    let mut random = Random(seed);
    let (mut disks, mut world, mut deaths) = (Disks::new(), World { refuses, ..World::default() }, 0);
    for _ in 0..LIVES {
        deaths += usize::from(live(&disks, &mut world, &mut random).is_err());
        disks = disks.again(&mut random);
    }
    let (stores, sealer) = disks.open().unwrap();
    world.begin(&stores);
    world.ledger.strikes = 0;
    // Behind a refusal the next one waits for its answers: thrice is enough for any past.
    for _ in 0..3 {
        for device in ["d1", "d2", "d3"] {
            let mut batch = world.batch(&mut random);
            batch.device = DeviceId::try_new(device).unwrap();
            let kept = stores.vault().keep(batch, true).unwrap();
            stores.anchors().as_mut().unwrap().note(&kept);
        }
        submit(&stores, &mut world, &mut random, true).unwrap();
        seal(&stores, &sealer).unwrap();
        submit(&stores, &mut world, &mut random, true).unwrap();
    }
    let leaves = leaves(&stores);
    let mut stops = 0;
    for (device, leaves) in &leaves {
        let taken: Vec<_> = world.ledger.taken.iter().filter(|body| body.device == *device).collect();
        let hashes: Vec<_> = leaves.iter().map(|(leaf, _)| *leaf).collect();
        stops += check(&taken, &hashes, refuses);
        for (_, number) in world.resumed.iter().filter(|(resumed, _)| resumed == device) {
            let received = leaves[usize::try_from(*number).unwrap()].1;
            let declares = |body: &&AnchorBody| {
                let to = |gap: &Gap| gap.reason == GapReason::Stopped && gap.to == received;
                (body.first..=body.last).contains(number) && body.gaps.iter().any(to)
            };
            let is_covered = taken.iter().any(|body| (body.first..=body.last).contains(number));
            assert!(
                refuses && !is_covered || taken.iter().any(declares),
                "the stop before reading {number} is not declared"
            );
        }
    }
    (deaths, world.ledger.taken.len(), stops)
}

/// Every anchor over exactly its readings, together over all of them, but for what was refused and is said to be.
fn check(taken: &[&AnchorBody], leaves: &[Hash], refuses: bool) -> usize {
    let (mut next, mut stops) = (0, 0);
    for (place, body) in taken.iter().enumerate() {
        if !refuses {
            assert_eq!((body.number, body.first), (place as u64 + 1, next), "no number and no reading is left out");
        }
        if body.begins() {
            next = 0;
        }
        for gap in &body.gaps {
            stops += usize::from(gap.reason == GapReason::Stopped);
            if let Some((first, last)) = gap.readings {
                assert!(refuses && gap.reason == GapReason::Refused && first == next, "{gap:?}");
                next = last + 1;
            }
        }
        assert_eq!(body.first, next);
        let range = usize::try_from(body.first).unwrap()..=usize::try_from(body.last).unwrap();
        assert_eq!(root_of(&leaves[range]), body.root, "anchor {}", body.number);
        assert!(body.source.0 < body.received.0 && body.received.0 <= body.received.1);
        next = body.last + 1;
    }
    assert_eq!(next, leaves.len() as u64, "the last readings are covered too");
    stops
}

fn worlds(refuses: bool) -> (usize, usize, usize) {
    if let Ok(seed) = std::env::var("TALLY_TEST_SEED") {
        return one_world(seed.parse().unwrap(), refuses);
    }
    let mut sums = (0, 0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| one_world(seed, refuses));
        let (deaths, taken, stops) = outcome.unwrap_or_else(|_| panic!("TALLY_TEST_SEED={seed}"));
        sums = (sums.0 + deaths, sums.1 + taken, sums.2 + stops);
    }
    // A test in which nothing dies and nothing is sealed has tested nothing.
    assert!(sums.0 > 8 && sums.1 > 500 && sums.2 > 100, "{sums:?}");
    println!("{} deaths, {} anchors, {} stops declared", sums.0, sums.1, sums.2);
    sums
}

#[test]
fn every_reading_is_anchored_once_whatever_happens() {
    worlds(false);
}

#[test]
fn what_the_ledger_refuses_is_declared_and_nothing_else() {
    worlds(true);
}

#[test]
fn a_vault_older_than_its_anchors_is_refused() {
    let (mut random, mut world, disks) = (Random(1), World::default(), Disks::new());
    let (stores, sealer) = disks.open().unwrap();
    let kept = stores.vault().keep(world.batch(&mut random), true).unwrap();
    stores.anchors().as_mut().unwrap().note(&kept);
    assert_eq!(seal(&stores, &sealer).unwrap(), 1);
    drop(stores);
    let mut mixed = disks.again(&mut random);
    mixed.0[0] = MemStorage::new();
    assert!(matches!(mixed.open(), Err(StoreError::VaultTooOld { next: 0, .. })));
}

#[test]
fn a_vault_that_was_there_before_says_what_it_does_not_cover() {
    let (mut random, mut world, disks) = (Random(2), World::default(), Disks::new());
    let (stores, _) = disks.open().unwrap();
    for _ in 0..20 {
        stores.vault().keep(world.batch(&mut random), true).unwrap();
    }
    stores.vault().sync().unwrap();
    drop(stores);
    let mut later = disks.again(&mut random);
    // As if anchors had been off so far.
    later.0[4] = MemStorage::new();
    let (stores, sealer) = later.open().unwrap();
    let before: HashMap<_, _> = stores.vault().ends().map(|(device, next, _)| (device.clone(), next)).collect();
    assert_eq!(before.len(), 3);
    for _ in 0..20 {
        let kept = stores.vault().keep(world.batch(&mut random), true).unwrap();
        stores.anchors().as_mut().unwrap().note(&kept);
    }
    assert_eq!(seal(&stores, &sealer).unwrap(), 3);
    submit(&stores, &mut world, &mut random, true).unwrap();
    assert_eq!(world.ledger.taken.len(), 3, "{:?}", world.ledger.answers);
    for body in &world.ledger.taken {
        let next = before[&body.device];
        let not_kept = body.gaps.iter().find(|gap| gap.reason == GapReason::NotKept).unwrap();
        assert_eq!((body.number, body.first, not_kept.readings), (1, next, Some((0, next - 1))));
        assert!(body.begins());
    }
}
