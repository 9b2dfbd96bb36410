//! A press with three points, and readings of it.
#![allow(dead_code)] // each test file uses its own part

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{
    CallTemplate, DeviceId, NoValue, PointId, Priority, Quality, Reading, RuleSource, Sample, Timestamp, TriggerId,
    Unit, Value, ValueKind,
};
use tally_rules::{Firing, Rule, Watch};

pub fn point(id: &str) -> PointId {
    PointId::try_new(id).unwrap()
}

/// `vibration` float, `strokes` integer, `running` bool, `state` text, `auto` unknown.
pub fn source(when: &str) -> RuleSource {
    let kinds = [
        ("vibration", Some(ValueKind::Float)),
        ("strokes", Some(ValueKind::Integer)),
        ("running", Some(ValueKind::Bool)),
        ("state", Some(ValueKind::Text)),
        ("auto", None),
    ];
    RuleSource {
        id: TriggerId::try_new("test").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        when: when.to_owned(),
        on_delay: Duration::ZERO,
        until: None,
        priority: Priority::High,
        disclose: Vec::new(),
        call: None,
        checks: None,
        points: kinds.into_iter().map(|(id, kind)| (point(id), (kind, Unit::one()))).collect(),
    }
}

pub fn with_call(mut source: RuleSource, with: &[(&str, &str)]) -> RuleSource {
    source.call = Some(CallTemplate {
        contract: "maintenance-order".parse().unwrap(),
        action: "report".parse().unwrap(),
        with: with.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>(),
    });
    source
}

#[track_caller]
pub fn compile(source: &RuleSource) -> Arc<Rule> {
    Arc::new(Rule::compile(source).unwrap_or_else(|faults| panic!("{faults:#?}")))
}

pub fn reading(number: u64, millis: i64, id: &str, outcome: Result<Value, NoValue>) -> Reading {
    let at = Timestamp::from_micros(millis * 1000);
    let quality = if outcome.is_ok() { Quality::Good } else { Quality::Bad };
    let sample =
        Sample { seal: None, point: point(id), outcome, unit: Unit::one(), quality, source_time: at, received: at };
    Reading { device: DeviceId::try_new("press-01").unwrap(), number, sample }
}

pub fn float(number: u64, millis: i64, id: &str, value: f64) -> Reading {
    reading(number, millis, id, Ok(Value::Float(value)))
}

pub fn flag(number: u64, millis: i64, id: &str, value: bool) -> Reading {
    reading(number, millis, id, Ok(Value::Bool(value)))
}

pub fn run(rule: &Arc<Rule>, readings: &[Reading]) -> Vec<Firing> {
    let mut watch = Watch::new(rule.clone());
    readings.iter().filter_map(|reading| watch.observe(reading)).collect()
}

/// What evidence would disclose for a firing.
pub fn disclosed(rule: &Rule, readings: &[Reading], firing: &Firing) -> Vec<Reading> {
    let reads = rule.reads();
    let inside = |reading: &&Reading| (firing.first..=firing.last).contains(&reading.number);
    readings.iter().filter(inside).filter(|reading| reads.contains(&reading.sample.point)).cloned().collect()
}
