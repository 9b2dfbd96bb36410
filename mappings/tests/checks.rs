//! `checks:` of a mapping: what a rule takes along of them, and what is said about wrong ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;
use tally_mappings::{Plant, load};
use tally_model::{Checks, Frozen, PointChecks, PointId, Redundant, Replay};

const RIGHT: &str = "\
plant: line
devices:
  - id: press
    connect: modbus+tcp://10.0.0.7:502?unit=1
    checks:
      look_back: 30s
      skew: 2s
      related:
        power_fits: {holds: \"abs(power - 2.0 * current) < 5.0\", for: 3s}
    points:
      - {id: oil, at: holding:16, type: f32, unit: Cel, range: [-40, 200], checks: {rate: 2.5, redundant: {with: oil_b, tolerance: 1.5}}}
      - {id: oil_b, at: holding:18, type: f32, unit: Cel, checks: {off: [frozen, replay]}}
      - {id: power, at: holding:20, type: f32, unit: kW}
      - {id: current, at: holding:22, type: f32, unit: A}
      - {id: running, at: coil:1}
      - {id: speed, at: holding:24, type: f32, unit: 1/min}
triggers:
  - {id: hot, device: press, when: \"oil > 80.0 && running\"}
  - {id: heavy, device: press, when: power > 90.0}
  - {id: on, device: press, when: running}
";

fn load_text(text: &str) -> Result<Plant, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plant.yaml");
    std::fs::write(&path, text).unwrap();
    load(&path, &|_| None).map_err(|faults| {
        let one = |fault: &tally_mappings::Fault| {
            let hint = fault.hint.as_deref().unwrap_or_default();
            let allowed = fault.allowed.as_deref().unwrap_or_default();
            format!("{}:{} {}: {} | {allowed} | {hint}\n", fault.line, fault.column, fault.key, fault.message)
        };
        faults.iter().map(one).collect()
    })
}

fn point(id: &str) -> PointId {
    PointId::try_new(id).unwrap()
}

fn checks(plant: &Plant, trigger: &str) -> Option<Checks> {
    let rule = plant.rules.iter().find(|rule| rule.source().id.as_str() == trigger).unwrap();
    rule.source().checks.clone()
}

#[test]
fn a_rule_takes_along_what_concerns_its_points() {
    let plant = load_text(RIGHT).unwrap();
    let (skew_max, look_back) = (Some(Duration::from_secs(2)), Duration::from_secs(30));
    let float = PointChecks {
        frozen: Some(Frozen { readings: 20, lasting: Duration::from_secs(60) }),
        replay: Some(Replay { readings: 32, remembered: 10_000 }),
        skew_max,
        ..PointChecks::default()
    };
    let redundant = Redundant { with: point("oil_b"), tolerance: 1.5, lasting: Duration::from_secs(5) };
    let (limits, redundant) = (Some((-40.0, 200.0)), Some(redundant));
    let oil = PointChecks { rate_max: Some(2.5), limits, redundant, ..float.clone() };
    let running = PointChecks { skew_max, ..PointChecks::default() };
    let hot = checks(&plant, "hot").unwrap();
    assert_eq!(hot.points, [(point("oil"), oil), (point("running"), running.clone())].into());
    assert_eq!((hot.look_back, hot.related.len()), (look_back, 0));
    let rule = &plant.rules[0];
    assert!(rule.disclosed().contains(&point("oil_b")), "the other sensor is shown");
    assert_eq!(rule.source().points.keys().map(PointId::as_str).collect::<Vec<_>>(), ["oil", "oil_b", "running"]);
    let heavy = checks(&plant, "heavy").unwrap();
    assert_eq!(heavy.points, [(point("power"), float)].into());
    assert_eq!(heavy.related[&point("power_fits")].lasting, Duration::from_secs(3));
    assert!(plant.rules[1].disclosed().contains(&point("current")), "what the relation looks at is shown");
    assert_eq!(checks(&plant, "on").unwrap().points, [(point("running"), running)].into());
}

#[test]
fn without_checks_a_rule_is_what_it_was() {
    let lines = RIGHT.lines().filter(|line| !line.contains("checks:") || line.contains("- {id"));
    let skipped = ["look_back:", "skew:", "related:", "power_fits:"];
    let text: Vec<_> = lines.filter(|line| !skipped.iter().any(|word| line.trim().starts_with(word))).collect();
    let plant = load_text(&text.join("\n")).unwrap();
    assert_eq!(checks(&plant, "on"), None);
    assert_eq!(checks(&plant, "heavy"), None);
    // A point that asks for something itself gets exactly that.
    let oil = checks(&plant, "hot").unwrap().points[&point("oil")].clone();
    assert_eq!((oil.frozen, oil.skew_max, oil.limits, oil.rate_max), (None, None, None, Some(2.5)));
}

#[track_caller]
fn wrong(right: &str, instead: &str, expected: &str) {
    assert!(RIGHT.contains(right), "{right}");
    let faults = load_text(&RIGHT.replacen(right, instead, 1)).unwrap_err();
    assert_eq!(faults.trim_end(), expected, "{instead}");
}

#[test]
fn what_is_wrong_is_said_at_its_place() {
    wrong(
        "with: oil_b",
        "with: oil_c",
        "11:114 devices[0].points[0].checks.redundant.with: unknown point of this device |  | did you mean `oil_b`?",
    );
    wrong(
        "with: oil_b",
        "with: power",
        "11:114 devices[0].points[0].checks.redundant.with: the two have different units and cannot be compared | Cel | scale one of them",
    );
    wrong(
        "with: oil_b",
        "with: oil",
        "11:114 devices[0].points[0].checks.redundant.with: a point always agrees with itself |  | name the other sensor",
    );
    wrong(
        "rate: 2.5",
        "rate: -1",
        "11:91 devices[0].points[0].checks.rate: a fastest change is larger than 0 |  | in the point's unit (per second, for a change)",
    );
    wrong("skew: 2s", "skew: 2", "7:13 devices[0].checks.skew: a duration has a unit |  | write `2ms` or `2s`");
    wrong("look_back: 30s", "look_back: 30h", "6:18 devices[0].checks.look_back: too long | 0s to 24h |");
    wrong(
        "look_back: 30s",
        "frozen: {for: 1min, readings: 1}",
        "6:37 devices[0].checks.frozen.readings: the number is out of range | 2 to 1000000 |",
    );
    wrong(
        "look_back: 30s",
        "replay: {readings: 100, remembered: 150}",
        "6:43 devices[0].checks.replay.remembered: too few | 200 to 1000000 |",
    );
    wrong(
        "2.0 * current",
        "2.0 * curent",
        "9:48 devices[0].checks.related.power_fits.holds: unknown point `curent` |  | did you mean `current`?",
    );
    wrong(
        "power_fits:",
        "power-fits:",
        "9:21 devices[0].checks.related.power-fits: `-` is not allowed in a name; allowed are letters, digits and `_`, and a letter or `_` first |  |",
    );
    wrong(
        "id: running, at: coil:1",
        "id: running, at: coil:1, checks: {rate: 3}",
        "15:50 devices[0].points[4].checks.rate: only numbers are checked like this |  | remove it",
    );
}

#[test]
fn a_point_that_is_read_seldom_has_time_to_stand_still() {
    let slow = RIGHT.replacen("at: holding:20, type: f32", "at: holding:20, type: f32, every: 1min", 1);
    let plant = load_text(&slow).unwrap();
    let power = checks(&plant, "heavy").unwrap().points[&point("power")].clone();
    assert_eq!(power.frozen, Some(Frozen { readings: 20, lasting: Duration::from_secs(1200) }));
    let never = slow.replacen("every: 1min", "every: 1min, checks: {frozen: {for: 1min, readings: 20}}", 1);
    let warnings: Vec<_> = load_text(&never).unwrap().warnings.iter().map(|fault| fault.hint.clone()).collect();
    assert_eq!(warnings, [Some("write fewer `readings`, or `for: 600s` or longer".to_owned())]);
}

#[test]
fn a_switch_that_stands_still_is_only_warned_of() {
    let text = RIGHT.replacen("at: coil:1", "at: coil:1, checks: {frozen: {for: 1h}}", 1);
    let plant = load_text(&text).unwrap();
    let warnings: Vec<_> = plant.warnings.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(warnings, ["a yes/no value stands still and repeats by nature"]);
}

#[test]
fn what_a_device_calls_itself_is_part_of_its_rules_and_has_it_asked() {
    let named = RIGHT.replacen("skew: 2s", "identity: \"Acme; P-1; 2.3\"", 1);
    let plant = load_text(&named).unwrap();
    assert_eq!(plant.devices[0].modbus.identify, Some(Duration::from_secs(600)));
    for trigger in ["hot", "heavy", "on"] {
        assert_eq!(checks(&plant, trigger).unwrap().identity.as_deref(), Some("Acme; P-1; 2.3"));
    }
    let often = named.replacen("    checks:", "    modbus: {identify: 30s}\n    checks:", 1);
    assert_eq!(load_text(&often).unwrap().devices[0].modbus.identify, Some(Duration::from_secs(30)));
    assert_eq!(load_text(RIGHT).unwrap().devices[0].modbus.identify, None, "nobody is asked for nothing");
    let asked = RIGHT.replacen("    checks:", "    modbus: {identify: 1h}\n    checks:", 1);
    let plant = load_text(&asked).unwrap();
    assert_eq!(plant.devices[0].modbus.identify, Some(Duration::from_secs(3_600)));
    assert_eq!(checks(&plant, "hot").unwrap().identity, None);

    for (from, to, says) in [
        (
            "skew: 2s",
            "identity: \"\"",
            "7:17 devices[0].checks.identity: no device can call itself so | 1 to 256 bytes",
        ),
        ("skew: 2s", "identity: \"a\\nb\"", "no device can call itself so"),
        ("modbus+tcp://10.0.0.7:502?unit=1", "mqtt://broker", "only Modbus and OPC UA devices say what they are"),
        ("    checks:", "    modbus: {identify: 10ms}\n    checks:", "modbus.identify"),
    ] {
        let text = if from.starts_with("modbus") { &named } else { RIGHT };
        let faults = load_text(&text.replacen(from, to, 1)).unwrap_err();
        assert!(faults.contains(says), "{to}: {faults}");
    }
}
