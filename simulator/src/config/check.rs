//! From the YAML as written to a plant that can run: every fault is collected, nothing connects.

use super::written;
use super::{DeviceConfig, ModelConfig, SignalConfig, SimConfig, SimConfigFault, Source};
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tally_model::{Address, DeviceId, Encoding, Endpoint, PointId, Secret};

/// How often an MQTT sensor publishes when the file does not say.
const EVERY_DEFAULT: Duration = Duration::from_secs(1);

struct Checker<'a> {
    file: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<(u64, u64, String)>,
}

pub(super) fn check(
    written: written::Plant,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<SimConfig, SimConfigFault> {
    let mut checker = Checker { file, environment, faults: Vec::new() };
    let models = checker.models(written.models);
    let mut devices = Vec::new();
    let mut names = BTreeSet::new();
    let mut places: BTreeMap<Endpoint, String> = BTreeMap::new();
    for device in written.devices {
        if !names.insert(device.id.value.clone()) {
            checker.fault(device.id.referenced, format!("device `{}` is written twice", device.id.value));
        }
        let place = device.serve.referenced;
        let Some(device) = checker.device(device, &models) else { continue };
        if is_exclusive(&device.serve)
            && let Some(other) = places.insert(device.serve.clone(), device.id.to_string())
        {
            checker.fault(place, format!("`{}` is served by `{other}` already", device.serve));
        }
        devices.push(device);
    }
    if checker.faults.is_empty() {
        return Ok(SimConfig { seed: written.seed, models, devices });
    }
    Err(SimConfigFault { file: file.to_owned(), faults: checker.faults })
}

/// Whether an address belongs to one device. Many sensors publish to one broker, and port 0 is a port of one's own;
/// Modbus devices with port 0 on one host share a gateway, so there the unit must differ.
fn is_exclusive(serve: &Endpoint) -> bool {
    match serve {
        Endpoint::Modbus { .. } => true,
        Endpoint::OpcUa { url } => url::Url::parse(url).is_ok_and(|url| url.port() != Some(0)),
        Endpoint::Mqtt { .. } | Endpoint::Replay { .. } => false,
    }
}

impl Checker<'_> {
    fn fault(&mut self, place: Location, text: impl Into<String>) {
        self.faults.push((place.line(), place.column(), text.into()));
    }

    /// The value, or a fault at `place`.
    fn keep<T, E: std::fmt::Display>(&mut self, place: Location, result: Result<T, E>) -> Option<T> {
        result.map_err(|fault| self.fault(place, fault.to_string())).ok()
    }

    fn models(&mut self, written: BTreeMap<String, Spanned<written::Model>>) -> BTreeMap<String, ModelConfig> {
        let wears: BTreeSet<_> = written
            .iter()
            .filter(|(_, model)| matches!(model.value.kind, written::Kind::Wear))
            .map(|(name, _)| name.clone())
            .collect();
        let mut models = BTreeMap::new();
        for (name, model) in written {
            let place = model.referenced;
            if let Some(model) = self.keep(place, checked_model(&name, model.value, &wears)) {
                models.insert(name, model);
            }
        }
        models
    }

    fn device(&mut self, written: written::Device, models: &BTreeMap<String, ModelConfig>) -> Option<DeviceConfig> {
        let id = self.keep(written.id.referenced, DeviceId::try_new(&written.id.value));
        let serve = self.serve(&written.serve);
        let users = self.users(written.users);
        let mut names = BTreeSet::new();
        let mut signals = Vec::new();
        for signal in written.signals {
            if !names.insert(signal.id.value.clone()) {
                self.fault(signal.id.referenced, format!("signal `{}` is written twice", signal.id.value));
            }
            // Without a usable `serve:` nobody knows how to read `at:`; that fault is told already.
            if let Some(serve) = &serve {
                signals.extend(self.signal(signal, serve, models));
            }
        }
        self.overlaps(written.id.referenced, &signals);
        let every = written.every.map_or(EVERY_DEFAULT, |span| span.0);
        Some(DeviceConfig { id: id?, serve: serve?, every, users, signals })
    }

    /// Two numbers in one register would overwrite each other. Flags may share a register with flags.
    fn overlaps(&mut self, place: Location, signals: &[SignalConfig]) {
        let mut owners: BTreeMap<_, &SignalConfig> = BTreeMap::new();
        for signal in signals {
            let Address::Modbus { table, offset, bit } = signal.address else { continue };
            for address in u32::from(offset)..u32::from(offset) + u32::from(signal.width()) {
                if let Some(owner) = owners.insert((table, address, bit), signal) {
                    self.fault(
                        place,
                        format!("`{}` and `{}` overlap at {}:{address}", owner.id, signal.id, table.word()),
                    );
                    break;
                }
            }
        }
    }

    fn serve(&mut self, written: &Spanned<String>) -> Option<Endpoint> {
        let text = self.keep(written.referenced, fill(&written.value, self.environment))?;
        let endpoint = self.keep(written.referenced, Endpoint::parse(&text))?;
        if matches!(endpoint, Endpoint::Replay { .. }) {
            self.fault(
                written.referenced,
                "a recording is replayed by a signal: `from: {replay: {file: …, column: …}}`",
            );
            return None;
        }
        Some(endpoint)
    }

    fn users(&mut self, written: BTreeMap<String, Spanned<String>>) -> Vec<(String, Secret)> {
        let mut users = Vec::new();
        for (name, password) in written {
            let known = match password.value.strip_prefix("env:") {
                Some(variable) => (self.environment)(variable),
                None => Some(password.value.clone()),
            };
            match known {
                Some(password) => users.push((name, Secret::new(password))),
                None => self.fault(password.referenced, format!("`{}` is not set in the environment", password.value)),
            }
        }
        users
    }

    fn signal(
        &mut self,
        written: written::Signal,
        serve: &Endpoint,
        models: &BTreeMap<String, ModelConfig>,
    ) -> Option<SignalConfig> {
        let id = self.keep(written.id.referenced, PointId::try_new(&written.id.value));
        let address = self.keep(
            written.at.referenced,
            match serve {
                Endpoint::Modbus { .. } => Address::parse_modbus(&written.at.value),
                Endpoint::OpcUa { .. } => Address::parse_opcua(&written.at.value),
                Endpoint::Mqtt { .. } => Address::parse_mqtt(&written.at.value),
                Endpoint::Replay { .. } => Address::parse_column(&written.at.value),
            },
        );
        let encoding = match &address {
            Some(address) => self.keep(written.at.referenced, encoding_of(address, written.encoding, written.length)),
            None => None,
        };
        let source = self.source(written.from, models);
        if written.scale == 0.0 || !written.scale.is_finite() || !written.offset.is_finite() {
            self.fault(written.id.referenced, "`scale` must not be 0, and `scale` and `offset` are finite numbers");
        }
        Some(SignalConfig {
            id: id?,
            address: address?,
            encoding: encoding?,
            order: written.order,
            length: written.length,
            scale: written.scale,
            offset: written.offset,
            source: source?,
        })
    }

    fn source(&mut self, written: written::From, models: &BTreeMap<String, ModelConfig>) -> Option<Source> {
        Some(match written {
            written::From::Constant(value) => Source::Constant(value),
            written::From::Ramp(ramp) => {
                Source::Ramp { from: ramp.from, per_second: ramp.per_second, until: ramp.until }
            }
            written::From::Sine(sine) => {
                Source::Sine { mean: sine.mean, amplitude: sine.amplitude, period: sine.period.0 }
            }
            written::From::Noise(noise) => Source::Noise { mean: noise.mean, spread: noise.spread },
            written::From::Model(name) => {
                if !models.contains_key(&name.value) {
                    let known = models.keys().cloned().collect::<Vec<_>>().join(", ");
                    self.fault(
                        name.referenced,
                        format!("there is no usable model `{}`; there are: {known}", name.value),
                    );
                    return None;
                }
                Source::Model(name.value)
            }
            written::From::Replay(replay) => {
                let place = replay.file.referenced;
                let file = self.file.parent().unwrap_or(Path::new(".")).join(&replay.file.value);
                Source::Replay(self.keep(place, crate::recording::load_column(&file, &replay.column))?)
            }
        })
    }
}

