//! From the file as written to a configuration that can run.

mod node;

use super::{
    ANCHORS_EVERY, AgentConfig, BrokerConfig, ConfigError, Fault, Limits, PublishMode, SparkplugConfig, written,
};
use crate::command::CommandLimits;
use crate::gate::{GateSetting, PastAge};
use crate::seal::BatchLimits;
use crate::spool::SpoolLimits;
use serde_saphyr::{Location, Spanned};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_connector_api::tls;
use tally_connector_mqtt::sparkplug::Name;
use tally_evidence::{BATCH_TRIGGERS_MAX, SealingKey, VerifyingKey};
use tally_keys::KeySource;
use tally_model::{Endpoint, EndpointFault, MqttBroker, PartyId, Secret, Tls};
use tally_secrets::SecretFault;
use zeroize::Zeroizing;

/// Below this an outbox holds a handful of triggers and a vault a few minutes: a slip, not a wish.
const BYTES_MIN: u64 = 1 << 20;
/// A permit lives a day at most.
const PROOF_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How old a command of SCADA may be, when nobody says otherwise, and at most: it is remembered that long so as to be done once.
const COMMAND_AGE: Duration = Duration::from_secs(10);
const COMMAND_AGE_MAX: Duration = Duration::from_secs(300);

/// More often than every second, and a plant fills the ledger with anchors; less often than once a day, and nobody can ask about
/// yesterday.
const ANCHORS_EVERY_MIN: Duration = Duration::from_secs(1);
const ANCHORS_EVERY_MAX: Duration = Duration::from_secs(86_400);
/// How long readings are gathered for one seal, when nobody says otherwise, and at most: an alarm waits as long.
const BATCH_WITHIN: Duration = Duration::from_millis(50);
const BATCH_WITHIN_MIN: Duration = Duration::from_millis(1);
const BATCH_WITHIN_MAX: Duration = Duration::from_secs(10);
/// Slowest telling of history, in values a second.
const RATE_MIN: u32 = 100;
/// Longest prefix of a topic in bytes; a topic is at most 65,535 (MQTT 3.1.1 §1.5.3), and ids take 64 a segment.
const PREFIX_BYTES_MAX: usize = 1024;

struct Checker<'a> {
    file: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<Fault>,
}

