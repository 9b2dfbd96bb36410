//! From the YAML as written to a plant that can run: every fault is collected, nothing connects.

use super::written;
use super::{DeviceConfig, ModelConfig, SimConfig, SimConfigFault};
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_model::{AddressBase, DeviceId, Endpoint, ModbusLine, Secret};

/// How often an MQTT sensor publishes when the file does not say.
const EVERY_DEFAULT: Duration = Duration::from_secs(1);

pub(super) struct Checker<'a> {
    pub(super) file: &'a Path,
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
    let mut lines: BTreeSet<ModbusLine> = BTreeSet::new();
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
        if let Endpoint::Modbus { line, .. } = &device.serve
            && let Some(other) = lines.iter().find(|other| **other != *line && are_one_place(other, line))
        {
            checker.fault(place, format!("`{line}` and `{other}` are one line; write both the same"));
        }
        if let Endpoint::Modbus { line, .. } = &device.serve {
            lines.insert(line.clone());
        }
        devices.push(device);
    }
    if checker.faults.is_empty() {
        return Ok(SimConfig { seed: written.seed, models, broker: written.broker, devices });
    }
    Err(SimConfigFault { file: file.to_owned(), faults: checker.faults })
}

/// Whether an address belongs to one device. Many sensors publish to one broker, and port 0 is a port of one's own;
/// Modbus devices with port 0 on one host share a gateway, so there the unit must differ.
fn is_exclusive(serve: &Endpoint) -> bool {
    match serve {
        Endpoint::Modbus { .. } => true,
        Endpoint::OpcUa { url } => url::Url::parse(url).is_ok_and(|url| url.port() != Some(0)),
        Endpoint::Mqtt(_) | Endpoint::Replay { .. } => false,
    }
}

/// Whether two lines would meet at one socket or one serial line, though they are written differently.
fn are_one_place(one: &ModbusLine, other: &ModbusLine) -> bool {
    match (one.serial(), other.serial()) {
        (Some(one), Some(other)) => one.path == other.path,
        (None, None) => {
            let place = |line: &ModbusLine| match line {
                ModbusLine::Tcp { host, port }
                | ModbusLine::Tls { host, port }
                | ModbusLine::RtuOverTcp { host, port }
                | ModbusLine::AsciiOverTcp { host, port } => Some((host.clone(), *port)),
                ModbusLine::Rtu(_) | ModbusLine::Ascii(_) => None,
            };
            place(one) == place(other) && place(one).is_none_or(|(_, port)| port != 0)
        }
        _ => false,
    }
}

impl Checker<'_> {
    pub(super) fn fault(&mut self, place: Location, text: impl Into<String>) {
        self.faults.push((place.line(), place.column(), text.into()));
    }

    /// The value, or a fault at `place`.
    pub(super) fn keep<T, E: std::fmt::Display>(&mut self, place: Location, result: Result<T, E>) -> Option<T> {
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
                signals.extend(self.signal(signal, serve, written.base, models));
            }
        }
        self.overlaps(written.id.referenced, &signals);
        let faults = match &serve {
            Some(serve) => self.faults(written.faults, serve, &names),
            None => Vec::new(),
        };
        if let Some(serve) = &serve {
            self.only_where_it_means_something(written.id.referenced, serve, written.base, written.pki.as_ref());
        }
        let every = written.every.map_or(EVERY_DEFAULT, |span| span.0);
        let opcua = self.opcua(written.opcua, serve.as_ref(), written.pki.as_deref());
        let pki = written.pki.map(|pki| self.beside_file(&pki));
        let id = id?;
        let identity = self.identity(written.identity, &id, serve.as_ref());
        Some(DeviceConfig { id, serve: serve?, every, users, pki, identity, opcua, faults, signals })
    }

    fn only_where_it_means_something(
        &mut self,
        place: Location,
        serve: &Endpoint,
        base: AddressBase,
        pki: Option<&PathBuf>,
    ) {
        if base != AddressBase::Zero && !matches!(serve, Endpoint::Modbus { .. }) {
            self.fault(place, "`base` is for Modbus addresses; remove it");
        }
        let has_certificates =
            matches!(serve, Endpoint::Modbus { line: ModbusLine::Tls { .. }, .. } | Endpoint::OpcUa { .. });
        if pki.is_some() && !has_certificates {
            self.fault(place, "`pki` is the folder of the certificates of `modbus+tls://` and `opc.tcp://`; remove it");
        }
    }

    /// A path as the file means it.
    pub(super) fn beside_file(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new(".")).join(path)
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

    fn users(&mut self, written: BTreeMap<String, Spanned<Secret>>) -> Vec<(String, Secret)> {
        let mut users = Vec::new();
        for (name, password) in written {
            let Some(variable) = password.value.reveal().strip_prefix("env:") else {
                users.push((name, password.value));
                continue;
            };
            match (self.environment)(variable) {
                Some(known) => users.push((name, Secret::new(known))),
                None => self.fault(password.referenced, format!("`env:{variable}` is not set in the environment")),
            }
        }
        users
    }
}

fn checked_model(name: &str, model: written::Model, wears: &BTreeSet<String>) -> Result<ModelConfig, String> {
    match model.kind {
        written::Kind::Wear => wear(name, model),
        written::Kind::Heating => heating(name, model, wears),
    }
}

fn wear(name: &str, model: written::Model) -> Result<ModelConfig, String> {
    if model.ambient.is_some() || model.hot.is_some() || model.follows.is_some() || model.time_constant.is_some() {
        return Err(format!(
            "model `{name}` of kind `wear` knows `healthy`, `worn`, `wears_out_in`, `noise` and nothing else"
        ));
    }
    Ok(ModelConfig::Wear {
        healthy: need(name, model.healthy, "healthy")?,
        worn: need(name, model.worn, "worn")?,
        wears_out_in: need_span(name, model.wears_out_in, "wears_out_in")?,
        noise: model.noise.unwrap_or(0.0),
    })
}

fn heating(name: &str, model: written::Model, wears: &BTreeSet<String>) -> Result<ModelConfig, String> {
    if model.healthy.is_some() || model.worn.is_some() || model.wears_out_in.is_some() || model.noise.is_some() {
        return Err(format!(
            "model `{name}` of kind `heating` knows `ambient`, `hot`, `follows`, `time_constant` and nothing else"
        ));
    }
    let follows = model.follows.filter(|follows| wears.contains(follows));
    Ok(ModelConfig::Heating {
        ambient: need(name, model.ambient, "ambient")?,
        hot: need(name, model.hot, "hot")?,
        follows: follows.ok_or_else(|| format!("model `{name}` needs `follows`: the name of a `wear` model"))?,
        time_constant: need_span(name, model.time_constant, "time_constant")?,
    })
}

fn need(name: &str, value: Option<f64>, key: &str) -> Result<f64, String> {
    value.filter(|value| value.is_finite()).ok_or_else(|| format!("model `{name}` needs the number `{key}`"))
}

fn need_span(name: &str, value: Option<written::Span>, key: &str) -> Result<Duration, String> {
    value
        .map(|span| span.0)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| format!("model `{name}` needs the time `{key}`, for example `12s`"))
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