fn checked_model(name: &str, model: written::Model, wears: &BTreeSet<String>) -> Result<ModelConfig, String> {
    let need = |value: Option<f64>, key: &str| {
        value.filter(|value| value.is_finite()).ok_or_else(|| format!("model `{name}` needs the number `{key}`"))
    };
    let need_span = |value: Option<written::Span>, key: &str| {
        value
            .map(|span| span.0)
            .filter(|span| !span.is_zero())
            .ok_or_else(|| format!("model `{name}` needs the time `{key}`, for example `12s`"))
    };
    match model.kind {
        written::Kind::Wear => {
            if model.ambient.is_some()
                || model.hot.is_some()
                || model.follows.is_some()
                || model.time_constant.is_some()
            {
                return Err(format!(
                    "model `{name}` of kind `wear` knows `healthy`, `worn`, `wears_out_in`, `noise` and nothing else"
                ));
            }
            Ok(ModelConfig::Wear {
                healthy: need(model.healthy, "healthy")?,
                worn: need(model.worn, "worn")?,
                wears_out_in: need_span(model.wears_out_in, "wears_out_in")?,
                noise: model.noise.unwrap_or(0.0),
            })
        }
        written::Kind::Heating => {
            if model.healthy.is_some() || model.worn.is_some() || model.wears_out_in.is_some() || model.noise.is_some()
            {
                return Err(format!(
                    "model `{name}` of kind `heating` knows `ambient`, `hot`, `follows`, `time_constant` and nothing else"
                ));
            }
            let follows = model.follows.filter(|follows| wears.contains(follows));
            Ok(ModelConfig::Heating {
                ambient: need(model.ambient, "ambient")?,
                hot: need(model.hot, "hot")?,
                follows: follows
                    .ok_or_else(|| format!("model `{name}` needs `follows`: the name of a `wear` model"))?,
                time_constant: need_span(model.time_constant, "time_constant")?,
            })
        }
    }
}

