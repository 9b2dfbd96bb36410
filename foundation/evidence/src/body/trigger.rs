//! An agent's word that a rule fired.

use super::quick::read_trigger;
use super::{ARGUMENTS_MAX, BodyFault, priority_from, priority_word, written_grade};
use crate::Hash;
use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::checks::{decode_quality, quality_to_cbor};
use crate::cursor::Cursor;
use crate::origin::{decode_stretches, stretches_to_cbor};
use std::collections::BTreeMap;
use tally_model::{
    ActionName, ClockState, ContractName, DeviceId, Finding, Grade, PointId, Priority, Stretch, Timestamp, TriggerId,
    Value,
};

/// Whether a trigger's condition began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The condition holds (after its on-delay).
    Raised,
    /// The condition ended.
    Cleared,
}

impl Transition {
    /// The word in the body.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Cleared => "cleared",
        }
    }

    pub(super) fn from_word(word: &str) -> Result<Self, BodyFault> {
        match word {
            "raised" => Ok(Self::Raised),
            "cleared" => Ok(Self::Cleared),
            other => Err(BodyFault::Word(other.to_owned())),
        }
    }
}

/// Which readings decided a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingsClaim {
    /// Number of the first reading in the device's vault chain.
    pub first: u64,
    /// Number of the last, inclusive.
    pub last: u64,
    /// RFC 9162 root over the salted leaves of *all* readings `first..=last` of the device.
    pub root: Hash,
    /// Head of the device's vault chain after `last`.
    pub head: Hash,
    /// For every point that is disclosed: the point number of its latest reading up to `last`, so that none of its
    /// readings can be left among the hidden ones.
    pub points: BTreeMap<PointId, u64>,
}

/// What a trigger asks a contract to do.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerCall {
    /// Which contract.
    pub contract: ContractName,
    /// Which action.
    pub action: ActionName,
    /// Arguments as the rule computed them.
    pub with: BTreeMap<String, Value>,
}

/// An agent's word that a rule fired. The signer is the statement's `iss`, the device its `sub`.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerBody {
    /// Name of the trigger.
    pub trigger: TriggerId,
    /// Whose readings.
    pub device: DeviceId,
    /// Digest of the rule: its version ([`crate::rule_digest`]).
    pub rule: Hash,
    /// Began or ended.
    pub transition: Transition,
    /// ISA-18.2 priority.
    pub priority: Priority,
    /// Rule time at which it fired, microseconds since the epoch.
    pub at: Timestamp,
    /// The readings behind it.
    pub readings: ReadingsClaim,
    /// Number of this trigger among all of this agent's, from 0 without gaps: a lost trigger shows.
    pub number: u64,
    /// The contract call, only when raised and only when the rule has one.
    pub call: Option<TriggerCall>,
    /// How good the clock that gave the receive times was when the trigger was sealed. `None`: the agent did not say yet.
    pub clock: Option<ClockState>,
    /// Who sealed nearest the sensor: the least of all readings of the points that the rule reads. `Agent` is written by
    /// leaving it out, as in every trigger from before there were grades.
    pub grade: Grade,
    /// Fingerprint of the mapping by which the agent read the device. `None`: the agent did not say.
    pub mapping: Option<Hash>,
    /// Where the readings come from: over which link, and what the device calls itself. The first holds from the first reading or a
    /// later one, each up to the next. Empty: the agent did not say.
    pub origins: Vec<Stretch>,
    /// What the checks before the seal found, sorted by code and point; with [`tally_model::EvidenceQuality::of`] the
    /// quality of the evidence. `None`: the rule asks for no checks.
    pub quality: Option<Vec<Finding>>,
}

impl TriggerBody {
    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let points = self.readings.points.iter().map(|(point, number)| (point.as_str(), int(*number)));
        let readings = map([
            ("points", map(points)),
            ("first", int(self.readings.first)),
            ("last", int(self.readings.last)),
            ("root", bytes(self.readings.root)),
            ("head", bytes(self.readings.head)),
        ]);
        let mut fields = vec![
            ("trigger", text(self.trigger.as_str())),
            ("device", text(self.device.as_str())),
            ("rule", bytes(self.rule)),
            ("transition", text(self.transition.word())),
            ("priority", text(priority_word(self.priority))),
            ("at", int(self.at.as_micros())),
            ("readings", readings),
            ("number", int(self.number)),
        ];
        if let Some(call) = &self.call {
            let with = map(call.with.iter().map(|(name, value)| (name.as_str(), cbor::from_value(value))));
            let call =
                [("contract", text(call.contract.as_str())), ("action", text(call.action.as_str())), ("with", with)];
            fields.push(("call", map(call)));
        }
        fields.extend(self.clock.map(|clock| ("clock", clock_to_cbor(clock))));
        if self.grade != Grade::Agent {
            fields.push(("grade", text(self.grade.word())));
        }
        fields.extend(self.mapping.map(|digest| ("mapping", bytes(digest))));
        if !self.origins.is_empty() {
            fields.push(("origins", stretches_to_cbor(&self.origins)));
        }
        fields.extend(self.quality.as_ref().map(|findings| ("quality", quality_to_cbor(findings))));
        cbor::encode(&map(fields))
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub fn decode(body: &[u8]) -> Result<Self, BodyFault> {
        // The usual way is five times as fast and says nothing about faults; the slow one says all.
        read_trigger(Cursor(body)).map_or_else(|| Self::decode_slowly(body), Ok)
    }

