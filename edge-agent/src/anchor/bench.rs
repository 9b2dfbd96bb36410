//! How many readings a second this machine covers with anchors.
//!
//! Method: on every core a device of 100 single-precision points; each reading is encoded, salted, hashed into its leaf, the leaf
//! chained and hashed into the tree, as vault and anchors do; every 60,000 readings (a minute at 1,000 a second) an anchor is sealed
//! (P-256) and put into a book on the given disk, which is synced every second. No sockets, and the readings themselves are not
//! written: that is the vault's figure. Baseline of the same run: the tree alone, and nothing but one SHA-256 over the same reading
//! bytes, which no proof can do without; each on one core.

use super::book::{Book, journal_options};
use super::grow::Growing;
use super::{body, sealed};
use crate::bench::BenchError;
use crate::error::StoreError;
use crate::seal::Sealer;
use crate::store::open_journal;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally_evidence::{ChainHead, Frontier, Hash, Salt, SigningKey, push_reading, reading_leaf, sha256};
use tally_journal::{DirStorage, Storage};
use tally_model::{DeviceId, IdFault, PartyId, PointId, Quality, Reading, Sample, Timestamp, Unit, Value};

const POINTS: u64 = 100;
/// A minute of a device with 1,000 readings a second.
const READINGS_PER_ANCHOR: u64 = 60_000;
/// Readings between two looks at the clock.
const AT_ONCE: u64 = 1_000;
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long each baseline runs.
const BASELINE: Duration = Duration::from_secs(1);

/// What came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AnchorReport {
    /// Readings covered.
    pub readings: u64,
    /// Anchors sealed over them.
    pub anchors: u64,
    /// Cores at work.
    pub cores: usize,
    /// In how much time.
    pub seconds: f64,
    /// The figure, all cores together.
    pub readings_per_second: f64,
    /// Readings a second and core when their leaves are only hashed into the tree.
    pub tree_per_second: f64,
    /// Readings a second and core when they are only hashed once.
    pub baseline_per_second: f64,
    /// Bytes of anchors on disk for each reading.
    pub bytes_per_reading: f64,
}

/// Measures for `seconds`, and until every core has sealed an anchor. Writes below `dir/anchors` and removes it again.
///
/// # Errors
/// [`BenchError`].
pub fn bench_anchors(dir: &Path, seconds: u64) -> Result<AnchorReport, BenchError> {
    let folder = dir.join("anchors");
    let storage = DirStorage::open(&folder).map_err(|source| StoreError::Open { store: "anchors", source })?;
    let book = Mutex::new(Book::begin(open_journal("anchors", storage, journal_options())?)?);
    let key = SigningKey::from_secret(&[7; 32]).map_err(|_| StoreError::Randomness)?;
    let sealer = Sealer { agent: PartyId::try_new("agent-01")?, ledger: "bench".to_owned(), key: key.into() };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (begin, time) = (Instant::now(), Duration::from_secs(seconds));
    let counts = std::thread::scope(|scope| {
        let (book, sealer) = (&book, &sealer);
        let workers: Vec<_> =
            (0..cores).map(|core| scope.spawn(move || work(core, begin + time, book, sealer))).collect();
        let counts = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(died().into())));
        counts.collect::<Result<Vec<_>, BenchError>>()
    })?;
    let mut book = book.into_inner().unwrap_or_else(PoisonError::into_inner);
    book.sync()?;
    let elapsed = begin.elapsed().as_secs_f64();
    let bytes = book.bytes_on_disk();
    drop(book);
    std::fs::remove_dir_all(&folder).map_err(StoreError::file(&folder))?;
    let (readings, anchors) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let (tree_per_second, baseline_per_second) = (tree(), baseline()?);
    #[allow(clippy::cast_precision_loss)] // figures for people
    let (readings_per_second, bytes_per_reading) = (readings as f64 / elapsed, bytes as f64 / readings as f64);
    Ok(AnchorReport {
        readings,
        anchors,
        cores,
        seconds: elapsed,
        readings_per_second,
        tree_per_second,
        baseline_per_second,
        bytes_per_reading,
    })
}