/// What a Modbus signal is written as. Bits need no type; registers do, because a wrong guess is a wrong number.
fn encoding_of(address: &Address, written: Option<Encoding>, length: u16) -> Result<Encoding, String> {
    let Address::Modbus { table, bit, .. } = address else {
        return Ok(written.unwrap_or(Encoding::Auto));
    };
    let is_bit = table.is_bits() || bit.is_some();
    match written {
        None | Some(Encoding::Bool) if is_bit => Ok(Encoding::Bool),
        None => Err(format!("`{address}` needs a `type`, for example `type: f32`")),
        Some(other) if is_bit => Err(format!("`{address}` is a bit, so its type is `bool`, not `{other:?}`")),
        Some(Encoding::Auto) => Err("Modbus carries no types, `type: auto` cannot work".into()),
        Some(encoding) if encoding.is_text() && (length == 0 || length > 250) => {
            Err("a text needs `length: ` 1 to 250 bytes".into())
        }
        Some(encoding) => Ok(encoding),
    }
}

/// Fills `${NAME}` and `${NAME:-default}`.
fn fill(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, behind) =
            after.split_once('}').ok_or_else(|| format!("`{text}`: `${{` without a closing brace"))?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        let value = environment(name).filter(|value| !value.is_empty()).or(default);
        filled.push_str(before);
        filled.push_str(&value.ok_or_else(|| format!("`{name}` is not set; set it or write `${{{name}:-default}}`"))?);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}
