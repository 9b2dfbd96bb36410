//! The records behind the keys of [`crate::keys`], each a CBOR array in the order of its fields.

mod accounts;
mod agreements;
mod anchors;
mod registry;

use crate::Refusal;
use crate::codec::Record;
use crate::state::{Overlay, StateRead};

pub(crate) use accounts::Account;
pub use agreements::Agreement;
pub(crate) use agreements::{Standing, StepCause};
pub(crate) use anchors::{AnchorPlace, LastAnchor};
pub(crate) use registry::{Deployed, Device, Founding, Party, Registered, RuleInForce, Skills};

/// Reads the record under `key`.
pub(crate) fn load<T: Record>(state: &dyn StateRead, key: &[u8]) -> Result<Option<T>, Refusal> {
    let Some(bytes) = state.get(key) else { return Ok(None) };
    T::from_bytes(&bytes).map(Some).ok_or_else(|| corrupt(key))
}

/// Writes a record.
pub(crate) fn store<T: Record>(state: &mut Overlay<'_>, key: Vec<u8>, record: &T) {
    state.put(key, record.to_bytes());
}

pub(crate) fn corrupt(key: &[u8]) -> Refusal {
    Refusal::StateCorrupt { key: key.escape_ascii().to_string() }
}
