//! A ledger that grows by another node's blocks: no order thread, no queue, no key to seal with.

use super::{Engine, NodeState};
use crate::order::{Builder, DivergedIn, OpenLedgerError};
use crate::store::StoreOpenError;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tally_journal::files;

/// The block of another history, as its node had it in its log (`docs/formats/block.cddl`).
pub const SECOND_HISTORY: &str = "second-history.block";

/// Why a block of another node was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FollowFault {
    /// What came is not the next block, or not whole, or not sealed by the ledger. Nothing was touched: ask again, or elsewhere.
    #[error("{0}")]
    Block(Box<OpenLedgerError>),
    /// The block is sealed by the ledger and does not follow from what is here: two histories, another program, or a broken disk.
    /// The ledger is stopped.
    #[error("{0}")]
    Fatal(String),
}

/// The one who takes blocks.
pub(super) struct Follower {
    /// `None` when it failed or is closed.
    hand: Mutex<Option<Builder>>,
    following: Mutex<Following>,
}

/// How a node that follows is getting on.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// Whom it follows.
    pub from: String,
    /// Height of the last block there, when it was asked last.
    pub head: Option<u64>,
    /// When it answered last.
    pub heard: Option<Instant>,
    /// Why it does not get on.
    pub fault: Option<String>,
}

impl Following {
    /// For `/status`; `height` is ours.
    #[must_use]
    pub fn status(&self, height: Option<u64>) -> Value {
        json!({
            "from": self.from, "head": self.head, "behind_blocks": self.behind(height),
            "seconds_since_heard": self.heard.map(|at| at.elapsed().as_secs()), "fault": self.fault,
        })
    }

    /// Blocks that are there and not here; `None` before it answered once.
    #[must_use]
    pub fn behind(&self, height: Option<u64>) -> Option<u64> {
        Some((self.head? + 1).saturating_sub(height.map_or(0, |height| height + 1)))
    }
}

impl Follower {
    pub fn new(builder: Builder) -> Self {
        Self { hand: Mutex::new(Some(builder)), following: Mutex::default() }
    }

    /// Whether no block is being taken.
    pub fn is_idle(&self) -> bool {
        self.hand.try_lock().is_ok()
    }

    /// Makes durable what is here.
    pub fn close(&self) {
        let hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(builder) = hand
            && let Err(error) = builder.flush()
        {
            tracing::error!(%error, "the index could not be made durable; the next start does it again");
        }
    }
}

impl Engine {
    /// How following gets on; `None` where the node orders.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        let follower = self.inner.follower.as_ref()?;
        Some(follower.following.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Notes how following gets on.
    pub(crate) fn note_following(&self, note: impl FnOnce(&mut Following)) {
        if let Some(follower) = &self.inner.follower {
            note(&mut follower.following.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Takes the next block, as the node that orders has it in its log: checked, executed, compared, logged, synced. Blocks.
    ///
    /// # Errors
    /// [`FollowFault`].
    pub fn follow(&self, record: &[u8]) -> Result<(), FollowFault> {
        let stopped = || FollowFault::Fatal("this ledger is stopped".to_owned());
        let follower = self.inner.follower.as_ref().ok_or_else(stopped)?;
        let mut hand = follower.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut builder = hand.take().ok_or_else(stopped)?;
        self.inner.pulse.beat();
        match builder.follow(record) {
            Ok(purged) => {
                *hand = Some(builder);
                self.purge_all(&purged).map_err(|fault| {
                    self.fail(&fault);
                    FollowFault::Fatal(fault)
                })
            }
            Err(error) if left_untouched(&error) => {
                *hand = Some(builder);
                Err(FollowFault::Block(Box::new(error)))
            }
            Err(error) => {
                let mut words = crate::order::describe(&error);
                if let OpenLedgerError::Diverged { what: DivergedIn::Chain, .. } = error {
                    words += &self.keep_proof(record);
                }
                self.fail(&words);
                Err(FollowFault::Fatal(words))
            }
        }
    }

    /// A block that the ledger's key sealed and that does not follow from the one here: together they prove a second history.
    fn keep_proof(&self, record: &[u8]) -> String {
        let Some(folder) = self.inner.store.folder() else { return String::new() };
        match files::replace(&folder.join(SECOND_HISTORY), record) {
            Ok(()) => format!(
                "; the ledger's key sealed a second history, {} has the proof: keep it, and ask who has that key",
                folder.join(SECOND_HISTORY).display()
            ),
            Err(error) => format!("; the block could not be kept as a proof: {error}"),
        }
    }

    /// Stops the ledger for good: `reason` is for the operator.
    pub(crate) fn fail(&self, reason: &str) {
        tracing::error!(reason, "the ledger stopped; nothing more is taken until the node is started again");
        self.inner.state.send_replace(NodeState::Failed(reason.to_owned()));
    }
}

/// Whether it is about what came, before anything was done with it.
const fn left_untouched(error: &OpenLedgerError) -> bool {
    matches!(
        error,
        OpenLedgerError::NotNext { .. }
            | OpenLedgerError::Statement { .. }
            | OpenLedgerError::Store(StoreOpenError::Record { .. } | StoreOpenError::Key { .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::CheckedStatement;
    use crate::engine::{EngineConfig, LedgerKey};
    use crate::testing::Plant;
    use std::time::Duration;

    /// The ledger's thief accepts what nobody sealed: every root is right, and the follower still says no.
    #[test]
    fn what_its_signer_never_sealed_is_not_taken() {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let plant = Plant::new("press-line", 1, 1).unwrap();
        let config = EngineConfig::new("press-line", there.path(), plant.key.clone());
        let engine = Engine::open(config.with_genesis(plant.genesis().unwrap())).unwrap();
        let mut forged = plant.worn(0, 1, "nobody said so").unwrap();
        // The signature ends the COSE_Sign1 (RFC 9052 §4.2).
        let end = forged.len() - 1;
        forged[end] ^= 1;
        let statement = CheckedStatement::from_log(&forged).unwrap();
        engine.inner.queue.push(statement).unwrap();
        while engine.store().head().unwrap().checkpoint.height < 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let key = LedgerKey::from(plant.key.public().clone());
        let follower = Engine::open(EngineConfig::new("press-line", here.path(), key)).unwrap();
        follower.follow(&engine.store().block_record(0).unwrap()).unwrap();
        match follower.follow(&engine.store().block_record(1).unwrap()) {
            Err(FollowFault::Fatal(words)) => assert!(words.contains("never sealed"), "{words}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(follower.state(), NodeState::Failed(_)));
        assert_eq!(follower.store().blocks_in_log(), 1, "it is not in the log");
    }
}
