//! Where SCADA listens: the broker, how it is reached, what it is told and what it may ask.

use super::{BrokerConfig, Checker, PublishMode, SparkplugConfig, parse_bytes, written};
use crate::command::CommandLimits;
use crate::spool::SpoolLimits;
use serde_saphyr::Spanned;
use std::time::Duration;
use tally_connector_api::tls;
use tally_connector_mqtt::sparkplug::Name;
use tally_model::{Endpoint, EndpointFault, MqttBroker, Secret, Tls};
use tally_secrets::SecretFault;

/// How old a command of SCADA may be, when nobody says otherwise, and at most: it is remembered that long so as to be done once.
const COMMAND_AGE: Duration = Duration::from_secs(10);
const COMMAND_AGE_MAX: Duration = Duration::from_secs(300);

/// Slowest telling of history, in values a second.
const RATE_MIN: u32 = 100;

/// Longest prefix of a topic in bytes; a topic is at most 65,535 (MQTT 3.1.1 §1.5.3), and ids take 64 a segment.
const PREFIX_BYTES_MAX: usize = 1024;

impl Checker<'_> {
    pub(super) fn broker(&mut self, written: written::Broker, name: &str) -> Option<BrokerConfig> {
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