pub(super) fn check(
    written: written::Written,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<AgentConfig, ConfigError> {
    let mut checker = Checker { file, environment, faults: Vec::new() };
    let name = checker.keep(&written.name, PartyId::try_new(&written.name.value));
    let ledger = checker.keep(&written.ledger, PartyId::try_new(&written.ledger.value));
    let key = checker.signing_key(&written.key);
    let node = checker.keep(&written.node, written.node.value.parse());
    let access = checker.access(&written, node.as_ref());
    let ledger_key = written.ledger_key.as_ref().map(|key| checker.public_key(key));
    let places = checker.listen(&written);
    let broker = written.broker.map(|broker| checker.broker(broker, &written.name.value));
    let limits = checker.limits(&written.limits);
    let anchors = checker.anchors(&written.anchors);
    let gate = checker.gate(&written.gate);
    let batch = written.batch.as_ref().map(|batch| checker.batch(batch));
    let pki = written.pki.map_or_else(|| checker.path("pki"), |pki| checker.path(&pki.value));
    let (mapping, data) = (checker.path(&written.mapping.value), checker.path(&written.data.value));
    if let (Some(name), Some(ledger), Some(key), Some(node), Some(places), true) =
        (name, ledger, key, node, places, checker.faults.is_empty())
    {
        let (ledger, ledger_key, broker) = (ledger.to_string(), ledger_key.flatten(), broker.flatten());
        return Ok(AgentConfig {
            name,
            ledger,
            mapping,
            data,
            key,
            pki,
            node,
            access,
            ledger_key,
            broker,
            listen: places.listen,
            listen_tls: places.tls,
            anchors,
            gate,
            batch,
            limits,
        });
    }
    Err(ConfigError { file: file.to_owned(), faults: checker.faults })
}

impl Checker<'_> {
    fn fault(&mut self, place: Location, text: impl Into<String>) {
        self.faults.push(Fault { line: place.line(), column: place.column(), text: text.into() });
    }

    fn keep<T, E: Display>(&mut self, written: &Spanned<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|fault| self.fault(written.referenced, fault.to_string())).ok()
    }

    fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new(".")).join(written)
    }

    fn read(&mut self, written: &Spanned<String>) -> Option<Zeroizing<String>> {
        let path = self.path(&written.value);
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        self.keep(written, text.map_err(|fault| format!("{} cannot be read: {fault}", path.display())))
    }

    /// The agent's key. A token need not be in: the agent reads and keeps until it is.
    fn signing_key(&mut self, written: &Spanned<String>) -> Option<SealingKey> {
        let folder = self.file.parent().unwrap_or_else(|| Path::new("."));
        let source = KeySource::parse(&written.value, folder);
        let source = self.keep(written, source)?;
        self.keep(written, source.open_later())
    }

    fn public_key(&mut self, written: &Spanned<String>) -> Option<VerifyingKey> {
        let pem = self.read(written)?;
        let shown = self.path(&written.value);
        self.keep(written, VerifyingKey::from_pem(&pem).map_err(|fault| format!("{}: {fault}", shown.display())))
    }

    fn broker(&mut self, written: written::Broker, name: &str) -> Option<BrokerConfig> {
        let address = self.keep(&written.url, broker_address(&written.url.value));
        let mode = match written.mode.as_ref().map(|mode| mode.value.as_str()) {
            None | Some("point") => PublishMode::Point,
            Some("device") => PublishMode::Device,
            Some(found) => {
                let text = format!("`{found}` is no mode: `point` is one topic a point, `device` one message a device");
                self.fault(written.mode.as_ref()?.referenced, text);
                return None;
            }
        };
        let prefix = match &written.prefix {
            Some(prefix) => self.keep(prefix, topic_prefix(&prefix.value)),
            None => Some("tallystick".to_owned()),
        };
        let password = match &written.password {
            Some(password) => Some(self.password(password, written.user.is_some())?),
            None => None,
        };
        let history = self.history(&written.history);
        let sparkplug = match &written.sparkplug {
            Some(sparkplug) => Some(self.sparkplug(sparkplug, name, address.as_ref(), written.mode.as_ref())?),
            None => None,
        };
        let commands = written.commands.as_ref().map(|commands| self.commands(commands));
        let tls = self.broker_tls(&written, address.as_ref()?, sparkplug.as_ref());
        let (address, user) = (address?, written.user);
        Some(BrokerConfig { address, tls, user, password, mode, prefix: prefix?, history, sparkplug, commands })
    }

    /// Certificates, which are for `mqtts://` only; relative files begin beside this one.
    fn broker_tls(
        &mut self,
        written: &written::Broker,
        address: &MqttBroker,
        sparkplug: Option<&SparkplugConfig>,
    ) -> Tls {
        let is_tls =
            address.is_tls || sparkplug.is_some_and(|sparkplug| sparkplug.servers.iter().any(|one| one.is_tls));
        let keys =
            [("ca", &written.ca), ("pin", &written.pin), ("certificate", &written.certificate), ("key", &written.key)];
        if !is_tls {
            for (name, key) in keys {
                if let Some(key) = key {
                    let text = format!("`{name}` is for TLS, and no server is reached over TLS: write `mqtts://…`");
                    self.fault(key.referenced, text);
                }
            }
            return Tls::default();
        }
        let tls = self.tls_files(&written.ca, &written.pin, &written.certificate, &written.key);
        if let Err(fault) = tls::check(&tls) {
            // Brokers are settings of this file, not of a mapping with its `security:`.
            let text = fault
                .to_string()
                .replace("security: {ca: FILE}", "ca: FILE")
                .replace("security: {pin: SHA-256}", "pin: SHA-256");
            self.fault(written.url.referenced, text);
        }
        tls
    }

    /// Paths begin beside this file.
    fn tls_files(
        &self,
        ca: &Option<Spanned<String>>,
        pin: &Option<Spanned<String>>,
        certificate: &Option<Spanned<String>>,
        key: &Option<Spanned<String>>,
    ) -> Tls {
        let file = |written: &Option<Spanned<String>>| written.as_ref().map(|file| self.path(&file.value));
        let pin = pin.as_ref().map(|pin| pin.value.clone());
        Tls { ca: file(ca), pin, certificate: file(certificate), key: file(key) }
    }

    /// Live values as Sparkplug B; then `mode`, which is about JSON, would say nothing.
    fn sparkplug(
        &mut self,
        written: &written::Sparkplug,
        agent: &str,
        broker: Option<&MqttBroker>,
        mode: Option<&Spanned<String>>,
    ) -> Option<SparkplugConfig> {
        if let Some(mode) = mode {
            let text =
                "`mode` is about JSON, and with `sparkplug` live values go out as Sparkplug B; remove one of the two";
            self.fault(mode.referenced, text);
        }
        let group = self.keep(&written.group, Name::try_new(&written.group.value));
        let edge_node = match &written.edge_node {
            Some(edge_node) => self.keep(edge_node, Name::try_new(&edge_node.value)),
            // An id of ours is a name of theirs.
            None => Name::try_new(agent).ok(),
        };
        let primary_host = match &written.primary_host {
            Some(host) => Some(self.keep(host, Name::try_new(&host.value))?),
            None => None,
        };
        let mut servers: Vec<_> = broker.cloned().into_iter().collect();
        for server in &written.servers {
            let Some(address) = self.keep(server, broker_address(&server.value)) else { continue };
            if servers.contains(&address) {
                let text = format!("`{}` stands in the list already; `url` is its first entry", server.value);
                self.fault(server.referenced, text);
            }
            servers.push(address);
        }
        Some(SparkplugConfig { group: group?, edge_node: edge_node?, primary_host, servers })
    }

    fn commands(&mut self, written: &written::Commands) -> CommandLimits {
        let age = written.age.as_ref().and_then(|age| {
            let read = tally_model::parse_duration(&age.value).map_err(|fault| fault.to_string());
            let fits = |read: Duration| (Duration::from_secs(1)..=COMMAND_AGE_MAX).contains(&read).then_some(read);
            let read =
                read.and_then(|read| fits(read).ok_or_else(|| format!("`{}` is not from 1s to 5min", age.value)));
            self.keep(age, read)
        });
        CommandLimits { age_max: age.unwrap_or(COMMAND_AGE) }
    }

    /// `hours: 0` tells nothing later; a rate of nothing would be a slip.
    fn history(&mut self, written: &written::History) -> SpoolLimits {
        let mut limits = SpoolLimits::default();
        if let Some(bytes) = &written.bytes_max {
            limits.bytes_max = self.keep(bytes, parse_bytes(&bytes.value)).unwrap_or(limits.bytes_max);
        }
        if let Some(hours) = &written.hours {
            limits.age_max = Duration::from_secs(u64::from(hours.value) * 3_600);
        }
        if let Some(rate) = &written.values_per_second {
            if rate.value < RATE_MIN {
                let text = format!(
                    "{} values a second would never catch up; the least is {RATE_MIN}, and `hours: 0` tells nothing later",
                    rate.value
                );
                self.fault(rate.referenced, text);
            }
            limits.values_per_second = rate.value;
        }
        limits
    }

    fn password(&mut self, written: &Spanned<Secret>, has_user: bool) -> Option<Secret> {
        if !has_user {
            self.fault(written.referenced, "a password without a user; MQTT has no such login, write `user:` too");
            return None;
        }
        match written.value.reveal().split_once(':') {
            Some(("env", name)) => {
                let found = (self.environment)(name).map(Secret::new);
                if found.is_none() {
                    self.fault(written.referenced, format!("the environment variable {name} is not set"));
                }
                found
            }
            Some(("file", path)) => {
                let path = self.path(path);
                let read = tally_secrets::read_password(&path).map_err(|fault| match fault {
                    SecretFault::Open(open) => open.to_string(),
                    SecretFault::Read(fault) => format!("{} cannot be read: {fault}", path.display()),
                });
                let read = read.map_err(|fault| self.fault(written.referenced, format!("the password: {fault}")));
                read.ok().map(|password| Secret::new(password.as_str().to_owned()))
            }
            _ => {
                if let Err(open) = tally_secrets::judge(self.file) {
                    let text = format!("with a password in it, {open}, or write `password: file:PATH` or `env:NAME`");
                    self.fault(written.referenced, text);
                }
                Some(written.value.clone())
            }
        }
    }

    /// `off` is the only way to have none: a slip must not end them.
    fn anchors(&mut self, written: &written::Anchors) -> Option<Duration> {
        let Some(every) = &written.every else { return Some(ANCHORS_EVERY) };
        if every.value.trim() == "off" {
            return None;
        }
        let read = tally_model::parse_duration(&every.value).map_err(|fault| fault.to_string());
        let fits = read.and_then(|read| {
            let fits = (ANCHORS_EVERY_MIN..=ANCHORS_EVERY_MAX).contains(&read);
            fits.then_some(read)
                .ok_or_else(|| format!("`{}` is not from 1s to 1d; `off` seals no anchors", every.value))
        });
        self.keep(every, fits)
    }

    /// A slip here must not open the gate.
    fn gate(&mut self, written: &written::Gate) -> GateSetting {
        let default = GateSetting::default();
        let age = written.proof_age.as_ref().and_then(|age| {
            let read = tally_model::parse_duration(&age.value).map_err(|fault| fault.to_string());
            let fits = |read: Duration| (!read.is_zero() && read <= PROOF_AGE_MAX).then_some(read);
            let read = read.and_then(|read| fits(read).ok_or_else(|| format!("`{}` is not from 1us to 1d", age.value)));
            self.keep(age, read)
        });
        let past_age = written.past_age.as_ref().and_then(|word| {
            let read = match word.value.as_str() {
                "refuse" => Ok(PastAge::Refuse),
                "allow-read" => Ok(PastAge::AllowRead),
                "allow" => Ok(PastAge::Allow),
                other => Err(format!("`{other}` is none of `refuse`, `allow-read`, `allow`")),
            };
            self.keep(word, read)
        });
        let (proof_age, past_age) = (age.unwrap_or(default.proof_age), past_age.unwrap_or(default.past_age));
        GateSetting { proof_age, past_age }
    }

    fn batch(&mut self, written: &written::Batch) -> BatchLimits {
        let triggers = written.triggers.as_ref().map_or(BATCH_TRIGGERS_MAX, |triggers| triggers.value);
        if let (Some(place), false) = (&written.triggers, (2..=BATCH_TRIGGERS_MAX).contains(&triggers)) {
            let text = format!(
                "{triggers} triggers under one seal; allowed are 2 to {BATCH_TRIGGERS_MAX}. Without `batch` each has its own"
            );
            self.fault(place.referenced, text);
        }
        let within = written.within.as_ref().and_then(|within| {
            let read = tally_model::parse_duration(&within.value).map_err(|fault| fault.to_string());
            let fits = read.and_then(|read| {
                let fits = (BATCH_WITHIN_MIN..=BATCH_WITHIN_MAX).contains(&read);
                fits.then_some(read).ok_or_else(|| format!("`{}` is not from 1ms to 10s", within.value))
            });
            self.keep(within, fits)
        });
        BatchLimits { triggers, within: within.unwrap_or(BATCH_WITHIN) }
    }

    fn limits(&mut self, written: &written::Limits) -> Limits {
        let default = Limits::default();
        let vault_days = written.vault_days.as_ref().map_or(default.vault_days, |days| days.value);
        if let (0, Some(days)) = (vault_days, &written.vault_days) {
            self.fault(days.referenced, "0 days keep no evidence; the least is 1");
        }
        let mut size = |written: &Option<Spanned<String>>, default| match written {
            Some(written) => self.keep(written, parse_bytes(&written.value)).unwrap_or(default),
            None => default,
        };
        Limits {
            outbox_bytes_max: size(&written.outbox_bytes_max, default.outbox_bytes_max),
            vault_days,
            vault_bytes_max: size(&written.vault_bytes_max, default.vault_bytes_max),
        }
    }
}

