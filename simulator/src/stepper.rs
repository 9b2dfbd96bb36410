//! What moves the plant: little physical models and signal shapes, advanced by the time that passed.
//!
//! Pure apart from the [`PlantState`] it writes; same seed and same steps give the same values.

use crate::PlantState;
use crate::config::{ModelConfig, SignalConfig, SimConfig, Source};
use crate::fault::{Flaw, ScheduledFlaw};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_model::{Encoding, Value};

pub(crate) struct Stepper {
    /// Time of the plant since it started.
    now: Duration,
    random: Random,
    models: BTreeMap<String, Model>,
    signals: Vec<Driven>,
    schedules: Vec<Schedule>,
}

struct Driven {
    device: String,
    signal: SignalConfig,
}

/// The faults a file has for a device.
struct Schedule {
    device: String,
    planned: Vec<ScheduledFlaw>,
    /// What was active at the last step; the plant is told of changes only.
    active: Vec<Flaw>,
}

struct Model {
    config: ModelConfig,
    /// Wear: 0 new, 1 worn out. Heating: 0 ambient, 1 hot.
    level: f64,
    /// What it says now.
    value: f64,
}

impl Stepper {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let models = config.models.iter().map(|(name, config)| {
            let value = match config {
                ModelConfig::Wear { healthy, .. } => *healthy,
                ModelConfig::Heating { ambient, .. } => *ambient,
            };
            (name.clone(), Model { config: config.clone(), level: 0.0, value })
        });
        let signals = config.devices.iter().flat_map(|device| {
            device.signals.iter().map(|signal| Driven { device: device.id.to_string(), signal: signal.clone() })
        });
        let with_faults = config.devices.iter().filter(|device| !device.faults.is_empty());
        let schedules = with_faults.map(|device| Schedule {
            device: device.id.to_string(),
            planned: device.faults.clone(),
            active: Vec::new(),
        });
        Self {
            now: Duration::ZERO,
            random: Random(config.seed),
            models: models.collect(),
            signals: signals.collect(),
            schedules: schedules.collect(),
        }
    }

    /// Moves everything by `passed` and writes it down.
    pub(crate) fn step(&mut self, passed: Duration, plant: &PlantState) {
        self.now += passed;
        self.step_models(passed.as_secs_f64());
        self.schedules.iter_mut().for_each(|schedule| schedule.step(self.now, plant));
        for driven in &self.signals {
            let signal = &driven.signal;
            let value = match &signal.source {
                Source::Constant(value) => value.clone(),
                Source::Cycle { of, every } => turn(of, *every, self.now),
                Source::Model(name) => signal.shaped(self.models.get(name).map_or(f64::NAN, |model| model.value)),
                Source::Noise { mean, spread } => signal.shaped(mean + spread * self.random.deviation()),
                other => signal.shaped(at(other, self.now)),
            };
            plant.drive(&driven.device, signal.id.as_str(), value);
        }
        plant.announce();
    }

    /// Makes everything the device wears out new again; gives the names, none when the device has no such model.
    pub(crate) fn repair(&mut self, device: &str) -> BTreeSet<String> {
        let of_device = self.signals.iter().filter(|driven| driven.device == device);
        let names = of_device.filter_map(|driven| match &driven.signal.source {
            Source::Model(name) => Some(name),
            _ => None,
        });
        let worn = names.filter_map(|name| match &self.models.get(name)?.config {
            ModelConfig::Wear { .. } => Some(name.clone()),
            ModelConfig::Heating { follows, .. } => Some(follows.clone()),
        });
        let worn: BTreeSet<String> = worn.collect();
        for name in &worn {
            if let Some(model) = self.models.get_mut(name) {
                model.level = 0.0;
            }
        }
        worn
    }

    /// Wear first: heating follows the wear of this step.
    fn step_models(&mut self, seconds: f64) {
        let mut wear = BTreeMap::new();
        for (name, model) in &mut self.models {
            if let ModelConfig::Wear { healthy, worn, wears_out_in, noise } = &model.config {
                model.level = (model.level + seconds / wears_out_in.as_secs_f64()).min(1.0);
                model.value = healthy + (worn - healthy) * model.level + noise * self.random.deviation();
                wear.insert(name.clone(), model.level);
            }
        }
        for model in self.models.values_mut() {
            if let ModelConfig::Heating { ambient, hot, follows, time_constant } = &model.config {
                let target = wear.get(follows).copied().unwrap_or(0.0);
                model.level += (target - model.level) * -(-seconds / time_constant.as_secs_f64()).exp_m1();
                model.value = ambient + (hot - ambient) * model.level;
            }
        }
    }
}

