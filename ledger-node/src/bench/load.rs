//! The statements a run submits, sealed beforehand.

use super::{BenchError, BenchOptions};
use crate::testing::Plant;
use std::sync::Arc;

/// A sealed statement.
pub(super) type Statement = Arc<[u8]>;

/// One lane of statements for each thread; an agent's are all in one lane, in order.
pub(super) fn sealed(
    plant: &Plant,
    options: &BenchOptions,
    cores: usize,
    paced: usize,
) -> Result<Vec<Vec<Statement>>, BenchError> {
    let total = options.triggers + paced;
    let lane = |core: usize| -> Result<Vec<Statement>, BenchError> {
        let mut numbers = vec![0; options.agents];
        let mut statements = Vec::with_capacity(total / cores + 1);
        for trigger in 0..total {
            let device = trigger % options.devices;
            let agent = plant.agent_of(device);
            if agent % cores == core {
                let statement = plant.worn(device, numbers[agent], &format!("fault-{trigger}"))?;
                numbers[agent] += 1;
                statements.push(statement.into());
            }
        }
        Ok(statements)
    };
    std::thread::scope(|scope| {
        let lane = &lane;
        let threads: Vec<_> = (0..cores).map(|core| scope.spawn(move || lane(core))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| BenchError::Thread)?).collect()
    })
}

/// The first `paced` statements of the first lane, and the rest.
pub(super) fn split(mut lanes: Vec<Vec<Statement>>, paced: usize) -> (Vec<Statement>, Vec<Vec<Statement>>) {
    let first = lanes.first_mut().map_or_else(Vec::new, |lane| {
        let rest = lane.split_off(paced.min(lane.len()));
        std::mem::replace(lane, rest)
    });
    (first, lanes)
}
