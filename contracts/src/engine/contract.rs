//! A contract as the engine runs it: loaded from YAML, checked, immutable.

use super::Expression;
use super::graph;
use super::load;
use crate::datum::{Datum, FieldType};
use crate::refusal::Refusal;
use crate::{Fault, yaml};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use tally_evidence::cbor::Cbor;
use tally_model::{ContractName, EvidenceQuality, Grade};

/// Longest contract text, bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The pseudo-state in which an agreement is opened.
pub const NEW: &str = "new";
/// The action by which a device's owner agrees to standing terms; no contract may define it.
pub const STANDING: &str = "standing";

/// The kinds a role can ask of its holder: an organisation, a person, or anyone who is registered.
pub(crate) const ROLE_KINDS: [&str; 5] = ["organisation", "person", "agent", "regulator", "any"];

/// A checked contract.
#[derive(Debug)]
pub struct Contract {
    /// Its name.
    pub name: ContractName,
    /// Its version; a running agreement keeps the one it began with.
    pub version: u64,
    /// Agreements are called prefix, `-`, number.
    pub prefix: String,
    /// One or two sentences for people.
    pub about: String,
    /// Role to kind: `organisation`, `person`, `agent`, `regulator` or `any`.
    pub parties: BTreeMap<String, String>,
    /// Field to type.
    pub fields: BTreeMap<String, FieldType>,
    /// At most one agreement per value of these fields is open; `device` first.
    pub key: Vec<String>,
    /// The least grade of evidence of the triggers it listens to.
    pub grade: Option<Grade>,
    /// The least quality of evidence of these triggers; what was not checked is below all.
    pub quality: Option<EvidenceQuality>,
    /// Actions that need the triggers of several, with how many and how alike.
    pub attest: BTreeMap<String, Attest>,
    /// What the owner of the device fixes beforehand.
    pub standing: Standing,
    /// Action to arguments: type, and whether it may be absent.
    pub actions: BTreeMap<String, BTreeMap<String, (FieldType, bool)>>,
    /// Final states.
    pub ends: BTreeSet<String>,
    /// What leads where; the first that fits is taken.
    pub transitions: Vec<Transition>,
    /// Roles and fields of an agreement before anything is known: nobody, zero, or what holds otherwise.
    pub(crate) blank: Blank,
}

/// Role to nobody, and field to its first value.
pub(crate) type Blank = (BTreeMap<String, String>, BTreeMap<String, Datum>);

/// What the owner of a device fixes before anything happens.
#[derive(Debug, Default)]
pub struct Standing {
    /// Roles and fields that must be given.
    pub required: Vec<String>,
    /// Roles and fields that may be given, with what holds otherwise.
    pub optional: BTreeMap<String, Datum>,
    /// What must hold among them.
    pub require: Vec<Expression>,
}

/// k of n: how many triggers of different sources must agree before a contract acts on them.
#[derive(Debug, Clone, PartialEq)]
pub struct Attest {
    /// How many.
    pub k: usize,
    /// The field of the standing terms that lists the devices beside the agreement's own.
    pub of: String,
    /// What makes two sources independent.
    pub independent: Independent,
    /// How far apart their rule times may be, µs.
    pub within: i64,
    /// How long the contract waits for the others after the first, block time, µs.
    pub wait: i64,
    /// Arguments that may differ, and how far; all others must be equal.
    pub tolerance: BTreeMap<String, f64>,
}

/// What makes two sources independent of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Independent {
    /// Other agents speak for them.
    Agents,
    /// Agents of other firms do.
    Firms,
    /// Other devices are enough, also of one agent: redundant sensors.
    Devices,
}

impl Independent {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Agents, Self::Firms, Self::Devices];

    /// The word in a contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Firms => "firms",
            Self::Devices => "devices",
        }
    }
}

/// One line of `on:`.
#[derive(Debug)]
pub struct Transition {
    /// Its line in the YAML text.
    pub line: u64,
    /// Its column.
    pub column: u64,
    /// States it leads from; [`NEW`] opens an agreement.
    pub from: Vec<String>,
    /// What causes it.
    pub cause: Cause,
    /// What must hold.
    pub when: Option<Expression>,
    /// State it leads to; without one the agreement stays, and its term runs on.
    pub to: Option<String>,
    /// What it does, in order.
    pub effects: Vec<EffectSpec>,
}

/// What causes a transition.
#[derive(Debug)]
pub enum Cause {
    /// A raised trigger whose rule asks for this action.
    Trigger(String),
    /// A call of this action by the holder of a role, or a person of the firm that holds it.
    Call {
        /// The action.
        action: String,
        /// The role.
        by: String,
    },
    /// Nothing happened for this long, in microseconds, since the state was entered.
    Term(Expression),
}

/// One effect of a transition.
#[derive(Debug)]
pub enum EffectSpec {
    /// Sets fields; all expressions see the values before.
    Set(Vec<(String, Expression)>),
    /// Moves money from a role's account into the agreement's escrow.
    Escrow {
        /// The payer's role.
        from: String,
        /// How much.
        amount: Expression,
    },
    /// Moves money from escrow to a role's account.
    Pay {
        /// The payee's role.
        to: String,
        /// How much.
        amount: Expression,
    },
    /// Gives what is left in escrow back to the payer.
    Release,
    /// Chooses a person of a firm for a role.
    Choose {
        /// The role to fill.
        role: String,
        /// The role that holds the firm.
        from: String,
        /// Who fits.
        filter: Expression,
        /// Who comes first; the id decides in the end.
        order: Vec<Order>,
        /// State to go to when nobody fits; without one the input is refused.
        otherwise: Option<String>,
    },
    /// Tells the world.
    Emit {
        /// Kind of the event, `contract.word`.
        kind: String,
        /// Its data.
        with: Vec<(String, Expression)>,
    },
}

