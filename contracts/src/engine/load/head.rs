//! Everything of a contract but its transitions: name, parties, fields, key, standing terms, actions, ends.

use super::super::contract::{Blank, Contract, NEW, ROLE_KINDS, STANDING, Standing};
use super::super::expression::Expression;
use super::super::types::{Names, Type};
use super::compile;
use crate::datum::{Datum, FieldType, parse_micros};
use crate::yaml::{Faults, Node, Section};
use std::collections::{BTreeMap, BTreeSet};
use tally_model::{ActionName, ContractName, EvidenceQuality, Grade, PartyId, PointId};

/// Most roles and fields together; they are also the arguments of `standing`, and a call carries 64.
const NAMES_MAX: usize = 48;
/// Names that mean something else in an expression, or are words of CEL.
const RESERVED: &str = "now caller args trigger it currency contract entry as break const continue else for function if \
    import let loop package namespace return var void while in true false null int uint double bool string bytes list \
    map type size has all exists exists_one filter";
/// Names of native contracts.
pub(crate) const NATIVE: [&str; 4] = ["registry", "accounts", "access", "privacy"];

/// Reads the head; `None` when not even the name and version are right.
pub(super) fn head(section: &mut Section<'_>, faults: &mut Faults) -> Option<Contract> {
    let name = section.need("contract", faults);
    let name = name.and_then(|node| contract_name(node, faults));
    let version = section.need("version", faults);
    let version = version.and_then(|node| faults.parse(node, "version", "a whole number, rising with each version"));
    let prefix = section.need("prefix", faults).and_then(|node| prefix(node, faults));
    let about = section.take("about").and_then(|node| faults.scalar(node, "about", "a sentence or two"));
    let parties = section.need("parties", faults).map(|node| parties(node, faults)).unwrap_or_default();
    let fields = section.need("fields", faults).map(|node| fields(node, faults)).unwrap_or_default();
    let actions = section.need("actions", faults).map(|node| actions(node, faults)).unwrap_or_default();
    let ends = section.need("ends", faults).map(|node| words(node, "ends", faults)).unwrap_or_default();
    let key = section.need("key", faults).map(|node| key(node, &fields, faults)).unwrap_or_default();
    required_names(section.node, &parties, &fields, faults);
    let standing = section.take("standing").map(|node| standing(node, &parties, &fields, faults)).unwrap_or_default();
    let (grade, quality) = section.take("requires").map(|node| requires(node, faults)).unwrap_or_default();
    let blank = blank(&parties, &fields, &standing);
    Some(Contract {
        name: name?,
        version: version?,
        prefix: prefix?,
        about: about.unwrap_or_default().to_owned(),
        parties,
        fields,
        key,
        grade,
        quality,
        attest: BTreeMap::new(),
        standing,
        actions,
        ends,
        transitions: Vec::new(),
        blank,
    })
}

/// What the contract demands of every trigger, as `requires: {grade: device-sealed, quality: sound}`: one or both.
fn requires(node: &Node, faults: &mut Faults) -> (Option<Grade>, Option<EvidenceQuality>) {
    let mut section = faults.section(node, "requires");
    let grade = section.take("grade").and_then(|node| {
        let allowed = "allowed: device-sealed, agent-sealed, gateway-sealed";
        required_word(node, "requires.grade", allowed, |word| word.parse().ok(), faults)
    });
    let quality = section.take("quality").and_then(|node| {
        let allowed = "allowed: sound, doubtful, contradicted; contradicted takes all that was checked";
        required_word(node, "requires.quality", allowed, EvidenceQuality::from_word, faults)
    });
    section.finish(faults);
    if faults.map(node, "requires").is_empty() {
        faults.add(node, "requires", "demands nothing", "write `requires: {grade: …}`, `{quality: …}` or both");
    }
    (grade, quality)
}

fn required_word<T>(
    node: &Node,
    key: &str,
    allowed: &str,
    read: impl FnOnce(&str) -> Option<T>,
    faults: &mut Faults,
) -> Option<T> {
    let word = faults.scalar(node, key, "one word")?;
    let found = read(word);
    if found.is_none() {
        faults.add(node, key, format!("is `{word}`"), allowed);
    }
    found
}

fn blank(parties: &BTreeMap<String, String>, fields: &BTreeMap<String, FieldType>, standing: &Standing) -> Blank {
    let mut blank_parties: BTreeMap<_, _> = parties.keys().map(|role| (role.clone(), String::new())).collect();
    let mut blank_fields: BTreeMap<_, _> = fields.iter().map(|(name, kind)| (name.clone(), kind.zero())).collect();
    for (name, default) in &standing.optional {
        match default {
            Datum::Text(party) if parties.contains_key(name) => {
                blank_parties.insert(name.clone(), party.clone());
            }
            default => {
                blank_fields.insert(name.clone(), default.clone());
            }
        }
    }
    (blank_parties, blank_fields)
}

