//! A policy as its owner writes it.

use crate::answer::{Context, Fault};
use crate::commands::check::environment;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tally_evidence::{Allowed, Policy, Right, Who};
use tally_mappings::Plant;
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, parse_duration};

pub(super) const EXAMPLE: &str = "\
Example of a policy:
  policy: service                   # its name; the same name again replaces it
  devices: [press-01]               # yours
  who:                              # one of these suffices; what stands in one line must all hold
    - {firm: fixit, skill: oil}     # people of Fixit who were registered with this skill
    - {party: olga}
    - {sender: 'mqtt:hmi-3'}        # commands of SCADA, which has no key: a standing policy, see docs/operator/access.md
  points:
    setpoint: {may: [read, write], range: [0, 80]}   # or `at: holding:17` instead of --mapping
    lamp: {may: [write]}
  lasts: 10min                      # a permit lives this long; at most 1d
  rate: {permits: 3, within: 1h}    # optional, for each who asks
  hours: 06:00-14:00+01:00          # optional, a shift; over midnight as 22:00-06:00+01:00
  days: [mon, tue, wed, thu, fri]   # optional, by UTC
  from: 2026-11-21T00:00:00Z        # optional
  until: 2026-12-31T00:00:00Z       # optional, excluded
A policy with `who: []` allows nothing any more, and burns what was granted under its name.";

