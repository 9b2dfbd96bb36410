//! Which entries access still rests on.

use super::records::{PolicyRow, Quarantine};
use crate::codec::Record;
use crate::records::corrupt;
use crate::{Refusal, StateRead, keys};

/// The calls behind everything in force: policies, open permits, quarantines, bars.
pub(crate) fn entries_in_force(state: &dyn StateRead) -> Result<Vec<u64>, Refusal> {
    let policy = |_: &[u8], row: &[u8]| PolicyRow::from_bytes(row).map(|row| row.entry);
    let quarantine = |_: &[u8], row: &[u8]| Quarantine::from_bytes(row).map(|row| row.entry);
    let bar = |_: &[u8], row: &[u8]| u64::from_bytes(row);
    // A permit is named by the entry that requested it.
    let permit = |key: &[u8], _: &[u8]| Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?));
    let mut entries = Vec::new();
    add(state, keys::POLICIES, policy, &mut entries)?;
    add(state, keys::QUARANTINES, quarantine, &mut entries)?;
    add(state, keys::BARS, bar, &mut entries)?;
    add(state, keys::PERMITS, permit, &mut entries)?;
    Ok(entries)
}

fn add(
    state: &dyn StateRead,
    prefix: &[u8],
    entry: impl Fn(&[u8], &[u8]) -> Option<u64>,
    entries: &mut Vec<u64>,
) -> Result<(), Refusal> {
    for (key, value) in state.scan(prefix, usize::MAX) {
        entries.push(entry(&key, &value).ok_or_else(|| corrupt(&key))?);
    }
    Ok(())
}