    pub(super) fn decode_slowly(body: &[u8]) -> Result<Self, BodyFault> {
        let mut fields = Fields::decode(body)?;
        let trigger = Self {
            trigger: fields.parse("trigger", "a trigger id")?,
            device: fields.parse("device", "a device id")?,
            rule: fields.bytes_exact("rule")?,
            transition: Transition::from_word(&fields.text("transition")?)?,
            priority: priority_from(&fields.text("priority")?)?,
            at: Timestamp::from_micros(fields.int("at")?),
            readings: decode_claim(fields.fields("readings")?)?,
            number: fields.int("number")?,
            call: fields.take("call").map(|call| decode_call(Fields::new(call, "call")?)).transpose()?,
            clock: fields.take("clock").map(|clock| decode_clock(Fields::new(clock, "clock")?)).transpose()?,
            grade: fields.text_opt("grade")?.map_or(Ok(Grade::Agent), |word| written_grade(&word))?,
            mapping: fields.take("mapping").map(decode_digest).transpose()?,
            origins: fields.take("origins").map_or(Ok(Vec::new()), decode_stretches)?,
            quality: fields.take("quality").map(|found| decode_quality(Fields::new(found, "quality")?)).transpose()?,
        };
        fields.finish()?;
        Ok(trigger)
    }
}

fn decode_digest(value: Cbor) -> Result<Hash, CborFault> {
    let digest = value.as_bytes().and_then(|bytes| bytes.as_slice().try_into().ok());
    digest.ok_or(CborFault::Type { field: "mapping".to_owned(), expected: "32 bytes" })
}

fn clock_to_cbor(clock: ClockState) -> Cbor {
    let error = clock.error_us().map(|error| ("error-us", int(error)));
    map(std::iter::once(("state", text(clock.word()))).chain(error))
}

fn decode_clock(mut fields: Fields) -> Result<ClockState, BodyFault> {
    let (word, error) = (fields.text("state")?, fields.int_opt("error-us")?);
    fields.finish()?;
    ClockState::try_new(&word, error).ok_or(BodyFault::Clock(word))
}

fn decode_claim(mut fields: Fields) -> Result<ReadingsClaim, BodyFault> {
    let claim = ReadingsClaim {
        first: fields.int("first")?,
        last: fields.int("last")?,
        root: fields.bytes_exact("root")?,
        head: fields.bytes_exact("head")?,
        points: fields.fields("points")?.rest().into_iter().map(claimed_point).collect::<Result<_, _>>()?,
    };
    fields.finish()?;
    if claim.last < claim.first {
        return Err(BodyFault::Range { first: claim.first, last: claim.last });
    }
    Ok(claim)
}

fn claimed_point((name, number): (String, Cbor)) -> Result<(PointId, u64), CborFault> {
    let number = number.as_integer().and_then(|number| u64::try_from(number).ok());
    match (PointId::try_new(&name), number) {
        (Ok(point), Some(number)) => Ok((point, number)),
        _ => Err(CborFault::Type { field: name, expected: "a point id with its number" }),
    }
}

fn decode_call(mut fields: Fields) -> Result<TriggerCall, BodyFault> {
    let mut with = BTreeMap::new();
    for (name, value) in fields.fields("with")?.rest() {
        let value = cbor::to_value(&value).ok_or(CborFault::Type { field: name.clone(), expected: "a scalar" })?;
        with.insert(name, value);
    }
    if with.len() > ARGUMENTS_MAX {
        return Err(BodyFault::TooManyArguments);
    }
    let call = TriggerCall {
        contract: fields.parse("contract", "a contract name")?,
        action: fields.parse("action", "an action name")?,
        with,
    };
    fields.finish()?;
    Ok(call)
}
