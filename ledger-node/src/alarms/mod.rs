//! What somebody has to look at, until he says that he has: one list of the node, whatever raised the alarm.
//!
//! **Raised by** looking ([`watch`]): at what witnesses saw of this ledger, at what this node saw of others as their witness, and at anchors
//! that the ledger refused because their number or their readings were given before. **Kept** in `DATA/alarms.json`, replaced whole and synced, so a list
//! survives a restart; nothing is ever taken out of it. **Acknowledging** adds a name and words, and changes nothing else: what keeps a ledger
//! from being cosigned is settled where it stands (`docs/operator/witness.md`).
//!
//! **Limits.** One open alarm of a kind and subject at a time, [`ALARMS_MAX`] in all; then the file is to be put aside.

mod anchors;
mod list;
mod watch;

pub use list::{Acknowledged, Alarm, AlarmFault, AlarmKind, Alarms};
pub(crate) use watch::watch;

/// Alarms in the list; each waits for a person, so many mean that nobody looks.
const ALARMS_MAX: usize = 1_000;
/// Bytes of a name and of the words with which an alarm is acknowledged.
pub(crate) const WORDS_MAX: (usize, usize) = (100, 2_000);
