//! Truth before the seal: each check finds what it should and nothing else, and whoever has the readings finds the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss, missing_docs)]

mod common;

use common::{compile, float, point, reading, source};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{
    Checks, Finding, FindingCode, Frozen, NoValue, PointChecks, Reading, Redundant, Related, Replay, Timestamp, Value,
};
use tally_rules::{FindingMismatch, Rule, Watch, confirm_findings, findings, with_known};

const LOOK_BACK: Duration = Duration::from_secs(10);

fn rule(checks: Checks) -> Arc<Rule> {
    let mut source = source("vibration > 7.0");
    for name in ["vib_b", "power"] {
        source.points.insert(point(name), (Some(tally_model::ValueKind::Float), tally_model::Unit::one()));
    }
    source.checks = Some(Checks { look_back: LOOK_BACK, ..checks });
    compile(&source)
}

fn on_vibration(checks: PointChecks) -> Arc<Rule> {
    rule(Checks { points: [(point("vibration"), checks)].into(), ..Checks::default() })
}

/// One reading of `vibration` a second.
fn series(values: &[f64]) -> Vec<Reading> {
    let one = |(number, value): (usize, &f64)| float(number as u64, number as i64 * 1000, "vibration", *value);
    values.iter().enumerate().map(one).collect()
}

fn found(rule: &Rule, readings: &[Reading]) -> Vec<(FindingCode, String, u64, u64, Option<u64>)> {
    let at = readings.last().unwrap().sample.received;
    let name = |finding: &Finding| finding.point.as_ref().map_or_else(String::new, ToString::to_string);
    findings(rule, readings, at).iter().map(|one| (one.code, name(one), one.from, one.to, one.earlier)).collect()
}

fn vibration(code: FindingCode, from: u64, to: u64) -> Vec<(FindingCode, String, u64, u64, Option<u64>)> {
    vec![(code, "vibration".into(), from, to, None)]
}

#[test]
fn a_value_that_stands_still_is_found_after_both_bounds() {
    let rule = on_vibration(PointChecks {
        frozen: Some(Frozen { readings: 4, lasting: Duration::from_secs(3) }),
        ..PointChecks::default()
    });
    assert_eq!(found(&rule, &series(&[1.0, 2.0, 2.0, 2.0])), []);
    assert_eq!(found(&rule, &series(&[1.0, 2.0, 2.0, 2.0, 2.0, 3.0])), vibration(FindingCode::Frozen, 1, 4));
    // A reading that did not come says nothing: neither that it stands nor that it moves.
    let mut holed = series(&[2.0, 2.0, 2.0, 2.0, 2.0]);
    holed[2] = reading(2, 2000, "vibration", Err(NoValue::Timeout));
    assert_eq!(found(&rule, &holed), vibration(FindingCode::Frozen, 0, 4));
    // Told only when it changes (deadband): long without news, but few readings.
    let sparse = [float(0, 0, "vibration", 2.0), float(1, 60_000, "vibration", 2.0)];
    assert_eq!(found(&rule, &sparse), []);
    // Long ago is forgiven.
    let mut past = series(&[2.0, 2.0, 2.0, 2.0]);
    past.extend((0..12).map(|n| float(4 + n, 4000 + n as i64 * 1000, "vibration", n as f64)));
    assert_eq!(found(&rule, &past), []);
}

#[test]
fn a_jump_is_judged_by_the_devices_time() {
    let rule = on_vibration(PointChecks { rate_max: Some(1.5), ..PointChecks::default() });
    assert_eq!(found(&rule, &series(&[1.0, 2.4, 0.9])), []);
    assert_eq!(found(&rule, &series(&[1.0, 2.6, 2.6, 2.6])), vibration(FindingCode::Rate, 0, 1));
    // Two values that came in one answer, but arose two seconds apart.
    let mut burst = [float(0, 5000, "vibration", 1.0), float(1, 5001, "vibration", 3.0)];
    burst[0].sample.source_time = Timestamp::from_micros(1_000_000);
    burst[1].sample.source_time = Timestamp::from_micros(3_000_000);
    assert_eq!(found(&rule, &burst), []);
}

