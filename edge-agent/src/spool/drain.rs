//! Tells what was missed: in order, bounded in rate, each part until the broker has it.

use super::{Hole, Mark, Seen, Spool, SpoolLimits};
use crate::error::StoreError;
use crate::status::Status;
use crate::store::Stores;
use crate::submit::on_disk;
use crate::vault::Contents;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Clock;
use tally_journal::Storage;
use tally_model::{DeviceId, Reading, Sample, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Readings taken out of the vault at a time, at most: some 4 MB of memory, and a thousand devices get messages of 16.
const READINGS_MAX: u32 = 16_384;
/// How often an empty spool is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the place is written down.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// Slower than this it never gets, however much live values suffer.
const RATE_MIN: u32 = 1_000;

/// What of one device is told late: at least one of the two is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Whose.
    pub device: DeviceId,
    /// Readings that SCADA missed, in number order.
    pub readings: Vec<Reading>,
    /// What the device itself had recorded while it could not be heard, as it told it.
    pub recorded: Vec<Sample>,
}

/// Readings that SCADA will never be told of; the vault may still have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub device: DeviceId,
    /// Number of the first one.
    pub first: u64,
    /// Number of the last one.
    pub last: u64,
    /// Receive time of the last reading that was told before it; `None` when there was none.
    pub after: Option<Timestamp>,
    /// Receive time of the last one missing, or of the first one behind it where the vault has lost them.
    pub before: Timestamp,
}

impl Gap {
    /// How many.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// How history reaches SCADA: one for each way of publishing.
#[async_trait]
pub trait Teller: Send {
    /// Whether it makes sense to try.
    fn is_connected(&self) -> bool;

    /// Live values dropped so far because the connection was slow.
    fn dropped(&self) -> u64;

    /// Tells; returns when the broker has all of it. `false` when we are being stopped.
    async fn tell(&mut self, history: Vec<Told>) -> bool;

    /// Declares a gap, as [`Teller::tell`].
    async fn declare(&mut self, gap: Gap) -> bool;
}

/// The task.
pub struct Drain<S: Storage, T> {
    /// What is to be told.
    pub spool: Arc<Spool>,
    /// Where it lies.
    pub stores: Arc<Stores<S>>,
    /// Where counters go.
    pub status: Arc<Status>,
    /// Decides what is too old.
    pub clock: Arc<dyn Clock>,
    /// Tells.
    pub teller: T,
}

/// What comes next.
#[derive(Debug, PartialEq)]
struct Chunk {
    gaps: Vec<Gap>,
    told: Vec<Told>,
    readings: u64,
    /// What devices had recorded and SCADA is not told of: it has no numbers that a gap could name.
    given_up: u64,
    /// Where the hole begins when all this is told; `None` when it is done.
    rest: Option<Mark>,
}

impl<S: Storage + Send + 'static, T: Teller> Drain<S, T> {
    /// Runs until `quit`.
    pub async fn run(mut self, quit: CancellationToken) {
        if self.spool.limits.is_off() {
            return;
        }
        let mut keep_at = Instant::now() + KEEP_EVERY;
        let mut pace = Pace::new(self.spool.limits.values_per_second, self.teller.dropped());
        while !quit.is_cancelled() {
            if quit.run_until_cancelled(self.step(&mut pace)).await.is_none() {
                return;
            }
            if Instant::now() >= keep_at {
                self.keep().await;
                keep_at = Instant::now() + KEEP_EVERY;
            }
        }
    }

