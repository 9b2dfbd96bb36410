//! Readings as JSON (`docs/formats/topics.md`), written straight into bytes: the agent does this 200,000 times a second, and a
//! tree of maps for each reading costs more than everything else on a reading's way.

use serde::Serialize;
use std::collections::HashSet;
use tally_model::{Quality, Reading, Sample, Timestamp};

/// Bytes after which a message of a cycle is closed and the next one begins: below what a publisher takes (256 KiB) by more
/// than the longest reading.
const CYCLE_BYTES: usize = 128 << 10;

/// What a reading takes in a message of a cycle, about; messages are allocated for so much at once.
const READING_BYTES: usize = 96;
/// The same with both times and its number.
pub(super) const TOLD_BYTES: usize = READING_BYTES + 48;

/// One reading with its number: the payload of `mode: point`.
pub(super) fn point(reading: &Reading) -> Vec<u8> {
    let mut json = Json::with_capacity(TOLD_BYTES);
    json.raw("{");
    json.told(&reading.sample);
    json.number(",\"n\":", reading.number);
    json.raw("}");
    json.bytes
}

/// The payloads of a cycle in `mode: device`: one, unless it is too large for one, or brings several values of a point: then the
/// second values go into the second message, and so on.
pub(super) fn cycle(readings: &[&Reading]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::with_capacity(1);
    let mut later = cycle_part(readings, &mut payloads);
    while !later.is_empty() {
        later = cycle_part(&later, &mut payloads);
    }
    payloads
}

/// Writes one message; gives the readings that did not go into it.
fn cycle_part<'a>(readings: &[&'a Reading], payloads: &mut Vec<Vec<u8>>) -> Vec<&'a Reading> {
    let mut json = Json::with_capacity((readings.len() * READING_BYTES).min(CYCLE_BYTES) + 128);
    let (mut points, mut last, mut later) = (Points::default(), None, Vec::new());
    json.raw("{\"points\":{");
    for (place, reading) in readings.iter().enumerate() {
        let sample = &reading.sample;
        if json.bytes.len() >= CYCLE_BYTES {
            later.extend_from_slice(&readings[place..]);
            break;
        }
        if !points.is_new(sample.point.as_str(), &readings[..place]) {
            later.push(*reading);
            continue;
        }
        json.raw(if last.is_some() { ",\"" } else { "\"" });
        // Ids need no escaping.
        json.raw(sample.point.as_str());
        json.raw("\":{");
        json.outcome(sample);
        json.raw(",");
        json.time("t", sample.source_time);
        json.raw("}");
        last = Some(*reading);
    }
    if let Some(reading) = last {
        json.raw("},");
        json.time("r", reading.sample.received);
        // Of before `r`: the same, under the name that means source time everywhere else.
        json.raw(",");
        json.time("t", reading.sample.received);
        json.number(",\"n\":", reading.number);
        json.raw("}");
        payloads.push(json.bytes);
    }
    later
}

/// Which points a message has. Whoever names them in rising order, as most devices are read, pays for one comparison.
#[derive(Default)]
struct Points<'a> {
    last: Option<&'a str>,
    seen: Option<HashSet<&'a str>>,
}

impl<'a> Points<'a> {
    /// Notes `point`; `before` are the readings that were noted.
    fn is_new(&mut self, point: &'a str, before: &[&'a Reading]) -> bool {
        let is_rising = self.seen.is_none() && self.last.is_none_or(|last| last < point);
        self.last = Some(point);
        is_rising || {
            let names = || before.iter().map(|reading| reading.sample.point.as_str()).collect();
            self.seen.get_or_insert_with(names).insert(point)
        }
    }
}

/// A message of history while it is written.
pub(super) struct Late {
    json: Json,
    count: usize,
}

impl Late {
    /// Empty, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut json = Json::with_capacity(bytes + 2 * TOLD_BYTES);
        json.raw("{\"history\":[");
        Self { json, count: 0 }
    }

    pub fn push(&mut self, reading: &Reading) {
        let json = &mut self.json;
        json.raw(if self.count > 0 { ",{\"p\":\"" } else { "{\"p\":\"" });
        json.raw(reading.sample.point.as_str());
        json.raw("\",");
        json.told(&reading.sample);
        json.number(",\"n\":", reading.number);
        json.raw("}");
        self.count += 1;
    }

    /// What the device had recorded while it could not be heard: it has no number.
    pub fn push_recorded(&mut self, sample: &Sample) {
        let json = &mut self.json;
        json.raw(if self.count > 0 { ",{\"p\":\"" } else { "{\"p\":\"" });
        json.raw(sample.point.as_str());
        json.raw("\",");
        json.told(sample);
        json.raw(",\"historical\":true}");
        self.count += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.json.bytes.len()
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.json.raw("]}");
        self.json.bytes
    }
}

