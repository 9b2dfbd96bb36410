//! `FOLLOWS`, a line in the data folder of a node that only follows: so that a copy of a ledger never begins to order by itself,
//! because somebody laid the ledger's key beside it. Two nodes that seal as one ledger make two histories of it.
//!
//! **Bytes**: `tallystick follows LEDGER KEY` (the id of the ledger's key, hexadecimal) and a line feed. **Who writes**: `tally ledger
//! join`, and a node with `follow` in its configuration, holding the lock of the log. **Who removes**: `tally ledger promote`, at an
//! operator's word that the other node will never order again.

use crate::engine::LedgerKey;
use crate::order::OpenLedgerError;
use std::fs;
use std::io;
use std::path::Path;
use tally_evidence::VerifyingKey;
use tally_journal::files;

/// Name of the file.
pub const FILE: &str = "FOLLOWS";
/// What stands before ledger and key.
const TITLE: &str = "tallystick follows ";

/// Whether the folder is marked.
#[must_use]
pub fn is_marked(data: &Path) -> bool {
    data.join(FILE).exists()
}

/// Marks the folder.
///
/// # Errors
/// It cannot be written.
pub fn put(data: &Path, ledger: &str, key: &VerifyingKey) -> io::Result<()> {
    if is_marked(data) {
        return Ok(());
    }
    files::replace(&data.join(FILE), format!("{TITLE}{ledger} {}\n", key.id()).as_bytes())
}

/// Takes the mark away.
///
/// # Errors
/// It cannot be removed.
pub fn take(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => files::sync_folder(data),
    }
}

/// Before a ledger is opened: refuses to order in a folder that follows, and marks one in which a node follows.
///
/// # Errors
/// [`OpenLedgerError::Follows`]; nothing was changed then.
pub fn check(data: &Path, ledger: &str, key: &LedgerKey) -> Result<(), OpenLedgerError> {
    match key {
        LedgerKey::Orders(_) if is_marked(data) => Err(OpenLedgerError::Follows(format!(
            "{} says that this folder follows another node, and node.yaml names the ledger's private key: two nodes must never \
             order one ledger. Write `follow` instead of `key`; or, when the other node is gone for ever, run `tally ledger promote`",
            data.join(FILE).display()
        ))),
        LedgerKey::Orders(_) => Ok(()),
        LedgerKey::Follows(key) => put(data, ledger, key).map_err(|error| {
            OpenLedgerError::Follows(format!("{} cannot be written: {error}", data.join(FILE).display()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::SigningKey;

    #[test]
    fn a_folder_that_follows_never_orders_before_it_is_promoted() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::from_secret(&[7; 32]).unwrap();
        let (orders, follows) = (LedgerKey::from(key.clone()), LedgerKey::from(key.public().clone()));
        check(dir.path(), "press-line", &orders).unwrap();
        assert!(!is_marked(dir.path()));
        check(dir.path(), "press-line", &follows).unwrap();
        let said = check(dir.path(), "press-line", &orders).unwrap_err().to_string();
        assert!(said.contains("FOLLOWS") && said.contains("promote"), "{said}");
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert_eq!(text, format!("tallystick follows press-line {}\n", key.public().id()));
        take(dir.path()).unwrap();
        take(dir.path()).unwrap();
        check(dir.path(), "press-line", &orders).unwrap();
    }
}
