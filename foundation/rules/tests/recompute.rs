//! Verifiers accept exactly what a watch says. Random rules over random readings; a naive model of the semantics, written without
//! looking at the crate, says what a watch should have said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{compile, disclosed, flag, float, reading, run, source, with_call};
use proptest::prelude::*;
use std::time::Duration;
use tally_model::{NoValue, Reading, RuleSource, Timestamp, Value};
use tally_rules::{Firing, Mismatch, Transition, recompute};

/// Readings of `vibration` (with holes), `running` and `strokes`, 0 to 400 ms apart.
fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let one = (0..8u8, prop_oneof![Just(0i64), 1..400i64], 0..12i64);
    proptest::collection::vec(one, 1..60).prop_map(|parts| {
        let mut millis = 0;
        let place = |(number, (which, gap, value)): (usize, (u8, i64, i64))| {
            millis += gap;
            let number = number as u64 * 2;
            match which {
                0 => reading(number, millis, "vibration", Err(NoValue::Timeout)),
                1..=4 => float(number, millis, "vibration", value as f64 * 0.9),
                5 => reading(number, millis, "strokes", Ok(Value::Integer(value))),
                _ => flag(number, millis, "running", value > 2),
            }
        };
        parts.into_iter().enumerate().map(place).collect()
    })
}

