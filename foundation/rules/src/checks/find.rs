//! Each check, over the readings shown.
//!
//! A point's *window* is its readings received in (now − look-back, now], and the one before: its edge, which still held
//! when the window began.

use super::CheckSet;
use super::replay::Runs;
use crate::expression::evaluate;
use crate::expression::{Node, Scalar};
use crate::rule::Rule;
use std::collections::BTreeMap;
use tally_model::{Finding, FindingCode, Frozen, NoValue, PointChecks, PointId, Reading, Redundant, Replay, Value};

/// What was found so far: one for each code and point, from the first reading to the last.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<(FindingCode, PointId), Finding>);

impl Found {
    pub(super) fn add(&mut self, code: FindingCode, point: &PointId, from: u64, to: u64, earlier: Option<u64>) {
        let fresh = || Finding { code, point: Some(point.clone()), from, to, earlier };
        let found = self.0.entry((code, point.clone())).or_insert_with(fresh);
        found.to = found.to.max(to);
    }

    pub(super) fn into_sorted(self) -> Vec<Finding> {
        self.0.into_values().collect()
    }
}

pub(super) fn all(rule: &Rule, checks: &CheckSet, readings: &[Reading], now: i64, found: &mut Found) {
    let start = now.saturating_sub(checks.look_back);
    for (point, asked) in &checks.source.points {
        let whole: Vec<&Reading> = readings.iter().filter(|reading| reading.sample.point == *point).collect();
        let inside = whole.partition_point(|reading| received(reading) <= start);
        let window = whole.get(inside.saturating_sub(1)..).unwrap_or_default();
        one_point(point, asked, window, found);
        if let Some(replay) = asked.replay {
            replayed(point, replay, &whole, start, found);
        }
        if let Some(other) = &asked.redundant {
            disagreeing(point, other, readings, start, found);
        }
    }
    for (name, holds, lasting) in &checks.related {
        related(rule, (name, holds, micros(*lasting)), readings, start, found);
    }
}

fn one_point(point: &PointId, asked: &PointChecks, window: &[&Reading], found: &mut Found) {
    if let Some(frozen) = asked.frozen {
        still(point, frozen, window, found);
    }
    if let Some(most) = asked.rate_max {
        jumping(point, most, window, found);
    }
    for reading in window {
        let number = reading.number;
        if asked.skew_max.is_some_and(|most| skew(reading) > micros(most)) {
            found.add(FindingCode::Skew, point, number, number, None);
        }
        if asked.limits.is_some_and(|limits| is_outside(reading, limits)) {
            found.add(FindingCode::Limits, point, number, number, None);
        }
    }
}

/// The same value over and over. A reading without a value says nothing about standing still.
fn still(point: &PointId, frozen: Frozen, window: &[&Reading], found: &mut Found) {
    let usable: Vec<_> = window.iter().filter_map(|reading| Some((bits(reading)?, reading))).collect();
    for run in usable.chunk_by(|a, b| a.0 == b.0) {
        let [(_, first), .., (_, last)] = run else { continue };
        let is_long = run.len() >= usize::try_from(frozen.readings).unwrap_or(usize::MAX);
        if is_long && received(last) - received(first) >= micros(frozen.lasting) {
            found.add(FindingCode::Frozen, point, first.number, last.number, None);
        }
    }
}

/// Change per second between neighbours, by the device's time where it has one; without time between them there is none.
fn jumping(point: &PointId, most: f64, window: &[&Reading], found: &mut Found) {
    let usable: Vec<_> = window.iter().filter_map(|reading| Some((reading.sample.number()?, reading))).collect();
    for pair in usable.windows(2) {
        let [(before, first), (after, second)] = pair else { continue };
        let by_source = second.sample.source_time.as_micros().saturating_sub(first.sample.source_time.as_micros());
        let passed = if by_source > 0 { by_source } else { received(second) - received(first) };
        #[allow(clippy::cast_precision_loss)] // a look-back of 24 h is 8.64e10 µs, far below 2^53
        let seconds = passed as f64 / 1_000_000.0;
        if passed > 0 && (after - before).abs() / seconds > most {
            found.add(FindingCode::Rate, point, first.number, second.number, None);
        }
    }
}

