//! The statements a run submits, sealed beforehand.

use super::BenchError;
use crate::testing::Plant;
use std::sync::Arc;

/// A sealed statement.
pub(super) type Statement = Arc<[u8]>;

/// Statements for each thread that submits.
pub(super) type Lanes = Vec<Vec<Statement>>;

/// Seals triggers as they are asked for, about all devices in turn; the numbers of each agent's run on.
pub(super) struct Load<'a> {
    plant: &'a Plant,
    devices: usize,
    /// Number of each agent's next trigger.
    numbers: Vec<u64>,
    sealed: usize,
}

impl<'a> Load<'a> {
    pub(super) fn new(plant: &'a Plant, agents: usize, devices: usize) -> Self {
        Self { plant, devices, numbers: vec![0; agents], sealed: 0 }
    }

    /// Triggers sealed so far.
    pub(super) const fn sealed(&self) -> usize {
        self.sealed
    }

    /// So many more triggers in a lane for each core; an agent's are all in one lane, in order.
    pub(super) fn lanes(&mut self, count: usize, cores: usize) -> Result<Lanes, BenchError> {
        let mut wanted = vec![Vec::with_capacity(count / cores + 1); cores];
        for trigger in self.sealed..self.sealed + count {
            let device = trigger % self.devices;
            let agent = self.plant.agent_of(device);
            wanted[agent % cores].push((device, self.numbers[agent], trigger));
            self.numbers[agent] += 1;
        }
        self.sealed += count;
        let plant = self.plant;
        let seal = |(device, number, trigger): (usize, u64, usize)| -> Result<Statement, BenchError> {
            Ok(plant.worn(device, number, &format!("fault-{trigger}"))?.into())
        };
        std::thread::scope(|scope| {
            let seal_all = |lane: Vec<_>| scope.spawn(move || lane.into_iter().map(seal).collect());
            let threads: Vec<_> = wanted.into_iter().map(seal_all).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
        })
    }
}