fn number() -> impl Strategy<Value = String> {
    let width = proptest::sample::select(vec!["50ms", "300ms", "1s", "2s"]);
    let function = proptest::sample::select(vec!["min", "max", "mean", "sum", "rate", "integral", "count"]);
    prop_oneof![
        Just("vibration".to_owned()),
        Just("strokes".to_owned()),
        Just("last(vibration)".to_owned()),
        (function, width.clone()).prop_map(|(function, width)| format!("{function}(vibration, '{width}')")),
        width.prop_map(|width| format!("time_in(running, '{width}')")),
        (0..10u8).prop_map(|number| format!("{number}.5")),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let operator = proptest::sample::select(vec![">", "<", ">=", "!="]);
    let leaf = prop_oneof![
        Just("running".to_owned()),
        (number(), operator, number()).prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) || ({right})")),
            inner.clone().prop_map(|inner| format!("!({inner})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
}

fn rules() -> impl Strategy<Value = RuleSource> {
    let delay = proptest::sample::select(vec![0u64, 0, 100, 500]);
    (condition(), proptest::option::of(condition()), delay, number()).prop_map(|(when, until, delay, argument)| {
        let source = with_call(source(&when), &[("x", &argument), ("fault", "'worn'")]);
        RuleSource { until, on_delay: Duration::from_millis(delay), ..source }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_firing_recomputes(source in rules(), readings in readings()) {
        let rule = compile(&source);
        for firing in run(&rule, &readings) {
            let evidence = disclosed(&rule, &readings, &firing);
            prop_assert_eq!(recompute(&rule, &evidence, &firing), Ok(()), "{:?}", firing);
        }
    }

    #[test]
    fn other_claims_about_the_same_readings_are_refused(source in rules(), readings in readings()) {
        let rule = compile(&source);
        for firing in run(&rule, &readings) {
            let evidence = disclosed(&rule, &readings, &firing);
            for (lie, name) in lies(&firing) {
                prop_assert!(recompute(&rule, &evidence, &lie).is_err(), "{} passed: {:?}", name, lie);
            }
        }
    }

    #[test]
    fn what_follows_from_a_part_follows_from_the_whole(source in rules(), readings in readings(), from in 0..120u64) {
        // The proof in the head of recompute.rs: forgetting the past never makes a claim pass that the whole would refuse.
        let rule = compile(&source);
        for deciding in &readings {
            for transition in [Transition::Raised, Transition::Cleared] {
                let mut claim = Firing { transition, at: deciding.sample.received, first: from, last: deciding.number, with: Default::default() };
                let part = disclosed(&rule, &readings, &claim);
                let partly = recompute(&rule, &part, &claim);
                claim.first = 0;
                let whole = recompute(&rule, &disclosed(&rule, &readings, &claim), &claim);
                if follows(&partly) {
                    prop_assert!(follows(&whole), "{transition} at {} from {from}", deciding.number);
                }
            }
        }
    }

    #[test]
    fn a_watch_says_what_the_naive_model_says(
        readings in readings(),
        threshold in 0..10u8,
        clears in proptest::option::of(0..10u8),
        width in 1..1500i64,
        delay in 0..600i64,
    ) {
        let threshold = f64::from(threshold);
        let mut source = source(&format!("mean(vibration, '{width}ms') > {threshold:?} && running"));
        source.until = clears.map(|clears| format!("vibration < {:?}", f64::from(clears)));
        source.on_delay = Duration::from_millis(delay.unsigned_abs());
        let said: Vec<_> = run(&compile(&source), &readings).iter().map(|firing| (firing.transition, firing.last)).collect();
        let model = Model { readings: &readings, threshold, clears: clears.map(f64::from), width: width * 1000, delay: delay * 1000 };
        prop_assert_eq!(said, model.run());
    }
}

/// Whether transition and instant follow; these claims carry no arguments.
fn follows(result: &Result<(), Mismatch>) -> bool {
    matches!(result, Ok(()) | Err(Mismatch::Argument { .. }))
}

fn lies(firing: &Firing) -> Vec<(Firing, &'static str)> {
    let mut lies = vec![
        (Firing { at: firing.at.plus(Duration::from_micros(1)), ..firing.clone() }, "later"),
        (Firing { last: firing.last + 1, ..firing.clone() }, "no such reading"),
        (Firing { first: firing.last + 1, ..firing.clone() }, "no range"),
    ];
    let with = |name: &str, value: Option<Value>| {
        let mut lie = firing.clone();
        match value {
            Some(value) => lie.with.insert(name.to_owned(), value),
            None => lie.with.remove(name),
        };
        lie
    };
    lies.push((with("extra", Some(Value::Bool(true))), "an argument too many"));
    if firing.transition == Transition::Raised {
        lies.push((with("fault", Some(Value::Text("other".into()))), "another text"));
        lies.push((with("fault", None), "an argument too few"));
        if let Some(Value::Float(number)) = firing.with.get("x") {
            lies.push((with("x", Some(Value::Float(f64::from_bits(number.to_bits() ^ 1)))), "one bit of a number"));
        }
    }
    lies
}

/// `mean(vibration, width) > threshold && running`, until `vibration < clears`, by the text of the decision page.
struct Model<'a> {
    readings: &'a [Reading],
    threshold: f64,
    clears: Option<f64>,
    width: i64,
    delay: i64,
}

impl Model<'_> {
    fn run(&self) -> Vec<(Transition, u64)> {
        let mut said = Vec::new();
        let (mut raised, mut run): (bool, Option<i64>) = (false, None);
        for index in 0..self.readings.len() {
            let reading = &self.readings[index];
            if reading.sample.point.as_str() == "strokes" {
                continue;
            }
            let now = reading.sample.received.as_micros();
            if raised {
                let over = match self.clears {
                    Some(clears) => self.newest(index, "vibration").is_some_and(|value| value < clears),
                    None => self.when(index) == Some(false),
                };
                if over {
                    (raised, run) = (false, None);
                    said.push((Transition::Cleared, reading.number));
                }
            } else if self.when(index) == Some(true) {
                if now - *run.get_or_insert(now) >= self.delay {
                    raised = true;
                    said.push((Transition::Raised, reading.number));
                }
            } else {
                run = None;
            }
        }
        said
    }

    fn when(&self, index: usize) -> Option<bool> {
        let above = self.mean(index).map(|mean| mean > self.threshold);
        let running = self.newest(index, "running").map(|value| value != 0.0);
        match (above, running) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    }

    fn newest(&self, index: usize, point: &str) -> Option<f64> {
        let of_point = self.readings[..=index].iter().rfind(|reading| reading.sample.point.as_str() == point)?;
        of_point.sample.number()
    }

    fn mean(&self, index: usize) -> Option<f64> {
        let start = self.readings[index].sample.received.as_micros() - self.width;
        let of_point = self.readings[..=index].iter().filter(|reading| reading.sample.point.as_str() == "vibration");
        let (before, inside): (Vec<_>, Vec<_>) =
            of_point.partition(|reading| reading.sample.received.as_micros() <= start);
        let values: Vec<f64> = inside.iter().filter_map(|reading| reading.sample.number()).collect();
        let thick = !before.is_empty() && !values.is_empty() && values.len() * 2 >= inside.len();
        thick.then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

fn worn() -> (std::sync::Arc<tally_rules::Rule>, Vec<Reading>, Firing) {
    let mut source =
        with_call(source("mean(vibration, '300ms') > 7.1 && running"), &[("peak", "max(vibration, '300ms')")]);
    source.on_delay = Duration::from_millis(200);
    let mut readings = vec![flag(0, 0, "running", true)];
    readings
        .extend((1..=9).map(|n| float(n, 100 * i64::try_from(n).unwrap(), "vibration", if n < 4 { 2.0 } else { 8.0 })));
    let rule = compile(&source);
    let firing = run(&rule, &readings).remove(0);
    let evidence = disclosed(&rule, &readings, &firing);
    (rule, evidence, firing)
}

#[test]
fn altered_readings_are_refused() {
    let (rule, evidence, firing) = worn();
    assert_eq!((firing.first, firing.last), (0, 8));
    assert_eq!(recompute(&rule, &evidence, &firing), Ok(()));
    let refused = |change: &dyn Fn(&mut Vec<Reading>)| {
        let mut altered = evidence.clone();
        change(&mut altered);
        recompute(&rule, &altered, &firing).unwrap_err()
    };
    let does_not_follow = Mismatch::DoesNotFollow { transition: Transition::Raised };
    assert_eq!(refused(&|all| all[8].sample.outcome = Ok(Value::Float(1.0))), does_not_follow);
    assert_eq!(refused(&|all| all[0].sample.outcome = Ok(Value::Bool(false))), does_not_follow);
    assert_eq!(
        refused(&|all| {
            all.remove(0);
        }),
        does_not_follow
    );
    assert_eq!(
        refused(&|all| {
            all.pop();
        }),
        Mismatch::NoDecidingReading { last: 8 }
    );
    assert!(matches!(refused(&|all| all[8].sample.outcome = Ok(Value::Float(9.0))), Mismatch::Argument { .. }));
    assert!(matches!(refused(&|all| all.swap(4, 5)), Mismatch::Reading { .. }));
    assert!(matches!(refused(&|all| all[5].device = "press-02".parse().unwrap()), Mismatch::Reading { .. }));
    assert!(matches!(refused(&|all| all[5].sample.received = Timestamp::from_micros(0)), Mismatch::Reading { .. }));
    assert!(matches!(refused(&|all| all.push(float(9, 900, "vibration", 8.0))), Mismatch::Reading { .. }));
    assert!(matches!(
        refused(&|all| all[8].sample.received = all[8].sample.received.plus(Duration::from_millis(1))),
        Mismatch::Instant { .. }
    ));
}

/// At the first evaluation of the run the window has no edge and does not matter; at the last one it decides, and its
/// edge lies before the run.
#[test]
fn an_edge_that_comes_to_matter_during_the_run_is_in_the_range() {
    let mut source = source("running || min(vibration, '1s') > 5.0");
    source.on_delay = Duration::from_millis(600);
    let readings = [
        float(0, 0, "vibration", 9.0),
        flag(1, 500, "running", true),
        float(2, 1000, "vibration", 9.0),
        flag(3, 1100, "running", false),
    ];
    let rule = compile(&source);
    let firing = run(&rule, &readings).remove(0);
    assert_eq!((firing.first, firing.last), (0, 3));
    assert_eq!(recompute(&rule, &disclosed(&rule, &readings, &firing), &firing), Ok(()));
}

#[test]
fn another_transition_or_an_earlier_reading_is_refused() {
    let (rule, mut evidence, firing) = worn();
    let cleared = Firing { transition: Transition::Cleared, ..firing.clone() };
    assert_eq!(recompute(&rule, &evidence, &cleared), Err(Mismatch::DoesNotFollow { transition: Transition::Cleared }));
    evidence.pop();
    let at = evidence.last().unwrap().sample.received;
    let early = Firing { last: 7, at, ..firing };
    assert_eq!(recompute(&rule, &evidence, &early), Err(Mismatch::DoesNotFollow { transition: Transition::Raised }));
}

#[test]
fn points_the_rule_does_not_read_may_be_disclosed_too() {
    let (rule, mut evidence, firing) = worn();
    // Numbers of other points lie between: spread the evidence out and put a stranger in.
    for reading in &mut evidence {
        reading.number *= 2;
    }
    let claim = Firing { first: 0, last: 16, ..firing };
    evidence.insert(4, reading(7, 300, "state", Ok(Value::Text("run".into()))));
    assert_eq!(recompute(&rule, &evidence, &claim), Ok(()));
}
