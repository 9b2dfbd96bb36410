//! Opening: check what is kept, cut a torn tail, make durable what is found.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::error::{Damage, Fault, OpenError};
use crate::format::{CHAIN_START, ChainHash, HEADER_BYTES, Header, HeaderFault};
use crate::journal::{Journal, Segment};
use crate::scan::{Scan, WINDOW_BYTES, Window, scan};
use crate::storage::{DirStorage, SegmentName, Storage};
use crate::summary;
use crate::{Check, Options};

/// What opening cut off. Never part of a record that [`Journal::sync`] had confirmed (see the crate head for the one case
/// that cannot be told apart), still worth a line in the log: after a clean stop there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The segment, with its folder where there is one.
    pub file: String,
    /// First byte cut off; 0 when the whole segment, not yet in use, was removed.
    pub offset: u64,
    /// Number of bytes cut off.
    pub bytes: u64,
    /// What was wrong there.
    pub fault: Fault,
}

impl Journal<DirStorage> {
    /// Opens the journal in folder `dir`, creating it if need be, and locks it until dropped.
    ///
    /// Reads everything kept once, to check it, or less: [`Check`]. What is found counts as durable: it is synced before this returns.
    ///
    /// # Errors
    /// See [`OpenError`]. Damage to acknowledged records is an error and changes nothing on disk; only a torn tail is
    /// repaired, see [`Journal::repaired`].
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        Self::open_on(DirStorage::open(dir)?, options)
    }
}

impl<S: Storage> Journal<S> {
    /// Opens the journal on `storage`, see [`Journal::open`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(mut storage: S, options: Options) -> Result<Self, OpenError> {
        let mut names = segment_names(&storage)?;
        let stillborn = find_stillborn(&storage, &names)?;
        // Checked before anything is changed: damage leaves the folder as it was found.
        let kept = &names[..names.len() - usize::from(stillborn.is_some())];
        let mut checked = check(&storage, kept, stillborn.is_some(), options.check)?;
        let mut repaired = None;
        if let Some(stillborn) = stillborn {
            names.pop();
            repaired = stillborn.bury(&mut storage)?;
        }
        if names.is_empty() {
            let first = SegmentName(0);
            create_segment(&mut storage, first, &CHAIN_START)
                .map_err(|source| OpenError::Create { file: storage.describe(&first.to_string()), source })?;
            checked = check(&storage, &[first], false, options.check)?;
        }
        let Some(last) = checked.last.take() else { return Err(no_segment(&storage)) };
        checked.keep_summaries(&mut storage, last.name);
        repaired = last.mend(&mut storage)?.or(repaired);
        Ok(last.into_journal(storage, options, checked.segments, repaired))
    }
}

/// All segments, oldest first.
fn segment_names<S: Storage>(storage: &S) -> Result<Vec<SegmentName>, OpenError> {
    let files = storage.list().map_err(|source| OpenError::Read { file: storage.describe(""), source })?;
    let mut names = Vec::with_capacity(files.len());
    for file in files {
        names.push(SegmentName::parse(&file).ok_or_else(|| OpenError::Foreign { file: storage.describe(&file) })?);
    }
    names.sort_unstable();
    Ok(names)
}

/// Unreachable by construction (a first segment was just created); an error all the same, not a panic.
fn no_segment<S: Storage>(storage: &S) -> OpenError {
    OpenError::Read { file: storage.describe(""), source: io::ErrorKind::NotFound.into() }
}

/// Creates a segment that goes on at record `name.0`.
///
/// The order matters, at each line the power may go:
pub(crate) fn create_segment<S: Storage>(storage: &mut S, name: SegmentName, chain: &ChainHash) -> io::Result<()> {
    storage.create(name)?;
    // No file, or an empty one. Opening removes it: `Stillborn`.
    storage.write_at(name, 0, &Header { first: name.0, chain: *chain }.encode())?;
    // No file, an empty one, or a piece of a header. The same.
    storage.sync(name)?;
    // No file, or a segment without records. The same.
    storage.sync_directory()
    // Only now may records be written. So whatever is longer than a header once had a good header.
}

