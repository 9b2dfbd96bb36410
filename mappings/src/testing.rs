//! `tests:` of a mapping file: a recording is played through the rules of its device, without any connection.
//!
//! A recording is the CSV that the replay connector plays too: a header; column `time` with seconds or RFC 3339
//! instants that never fall; one column for each point id; an empty cell is no reading. Values are in the point's unit and not scaled
//! again; a number that is not finite, or outside the point's range, is a reading without a value. Times of a test
//! count from the first row. Limits: 64 MiB and 1,000,000 rows.

use crate::plant::{Expectation, Plant, TestCase};
use csv::StringRecord;
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_model::{
    DeviceSpec, EvidenceQuality, Finding, NoValue, Outcome, PointSpec, Quality, Reading, Sample, Timestamp, Value,
    ValueKind,
};
use tally_rules::{Firing, Transition, Watch, findings, nearest_name, with_known};

/// Longest recording in bytes.
const RECORDING_BYTES_MAX: u64 = 64 << 20;

/// Most rows of a recording.
const ROWS_MAX: usize = 1_000_000;

/// How one test went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Its name.
    pub name: String,
    /// The mapping file.
    pub file: PathBuf,
    /// The line in it.
    pub line: u32,
    /// Readings played.
    pub readings: usize,
    /// What happened, in order: `bearing-worn raised at 41s`.
    pub happened: Vec<String>,
    /// What should not have been so; empty when the test passed.
    pub failures: Vec<String>,
}

impl TestReport {
    /// Whether the test passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "ok" } else { "FAILED" };
        write!(
            f,
            "{}:{}: test {} ({} readings) … {verdict}",
            self.file.display(),
            self.line,
            self.name,
            self.readings
        )?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n    {failure}"))
    }
}

/// Runs all tests of a plant.
#[must_use]
pub fn run_tests(plant: &Plant) -> Vec<TestReport> {
    plant.tests.iter().map(|test| run_test(plant, test)).collect()
}

fn run_test(plant: &Plant, test: &TestCase) -> TestReport {
    let mut report = TestReport {
        name: test.name.clone(),
        file: test.file.clone(),
        line: test.line,
        readings: 0,
        happened: Vec::new(),
        failures: Vec::new(),
    };
    let Some(device) = plant.devices.iter().find(|device| device.id == test.device) else {
        report.failures.push(format!("there is no device `{}`", test.device));
        return report;
    };
    match read_recording(&test.readings, device) {
        Ok(readings) => {
            report.readings = readings.len();
            let happened = play(plant, device, &readings);
            report.happened = happened.iter().map(ToString::to_string).collect();
            report.failures = compare(&test.expect, &happened);
        }
        Err(fault) => report.failures.push(fault),
    }
    report
}

/// Something a rule said during a test.
struct Happening {
    trigger: String,
    transition: Transition,
    at: Duration,
    /// What the rule's checks found; `None` when it asks for none.
    findings: Option<Vec<Finding>>,
}

impl Happening {
    fn quality(&self) -> Option<EvidenceQuality> {
        self.findings.as_deref().map(EvidenceQuality::of)
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {:?}", self.trigger, self.transition, self.at)?;
        let Some(quality) = self.quality() else { return Ok(()) };
        write!(f, ", evidence {quality}")?;
        self.findings.iter().flatten().try_for_each(|finding| write!(f, "; {finding}"))
    }
}

fn play(plant: &Plant, device: &DeviceSpec, readings: &[Reading]) -> Vec<Happening> {
    let rules = plant.rules.iter().filter(|rule| rule.source().device == device.id);
    let mut watches: Vec<Watch> = rules.cloned().map(Watch::new).collect();
    let start = readings.first().map(|reading| reading.sample.received).unwrap_or_default();
    let mut happened = Vec::new();
    for reading in readings {
        for watch in &mut watches {
            let Some(firing) = watch.observe(reading) else { continue };
            happened.push(Happening {
                trigger: watch.rule().source().id.to_string(),
                transition: firing.transition,
                at: firing.at.since(start),
                findings: truth(watch, readings, &firing),
            });
        }
    }
    happened
}

