//! Why exactly a contract refused, in words: which device, which amount. The outcome holds the refusal's number alone, so the words are
//! the node's own and nobody's proof; they come back whenever blocks are executed again.
//!
//! **Limits.** [`BYTES_MAX`] a refusal, [`BLOCK_BYTES_MAX`] a block: whoever sends nonsense by the thousand gets the number.

use super::IndexFault;
use super::index::Index;
use super::pending::PendingBlock;
use redb::{ReadableDatabase, TableDefinition, WriteTransaction};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tally_contracts::Refusal;

/// Height and place among the block's outcomes to the words.
pub(super) const DETAILS: TableDefinition<'_, (u64, u32), &str> = TableDefinition::new("details");
/// Bytes of the longest; what is longer is cut.
const BYTES_MAX: usize = 512;
/// Bytes of all of a block.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// The details of one block.
#[derive(Debug, Default)]
pub struct Details {
    rows: Vec<(u32, String)>,
    bytes: usize,
}

impl Details {
    /// The outcome at `place` of the block is this refusal.
    pub fn push(&mut self, place: usize, refusal: &Refusal) {
        if self.bytes >= BLOCK_BYTES_MAX {
            return;
        }
        let mut text = refusal.to_string();
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        self.bytes += text.len();
        self.rows.push((u32::try_from(place).unwrap_or(u32::MAX), text));
    }

    /// What is said of the outcome at `place`.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&str> {
        self.rows.iter().find(|(at, _)| *at as usize == place).map(|(_, text)| text.as_str())
    }

    /// Place among the block's outcomes, and words.
    pub(super) fn rows(&self) -> &[(u32, String)] {
        &self.rows
    }
}

/// The blocks' outcomes are forgotten, and with them the words.
pub(super) fn forget(write: &WriteTransaction, heights: RangeInclusive<u64>) -> Result<(), IndexFault> {
    let all = (*heights.start(), 0)..=(*heights.end(), u32::MAX);
    Ok(write.open_table(DETAILS)?.retain_in(all, |_, _| false)?)
}

impl Index {
    /// Why exactly the outcome at `place` of block `height` is a refusal; `None` when it is none, or nothing is kept.
    pub fn detail(&self, height: u64, place: u64) -> Result<Option<String>, IndexFault> {
        if let Some(block) = self.pending.at(height) {
            return Ok(usize::try_from(place).ok().and_then(|place| block.details.at(place)).map(str::to_owned));
        }
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        let table = self.db.begin_read()?.open_table(DETAILS)?;
        Ok(table.get((height, place))?.map(|row| row.value().to_owned()))
    }

    /// The first block from `height` on with a refusal whose words are kept: every block that has any, for the first one always is.
    pub fn next_refusal(&self, height: u64) -> Result<Option<u64>, IndexFault> {
        let pending = self.pending.blocks();
        let table = self.db.begin_read()?.open_table(DETAILS)?;
        let first = table.range((height, 0)..)?.next().transpose()?.map(|(key, _)| key.value().0);
        let refused = |block: &&Arc<PendingBlock>| block.height >= height && !block.details.rows().is_empty();
        Ok(first.or_else(|| pending.iter().find(refused).map(|block| block.height)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(device: &str) -> Refusal {
        Refusal::UnknownDevice { device: device.to_owned() }
    }

    #[test]
    fn words_are_cut_between_characters_and_a_block_of_nonsense_is_bounded() {
        let mut details = Details::default();
        for place in 0..10_000 {
            details.push(place, &refusal(&"ü".repeat(1_000)));
        }
        assert!(details.at(0).unwrap().len() <= BYTES_MAX);
        assert!(details.bytes <= BLOCK_BYTES_MAX + BYTES_MAX);
        assert_eq!(details.at(9_999), None);
    }

    #[test]
    fn the_words_say_what_it_is_about() {
        let mut details = Details::default();
        details.push(3, &refusal("press-99"));
        assert!(details.at(3).unwrap().contains("press-99"));
        assert_eq!(details.at(2), None);
    }
}
