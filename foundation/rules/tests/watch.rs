//! Raising, clearing, on-delay, silence, restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{compile, flag, float, reading, run, source, with_call};
use std::time::Duration;
use tally_model::{DeviceId, NoValue, Reading, RuleSource, Timestamp, Value};
use tally_rules::{MissingReason, Transition, Watch, WatchState};

/// Readings of `vibration` every 100 ms.
fn vibration(values: &[f64]) -> Vec<Reading> {
    let numbered = values.iter().zip(0..);
    numbered.map(|(value, n)| float(n, i64::try_from(n).unwrap() * 100, "vibration", *value)).collect()
}

fn delayed(when: &str, millis: u64, until: Option<&str>) -> RuleSource {
    RuleSource { on_delay: Duration::from_millis(millis), until: until.map(str::to_owned), ..source(when) }
}

/// Firings as `raised@number(first)`.
#[track_caller]
fn check(source: &RuleSource, readings: &[Reading], expected: &[&str]) {
    let firings = run(&compile(source), readings);
    let shown: Vec<_> =
        firings.iter().map(|firing| format!("{}@{}({})", firing.transition, firing.last, firing.first)).collect();
    assert_eq!(shown, expected);
}

#[test]
fn raised_once_until_cleared() {
    check(
        &source("vibration > 5.0"),
        &vibration(&[1., 6., 7., 6., 1., 1., 9.]),
        &["raised@1(1)", "cleared@4(4)", "raised@6(6)"],
    );
}

#[test]
fn until_is_the_hysteresis() {
    let source = delayed("vibration > 5.0", 0, Some("vibration < 3.0"));
    check(&source, &vibration(&[1., 6., 4., 6., 2., 4., 6.]), &["raised@1(1)", "cleared@4(4)", "raised@6(6)"]);
}

#[test]
fn on_delay_wants_an_unbroken_run() {
    let source = delayed("vibration > 5.0", 300, None);
    check(&source, &vibration(&[6., 6., 1., 6., 6., 6., 6., 6.]), &["raised@6(3)"]);
    let gap = [float(0, 0, "vibration", 6.0), float(1, 5000, "vibration", 6.0)];
    check(&source, &gap, &["raised@1(0)"]);
    let hole = [
        float(0, 0, "vibration", 6.0),
        reading(1, 100, "vibration", Err(NoValue::LinkDown)),
        float(2, 400, "vibration", 6.0),
    ];
    check(&source, &hole, &[]);
}

#[test]
fn the_range_reaches_back_to_the_edge_of_the_first_window() {
    let source = delayed("mean(vibration, '300ms') > 5.0", 200, Some("mean(vibration, '300ms') < 3.0"));
    // Means become true at number 5 (6, 6, 6 after edge 2); on-delay ends at 7. Cleared at 10 by 6, 1, 1 after edge 7.
    check(&source, &vibration(&[1., 1., 1., 6., 6., 6., 6., 6., 6., 1., 1., 1.]), &["raised@7(2)", "cleared@10(7)"]);
}

#[test]
fn a_silent_machine_neither_raises_nor_clears() {
    let down = |number, millis| reading(number, millis, "vibration", Err(NoValue::LinkDown));
    check(&source("vibration > 5.0"), &[float(0, 0, "vibration", 6.0), down(1, 100), down(2, 200)], &["raised@0(0)"]);
    check(&source("!(vibration > 5.0)"), &[down(0, 0)], &[]);
}

#[test]
fn points_of_several_times_meet() {
    let source = source("vibration > 5.0 && running");
    let readings = [
        float(0, 0, "vibration", 6.0),
        float(1, 1, "strokes", 1.0),
        flag(2, 10, "running", true),
        flag(3, 20, "running", false),
    ];
    check(&source, &readings, &["raised@2(0)", "cleared@3(0)"]);
}

#[test]
fn other_devices_repeats_and_unread_points_are_ignored() {
    let rule = compile(&source("vibration > 5.0"));
    let mut watch = Watch::new(rule);
    let mut foreign = float(0, 0, "vibration", 9.0);
    foreign.device = DeviceId::try_new("press-02").unwrap();
    assert_eq!(watch.observe(&foreign), None);
    assert_eq!(watch.observe(&float(1, 0, "strokes", 9.0)), None);
    assert!(watch.observe(&float(2, 0, "vibration", 9.0)).is_some());
    assert_eq!(watch.observe(&float(2, 0, "vibration", 1.0)), None);
    assert!(watch.is_raised());
}

