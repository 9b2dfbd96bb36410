//! Submission as fast as the queue takes.

use super::{BenchError, load::Statement};
use crate::engine::{Engine, Ticket};
use crate::{NotNow, SubmitError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Triggers between submission and answer in the fast part.
pub(super) const IN_FLIGHT: usize = 4_000;

/// Submits as fast as the queue takes; gives milliseconds from submission to answer.
pub(super) fn run_fast(engine: &Engine, lanes: Vec<Vec<Statement>>) -> Result<Vec<f64>, BenchError> {
    std::thread::scope(|scope| {
        let start = |lane| {
            // Named so that a profile tells who spent the time.
            std::thread::Builder::new()
                .name("bench-submit".to_owned())
                .spawn_scoped(scope, move || run_lane(engine, lane))
        };
        let threads = lanes.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut waits = Vec::new();
        for thread in threads {
            waits.extend(thread.join().map_err(|_| BenchError::Thread)??);
        }
        Ok(waits)
    })
}

fn run_lane(engine: &Engine, lane: Vec<Statement>) -> Result<Vec<f64>, BenchError> {
    let mut waits = Vec::with_capacity(lane.len());
    let mut open = VecDeque::with_capacity(IN_FLIGHT);
    for statement in lane {
        loop {
            match engine.admit(Arc::clone(&statement)) {
                Ok(Ticket::Waiting(answer)) => {
                    open.push_back((Instant::now(), answer));
                    settle_ready(&mut open, &mut waits)?;
                    break;
                }
                Ok(Ticket::Known(_)) => break,
                // Full: wait for the oldest answer, then try the same one again.
                Err(SubmitError::NotNow(NotNow::Busy)) => settle_one(engine, &mut open, &mut waits)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    while !open.is_empty() {
        settle_one(engine, &mut open, &mut waits)?;
    }
    Ok(waits)
}

type Open = VecDeque<(Instant, tokio::sync::oneshot::Receiver<crate::Committed>)>;

/// Waits for the oldest, then takes all that came with it.
fn settle_one(engine: &Engine, open: &mut Open, waits: &mut Vec<f64>) -> Result<(), BenchError> {
    let Some((submitted, answer)) = open.pop_front() else {
        std::thread::sleep(Duration::from_micros(100));
        return Ok(());
    };
    let committed = answer.blocking_recv().map_err(|_| SubmitError::from(engine.gone()))?;
    waits.push(submitted.elapsed().as_secs_f64() * 1e3);
    is_done(committed.refusal)?;
    settle_ready(open, waits)
}

/// Takes all that are answered: the time counts when it is over, not when the queue happens to be full.
fn settle_ready(open: &mut Open, waits: &mut Vec<f64>) -> Result<(), BenchError> {
    while let Some((submitted, answer)) = open.front_mut() {
        let Ok(committed) = answer.try_recv() else { break };
        waits.push(submitted.elapsed().as_secs_f64() * 1e3);
        is_done(committed.refusal)?;
        open.pop_front();
    }
    Ok(())
}

/// Every trigger of the bench is one that the contract does.
pub(super) const fn is_done(refusal: u16) -> Result<(), BenchError> {
    if refusal == 0 { Ok(()) } else { Err(BenchError::Refused(refusal)) }
}