#[test]
fn skew_limits_and_what_is_no_value_because_it_is_out_of_range() {
    let rule = on_vibration(PointChecks {
        skew_max: Some(Duration::from_secs(2)),
        limits: Some((0.0, 10.0)),
        ..PointChecks::default()
    });
    let mut readings = series(&[10.0, 0.0, 10.5]);
    readings[1].sample.source_time = Timestamp::from_micros(3_000_001);
    let both =
        [(FindingCode::Skew, "vibration".into(), 1, 1, None), (FindingCode::Limits, "vibration".into(), 2, 2, None)];
    assert_eq!(found(&rule, &readings), both);
    let mut gone = series(&[1.0, 1.0]);
    gone[1] = reading(1, 1000, "vibration", Err(NoValue::OutOfRange));
    assert_eq!(found(&rule, &gone), vibration(FindingCode::Limits, 1, 1));
    gone[1] = reading(1, 1000, "vibration", Err(NoValue::Timeout));
    assert_eq!(found(&rule, &gone), []);
}

#[test]
fn two_sensors_may_disagree_for_a_moment_only() {
    let other = Redundant { with: point("vib_b"), tolerance: 0.5, lasting: Duration::from_secs(2) };
    let rule = on_vibration(PointChecks { redundant: Some(other), ..PointChecks::default() });
    let pair = |values: &[(f64, f64)]| -> Vec<Reading> {
        let both = values.iter().enumerate().flat_map(|(second, (a, b))| {
            let (number, millis) = (second as u64 * 2, second as i64 * 1000);
            [float(number, millis, "vibration", *a), float(number + 1, millis + 10, "vib_b", *b)]
        });
        both.collect()
    };
    assert_eq!(found(&rule, &pair(&[(1.0, 1.0), (3.0, 1.0), (3.0, 3.0), (3.0, 3.4)])), []);
    let apart = pair(&[(1.0, 1.0), (3.0, 1.0), (3.0, 1.0), (3.0, 1.0), (3.0, 3.0)]);
    assert_eq!(found(&rule, &apart), vibration(FindingCode::Redundant, 2, 8));
    // The other one is silent or has never spoken: nothing can be said.
    assert_eq!(found(&rule, &series(&[9.0, 9.0, 9.0, 9.0])), []);
}

#[test]
fn values_that_belong_together() {
    let related = Related { holds: "abs(power - 2.0 * vibration) < 1.0".into(), lasting: Duration::from_secs(1) };
    let rule = rule(Checks { related: [(point("power_fits"), related)].into(), ..Checks::default() });
    let readings = |power: f64| -> Vec<Reading> {
        let both = (0..5u64).flat_map(|n| {
            let millis = n as i64 * 1000;
            [float(n * 2, millis, "vibration", 3.0), float(n * 2 + 1, millis + 5, "power", power)]
        });
        both.collect()
    };
    assert_eq!(found(&rule, &readings(6.5)), []);
    assert_eq!(found(&rule, &readings(8.0)), [(FindingCode::Related, "power_fits".into(), 1, 9, None)]);
    assert!(rule.disclosed().contains(&point("power")), "what a relation looks at is shown");
}

const REPLAY: Replay = Replay { readings: 8, remembered: 1000 };

