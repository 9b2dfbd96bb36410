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
    /// Whether a thread of its own writes the index, while blocks go on. Otherwise each block is written before it is answered: the same
    /// writes in the same order each time, which tests that cut the power want.
    pub aside: bool,
}

impl Default for FlushLimits {
    /// Some seconds of executing again.
    fn default() -> Self {
        Self { blocks: 4_096, entries: 50_000, runs: RunLimits::default(), aside: true }
    }
}

/// Counts what is not durable yet.
#[derive(Debug, Default)]
pub struct FlushPolicy {
    blocks: u32,
    entries: u64,
}

impl FlushPolicy {
    /// Whether the transaction with so many blocks and entries should be durable.
    pub fn is_due(&mut self, blocks: usize, entries: u64, limits: FlushLimits) -> bool {
        self.blocks = self.blocks.saturating_add(u32::try_from(blocks).unwrap_or(u32::MAX));
        self.entries += entries;
        let is_due = self.blocks >= limits.blocks || self.entries >= limits.entries;
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}
