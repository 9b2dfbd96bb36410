use super::*;
use crate::seal::Sealer;
use crate::store::{Journals, Sizes, open_journal};
use crate::vault::{self, Kept};
use crate::watch::Watches;
use crate::{outbox, receipts};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tally_connector_api::{Batch, HistoricalBatch};
use tally_evidence::SigningKey;
use tally_journal::testing::MemStorage;
use tally_model::{PartyId, PointId, Quality, Sample, Unit, Value};

const SIZES: Sizes = Sizes { vault_bytes_max: 1 << 20, outbox_bytes_max: 1 << 20 };

/// A vault in memory and a clock that a test moves.
pub(in crate::spool) struct Plant {
    stores: Arc<Stores<MemStorage>>,
    dir: tempfile::TempDir,
    file: Option<PathBuf>,
    now: AtomicI64,
}

fn device(id: &str) -> DeviceId {
    DeviceId::try_new(id).unwrap()
}

impl Plant {
    pub fn new() -> Self {
        let open = |store, options| open_journal(store, MemStorage::new(), options).unwrap();
        let journals = Journals {
            vault: open("vault", vault::journal_options(1 << 20)),
            outbox: open("outbox", outbox::journal_options(1 << 20)),
            receipts: open("receipts", receipts::journal_options()),
            unsealed: open("unsealed triggers", receipts::journal_options()),
            dead: open("dead letters", receipts::journal_options()),
            secret: [7; 32].into(),
        };
        let agent = PartyId::try_new("agent-01").unwrap();
        let sealer = Sealer { agent, ledger: "test".into(), key: SigningKey::from_secret(&[3; 32]).unwrap().into() };
        let (stores, _) = Stores::recover(journals, SIZES, &mut Watches::default(), &sealer).unwrap();
        let (dir, now) = (tempfile::tempdir().unwrap(), AtomicI64::new(1_000_000_000));
        Self { stores: Arc::new(stores), dir, file: None, now }
    }

    pub fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.dir.path().join("spool"))
    }

    /// Uses the file of another plant.
    pub fn adopt(&mut self, other: &Self) {
        self.file = Some(other.file());
    }

    pub fn spool(&self, limits: SpoolLimits) -> Arc<Spool> {
        Spool::open(&self.file(), limits, &self.stores).unwrap()
    }

    pub fn next(&self, id: &str) -> u64 {
        self.stores.vault().next_number(&device(id))
    }

    /// A batch of readings, a second after the last one.
    pub fn keep(&self, id: &str, count: usize) -> Kept {
        let at = Timestamp::from_micros(self.now.fetch_add(1_000_000, Ordering::Relaxed));
        let sample = |number| Sample {
            seal: None,
            point: PointId::try_new("p").unwrap(),
            outcome: Ok(Value::Integer(i64::try_from(number).unwrap())),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: at,
            received: at,
        };
        let batch = Batch { device: device(id), samples: (0..count).map(sample).collect(), origin: None };
        self.stores.vault().keep(batch, true).unwrap()
    }

    /// What a device had recorded, `first` being the value of the first one.
    pub fn keep_late(&self, id: &str, first: i64, count: i64) -> Kept {
        let at = Timestamp::from_micros(self.now.fetch_add(1_000_000, Ordering::Relaxed));
        let sample = |number: i64| Sample {
            seal: None,
            point: PointId::try_new("p").unwrap(),
            outcome: Ok(Value::Integer(number)),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: Timestamp::from_micros(number),
            received: at,
        };
        let batch = HistoricalBatch { device: device(id), samples: (first..first + count).map(sample).collect() };
        self.stores.vault().keep_late(&batch).unwrap()
    }

    /// Begins to tell the oldest hole.
    pub fn begin(&self, spool: &Spool, readings_max: usize) -> Option<Telling> {
        let now = Timestamp::from_micros(self.now.load(Ordering::Relaxed));
        let hole = spool.next_hole()?;
        let chunk = super::next(&self.stores, hole.clone(), spool.limits, now, readings_max).unwrap();
        Some(Telling { hole, chunk })
    }

    pub fn drain(&self, spool: &Spool, scada: &mut Scada) {
        while let Some(telling) = self.begin(spool, 3) {
            telling.end(spool, scada);
        }
        assert!(spool.is_empty());
    }
}

/// A part of a hole on its way to SCADA.
pub(in crate::spool) struct Telling {
    hole: Hole,
    chunk: Chunk,
}