#[test]
fn a_recording_is_found_however_old_it_is() {
    let rule = on_vibration(PointChecks { replay: Some(REPLAY), ..PointChecks::default() });
    let noise = |n: u64| ((n * 7919) % 1009) as f64 / 137.0;
    let mut values: Vec<f64> = (0..100).map(noise).collect();
    assert_eq!(found(&rule, &series(&values)), []);
    values.extend((40..60).map(noise));
    let readings = series(&values);
    assert_eq!(found(&rule, &readings).len(), 1);
    // Evidence shows some seconds; only the agent remembers more.
    let mut watch = Watch::new(Arc::clone(&rule));
    readings.iter().for_each(|reading| drop(watch.observe(reading)));
    let at = readings.last().unwrap().sample.received;
    let first = watch.first_checked().unwrap();
    let shown = &readings[usize::try_from(first).unwrap()..];
    assert_eq!(found(&rule, shown), []);
    let known = watch.known_findings(at);
    // The first copy whose last reading lies in the look-back: 110 to 119 end runs of 8, the first begins at 103.
    let expected =
        Finding { code: FindingCode::Replay, point: Some(point("vibration")), from: 103, to: 119, earlier: Some(43) };
    assert_eq!(known.as_slice(), std::slice::from_ref(&expected));
    let told = with_known(findings(&rule, shown, at), known, first);
    assert_eq!(confirm_findings(&rule, shown, at, first, Some(&told)), Ok(vec![&expected]));
    // With the whole before one's eyes it is no matter of trust.
    assert_eq!(confirm_findings(&rule, &readings, at, 0, Some(&told)), Ok(vec![]));
    assert!(matches!(confirm_findings(&rule, &readings, at, 0, Some(&[])), Err(FindingMismatch::Concealed(_))));
}

#[test]
fn what_repeats_by_nature_is_no_recording() {
    let rule = on_vibration(PointChecks { replay: Some(REPLAY), ..PointChecks::default() });
    assert_eq!(found(&rule, &series(&[5.0; 64])), []);
    let swinging: Vec<f64> = (0..64).map(|n| f64::from(n % 2)).collect();
    assert_eq!(found(&rule, &series(&swinging)), []);
}

#[test]
fn a_rule_names_only_points_that_are_there() {
    let mut broken = source("vibration > 7.0");
    let other = Redundant { with: point("vib_c"), tolerance: 0.5, lasting: Duration::ZERO };
    let related = Related { holds: "power > 1.0".into(), lasting: Duration::ZERO };
    broken.checks = Some(Checks {
        points: [(point("vibration"), PointChecks { redundant: Some(other), ..PointChecks::default() })].into(),
        related: [(point("fits"), related)].into(),
        ..Checks::default()
    });
    let faults = Rule::compile(&broken).unwrap_err();
    let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("checks:1:1: unknown point `vib_c`")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("checks.related.fits:1:1: unknown point `power`")), "{texts:?}");
}

#[test]
fn checks_and_claims_go_together() {
    let (plain, checked) = (compile(&source("vibration > 7.0")), on_vibration(PointChecks::default()));
    let readings = series(&[8.0]);
    let at = readings[0].sample.received;
    let confirm =
        |rule: &Rule, claimed: Option<&[Finding]>| confirm_findings(rule, &readings, at, 0, claimed).map(|_| ());
    assert_eq!(confirm(&plain, None), Ok(()));
    assert_eq!(confirm(&checked, Some(&[])), Ok(()));
    assert_eq!(confirm(&plain, Some(&[])), Err(FindingMismatch::Asked { asked: false }));
    assert_eq!(confirm(&checked, None), Err(FindingMismatch::Asked { asked: true }));
    let made_up = Finding { code: FindingCode::Identity, point: None, from: 0, to: 0, earlier: None };
    assert!(matches!(confirm(&checked, Some(&[made_up])), Err(FindingMismatch::Invented(_))));
}

/// All checks at once, narrow enough that random readings trip over them.
fn everything() -> Arc<Rule> {
    let vibration = PointChecks {
        frozen: Some(Frozen { readings: 3, lasting: Duration::from_millis(500) }),
        rate_max: Some(20.0),
        replay: Some(Replay { readings: 4, remembered: 64 }),
        skew_max: Some(Duration::from_millis(300)),
        limits: Some((0.0, 8.0)),
        redundant: Some(Redundant { with: point("vib_b"), tolerance: 2.0, lasting: Duration::from_millis(200) }),
    };
    let related = Related { holds: "max(vib_b, '1s') < vibration + 6.0".into(), lasting: Duration::ZERO };
    rule(Checks {
        points: [
            (point("vibration"), vibration.clone()),
            (point("vib_b"), PointChecks { redundant: None, ..vibration }),
        ]
        .into(),
        related: [(point("fits"), related)].into(),
        ..Checks::default()
    })
}

