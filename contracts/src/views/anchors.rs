//! Anchors of a device, by receive time or by number.

use super::read;
use crate::records::{AnchorPlace, LastAnchor};
use crate::{StateRead, keys};
use tally_model::{DeviceId, Timestamp};

/// An anchor of a device: the entry it stands in, and the entry that had registered the device with its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnchorView {
    /// Its entry.
    pub entry: u64,
    /// The registration it rests on.
    pub registered: u64,
}

/// The newest anchor of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastAnchorView {
    /// The number its agent gave it.
    pub number: u64,
    /// How many the ledger has taken of the device, this one included; [`anchor_at`] counts the same way.
    pub count: u64,
}

/// The anchors that cover receive times `from..=to` of a device, in ledger order, and the one before them: at most `limit`,
/// `None` when there are more.
#[must_use]
pub fn anchors(
    state: &dyn StateRead,
    device: &DeviceId,
    (from, to): (Timestamp, Timestamp),
    limit: u64,
) -> Option<Vec<AnchorView>> {
    let count = read::<LastAnchor>(state, &keys::last_anchor(device)).map_or(0, |last| last.count);
    let place = |number: u64| read::<AnchorPlace>(state, &keys::anchor(device, number));
    let reaches = |number, time, or_equal: bool| {
        place(number).is_some_and(|place| place.received > time || or_equal && place.received == time)
    };
    let begin = first_in(1, count, |number| reaches(number, from, true)).saturating_sub(1).max(1);
    let end = first_in(begin, count, |number| reaches(number, to, false)).min(count);
    if end.saturating_sub(begin) >= limit {
        return None;
    }
    let found = (begin..=end).filter_map(place);
    Some(found.map(|place| AnchorView { entry: place.entry, registered: place.registered }).collect())
}

/// The newest anchor of a device; `None` when it has none.
#[must_use]
pub fn last_anchor(state: &dyn StateRead, device: &DeviceId) -> Option<LastAnchorView> {
    read::<LastAnchor>(state, &keys::last_anchor(device))
        .map(|LastAnchor { number, count, .. }| LastAnchorView { number, count })
}

/// The anchor of a device that the ledger took as its `place`th, from 1.
#[must_use]
pub fn anchor_at(state: &dyn StateRead, device: &DeviceId, place: u64) -> Option<AnchorView> {
    let AnchorPlace { entry, registered, .. } = read(state, &keys::anchor(device, place))?;
    Some(AnchorView { entry, registered })
}

/// The first number in `first..=last` for which `holds` (which goes on holding behind it); `last + 1` when there is none.
fn first_in(first: u64, last: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (first, last.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