impl Telling {
    /// The broker has it.
    pub fn end(self, spool: &Spool, scada: &mut Scada) {
        scada.gaps.extend(self.chunk.gaps);
        scada.given_up += self.chunk.given_up;
        for Told { device, readings, recorded } in self.chunk.told {
            scada.late.extend(readings);
            let recorded = recorded.into_iter().map(|sample| (device.clone(), sample.source_time.as_micros()));
            scada.recorded.extend(recorded);
        }
        spool.move_on(&self.hole, self.chunk.rest);
    }
}

/// What SCADA knows.
#[derive(Debug, Default)]
pub(in crate::spool) struct Scada {
    live: Vec<(DeviceId, u64)>,
    late: Vec<Reading>,
    pub gaps: Vec<Gap>,
    /// Whose, and source time.
    pub recorded: Vec<(DeviceId, i64)>,
    pub given_up: u64,
}

impl Scada {
    /// Source times of what `id` had recorded, as they came.
    pub fn recorded(&self, id: &str) -> Vec<i64> {
        self.recorded.iter().filter(|(device, _)| device.as_str() == id).map(|(_, at)| *at).collect()
    }

    pub fn hear(&mut self, kept: &Kept) {
        self.live.extend(kept.readings.iter().map(|kept| (kept.reading.device.clone(), kept.reading.number)));
    }

    /// Numbers told late, as they came.
    pub fn numbers(&self, id: &str) -> Vec<u64> {
        self.late.iter().filter(|reading| reading.device.as_str() == id).map(|reading| reading.number).collect()
    }

    /// Numbers that were heard or declared missing, each once, in order.
    pub fn known(&self, id: &str) -> Vec<u64> {
        let mut known = self.numbers(id);
        known.extend(self.live.iter().filter(|(device, _)| device.as_str() == id).map(|(_, number)| *number));
        for gap in self.gaps.iter().filter(|gap| gap.device.as_str() == id) {
            known.extend(gap.first..=gap.last);
        }
        known.sort_unstable();
        known.dedup();
        known
    }
}

#[test]
fn history_comes_in_order_and_once() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    for _ in 0..20 {
        spool.missed(&plant.keep("a", 3));
        spool.missed(&plant.keep("b", 2));
    }
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    assert_eq!(scada.numbers("a"), (0..60).collect::<Vec<_>>());
    assert_eq!(scada.numbers("b"), (0..40).collect::<Vec<_>>());
    assert!(scada.gaps.is_empty());
}

#[test]
fn what_devices_had_recorded_is_told_once_and_nothing_else_twice() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    let mut scada = Scada::default();
    for round in 0..10 {
        let kept = plant.keep("a", 2);
        scada.hear(&kept);
        spool.told(&kept);
        spool.missed(&plant.keep_late("a", round * 10, 10));
        // Told at once, also while nothing follows.
        assert!(!spool.is_empty());
        if round % 3 == 0 {
            plant.drain(&spool, &mut scada);
        }
    }
    spool.missed(&plant.keep_late("b", 0, 7));
    plant.drain(&spool, &mut scada);
    assert_eq!(scada.recorded("a"), (0..100).collect::<Vec<_>>());
    assert_eq!(scada.recorded("b"), (0..7).collect::<Vec<_>>());
    assert_eq!(scada.numbers("a"), Vec::<u64>::new(), "live values between them are not told again");
    assert_eq!((scada.gaps.len(), scada.given_up), (0, 0));
}

#[test]
fn what_devices_had_recorded_is_given_up_by_age_and_by_size_and_counted() {
    for limits in [
        SpoolLimits { age_max: Duration::from_secs(10), ..SpoolLimits::default() },
        SpoolLimits { bytes_max: 3_000, ..SpoolLimits::default() },
    ] {
        let plant = Plant::new();
        let spool = plant.spool(limits);
        for round in 0..30 {
            spool.missed(&plant.keep_late("a", round * 10, 10));
        }
        let mut scada = Scada::default();
        plant.drain(&spool, &mut scada);
        let told = scada.recorded("a");
        assert!(scada.given_up > 0 && !told.is_empty(), "{} given up, {} told", scada.given_up, told.len());
        // The oldest are given up, the newest told; each is one of the two.
        let given_up = i64::try_from(scada.given_up).unwrap();
        assert_eq!(told, (given_up..300).collect::<Vec<_>>());
        assert!(scada.gaps.is_empty(), "they have no numbers");
    }
}

