//! When the index is made durable.

use super::ids::RunLimits;

/// When the index is made durable. What is not is executed again after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushLimits {
    /// Blocks after which it is.
    pub blocks: u32,
    /// Entries after which it is.
    pub entries: u64,
    /// How the statement ids are then kept.
    pub runs: RunLimits,
}

impl Default for FlushLimits {
    /// Some seconds of executing again. On a ledger with little to do blocks are small: the fewer durable transactions, each of some tens of
    /// milliseconds, the fewer statements meet one.
    fn default() -> Self {
        Self { blocks: 4_096, entries: 50_000, runs: RunLimits::default() }
    }
}

/// Counts what is not durable yet.
#[derive(Debug, Default)]
pub struct FlushPolicy {
    blocks: u32,
    entries: u64,
}

impl FlushPolicy {
    /// Whether the block with so many entries should be made durable.
    pub fn is_due(&mut self, entries: u64, limits: FlushLimits) -> bool {
        self.blocks += 1;
        self.entries += entries;
        let is_due = self.blocks >= limits.blocks || self.entries >= limits.entries;
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}
