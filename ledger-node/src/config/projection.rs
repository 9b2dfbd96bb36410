//! The key `projection` of node.yaml: where the tables for questions are.

use super::Checker;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::Path;
use tally_projection::Place;

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
        const HINT: &str = "write `sqlite`, `off`, or {postgres: \"host=/run/postgresql dbname=tally\"}";
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
                Some((name, url)) if name == "postgres" && map.len() == 1 => {
                    let place = Place::Postgres(url.clone());
                    if let Err(fault) = place.check() {
                        self.fault(&raw, "projection.postgres", fault.to_string(), HINT);
                    }
                    Some(place)
                }
                _ => {
                    let keys = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.fault(&raw, "projection", format!("keys `{keys}`"), HINT);
                    None
                }
            },
        }
    }
}