fn is_outside(reading: &Reading, (low, high): (f64, f64)) -> bool {
    let number = reading.sample.number();
    reading.sample.outcome == Err(NoValue::OutOfRange) || number.is_some_and(|number| number < low || number > high)
}

fn replayed(point: &PointId, replay: Replay, whole: &[&Reading], start: i64, found: &mut Found) {
    let mut runs = Runs::new(replay);
    for reading in whole {
        let Some(copy) = bits(reading).and_then(|bits| runs.push(reading.number, bits)) else { continue };
        if received(reading) > start {
            found.add(FindingCode::Replay, point, copy.from, reading.number, Some(copy.earlier));
        }
    }
}

/// Both have a value, and for longer than allowed these are too far apart.
fn disagreeing(point: &PointId, other: &Redundant, readings: &[Reading], start: i64, found: &mut Found) {
    let (mut ours, mut theirs, mut since) = (None, None, None);
    for reading in readings {
        let sample = &reading.sample;
        match () {
            () if sample.point == *point => ours = sample.number(),
            () if sample.point == other.with => theirs = sample.number(),
            () => continue,
        }
        let (Some(ours), Some(theirs)) = (ours, theirs) else { continue };
        let apart = f64::abs(ours - theirs) > other.tolerance;
        lasts(apart, reading, micros(other.lasting), start, &mut since, |from, to| {
            found.add(FindingCode::Redundant, point, from, to, None);
        });
    }
}

fn related(
    rule: &Rule,
    (name, holds, lasting): (&PointId, &Node, i64),
    readings: &[Reading],
    start: i64,
    found: &mut Found,
) {
    let mut history = rule.check_history();
    let mut looks = Vec::new();
    holds.each_look(&mut |look| match look {
        Node::Point(slot) | Node::Last(slot) | Node::Window { slot, .. } => looks.push(*slot),
        _ => {}
    });
    let mut since = None;
    for reading in readings {
        let Some(slot) = rule.check_slot(&reading.sample.point) else { continue };
        history.push(slot, reading);
        if !looks.contains(&slot) {
            continue;
        }
        // What cannot be judged is neither right nor wrong.
        let Some(Scalar::Bool(is_right)) = evaluate(holds, &history) else { continue };
        lasts(!is_right, reading, lasting, start, &mut since, |from, to| {
            found.add(FindingCode::Related, name, from, to, None);
        });
    }
}

/// Says from which reading to which `is_wrong` has lasted for `lasting`, at readings after `start`.
fn lasts(
    is_wrong: bool,
    reading: &Reading,
    lasting: i64,
    start: i64,
    since: &mut Option<(u64, i64)>,
    say: impl FnOnce(u64, u64),
) {
    if !is_wrong {
        *since = None;
        return;
    }
    let (from, at) = *since.get_or_insert((reading.number, received(reading)));
    if received(reading) > start && received(reading) - at >= lasting {
        say(from, reading.number);
    }
}

fn received(reading: &Reading) -> i64 {
    reading.sample.received.as_micros()
}

fn skew(reading: &Reading) -> i64 {
    let skew = received(reading).saturating_sub(reading.sample.source_time.as_micros());
    skew.saturating_abs()
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A value as 64 bits: equal bits, equal value. Texts by FNV-1a, whose collisions nobody here gains by.
pub(super) fn bits(reading: &Reading) -> Option<u64> {
    #[allow(clippy::cast_sign_loss)] // the bits, not the number
    Some(match reading.sample.outcome.as_ref().ok()? {
        Value::Bool(flag) => u64::from(*flag),
        Value::Integer(number) => *number as u64,
        Value::Unsigned(number) => *number,
        Value::Float(number) => number.to_bits(),
        Value::Text(text) => text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)),
    })
}