/// The shapes that depend on nothing but time.
fn at(source: &Source, now: Duration) -> f64 {
    let seconds = now.as_secs_f64();
    match source {
        Source::Ramp { from, per_second, until } => {
            let risen = per_second * seconds;
            match until {
                Some(until) if (until - from).abs() > 0.0 => from + risen % (until - from),
                _ => from + risen,
            }
        }
        Source::Sine { mean, amplitude, period } => {
            mean + amplitude * (std::f64::consts::TAU * seconds / period.as_secs_f64().max(1e-9)).sin()
        }
        Source::Replay(rows) => {
            let end = rows.last().map_or(Duration::ZERO, |(offset, _)| *offset) + crate::STEP;
            let place = Duration::from_secs_f64(seconds % end.as_secs_f64());
            let played = rows.iter().take_while(|(offset, _)| *offset <= place).last().or(rows.first());
            played.map_or(f64::NAN, |(_, number)| *number)
        }
        Source::Constant(_) | Source::Cycle { .. } | Source::Noise { .. } | Source::Model(_) => f64::NAN,
    }
}

impl Schedule {
    fn step(&mut self, now: Duration, plant: &PlantState) {
        let active: Vec<Flaw> =
            self.planned.iter().filter(|planned| planned.is_active(now)).map(|planned| planned.flaw.clone()).collect();
        if active != self.active {
            tracing::info!(device = %self.device, faults = %shown(&active), "what is wrong with the device has changed");
            plant.schedule(&self.device, active.clone());
            self.active = active;
        }
    }
}

impl SignalConfig {
    /// The number as the kind of value the signal gives.
    #[allow(clippy::cast_possible_truncation)] // `as` saturates, and a simulated counter beyond 2^63 is no plant
    fn shaped(&self, number: f64) -> Value {
        let whole = number.round() as i64;
        if let Some(labels) = &self.labels {
            return labels.get(&whole).map_or(Value::Integer(whole), |label| Value::Text(label.clone()));
        }
        match self.encoding {
            Encoding::Bool => Value::Bool(number >= 0.5),
            Encoding::F16 | Encoding::F32 | Encoding::F64 | Encoding::Auto => Value::Float(number),
            text if text.is_text() => Value::Text(number.to_string()),
            _ if self.is_scaled() => Value::Float(number),
            _ => Value::Integer(whole),
        }
    }
}

