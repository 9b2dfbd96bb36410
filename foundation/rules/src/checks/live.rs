//! What a watch keeps for the checks of its rule: where evidence must begin, and copies of what it remembers.

use super::CheckSet;
use super::find::bits;
use super::replay::Runs;
use crate::history::History;
use crate::rule::Rule;
use std::collections::{BTreeMap, VecDeque};
use tally_model::{Finding, FindingCode, PointId, Reading, Timestamp};

/// The memory of the checks of one watch.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    history: History,
    runs: BTreeMap<PointId, (Runs, Copies)>,
}

/// Copies in the look-back, oldest first: receive time in µs, number of the first reading, of the last, of the original's first.
type Copies = VecDeque<(i64, u64, u64, u64)>;

impl Live {
    pub(crate) fn new(rule: &Rule, checks: &CheckSet) -> Self {
        let replays = checks.source.points.iter().filter_map(|(point, asked)| Some((point, asked.replay?)));
        let runs = replays.map(|(point, replay)| (point.clone(), (Runs::new(replay), VecDeque::new())));
        Self { history: rule.check_history(), runs: runs.collect() }
    }

    pub(crate) fn push(&mut self, rule: &Rule, checks: &CheckSet, reading: &Reading) {
        let Some(slot) = rule.check_slot(&reading.sample.point) else { return };
        self.history.push(slot, reading);
        let Some((runs, copies)) = self.runs.get_mut(&reading.sample.point) else { return };
        let at = reading.sample.received.as_micros();
        while copies.front().is_some_and(|(copied, ..)| *copied <= at.saturating_sub(checks.look_back)) {
            copies.pop_front();
        }
        if let Some(copy) = bits(reading).and_then(|bits| runs.push(reading.number, bits)) {
            copies.push_back((at, copy.from, reading.number, copy.earlier));
        }
    }

    /// The lowest reading number that the checks look at.
    pub(crate) fn first_needed(&self) -> Option<u64> {
        self.history.first_needed()
    }

    /// Copies of anything remembered, in the look-back before `at`.
    pub(crate) fn copies(&self, checks: &CheckSet, at: Timestamp) -> Vec<Finding> {
        let start = at.as_micros().saturating_sub(checks.look_back);
        let found = self.runs.iter().filter_map(|(point, (_, copies))| {
            let mut inside = copies.iter().filter(|(at, ..)| *at > start);
            let (_, from, to, earlier) = *inside.next()?;
            let to = inside.next_back().map_or(to, |(_, _, to, _)| *to);
            Some(Finding { code: FindingCode::Replay, point: Some(point.clone()), from, to, earlier: Some(earlier) })
        });
        found.collect()
    }
}
