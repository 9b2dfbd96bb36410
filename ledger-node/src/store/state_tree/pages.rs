//! The pages of the state tree in a file, never written over while a durable top knows them.
//!
//! **Bytes.** The file is a row of pieces of [`UNIT_BYTES`]. A page takes as many in a row as it needs:
//! ```text
//! page number u32 │ bytes u32 │ CRC32C of number, bytes and page u32 │ page (see `StatePage`) │ unused up to the next piece
//! ```
//! All integers are little-endian. Which pieces are whose stands in the top ([`super::commit`]); all others are free.
//!
//! **Who writes.** The order thread. A page that changes goes to free pieces; those it had are free again when no top that could be
//! read after a crash knows them.

use crate::store::IndexFault;
use crate::store::disk::TreeFile;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_evidence::StatePage;

/// Bytes of a piece: half of it is lost in each page on average. With 32 bits for its number the file ends at 1 TiB.
pub const UNIT_BYTES: usize = 256;
const HEAD_BYTES: usize = 12;

/// Pieces of a page: the first one, and how many. None where a page has no leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    pub at: u32,
    pub units: u32,
}

/// The file, and whose its pieces are.
#[derive(Debug)]
pub struct Pages {
    file: Arc<TreeFile>,
    /// Of each page.
    extents: Vec<Extent>,
    /// Whether a page was written since the last top: then nobody else knows its pieces.
    is_fresh: Vec<bool>,
    /// Free pieces: how many in a row, to where.
    free: BTreeMap<u32, Vec<u32>>,
    /// What the last top knows and the next one will not.
    left: Vec<Extent>,
    /// Pieces in the file.
    end: u32,
}

impl Pages {
    /// The pages of a file as a top has them; `None` when it names pieces twice.
    pub fn open(file: Arc<TreeFile>, extents: Vec<Extent>) -> Option<Self> {
        let mut taken: Vec<Extent> = extents.iter().filter(|extent| extent.units > 0).copied().collect();
        taken.sort_unstable_by_key(|extent| extent.at);
        let (mut free, mut end) = (BTreeMap::<u32, Vec<u32>>::new(), 0);
        for extent in taken {
            match extent.at.checked_sub(end)? {
                0 => {}
                hole => free.entry(hole).or_default().push(end),
            }
            end = extent.at.checked_add(extent.units)?;
        }
        let is_fresh = vec![false; extents.len()];
        Some(Self { file, extents, is_fresh, free, left: Vec::new(), end })
    }

    /// No pages yet.
    pub const fn empty(file: Arc<TreeFile>) -> Self {
        Self { file, extents: Vec::new(), is_fresh: Vec::new(), free: BTreeMap::new(), left: Vec::new(), end: 0 }
    }

    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Bytes of the file that are or were used.
    pub fn bytes(&self) -> u64 {
        u64::from(self.end) * UNIT_BYTES as u64
    }

    pub fn file(&self) -> &Arc<TreeFile> {
        &self.file
    }

    /// A page more, without leaves.
    pub fn push(&mut self) {
        self.extents.push(Extent::default());
        self.is_fresh.push(true);
    }

    /// Reads a page into the memory of `content`, through that of `bytes`.
    pub fn read(&self, page: u32, content: &mut StatePage, bytes: &mut Vec<u8>) -> Result<(), IndexFault> {
        let Extent { at, units } = self.extents[page as usize];
        if units == 0 {
            content.clear();
            return Ok(());
        }
        bytes.resize(units as usize * UNIT_BYTES, 0);
        self.file.read(u64::from(at) * UNIT_BYTES as u64, bytes)?;
        let damaged = || self.file.damaged(&format!("page {page} is not what was written"));
        let (head, rest) = bytes.split_at(HEAD_BYTES);
        let (_, length, crc) = read_head(head).filter(|head| head.0 == page).ok_or_else(damaged)?;
        let body = rest.get(..length as usize).ok_or_else(damaged)?;
        if checksum(&head[..8], body) == crc && content.decode_from(body) { Ok(()) } else { Err(damaged()) }
    }

    /// Writes a page through the memory of `bytes`.
    pub fn write(&mut self, page: u32, content: &StatePage, bytes: &mut Vec<u8>) -> Result<(), IndexFault> {
        bytes.clear();
        bytes.resize(HEAD_BYTES, 0);
        content.encode(bytes);
        let length = u32::try_from(bytes.len() - HEAD_BYTES).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(&page.to_le_bytes());
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = checksum(&bytes[..8], &bytes[HEAD_BYTES..]);
        bytes[8..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        let units = if length == 0 { 0 } else { bytes.len().div_ceil(UNIT_BYTES) };
        bytes.resize(units * UNIT_BYTES, 0);
        let at = self.take_place(page, u32::try_from(units).unwrap_or(u32::MAX))?;
        if units == 0 { Ok(()) } else { self.file.write(u64::from(at) * UNIT_BYTES as u64, bytes) }
    }

    /// Where a page may be written: where it is, when only we know it, otherwise to free pieces.
    fn take_place(&mut self, page: u32, units: u32) -> Result<u32, IndexFault> {
        let old = self.extents[page as usize];
        let is_fresh = std::mem::replace(&mut self.is_fresh[page as usize], true);
        if is_fresh && old.units == units {
            return Ok(old.at);
        }
        if is_fresh {
            self.release(old)
        } else {
            self.left.push(old)
        }
        let at = match self.free.get_mut(&units).and_then(Vec::pop) {
            Some(at) => at,
            None => {
                let at = self.end;
                self.end = at.checked_add(units).ok_or_else(|| self.file.damaged("it has no room for more"))?;
                at
            }
        };
        self.extents[page as usize] = Extent { at, units };
        Ok(at)
    }

    fn release(&mut self, extent: Extent) {
        if extent.units > 0 {
            self.free.entry(extent.units).or_default().push(extent.at);
        }
    }

    /// A top is made of the pages as they are now. Gives what may be [`free`](Self::free)d when that top is durable.
    pub fn seal(&mut self) -> Vec<Extent> {
        self.is_fresh.fill(false);
        std::mem::take(&mut self.left)
    }

    /// These pieces belong to nobody any more.
    pub fn free(&mut self, extents: Vec<Extent>) {
        extents.into_iter().for_each(|extent| self.release(extent));
    }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

fn read_head(head: &[u8]) -> Option<(u32, u32, u32)> {
    let ([page, bytes, crc], []) = head.as_chunks::<4>() else { return None };
    Some((u32::from_le_bytes(*page), u32::from_le_bytes(*bytes), u32::from_le_bytes(*crc)))
}
