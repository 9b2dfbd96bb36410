//! Following: the next blocks are asked for, checked, executed and compared, one after the other, for as long as the node runs.
//!
//! A source that does not answer, or gives what does not hold, is asked again, a little later each time; nothing of it was touched. A
//! block that the ledger's key sealed and that does not follow from what is here stops the node: that is for people to look at.

use super::join::JoinError;
use super::source::{Source, SourceFault};
use crate::engine::{Engine, FollowFault};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long the source may wait for a block before it says that there is none.
const WAIT_SECONDS: u64 = 15;
/// Pause after a failure: first, longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why a round brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum RoundFault {
    #[error(transparent)]
    Source(#[from] SourceFault),
    #[error(transparent)]
    Block(#[from] FollowFault),
    #[error("the work did not end in good order: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error(
        "{from} shows other blocks than it did: block {height} there is not the one here. It was restored from an old copy, or its key \
         sealed a second history"
    )]
    Turned { from: String, height: u64 },
}

impl From<RoundFault> for JoinError {
    fn from(fault: RoundFault) -> Self {
        match fault {
            RoundFault::Source(fault) => fault.into(),
            RoundFault::Block(fault) => fault.into(),
            RoundFault::Task(error) => error.into(),
            RoundFault::Turned { from, height } => Self::OtherHistory { height, source_address: from },
        }
    }
}

/// Follows until stopped, or until the ledger is.
pub async fn run(engine: Engine, source: Source, stop: CancellationToken) {
    let mut failures = 0_u32;
    engine.note_following(|note| note.from = source.address());
    let mut nobody = |_, _| {};
    loop {
        // Its thread may have failed behind the last block, and the next one may be far.
        if let Err(fault) = engine.store().check() {
            return engine.fail(&fault.to_string());
        }
        let round = tokio::select! {
            () = stop.cancelled() => return,
            round = once(&engine, &source, WAIT_SECONDS, &mut nobody) => round,
        };
        match round {
            Ok(_) => {
                if failures > 0 {
                    tracing::info!(failures, from = source.address(), "following again");
                }
                failures = 0;
                engine.note_following(|note| note.fault = None);
            }
            Err(RoundFault::Block(FollowFault::Fatal(_))) => return,
            Err(fault @ RoundFault::Turned { .. }) => return engine.fail(&fault.to_string()),
            Err(fault) => {
                if failures == 0 {
                    tracing::error!(%fault, "following stands still; asked again until it goes on");
                }
                failures = failures.saturating_add(1);
                engine.note_following(|note| note.fault = Some(fault.to_string()));
                let pause = PAUSE.0.saturating_mul(1 << failures.min(10)).min(PAUSE.1);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// Takes blocks until there are no more.
///
/// # Errors
/// [`RoundFault`].
pub async fn catch_up(
    engine: &Engine,
    source: &Source,
    told: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<(), RoundFault> {
    while once(engine, source, 0, told).await? > 0 {}
    Ok(())
}

/// Asks once, and takes what comes; gives how many blocks that were.
async fn once(
    engine: &Engine,
    source: &Source,
    wait: u64,
    told: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<usize, RoundFault> {
    let there = source.checkpoint(engine.key()).await?;
    heard(engine, source, &there)?;
    let next = engine.store().head().map_or(0, |head| head.checkpoint.height + 1);
    let blocks = source.blocks(next, wait).await?;
    let count = blocks.len();
    for block in blocks {
        let follower = engine.clone();
        tokio::task::spawn_blocking(move || follower.follow(&block)).await??;
        let height = engine.store().head().map_or(0, |head| head.checkpoint.height);
        engine.note_following(|note| note.head = note.head.max(Some(height)));
        told(height, there.height.max(height));
    }
    Ok(count)
}

/// The source answered. A checkpoint of a block that is here must be the one that is here.
fn heard(engine: &Engine, source: &Source, there: &tally_evidence::Checkpoint) -> Result<(), RoundFault> {
    engine.note_following(|note| {
        note.heard = Some(Instant::now());
        note.head = Some(there.height);
    });
    let turned = || RoundFault::Turned { from: source.address(), height: there.height };
    if there.ledger != engine.ledger() {
        return Err(turned());
    }
    let ours = match engine.store().block(there.height) {
        Ok(Some(row)) => row.checkpoint,
        _ => return Ok(()),
    };
    let ours = tally_evidence::Checkpoint::open(&ours, engine.key()).map_err(|_| turned())?;
    if ours.digest() == there.digest() { Ok(()) } else { Err(turned()) }
}