/// Orders of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Fewest open agreements first.
    OpenOrders,
    /// By id.
    Id,
}

impl Contract {
    /// Loads and checks a contract.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_yaml(text: &str) -> Result<Self, Vec<Fault>> {
        if text.len() > TEXT_BYTES_MAX {
            let found = format!("the text has {} bytes", text.len());
            let hint = format!("at most {TEXT_BYTES_MAX} are allowed");
            return Err(vec![Fault { line: 1, column: 1, key: String::new(), found, hint }]);
        }
        let root = yaml::parse(text).map_err(|fault| vec![fault])?;
        let mut faults = yaml::Faults::default();
        let contract = load::load(&root, &mut faults);
        match contract {
            Some(contract) => {
                graph::check(&contract, &root, &mut faults);
                if faults.0.is_empty() { Ok(contract) } else { Err(sorted(faults)) }
            }
            None => Err(sorted(faults)),
        }
    }

    /// Every state, without [`NEW`].
    #[must_use]
    pub fn states(&self) -> BTreeSet<&str> {
        let from = self.transitions.iter().flat_map(|transition| &transition.from).filter(|state| *state != NEW);
        let to = self.transitions.iter().flat_map(Transition::targets);
        from.map(String::as_str).chain(to).chain(self.ends.iter().map(String::as_str)).collect()
    }

    /// The actions possible in a state, for refusals and menus.
    #[must_use]
    pub fn possible(&self, state: &str) -> Vec<&str> {
        let here = self.transitions.iter().filter(|transition| transition.is_from(state));
        let actions: BTreeSet<_> = here.filter_map(|transition| transition.cause.action()).collect();
        actions.into_iter().collect()
    }

    /// Reads the arguments of a call: as [`Contract::read_args`], and none that the action does not know.
    pub(crate) fn read_call_args(
        &self,
        action: &str,
        args: &BTreeMap<String, Cbor>,
    ) -> Result<BTreeMap<String, Datum>, Refusal> {
        let specs = self.actions.get(action).ok_or_else(|| self.unknown_action(action))?;
        if let Some(unknown) = args.keys().find(|name| !specs.contains_key(*name)) {
            let known = specs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(Refusal::UnknownArgument { argument: unknown.clone(), known });
        }
        self.read_args(action, |name| args.get(name).map(Cow::Borrowed))
    }

    /// Reads the arguments of an action as `given` gives them: complete, of the right type; optional ones get their zero.
    pub(crate) fn read_args<'a>(
        &self,
        action: &str,
        given: impl Fn(&str) -> Option<Cow<'a, Cbor>>,
    ) -> Result<BTreeMap<String, Datum>, Refusal> {
        let specs = self.actions.get(action).ok_or_else(|| self.unknown_action(action))?;
        let mut read = BTreeMap::new();
        for (name, (kind, is_optional)) in specs {
            let datum = match given(name) {
                Some(value) => kind.read(&value).ok_or_else(|| bad_argument(name, &value, kind.expected()))?,
                None if *is_optional => kind.zero(),
                None => return Err(Refusal::MissingArgument { argument: name.clone() }),
            };
            read.insert(name.clone(), datum);
        }
        Ok(read)
    }

    pub(crate) fn unknown_action(&self, action: &str) -> Refusal {
        let known = self.actions.keys().map(String::as_str).chain([STANDING]).collect::<Vec<_>>().join(", ");
        Refusal::UnknownAction { contract: self.name.to_string(), action: action.to_owned(), known }
    }
}

pub(crate) fn bad_argument(name: &str, value: &Cbor, expected: impl Into<String>) -> Refusal {
    let found = match value {
        Cbor::Text(text) => format!("`{}`", text.chars().take(80).collect::<String>()),
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Bool(flag) => flag.to_string(),
        Cbor::Float(number) => number.to_string(),
        Cbor::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Cbor::Array(items) => format!("a list of {}", items.len()),
        Cbor::Map(pairs) => format!("a map of {}", pairs.len()),
        _ => "something else".to_owned(),
    };
    Refusal::BadArgument { argument: name.to_owned(), found, expected: expected.into() }
}

fn sorted(mut faults: yaml::Faults) -> Vec<Fault> {
    faults.0.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
    faults.0
}

impl Transition {
    /// Whether it leads from `state`.
    #[must_use]
    pub fn is_from(&self, state: &str) -> bool {
        self.from.iter().any(|from| from == state)
    }

    /// The states it can lead to: its own and those of its choices.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let otherwise = self.effects.iter().filter_map(|effect| match effect {
            EffectSpec::Choose { otherwise, .. } => otherwise.as_deref(),
            _ => None,
        });
        self.to.as_deref().into_iter().chain(otherwise)
    }

    /// `reported, escalated --cancel by owner--> cancelled`: for people and test reports.
    #[must_use]
    pub fn label(&self) -> String {
        let cause = match &self.cause {
            Cause::Trigger(action) => format!("trigger {action}"),
            Cause::Call { action, by } => format!("{action} by {by}"),
            Cause::Term(_) => "term".to_owned(),
        };
        let guard = self.when.as_ref().map_or(String::new(), |when| format!(" [{}]", when.source()));
        format!("{} --{cause}{guard}--> {}", self.from.join(", "), self.to.as_deref().unwrap_or("(stays)"))
    }
}

impl Cause {
    /// The action, for causes that have one.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        match self {
            Self::Trigger(action) | Self::Call { action, .. } => Some(action),
            Self::Term(_) => None,
        }
    }
}
