//! Submission as fast as the queue takes.

use super::{BenchError, load::Lanes, load::Statement};
use crate::engine::{Committed, Engine, Ticket};
use crate::{NotNow, SubmitError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot::Receiver;

/// Triggers between submission and answer in the fast part.
pub(super) const IN_FLIGHT: usize = 4_000;

/// Whether each answer is turned into a signed receipt, as whoever submits over the network gets it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipts {
    Signed,
    NotAskedFor,
}

/// Submits as fast as the queue takes; gives milliseconds from submission to answer.
pub(super) fn run_fast(engine: &Engine, lanes: Lanes, receipts: Receipts) -> Result<Vec<f64>, BenchError> {
    std::thread::scope(|scope| {
        let start = |statements: Vec<_>| {
            let (waits, open) = (Vec::with_capacity(statements.len()), VecDeque::with_capacity(IN_FLIGHT));
            let lane = Lane { engine, receipts, open, waits };
            // Named so that a profile tells who spent the time.
            let thread = std::thread::Builder::new().name("bench-submit".to_owned());
            thread.spawn_scoped(scope, move || lane.run(statements))
        };
        let threads = lanes.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut waits = Vec::new();
        for thread in threads {
            waits.extend(thread.join().map_err(|_| BenchError::Thread)??);
        }
        Ok(waits)
    })
}

/// Statements a second, each with its signed receipt.
pub(super) fn receipted_per_second(engine: &Engine, lanes: Lanes) -> Result<f64, BenchError> {
    let began = Instant::now();
    Ok(run_fast(engine, lanes, Receipts::Signed)?.len() as f64 / began.elapsed().as_secs_f64())
}

/// One thread that submits.
struct Lane<'a> {
    engine: &'a Engine,
    receipts: Receipts,
    /// Submitted and not answered, oldest first.
    open: VecDeque<(Instant, Receiver<Committed>)>,
    /// Milliseconds to the answer.
    waits: Vec<f64>,
}

impl Lane<'_> {
    fn run(mut self, statements: Vec<Statement>) -> Result<Vec<f64>, BenchError> {
        for statement in statements {
            loop {
                match self.engine.admit(Arc::clone(&statement)) {
                    Ok(Ticket::Waiting(answer)) => {
                        self.open.push_back((Instant::now(), answer));
                        self.settle_ready()?;
                        break;
                    }
                    Ok(Ticket::Known(_)) => break,
                    // Full: wait for the oldest answer, then try the same one again.
                    Err(SubmitError::NotNow(NotNow::Busy)) => self.settle_one()?,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        while !self.open.is_empty() {
            self.settle_one()?;
        }
        Ok(self.waits)
    }

    /// Waits for the oldest, then takes all that came with it.
    fn settle_one(&mut self) -> Result<(), BenchError> {
        let Some((submitted, answer)) = self.open.pop_front() else {
            std::thread::sleep(Duration::from_micros(100));
            return Ok(());
        };
        let committed = answer.blocking_recv().map_err(|_| SubmitError::from(self.engine.gone()))?;
        self.settled(submitted, &committed)?;
        self.settle_ready()
    }

    /// Takes all that are answered: the time counts when it is over, not when the queue happens to be full.
    fn settle_ready(&mut self) -> Result<(), BenchError> {
        while let Some((submitted, answer)) = self.open.front_mut() {
            let Ok(committed) = answer.try_recv() else { break };
            let submitted = *submitted;
            self.settled(submitted, &committed)?;
            self.open.pop_front();
        }
        Ok(())
    }

    fn settled(&mut self, submitted: Instant, committed: &Committed) -> Result<(), BenchError> {
        is_done(committed)?;
        if self.receipts == Receipts::Signed {
            std::hint::black_box(self.engine.receipt(committed)?);
        }
        self.waits.push(submitted.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

/// Every trigger of the bench is one that the contract does.
pub(super) fn is_done(committed: &Committed) -> Result<(), BenchError> {
    match committed {
        Committed { refusal: 0, refused: 0, .. } => Ok(()),
        Committed { refusal: 0, refused, .. } => Err(BenchError::RefusedTriggers(*refused)),
        Committed { refusal, .. } => Err(BenchError::Refused(*refusal)),
    }
}