/// What the checks find in the readings that evidence would show, as the agent does it.
fn truth(watch: &Watch, readings: &[Reading], firing: &Firing) -> Option<Vec<Finding>> {
    let rule = watch.rule();
    rule.source().checks.as_ref()?;
    let first = watch.first_checked().map_or(firing.first, |first| first.min(firing.first));
    let shown = readings.iter().filter(|reading| (first..=firing.last).contains(&reading.number));
    let found = findings(rule, &shown.cloned().collect::<Vec<_>>(), firing.at);
    Some(with_known(found, watch.known_findings(firing.at), first))
}

/// Every expectation takes the first happening that meets it; a raised trigger that nobody expected is a failure.
/// Clearing is only looked at where it is expected.
fn compare(expected: &[Expectation], happened: &[Happening]) -> Vec<String> {
    let mut open: Vec<&Happening> = happened.iter().collect();
    let mut failures = Vec::new();
    for expectation in expected {
        match open.iter().position(|happening| meets(expectation, happening)) {
            Some(index) => drop(open.remove(index)),
            None => failures.push(missed(expectation, happened)),
        }
    }
    let surprises = open.into_iter().filter(|happening| happening.transition == Transition::Raised);
    failures.extend(surprises.map(|happening| format!("not expected: {happening}")));
    failures
}

fn meets(expected: &Expectation, happening: &Happening) -> bool {
    let is_as_good = expected.quality.is_none_or(|quality| happening.quality() == Some(quality));
    same_event(expected, happening) && is_as_good && happening.at.abs_diff(expected.at) <= expected.within
}

fn same_event(expected: &Expectation, happening: &Happening) -> bool {
    happening.trigger == expected.trigger.as_str() && (happening.transition == Transition::Cleared) == expected.cleared
}

fn missed(expected: &Expectation, happened: &[Happening]) -> String {
    let word = if expected.cleared { Transition::Cleared } else { Transition::Raised };
    let tolerance = if expected.within.is_zero() { String::new() } else { format!(" ± {:?}", expected.within) };
    let times: Vec<String> = happened
        .iter()
        .filter(|happening| same_event(expected, happening))
        .map(|happening| match happening.quality().filter(|_| expected.quality.is_some()) {
            Some(quality) => format!("{:?} ({quality})", happening.at),
            None => format!("{:?}", happening.at),
        })
        .collect();
    let instead = if times.is_empty() { "never".to_owned() } else { format!("at {}", times.join(", ")) };
    let tolerance =
        expected.quality.map_or(tolerance.clone(), |quality| format!("{tolerance} with {quality} evidence"));
    format!("expected: {} {word} at {:?}{tolerance}; it was {word} {instead}", expected.trigger, expected.at)
}

/// Reads a recording of `device`.
fn read_recording(path: &Path, device: &DeviceSpec) -> Result<Vec<Reading>, String> {
    let within = |line: usize, reason: String| format!("{}:{line}: {reason}", path.display());
    let file = File::open(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(RECORDING_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|fault| format!("{}: {fault}", path.display()))?;
    if bytes.len() as u64 > RECORDING_BYTES_MAX {
        return Err(format!("{}: the recording is larger than 64 MiB", path.display()));
    }
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(bytes.as_slice());
    let header = reader.headers().map_err(|fault| within(1, fault.to_string()))?.clone();
    let columns = columns(&header, device).map_err(|reason| within(1, reason))?;
    let mut recording = Recording { device, columns, readings: Vec::new(), rows: 0, last: None };
    for record in reader.records() {
        let record = record.map_err(|fault| format!("{}: {fault}", path.display()))?;
        let line = record.position().map_or(0, |position| usize::try_from(position.line()).unwrap_or(0));
        recording.row(&record).map_err(|reason| within(line, reason))?;
    }
    Ok(recording.readings)
}

/// For each column the point it is, `None` for `time`.
fn columns<'d>(header: &StringRecord, device: &'d DeviceSpec) -> Result<Vec<Option<&'d PointSpec>>, String> {
    if !header.iter().any(|name| name == "time") {
        return Err("there is no column `time`".to_owned());
    }
    let find = |name: &str| match device.points.iter().find(|point| point.id.as_str() == name) {
        _ if name == "time" => Ok(None),
        Some(point) => Ok(Some(point)),
        None => {
            let near = nearest_name(name, device.points.iter().map(|point| point.id.as_str()));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(format!("column `{name}` is no point of `{}`{hint}", device.id))
        }
    };
    header.iter().map(find).collect()
}

