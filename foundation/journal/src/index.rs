//! Where the records of one segment begin: one entry per block of about 4 KiB, so that memory stays at 0.4 % of the disk
//! and a random read still costs a single read call.

/// A block ends with the record that crosses this many bytes. One page: a smaller block would not read less from disk.
const BLOCK_BYTES: u64 = 4096;

/// Record numbers and offsets of the first record of each block, ascending in both.
#[derive(Debug, Default)]
pub(crate) struct Index(Vec<(u64, u64)>);

/// Bytes `start..end` of a segment; the frame at `start` is record `first`. Other records and marks follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub first: u64,
    pub start: u64,
    pub end: u64,
}

impl Index {
    /// Tells the index of a record whose frame begins at `offset`, in ascending order.
    pub fn note(&mut self, number: u64, offset: u64, frame_bytes: u64) {
        // A large record begins its own block; else reading its small neighbour would read it too.
        let new_block = match self.0.last() {
            None => true,
            Some(&(_, start)) => offset - start >= BLOCK_BYTES || frame_bytes >= BLOCK_BYTES,
        };
        if new_block {
            self.0.push((number, offset));
        }
    }

    /// The block that holds `number`, extended by the blocks behind it up to about `bytes_wanted`. `segment_end` closes
    /// the last block. `None` when the number lies before the first record.
    pub fn block(&self, number: u64, segment_end: u64, bytes_wanted: u64) -> Option<Block> {
        let behind = self.0.partition_point(|&(first, _)| first <= number);
        let &(first, start) = self.0.get(behind.checked_sub(1)?)?;
        let more = self.0[behind..].partition_point(|&(_, offset)| offset - start < bytes_wanted);
        let end = self.0.get(behind + more).map_or(segment_end, |&(_, offset)| offset);
        Some(Block { first, start, end })
    }

    /// Record number and offset of each block.
    pub fn blocks(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// The index of blocks that ascend in both.
    pub fn from_blocks(blocks: Vec<(u64, u64)>) -> Self {
        Index(blocks)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_records_share_a_block_and_large_ones_do_not() {
        let mut index = Index::default();
        for number in 0..100 {
            index.note(number, 64 + number * 100, 100);
        }
        index.note(100, 64 + 10_000, 1 << 20);
        index.note(101, 64 + 10_000 + (1 << 20), 100);
        let end = 64 + 10_100 + (1 << 20);
        assert_eq!(index.block(0, end, 0), Some(Block { first: 0, start: 64, end: 64 + 4100 }));
        assert_eq!(index.block(40, end, 0), Some(Block { first: 0, start: 64, end: 64 + 4100 }));
        assert_eq!(index.block(99, end, 0), Some(Block { first: 82, start: 8264, end: 10_064 }));
        assert_eq!(index.block(100, end, 0), Some(Block { first: 100, start: 10_064, end: end - 100 }));
        assert_eq!(index.block(101, end, 0), Some(Block { first: 101, start: end - 100, end }));
        assert_eq!(index.block(0, end, 9_000), Some(Block { first: 0, start: 64, end: 10_064 }));
        assert_eq!(Index::default().block(0, 64, 0), None);
    }
}