/// A last segment that was being created when the power went. It holds no record, and the one before it was synced.
struct Stillborn {
    name: SegmentName,
    length: u64,
    whole: bool,
}

fn find_stillborn<S: Storage>(storage: &S, names: &[SegmentName]) -> Result<Option<Stillborn>, OpenError> {
    let Some(&name) = names.last() else { return Ok(None) };
    let file = || storage.describe(&name.to_string());
    let length = storage.len(name).map_err(|source| OpenError::Read { file: file(), source })?;
    if length > HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    let found = bytes.len().min(crate::format::in_memory(length));
    storage.read_at(name, 0, &mut bytes[..found]).map_err(|source| OpenError::Read { file: file(), source })?;
    let header = Header::decode(&bytes);
    let alone = names.len() == 1;
    match header {
        Ok(_) if found == HEADER_BYTES && alone => Ok(None),
        // Whole, but its entry in the directory may not be durable. Not needed yet, and created again when it is.
        Ok(_) => Ok(Some(Stillborn { name, length, whole: true })),
        // `check` reports it.
        Err(HeaderFault::Newer(_)) => Ok(None),
        // It alone knew the number to go on with. Creation cannot have left this behind, so something else did.
        Err(_) if alone && name.0 > 0 => Err(Damage { file: file(), offset: 0, fault: Fault::Header }.into()),
        // Whatever the bytes are, a piece of a header or what the platter held before: no record can have followed them.
        Err(_) => Ok(Some(Stillborn { name, length, whole: false })),
    }
}

impl Stillborn {
    /// If the power goes in here, it is found again and buried again. The directory is synced by `Last::make_durable`,
    /// before anything is appended to the segment before it.
    fn bury<S: Storage>(self, storage: &mut S) -> Result<Option<Repair>, OpenError> {
        let file = storage.describe(&self.name.to_string());
        storage.delete(self.name).map_err(|source| OpenError::Repair { file: file.clone(), source })?;
        Ok((!self.whole).then_some(Repair { file, offset: 0, bytes: self.length, fault: Fault::Header }))
    }
}

/// All segments but the last, and the last.
struct Checked {
    segments: VecDeque<Segment>,
    /// Places in `segments` of those that were read because no summary fits.
    without_summary: Vec<usize>,
    last: Option<Last>,
}

impl Checked {
    /// Of the segments that were read, so that the next opening need not. A failure costs only that: a journal on a full disk
    /// must open, or nothing could be discarded.
    fn keep_summaries<S: Storage>(&self, storage: &mut S, last: SegmentName) {
        for &place in &self.without_summary {
            let next = self.segments.get(place + 1).map_or(last, |segment| segment.name);
            if let Some(segment) = self.segments.get(place) {
                summary::keep(storage, segment, next.0).ok();
            }
        }
    }
}

/// The segment that takes appends from now on.
pub(crate) struct Last {
    name: SegmentName,
    length: u64,
    pub(crate) scan: Scan,
}

/// Checks headers, frames, and that each segment continues the one before. `sealed`: not even the last may have a torn tail.
fn check<S: Storage>(storage: &S, names: &[SegmentName], sealed: bool, check: Check) -> Result<Checked, OpenError> {
    let segments = VecDeque::with_capacity(names.len() + 1);
    let mut checked = Checked { segments, without_summary: Vec::new(), last: None };
    for (place, &name) in names.iter().enumerate() {
        let before = checked.segments.back().map(|segment| segment.head);
        let Some(&following) = names.get(place + 1) else {
            checked.last = Some(check_segment(storage, name, before, !sealed)?);
            break;
        };
        if check == Check::LastSegment {
            if let Some(segment) = summary::sealed(storage, name, before, following) {
                checked.segments.push_back(segment);
                continue;
            }
            checked.without_summary.push(place);
        }
        let read = check_segment(storage, name, before, false)?;
        read.continues_in(storage, following)?;
        checked.segments.push_back(read.into_segment());
    }
    Ok(checked)
}

