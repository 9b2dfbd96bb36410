//! What became of an input, in words.

use std::fmt::{Debug, Display};

/// What every target says of bytes that were read.
pub const TAKEN: &str = "taken";

pub fn plain<T, E: Display>(result: Result<T, E>) -> String {
    result.map_or_else(|fault| fault.to_string(), |_| TAKEN.to_owned())
}

/// What is read must be what would be written: one meaning, one form.
pub fn round<T, E: Display>(result: Result<T, E>, bytes: &[u8], write: impl Fn(&T) -> Vec<u8>) -> String {
    match result {
        Ok(read) => {
            assert_eq!(hex::encode(write(&read)), hex::encode(bytes), "taken in a second form");
            TAKEN.to_owned()
        }
        Err(fault) => fault.to_string(),
    }
}

pub fn text(bytes: &[u8], run: impl Fn(&str) -> String) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| "no text".to_owned(), run)
}

pub fn faults<T, E: Display>(result: Result<T, Vec<E>>) -> String {
    match result {
        Ok(_) => TAKEN.to_owned(),
        Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

/// Values by kind, reasons by name.
pub fn outcome<V: Debug, E: Debug>(outcome: &Result<V, E>) -> String {
    match outcome {
        Ok(value) => format!("{TAKEN} {}", format!("{value:?}").split('(').next().unwrap_or_default()),
        Err(reason) => format!("{reason:?}"),
    }
}
