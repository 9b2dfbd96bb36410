//! What is known of a sealed segment, kept in a small file so that opening need not read the segment again.
//!
//! A summary is a help, never a truth: it is made from the segment, believed only where it fits what stands before, in and
//! behind the segment, and made anew by reading the segment where it does not. So nobody syncs it. All integers are
//! little-endian.
//!
//! ```text
//!  0  magic "TALLYSUM"
//!  8  version u32 = 1
//! 12  zero u32
//! 16  number of the first record u64
//! 24  chain hash after the last record [32]
//! 56  length of the segment in bytes u64
//! 64  number after the last record u64
//! 72  n u64
//! 80  n times: number u64 of the first record of a block of about 4 KiB, and the offset u64 of its frame
//!     CRC32C u32 over all bytes before
//! ```

use crate::format::{CHAIN_START, ChainHash, HEADER_BYTES, Header, u32_at, u64_at};
use crate::index::Index;
use crate::journal::Segment;
use crate::storage::{SegmentName, Storage};
use std::io;

const MAGIC: [u8; 8] = *b"TALLYSUM";
const VERSION: u32 = 1;
/// Bytes before the blocks.
const HEAD_BYTES: usize = 80;
/// Bytes of one block.
const BLOCK_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// A read summary.
#[derive(Debug)]
struct Summary {
    first: u64,
    head: ChainHash,
    bytes: u64,
    next: u64,
    index: Index,
}

/// Keeps the summary of a sealed segment; `next` follows its last record.
pub(crate) fn keep<S: Storage>(storage: &mut S, segment: &Segment, next: u64) -> io::Result<()> {
    storage.put_summary(segment.name, &encode(segment, next))
}

/// The sealed segment `name` by its summary: `None` when there is none, or when it does not fit the length of the segment, its
/// header, the chain hash `before` it, or the header of the segment `following`. Reading the segment then tells why.
pub(crate) fn sealed<S: Storage>(
    storage: &S,
    name: SegmentName,
    before: Option<ChainHash>,
    following: SegmentName,
) -> Option<Segment> {
    let summary = decode(&storage.summary(name).ok()??)?;
    let (own, behind) = (header(storage, name)?, header(storage, following)?);
    let fits = own.first == name.0
        && before.is_none_or(|chain| chain == own.chain)
        && summary.first == name.0
        && summary.bytes == storage.len(name).ok()?
        && summary.next == following.0
        && behind == Header { first: following.0, chain: summary.head };
    fits.then_some(Segment { name, bytes: summary.bytes, head: summary.head, index: summary.index })
}

fn header<S: Storage>(storage: &S, name: SegmentName) -> Option<Header> {
    let mut bytes = [0; HEADER_BYTES];
    storage.read_at(name, 0, &mut bytes).ok()?;
    Header::decode(&bytes).ok()
}

fn encode(segment: &Segment, next: u64) -> Vec<u8> {
    let blocks = segment.index.blocks();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + blocks.len() * BLOCK_BYTES + CRC_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&segment.name.0.to_le_bytes());
    bytes.extend_from_slice(&segment.head);
    for number in [segment.bytes, next, blocks.len() as u64] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for (number, offset) in blocks {
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&offset.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// `None` for anything that is not a whole summary whose blocks ascend within its segment.
fn decode(bytes: &[u8]) -> Option<Summary> {
    let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    let (head, blocks) = body.split_first_chunk::<HEAD_BYTES>()?;
    let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc)
        && head[..8] == MAGIC
        && u32_at(head, 8) == VERSION
        && blocks.len() % BLOCK_BYTES == 0
        && u64_at(head, 72) == (blocks.len() / BLOCK_BYTES) as u64;
    if !is_whole {
        return None;
    }
    let (first, bytes, next) = (u64_at(head, 16), u64_at(head, 56), u64_at(head, 64));
    let blocks: Vec<_> = blocks.chunks_exact(BLOCK_BYTES).map(|block| (u64_at(block, 0), u64_at(block, 8))).collect();
    let ascends = blocks.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
    let begins = blocks.first() == Some(&(first, HEADER_BYTES as u64));
    let ends = blocks.last().is_some_and(|&(number, offset)| number < next && offset < bytes);
    let mut chain = CHAIN_START;
    chain.copy_from_slice(&head[24..56]);
    (ascends && begins && ends).then(|| Summary { first, head: chain, bytes, next, index: Index::from_blocks(blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Segment {
        let mut index = Index::default();
        (0..300).for_each(|record| index.note(7 + record, 64 + record * 100, 100));
        Segment { name: SegmentName(7), bytes: 64 + 30_000, head: [9; 32], index }
    }

    #[test]
    fn what_was_kept_is_read_and_no_flipped_bit_is_believed() {
        let segment = sample();
        let mut bytes = encode(&segment, 307);
        let read = decode(&bytes).unwrap();
        assert_eq!((read.first, read.bytes, read.next, read.head), (7, 30_064, 307, [9; 32]));
        assert_eq!(read.index.blocks(), segment.index.blocks());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_none(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        (0..bytes.len()).for_each(|length| assert!(decode(&bytes[..length]).is_none(), "{length} bytes"));
    }

    proptest! {
        /// Bytes of somebody who knows the checksum: refused, or blocks that reading can follow.
        #[test]
        fn forged_blocks_stay_in_the_segment(
            numbers in proptest::collection::vec((0..20_u64, 0..200_u64), 0..6), bytes in 0..300_u64, next in 0..20_u64,
        ) {
            let index = Index::from_blocks(numbers);
            let forged = encode(&Segment { name: SegmentName(0), bytes, head: [0; 32], index }, next);
            if let Some(read) = decode(&forged) {
                for number in 0..next {
                    let block = read.index.block(number, bytes, 100).unwrap();
                    prop_assert!(block.first <= number && block.start < block.end && block.end <= bytes);
                }
            }
        }
    }
}
