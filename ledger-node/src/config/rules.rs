//! Files of rules that go into the genesis.

use super::ConfigError;
use std::path::Path;
use tally_evidence::{RuleRecord, cbor};

/// Reads the rules of a file.
///
/// # Errors
/// [`ConfigError::Read`], [`ConfigError::Rule`].
pub fn load_rules(file: &Path) -> Result<Vec<RuleRecord>, ConfigError> {
    let bytes = std::fs::read(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    let record = |bytes: Vec<u8>| RuleRecord::from_cbor(cbor::bytes(bytes)).map_err(|fault| fault.to_string());
    let rules = match cbor::decode(&bytes) {
        Ok(cbor::Cbor::Array(items)) => {
            items.into_iter().map(|item| RuleRecord::from_cbor(item).map_err(|fault| fault.to_string())).collect()
        }
        Ok(_) => record(bytes).map(|rule| vec![rule]),
        Err(_) => hex_lines(&bytes).and_then(|lines| lines.into_iter().map(record).collect()),
    };
    rules.map_err(|reason| ConfigError::Rule { file: file.to_owned(), reason })
}

fn hex_lines(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is neither CBOR nor text".to_owned())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| hex::decode(line).map_err(|error| format!("`{line:.20}…` is not hexadecimal: {error}"))).collect()
}
