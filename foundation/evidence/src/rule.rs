//! The canonical bytes of a rule; their SHA-256 is the rule's version. CDDL: `docs/formats/rule.cddl`.

use crate::body::{BodyFault, priority_from, priority_word};
use crate::cbor::{self, Cbor, CborFault, Fields, int, map, text};
use crate::checks::{checks_to_cbor, decode_checks};
use crate::{Hash, sha256};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_model::{CallTemplate, PointId, RuleSource, Unit, ValueKind};

/// Why bytes are not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The CBOR is not what the CDDL says.
    #[error("rule: {0}")]
    Cbor(#[from] CborFault),
    /// A field of the rule is not what it should be.
    #[error("rule: {0}")]
    Body(#[from] BodyFault),
    /// A point's kind, unit or name is wrong.
    #[error("rule: point `{0}` is not described as [kind, unit]")]
    Point(String),
}

/// The version of a rule.
#[must_use]
pub fn rule_digest(rule: &RuleSource) -> Hash {
    sha256(&encode_rule(rule))
}

/// The canonical bytes of a rule: everything that decides its result.
#[must_use]
pub fn encode_rule(rule: &RuleSource) -> Vec<u8> {
    let points = rule.points.iter().map(|(id, (kind, unit))| {
        (id.as_str(), Cbor::Array(vec![text(kind.map_or("any", kind_word)), text(unit.as_str())]))
    });
    let disclose = rule.disclose.iter().map(|point| text(point.as_str()));
    let mut fields = vec![
        ("id", text(rule.id.as_str())),
        ("device", text(rule.device.as_str())),
        ("when", text(rule.when.clone())),
        ("for", int(u64::try_from(rule.on_delay.as_micros()).unwrap_or(u64::MAX))),
        ("priority", text(priority_word(rule.priority))),
        ("disclose", Cbor::Array(disclose.collect())),
        ("points", map(points)),
    ];
    if let Some(until) = &rule.until {
        fields.push(("until", text(until.clone())));
    }
    if let Some(call) = &rule.call {
        let with = map(call.with.iter().map(|(name, cel)| (name.as_str(), text(cel.clone()))));
        let call = [("contract", text(call.contract.as_str())), ("action", text(call.action.as_str())), ("with", with)];
        fields.push(("call", map(call)));
    }
    fields.extend(rule.checks.as_ref().map(|checks| ("checks", checks_to_cbor(checks))));
    cbor::encode(&map(fields))
}

/// Reads a rule strictly.
///
/// # Errors
/// [`RuleFault`].
pub fn decode_rule(bytes: &[u8]) -> Result<RuleSource, RuleFault> {
    let mut fields = Fields::decode(bytes)?;
    let rule = RuleSource {
        id: fields.parse("id", "a trigger id")?,
        device: fields.parse("device", "a device id")?,
        when: fields.text("when")?,
        on_delay: Duration::from_micros(fields.int("for")?),
        until: fields.text_opt("until")?,
        priority: priority_from(&fields.text("priority")?)?,
        disclose: fields.array("disclose")?.iter().map(point_id).collect::<Result<_, _>>()?,
        call: fields.take("call").map(|call| decode_template(Fields::new(call, "call")?)).transpose()?,
        checks: fields.take("checks").map(|checks| decode_checks(Fields::new(checks, "checks")?)).transpose()?,
        points: fields.fields("points")?.rest().into_iter().map(decode_point).collect::<Result<_, _>>()?,
    };
    fields.finish()?;
    Ok(rule)
}

fn point_id(value: &Cbor) -> Result<PointId, RuleFault> {
    let name = value.as_text().unwrap_or_default();
    PointId::try_new(name).map_err(|_| RuleFault::Point(name.to_owned()))
}

fn decode_point((name, value): (String, Cbor)) -> Result<(PointId, (Option<ValueKind>, Unit)), RuleFault> {
    let fault = || RuleFault::Point(name.clone());
    let id = PointId::try_new(&name).map_err(|_| fault())?;
    let [Cbor::Text(kind), Cbor::Text(unit)] = value.as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(fault());
    };
    let kind = match kind.as_str() {
        "any" => None,
        word => Some(kind_from(word).ok_or_else(fault)?),
    };
    Ok((id, (kind, Unit::try_new(unit).map_err(|_| fault())?)))
}