/// Readings of both sensors, with holes, late source times, and a piece played again.
fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let one = (0..6u8, prop_oneof![Just(0i64), 1..900i64], 0..10i64, prop_oneof![3 => Just(0i64), 1 => -900..900i64]);
    proptest::collection::vec(one, 1..90).prop_map(|mut parts| {
        let piece: Vec<_> = parts.iter().take(12).copied().collect();
        parts.extend(piece);
        let mut millis = 0;
        let place = |(number, (which, gap, value, skew)): (usize, (u8, i64, i64, i64))| {
            millis += gap;
            let point = if which % 2 == 0 { "vibration" } else { "vib_b" };
            let outcome = if which == 5 { Err(NoValue::Timeout) } else { Ok(Value::Float(value as f64 * 1.1)) };
            let mut made = reading(number as u64 * 3, millis, point, outcome);
            made.sample.source_time = Timestamp::from_micros((millis + skew) * 1000);
            made
        };
        parts.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What an agent says of any firing is confirmed by whoever has only the readings shown, and any other claim is not.
    #[test]
    fn agent_and_verifier_find_the_same(readings in readings(), forget in 0..20usize) {
        let rule = everything();
        // The watch may have begun later than the vault: what it does not know, evidence still shows.
        let mut watch = Watch::new(Arc::clone(&rule));
        for (index, reading) in readings.iter().enumerate() {
            if index < forget {
                continue;
            }
            let Some(firing) = watch.observe(reading) else { continue };
            let first = watch.first_checked().unwrap().min(firing.first);
            let shown: Vec<_> =
                readings.iter().filter(|one| (first..=firing.last).contains(&one.number)).cloned().collect();
            let told = with_known(findings(&rule, &shown, firing.at), watch.known_findings(firing.at), first);
            prop_assert!(told.is_sorted_by(|a, b| (a.code, &a.point) < (b.code, &b.point)));
            prop_assert!(told.iter().all(|finding| finding.from <= finding.to && finding.to <= firing.last));
            prop_assert!(confirm_findings(&rule, &shown, firing.at, first, Some(&told)).is_ok(), "{told:?}");
            for left_out in 0..told.len() {
                let mut lie = told.clone();
                let gone = lie.remove(left_out);
                let is_word = gone.code == FindingCode::Replay
                    && (gone.from < first || gone.earlier.is_some_and(|earlier| earlier < first));
                if !is_word {
                    prop_assert!(confirm_findings(&rule, &shown, firing.at, first, Some(&lie)).is_err());
                }
            }
            for code in FindingCode::ALL {
                let lie = Finding { code, point: Some(point("fits")), from: first, to: first, earlier: None };
                if !told.contains(&lie) {
                    let lies = [told.clone(), vec![lie]].concat();
                    prop_assert!(confirm_findings(&rule, &shown, firing.at, first, Some(&lies)).is_err());
                }
            }
        }
    }

    /// A piece played again is found, whatever it is, as long as it varies; nothing is found before.
    #[test]
    fn every_copy_is_found(piece in proptest::collection::hash_set(0..1_000_000i64, 8..20), between in 0..30usize) {
        let piece: Vec<f64> = piece.into_iter().map(|value| value as f64).collect();
        let rule = on_vibration(PointChecks { replay: Some(REPLAY), ..PointChecks::default() });
        let other = (0..between).map(|n| 2_000_000.0 + n as f64);
        let whole: Vec<f64> = piece.iter().copied().chain(other).chain(piece.iter().copied()).collect();
        prop_assert!(found(&rule, &series(&whole[..piece.len() + between])).is_empty());
        let copies = found(&rule, &series(&whole));
        prop_assert_eq!(copies.len(), 1);
        prop_assert_eq!(copies[0].3, whole.len() as u64 - 1);
        prop_assert_eq!(copies[0].4.map(|earlier| copies[0].2 - earlier), Some((piece.len() + between) as u64));
    }
}
