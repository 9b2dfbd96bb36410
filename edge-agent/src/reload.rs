//! A changed mapping, applied while the agent runs: what did not change goes on as if nothing had happened.
//!
//! The unit of change is the connection. A connection whose devices are all described as before keeps its socket, its
//! subscriptions and what it has buffered; any other one is stopped and made anew, with the devices that share it. Rules are
//! compared one by one: an unchanged one keeps its window, a changed one begins with an empty window but remembers whether it
//! is raised, as after a restart. The vault's chains go on in any case.
//!
//! Nothing is touched before everything is known to be well: a mapping with a fault changes nothing, and the answer says
//! every fault, as `tally check` does.

use crate::agent::{AgentError, AgentPlant};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_evidence::rule_digest;
use tally_model::DeviceSpec;
use tally_rules::Rule;
use tokio::sync::{mpsc, oneshot};

/// Where a mapping comes from: read anew each time.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Refused> + Send + Sync>;

/// A mapping as it is now.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it describes.
    pub plant: AgentPlant,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Every fault, with its lines, for people.
    pub text: String,
    /// The same for programs: file, line, column, key, message, found, allowed, hint.
    pub faults: Vec<Value>,
}

impl Refused {
    /// One reason that has no place in a file.
    pub fn because(text: impl Into<String>) -> Self {
        Self { text: text.into(), faults: Vec::new() }
    }
}

impl From<AgentError> for Refused {
    fn from(fault: AgentError) -> Self {
        Self::because(fault.to_string())
    }
}

/// Somebody asks for a reload; he gets the report.
pub type Request = oneshot::Sender<Result<Value, Refused>>;

/// Asks for a reload and waits for what came of it. `None` when the agent is stopping.
pub async fn ask(requests: &mpsc::Sender<Request>) -> Option<Result<Value, Refused>> {
    let (request, answer) = oneshot::channel();
    requests.send(request).await.ok()?;
    answer.await.ok()
}

/// Loads the mapping file of `agent.yaml`.
pub fn load_from(mapping: std::path::PathBuf) -> Load {
    Arc::new(move || {
        let environment = |name: &str| std::env::var(name).ok();
        match tally_mappings::load(&mapping, &environment) {
            Ok(plant) => Ok(Loaded {
                warnings: plant.warnings.iter().map(ToString::to_string).collect(),
                plant: AgentPlant { name: plant.name, devices: plant.devices, rules: plant.rules },
            }),
            Err(faults) => Err(Refused {
                text: faults.render(false),
                faults: faults.iter().filter_map(|fault| serde_json::to_value(fault).ok()).collect(),
            }),
        }
    })
}

/// What of a list is new, gone, different, the same; by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Not there before.
    pub added: Vec<String>,
    /// Not there any more.
    pub removed: Vec<String>,
    /// There, but different.
    pub changed: Vec<String>,
    /// As before.
    pub unchanged: Vec<String>,
}

impl Difference {
    /// Compares two lists by name.
    fn of<'a, T: 'a>(
        before: impl Iterator<Item = (String, &'a T)>,
        after: impl Iterator<Item = (String, &'a T)>,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let mut before: BTreeMap<_, _> = before.collect();
        let mut difference = Self::default();
        for (name, new) in after {
            let list = match before.remove(&name) {
                None => &mut difference.added,
                Some(old) if is_same(old, new) => &mut difference.unchanged,
                Some(_) => &mut difference.changed,
            };
            list.push(name);
        }
        difference.removed = before.into_keys().collect();
        difference
    }

    /// Of devices.
    #[must_use]
    pub fn of_devices(before: &[DeviceSpec], after: &[DeviceSpec]) -> Self {
        let named = |device: &'_ DeviceSpec| device.id.to_string();
        Self::of(
            before.iter().map(|device| (named(device), device)),
            after.iter().map(|device| (named(device), device)),
            PartialEq::eq,
        )
    }

    /// Of rules, by their digest: what the ledger knows them by.
    #[must_use]
    pub fn of_rules(before: &[Arc<Rule>], after: &[Arc<Rule>]) -> Self {
        let named = |rule: &'_ Arc<Rule>| format!("{}/{}", rule.source().device, rule.source().id);
        Self::of(
            before.iter().map(|rule| (named(rule), rule)),
            after.iter().map(|rule| (named(rule), rule)),
            |old, new| rule_digest(old.source()) == rule_digest(new.source()),
        )
    }
}

/// The answer to a reload. `reconnected` are the devices whose connection was made anew.
#[must_use]
pub fn report(devices: &Difference, rules: &Difference, reconnected: &[String], loaded: &Loaded) -> Value {
    let registered = |name: &String| rules.added.contains(name) || rules.changed.contains(name);
    let to_register = loaded.plant.rules.iter().filter_map(|rule| {
        let name = format!("{}/{}", rule.source().device, rule.source().id);
        registered(&name).then(|| json!({"rule": name, "digest": hex(&rule_digest(rule.source()))}))
    });
    let to_register: Vec<_> = to_register.collect();
    let along: Vec<_> = reconnected.iter().filter(|name| devices.unchanged.contains(name)).collect();
    let mut notes = Vec::new();
    if !to_register.is_empty() {
        notes.push(
            "the ledger refuses the triggers of a new or changed rule until the device's owner has registered it: \
             `tally plan --rules DIR` writes its bytes, `tally call registry register-rule` registers it"
                .to_owned(),
        );
    }
    if !along.is_empty() {
        notes.push("devices that share a connection with a changed one were connected anew with it".to_owned());
    }
    json!({
        "devices": {
            "added": devices.added, "removed": devices.removed, "changed": devices.changed,
            "unchanged": devices.unchanged.len(), "reconnected_along": along,
        },
        "rules": {
            "added": rules.added, "removed": rules.removed, "changed": rules.changed,
            "unchanged": rules.unchanged.len(),
        },
        "to_register": to_register, "warnings": loaded.warnings, "notes": notes,
    })
}

fn hex(bytes: &[u8; 32]) -> String {
    tally_evidence::StatementId(*bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_name_is_in_one_list(
            before in proptest::collection::btree_map("[a-e]", 0..3, 0..5),
            after in proptest::collection::btree_map("[a-e]", 0..3, 0..5),
        ) {
            let named = |map: &BTreeMap<String, i32>| map.clone().into_iter().collect::<Vec<_>>();
            let (old, new) = (named(&before), named(&after));
            let list = |map: &'_ [(String, i32)]| map.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let difference = Difference::of(
                old.iter().map(|(name, value)| (name.clone(), value)),
                new.iter().map(|(name, value)| (name.clone(), value)),
                PartialEq::eq,
            );
            let Difference { added, removed, changed, unchanged } = difference;
            let mut both = [added.clone(), changed.clone(), unchanged.clone()].concat();
            both.sort();
            prop_assert_eq!(both, list(&new));
            let mut both = [removed, changed.clone(), unchanged.clone()].concat();
            both.sort();
            prop_assert_eq!(both, list(&old));
            prop_assert!(unchanged.iter().all(|name| before[name] == after[name]));
            prop_assert!(changed.iter().all(|name| before[name] != after[name]));
            prop_assert!(added.iter().all(|name| !before.contains_key(name)));
        }
    }
}
