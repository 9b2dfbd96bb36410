//! The readings of one device since its last anchor: nothing of them is kept but the edge of their tree and their times.

use tally_evidence::{Frontier, Gap, GapReason, Hash};
use tally_model::{Reading, Timestamp};

/// More stops than any anchor needs to tell apart; further ones make the last one longer.
const GAPS_MAX: usize = 32;

/// What grows.
pub(super) struct Growing {
    /// Number of its first reading; the one it waits for while it has none.
    pub first: u64,
    tree: Frontier,
    times: Option<Times>,
    /// Receive time of the reading before `first`.
    before: Option<Timestamp>,
    /// Longest pause in µs.
    pub pause: u64,
    /// Breaks in the reading.
    pub gaps: Vec<Gap>,
    /// Readings with which the agent began to read again, rising.
    resumes: Vec<u64>,
    /// Vault record at or before the one that holds `first`.
    pub place: u64,
    /// Chain head behind the last reading.
    pub head: Hash,
}

#[derive(Clone, Copy)]
struct Times {
    received: (Timestamp, Timestamp),
    source: (Timestamp, Timestamp),
}

impl Growing {
    /// Waits for reading `first`; the one before it was received at `before`.
    pub fn behind(first: u64, before: Option<Timestamp>, resumes: Vec<u64>) -> Self {
        let (tree, gaps) = (Frontier::default(), Vec::new());
        Self { first, tree, times: None, before, pause: 0, gaps, resumes, place: 0, head: [0; 32] }
    }

    /// What grows when this is sealed.
    pub fn followed(&self) -> Self {
        let next = self.first + self.count();
        let resumes = self.resumes.iter().copied().filter(|number| *number >= next).collect();
        Self::behind(next, self.times.map(|times| times.received.1).or(self.before), resumes)
    }

    /// The agent stopped before reading `number`.
    pub fn resumes_at(&mut self, number: u64) {
        if number > 0 && self.resumes.last() != Some(&number) {
            self.resumes.push(number);
        }
    }

    /// Takes in the next reading; what is covered already is passed over. Readings that are gone make it begin later.
    pub fn add(&mut self, reading: &Reading, leaf: Hash, place: u64) {
        let number = reading.number;
        if number < self.first + self.count() {
            return;
        }
        if self.count() == 0 {
            self.first = number;
            self.place = place;
        }
        let (received, source) = (reading.sample.received, reading.sample.source_time);
        if let Some(before) = self.times.map(|times| times.received.1).or(self.before) {
            let pause = u64::try_from(received.since(before).as_micros()).unwrap_or(u64::MAX);
            self.pause = self.pause.max(pause);
            if self.resumes.contains(&number) {
                self.stopped(before, received);
            }
        }
        let times = self.times.get_or_insert(Times { received: (received, received), source: (source, source) });
        times.received.1 = received;
        times.source = (times.source.0.min(source), times.source.1.max(source));
        self.tree.push(leaf);
    }

    fn stopped(&mut self, from: Timestamp, to: Timestamp) {
        self.resumes.retain(|number| *number > self.first + self.tree.count());
        let is_full = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut() {
            Some(last) if is_full => last.to = to,
            _ => self.gaps.push(Gap { reason: GapReason::Stopped, from: Some(from), to, readings: None }),
        }
    }

    pub const fn count(&self) -> u64 {
        self.tree.count()
    }

    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Receive times of the first and the last reading, earliest and latest source time.
    pub fn times(&self) -> ((Timestamp, Timestamp), (Timestamp, Timestamp)) {
        self.times.map_or_else(Default::default, |times| (times.received, times.source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::root_of;
    use tally_model::{DeviceId, PointId, Quality, Sample, Unit, Value};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn reading(number: u64, source: i64, received: i64) -> Reading {
        let sample = Sample {
            seal: None,
            point: PointId::try_new("p").unwrap(),
            outcome: Ok(Value::Bool(true)),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: at(source),
            received: at(received),
        };
        Reading { device: DeviceId::try_new("d").unwrap(), number, sample }
    }

    #[test]
    fn it_knows_root_times_pauses_and_stops() {
        let mut growing = Growing::behind(3, Some(at(10)), vec![5]);
        growing.add(&reading(2, 0, 9), [9; 32], 1);
        assert_eq!(growing.count(), 0, "covered already");
        for (number, source, received) in [(3, 50, 12), (4, -7, 20), (5, 6, 90), (6, 7, 91)] {
            growing.add(&reading(number, source, received), [u8::try_from(number).unwrap(); 32], number);
        }
        assert_eq!((growing.first, growing.count(), growing.pause, growing.place), (3, 4, 70, 3));
        assert_eq!(growing.times(), ((at(12), at(91)), (at(-7), at(50))));
        assert_eq!(growing.root(), root_of(&[[3; 32], [4; 32], [5; 32], [6; 32]]));
        let stop = Gap { reason: GapReason::Stopped, from: Some(at(20)), to: at(90), readings: None };
        assert_eq!(growing.gaps, [stop]);
    }

    #[test]
    fn a_stop_behind_the_last_reading_comes_into_the_next_anchor() {
        let mut growing = Growing::behind(0, None, vec![1]);
        growing.add(&reading(0, 0, 5), [0; 32], 0);
        let mut next = growing.followed();
        next.add(&reading(1, 0, 50), [1; 32], 1);
        assert_eq!((next.first, next.pause, next.gaps.len(), growing.gaps.len()), (1, 45, 1, 0));
    }

    #[test]
    fn readings_that_are_gone_make_it_begin_later() {
        let mut growing = Growing::behind(3, Some(at(10)), Vec::new());
        growing.add(&reading(7, 0, 30), [7; 32], 4);
        assert_eq!((growing.first, growing.count(), growing.place), (7, 1, 4));
    }

    #[test]
    fn a_restart_loop_ends_in_one_long_gap() {
        let mut growing = Growing::behind(0, None, (1..100).collect());
        for number in 0..100 {
            growing.add(&reading(number, 0, i64::try_from(number).unwrap()), [0; 32], 0);
        }
        assert_eq!((growing.gaps.len(), growing.gaps[GAPS_MAX - 1].to), (GAPS_MAX, at(99)));
    }
}
