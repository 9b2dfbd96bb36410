//! Which segments of the file of pages are whose: how much of each is in use, which are free, which should be emptied.
//!
//! A segment is **known** when a top that could be read after a crash may name pages in it. It is free again when no page is in it and
//! it is not known any more.

use super::pages::Extent;

/// Pieces of a segment: 1 MiB. In tests so few that small trees fill many, and large pages do not fit into one.
pub const SEGMENT_UNITS: u32 = if cfg!(test) { 32 } else { 4096 };
/// Segments with pages in them that there may be besides half as many again as the pages would fill.
const SLACK: u64 = if cfg!(test) { 1 } else { 16 };

/// Segments that are filled at a time.
pub const STREAMS: usize = 2;

#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    /// Pieces of it that belong to pages.
    live: u32,
    is_known: bool,
    is_free: bool,
    /// Emptying it left something behind: a page that begins in the one before.
    is_stuck: bool,
}

/// All segments of the file.
#[derive(Debug, Default)]
pub struct Segments {
    all: Vec<Segment>,
    free: Vec<u32>,
    /// Pieces that belong to pages.
    live: u64,
    /// Segments with pages in them.
    filled: u64,
    /// Being filled, one of each stream: they are neither freed nor emptied.
    open: [Option<u32>; STREAMS],
    /// Being emptied: not freed before that is over, for its pieces are still looked through.
    emptying: Option<u32>,
}

impl Segments {
    /// Of a file whose pages lie here; a top knows all of them.
    pub fn of(extents: &[Extent]) -> Self {
        let mut segments = Self::default();
        extents.iter().for_each(|extent| segments.enter(*extent));
        for (number, segment) in (0..).zip(&mut segments.all) {
            (segment.is_known, segment.is_free) = (segment.live > 0, segment.live == 0);
            if segment.is_free {
                segments.free.push(number);
            }
        }
        segments
    }

    /// Segments of the file.
    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// The segment of a stream to fill next: a free one, otherwise one behind the last; `None` when pieces cannot be numbered any more.
    pub fn begin(&mut self, stream: usize) -> Option<u32> {
        let number = self.free.pop().unwrap_or(u32::try_from(self.all.len()).ok()?);
        number.checked_add(1)?.checked_mul(SEGMENT_UNITS)?;
        self.cover(number);
        self.all[number as usize].is_free = false;
        self.open[stream] = Some(number);
        Some(number)
    }

    /// It is full, or nothing more goes into it.
    pub fn end(&mut self, stream: usize) {
        if let Some(number) = self.open[stream].take() {
            self.free_if_empty(number);
        }
    }

    /// The first piece of a place for a page that is larger than a segment: free segments in a row, otherwise behind the last; `None` as in
    /// [`begin`](Self::begin).
    pub fn row(&mut self, units: u32) -> Option<u32> {
        let count = units.div_ceil(SEGMENT_UNITS);
        self.free.sort_unstable();
        let is_row = |row: &[u32]| row.first().zip(row.last()).is_some_and(|(first, last)| last - first + 1 == count);
        if let Some(place) = self.free.windows(count as usize).position(is_row) {
            let row: Vec<u32> = self.free.drain(place..place + count as usize).collect();
            row.iter().for_each(|number| self.all[*number as usize].is_free = false);
            return row.first()?.checked_mul(SEGMENT_UNITS);
        }
        let at = u32::try_from(self.all.len()).ok()?.checked_mul(SEGMENT_UNITS)?;
        at.checked_add(units)?.checked_add(SEGMENT_UNITS)?;
        Some(at)
    }

    /// A page is here now.
    pub fn enter(&mut self, extent: Extent) {
        for (number, units) in parts(extent) {
            self.cover(number);
            let segment = &mut self.all[number as usize];
            self.filled += u64::from(segment.live == 0);
            segment.live += units;
        }
        self.live += u64::from(extent.units);
    }

    /// A page is here no more.
    pub fn leave(&mut self, extent: Extent) {
        for (number, units) in parts(extent) {
            let segment = &mut self.all[number as usize];
            segment.live -= units;
            self.filled -= u64::from(segment.live == 0);
            self.free_if_empty(number);
        }
        self.live -= u64::from(extent.units);
    }

    /// A top is made of the pages as they are. Gives the segments that it does not know and an earlier one may: they may be
    /// [freed](Self::free) when it is durable.
    pub fn seal(&mut self) -> Vec<u32> {
        let mut leaving = Vec::new();
        for (number, segment) in (0..).zip(&mut self.all) {
            if segment.live > 0 {
                segment.is_known = true;
            } else if segment.is_known {
                leaving.push(number);
            }
        }
        leaving
    }

    /// No top knows these any more.
    pub fn free(&mut self, segments: Vec<u32>) {
        for number in segments {
            self.all[number as usize].is_known = false;
            self.free_if_empty(number);
        }
    }

    /// Gives the segment whose pages should be moved together with others; `None` when too little would come of it. One at a time.
    pub fn begin_emptying(&mut self) -> Option<u32> {
        self.emptying = self.sparse();
        self.emptying
    }

