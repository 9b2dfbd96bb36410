//! One file of the disk in memory: what programs see of it, and what the platter holds.

use super::Random;

#[derive(Debug, Default, Clone)]
pub(super) struct MemFile {
    pub seen: Vec<u8>,
    kept: Vec<u8>,
    unsynced: Vec<Change>,
}

/// What a program did to a file since it was synced.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Data { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// Unit in which a disk writes: a sector is written whole or not at all. Torn bytes inside a sector are tried as well.
const SECTOR_BYTES: usize = 512;

impl MemFile {
    /// A file that is on the platter as it is.
    pub fn on_platter(contents: &[u8]) -> Self {
        Self { seen: contents.to_vec(), kept: contents.to_vec(), unsynced: Vec::new() }
    }

    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.kept);
        }
    }

    /// A failed sync: lengths reach the platter (a file system that cannot write its own tables stops), data by chance.
    pub fn sync_half(&mut self, random: &mut Random) {
        for change in self.unsynced.drain(..) {
            if matches!(change, Change::Length(_)) || random.below(2) == 0 {
                change.apply(&mut self.kept);
            }
        }
    }

    pub fn lose_power(&mut self, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        match random.below(6) {
            // Nothing had been written yet.
            0 => {}
            // All had been, by luck.
            1 => unsynced.iter().for_each(|change| change.apply(&mut self.kept)),
            // In order, up to some byte.
            2 => self.keep_some(unsynced, random, &mut |_| true, true),
            // Any sectors, in any order.
            3 => self.keep_some(unsynced, random, &mut |random| random.below(2) == 0, false),
            // Nearly all sectors.
            4 => self.keep_some(unsynced, random, &mut |random| random.below(8) != 0, false),
            // The new length, none of the data.
            _ => {
                let length = self.seen.len();
                self.extend(length, random);
            }
        }
        self.seen.clone_from(&self.kept);
    }

    fn keep_some(
        &mut self,
        unsynced: Vec<Change>,
        random: &mut Random,
        keep: &mut dyn FnMut(&mut Random) -> bool,
        is_torn: bool,
    ) {
        let mut pieces = sectors(unsynced);
        if is_torn {
            pieces.truncate(random.below(pieces.len() + 1));
            if let Some(Change::Data { bytes, .. }) = pieces.last_mut() {
                bytes.truncate(random.below(bytes.len() + 1));
            }
        }
        for piece in pieces {
            if keep(random) {
                if let Change::Data { offset, .. } = piece {
                    self.extend(offset, random);
                }
                piece.apply(&mut self.kept);
            }
        }
    }

    /// Grows the file over data that was not written: it then holds zeros, or what was on the platter before.
    fn extend(&mut self, length: usize, random: &mut Random) {
        let is_zero = random.below(2) == 0;
        while self.kept.len() < length {
            self.kept.push(if is_zero { 0 } else { random.byte() });
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Length(length) => to.resize(*length, 0),
            Change::Data { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

/// Splits writes at sector borders.
fn sectors(changes: Vec<Change>) -> Vec<Change> {
    let mut pieces = Vec::with_capacity(changes.len());
    for change in changes {
        let Change::Data { mut offset, bytes } = change else {
            pieces.push(change);
            continue;
        };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(SECTOR_BYTES - offset % SECTOR_BYTES));
            pieces.push(Change::Data { offset, bytes: piece.to_vec() });
            offset += piece.len();
            rest = behind;
        }
    }
    pieces
}
