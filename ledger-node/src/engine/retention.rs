//! The ledger forgets as its operator says: one pass at a time, while it works.

use super::{Engine, NodeState};
use crate::retain::{Done, Pass, Plan, RetainFault, Retention, Step, plan};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tally_model::Timestamp;

/// What is to be kept, and how the last pass ended.
#[derive(Default)]
pub(super) struct Retainer {
    pub retention: Retention,
    /// Held by the pass that runs.
    busy: Mutex<()>,
    /// Whether private fields of pruned statements may be left.
    unswept: AtomicBool,
    last: Mutex<Option<LastPass>>,
}

/// How the last pass ended.
#[derive(Debug, Clone)]
pub struct LastPass {
    /// When, by the computer's clock.
    pub at: Timestamp,
    /// What it did, or why it did not.
    pub done: Result<Done, String>,
}

impl Retainer {
    pub fn new(retention: Retention) -> Self {
        // What an interrupted pass left is looked for once.
        Self { retention, unswept: AtomicBool::new(true), ..Self::default() }
    }
}

impl Engine {
    /// What the operator wants to be kept.
    #[must_use]
    pub fn retention(&self) -> &Retention {
        &self.inner.retainer.retention
    }

    /// What a retention pass would do now.
    ///
    /// # Errors
    /// [`RetainFault`].
    pub fn retention_plan(&self) -> Result<Plan, RetainFault> {
        plan(&self.inner.store, self.retention(), self.inner.clock.now())
    }

    /// How the last pass ended.
    #[must_use]
    pub fn last_pass(&self) -> Option<LastPass> {
        self.inner.retainer.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a retention pass: what is older or more than the operator wants goes. Waits for one that runs. Blocks.
    ///
    /// # Errors
    /// [`RetainFault`]; what was done is done, and the next pass goes on.
    pub fn retain(&self) -> Result<Done, RetainFault> {
        self.retain_with(&mut |_| true)
    }

    /// The same; `step` is told of each step and may end the pass there.
    ///
    /// # Errors
    /// [`RetainFault`].
    pub fn retain_with(&self, step: &mut dyn FnMut(Step) -> bool) -> Result<Done, RetainFault> {
        let retainer = &self.inner.retainer;
        let _busy = retainer.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut step = |at| step(at) && matches!(self.state(), NodeState::Running | NodeState::Following);
        let now = self.inner.clock.now();
        let mut pass = Pass {
            store: &self.inner.store,
            ledger: self.ledger(),
            key: self.key(),
            retention: self.retention(),
            step: &mut step,
        };
        let done = pass.run(now).and_then(|done| self.forget_private(done));
        if done.is_err() {
            retainer.unswept.store(true, Ordering::SeqCst);
        }
        match &done {
            Err(RetainFault::Stopped) => return done,
            Err(fault) => tracing::error!(%fault, "a retention pass failed; nothing that must stay was deleted"),
            Ok(done) if done.over > 0 => tracing::error!(
                bytes = done.bytes,
                over = done.over,
                "the data folder is above `retention.disk`, and what is left in it must stay: give it more, or less days"
            ),
            Ok(_) => {}
        }
        let words = done.as_ref().map(Clone::clone).map_err(ToString::to_string);
        *retainer.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(LastPass { at: now, done: words });
        done
    }

    /// Private fields go with their statements.
    fn forget_private(&self, done: Done) -> Result<Done, RetainFault> {
        let unswept = &self.inner.retainer.unswept;
        if done.segments > 0 || unswept.load(Ordering::SeqCst) {
            unswept.store(true, Ordering::SeqCst);
            self.inner.private.forget_pruned(&self.inner.store)?;
            unswept.store(false, Ordering::SeqCst);
        }
        Ok(done)
    }
}
