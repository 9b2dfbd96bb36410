//! Our evaluator against `cel`'s own interpreter: where CEL has an answer (all numbers doubles), it is ours too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{compile, flag, float, reading, source, with_call};
use proptest::prelude::*;
use tally_model::Value;
use tally_rules::{Rule, Watch};

fn numbers() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("vibration".to_owned()),
        (-50..50i32).prop_map(|number| format!("{:?}", f64::from(number) / 4.0)),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let operator = proptest::sample::select(vec!["+", "-", "*", "/"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

fn wholes() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![Just("strokes".to_owned()), (0..50i32).prop_map(|number| number.to_string())];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let operator = proptest::sample::select(vec!["+", "-", "*", "/", "%"]);
        (inner.clone(), operator, inner).prop_map(|(a, operator, b)| format!("({a} {operator} {b})"))
    })
}

fn conditions() -> impl Strategy<Value = String> {
    let operator = || proptest::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let leaf = prop_oneof![
        Just("running".to_owned()),
        Just("state.startsWith('ru')".to_owned()),
        Just("state in ['run', 'idle']".to_owned()),
        (numbers(), operator(), numbers()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
        (wholes(), operator(), wholes()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
        (wholes(), operator(), numbers()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a}) ? ({b}) : ({c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn ours_is_cels(condition in conditions(), vibration in -20..20i32, strokes in -20..20i64, running: bool) {
        let vibration = f64::from(vibration) / 4.0;
        let program = cel::Program::compile(&condition).unwrap();
        let mut context = cel::Context::default();
        context.add_variable_from_value("vibration", vibration);
        context.add_variable_from_value("strokes", strokes);
        context.add_variable_from_value("running", running);
        context.add_variable_from_value("state", "run".to_owned());
        let theirs = match program.execute(&context) {
            Ok(cel::Value::Bool(flag)) => Some(Value::Bool(flag)),
            _ => None,
        };
        // Brackets of eight levels and a division by 0.0 (infinity for them, unknown for us) are where we differ on purpose.
        let named = with_call(source("vibration > -99.0 && strokes > -99 && running != !running && state != ''"), &[("x", &condition)]);
        prop_assume!(Rule::compile(&named).is_ok());
        let mut watch = Watch::new(compile(&named));
        let values = [("vibration", Value::Float(vibration)), ("strokes", Value::Integer(strokes)), ("state", Value::Text("run".into()))];
        for (number, (id, value)) in (0..).zip(values) {
            watch.observe(&reading(number, 0, id, Ok(value)));
        }
        let ours = watch.observe(&flag(3, 0, "running", running)).unwrap().with.get("x").cloned();
        let divides = condition.contains('/');
        prop_assert!(ours == theirs || (divides && ours.is_none()), "{condition}: ours {ours:?}, theirs {theirs:?}");
    }
}

#[test]
fn where_we_differ_on_purpose() {
    let raises = |when: &str| Watch::new(compile(&source(when))).observe(&float(0, 0, "vibration", 0.0)).is_some();
    assert!(!raises("1.0 / vibration > 1.0"), "CEL: infinity is above one");
    assert!(raises("vibration + 1 > 0"), "CEL: a double and an int do not add up");
}
