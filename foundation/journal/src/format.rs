//! The bytes: header, record frame, sync mark, hash chain. The layout is drawn in the crate head and frozen by
//! `tests/frozen_bytes.rs`.

use sha2::{Digest, Sha256};

/// First eight bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"TALLYJNL";
/// The layout written here. A reader refuses anything above it.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a segment header. One disk sector holds it, so a power cut leaves all of it or none on most devices.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes before the payload of a record: length and checksum.
pub(crate) const FRAME_BYTES: usize = 8;
/// Bytes of a sync mark.
pub(crate) const MARK_BYTES: usize = 24;
/// Stands where a record has its length. No record is that long, see [`crate::Options::record_bytes_max`].
pub(crate) const MARK_LENGTH: u32 = u32::MAX;
/// Record numbers stay below this, so that counting cannot overflow, not even from a forged file name.
pub(crate) const NUMBER_MAX: u64 = 1 << 63;

const _: () = assert!(FRAME_BYTES < MARK_BYTES && MARK_BYTES < HEADER_BYTES);

/// SHA-256 over all records up to some number.
pub(crate) type ChainHash = [u8; 32];
/// The chain before record 0.
pub(crate) const CHAIN_START: ChainHash = [0; 32];

/// Checked content of a segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub first: u64,
    pub chain: ChainHash,
}

/// Why 64 bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Other magic: not a file of ours.
    Foreign,
    /// Right magic, wrong checksum.
    Damaged,
    /// Checksum right, version above [`VERSION`].
    Newer(u32),
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.chain);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderFault> {
        if bytes[0..8] != MAGIC {
            return Err(HeaderFault::Foreign);
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderFault::Damaged);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            version if version > VERSION => return Err(HeaderFault::Newer(version)),
            _ => return Err(HeaderFault::Damaged),
        }
        let mut chain = CHAIN_START;
        chain.copy_from_slice(&bytes[24..56]);
        Ok(Header { first: u64_at(bytes, 16), chain })
    }
}

/// Length and checksum at the head of a frame; `None` when fewer than eight bytes are left.
pub(crate) fn frame_prefix(bytes: &[u8]) -> Option<(u32, u32)> {
    let bytes = bytes.first_chunk::<FRAME_BYTES>()?;
    Some((u32_at(bytes, 0), u32_at(bytes, 4)))
}

/// CRC32C over number and length; continue it over the payload.
pub(crate) fn record_crc_start(number: u64, length: u32) -> u32 {
    let mut bytes = [0; 12];
    bytes[0..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..12].copy_from_slice(&length.to_le_bytes());
    crc32c::crc32c(&bytes)
}

pub(crate) fn push_record(into: &mut Vec<u8>, number: u64, length: u32, payload: &[u8]) {
    let crc = crc32c::crc32c_append(record_crc_start(number, length), payload);
    into.reserve(FRAME_BYTES + payload.len());
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&crc.to_le_bytes());
    into.extend_from_slice(payload);
}

/// The mark for `offset`; `next` is the number of the record that follows.
pub(crate) fn mark(offset: u64, next: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..4].copy_from_slice(&MARK_LENGTH.to_le_bytes());
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&next.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[0..4]), &bytes[8..24]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The next record number that a mark at `offset` names, if the bytes there are one.
pub(crate) fn mark_number(bytes: &[u8], offset: u64) -> Option<u64> {
    let found = bytes.first_chunk::<MARK_BYTES>()?;
    let number = u64_at(found, 16);
    (*found == mark(offset, number)).then_some(number)
}

/// Hashes record `number` onto the chain; feed the payload, then [`finish`](Link::finish).
pub(crate) struct Link(Sha256);

impl Link {
    pub fn new(chain: &ChainHash, number: u64) -> Self {
        let mut start = [0; 40];
        start[..32].copy_from_slice(chain);
        start[32..].copy_from_slice(&number.to_le_bytes());
        Link(Sha256::new_with_prefix(start))
    }

    pub fn update(&mut self, payload: &[u8]) {
        self.0.update(payload);
    }

    pub fn finish(self) -> ChainHash {
        self.0.finalize().into()
    }
}

/// `bytes` must reach to `at + 4`: all callers pass arrays or chunks of that length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// `bytes` must reach to `at + 8`: all callers pass arrays.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Byte counts in memory. All of them are bounded by a window or a record, so this never saturates on a 64-bit machine.
pub(crate) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