/// JSON in the making.
struct Json {
    bytes: Vec<u8>,
    /// The time written last. A cycle has one or few, and those of a second differ in six digits.
    time: Option<(Timestamp, String)>,
}

impl Json {
    fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), time: None }
    }

    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, value: &impl Serialize) {
        // Scalars into a vector: neither can fail.
        let _ = serde_json::to_writer(&mut self.bytes, value);
    }

    fn number(&mut self, before: &str, number: u64) {
        self.raw(before);
        self.value(&number);
    }

    /// `"v"`, or `"e"` instead of it, `"u"`, `"q"`.
    fn outcome(&mut self, sample: &Sample) {
        match &sample.outcome {
            Ok(value) => {
                self.raw("\"v\":");
                self.value(value);
            }
            Err(reason) => {
                self.raw("\"e\":");
                self.value(reason);
            }
        }
        self.raw(",\"u\":");
        self.value(&sample.unit.as_str());
        self.raw(match sample.quality {
            Quality::Good => ",\"q\":\"good\"",
            Quality::Uncertain => ",\"q\":\"uncertain\"",
            Quality::Bad => ",\"q\":\"bad\"",
        });
    }

    /// The outcome, `"t"` and `"r"`.
    fn told(&mut self, sample: &Sample) {
        self.outcome(sample);
        self.raw(",");
        self.time("t", sample.source_time);
        self.raw(",");
        self.time("r", sample.received);
    }

    fn time(&mut self, name: &str, at: Timestamp) {
        self.raw("\"");
        self.raw(name);
        self.raw("\":\"");
        let text = match self.time.take() {
            Some((last, text)) if last == at => text,
            Some((last, text)) if last.as_seconds() == at.as_seconds() => with_micros(text, at),
            _ => at.to_string(),
        };
        self.raw(&text);
        self.raw("\"");
        self.time = Some((at, text));
    }
}