fn shown(flaws: &[Flaw]) -> String {
    let shown: Vec<String> = flaws.iter().map(ToString::to_string).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

/// One value after the other, each for `every`, round and round.
fn turn(of: &[Value], every: Duration, now: Duration) -> Value {
    let turns = now.as_nanos().checked_div(every.as_nanos()).unwrap_or(0);
    let place = turns.checked_rem(of.len() as u128).and_then(|place| usize::try_from(place).ok());
    place.and_then(|place| of.get(place)).cloned().unwrap_or(Value::Integer(0))
}

/// SplitMix64: small, seeded, good enough for noise and for nothing else.
struct Random(u64);

impl Random {
    /// A number from −1 to 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit
    fn deviation(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plant(yaml: &str) -> (Stepper, PlantState) {
        let config = SimConfig::parse(yaml, Path::new("test.yaml"), &|_| None).unwrap();
        (Stepper::new(&config), PlantState::default())
    }

    fn number(plant: &PlantState, signal: &str) -> f64 {
        plant.get("press", signal).unwrap().as_f64().unwrap()
    }

    const PRESS: &str = r#"
models:
  bearing: {kind: wear, healthy: 2.0, worn: 9.0, wears_out_in: 10s}
  oil: {kind: heating, ambient: 20, hot: 60, follows: bearing, time_constant: 5s}
devices:
  - id: press
    serve: "modbus+tcp://127.0.0.1:0"
    signals:
      - {id: vibration, at: holding:0, type: f32, from: {model: bearing}}
      - {id: oil, at: holding:2, type: f32, from: {model: oil}}
      - {id: strokes, at: holding:4, type: u32, from: {ramp: {from: 10, per_second: 2}}}
      - {id: saw, at: holding:6, type: u16, from: {ramp: {per_second: 1, until: 4}}}
      - {id: load, at: holding:8, type: f32, from: {sine: {mean: 40, amplitude: 15, period: 4s}}}
      - {id: hum, at: holding:10, type: f32, from: {noise: {mean: 5, spread: 2}}}
      - {id: running, at: coil:1, from: {constant: true}}
"#;

    #[test]
    fn a_bearing_wears_out_heats_the_oil_and_is_repaired() {
        let (mut stepper, plant) = plant(PRESS);
        stepper.step(Duration::from_secs(5), &plant);
        assert!((number(&plant, "vibration") - 5.5).abs() < 1e-9);
        (0..100).for_each(|_| stepper.step(Duration::from_millis(500), &plant));
        assert!((number(&plant, "vibration") - 9.0).abs() < 1e-9);
        assert!(number(&plant, "oil") > 59.0);
        assert_eq!(stepper.repair("press").into_iter().collect::<Vec<_>>(), ["bearing"]);
        stepper.step(Duration::from_millis(100), &plant);
        assert!(number(&plant, "vibration") < 2.2);
        assert!(number(&plant, "oil") > 50.0, "oil does not cool at once");
        assert!(stepper.repair("elsewhere").is_empty());
    }

    #[test]
    fn shapes_follow_time() {
        let (mut stepper, plant) = plant(PRESS);
        stepper.step(Duration::from_secs(1), &plant);
        assert_eq!(plant.get("press", "strokes"), Some(Value::Integer(12)));
        assert_eq!(plant.get("press", "running"), Some(Value::Bool(true)));
        assert!((number(&plant, "load") - 55.0).abs() < 1e-9);
        assert!((3.0..=7.0).contains(&number(&plant, "hum")));
        stepper.step(Duration::from_secs(4), &plant);
        assert_eq!(plant.get("press", "saw"), Some(Value::Integer(1)));
    }

    #[test]
    fn recordings_cycles_labels_and_texts_are_played() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rec.csv"), "time,level,other\n0,10,x\n1,20,x\n3,,x\n4,40,x\n").unwrap();
        let yaml = r#"
devices:
  - id: press
    serve: "modbus+tcp://127.0.0.1:0"
    signals:
      - {id: level, at: holding:0, type: f32, from: {replay: {file: rec.csv, column: level}}}
      - {id: mode, at: holding:2, type: u16, labels: {0: idle, 5: run}, from: {cycle: {of: [idle, run], every: 2s}}}
      - {id: step, at: holding:3, type: u16, labels: {0: idle, 1: run}, from: {ramp: {per_second: 0.5}}}
      - {id: name, at: holding:4, type: text, length: 4, from: {cycle: {of: [AB, CD], every: 1s}}}
      - {id: scaled, at: holding:6, type: i16, scale: 0.1, from: {ramp: {from: 0.25, per_second: 0}}}
      - {id: half, at: holding:7, type: f16, from: {ramp: {from: 0.25, per_second: 0}}}
"#;
        let config = SimConfig::parse(yaml, &folder.path().join("test.yaml"), &|_| None).unwrap();
        let (mut stepper, plant) = (Stepper::new(&config), PlantState::default());
        let mut said = Vec::new();
        for _ in 0..6 {
            let text = |name: &str| plant.get("press", name).map(|value| value.to_string()).unwrap_or_default();
            stepper.step(if said.is_empty() { Duration::ZERO } else { Duration::from_secs(1) }, &plant);
            said.push(["level", "mode", "step", "name", "scaled", "half"].map(text).join(" "));
        }
        assert_eq!(
            said,
            [
                "10 idle idle AB 0.25 0.25",
                "20 idle run CD 0.25 0.25", // 0.5 is rounded away from zero
                "20 run run AB 0.25 0.25",
                "20 run 2 CD 0.25 0.25", // a number without a label
                "40 idle 2 AB 0.25 0.25",
                "10 idle 3 CD 0.25 0.25", // the recording begins anew after its last row
            ]
        );
    }

    #[test]
    fn same_seed_same_noise() {
        let play = || {
            let (mut stepper, plant) = plant(PRESS);
            stepper.step(Duration::from_secs(1), &plant);
            number(&plant, "hum")
        };
        assert!((play() - play()).abs() < f64::EPSILON);
        let mut random = Random(7);
        let mean = (0..10_000).map(|_| random.deviation()).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
    }
}
