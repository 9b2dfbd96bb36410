//! The key `projection` of node.yaml: where the tables for questions are.

use super::Checker;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::Path;
use tally_projection::Place;
use tally_secrets::{SecretFault, read_password};

const HINT: &str = "write `sqlite`, `off`, or {postgres: \"host=/run/postgresql dbname=tally\"}";

/// A word, or where PostgreSQL is.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawProjection {
    Flag(bool),
    Word(String),
    Database(BTreeMap<String, String>),
}

impl Checker<'_> {
    pub(super) fn projection(&mut self, raw: Option<Spanned<RawProjection>>, data: &Path) -> Option<Place> {
        let sqlite = Some(Place::Sqlite(data.join(crate::projection::FILE)));
        let Some(raw) = raw else { return sqlite };
        match &raw.value {
            RawProjection::Word(word) if word == "sqlite" => sqlite,
            // YAML 1.1 takes `off` for a boolean, 1.2 for a word.
            RawProjection::Flag(false) => None,
            RawProjection::Word(word) if word == "off" => None,
            RawProjection::Flag(true) => sqlite,
            RawProjection::Word(word) => {
                self.fault(&raw, "projection", format!("`{word}`"), HINT);
                None
            }
            RawProjection::Database(map) => match map.iter().next() {
                Some((name, address)) if name == "postgres" && map.len() == 1 => self.postgres(&raw, address),
                _ => {
                    let keys = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.fault(&raw, "projection", format!("keys `{keys}`"), HINT);
                    None
                }
            },
        }
    }

    /// The address, or `file:` and a file with it, which nobody but the node may read.
    fn postgres(&mut self, raw: &Spanned<RawProjection>, written: &str) -> Option<Place> {
        const AT: &str = "projection.postgres";
        let file = written.strip_prefix("file:").map(|file| self.folder.join(file));
        let read =
            file.as_ref().map_or_else(|| Ok(written.to_owned()), |file| Ok(read_password(file)?.as_str().to_owned()));
        let address =
            read.map_err(|fault: SecretFault| self.fault(raw, AT, format!("`{written}`: {fault}"), HINT)).ok()?;
        let place = Place::Postgres(address);
        if let Err(fault) = place.check() {
            self.fault(raw, AT, fault.to_string(), HINT);
        }
        let open = self.file.filter(|_| file.is_none() && place.has_password()).map(tally_secrets::judge);
        if let Some(Err(open)) = open {
            let hint = "or put the address into a file of its own: {postgres: \"file:PATH\"}";
            self.fault(raw, AT, format!("with a password in it, {open}"), hint);
        }
        Some(place)
    }
}
