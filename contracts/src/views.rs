//! What the state says, for the node's API. Read only; may scan, so nothing of `execute` uses it. What cannot be read is
//! left out here: `execute` refuses over it (191).

mod accounts;
mod agreements;
mod anchors;
mod registry;

use crate::StateRead;
use crate::codec::Record;
use crate::records;

pub use accounts::{AccountView, accounts, totals};
pub use agreements::{
    AgreementFilter, AgreementView, StandingView, agreement, agreements, is_retired, retired, standing,
};
pub use anchors::{AnchorView, LastAnchorView, anchor_at, anchors, last_anchor};
pub use registry::{
    contract_entry, contract_text, device, devices, founders, is_revoked, is_rule_in_force, key_scheme, parties, party,
    retire_after, rule,
};

fn read<T: Record>(state: &dyn StateRead, key: &[u8]) -> Option<T> {
    records::load(state, key).ok().flatten()
}

fn scan<T: Record>(state: &dyn StateRead, prefix: &[u8]) -> impl Iterator<Item = (Vec<u8>, T)> {
    state.scan(prefix, usize::MAX).into_iter().filter_map(|(key, value)| Some((key, T::from_bytes(&value)?)))
}
