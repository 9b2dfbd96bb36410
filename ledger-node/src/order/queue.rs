//! The queue before the ledger: two lanes, both bounded.
//!
//! **When full** a statement is turned away ("not now"): it piles up in the outbox of whoever sealed it, on disk. Urgent
//! statements (safety) have a small lane of their own that ordinary ones cannot fill, and go first. They overtake others'
//! statements only: what the same signer sent before goes along with them, for the contracts refuse an agent's triggers that
//! come out of order.

use crate::admit::CheckedStatement;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes that may wait, both lanes together: large statements must not make the queue large.
const BYTES_MAX: usize = 64 << 20;
/// So many must wait for a block that is being executed to take them, while nobody waits for it: waking for each would take longer than
/// executing it.
const MORE: usize = 64;

/// The queue.
#[derive(Debug)]
pub struct Queue {
    /// Held for pushing one or taking a block's worth; never while anything else is done.
    lanes: Mutex<Lanes>,
    arrived: Condvar,
    normal_max: usize,
    urgent_max: usize,
}

#[derive(Debug)]
struct Lanes {
    urgent: VecDeque<CheckedStatement>,
    normal: VecDeque<CheckedStatement>,
    bytes: usize,
    /// Triggers and other statements that wait in the normal lane, and in both: a batch counts for all its triggers.
    normal_weight: usize,
    weight: usize,
    is_closed: bool,
    /// With how many waiting statements the taker wants to be woken; never while it is not asleep.
    wake_at: usize,
    /// Whether the next block is waited for: nothing is left of those before.
    is_wanted: bool,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            bytes: 0,
            normal_weight: 0,
            weight: 0,
            is_closed: false,
            wake_at: usize::MAX,
            is_wanted: false,
        }
    }
}

/// Why a statement was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotQueued {
    Full,
    Closed,
}

/// How much a block may take yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A batch counts for all its triggers.
    pub entries: usize,
    pub bytes: usize,
}

impl Room {
    /// What is left of it behind these.
    pub fn without(self, taken: &[CheckedStatement]) -> Self {
        let bytes = taken.iter().map(|statement| statement.bytes.len()).sum();
        let entries = taken.iter().map(weight_of).sum();
        Self { entries: self.entries.saturating_sub(entries), bytes: self.bytes.saturating_sub(bytes) }
    }

    pub const fn is_none(self) -> bool {
        self.entries == 0 || self.bytes == 0
    }

    fn has(self, statement: &CheckedStatement) -> bool {
        statement.weight() <= self.entries && statement.bytes.len() <= self.bytes
    }
}

/// What a block that is being filled gets.
#[derive(Debug)]
pub struct More {
    pub statements: Vec<CheckedStatement>,
    /// The block is to be closed behind them.
    pub is_last: bool,
}

impl Queue {
    pub fn new(normal_max: usize, urgent_max: usize) -> Self {
        Self { lanes: Mutex::default(), arrived: Condvar::new(), normal_max, urgent_max }
    }