struct Recording<'d> {
    device: &'d DeviceSpec,
    columns: Vec<Option<&'d PointSpec>>,
    readings: Vec<Reading>,
    rows: usize,
    last: Option<Timestamp>,
}

impl Recording<'_> {
    fn row(&mut self, record: &StringRecord) -> Result<(), String> {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            return Err(format!("a recording has at most {ROWS_MAX} rows"));
        }
        let time = self.columns.iter().zip(record).find(|(column, _)| column.is_none());
        let time = time.map_or("", |(_, cell)| cell);
        let at = instant(time).ok_or_else(|| format!("`{time}` is no time; write seconds or RFC 3339"))?;
        if self.last.is_some_and(|last| at < last) {
            return Err(format!("time {time} is before the row above"));
        }
        self.last = Some(at);
        for (point, cell) in self.columns.iter().zip(record).filter_map(|(point, cell)| Some(((*point)?, cell))) {
            if cell.is_empty() {
                continue;
            }
            let outcome = value(point, cell).ok_or_else(|| format!("`{cell}` is no value of `{}`", point.id))?;
            self.readings.push(reading(self.device, self.readings.len() as u64, point, outcome, at));
        }
        Ok(())
    }
}

fn reading(device: &DeviceSpec, number: u64, point: &PointSpec, outcome: Outcome, at: Timestamp) -> Reading {
    let quality = if outcome.is_ok() { Quality::Good } else { Quality::Bad };
    let sample = Sample {
        seal: None,
        point: point.id.clone(),
        outcome,
        unit: point.unit.clone(),
        quality,
        source_time: at,
        received: at,
    };
    Reading { device: device.id.clone(), number, sample }
}

/// Seconds with at most six decimals, to the microsecond; or an RFC 3339 instant.
fn instant(text: &str) -> Option<Timestamp> {
    if let Some(instant) = Timestamp::parse_rfc3339(text) {
        return Some(instant);
    }
    let seconds: f64 = text.parse().ok()?;
    let micros = (seconds * 1_000_000.0).round();
    #[allow(clippy::cast_possible_truncation)] // checked against a bound far inside i64
    (micros.abs() < 9.0e15).then(|| Timestamp::from_micros(micros as i64))
}

fn value(point: &PointSpec, cell: &str) -> Option<Outcome> {
    let value = match point.kind() {
        Some(ValueKind::Bool) => Value::Bool(flag(cell)?),
        Some(ValueKind::Integer) => whole(cell)?,
        Some(ValueKind::Float) => match Value::from_f64(cell.parse().ok()?) {
            Ok(value) => value,
            Err(reason) => return Some(Err(reason)),
        },
        Some(ValueKind::Text) => Value::Text(cell.to_owned()),
        None => guessed(cell),
    };
    let outside = match (point.range, value.as_f64()) {
        (Some((lowest, highest)), Some(number)) => number < lowest || number > highest,
        _ => false,
    };
    Some(if outside { Err(NoValue::OutOfRange) } else { Ok(value) })
}

fn flag(cell: &str) -> Option<bool> {
    match cell {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn whole(cell: &str) -> Option<Value> {
    cell.parse().map(Value::Integer).or_else(|_| cell.parse().map(Value::from_u64)).ok()
}

/// A point of which only the device knows the kind: a flag, a whole number, a decimal number, else a text.
fn guessed(cell: &str) -> Value {
    let decimal = || cell.parse().ok().and_then(|number| Value::from_f64(number).ok());
    match cell {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => whole(cell).or_else(decimal).unwrap_or_else(|| Value::Text(cell.to_owned())),
    }
}
