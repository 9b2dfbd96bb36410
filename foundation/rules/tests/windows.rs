//! What each function gives, and when a window is too thin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{compile, flag, float, reading, source, with_call};
use tally_model::{NoValue, Quality, Reading, Unit, Value};
use tally_rules::{Rule, Watch};

/// The value of an expression after `readings`, through the front door: as a call argument of a rule that always
/// holds.
#[track_caller]
fn value(expression: &str, readings: &[Reading]) -> Option<Value> {
    let rule = compile(&with_call(source("true"), &[("x", expression)]));
    let mut watch = Watch::new(rule);
    let mut value = None;
    for reading in readings {
        watch.restore_raised(false);
        if let Some(firing) = watch.observe(reading) {
            value = firing.with.get("x").cloned();
        }
    }
    value
}

fn ramp() -> Vec<Reading> {
    (0..=10).map(|n| float(n, i64::try_from(n).unwrap() * 100, "vibration", n as f64)).collect()
}

#[test]
fn functions_over_a_ramp() {
    // Readings 0…10 at 0, 100, … 1000 ms. A window of 500 ms at 1000 ms holds 6, 7, 8, 9, 10; its edge is 5 at 500 ms.
    let float = |number| Some(Value::Float(number));
    for (expression, expected) in [
        ("min(vibration, '500ms')", float(6.0)),
        ("max(vibration, '500ms')", float(10.0)),
        ("sum(vibration, '500ms')", float(40.0)),
        ("mean(vibration, '500ms')", float(8.0)),
        ("count(vibration, '500ms')", Some(Value::Integer(5))),
        ("rate(vibration, '500ms')", float(10.0)),
        // 5·0.1 + 6·0.1 + … + 9·0.1, the last value has held for no time yet.
        ("integral(vibration, '500ms')", float(0.5 + 6.0 * 0.1 + 7.0 * 0.1 + 8.0 * 0.1 + 9.0 * 0.1)),
        ("last(vibration)", float(10.0)),
        ("vibration", float(10.0)),
        ("mean(vibration, '1s')", float(5.5)),
        ("mean(vibration, '1001ms')", None),
        // The window starts between two readings: the edge is the one before, held from the window's start on.
        ("integral(vibration, '450ms')", float(5.0 * 0.05 + 6.0 * 0.1 + 7.0 * 0.1 + 8.0 * 0.1 + 9.0 * 0.1)),
        ("rate(vibration, '100ms')", None),
        ("rate(vibration, '200ms')", float(10.0)),
    ] {
        assert_eq!(value(expression, &ramp()), expected, "{expression}");
    }
}

#[test]
fn time_in_counts_seconds_true() {
    let switched = [
        flag(0, 0, "running", true),
        flag(1, 400, "running", false),
        flag(2, 700, "running", true),
        flag(3, 1000, "running", true),
    ];
    assert_eq!(value("time_in(running, '1s')", &switched), Some(Value::Float(0.7)));
    assert_eq!(value("time_in(running, '800ms')", &switched), Some(Value::Float(0.5)));
    // A point that is reported only when it changes: the edge alone fills the window.
    let quiet = [flag(0, 0, "running", true), float(1, 60_000, "vibration", 1.0)];
    assert_eq!(value("time_in(running, '10s') + 0.0 * vibration", &quiet), Some(Value::Float(10.0)));
    assert_eq!(value("count(running, '10s')", &quiet), None, "running was not read by a rule that read vibration only");
    assert_eq!(value("count(running, '10s') + int(0.0 * vibration)", &quiet), Some(Value::Integer(0)));
}

#[test]
fn bad_readings_count_for_nothing_and_half_of_them_must_be_usable() {
    let bad = |number, millis| reading(number, millis, "vibration", Err(NoValue::Timeout));
    let mut readings = vec![float(0, 0, "vibration", 4.0), float(1, 500, "vibration", 2.0), bad(2, 1000)];
    assert_eq!(value("mean(vibration, '1s')", &readings), Some(Value::Float(2.0)), "half is enough");
    assert_eq!(value("vibration", &readings), None, "the newest reading has no value");
    assert_eq!(value("last(vibration)", &readings), Some(Value::Float(2.0)));
    assert_eq!(value("integral(vibration, '1s')", &readings), Some(Value::Float(3.0)));
    readings.push(bad(3, 1000));
    assert_eq!(value("mean(vibration, '1s')", &readings), None, "one of three is not");
    // A hole ends the holding: 4·0.5 s, then nothing for 0.3 s, then 6·0.2 s.
    let hole =
        [float(0, 0, "vibration", 4.0), bad(1, 500), float(2, 800, "vibration", 6.0), float(3, 1000, "vibration", 6.0)];
    assert_eq!(value("integral(vibration, '1s')", &hole), Some(Value::Float(2.0 + 6.0 * 0.2)));
}