pub(crate) fn check_segment<S: Storage>(
    storage: &S,
    name: SegmentName,
    chain_before: Option<ChainHash>,
    may_be_torn: bool,
) -> Result<Last, OpenError> {
    let file = || storage.describe(&name.to_string());
    let read = |source| OpenError::Read { file: file(), source };
    let damage = |offset, fault| OpenError::Damaged(Damage { file: file(), offset, fault });
    let mut window = Window::new(storage, name).map_err(read)?;
    let bytes = window.get(0, HEADER_BYTES).map_err(read)?;
    let header = match bytes.first_chunk().map(Header::decode) {
        Some(Ok(header)) => header,
        Some(Err(HeaderFault::Foreign)) => return Err(OpenError::Foreign { file: file() }),
        Some(Err(HeaderFault::Newer(version))) => return Err(OpenError::Newer { file: file(), version }),
        Some(Err(HeaderFault::Damaged)) | None => return Err(damage(0, Fault::Header)),
    };
    if header.first != name.0 {
        return Err(damage(0, Fault::Name));
    }
    if chain_before.is_some_and(|chain| chain != header.chain) {
        return Err(damage(0, Fault::Chain));
    }
    let scan = scan(&mut window, &header).map_err(read)?;
    match scan.fault {
        Some(fault) if !may_be_torn || scan.mark_behind(&mut window).map_err(read)? => Err(damage(scan.end, fault)),
        _ => Ok(Last { name, length: window.length, scan }),
    }
}

impl Last {
    fn continues_in<S: Storage>(&self, storage: &S, name: SegmentName) -> Result<(), Damage> {
        if self.scan.next == name.0 {
            return Ok(());
        }
        let fault = Fault::Gap { expected: self.scan.next };
        Err(Damage { file: storage.describe(&name.to_string()), offset: 0, fault })
    }

    /// Cuts the torn tail and makes durable what is left. If the power goes in here, the next opening does it again.
    fn mend<S: Storage>(&self, storage: &mut S) -> Result<Option<Repair>, OpenError> {
        let file = storage.describe(&self.name.to_string());
        self.make_durable(storage).map_err(|source| OpenError::Repair { file: file.clone(), source })?;
        let cut = |fault| Repair { file, offset: self.scan.end, bytes: self.length - self.scan.end, fault };
        Ok(self.scan.fault.map(cut))
    }

    fn make_durable<S: Storage>(&self, storage: &mut S) -> io::Result<()> {
        if self.scan.fault.is_some() {
            storage.truncate(self.name, self.scan.end)?;
        }
        // The bytes from the last mark on may be in the page cache only. If an earlier sync failed, the kernel took them
        // for clean, and the next sync would say Ok without writing them. So write them again, over themselves: whatever
        // part of this survives, the bytes are the same.
        let mut at = self.scan.mark.unwrap_or(0);
        let mut bytes = Vec::new();
        while at < self.scan.end {
            bytes.resize(crate::format::in_memory(self.scan.end - at).min(WINDOW_BYTES), 0);
            storage.read_at(self.name, at, &mut bytes)?;
            storage.write_at(self.name, at, &bytes)?;
            at += bytes.len() as u64;
        }
        storage.sync(self.name)?;
        storage.sync_directory()
    }

    fn into_segment(self) -> Segment {
        let Scan { end, head, index, .. } = self.scan;
        Segment { name: self.name, bytes: end, head, index }
    }

    fn into_journal<S: Storage>(
        self,
        storage: S,
        options: Options,
        mut segments: VecDeque<Segment>,
        repaired: Option<Repair>,
    ) -> Journal<S> {
        let next = self.scan.next;
        let mark_due = self.scan.end > HEADER_BYTES as u64 && !self.scan.ends_in_mark();
        segments.push_back(self.into_segment());
        Journal::assemble(storage, options, segments, next, mark_due, repaired)
    }
}
