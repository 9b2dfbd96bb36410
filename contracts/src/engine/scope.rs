//! What the names in an expression mean.

use crate::datum::Datum;
use crate::records::Agreement;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelString};
use cel::common::value::{CowVal, Val};
use std::collections::BTreeMap;
use tally_model::{EvidenceQuality, Grade, Timestamp};

/// A person who could take a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Party id.
    pub id: String,
    /// Her firm.
    pub firm: String,
    /// What she can do.
    pub skills: Vec<String>,
    /// Agreements that have not ended and name her.
    pub open_orders: u64,
}

/// What a contract may know of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerFacts<'a> {
    /// Name of the rule.
    pub id: &'a str,
    /// Whose readings.
    pub device: &'a str,
    /// When it fired, by the agent.
    pub at: Timestamp,
    /// Who sealed nearest the sensor.
    pub grade: Grade,
    /// How good its evidence is; `None`: not checked.
    pub quality: Option<EvidenceQuality>,
}

/// Everything in reach of one expression.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub agreement: &'a Agreement,
    pub args: &'a BTreeMap<String, Datum>,
    pub trigger: Option<&'a TriggerFacts<'a>>,
    pub caller: Option<&'a str>,
    pub candidate: Option<&'a Candidate>,
    pub now: Timestamp,
}

/// A value in place, not copied.
pub(crate) enum Found<'a> {
    Datum(&'a Datum),
    Text(&'a str),
    Texts(&'a [String]),
    Integer(i64),
}

impl Found<'_> {
    pub(crate) fn to_datum(&self) -> Datum {
        match self {
            Self::Datum(datum) => (*datum).clone(),
            Self::Text(text) => Datum::Text((*text).to_owned()),
            Self::Texts(texts) => Datum::List(texts.to_vec()),
            Self::Integer(number) => Datum::Integer(*number),
        }
    }
}

impl<'a> Scope<'a> {
    /// What `name` means. A role nobody holds is the empty text.
    pub(crate) fn find(&self, name: &str) -> Option<Found<'a>> {
        if let Some(name) = name.strip_prefix("args.") {
            return self.args.get(name).map(Found::Datum);
        }
        if let Some(name) = name.strip_prefix("trigger.") {
            return self.trigger.and_then(|trigger| match name {
                "id" => Some(Found::Text(trigger.id)),
                "device" => Some(Found::Text(trigger.device)),
                "grade" => Some(Found::Text(trigger.grade.word())),
                "quality" => Some(Found::Text(trigger.quality.map_or("", EvidenceQuality::word))),
                "at" => Some(Found::Integer(trigger.at.as_micros())),
                _ => None,
            });
        }
        if let Some(name) = name.strip_prefix("it.") {
            return self.candidate.and_then(|it| candidate(it, name));
        }
        let agreement = self.agreement;
        match name {
            "now" => Some(Found::Integer(self.now.as_micros())),
            "caller" => self.caller.map(Found::Text),
            _ => {
                let field = agreement.fields.get(name).map(Found::Datum);
                field.or_else(|| agreement.parties.get(name).map(|party| Found::Text(party)))
            }
        }
    }
}

fn candidate<'a>(it: &'a Candidate, name: &str) -> Option<Found<'a>> {
    match name {
        "id" => Some(Found::Text(&it.id)),
        "firm" => Some(Found::Text(&it.firm)),
        "skills" => Some(Found::Texts(&it.skills)),
        "open_orders" => Some(Found::Integer(i64::try_from(it.open_orders).unwrap_or(i64::MAX))),
        _ => None,
    }
}

/// CEL asks for the whole dotted name first, so that no map is ever built.
impl cel::context::VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        Some(match self.find(variable)? {
            Found::Integer(number) | Found::Datum(&Datum::Integer(number)) => CowVal::owned(CelInt::from(number)),
            Found::Datum(&Datum::Bool(flag)) => CowVal::owned(CelBool::from(flag)),
            Found::Datum(&Datum::Number(number)) => CowVal::owned(CelDouble::from(number)),
            Found::Datum(Datum::Text(text)) => CowVal::owned(CelString::from(text.as_str())),
            Found::Text(text) => CowVal::owned(CelString::from(text)),
            Found::Datum(Datum::List(items)) => list(items),
            Found::Texts(items) => list(items),
        })
    }
}

fn list(items: &[String]) -> CowVal<'_, '_> {
    let items: Vec<Box<dyn Val + '_>> =
        items.iter().map(|item| Box::new(CelString::from(item.as_str())) as Box<dyn Val + '_>).collect();
    CowVal::owned(CelList::from(items))
}