fn broker_address(text: &str) -> Result<MqttBroker, String> {
    let hint =
        "write for example `mqtt://127.0.0.1:1883` or `mqtts://broker:8883`; user and password have keys of their own";
    let url = url::Url::parse(text).map_err(|fault| format!("`{text}` is not a URL ({fault}); {hint}"))?;
    let plain = url.username().is_empty() && matches!(url.path(), "" | "/");
    match Endpoint::parse(text) {
        Ok(Endpoint::Mqtt(broker)) if plain => {
            // A URL keeps the brackets of an IPv6 address, sockets do not want them.
            let host = broker.host.trim_matches(['[', ']']).to_owned();
            Ok(MqttBroker { host, ..broker })
        }
        Err(fault @ (EndpointFault::Parameter { .. } | EndpointFault::ParameterValue { .. })) => {
            Err(format!("`{text}`: {fault}"))
        }
        _ => Err(format!("`{text}` is not the address of a broker; {hint}")),
    }
}

fn topic_prefix(text: &str) -> Result<String, String> {
    let fault = |reason: &str| Err(format!("`{text}` cannot begin a topic: {reason}"));
    match text {
        "" => fault("it is empty"),
        _ if text.len() > PREFIX_BYTES_MAX => fault("it has more than 1024 bytes"),
        // MQTT 3.1.1 §4.7.1, §4.7.2, §4.7.3.
        _ if text.contains(['+', '#', '\0']) => fault("wildcards and NUL are not allowed in it"),
        _ if text.starts_with(['/', '$']) || text.ends_with('/') => {
            fault("it neither begins with `/` or `$` nor ends with `/`")
        }
        _ => Ok(text.to_owned()),
    }
}

/// `64MiB`, `10GiB`, `1GB`, `5000000`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("", 1),
    ];
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text[digits.len()..].trim();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes >= BYTES_MIN => Ok(bytes),
        Some(bytes) => Err(format!("{bytes} bytes are too few; the least is 1MiB")),
        None => Err(format!("`{text}` is not a size; write for example `64MiB` or `10GiB`")),
    }
}