    pub fn push(&self, statement: CheckedStatement) -> Result<(), NotQueued> {
        let mut lanes = self.lock();
        if lanes.is_closed {
            return Err(NotQueued::Closed);
        }
        let bytes = lanes.bytes + statement.bytes.len();
        let is_urgent = statement.is_urgent();
        let (waiting, limit) = match is_urgent {
            true => (lanes.urgent.iter().filter(|waiting| waiting.is_urgent()).map(weight_of).sum(), self.urgent_max),
            false => (lanes.normal_weight, self.normal_max),
        };
        // Behind nothing a batch goes in however large it is: else one above the limit would never be taken.
        let has_room = waiting + statement.weight() <= limit || waiting == 0 && limit > 0;
        if !has_room || !is_urgent && bytes > BYTES_MAX {
            return Err(NotQueued::Full);
        }
        if is_urgent {
            lanes.take_along(&statement);
        }
        lanes.weight += statement.weight();
        lanes.normal_weight += if is_urgent { 0 } else { statement.weight() };
        let lane = if is_urgent { &mut lanes.urgent } else { &mut lanes.normal };
        lane.push_back(statement);
        lanes.bytes = bytes;
        let is_awaited = lanes.len() >= lanes.wake_at;
        if is_awaited {
            lanes.wake_at = usize::MAX;
        }
        drop(lanes);
        // Behind the lock, and only when the taker sleeps: waking costs a system call.
        if is_awaited {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes the first statements of a block, in order, urgent ones first. Empty when `until` passed or the queue was closed and drained.
    pub fn take(&self, room: Room, until: Instant) -> Vec<CheckedStatement> {
        let mut lanes = self.lock();
        while lanes.len() == 0 && !lanes.is_closed && Instant::now() < until {
            lanes = self.wait(lanes, 1, until);
        }
        // The first one always goes, however large.
        let first = lanes.next();
        let room = room.without(first.as_slice());
        let mut taken: Vec<_> = first.into_iter().collect();
        lanes.take(room, &mut taken);
        taken
    }

    /// Takes what a block that has `room` is to be filled up with: [`MORE`] or more at a time, as long as it is not
    /// [wanted](Self::want), but until `until` at most; a wanted one until `linger_until`.
    pub fn take_more(&self, room: Room, linger_until: Instant, until: Instant) -> More {
        let mut lanes = self.lock();
        let is_last = loop {
            let until = if lanes.is_wanted { linger_until } else { until };
            let is_last = lanes.is_closed || Instant::now() >= until;
            if is_last || lanes.len() >= MORE {
                break is_last;
            }
            lanes = self.wait(lanes, MORE, until);
        };
        let mut statements = Vec::new();
        lanes.take(room, &mut statements);
        // What waits and has not gone in begins the next one.
        More { is_last: is_last || statements.is_empty(), statements }
    }

    /// Nothing is left of the blocks before: the next one is waited for.
    pub fn want(&self) {
        self.lock().is_wanted = true;
        self.arrived.notify_all();
    }

    /// The block that was waited for is here.
    pub fn wanted_is_here(&self) {
        self.lock().is_wanted = false;
    }

    /// Nothing comes in any more; what is in still goes out.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Closed and drained.
    pub fn is_over(&self) -> bool {
        let lanes = self.lock();
        lanes.is_closed && lanes.len() == 0
    }

    /// How many wait; a batch counts for all its triggers.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Sleeps until so many wait, or something else happened, or `until` passed: the caller sees which.
    fn wait<'a>(&'a self, mut lanes: MutexGuard<'a, Lanes>, count: usize, until: Instant) -> MutexGuard<'a, Lanes> {
        lanes.wake_at = count;
        let left = until.saturating_duration_since(Instant::now());
        let mut lanes = self.arrived.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        lanes.wake_at = usize::MAX;
        lanes
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Moves what the signer of `urgent` has waiting into the urgent lane, in order.
    fn take_along(&mut self, urgent: &CheckedStatement) {
        let is_same = |waiting: &CheckedStatement| waiting.signer == urgent.signer;
        if self.normal.iter().any(is_same) {
            let (same, others) = std::mem::take(&mut self.normal).into_iter().partition(is_same);
            self.normal = others;
            let same: VecDeque<_> = same;
            self.normal_weight -= same.iter().map(weight_of).sum::<usize>();
            self.urgent.extend(same);
        }
    }

    /// Takes what comes next, as long as there is room for it.
    fn take(&mut self, mut room: Room, taken: &mut Vec<CheckedStatement>) {
        taken.reserve(self.len().min(room.entries));
        while self.first().is_some_and(|next| room.has(next)) {
            let next = self.next();
            room = room.without(next.as_slice());
            taken.extend(next);
        }
    }

    fn first(&self) -> Option<&CheckedStatement> {
        self.urgent.front().or(self.normal.front())
    }

    fn next(&mut self) -> Option<CheckedStatement> {
        let urgent = self.urgent.pop_front();
        let is_urgent = urgent.is_some();
        let next = urgent.or_else(|| self.normal.pop_front())?;
        self.normal_weight -= if is_urgent { 0 } else { next.weight() };
        self.bytes -= next.bytes.len();
        self.weight -= next.weight();
        Some(next)
    }

    fn len(&self) -> usize {
        self.weight
    }
}

fn weight_of(statement: &CheckedStatement) -> usize {
    statement.weight()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::Body;
    use std::collections::BTreeMap;
    use std::time::Duration;
    use tally_evidence::{CallBody, KeyId, ReadingsClaim, StatementId, Transition, TriggerBody};
    use tally_model::{ActionName, ContractName, DeviceId, PartyId, Priority, Timestamp, TriggerId};

    const ROOM: Room = Room { entries: 10_000, bytes: 1_000 };

    fn statement(number: u8, body: Body, bytes: usize) -> CheckedStatement {
        CheckedStatement {
            id: StatementId([number; 32]),
            signer: PartyId::try_new(if number < 100 { "agent" } else { "other" }).unwrap(),
            key: KeyId([0; 32]),
            subject: String::new(),
            body,
            bytes: vec![0; bytes].into(),
        }
    }

    fn call(number: u8, bytes: usize) -> CheckedStatement {
        let body = CallBody {
            contract: ContractName::try_new("c").unwrap(),
            action: ActionName::try_new("a").unwrap(),
            agreement: None,
            args: BTreeMap::new(),
            nonce: [0; 16],
            at: Timestamp::from_micros(0),
        };
        statement(number, Body::Call(body), bytes)
    }

    fn alarm(number: u8) -> CheckedStatement {
        let body = TriggerBody {
            trigger: TriggerId::try_new("stop").unwrap(),
            device: DeviceId::try_new("press").unwrap(),
            rule: [0; 32],
            transition: Transition::Raised,
            priority: Priority::Critical,
            at: Timestamp::from_micros(0),
            readings: ReadingsClaim { first: 0, last: 0, root: [0; 32], head: [0; 32], points: BTreeMap::new() },
            number: 0,
            call: None,
            clock: None,
            grade: Default::default(),
            mapping: None,
            origins: Vec::new(),
            quality: None,
        };
        statement(number, Body::Trigger(body), 10)
    }

    fn take(queue: &Queue, entries: usize, bytes: usize) -> Vec<u8> {
        numbers(&queue.take(Room { entries, bytes }, Instant::now()))
    }

    fn long() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn numbers(taken: &[CheckedStatement]) -> Vec<u8> {
        taken.iter().map(|statement| statement.id.0[0]).collect()
    }

    #[test]
    fn alarms_go_first_and_find_room_in_a_full_queue() {
        let queue = Queue::new(2, 1);
        assert_eq!([1, 2, 3].map(|n| queue.push(call(n, 10))), [Ok(()), Ok(()), Err(NotQueued::Full)]);
        assert_eq!([104, 105].map(|n| queue.push(alarm(n))), [Ok(()), Err(NotQueued::Full)]);
        assert_eq!(take(&queue, 2, 1_000), [104, 1]);
        assert_eq!(take(&queue, 2, 1_000), [2]);
        assert!(take(&queue, 2, 1_000).is_empty());
    }

    #[test]
    fn an_alarm_overtakes_others_but_not_its_own_signer() {
        let queue = Queue::new(9, 1);
        for number in [1, 101, 2] {
            queue.push(call(number, 10)).unwrap();
        }
        queue.push(alarm(3)).unwrap();
        queue.push(call(4, 10)).unwrap();
        assert_eq!(take(&queue, 9, 1_000), [1, 2, 3, 101, 4]);
    }

    #[test]
    fn a_block_ends_at_its_bytes_but_takes_one_at_least() {
        let queue = Queue::new(10, 1);
        for number in 1..=3 {
            queue.push(call(number, 60)).unwrap();
        }
        assert_eq!(take(&queue, 10, 130), [1, 2]);
        assert_eq!(take(&queue, 10, 1), [3]);
        // More bytes than may wait: ordinary statements are turned away, alarms are not.
        queue.push(call(4, BYTES_MAX)).unwrap();
        assert_eq!(queue.push(call(5, 1)), Err(NotQueued::Full));
        assert_eq!(queue.push(alarm(6)), Ok(()));
    }

    fn batch(number: u8, triggers: usize, priority: Priority) -> CheckedStatement {
        let Body::Trigger(trigger) = alarm(number).body else { panic!("a trigger") };
        let mut triggers = vec![TriggerBody { priority: Priority::Low, ..trigger }; triggers];
        triggers[0].priority = priority;
        statement(number, Body::Batch(triggers), 10)
    }

    #[test]
    fn a_batch_counts_for_all_its_triggers_and_is_never_too_large_for_an_empty_queue() {
        let queue = Queue::new(5, 2);
        for (number, triggers, pushed) in [(1, 2, Ok(())), (2, 4, Err(NotQueued::Full)), (3, 3, Ok(()))] {
            assert_eq!(queue.push(batch(number, triggers, Priority::Low)), pushed, "{number}");
        }
        assert_eq!((queue.push(call(4, 1)), queue.len()), (Err(NotQueued::Full), 5));
        // A block takes what fits, and one at least.
        assert_eq!(take(&queue, 4, 1_000), [1]);
        assert_eq!((take(&queue, 2, 1_000), queue.len()), (vec![3], 0));
        queue.push(batch(5, 1_000, Priority::Low)).unwrap();
        assert_eq!(queue.push(call(6, 1)), Err(NotQueued::Full));
        // One with an alarm goes first as a whole, and finds room as alarms do.
        queue.push(batch(107, 9, Priority::Critical)).unwrap();
        assert_eq!(queue.push(batch(108, 1, Priority::Critical)), Err(NotQueued::Full));
        assert_eq!(queue.len(), 1_009);
        assert_eq!(take(&queue, 2_000, 1_000), [107, 5]);
        assert_eq!(queue.push(batch(9, 5, Priority::Low)), Ok(()), "nothing is counted any more");
        assert_eq!(queue.push(alarm(9)), Ok(()));
        assert_eq!((take(&queue, 9, 1_000), queue.len()), (vec![9, 9], 0));
        assert_eq!(queue.push(batch(10, 5, Priority::Low)), Ok(()), "what an alarm took along neither");
    }

    #[test]
    fn a_closed_queue_is_drained() {
        let queue = Queue::new(10, 1);
        queue.push(call(1, 1)).unwrap();
        queue.close();
        assert_eq!(queue.push(call(2, 1)), Err(NotQueued::Closed));
        assert!(!queue.is_over());
        assert_eq!(numbers(&queue.take(ROOM, long())), [1]);
        assert!(queue.is_over());
        assert!(queue.take(ROOM, long()).is_empty());
        let more = queue.take_more(ROOM, long(), long());
        assert!(more.is_last && more.statements.is_empty());
    }

    #[test]
    fn the_taker_wakes_for_the_first() {
        let queue = Queue::new(10, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                queue.push(call(1, 1)).unwrap();
            });
            assert_eq!(numbers(&queue.take(ROOM, long())), [1]);
        });
    }