fn decode_template(mut fields: Fields) -> Result<CallTemplate, RuleFault> {
    let with: Result<BTreeMap<_, _>, CborFault> =
        fields.fields("with")?.rest().into_iter().map(template_argument).collect();
    let call = CallTemplate {
        contract: fields.parse("contract", "a contract name")?,
        action: fields.parse("action", "an action name")?,
        with: with?,
    };
    fields.finish()?;
    Ok(call)
}

fn template_argument((name, value): (String, Cbor)) -> Result<(String, String), CborFault> {
    match value {
        Cbor::Text(cel) => Ok((name, cel)),
        _ => Err(CborFault::Type { field: name, expected: "a CEL text" }),
    }
}

const fn kind_word(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Bool => "bool",
        ValueKind::Integer => "integer",
        ValueKind::Float => "float",
        ValueKind::Text => "text",
    }
}

fn kind_from(word: &str) -> Option<ValueKind> {
    [ValueKind::Bool, ValueKind::Integer, ValueKind::Float, ValueKind::Text]
        .into_iter()
        .find(|kind| kind_word(*kind) == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{ActionName, ContractName, DeviceId, Priority, TriggerId};

    fn rule() -> RuleSource {
        RuleSource {
            id: TriggerId::try_new("bearing-worn").unwrap(),
            device: DeviceId::try_new("press-01").unwrap(),
            when: "mean(vibration, '10s') > 7.1 && running".into(),
            on_delay: Duration::from_secs(5),
            until: Some("mean(vibration, '10s') < 4.5".into()),
            priority: Priority::High,
            disclose: vec![PointId::try_new("vibration").unwrap()],
            call: Some(CallTemplate {
                contract: ContractName::try_new("maintenance-order").unwrap(),
                action: ActionName::try_new("report").unwrap(),
                with: [("peak".to_owned(), "max(vibration, '60s')".to_owned())].into(),
            }),
            checks: None,
            points: [
                (PointId::try_new("vibration").unwrap(), (Some(ValueKind::Float), Unit::try_new("mm/s").unwrap())),
                (PointId::try_new("running").unwrap(), (None, Unit::one())),
            ]
            .into(),
        }
    }

    #[test]
    fn rules_round_trip() {
        assert_eq!(decode_rule(&encode_rule(&rule())), Ok(rule()));
    }

    #[test]
    fn checks_are_part_of_the_rule() {
        use tally_model::{Checks, Frozen, PointChecks, Redundant, Related, Replay};
        let point = |id: &str| PointId::try_new(id).unwrap();
        let vibration = PointChecks {
            frozen: Some(Frozen { readings: 20, lasting: Duration::from_secs(60) }),
            rate_max: Some(2.0),
            replay: Some(Replay { readings: 32, remembered: 10_000 }),
            skew_max: Some(Duration::from_secs(5)),
            limits: Some((0.0, 120.5)),
            redundant: Some(Redundant { with: point("vib_b"), tolerance: 0.5, lasting: Duration::from_secs(3) }),
        };
        let power = Related { holds: "power < 3.0".into(), lasting: Duration::ZERO };
        let whole = Checks {
            look_back: Duration::from_secs(60),
            points: [(point("vibration"), vibration), (point("running"), PointChecks::default())].into(),
            related: [(point("power"), power)].into(),
            map: Some([7; 32]),
            identity: Some("Acme P1 2.0".into()),
        };
        for checks in [whole.clone(), Checks { related: BTreeMap::new(), map: None, ..whole }, Checks::default()] {
            let checked = RuleSource { checks: Some(checks), ..rule() };
            assert_eq!(decode_rule(&encode_rule(&checked)), Ok(checked.clone()));
            assert_ne!(rule_digest(&checked), rule_digest(&rule()));
        }
    }

    #[test]
    fn a_changed_unit_is_another_version() {
        let mut other = rule();
        other.points.insert(
            PointId::try_new("vibration").unwrap(),
            (Some(ValueKind::Float), Unit::try_new("[in_i]/s").unwrap()),
        );
        assert_ne!(rule_digest(&rule()), rule_digest(&other));
    }
}
