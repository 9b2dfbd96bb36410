//! What servers of one make can bear: data files with a source for every fact.

use crate::written::LimitsWritten;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The files, by name.
const FILES: [(&str, &str); 6] = [
    ("beckhoff", include_str!("../profiles/beckhoff.yaml")),
    ("codesys", include_str!("../profiles/codesys.yaml")),
    ("ignition", include_str!("../profiles/ignition.yaml")),
    ("kepware", include_str!("../profiles/kepware.yaml")),
    ("s7-1200", include_str!("../profiles/s7-1200.yaml")),
    ("s7-1500", include_str!("../profiles/s7-1500.yaml")),
];

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // title, facts and notes are for people, and are checked by a test
pub(crate) struct Profile {
    /// Its name, as in `profile:`.
    pub profile: String,
    /// Make and model.
    pub title: String,
    /// What it can bear.
    pub limits: LimitsWritten,
    /// For each key of `limits`, where the number comes from.
    pub sources: BTreeMap<String, String>,
    /// What else an engineer should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Names of all profiles.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The profile of this name; the error is a fault of a file we ship.
pub(crate) fn named(name: &str) -> Option<Result<Profile, String>> {
    let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(serde_saphyr::from_str(text).map_err(|fault| fault.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_every_profile_names_its_source() {
        for name in names() {
            let profile = named(name).unwrap().unwrap();
            assert_eq!(profile.profile, name);
            let LimitsWritten {
                subscriptions,
                items_per_subscription,
                items_per_call,
                nodes_per_read,
                nodes_per_browse,
                queue,
                sampling,
                publishing,
            } = &profile.limits;
            let written = [
                ("subscriptions", subscriptions.is_some()),
                ("items_per_subscription", items_per_subscription.is_some()),
                ("items_per_call", items_per_call.is_some()),
                ("nodes_per_read", nodes_per_read.is_some()),
                ("nodes_per_browse", nodes_per_browse.is_some()),
                ("queue", queue.is_some()),
                ("sampling", sampling.is_some()),
                ("publishing", publishing.is_some()),
            ];
            for (key, is_written) in written {
                let source = profile.sources.get(key).is_some_and(|source| source.len() > 20);
                assert_eq!(is_written, source, "{name}: `{key}` and its source");
            }
            assert!(!profile.title.is_empty());
        }
        assert!(named("abacus").is_none());
    }
}