    #[test]
    fn a_block_is_filled_until_it_is_wanted() {
        let queue = Queue::new(1_000, 1);
        let push = |number| queue.push(call(number, 1)).unwrap();
        // Not wanted: it takes what waits, when that is worth while, and goes on.
        (1..=64).for_each(push);
        let more = queue.take_more(ROOM, Instant::now(), long());
        assert_eq!((more.statements.len(), more.is_last), (64, false));
        push(65);
        let more = queue.take_more(ROOM, Instant::now(), Instant::now() + Duration::from_millis(5));
        assert_eq!((numbers(&more.statements), more.is_last), (vec![65], true), "no longer than it may");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                push(66);
                std::thread::sleep(Duration::from_millis(20));
                queue.want();
            });
            let more = queue.take_more(ROOM, Instant::now(), long());
            assert_eq!((numbers(&more.statements), more.is_last), (vec![66], true));
        });
        // Wanted, but it lingers.
        push(67);
        let more = queue.take_more(ROOM, Instant::now() + Duration::from_millis(5), long());
        assert_eq!((numbers(&more.statements), more.is_last), (vec![67], true));
        let more = queue.take_more(ROOM, Instant::now(), long());
        assert!(more.is_last && more.statements.is_empty());
    }

    #[test]
    fn what_has_no_room_in_a_block_begins_the_next() {
        let queue = Queue::new(5_000, 2);
        queue.push(batch(1, 1_000, Priority::Low)).unwrap();
        let more = queue.take_more(Room { entries: 999, ..ROOM }, long(), long());
        assert!(more.is_last && more.statements.is_empty());
        let more = queue.take_more(Room { entries: 1_000, ..ROOM }, long(), long());
        assert_eq!((numbers(&more.statements), more.is_last), (vec![1], false));
    }
}