#[test]
fn doubtful_values_count_and_foreign_units_do_not() {
    let mut readings = vec![float(0, 0, "vibration", 4.0), float(1, 1000, "vibration", 2.0)];
    readings[1].sample.quality = Quality::Uncertain;
    assert_eq!(value("mean(vibration, '1s')", &readings), Some(Value::Float(2.0)));
    readings[1].sample.unit = Unit::try_new("Cel").unwrap();
    assert_eq!(value("mean(vibration, '1s')", &readings), None);
    assert_eq!(value("vibration", &readings), None);
    let mut texts = vec![reading(0, 0, "vibration", Ok(Value::Text("7".into())))];
    assert_eq!(value("vibration", &texts), None, "a text is no float");
    texts[0] = reading(0, 0, "vibration", Ok(Value::Integer(7)));
    assert_eq!(value("vibration", &texts), Some(Value::Float(7.0)), "a whole number is one");
}

#[test]
fn numbers_of_both_kinds_meet() {
    let readings = [
        reading(0, 0, "strokes", Ok(Value::Integer(7))),
        reading(1, 0, "auto", Ok(Value::Integer(7))),
        float(2, 0, "vibration", 7.5),
    ];
    for (expression, expected) in [
        ("strokes / 2", Value::Integer(3)),
        ("auto / 2 + 0 * strokes", Value::Float(3.5)),
        ("strokes / 2.0", Value::Float(3.5)),
        ("double(strokes) / 2", Value::Float(3.5)),
        ("strokes % 4", Value::Integer(3)),
        ("-strokes", Value::Integer(-7)),
        ("abs(-strokes)", Value::Integer(7)),
        ("int(vibration)", Value::Integer(7)),
        ("strokes < vibration", Value::Bool(true)),
        ("auto == strokes", Value::Bool(true)),
        ("vibration > strokes ? 'more' : 'less'", Value::Text("more".into())),
        ("strokes in [1, 7]", Value::Bool(true)),
        ("'a' + 'b'", Value::Text("ab".into())),
        ("auto", Value::Integer(7)),
        ("9007199254740993 > 9007199254740992.0", Value::Bool(true)),
        ("18446744073709551615u", Value::Unsigned(u64::MAX)),
    ] {
        // Named so that the rule is evaluated after every one of them.
        let expression = format!("strokes > -1 && vibration > -1.0 && auto > -1 ? ({expression}) : ({expression})");
        assert_eq!(value(&expression, &readings), Some(expected), "{expression}");
    }
}

#[test]
fn what_is_not_finite_or_overflows_is_unknown() {
    let readings = [reading(0, 0, "strokes", Ok(Value::Integer(i64::MAX))), float(1, 0, "vibration", 0.0)];
    for expression in [
        "1.0 / vibration",
        "1 / int(vibration)",
        "1 % int(vibration)",
        "1e308 * 10.0 + vibration",
        "-(18446744073709551615u) + int(vibration)",
        "int(1e300 + vibration)",
    ] {
        assert_eq!(value(expression, &readings), None, "{expression}");
    }
    let raises = |when: &str| Watch::new(compile(&source(when))).observe(&readings[1]).is_some();
    assert!(!raises("1.0 / vibration > 7.0"), "infinity is not above seven");
    assert!(!raises("!(1.0 / vibration > 7.0)"), "and not below either");
    assert!(raises("1.0 / vibration > 7.0 || vibration == 0.0"), "a true side decides");
}

#[test]
fn texts() {
    let readings = [reading(0, 0, "state", Ok(Value::Text("run-fast".into())))];
    for (when, holds) in [
        ("state == 'run-fast'", true),
        ("state != 'idle'", true),
        ("state < 'a'", false),
        ("state.startsWith('run')", true),
        ("state.endsWith('run')", false),
        ("state.contains(\"-\")", true),
        ("state in ['idle', 'run-fast']", true),
        ("state in ['idle']", false),
        ("!(state in ['idle'])", true),
    ] {
        assert_eq!(Watch::new(compile(&source(when))).observe(&readings[0]).is_some(), holds, "{when}");
    }
}

#[test]
fn sums_are_taken_in_number_order() {
    // 1e16 + 1 + 1 + … loses every 1; afresh in order is the only answer that two machines share.
    let mut readings = vec![float(0, 0, "vibration", 0.0), float(1, 10, "vibration", 1e16)];
    readings.extend((2..10).map(|n| float(n, 10 + i64::try_from(n).unwrap(), "vibration", 1.0)));
    let expected = (0..8).fold(1e16, |sum, _| sum + 1.0);
    assert_eq!(value("sum(vibration, '19ms')", &readings), Some(Value::Float(expected)));
}

#[test]
fn compiling_is_thread_safe() {
    fn shared<T: Send + Sync>() {}
    shared::<Rule>();
    shared::<Watch>();
}