fn contract_name(node: &Node, faults: &mut Faults) -> Option<ContractName> {
    let name: ContractName = faults.parse(node, "contract", "a contract name")?;
    if NATIVE.contains(&name.as_str()) {
        faults.add(node, "contract", format!("`{name}` is a native contract"), "choose another name");
    }
    Some(name)
}

/// Short, because every agreement id begins with it.
fn prefix(node: &Node, faults: &mut Faults) -> Option<String> {
    let prefix = faults.scalar(node, "prefix", "a short word such as `mo`")?;
    let fits = (1..=16).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_lowercase());
    if !fits {
        faults.add(node, "prefix", format!("is `{prefix}`"), "write 1 to 16 small letters, such as `mo`");
    }
    fits.then(|| prefix.to_owned())
}

fn parties(node: &Node, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut parties = BTreeMap::new();
    for (role, place, kind) in faults.map(node, "parties") {
        let key = format!("parties.{role}");
        identifier(role, place, &key, faults);
        let word = faults.scalar(kind, &key, "a kind of party").unwrap_or_default();
        if !ROLE_KINDS.contains(&word) {
            faults.add(kind, &key, format!("is `{word}`"), format!("allowed: {}", ROLE_KINDS.join(", ")));
        }
        parties.insert(role.to_owned(), word.to_owned());
    }
    parties
}

fn fields(node: &Node, faults: &mut Faults) -> BTreeMap<String, FieldType> {
    let mut fields = BTreeMap::new();
    for (field, place, kind) in faults.map(node, "fields") {
        let key = format!("fields.{field}");
        identifier(field, place, &key, faults);
        let word = faults.scalar(kind, &key, "a type").unwrap_or_default();
        match field_type(word).filter(|kind| *kind != FieldType::Number) {
            Some(kind) => {
                fields.insert(field.to_owned(), kind);
            }
            None => faults.add(kind, &key, format!("`{word}` is no type of a field"), types_hint()),
        }
    }
    fields
}

fn field_type(word: &str) -> Option<FieldType> {
    FieldType::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
}

fn types_hint() -> String {
    let words: Vec<_> = FieldType::ALL.iter().map(|(_, word)| *word).collect();
    format!("allowed: {} (number only in arguments)", words.join(", "))
}

/// A CEL identifier that means nothing else.
fn identifier(name: &str, place: &Node, key: &str, faults: &mut Faults) {
    if let Err(fault) = PointId::try_new(name) {
        faults.add(place, key, format!("`{name}`: {fault}"), "expressions use the name: letters, digits, `_`");
    } else if RESERVED.split_ascii_whitespace().any(|word| word == name) {
        faults.add(place, key, format!("`{name}` is reserved"), "choose another name");
    }
}

fn actions(node: &Node, faults: &mut Faults) -> BTreeMap<String, BTreeMap<String, (FieldType, bool)>> {
    let mut actions = BTreeMap::new();
    for (action, place, args) in faults.map(node, "actions") {
        let path = format!("actions.{action}");
        if let Err(fault) = ActionName::try_new(action) {
            faults.add(place, &path, format!("`{action}`: {fault}"), "write a word such as `accept`");
        }
        if action == STANDING {
            faults.add(place, &path, "is reserved", "the owner's standing terms are part of every contract");
        }
        let mut specs = BTreeMap::new();
        for (name, place, kind) in faults.map(args, &path) {
            let key = format!("{path}.{name}");
            identifier(name, place, &key, faults);
            let word = faults.scalar(kind, &key, "a type").unwrap_or_default();
            let (bare, is_optional) = word.strip_suffix('?').map_or((word, false), |bare| (bare, true));
            match field_type(bare) {
                Some(kind) => {
                    specs.insert(name.to_owned(), (kind, is_optional));
                }
                None => {
                    faults.add(kind, &key, format!("`{word}` is no type"), types_hint() + "; `?` after it: optional")
                }
            }
        }
        actions.insert(action.to_owned(), specs);
    }
    actions
}

fn words(node: &Node, key: &str, faults: &mut Faults) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for item in faults.list(node, key) {
        let word: Option<ActionName> = faults.parse(item, key, "a state");
        words.extend(word.map(String::from));
    }
    if words.contains(NEW) {
        faults.add(node, key, "`new` is no state", "agreements are opened from `new`; none can be in it");
    }
    words
}