/// One core: readings and anchors until `end`, one anchor at least.
fn work<S: Storage>(
    core: usize,
    end: Instant,
    book: &Mutex<Book<S>>,
    sealer: &Sealer,
) -> Result<(u64, u64), BenchError> {
    let mut device = Device::new(core)?;
    let (mut anchors, mut sync_at) = (0, Instant::now() + SYNC_EVERY);
    // Only what an anchor covers counts: a busy computer must not end with nothing measured.
    while Instant::now() < end || anchors == 0 {
        (0..AT_ONCE).for_each(|_| device.read());
        let mut book = if device.growing.count() >= READINGS_PER_ANCHOR || Instant::now() >= sync_at {
            book.lock().unwrap_or_else(PoisonError::into_inner)
        } else {
            continue;
        };
        if device.growing.count() >= READINGS_PER_ANCHOR {
            let anchor = sealed(&body(&device.id, &device.growing, &book), sealer, 0);
            book.put(&anchor.map_err(|_| StoreError::Foreign { store: "anchors", record: 0 })?)?;
            device.growing = device.growing.followed();
            anchors += 1;
        }
        if Instant::now() >= sync_at {
            book.sync()?;
            sync_at = Instant::now() + SYNC_EVERY;
        }
    }
    Ok((anchors * READINGS_PER_ANCHOR, anchors))
}

fn died() -> StoreError {
    StoreError::Thread("one core of the bench".to_owned())
}

/// A device whose readings change.
struct Device {
    id: DeviceId,
    points: Vec<Reading>,
    next: u64,
    salt_input: Vec<u8>,
    head: ChainHead,
    growing: Growing,
    bytes: Vec<u8>,
}

impl Device {
    fn new(core: usize) -> Result<Self, IdFault> {
        let id = DeviceId::try_new(format!("press-{core:02}"))?;
        let point = |place: u64| {
            let sample = Sample {
                seal: None,
                point: PointId::try_new(format!("value_{place}"))?,
                outcome: Ok(Value::Float(1.0)),
                unit: Unit::one(),
                quality: Quality::Good,
                source_time: Timestamp::from_micros(1_790_000_000_000_000),
                received: Timestamp::from_micros(1_790_000_000_000_000),
            };
            Ok(Reading { device: id.clone(), number: place, sample })
        };
        let points = (0..POINTS).map(point).collect::<Result<_, IdFault>>()?;
        let salt_input = [&[7; 32], id.as_str().as_bytes()].concat();
        let (head, growing) = (ChainHead::start(&id), Growing::behind(0, None, Vec::new()));
        Ok(Self { points, next: 0, salt_input, head, growing, bytes: Vec::with_capacity(128), id })
    }

    /// The next reading, through everything that vault and anchors hash.
    fn read(&mut self) {
        let number = self.next;
        self.next += 1;
        let place = usize::try_from(number % POINTS).unwrap_or(0);
        let reading = &mut self.points[place];
        reading.number = number;
        reading.sample.received = reading.sample.received.plus(Duration::from_millis(100));
        reading.sample.outcome = Ok(Value::Float(f64::from(u16::try_from(number % 65_521).unwrap_or(0)) / 16.0));
        self.bytes.clear();
        push_reading(&mut self.bytes, number, number / POINTS, &reading.sample);
        let leaf = reading_leaf(&salt(&self.salt_input, number), &self.bytes);
        self.head = self.head.extend(&leaf);
        self.growing.add(reading, leaf, 0);
        self.growing.head = self.head.0;
    }
}

/// As the vault makes it.
fn salt(input: &[u8], number: u64) -> Salt {
    let mut salt = Salt::default();
    salt.copy_from_slice(&sha256(&[input, &number.to_le_bytes()].concat())[..16]);
    salt
}

/// Leaves a second into a tree, on one core.
fn tree() -> f64 {
    let (begin, mut frontier, mut leaf): (_, _, Hash) = (Instant::now(), Frontier::default(), [1; 32]);
    while begin.elapsed() < BASELINE {
        for number in 0..AT_ONCE {
            leaf[..8].copy_from_slice(&number.to_le_bytes());
            frontier.push(leaf);
        }
    }
    std::hint::black_box(frontier.root());
    per_second(frontier.count(), begin)
}

/// One SHA-256 a reading, on one core.
fn baseline() -> Result<f64, IdFault> {
    let mut device = Device::new(0)?;
    device.read();
    let (begin, mut count, mut check) = (Instant::now(), 0, 0);
    while begin.elapsed() < BASELINE {
        for _ in 0..AT_ONCE {
            check ^= sha256(std::hint::black_box(&device.bytes))[0];
        }
        count += AT_ONCE;
    }
    std::hint::black_box(check);
    Ok(per_second(count, begin))
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn per_second(count: u64, begin: Instant) -> f64 {
    count as f64 / begin.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_runs_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // No time at all: one anchor on each core, however long that takes.
        let report = bench_anchors(dir.path(), 0).unwrap();
        assert!(
            report.anchors >= u64::try_from(report.cores).unwrap()
                && report.readings == report.anchors * READINGS_PER_ANCHOR,
            "{report:?}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