#[test]
fn what_is_too_old_is_declared_with_its_times() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits { age_max: Duration::from_secs(10), ..SpoolLimits::default() });
    spool.told(&plant.keep("a", 2));
    spool.state().recent.clear();
    for _ in 0..30 {
        spool.missed(&plant.keep("a", 2));
    }
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    // Declared as it is walked over, without overlap.
    let (first, last) = (scada.gaps.first().unwrap(), scada.gaps.last().unwrap());
    assert_eq!((first.first, first.after), (2, Some(Timestamp::from_micros(1_000_000_000))));
    assert_eq!(scada.gaps.iter().map(Gap::count).sum::<u64>(), 40, "{:?}", scada.gaps);
    assert_eq!(scada.numbers("a").first(), Some(&(last.last + 1)));
    assert_eq!(scada.numbers("a").last(), Some(&61));
}

#[test]
fn a_device_of_which_nothing_is_left_is_declared_at_the_end() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits { age_max: Duration::from_secs(5), ..SpoolLimits::default() });
    spool.missed(&plant.keep("b", 4));
    for _ in 0..30 {
        spool.missed(&plant.keep("a", 2));
    }
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    let gap = scada.gaps.iter().find(|gap| gap.device.as_str() == "b").unwrap();
    assert_eq!((gap.first, gap.last, gap.after), (0, 3, None));
}

#[test]
fn the_place_within_a_bound_is_the_first_that_fits() {
    let bytes_from = |place: u64| (100 - place.min(100)) * 10;
    for (bytes_max, expected) in [(1_000, 0), (2_000, 0), (999, 1), (500, 50), (9, 100), (0, 100)] {
        assert_eq!(within(0, 100, bytes_max, bytes_from), expected, "{bytes_max}");
    }
    assert_eq!(within(60, 100, 500, bytes_from), 60);
    assert_eq!(within(100, 100, 0, bytes_from), 100);
}

/// Counts what it is told; says that live values are dropped when it is asked to.
#[derive(Clone, Default)]
struct Slow {
    told: Arc<Mutex<Vec<(Instant, usize)>>>,
    dropped: Arc<AtomicU64>,
    suffers: bool,
}

#[async_trait]
impl Teller for Slow {
    fn is_connected(&self) -> bool {
        true
    }

    fn dropped(&self) -> u64 {
        self.dropped.fetch_add(u64::from(self.suffers), Ordering::Relaxed)
    }

    async fn tell(&mut self, history: Vec<Told>) -> bool {
        let readings = history.iter().map(|told| told.readings.len()).sum();
        self.told.lock().unwrap().push((Instant::now(), readings));
        true
    }

    async fn declare(&mut self, _: Gap) -> bool {
        true
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(2_000_000_000)
    }
}

/// Readings a second while 6,000 are told.
async fn rate(rate_max: u32, suffers: bool) -> f64 {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits { values_per_second: rate_max, ..SpoolLimits::default() });
    for _ in 0..60 {
        spool.missed(&plant.keep("a", 100));
    }
    let teller = Slow { suffers, ..Slow::default() };
    let told = teller.told.clone();
    let stores = plant.stores.clone();
    let drain = Drain { spool, stores, status: Arc::default(), clock: Arc::new(Fixed), teller };
    let quit = CancellationToken::new();
    let (begun, task) = (Instant::now(), tokio::spawn(drain.run(quit.clone())));
    while told.lock().unwrap().iter().map(|(_, readings)| readings).sum::<usize>() < 6_000
        && begun.elapsed() < Duration::from_secs(60)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    quit.cancel();
    task.await.unwrap();
    let told = told.lock().unwrap();
    let (last, readings) = (told.last().unwrap().0, told.iter().map(|(_, readings)| *readings).sum::<usize>());
    let seconds = last.duration_since(begun).as_secs_f64();
    f64::from(u32::try_from(readings).unwrap()) / seconds.max(0.001)
}

#[tokio::test]
async fn the_rate_is_kept_and_yields_to_live_values() {
    let calm = rate(4_000, false).await;
    // Less on a busy machine, but never much more.
    assert!((300.0..5_500.0).contains(&calm), "{calm}");
    let yielding = rate(4_000, true).await;
    assert!(yielding < 2_000.0, "{yielding}");
}
