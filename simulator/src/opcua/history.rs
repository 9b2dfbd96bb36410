//! What a simulated server remembers of its variables (OPC UA Part 11): the last values of each, in memory.

use opcua::types::{DataValue, DateTime, NodeId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Values kept of one variable, however long its history is to be: an hour at 20 values a second.
const VALUES_MAX: usize = 72_000;

/// Values in one page when the client names no limit.
const PAGE: usize = 1_000;

/// The past of all variables of a server; shared by the task that writes and the requests that read.
pub(super) struct History {
    /// How long a value is remembered.
    keeps: Duration,
    /// Oldest first. A std mutex is right: held for one push or one page.
    values: Mutex<HashMap<NodeId, VecDeque<DataValue>>>,
}

/// One page, and where the next begins.
pub(super) struct Page {
    pub(super) values: Vec<DataValue>,
    pub(super) next: Option<DateTime>,
}

impl History {
    pub(super) fn new(keeps: Duration) -> Self {
        Self { keeps, values: Mutex::default() }
    }

    /// Remembers a value with a time of its own, and forgets what is too old.
    pub(super) fn push(&self, node: &NodeId, value: &DataValue) {
        let Some(time) = value.source_timestamp else { return };
        let mut values = self.lock();
        let of_node = values.entry(node.clone()).or_default();
        let is_old = |oldest: &DataValue| {
            let age = oldest.source_timestamp.map(|oldest| time.as_chrono().signed_duration_since(oldest.as_chrono()));
            age.and_then(|age| age.to_std().ok()).is_some_and(|age| age > self.keeps)
        };
        while of_node.len() >= VALUES_MAX || of_node.front().is_some_and(is_old) {
            of_node.pop_front();
        }
        of_node.push_back(value.clone());
    }

    /// The values of `[from, until)`, oldest first, at most `most` (0: as many as the server likes, Part 11 §6.5.3). Times that
    /// are null (1601) are no bound.
    pub(super) fn page(&self, node: &NodeId, from: DateTime, until: DateTime, most: u32) -> Page {
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(PAGE).min(PAGE);
        let is_inside = |time: DateTime| (from.is_null() || time >= from) && (until.is_null() || time < until);
        let values = self.lock();
        let of_node = values.get(node).into_iter().flatten();
        let mut inside = of_node.filter(|value| value.source_timestamp.is_some_and(is_inside));
        let page: Vec<_> = inside.by_ref().take(most).cloned().collect();
        Page { values: page, next: inside.next().and_then(|value| value.source_timestamp) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, VecDeque<DataValue>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime {
        DateTime::from(116_444_736_000_000_000 + seconds * 10_000_000)
    }

    fn history(keeps: u64, seconds: impl Iterator<Item = i64>) -> (History, NodeId) {
        let (history, node) = (History::new(Duration::from_secs(keeps)), NodeId::new(2, "a"));
        for second in seconds {
            let value = DataValue { source_timestamp: Some(at(second)), ..DataValue::value_only(second) };
            history.push(&node, &value);
        }
        (history, node)
    }

    fn seconds(page: &Page) -> Vec<i64> {
        page.values.iter().map(|value| value.source_timestamp.unwrap().as_chrono().timestamp()).collect()
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let (history, node) = history(3_600, 0..2_500);
        let first = history.page(&node, at(10), at(2_400), 0);
        assert_eq!((seconds(&first)[0], first.values.len()), (10, 1_000));
        let mut all = seconds(&first);
        let mut next = first.next;
        while let Some(from) = next {
            let page = history.page(&node, from, at(2_400), 700);
            assert!(page.values.len() <= 700);
            all.extend(seconds(&page));
            next = page.next;
        }
        assert_eq!(all, (10..2_400).collect::<Vec<_>>());
        let open = history.page(&node, DateTime::null(), DateTime::null(), 1);
        assert_eq!((seconds(&open), open.next.is_some()), (vec![0], true));
        assert!(history.page(&NodeId::new(2, "b"), at(0), at(9), 0).values.is_empty());
    }

    #[test]
    fn old_values_are_forgotten() {
        let (history, node) = history(60, (0..100).chain(1_000..1_001));
        assert_eq!(seconds(&history.page(&node, at(0), at(2_000), 0)), [1_000]);
    }
}
