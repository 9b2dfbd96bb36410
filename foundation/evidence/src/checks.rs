//! The checks of a rule and what a trigger says that they found, as CBOR. CDDL: `docs/formats/rule.cddl`,
//! `docs/formats/trigger.cddl`; meaning: `docs/formats/checks.md`.

use crate::body::BodyFault;
use crate::cbor::{Cbor, CborFault, Fields, bytes, int, map, text};
use crate::cursor::Cursor;
use crate::rule::RuleFault;
use std::time::Duration;
use tally_model::{
    Checks, EvidenceQuality, Finding, FindingCode, Frozen, PointChecks, PointId, Redundant, Related, Replay,
};

/// Most findings of a trigger: one for each code and point of a rule with some hundred points.
const FINDINGS_MAX: usize = 1024;

fn micros(duration: Duration) -> Cbor {
    int(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

pub(crate) fn checks_to_cbor(checks: &Checks) -> Cbor {
    let points = checks.points.iter().map(|(point, checks)| (point.as_str(), point_to_cbor(checks)));
    let mut fields = vec![("look-back", micros(checks.look_back)), ("points", map(points))];
    if !checks.related.is_empty() {
        let related = checks.related.iter().map(|(name, related)| {
            let fields = [("holds", text(related.holds.clone())), ("for", micros(related.lasting))];
            (name.as_str(), map(fields))
        });
        fields.push(("related", map(related)));
    }
    fields.extend(checks.map.map(|digest| ("map", bytes(digest))));
    fields.extend(checks.identity.as_ref().map(|identity| ("identity", text(identity.clone()))));
    map(fields)
}

fn point_to_cbor(checks: &PointChecks) -> Cbor {
    let frozen = checks
        .frozen
        .map(|frozen| ("frozen", map([("readings", int(frozen.readings)), ("for", micros(frozen.lasting))])));
    let replay = checks
        .replay
        .map(|replay| ("replay", map([("readings", int(replay.readings)), ("remembered", int(replay.remembered))])));
    let limits = checks.limits.map(|(low, high)| ("limits", Cbor::Array(vec![Cbor::Float(low), Cbor::Float(high)])));
    let redundant = checks.redundant.as_ref().map(|other| {
        let fields = [
            ("with", text(other.with.as_str())),
            ("tolerance", Cbor::Float(other.tolerance)),
            ("for", micros(other.lasting)),
        ];
        ("redundant", map(fields))
    });
    let rate = checks.rate_max.map(|rate| ("rate", Cbor::Float(rate)));
    let skew = checks.skew_max.map(|skew| ("skew", micros(skew)));
    map([frozen, rate, replay, skew, limits, redundant].into_iter().flatten())
}

pub(crate) fn decode_checks(mut fields: Fields) -> Result<Checks, RuleFault> {
    let related = match fields.take("related") {
        Some(related) => {
            Fields::new(related, "related")?.rest().into_iter().map(decode_related).collect::<Result<_, _>>()?
        }
        None => std::collections::BTreeMap::new(),
    };
    let checks = Checks {
        look_back: Duration::from_micros(fields.int("look-back")?),
        points: fields.fields("points")?.rest().into_iter().map(decode_point).collect::<Result<_, _>>()?,
        related,
        map: fields.take("map").map(exact_hash).transpose()?,
        identity: fields.text_opt("identity")?,
    };
    fields.finish()?;
    Ok(checks)
}

fn exact_hash(value: Cbor) -> Result<[u8; 32], CborFault> {
    let fault = || CborFault::Type { field: "map".into(), expected: "32 bytes" };
    value.as_bytes().and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or_else(fault)
}

fn decode_related((name, value): (String, Cbor)) -> Result<(PointId, Related), RuleFault> {
    let id = PointId::try_new(&name).map_err(|_| RuleFault::Point(name.clone()))?;
    let mut fields = Fields::new(value, &name)?;
    let related = Related { holds: fields.text("holds")?, lasting: Duration::from_micros(fields.int("for")?) };
    fields.finish()?;
    Ok((id, related))
}

fn decode_point((name, value): (String, Cbor)) -> Result<(PointId, PointChecks), RuleFault> {
    let id = PointId::try_new(&name).map_err(|_| RuleFault::Point(name.clone()))?;
    let mut fields = Fields::new(value, &name)?;
    let checks = PointChecks {
        frozen: section(&mut fields, "frozen", |fields| {
            Ok(Frozen { readings: fields.int("readings")?, lasting: Duration::from_micros(fields.int("for")?) })
        })?,
        rate_max: fields.take("rate").map(|value| finite(&value, "rate")).transpose()?,
        replay: section(&mut fields, "replay", |fields| {
            Ok(Replay { readings: fields.int("readings")?, remembered: fields.int("remembered")? })
        })?,
        skew_max: fields.int_opt("skew")?.map(Duration::from_micros),
        limits: fields.take("limits").map(|value| decode_limits(&value)).transpose()?,
        redundant: section(&mut fields, "redundant", |fields| {
            Ok(Redundant {
                with: fields.parse("with", "a point id")?,
                tolerance: finite(&fields.need("tolerance")?, "tolerance")?,
                lasting: Duration::from_micros(fields.int("for")?),
            })
        })?,
    };
    fields.finish()?;
    Ok((id, checks))
}

fn section<T>(
    fields: &mut Fields,
    name: &'static str,
    read: impl FnOnce(&mut Fields) -> Result<T, CborFault>,
) -> Result<Option<T>, CborFault> {
    let Some(value) = fields.take(name) else { return Ok(None) };
    let mut inner = Fields::new(value, name)?;
    let read = read(&mut inner)?;
    inner.finish()?;
    Ok(Some(read))
}

fn finite(value: &Cbor, field: &str) -> Result<f64, CborFault> {
    match value {
        Cbor::Float(number) if number.is_finite() => Ok(*number),
        _ => Err(CborFault::Type { field: field.to_owned(), expected: "a finite float" }),
    }
}

fn decode_limits(value: &Cbor) -> Result<(f64, f64), CborFault> {
    match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => Ok((finite(low, "limits")?, finite(high, "limits")?)),
        _ => Err(CborFault::Type { field: "limits".into(), expected: "two floats" }),
    }
}

pub(crate) fn quality_to_cbor(findings: &[Finding]) -> Cbor {
    let list = findings.iter().map(|finding| {
        let mut fields =
            vec![("code", text(finding.code.word())), ("from", int(finding.from)), ("to", int(finding.to))];
        fields.extend(finding.point.as_ref().map(|point| ("point", text(point.as_str()))));
        fields.extend(finding.earlier.map(|earlier| ("earlier", int(earlier))));
        map(fields)
    });
    let list = Cbor::Array(list.collect());
    map([("class", text(EvidenceQuality::of(findings).word())), ("findings", list)])
}

pub(crate) fn decode_quality(mut fields: Fields) -> Result<Vec<Finding>, BodyFault> {
    let class = fields.text("class")?;
    let findings: Vec<Finding> = fields.array("findings")?.into_iter().map(decode_finding).collect::<Result<_, _>>()?;
    fields.finish()?;
    checked(&class, findings).ok_or(BodyFault::Quality)
}

/// One form: sorted, none twice for one point, and the class that follows from them.
fn checked(class: &str, findings: Vec<Finding>) -> Option<Vec<Finding>> {
    let is_sorted = findings.is_sorted_by(|a, b| (a.code, &a.point) < (b.code, &b.point));
    let is_range = findings.iter().all(|finding| finding.from <= finding.to);
    let fits = EvidenceQuality::of(&findings).word() == class && findings.len() <= FINDINGS_MAX;
    (is_sorted && is_range && fits).then_some(findings)
}

fn decode_finding(value: Cbor) -> Result<Finding, BodyFault> {
    let mut fields = Fields::new(value, "findings")?;
    let word = fields.text("code")?;
    let point = fields.text_opt("point")?;
    let finding = Finding {
        code: FindingCode::from_word(&word).ok_or(BodyFault::Word(word))?,
        point: point.map(|point| PointId::try_new(&point).map_err(|_| BodyFault::Word(point))).transpose()?,
        from: fields.int("from")?,
        to: fields.int("to")?,
        earlier: fields.int_opt("earlier")?,
    };
    fields.finish()?;
    Ok(finding)
}

/// What the checks found, for programs and people: `class`, and of each finding its fields and what it means.
#[must_use]
pub fn quality_json(findings: &[Finding]) -> serde_json::Value {
    let list = findings.iter().map(|finding| {
        serde_json::json!({
            "code": finding.code.word(), "point": finding.point, "from": finding.from, "to": finding.to,
            "earlier": finding.earlier, "text": finding.to_string(), "means": finding.code.meaning(),
        })
    });
    let list: Vec<_> = list.collect();
    serde_json::json!({"class": EvidenceQuality::of(findings).word(), "findings": list})
}

/// The same straight off the bytes.
pub(crate) fn read_quality(from: &mut Cursor<'_>) -> Option<Vec<Finding>> {
    let count = from.map()?;
    from.key("class")?;
    let class = from.text()?;
    from.key("findings")?;
    let length = from.array()?;
    let mut findings = Vec::new();
    for _ in 0..length {
        findings.push(read_finding(from)?);
    }
    checked(class, findings).filter(|_| count == 2)
}

fn read_finding(from: &mut Cursor<'_>) -> Option<Finding> {
    let count = from.map()?;
    from.key("to")?;
    let to = from.uint()?;
    from.key("code")?;
    let code = FindingCode::from_word(from.text()?)?;
    from.key("from")?;
    let first = from.uint()?;
    let point = if from.key_opt("point") { Some(PointId::try_new(from.text()?).ok()?) } else { None };
    let earlier = if from.key_opt("earlier") { Some(from.uint()?) } else { None };
    let fields = 3 + u64::from(point.is_some()) + u64::from(earlier.is_some());
    (count == fields).then_some(Finding { code, point, from: first, to, earlier })
}