#[test]
fn call_arguments_are_of_the_instant_and_only_of_raising() {
    let source = with_call(
        source("vibration > 5.0"),
        &[
            ("fault", "'bearing-worn'"),
            ("peak", "max(vibration, '200ms')"),
            ("oil", "auto"),
            ("hot", "vibration > 8.0"),
        ],
    );
    let firings = run(&compile(&source), &vibration(&[1., 4., 3., 6., 1.]));
    let with = &firings[0].with;
    assert_eq!(with.get("fault"), Some(&Value::Text("bearing-worn".into())));
    assert_eq!(with.get("peak"), Some(&Value::Float(6.0)));
    assert_eq!(with.get("hot"), Some(&Value::Bool(false)));
    assert_eq!(with.get("oil"), None, "no value, no argument, but the trigger is not held back");
    assert_eq!((firings[0].first, firings[0].last), (1, 3), "the argument's window is part of the range");
    assert_eq!((firings[1].transition, firings[1].with.len()), (Transition::Cleared, 0));
}

#[test]
fn states_for_the_display() {
    let rule = compile(&delayed("mean(vibration, '200ms') > 5.0 && running", 200, None));
    let mut watch = Watch::new(rule);
    let missing = |watch: &Watch| match watch.state() {
        WatchState::TooThin { missing } => missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        missing(&watch),
        "mean(vibration, '200ms'): not watched for as long as the window, running: no usable value"
    );
    watch.observe(&flag(0, 0, "running", true));
    for n in 1..=2 {
        watch.observe(&float(n, 100 * i64::try_from(n).unwrap(), "vibration", 6.0));
    }
    assert_eq!(missing(&watch), "mean(vibration, '200ms'): not watched for as long as the window");
    watch.observe(&float(3, 300, "vibration", 6.0));
    assert_eq!(watch.state(), WatchState::Pending { since: Timestamp::from_micros(300_000) });
    watch.observe(&float(4, 600, "vibration", 6.0));
    assert_eq!(watch.state(), WatchState::Raised { since: Timestamp::from_micros(600_000) });
    watch.observe(&flag(5, 600, "running", false));
    assert_eq!(watch.state(), WatchState::Normal);
    watch.observe(&flag(6, 2000, "running", true));
    assert_eq!(
        missing(&watch),
        format!("mean(vibration, '200ms'): {}", MissingReason::TooFewUsable { usable: 0, readings: 0 })
    );
}

#[test]
fn a_restart_goes_on_where_the_old_watch_stopped() {
    let rule = compile(&delayed("mean(vibration, '300ms') > 5.0", 200, Some("mean(vibration, '300ms') < 3.0")));
    let readings = vibration(&[1., 1., 6., 6., 6., 6., 6., 6., 6., 1., 1., 1., 1., 6., 6., 6., 6., 6., 6., 6.]);
    let whole = run(&rule, &readings);
    assert_eq!(whole.len(), 3);
    for stop in 1..readings.len() {
        let mut watch = Watch::new(rule.clone());
        let mut firings: Vec<_> = readings[..stop].iter().filter_map(|reading| watch.observe(reading)).collect();
        let (raised, needed) = (watch.is_raised(), watch.first_needed().unwrap());
        let mut watch = Watch::new(rule.clone());
        for reading in readings[..stop].iter().filter(|reading| reading.number >= needed) {
            watch.observe(reading);
        }
        watch.restore_raised(raised);
        firings.extend(readings[stop..].iter().filter_map(|reading| watch.observe(reading)));
        assert_eq!(firings, whole, "stopped before number {stop}");
    }
}

#[test]
fn what_is_not_needed_any_more_may_go() {
    let rule = compile(&delayed("mean(vibration, '300ms') > 5.0 && running", 0, None));
    let mut watch = Watch::new(rule);
    assert_eq!(watch.first_needed(), None);
    watch.observe(&float(0, 0, "vibration", 1.0));
    watch.observe(&flag(1, 0, "running", true));
    for n in 2..100 {
        watch.observe(&float(n, i64::try_from(n).unwrap() * 100, "vibration", 1.0));
    }
    assert_eq!(watch.first_needed(), Some(1), "the newest word on `running`");
    watch.observe(&flag(100, 9900, "running", true));
    assert_eq!(watch.first_needed(), Some(96), "the edge of the window");
}