/// The text of an instant in the same second.
fn with_micros(mut text: String, at: Timestamp) -> String {
    // `2026-11-21T04:05:06.` and six digits; instants outside four-digit years are written otherwise.
    if text.len() != 27 {
        return at.to_string();
    }
    text.truncate(20);
    let mut rest = at.as_micros().rem_euclid(1_000_000);
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    text.extend(digits.map(char::from));
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value as Tree, json};
    use tally_model::{DeviceId, NoValue, PointId, Unit, Value};

    fn outcome() -> impl Strategy<Value = Result<Value, NoValue>> {
        prop_oneof![
            any::<bool>().prop_map(|flag| Ok(Value::Bool(flag))),
            any::<i64>().prop_map(|number| Ok(Value::Integer(number))),
            (i64::MAX as u64 + 1..=u64::MAX).prop_map(|number| Ok(Value::Unsigned(number))),
            any::<f64>().prop_map(Value::from_f64),
            ".{0,12}".prop_map(|text| Ok(Value::Text(text))),
            (1_u8..=7).prop_map(|code| Err(NoValue::from_code(code).unwrap())),
        ]
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let unit = "[!-~]{0,6}".prop_filter_map("a code", |code| Unit::try_new(code).ok());
        // Mostly of one second, so that the short way is walked; and years with more than four digits.
        let time = prop_oneof![
            1_700_000_000_000_000_i64..1_700_000_001_000_000,
            -70_000_000_000_000_000_i64..300_000_000_000_000_000
        ];
        ("[a-c]", outcome(), unit, any::<bool>(), time.clone(), time).prop_map(
            |(point, outcome, unit, good, source, received)| Sample {
                seal: None,
                point: PointId::try_new(point).unwrap(),
                quality: match (&outcome, good) {
                    (Err(_), _) => Quality::Bad,
                    (Ok(_), true) => Quality::Good,
                    (Ok(_), false) => Quality::Uncertain,
                },
                outcome,
                unit,
                source_time: Timestamp::from_micros(source),
                received: Timestamp::from_micros(received),
            },
        )
    }

    fn readings() -> impl Strategy<Value = Vec<Reading>> {
        proptest::collection::vec((sample(), any::<u64>()), 1..9).prop_map(|samples| {
            let device = DeviceId::try_new("press-01").unwrap();
            let reading = |(sample, number)| Reading { device: device.clone(), number, sample };
            samples.into_iter().map(reading).collect()
        })
    }

    /// What the reading means, by way of serde_json's tree.
    fn tree(sample: &Sample, more: &[(&str, Tree)]) -> Tree {
        let mut tree = json!({
            "u": sample.unit, "q": sample.quality, "t": sample.source_time.to_string(),
        });
        match &sample.outcome {
            Ok(value) => tree["v"] = json!(value),
            Err(reason) => tree["e"] = json!(reason),
        }
        more.iter().for_each(|(name, value)| tree[*name] = value.clone());
        tree
    }

    fn parse(bytes: &[u8]) -> Tree {
        serde_json::from_slice(bytes).unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(bytes)))
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_reading_says(readings in readings()) {
            let mut late = Late::with_capacity(10);
            let mut told = Vec::new();
            for reading in &readings {
                let received = ("r", json!(reading.sample.received.to_string()));
                let (number, name) = (("n", json!(reading.number)), ("p", json!(reading.sample.point)));
                prop_assert_eq!(parse(&point(reading)), tree(&reading.sample, &[number.clone(), received.clone()]));
                late.push(reading);
                told.push(tree(&reading.sample, &[number, received.clone(), name.clone()]));
                late.push_recorded(&reading.sample);
                told.push(tree(&reading.sample, &[("historical", json!(true)), received, name]));
            }
            prop_assert_eq!(parse(&late.finish()), json!({"history": told}));
        }

        #[test]
        fn a_cycle_has_every_reading_and_each_message_a_point_once(readings in readings()) {
            let listed: Vec<_> = readings.iter().collect();
            let mut left: Vec<_> = readings.iter().collect();
            for payload in cycle(&listed) {
                let message = parse(&payload);
                let points = message["points"].as_object().unwrap();
                prop_assert!(!points.is_empty());
                // The oldest that is left of each point, and of each point that has one left.
                let mut told: Vec<&Reading> = Vec::new();
                left.retain(|reading| {
                    let is_new = told.iter().all(|told| told.sample.point != reading.sample.point);
                    is_new.then(|| told.push(reading)).is_none()
                });
                prop_assert_eq!(points.len(), told.len());
                for reading in &told {
                    prop_assert_eq!(&points[reading.sample.point.as_str()], &tree(&reading.sample, &[]));
                }
                let last = told.last().unwrap();
                prop_assert_eq!(&message["n"], &json!(last.number));
                prop_assert_eq!(&message["r"], &json!(last.sample.received.to_string()));
                prop_assert_eq!(&message["t"], &message["r"]);
            }
            prop_assert!(left.is_empty());
        }
    }

    #[test]
    fn a_large_cycle_goes_out_in_several_messages() {
        let reading = |number: u64| Reading {
            device: DeviceId::try_new("press-01").unwrap(),
            number,
            sample: Sample {
                seal: None,
                point: PointId::try_new(format!("p{:05}", 9_999 - number)).unwrap(),
                outcome: Ok(Value::Float(1.0 / 3.0)),
                unit: Unit::one(),
                quality: Quality::Good,
                source_time: Timestamp::default(),
                received: Timestamp::default(),
            },
        };
        let readings: Vec<_> = (0..5_000).map(reading).collect();
        let payloads = cycle(&readings.iter().collect::<Vec<_>>());
        assert_eq!(payloads.len(), 4);
        assert!(payloads.iter().all(|payload| payload.len() < CYCLE_BYTES + 256));
        let points: usize = payloads.iter().map(|payload| parse(payload)["points"].as_object().unwrap().len()).sum();
        assert_eq!(points, 5_000);
        assert_eq!(cycle(&[]), Vec::<Vec<u8>>::new());
        // Three values of each point, one behind the other as an OPC UA server tells them: three messages.
        let repeated: Vec<_> = (0..300).map(|place: usize| readings[place / 3].clone()).collect();
        let payloads = cycle(&repeated.iter().collect::<Vec<_>>());
        let points = payloads.iter().map(|payload| parse(payload)["points"].as_object().unwrap().len());
        assert_eq!(points.collect::<Vec<_>>(), [100, 100, 100]);
    }
}
