//! How mistakes in a configuration are collected and told.

use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
use tally_contracts::Fault;

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has mistakes; all of them are here.
    #[error("{}", lines(file, faults))]
    Faults {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and where.
        faults: Vec<Fault>,
    },
    /// The private key cannot be read, or others may read it, too.
    #[error(transparent)]
    PrivateKey(#[from] tally_keys::KeyError),
    /// The key file holds no key.
    #[error("{}: {source}", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: tally_evidence::KeyFault,
    },
    /// A rule file holds no rules.
    #[error(
        "{}: {reason}; a rule file holds the canonical bytes of a rule, a CBOR array of such, or one in hexadecimal a line",
        file.display()
    )]
    Rule {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

fn lines(file: &Path, faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| format!("{}:{fault}", file.display()));
    lines.collect::<Vec<_>>().join("\n")
}

/// Reads YAML of one shape; `file` and `hint` say where the shape is written down.
pub(crate) fn check_yaml<T: serde::de::DeserializeOwned>(text: &str, file: &str, hint: &str) -> Result<T, Vec<Fault>> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![shape(&error, file, hint)])
}

fn shape(error: &serde_saphyr::Error, file: &str, hint: &str) -> Fault {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    Fault { line, column, key: file.to_owned(), found: error.without_snippet().to_string(), hint: hint.to_owned() }
}

/// Collects every fault.
pub(crate) struct Checker<'a> {
    pub(crate) folder: &'a Path,
    /// Where the text stands, when it stands in a file.
    pub(crate) file: Option<&'a Path>,
    pub(crate) faults: Vec<Fault>,
}

impl Checker<'_> {
    pub(crate) fn fault<T>(&mut self, at: &Spanned<T>, key: &str, found: String, hint: &str) {
        let (line, column) = (at.referenced.line(), at.referenced.column());
        self.faults.push(Fault { line, column, key: key.to_owned(), found, hint: hint.to_owned() });
    }

    pub(crate) fn number(
        &mut self,
        raw: &Option<Spanned<u64>>,
        key: &str,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = raw.as_ref()?;
        if !allowed.contains(&number.value) {
            let hint = format!("allowed are {} to {}", allowed.start(), allowed.end());
            self.fault(number, key, format!("{} is out of range", number.value), &hint);
        }
        Some(number.value)
    }
}

pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
