//! `attest:`: which actions need the word of several.

use super::super::contract::{Attest, Contract, Independent};
use crate::datum::{FieldType, parse_micros};
use crate::yaml::{Faults, Node};
use std::collections::BTreeMap;

/// Most devices of one group, the agreement's own included.
pub(crate) const GROUP_MAX: usize = 16;
/// Longest time window, and longest wait, 7 days in microseconds.
const LONGEST: i64 = 7 * 86_400_000_000;

/// Reads the section when everything it names is known.
pub(super) fn attest(node: &Node, contract: &Contract, faults: &mut Faults) -> BTreeMap<String, Attest> {
    let mut attest = BTreeMap::new();
    for (action, place, specs) in faults.map(node, "attest") {
        let path = format!("attest.{action}");
        if !contract.actions.contains_key(action) {
            let known = contract.actions.keys().cloned().collect::<Vec<_>>().join(", ");
            faults.add(place, &path, format!("`{action}` is no action"), format!("`actions:` has: {known}"));
            continue;
        }
        let read = one(specs, &path, action, contract, faults);
        attest.extend(read.map(|read| (action.to_owned(), read)));
    }
    attest
}

fn one(node: &Node, path: &str, action: &str, contract: &Contract, faults: &mut Faults) -> Option<Attest> {
    let mut section = faults.section(node, path);
    let key = |name: &str| format!("{path}.{name}");
    let k = section.need("k", faults).and_then(|node| {
        let k: usize = faults.parse(node, &key("k"), "how many must agree")?;
        let fits = (2..=GROUP_MAX).contains(&k);
        if !fits {
            faults.add(node, &key("k"), format!("is `{k}`"), format!("write 2 to {GROUP_MAX}"));
        }
        fits.then_some(k)
    });
    let of = section.need("of", faults).and_then(|node| {
        let name = faults.scalar(node, &key("of"), "a field that lists devices")?;
        let is_list = contract.fields.get(name) == Some(&FieldType::List);
        let fits = is_list && contract.standing.required.iter().any(|required| required == name);
        if !fits {
            let hint = "name a field of type list that is in `standing.required`: the owner lists the devices there";
            faults.add(node, &key("of"), format!("`{name}` does not list devices"), hint);
        }
        fits.then(|| name.to_owned())
    });
    let independent = match section.take("independent") {
        None => Some(Independent::Agents),
        Some(node) => {
            let word = faults.scalar(node, &key("independent"), "agents, firms or devices").unwrap_or_default();
            let found = Independent::ALL.into_iter().find(|independent| independent.word() == word);
            if found.is_none() {
                faults.add(node, &key("independent"), format!("is `{word}`"), "allowed: agents, firms, devices");
            }
            found
        }
    };
    let within = section.need("within", faults).and_then(|node| micros(node, &key("within"), faults));
    let wait = match section.take("wait") {
        Some(node) => micros(node, &key("wait"), faults),
        None => within.map(|within| within.saturating_mul(2)),
    };
    let tolerance = section.take("tolerance").map(|node| tolerances(node, path, action, contract, faults));
    section.finish(faults);
    let tolerance = tolerance.unwrap_or_default();
    Some(Attest { k: k?, of: of?, independent: independent?, within: within?, wait: wait?, tolerance })
}

fn micros(node: &Node, key: &str, faults: &mut Faults) -> Option<i64> {
    let text = faults.scalar(node, key, "a duration such as `30s`")?;
    let micros = parse_micros(text).filter(|micros| (1..=LONGEST).contains(micros));
    if micros.is_none() {
        faults.add(node, key, format!("is `{text}`"), "write a duration from 1us to 7d, such as `30s`");
    }
    micros
}

fn tolerances(
    node: &Node,
    path: &str,
    action: &str,
    contract: &Contract,
    faults: &mut Faults,
) -> BTreeMap<String, f64> {
    let args = contract.actions.get(action);
    let mut tolerances = BTreeMap::new();
    for (name, place, value) in faults.map(node, &format!("{path}.tolerance")) {
        let key = format!("{path}.tolerance.{name}");
        let kind = args.and_then(|args| args.get(name)).map(|(kind, _)| *kind);
        if !matches!(kind, Some(FieldType::Number | FieldType::Integer | FieldType::Time | FieldType::Duration)) {
            let hint =
                "name a number, integer, time or duration among the action's arguments; everything else must be equal";
            faults.add(place, &key, "has no tolerance", hint);
            continue;
        }
        let Some(text) = faults.scalar(value, &key, "how far apart they may be") else { continue };
        match text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => {
                tolerances.insert(name.to_owned(), number);
            }
            None => faults.add(value, &key, format!("is `{text}`"), "write a number, not negative"),
        }
    }
    tolerances
}