/// Minutes of a day.
const DAY: i32 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    policy: PolicyId,
    devices: Vec<DeviceId>,
    who: Vec<WrittenWho>,
    points: BTreeMap<PointId, WrittenPoint>,
    lasts: String,
    rate: Option<WrittenRate>,
    hours: Option<String>,
    days: Option<Vec<String>>,
    from: Option<String>,
    until: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWho {
    party: Option<PartyId>,
    firm: Option<PartyId>,
    skill: Option<String>,
    sender: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPoint {
    at: Option<String>,
    may: Vec<String>,
    range: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRate {
    permits: u64,
    within: String,
}

/// Reads a policy file; with a mapping, points need not say where they are.
///
/// # Errors
/// What is wrong, with the file's name.
pub(super) fn read(file: &Path, mapping: Option<&Path>) -> Result<Policy, Fault> {
    let text = std::fs::read_to_string(file).context(file.display())?;
    let plant = mapping
        .map(|mapping| tally_mappings::load(mapping, &lenient).map_err(|faults| Fault::from(faults.render(false))));
    let plant = plant.transpose()?;
    parse(&text, plant.as_ref()).context(file.display())
}

/// Only where points are is read from the mapping: an owner need not know the passwords and ports of the agent's computer.
/// `1` will do as either.
fn lenient(name: &str) -> Option<String> {
    environment(name).or_else(|| Some("1".to_owned()))
}

fn parse(text: &str, plant: Option<&Plant>) -> Result<Policy, Fault> {
    let written: Written = serde_saphyr::from_str(text)?;
    let mut points = BTreeMap::new();
    for (id, point) in &written.points {
        points.insert(id.clone(), allowed(id, point, &written.devices, plant)?);
    }
    let rate = written.rate.as_ref().map(|rate| Ok::<_, Fault>((rate.permits, duration("rate", &rate.within)?)));
    let time = |key: &str, text: &Option<String>| {
        let read = |text: &String| {
            Timestamp::parse_rfc3339(text)
                .ok_or_else(|| format!("{key}: `{text}`; write for example 2026-11-21T14:00:00Z"))
        };
        text.as_ref().map(read).transpose()
    };
    Ok(Policy {
        lasts: duration("lasts", &written.lasts)?,
        rate: rate.transpose()?,
        hours: written.hours.as_deref().map(hours).transpose()?,
        days: written.days.as_deref().map(days).transpose()?,
        from: time("from", &written.from)?,
        until: time("until", &written.until)?,
        id: written.policy,
        devices: written.devices,
        who: written
            .who
            .into_iter()
            .map(|who| Who { party: who.party, firm: who.firm, skill: who.skill, sender: who.sender })
            .collect(),
        points,
    })
}

fn duration(key: &str, text: &str) -> Result<Duration, Fault> {
    parse_duration(text).map_err(|fault| format!("{key}: {fault}").into())
}

fn allowed(id: &PointId, point: &WrittenPoint, devices: &[DeviceId], plant: Option<&Plant>) -> Result<Allowed, Fault> {
    let mut rights = Vec::new();
    for word in &point.may {
        let right = Right::from_word(word);
        rights.push(right.ok_or_else(|| format!("points.{id}.may: `{word}`; allowed are read, write, call"))?);
    }
    rights.sort_unstable();
    rights.dedup();
    let address = match (&point.at, plant) {
        (Some(at), None) => at.clone(),
        (at, Some(plant)) => in_mapping(id, at.as_deref(), devices, plant)?,
        (None, None) => {
            return Err(format!("points.{id}: where is it? Write `at:`, or name the mapping with --mapping").into());
        }
    };
    Ok(Allowed { address, rights, range: point.range })
}

/// Where the mapping has the point: the same place on every device of the policy.
fn in_mapping(id: &PointId, at: Option<&str>, devices: &[DeviceId], plant: &Plant) -> Result<String, Fault> {
    let mut found: Option<(String, &DeviceId)> = None;
    for device in devices {
        let spec = plant.devices.iter().find(|spec| spec.id == *device);
        let spec = spec.ok_or_else(|| format!("devices: the mapping has no device `{device}`"))?;
        let point = spec.points.iter().find(|point| point.id == *id);
        let point = point.ok_or_else(|| format!("points.{id}: `{device}` has no such point in the mapping"))?;
        let address = point.place();
        match &found {
            Some((other, before)) if *other != address => {
                let text = format!(
                    "points.{id}: at `{other}` on `{before}` but at `{address}` on `{device}`; write two policies"
                );
                return Err(text.into());
            }
            _ => found = Some((address, device)),
        }
    }
    let (address, device) = found.ok_or("devices: a policy is for at least one device")?;
    match at {
        Some(at) if at != address => {
            Err(format!("points.{id}.at: `{at}`, but the mapping has it at `{address}` on `{device}`").into())
        }
        _ => Ok(address),
    }
}

/// `06:00-14:00`, with an offset from UTC behind it when the clock on the wall has one.
fn hours(text: &str) -> Result<(u16, u16), Fault> {
    let fault = || format!("hours: `{text}`; write for example 06:00-14:00+01:00");
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (i32, i32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && (0..60).contains(&minute) && hour >= 0).then_some(hour * 60 + minute)
    };
    let (from, rest) = text.split_once('-').ok_or_else(fault)?;
    let (to, sign, offset) = match rest.find(['+', '-', 'Z']) {
        Some(place) if !rest[place..].starts_with('Z') => (
            &rest[..place],
            if rest[place..].starts_with('+') { 1 } else { -1 },
            minute(&rest[place + 1..]).ok_or_else(fault)?,
        ),
        Some(place) => (&rest[..place], 1, 0),
        None => (rest, 1, 0),
    };
    let utc = |text: &str| minute(text).and_then(|at| u16::try_from((at - sign * offset).rem_euclid(DAY)).ok());
    Ok((utc(from).ok_or_else(fault)?, utc(to).ok_or_else(fault)?))
}

fn days(words: &[String]) -> Result<Vec<u8>, Fault> {
    let mut days = Vec::new();
    for word in words {
        let place = (1..).zip(DAYS).find(|(_, day)| day == word).map(|(number, _)| number);
        days.push(place.ok_or_else(|| format!("days: `{word}`; allowed are {}", DAYS.join(", ")))?);
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("  "));
        lines
            .collect::<Vec<_>>()
            .join("\n")
            .replace("range: [0, 80]", "at: holding:17, range: [0, 80]")
            .replace("may: [write]", "at: coil:3, may: [write]")
    }

    #[test]
    fn the_example_of_the_help_is_a_policy() {
        let policy = parse(&example(), None).unwrap();
        assert_eq!(policy.hours, Some((5 * 60, 13 * 60)));
        assert_eq!(
            (policy.days.as_deref(), policy.rate),
            (Some(&[1, 2, 3, 4, 5][..]), Some((3, Duration::from_secs(3600))))
        );
        assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn a_mapping_with_secrets_of_others_says_where_points_are() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let mapping = write(
            "line.yaml",
            r#"plant: line
devices:
  - id: cnc-01
    connect: "opc.tcp://127.0.0.1:${TALLY_NO_SUCH_PORT}"
    every: 1s
    security: {policy: best, user: operator, password: env:TALLY_NO_SUCH_PASSWORD}
    points:
      - {id: speed, at: "ns=2;s=Speed", unit: "1"}
"#,
        );
        let text =
            "policy: service\ndevices: [cnc-01]\nwho: [{party: olga}]\npoints: {speed: {may: [read]}}\nlasts: 1min\n";
        let policy = read(&write("service.yaml", text), Some(&mapping)).unwrap();
        assert_eq!(policy.points.values().next().unwrap().address, "ns=2;s=Speed");
    }

    #[test]
    fn shifts_with_every_offset() {
        assert_eq!(hours("22:00-06:00").unwrap(), (22 * 60, 6 * 60));
        assert_eq!(hours("00:30-08:30+01:00").unwrap(), (23 * 60 + 30, 7 * 60 + 30));
        assert_eq!(hours("06:00-14:00-05:00").unwrap(), (11 * 60, 19 * 60));
        assert_eq!(hours("06:00-14:00Z").unwrap(), (6 * 60, 14 * 60));
        for wrong in ["6", "06:00", "06:00-25:00", "06:60-07:00", "a-b", "06:00-14:00+x"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn slips_are_named() {
        for (from, to, expected) in [
            ("skill: oil", "skil: oil", "skil"),
            ("may: [read, write]", "may: [reed]", "read, write, call"),
            ("lasts: 10min", "lasts: 10", "lasts"),
            ("[mon,", "[monday,", "days: `monday`"),
            ("at: coil:3, ", "", "--mapping"),
        ] {
            let text = example();
            assert!(text.contains(from), "{from}");
            let fault = parse(&text.replace(from, to), None).unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
