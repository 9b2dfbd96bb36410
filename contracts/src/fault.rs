//! A mistake in a YAML text, with its place.

use std::fmt;

/// One mistake in a contract or genesis text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// Line, from 1; 0 when the mistake has no place.
    pub line: u64,
    /// Column, from 1; 0 when the mistake has no place.
    pub column: u64,
    /// Path of the key, such as `on[3].when`.
    pub key: String,
    /// What was found and what is wrong with it.
    pub found: String,
    /// What is right, or what to do.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}; {}", self.line, self.column, self.key, self.found, self.hint)
    }
}