fn key(node: &Node, fields: &BTreeMap<String, FieldType>, faults: &mut Faults) -> Vec<String> {
    let mut key = Vec::new();
    for item in faults.list(node, "key") {
        let Some(name) = faults.scalar(item, "key", "a field") else { continue };
        match fields.get(name) {
            Some(FieldType::Device | FieldType::Text) => key.push(name.to_owned()),
            Some(_) => faults.add(item, "key", format!("`{name}` is no text"), "name fields of type device or text"),
            None => faults.add(item, "key", format!("`{name}` is no field"), "name fields of `fields:`"),
        }
    }
    if key.first().is_none_or(|first| first != "device") {
        faults.add(node, "key", "does not begin with `device`", "write `key: [device]` or `key: [device, fault]`");
    }
    key
}

/// Every contract is about a device, whose owner pays.
fn required_names(
    root: &Node,
    parties: &BTreeMap<String, String>,
    fields: &BTreeMap<String, FieldType>,
    faults: &mut Faults,
) {
    if parties.get("owner").is_none_or(|kind| kind != "organisation") {
        faults.add(root, "parties.owner", "is missing", "write `owner: organisation`: the owner of the device");
    }
    if fields.get("device") != Some(&FieldType::Device) {
        faults.add(root, "fields.device", "is missing", "write `device: device`: what the agreement is about");
    }
    for both in parties.keys().filter(|role| fields.contains_key(*role)) {
        faults.add(root, "fields", format!("`{both}` is a role and a field"), "give each its own name");
    }
    if parties.len() + fields.len() > NAMES_MAX {
        let found = format!("has {} roles and fields", parties.len() + fields.len());
        faults.add(root, "fields", found, format!("at most {NAMES_MAX} are allowed"));
    }
}

fn standing(
    node: &Node,
    parties: &BTreeMap<String, String>,
    fields: &BTreeMap<String, FieldType>,
    faults: &mut Faults,
) -> Standing {
    let mut section = faults.section(node, "standing");
    let kind_of = |name: &str| {
        let role = parties.get(name).filter(|_| name != "owner").map(|_| FieldType::Party);
        role.or_else(|| fields.get(name).copied().filter(|_| name != "device"))
    };
    let mut standing = Standing::default();
    let required = section.take("required").map(|node| faults.list(node, "standing.required")).unwrap_or_default();
    for item in required {
        let Some(name) = faults.scalar(item, "standing.required", "a role or field") else { continue };
        match kind_of(name) {
            Some(_) => standing.required.push(name.to_owned()),
            None => unknown_term(item, name, faults),
        }
    }
    let optional = section.take("optional").map(|node| faults.map(node, "standing.optional")).unwrap_or_default();
    for (name, place, value) in optional {
        match kind_of(name) {
            Some(kind) => {
                let default = default_of(kind, value, name, faults);
                standing.optional.insert(name.to_owned(), default);
            }
            None => unknown_term(place, name, faults),
        }
    }
    // Compiled by `requirements`, when the contract's names are known.
    section.take("require");
    section.finish(faults);
    standing
}

fn unknown_term(place: &Node, name: &str, faults: &mut Faults) {
    let hint = "name roles and fields of this contract, except `owner` and `device`, which the registry knows";
    faults.add(place, "standing", format!("`{name}` cannot be a standing term"), hint);
}

fn default_of(kind: FieldType, node: &Node, name: &str, faults: &mut Faults) -> Datum {
    let key = format!("standing.optional.{name}");
    let Some(text) = faults.scalar(node, &key, "what holds when nothing is given") else { return kind.zero() };
    let read = match kind {
        FieldType::Money | FieldType::Integer | FieldType::Time => text.parse().ok().map(Datum::Integer),
        FieldType::Duration => parse_micros(text).map(Datum::Integer),
        FieldType::Bool => text.parse().ok().map(Datum::Bool),
        FieldType::Party if !text.is_empty() => PartyId::try_new(text).ok().map(|id| Datum::Text(id.into())),
        FieldType::Party | FieldType::Text | FieldType::Device => Some(Datum::Text(text.to_owned())),
        FieldType::List | FieldType::Number => None,
    };
    read.unwrap_or_else(|| {
        faults.add(node, &key, format!("is `{text}`"), format!("write {}", kind.expected()));
        kind.zero()
    })
}

/// The conditions among the standing terms.
pub(super) fn requirements(section: &mut Section<'_>, contract: &Contract, faults: &mut Faults) -> Vec<Expression> {
    let Some(node) = section.take("standing") else { return Vec::new() };
    let mut names = Names::default();
    let standing = &contract.standing;
    for name in standing.required.iter().chain(standing.optional.keys()) {
        names.add(name, contract.fields.get(name).map_or(Type::Text, |kind| (*kind).into()));
    }
    // A throw-away list: unknown keys of the section are already told.
    let mut section = Faults::default().section(node, "standing");
    let items = section.take("require").map(|node| faults.list(node, "standing.require")).unwrap_or_default();
    items.iter().map(|item| compile(item, "standing.require", Type::Bool, &names, faults)).collect()
}
