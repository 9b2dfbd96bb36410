//! Submission at a steady pace, far below what there is room for.

use super::fast::is_done;
use super::{BenchError, load::Statement};
use crate::SubmitError;
use crate::engine::{Engine, Ticket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Triggers a second in the paced part.
pub(super) const PACE: u32 = 100;

/// Submits at a steady pace; gives milliseconds from submission to answer.
pub(super) fn run_paced(engine: &Engine, statements: &[Statement]) -> Result<Vec<f64>, BenchError> {
    let (interval, began) = (Duration::from_secs(1) / PACE, Instant::now());
    let mut waits = Vec::with_capacity(statements.len());
    for (place, statement) in (0u32..).zip(statements) {
        std::thread::sleep((interval * place).saturating_sub(began.elapsed()));
        let submitted = Instant::now();
        let Ticket::Waiting(answer) = engine.admit(Arc::clone(statement))? else { continue };
        let committed = answer.blocking_recv().map_err(|_| SubmitError::from(engine.gone()))?;
        waits.push(submitted.elapsed().as_secs_f64() * 1e3);
        is_done(committed.refusal)?;
    }
    Ok(waits)
}