    async fn step(&mut self, pace: &mut Pace) {
        let hole = if self.teller.is_connected() { self.spool.next_hole() } else { None };
        let Some(hole) = hole else { return tokio::time::sleep(LOOK_EVERY).await };
        let begun = Instant::now();
        let (limits, now, readings_max) = (self.spool.limits, self.clock.for_ages(), pace.readings_max());
        let told = hole.clone();
        let found = on_disk(&self.stores, move |stores| next(stores, hole, limits, now, readings_max)).await;
        match found {
            Ok(chunk) => {
                let readings = chunk.readings;
                if self.tell(&told, chunk).await {
                    pace.wait(begun, readings, self.teller.dropped()).await;
                }
            }
            Err(fault) => {
                // The ingest thread meets the same disk and decides whether the agent must end.
                tracing::warn!(%fault, "what SCADA missed cannot be read; tried again");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }

    /// `false` when we are being stopped: nothing counts as told.
    async fn tell(&mut self, hole: &Hole, chunk: Chunk) -> bool {
        for gap in chunk.gaps {
            tracing::error!(
                device = %gap.device, first = gap.first, last = gap.last, readings = gap.count(),
                "SCADA was away for too long: these readings are not told any more"
            );
            self.status.count.history_lost.add(gap.count());
            if !self.teller.declare(gap).await {
                return false;
            }
        }
        if chunk.given_up > 0 {
            tracing::error!(
                values = chunk.given_up,
                "SCADA was away for too long: what devices had recorded during an outage is not told any more"
            );
            self.status.count.history_lost.add(chunk.given_up);
        }
        if !chunk.told.is_empty() && !self.teller.tell(chunk.told).await {
            return false;
        }
        self.status.count.history_published.add(chunk.readings);
        self.spool.move_on(hole, chunk.rest);
        true
    }

    async fn keep(&self) {
        let spool = Arc::clone(&self.spool);
        let kept = on_disk(&self.stores, move |stores| {
            spool.keep()?;
            Ok(spool.waiting_bytes(stores))
        });
        match kept.await {
            Ok(bytes) => self.status.spool_bytes(bytes),
            Err(fault) => {
                tracing::warn!(%fault, "the place in what SCADA missed cannot be kept; after a restart some of it is told again");
            }
        }
    }
}

impl Spool {
    /// The oldest hole. One that is still open is closed when it is the only one: a connection that is always too slow for
    /// some batches must not keep all of them waiting for ever.
    fn next_hole(&self) -> Option<Hole> {
        let mut state = self.state();
        if state.holes.is_empty() && state.away.is_some() {
            let place = state.seen.place;
            state.close_hole(place);
        }
        state.holes.front().cloned()
    }

    /// `hole` was told, up to `rest` or to its end. Meanwhile it may have got another end, and is told on from there; or another
    /// beginning, and is told again.
    fn move_on(&self, hole: &Hole, rest: Option<Mark>) {
        let mut state = self.state();
        let Some(front) = state.holes.front_mut().filter(|front| front.from == hole.from) else { return };
        front.from = rest.unwrap_or_else(|| hole.to.clone());
        if front.from.place >= front.to.place {
            state.holes.pop_front();
        }
    }
}

/// Takes the next readings out of a hole.
fn next<S: Storage>(
    stores: &Stores<S>,
    hole: Hole,
    limits: SpoolLimits,
    now: Timestamp,
    readings_max: usize,
) -> Result<Chunk, StoreError> {
    let Hole { mut from, to } = hole;
    let (raw, end, within) = {
        let vault = stores.vault();
        let (begin, end) = (from.place.max(vault.first_place()), vault.next_place());
        let within = within(begin, end, limits.bytes_max, |place| vault.bytes_from(place));
        let (raw, end) = vault.batches_from(begin, readings_max)?;
        (raw, end, within)
    };
    let (oldest, mut chunk) = (now.minus(limits.age_max), Gathered::default());
    for batch in raw.iter().take_while(|batch| batch.place < to.place) {
        let (device, contents) = batch.decode()?;
        let is_given_up =
            |last: Option<&Sample>| batch.place < within || last.is_some_and(|last| last.received < oldest);
        match contents {
            Contents::Readings(readings) => {
                let is_given_up = is_given_up(readings.last().map(|reading| &reading.sample));
                chunk.take(&mut from, device, readings, is_given_up);
            }
            Contents::Late(samples) => {
                let is_given_up = is_given_up(samples.last());
                chunk.take_recorded(device, samples, is_given_up);
            }
        }
    }
    from.place = end.min(to.place);
    let is_done = from.place >= to.place;
    if is_done {
        chunk.finish(&from, &to);
    }
    let Gathered { gaps, told, readings, given_up } = chunk;
    let gaps = gaps.into_values().flatten().collect();
    Ok(Chunk { gaps, told: told.into_values().collect(), readings, given_up, rest: (!is_done).then_some(from) })
}

/// The first place from `from` on that reaches back at most `bytes_max`.
fn within(from: u64, end: u64, bytes_max: u64, bytes_from: impl Fn(u64) -> u64) -> u64 {
    let (mut low, mut high) = (from, end.max(from));
    if bytes_from(low) <= bytes_max {
        return low;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if bytes_from(middle) <= bytes_max {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

#[derive(Default)]
struct Gathered {
    gaps: BTreeMap<DeviceId, Vec<Gap>>,
    told: BTreeMap<DeviceId, Told>,
    readings: u64,
    given_up: u64,
}

impl Gathered {
    /// A batch: told, or given up. What is missing before it is no longer in the vault.
    fn take(&mut self, from: &mut Mark, device: DeviceId, mut readings: Vec<Reading>, is_given_up: bool) {
        let expected = from.numbers.get(&device).map_or(0, |seen| seen.next);
        readings.retain(|reading| reading.number >= expected);
        let (Some(first), Some(last)) = (readings.first(), readings.last()) else { return };
        if first.number > expected {
            self.miss(from, &device, first.number - 1, first.sample.received);
        }
        if is_given_up {
            self.miss(from, &device, last.number, last.sample.received);
            return;
        }
        from.numbers.insert(device.clone(), Seen { next: last.number + 1, at: last.sample.received });
        self.readings += readings.len() as u64;
        self.told_of(device).readings.append(&mut readings);
    }

    /// What a device had recorded: told, or given up.
    fn take_recorded(&mut self, device: DeviceId, mut samples: Vec<Sample>, is_given_up: bool) {
        let count = samples.len() as u64;
        if is_given_up {
            self.given_up += count;
            return;
        }
        self.readings += count;
        self.told_of(device).recorded.append(&mut samples);
    }

    fn told_of(&mut self, device: DeviceId) -> &mut Told {
        let empty = || Told { device: device.clone(), readings: Vec::new(), recorded: Vec::new() };
        self.told.entry(device.clone()).or_insert_with(empty)
    }

    /// Everything of `device` up to `last` is not told.
    fn miss(&mut self, from: &mut Mark, device: &DeviceId, last: u64, before: Timestamp) {
        let known = from.numbers.get(device).copied();
        let first = known.map_or(0, |seen| seen.next);
        let gaps = self.gaps.entry(device.clone()).or_default();
        match gaps.last_mut().filter(|gap| gap.last + 1 == first) {
            Some(gap) => (gap.last, gap.before) = (last, before),
            None => {
                let after = known.map(|seen| seen.at);
                gaps.push(Gap { device: device.clone(), first, last, after, before });
            }
        }
        from.numbers.insert(device.clone(), Seen { next: last + 1, at: before });
    }

    /// The end of a hole: what is missing now never comes.
    fn finish(&mut self, from: &Mark, to: &Mark) {
        let mut from = from.clone();
        for (device, end) in &to.numbers {
            if from.numbers.get(device).is_none_or(|seen| seen.next < end.next) && end.next > 0 {
                self.miss(&mut from, device, end.next - 1, end.at);
            }
        }
    }
}

/// How fast: at most the configured rate; half of it when live values suffer, and slowly up again when they do not.
struct Pace {
    rate_max: u32,
    rate: u32,
    dropped: u64,
}

impl Pace {
    fn new(rate_max: u32, dropped: u64) -> Self {
        Self { rate_max, rate: rate_max, dropped }
    }

    /// A quarter of a second's worth.
    fn readings_max(&self) -> usize {
        usize::try_from((self.rate / 4).clamp(1, READINGS_MAX)).unwrap_or(1)
    }

    async fn wait(&mut self, begun: Instant, readings: u64, dropped: u64) {
        let is_suffering = std::mem::replace(&mut self.dropped, dropped) < dropped;
        self.rate = if is_suffering { self.rate / 2 } else { self.rate.saturating_add(self.rate / 8 + 1) };
        self.rate = self.rate.clamp(RATE_MIN.min(self.rate_max), self.rate_max);
        let readings = u32::try_from(readings).unwrap_or(u32::MAX);
        let due = Duration::from_secs(1).saturating_mul(readings) / self.rate.max(1);
        tokio::time::sleep_until(begun + due).await;
    }
}

#[cfg(test)]
pub(super) mod tests;
