//! Two of the bodies a statement can carry; the others are [`crate::AnchorBody`] and [`crate::BatchBody`]. CDDL: `docs/formats/trigger.cddl`,
//! `docs/formats/call.cddl`.

use crate::Hash;
use crate::cbor::{self, Cbor, CborFault, Fields, bytes, int, map, text};
use crate::checks::{decode_quality, quality_to_cbor, read_quality};
use crate::cursor::Cursor;
use crate::origin::{decode_stretches, read_stretches, stretches_to_cbor};
use std::collections::BTreeMap;
use tally_model::{
    ActionName, AgreementId, ClockState, ContractName, DeviceId, Finding, Grade, PointId, Priority, Stretch, Timestamp,
    TriggerId, Value,
};

/// Most arguments a call may carry; contracts name a handful.
const ARGUMENTS_MAX: usize = 64;

/// Why bytes are not a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// The CBOR is not what the CDDL says.
    #[error("{0}")]
    Cbor(#[from] CborFault),
    /// A word outside its closed list.
    #[error("`{0}` is not one of the allowed words")]
    Word(String),
    /// The numbers of the readings run backwards.
    #[error("readings {first}..{last} run backwards")]
    Range {
        /// First reading number.
        first: u64,
        /// Last reading number.
        last: u64,
    },
    /// A state of a clock that is none, or whose bound is missing or one too many.
    #[error("`{0}` is no state of a clock, or goes with an error where it must not, or without one where it must")]
    Clock(String),
    /// A grade outside its list, or one that is written by leaving it out.
    #[error("`{0}` is no grade that is written; allowed: device-sealed, gateway-sealed; absent is agent-sealed")]
    Grade(String),
    /// Origins that do not rise, do not change, or whose parts do not belong together.
    #[error("the origins of the readings are not in the form in which agents write them")]
    Origins,
    /// Findings out of order, twice for one point, or a class that does not follow from them.
    #[error("the evidence quality is not in the form that the checks give it")]
    Quality,
    /// More arguments than any contract takes.
    #[error("more than {ARGUMENTS_MAX} arguments")]
    TooManyArguments,
}

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

    fn from_word(word: &str) -> Result<Self, BodyFault> {
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

    fn decode_slowly(body: &[u8]) -> Result<Self, BodyFault> {
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

/// A body straight off the bytes: deterministic CBOR has one order of the keys. `None` for everything that is not a body.
fn read_trigger(mut from: Cursor<'_>) -> Option<TriggerBody> {
    let count = from.map()?;
    from.key("at")?;
    let at = Timestamp::from_micros(from.int()?);
    let call = if from.key_opt("call") { Some(read_call(&mut from)?) } else { None };
    from.key("rule")?;
    let rule = from.hash()?;
    let clock = if from.key_opt("clock") { Some(read_clock(&mut from)?) } else { None };
    let grade = if from.key_opt("grade") { Some(written_grade(from.text()?).ok()?) } else { None };
    from.key("device")?;
    let device = from.parse()?;
    from.key("number")?;
    let number = from.uint()?;
    let mapping = if from.key_opt("mapping") { Some(from.hash()?) } else { None };
    let origins = if from.key_opt("origins") { Some(read_stretches(&mut from)?) } else { None };
    let quality = if from.key_opt("quality") { Some(read_quality(&mut from)?) } else { None };
    from.key("trigger")?;
    let trigger = from.parse()?;
    from.key("priority")?;
    let priority = priority_from(from.text()?).ok()?;
    from.key("readings")?;
    let readings = read_claim(&mut from)?;
    from.key("transition")?;
    let transition = Transition::from_word(from.text()?).ok()?;
    from.end()?;
    let optional =
        [call.is_some(), clock.is_some(), grade.is_some(), mapping.is_some(), origins.is_some(), quality.is_some()];
    let optional = optional.into_iter().filter(|is_there| *is_there).count() as u64;
    let (grade, origins) = (grade.unwrap_or_default(), origins.unwrap_or_default());
    let body = TriggerBody {
        trigger,
        device,
        rule,
        transition,
        priority,
        at,
        readings,
        number,
        call,
        clock,
        grade,
        mapping,
        origins,
        quality,
    };
    (count == 8 + optional).then_some(body)
}

/// One meaning has one form: agent-sealed is not written.
fn written_grade(word: &str) -> Result<Grade, BodyFault> {
    let grade = word.parse().ok().filter(|grade| *grade != Grade::Agent);
    grade.ok_or_else(|| BodyFault::Grade(word.to_owned()))
}

fn decode_digest(value: Cbor) -> Result<Hash, CborFault> {
    let digest = value.as_bytes().and_then(|bytes| bytes.as_slice().try_into().ok());
    digest.ok_or(CborFault::Type { field: "mapping".to_owned(), expected: "32 bytes" })
}

fn read_clock(from: &mut Cursor<'_>) -> Option<ClockState> {
    let count = from.map()?;
    from.key("state")?;
    let word = from.text()?;
    let error = if count == 2 {
        from.key("error-us")?;
        Some(from.uint()?)
    } else {
        None
    };
    ClockState::try_new(word, error).filter(|_| count <= 2)
}

fn read_claim(from: &mut Cursor<'_>) -> Option<ReadingsClaim> {
    let count = from.map()?;
    from.key("head")?;
    let head = from.hash()?;
    from.key("last")?;
    let last = from.uint()?;
    from.key("root")?;
    let root = from.hash()?;
    from.key("first")?;
    let first = from.uint()?;
    from.key("points")?;
    let mut points = BTreeMap::new();
    from.pairs(|point, from| {
        points.insert(PointId::try_new(point).ok()?, from.uint()?);
        Some(())
    })?;
    (count == 5 && first <= last).then_some(ReadingsClaim { first, last, root, head, points })
}

fn read_call(from: &mut Cursor<'_>) -> Option<TriggerCall> {
    let count = from.map()?;
    from.key("with")?;
    let mut with = BTreeMap::new();
    from.pairs(|name, from| {
        with.insert(name.to_owned(), from.scalar()?);
        Some(())
    })?;
    from.key("action")?;
    let action = from.parse()?;
    from.key("contract")?;
    let contract = from.parse()?;
    (count == 3 && with.len() <= ARGUMENTS_MAX).then_some(TriggerCall { contract, action, with })
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

pub(crate) const fn priority_word(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}

pub(crate) fn priority_from(word: &str) -> Result<Priority, BodyFault> {
    [Priority::Low, Priority::Medium, Priority::High, Priority::Critical]
        .into_iter()
        .find(|priority| priority_word(*priority) == word)
        .ok_or_else(|| BodyFault::Word(word.to_owned()))
}

/// A party asks a contract for something.
#[derive(Debug, Clone, PartialEq)]
pub struct CallBody {
    /// Native (`registry`, `accounts`) or from the library.
    pub contract: ContractName,
    /// What is asked.
    pub action: ActionName,
    /// Which agreement it concerns, for calls on a running one.
    pub agreement: Option<AgreementId>,
    /// Arguments; their meaning is the contract's.
    pub args: BTreeMap<String, Cbor>,
    /// Makes two otherwise equal calls two statements; 16 random bytes.
    pub nonce: [u8; 16],
    /// When the caller made it, microseconds since the epoch, by the caller's clock.
    pub at: Timestamp,
}

impl CallBody {
    /// The body's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let args = map(self.args.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let mut fields = vec![
            ("contract", text(self.contract.as_str())),
            ("action", text(self.action.as_str())),
            ("args", args),
            ("nonce", bytes(self.nonce)),
            ("at", int(self.at.as_micros())),
        ];
        if let Some(agreement) = &self.agreement {
            fields.push(("agreement", text(agreement.as_str())));
        }
        cbor::encode(&map(fields))
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`BodyFault`].
    pub fn decode(body: &[u8]) -> Result<Self, BodyFault> {
        let mut fields = Fields::decode(body)?;
        let agreement = match fields.text_opt("agreement")? {
            Some(id) => Some(AgreementId::try_new(&id).map_err(|_| BodyFault::Word(id))?),
            None => None,
        };
        let call = Self {
            contract: fields.parse("contract", "a contract name")?,
            action: fields.parse("action", "an action name")?,
            agreement,
            args: fields.fields("args")?.rest().into_iter().collect(),
            nonce: fields.bytes_exact("nonce")?,
            at: Timestamp::from_micros(fields.int("at")?),
        };
        fields.finish()?;
        if call.args.len() > ARGUMENTS_MAX {
            return Err(BodyFault::TooManyArguments);
        }
        Ok(call)
    }

    /// What the statement is about: the agreement, or the contract when there is none.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.agreement.as_ref().map_or(self.contract.as_str(), AgreementId::as_str)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn trigger() -> TriggerBody {
        TriggerBody {
            trigger: TriggerId::try_new("bearing-worn").unwrap(),
            device: DeviceId::try_new("press-01").unwrap(),
            rule: [1; 32],
            transition: Transition::Raised,
            priority: Priority::High,
            at: Timestamp::from_micros(1_790_000_000_000_000),
            readings: ReadingsClaim {
                first: 10,
                last: 40,
                root: [2; 32],
                head: [3; 32],
                points: [(PointId::try_new("vibration").unwrap(), 20)].into(),
            },
            number: 7,
            call: Some(TriggerCall {
                contract: ContractName::try_new("maintenance-order").unwrap(),
                action: ActionName::try_new("report").unwrap(),
                with: [("peak".to_owned(), Value::Float(9.25))].into(),
            }),
            clock: Some(ClockState::Synchronised { error_us: 1_250 }),
            grade: Grade::Device,
            mapping: Some([5; 32]),
            origins: Vec::new(),
            quality: None,
        }
    }

    /// As the checks give them: one for each code and point, in order.
    fn findings() -> impl Strategy<Value = Vec<Finding>> {
        let one = (0..9_usize, proptest::option::of("[a-z_]{1,9}"), any::<u64>(), any::<u32>(), any::<Option<u64>>());
        proptest::collection::vec(one, 0..5).prop_map(|found| {
            let made = found.into_iter().map(|(code, point, from, more, earlier)| Finding {
                code: tally_model::FindingCode::ALL[code],
                point: point.map(|point| PointId::try_new(point).unwrap()),
                from,
                to: from.saturating_add(more.into()),
                earlier,
            });
            let found: BTreeMap<_, _> = made.map(|finding| ((finding.code, finding.point.clone()), finding)).collect();
            found.into_values().collect()
        })
    }

    #[test]
    fn the_class_must_follow_from_the_findings() {
        let body = TriggerBody { quality: Some(Vec::new()), ..trigger() };
        let Cbor::Map(pairs) = cbor::decode(&body.encode()).unwrap() else { panic!("a map") };
        for (class, accepted) in [("sound", true), ("doubtful", false), ("perfect", false)] {
            let quality = map([("class", text(class)), ("findings", Cbor::Array(Vec::new()))]);
            let mut pairs = pairs.clone();
            for pair in pairs.iter_mut().filter(|(key, _)| key.as_text() == Some("quality")) {
                pair.1 = quality.clone();
            }
            let bytes = cbor::encode(&Cbor::Map(pairs));
            assert_eq!(TriggerBody::decode(&bytes).is_ok(), accepted, "{class}");
            assert_eq!(read_trigger(Cursor(&bytes)).is_some(), accepted, "{class}");
        }
    }

    #[test]
    fn trigger_round_trips() {
        assert_eq!(TriggerBody::decode(&trigger().encode()), Ok(trigger()));
        let mut backwards = trigger();
        backwards.readings.last = 9;
        assert_eq!(TriggerBody::decode(&backwards.encode()), Err(BodyFault::Range { first: 10, last: 9 }));
    }

    #[test]
    fn the_state_of_the_clock_has_one_form() {
        for clock in [None, Some(ClockState::FreeRunning), Some(ClockState::Unknown), trigger().clock] {
            let body = TriggerBody { clock, ..trigger() };
            assert_eq!(TriggerBody::decode(&body.encode()), Ok(body));
        }
        let refused = |clock: Cbor| {
            let old = TriggerBody { clock: None, ..trigger() }.encode();
            let Cbor::Map(mut pairs) = cbor::decode(&old).unwrap() else { panic!("a map") };
            pairs.push((text("clock"), clock));
            let bytes = cbor::encode(&Cbor::Map(pairs));
            assert_eq!(read_trigger(Cursor(&bytes)), None);
            TriggerBody::decode(&bytes).unwrap_err()
        };
        for word in ["good", "synchronised"] {
            assert_eq!(refused(map([("state", text(word))])), BodyFault::Clock(word.into()));
        }
        let bounded = map([("state", text("free-running")), ("error-us", int(5))]);
        assert_eq!(refused(bounded), BodyFault::Clock("free-running".into()));
        let more = map([("state", text("unknown")), ("tip", int(5))]);
        assert_eq!(refused(more), CborFault::Unknown("tip".into()).into());
        assert!(matches!(refused(text("unknown")), BodyFault::Cbor(_)));
    }

    #[test]
    fn the_grade_has_one_form() {
        for (grade, mapping) in Grade::ALL.into_iter().flat_map(|grade| [(grade, None), (grade, Some([6; 32]))]) {
            let body = TriggerBody { grade, mapping, ..trigger() };
            assert_eq!(TriggerBody::decode(&body.encode()), Ok(body.clone()));
            assert_eq!(read_trigger(Cursor(&body.encode())), Some(body));
        }
        let refused = |name: &str, value: Cbor| {
            let bare = TriggerBody { grade: Grade::Agent, mapping: None, ..trigger() }.encode();
            let Cbor::Map(mut pairs) = cbor::decode(&bare).unwrap() else { panic!("a map") };
            pairs.push((text(name), value));
            let bytes = cbor::encode(&Cbor::Map(pairs));
            assert_eq!(read_trigger(Cursor(&bytes)), None);
            TriggerBody::decode(&bytes).unwrap_err()
        };
        for word in ["agent-sealed", "sealed", ""] {
            assert_eq!(refused("grade", text(word)), BodyFault::Grade(word.into()));
        }
        assert!(matches!(refused("grade", int(1)), BodyFault::Cbor(_)));
        assert!(matches!(refused("mapping", bytes(vec![1; 31])), BodyFault::Cbor(_)));
    }

    #[test]
    fn call_round_trips_and_unknown_fields_are_refused() {
        let call = CallBody {
            contract: ContractName::try_new("maintenance-order").unwrap(),
            action: ActionName::try_new("accept").unwrap(),
            agreement: Some(AgreementId::try_new("mo-1").unwrap()),
            args: BTreeMap::new(),
            nonce: [4; 16],
            at: Timestamp::from_micros(5),
        };
        assert_eq!(CallBody::decode(&call.encode()), Ok(call.clone()));
        let Cbor::Map(mut pairs) = cbor::decode(&call.encode()).unwrap() else { panic!("a map") };
        pairs.push((text("tip"), int(5)));
        let longer = cbor::encode(&Cbor::Map(pairs));
        assert_eq!(CallBody::decode(&longer), Err(CborFault::Unknown("tip".into()).into()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = TriggerBody::decode(&body);
            let _ = CallBody::decode(&body);
        }

        #[test]
        fn both_ways_read_the_same_and_refuse_the_same(
            number in any::<u64>(), at in any::<i64>(), float in any::<f64>(), has_call: bool, error in any::<Option<u64>>(),
            grade in prop::sample::select(Grade::ALL.to_vec()), mapping in any::<Option<[u8; 32]>>(),
            points in proptest::collection::btree_map("[a-z_]{1,9}", any::<u64>(), 0..5),
            quality in proptest::option::of(findings()), origins in crate::origin::tests::stretches(),
            at_byte: prop::sample::Index, with_byte: u8, cut: prop::sample::Index,
        ) {
            let mut body = trigger();
            (body.grade, body.mapping) = (grade, mapping);
            (body.quality, body.origins) = (quality, origins);
            body.clock = error.map(|error_us| ClockState::Synchronised { error_us });
            (body.number, body.at) = (number, Timestamp::from_micros(at));
            body.readings.points = points.into_iter().map(|(point, number)| (PointId::try_new(point).unwrap(), number)).collect();
            if let Some(call) = &mut body.call {
                call.with.insert("number".to_owned(), Value::Integer(at));
                call.with.insert("f".to_owned(), Value::Float(float));
            }
            if !has_call {
                body.call = None;
            }
            let bytes = body.encode();
            prop_assert_eq!(read_trigger(Cursor(&bytes)), TriggerBody::decode_slowly(&bytes).ok());
            prop_assert!(float.is_infinite() || float.is_nan() || read_trigger(Cursor(&bytes)) == Some(body));
            let mut altered = bytes.clone();
            altered[at_byte.index(bytes.len())] = with_byte;
            prop_assert_eq!(read_trigger(Cursor(&altered)), TriggerBody::decode_slowly(&altered).ok());
            let cut = &bytes[..cut.index(bytes.len())];
            prop_assert_eq!(read_trigger(Cursor(cut)), TriggerBody::decode_slowly(cut).ok());
        }
    }
}