    fn sparse(&self) -> Option<u32> {
        let wanted = self.live * 3 / 2 / u64::from(SEGMENT_UNITS) + SLACK;
        if self.filled <= wanted {
            return None;
        }
        let filled = (0..).zip(&self.all).filter(|(number, segment)| {
            segment.live > 0
                && segment.live < SEGMENT_UNITS / 4 * 3
                && !segment.is_stuck
                && !self.open.contains(&Some(*number))
        });
        filled.min_by_key(|(_, segment)| segment.live).map(|(number, _)| number)
    }

    /// Everything that begins in the one that is being emptied was moved.
    pub fn emptied(&mut self) {
        let Some(number) = self.emptying.take() else { return };
        let segment = &mut self.all[number as usize];
        segment.is_stuck = segment.live > 0;
        self.free_if_empty(number);
    }

    fn cover(&mut self, number: u32) {
        let length = self.all.len().max(number as usize + 1);
        self.all.resize(length, Segment::default());
    }

    fn free_if_empty(&mut self, number: u32) {
        let is_in_use = self.emptying == Some(number) || self.open.contains(&Some(number));
        let segment = &mut self.all[number as usize];
        if segment.live == 0 && !segment.is_known && !segment.is_free && !is_in_use {
            *segment = Segment { is_free: true, ..Segment::default() };
            self.free.push(number);
        }
    }
}

/// Pieces of a page, segment by segment.
fn parts(extent: Extent) -> impl Iterator<Item = (u32, u32)> {
    let (mut at, end) = (extent.at, extent.at + extent.units);
    std::iter::from_fn(move || {
        let number = at / SEGMENT_UNITS;
        let units = end.min((number + 1).saturating_mul(SEGMENT_UNITS)).checked_sub(at).filter(|units| *units > 0)?;
        at += units;
        Some((number, units))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn page(at: u32, units: u32) -> Extent {
        Extent { at, units }
    }

    #[test]
    fn what_a_top_knows_is_free_only_behind_the_next_one() {
        let mut segments = Segments::default();
        let first = segments.begin(0).unwrap();
        segments.enter(page(0, 10));
        segments.end(0);
        assert_eq!(segments.seal(), [0; 0]);
        segments.leave(page(0, 10));
        let second = segments.begin(0).unwrap();
        assert_ne!(first, second, "the durable top still names what is in the first");
        segments.enter(page(SEGMENT_UNITS, 10));
        segments.end(0);
        let leaving = segments.seal();
        assert_eq!(leaving, [first]);
        segments.free(leaving);
        assert_eq!(segments.begin(0), Some(first));
        // Nobody knows what was written since: free at once.
        segments.enter(page(0, 4));
        segments.end(0);
        segments.leave(page(0, 4));
        assert_eq!(segments.begin(0), Some(first));
    }

    #[test]
    fn a_page_larger_than_a_segment_holds_all_that_it_covers() {
        let mut segments = Segments::default();
        let at = segments.row(SEGMENT_UNITS * 2 + 5).unwrap();
        let large = page(at, SEGMENT_UNITS * 2 + 5);
        segments.enter(large);
        assert_eq!((segments.len(), segments.begin(0)), (3, Some(3)));
        segments.end(0);
        segments.leave(large);
        // The same row again, as long as it is whole.
        assert_eq!(segments.row(SEGMENT_UNITS * 2 + 5), Some(at));
        segments.enter(large);
        segments.leave(large);
        let other = segments.begin(0).unwrap();
        segments.enter(page(other * SEGMENT_UNITS, 1));
        assert_eq!(segments.row(SEGMENT_UNITS * 3 + 1), Some(4 * SEGMENT_UNITS));
        segments.end(0);
        segments.leave(page(other * SEGMENT_UNITS, 1));
        let mut free: Vec<_> = (0..4).map(|_| segments.free.pop().unwrap()).collect();
        free.sort_unstable();
        assert_eq!(free, [0, 1, 2, 3]);
    }

    #[test]
    fn only_waste_makes_a_segment_sparse() {
        let full = |number: u32| page(number * SEGMENT_UNITS, SEGMENT_UNITS);
        let mut segments = Segments::of(&(0..40).map(full).collect::<Vec<_>>());
        assert_eq!(segments.sparse(), None, "all are full");
        for number in 0..35 {
            segments.leave(page(number * SEGMENT_UNITS, SEGMENT_UNITS - 1 - number / 8));
        }
        assert_eq!(segments.begin_emptying(), Some(0), "the emptiest");
        segments.emptied();
        assert_eq!(segments.begin_emptying(), Some(1), "the first cannot be emptied further");
    }

    #[test]
    fn a_segment_is_not_free_while_it_is_being_emptied() {
        let full = |number: u32| page(number * SEGMENT_UNITS, SEGMENT_UNITS);
        let mut segments = Segments::of(&(0..40).map(full).collect::<Vec<_>>());
        for number in 0..35 {
            segments.leave(page(number * SEGMENT_UNITS, SEGMENT_UNITS - 1));
        }
        assert_eq!(segments.begin_emptying(), Some(0));
        segments.free(vec![0]);
        segments.leave(page(SEGMENT_UNITS - 1, 1));
        assert_eq!(segments.begin(0), Some(40), "who looks through the first would find what is written into it");
        segments.emptied();
        assert_eq!(segments.begin(1), Some(0));
    }
}
