//! The statements a run submits, sealed beforehand.

use super::{BenchError, Orders};
use crate::testing::Plant;
use std::collections::VecDeque;
use std::sync::Arc;

/// A sealed statement.
pub(super) type Statement = Arc<[u8]>;

/// Statements for each thread that submits.
pub(super) type Lanes = Vec<Vec<Statement>>;

/// Who accepts all orders and does them, so that all these calls are one signer's.
const TECHNICIAN: &str = "tina";

/// Seals statements as they are asked for, about all devices in turn; the numbers of each agent's triggers run on.
pub(super) struct Load<'a> {
    plant: &'a Plant,
    devices: usize,
    /// Number of each agent's next trigger.
    numbers: Vec<u64>,
    sealed: usize,
    orders: Orders,
    lives: Lives,
}

/// A statement to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Opens the order about this fault.
    Open(usize),
    /// About the order with this number.
    Accept(usize),
    Done(usize),
    /// Confirms and pays the order about this fault.
    Confirm(usize),
}

/// How far orders are. The ledger numbers them as they come, so it is the orders of a whole round, opened before the next one is sealed,
/// that have certain numbers.
#[derive(Debug, Default)]
struct Lives {
    opened: usize,
    accepted: usize,
    done: usize,
    confirmed: usize,
    /// Orders opened by the end of each round.
    rounds: VecDeque<usize>,
}

impl Lives {
    /// The next statements, a quarter of each kind, so many together; fewer as long as fewer orders are that far by the rounds before. In turn.
    fn round(&mut self, count: usize) -> Vec<Wanted> {
        let whole = self.rounds.iter().take_while(|end| **end <= self.done).last().copied().unwrap_or(self.confirmed);
        self.rounds.retain(|end| *end > whole);
        let quarter = count / 4;
        let most = |ready: usize, from: usize| quarter.min(ready.saturating_sub(from));
        let confirm = self.confirmed..self.confirmed + most(whole, self.confirmed);
        let done = self.done..self.done + most(self.accepted, self.done);
        let accept = self.accepted..self.accepted + most(self.opened, self.accepted);
        let open = self.opened..self.opened + quarter + count % 4;
        (self.opened, self.accepted) = (open.end, accept.end);
        (self.done, self.confirmed) = (done.end, confirm.end);
        self.rounds.push_back(self.opened);
        let mut kinds = [
            open.map(Wanted::Open as fn(usize) -> Wanted),
            accept.map(Wanted::Accept as fn(usize) -> Wanted),
            done.map(Wanted::Done as fn(usize) -> Wanted),
            confirm.map(Wanted::Confirm as fn(usize) -> Wanted),
        ];
        let mut wanted = Vec::with_capacity(count);
        loop {
            let before = wanted.len();
            wanted.extend(kinds.iter_mut().filter_map(Iterator::next));
            if wanted.len() == before {
                return wanted;
            }
        }
    }
}

impl<'a> Load<'a> {
    /// Triggers of which each opens an order that stays open.
    pub(super) fn new(plant: &'a Plant, agents: usize, devices: usize) -> Self {
        let (numbers, lives) = (vec![0; agents], Lives::default());
        Self { plant, devices, numbers, sealed: 0, orders: Orders::Open, lives }
    }

    /// The same of other orders. All statements of a round must be answered before the next one is sealed.
    pub(super) const fn of(mut self, orders: Orders) -> Self {
        self.orders = orders;
        self
    }

    /// Statements sealed so far.
    pub(super) const fn sealed(&self) -> usize {
        self.sealed
    }

    /// So many more statements in a lane for each core; an agent's are all in one lane, in order. The first rounds of orders that end
    /// are shorter.
    pub(super) fn lanes(&mut self, count: usize, cores: usize) -> Result<Lanes, BenchError> {
        let mut lanes = vec![Vec::with_capacity(count / cores + 1); cores];
        let round: Vec<_> = match self.orders {
            Orders::Open => (self.sealed..self.sealed + count).map(Wanted::Open).collect(),
            Orders::Ended => self.lives.round(count),
        };
        self.sealed += round.len();
        for wanted in round {
            let (Wanted::Open(order) | Wanted::Accept(order) | Wanted::Done(order) | Wanted::Confirm(order)) = wanted;
            let agent = self.plant.agent_of(order % self.devices);
            lanes[agent % cores].push((wanted, self.numbers[agent]));
            self.numbers[agent] += u64::from(matches!(wanted, Wanted::Open(_) | Wanted::Confirm(_)));
        }
        let seal = |(wanted, number)| self.seal(wanted, number).map(Statement::from);
        std::thread::scope(|scope| {
            let seal_all = |lane: Vec<_>| scope.spawn(move || lane.into_iter().map(seal).collect());
            let threads: Vec<_> = lanes.into_iter().map(seal_all).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
        })
    }

    fn seal(&self, wanted: Wanted, number: u64) -> Result<Vec<u8>, BenchError> {
        let device = |order: usize| order % self.devices;
        let call = |action: &str, order: usize| self.plant.call(TECHNICIAN, action, &format!("mo-{}", order + 1), 0);
        Ok(match wanted {
            Wanted::Open(order) => self.plant.worn(device(order), number, &format!("fault-{order}"))?,
            Wanted::Accept(order) => call("accept", order)?,
            Wanted::Done(order) => call("done", order)?,
            Wanted::Confirm(order) => self.plant.good(device(order), number, &format!("fault-{order}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Whatever is asked for: a call names a number that the rounds before gave, and only a whole round's orders are confirmed.
    #[test]
    fn every_order_goes_its_way_one_step_a_round() {
        let (mut lives, mut steps) = (Lives::default(), BTreeMap::<usize, usize>::new());
        let mut opened_before = 0;
        for count in [20, 20, 20, 20, 7, 1, 100, 3, 40, 40, 40, 40] {
            let before = steps.clone();
            let round = lives.round(count);
            assert!(round.len() <= count && round.len() >= count / 4, "{count}");
            for wanted in &round {
                let (order, step): (usize, usize) = match *wanted {
                    Wanted::Open(order) => (order, 0),
                    Wanted::Accept(order) => (order, 1),
                    Wanted::Done(order) => (order, 2),
                    Wanted::Confirm(order) => (order, 3),
                };
                assert_eq!(before.get(&order).copied(), step.checked_sub(1), "{order} {step}");
                assert_eq!(order < opened_before, step > 0);
                steps.insert(order, step);
            }
            opened_before = lives.opened;
        }
        assert!(steps.values().filter(|step| **step == 3).count() > 10, "{steps:?}");
        assert_eq!(lives.round(40).len(), 40, "as many of each kind as there are of the others");
    }
}
