//! Submission at a steady pace, below what there is room for: how long a client waits for its final receipt.

use super::BenchError;
use super::fast::is_done;
use super::load::{Lanes, Load, Statement};
use super::numbers::{cores, percentile};
use crate::engine::{Committed, Engine, Ticket};
use crate::{NotNow, SubmitError};
use serde::Serialize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Pause before a statement that was told to come again is sent again.
const AGAIN: Duration = Duration::from_millis(1);
/// Shares of the capacity at which waiting is measured.
const SHARES: [f64; 3] = [0.1, 0.5, 0.9];

/// How long clients waited at one pace.
#[derive(Debug, Clone, Serialize)]
pub struct Paced {
    /// Statements a second.
    pub per_second: f64,
    /// From when the statement was due to when its signed receipt was there, in milliseconds.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// The longest that anybody waited: what a merge of index files or a slow sync of the disk costs.
    pub longest_ms: f64,
    /// Statements so measured.
    pub statements: usize,
}

/// Submits `per_second` statements a second, whatever becomes of those before, and makes the receipt of each. Time counts from
/// when a statement was due, not from when it was let in: who has to wait before the door waits, too.
fn run_paced(engine: &Engine, lanes: Lanes, per_second: f64) -> Result<Paced, BenchError> {
    let total: usize = lanes.iter().map(Vec::len).sum();
    let waits = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .map(|lane| {
                let (sender, answers) = channel();
                let interval = Duration::from_secs_f64(total as f64 / lane.len().max(1) as f64 / per_second);
                let submits = scope.spawn(move || submit(engine, lane, interval, &sender));
                (submits, scope.spawn(move || collect(engine, &answers)))
            })
            .collect();
        let mut waits = Vec::with_capacity(total);
        for (submits, collects) in threads {
            submits.join().map_err(|_| BenchError::Thread)??;
            waits.extend(collects.join().map_err(|_| BenchError::Thread)??);
        }
        Ok::<_, BenchError>(waits)
    })?;
    let (p50_ms, p99_ms) = (percentile(&waits, 0.50), percentile(&waits, 0.99));
    let longest_ms = waits.iter().copied().fold(0.0, f64::max);
    Ok(Paced { per_second, p50_ms, p99_ms, longest_ms, statements: waits.len() })
}

/// So many times as long as the fastest a slower pace goes on at most.
const LONGER: f64 = 4.0;

/// [`run_paced`] at each of [`SHARES`] of `capacity`, in statements a second: for so many seconds at the fastest, longer at the slower ones,
/// which meet what happens now and then as seldom.
pub(super) fn run_shares(
    engine: &Engine,
    load: &mut Load<'_>,
    capacity: f64,
    seconds: u32,
) -> Result<Vec<Paced>, BenchError> {
    let fastest = SHARES.into_iter().fold(0.0, f64::max);
    let run = |share| {
        let seconds = f64::from(seconds) * LONGER.min(fastest / share);
        run_seconds(engine, load, share * capacity, seconds)
    };
    SHARES.into_iter().map(run).collect()
}

/// [`run_paced`] for so many seconds.
pub(super) fn run_seconds(
    engine: &Engine,
    load: &mut Load<'_>,
    per_second: f64,
    seconds: f64,
) -> Result<Paced, BenchError> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some thousands
    let count = (per_second * seconds).max(1.0) as usize;
    run_paced(engine, load.lanes(count, cores())?, per_second)
}

type Answer = (Instant, oneshot::Receiver<Committed>);

fn submit(
    engine: &Engine,
    lane: Vec<Statement>,
    interval: Duration,
    answers: &Sender<Answer>,
) -> Result<(), BenchError> {
    let began = Instant::now();
    for (place, statement) in (0u32..).zip(lane) {
        let due = began + interval * place;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        loop {
            match engine.admit(Arc::clone(&statement)) {
                Ok(Ticket::Waiting(answer)) => {
                    // Its end is gone only when a receipt could not be made, which `collect` says.
                    let _ = answers.send((due, answer));
                    break;
                }
                Ok(Ticket::Known(_)) => break,
                Err(SubmitError::NotNow(NotNow::Busy)) => std::thread::sleep(AGAIN),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Answers come in the order of their statements.
fn collect(engine: &Engine, answers: &Receiver<Answer>) -> Result<Vec<f64>, BenchError> {
    let mut waits = Vec::new();
    for (due, answer) in answers {
        let committed = answer.blocking_recv().map_err(|_| SubmitError::from(engine.gone()))?;
        is_done(&committed)?;
        std::hint::black_box(engine.receipt(&committed)?);
        waits.push(due.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}
