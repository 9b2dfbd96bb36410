//! `agent.yaml`: what the agent is told. The manual is `docs/operator/agent.md`.
//!
//! Paths are relative to the file. Every fault is reported at once with line and column. Nothing is created or
//! connected here; only keys and certificates are read.

mod check;
mod written;

use crate::command::CommandLimits;
use crate::seal::BatchLimits;
use crate::spool::SpoolLimits;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_connector_mqtt::sparkplug::Name;
use tally_door::Listen;
use tally_evidence::{SealingKey, VerifyingKey};
use tally_ledger_client::{Access, NodeAddress};
use tally_model::{MqttBroker, PartyId, Secret, Tls};
use tally_tls::ServerTls;
use zeroize::Zeroizing;

/// Larger files are no agent.yaml.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Party id of the agent: the `iss` of every trigger it seals.
    pub name: PartyId,
    /// The ledger its statements are for: their `aud`.
    pub ledger: String,
    /// The plant file.
    pub mapping: PathBuf,
    /// Folder of vault, outbox, receipts and dead letters.
    pub data: PathBuf,
    /// Seals the triggers.
    pub key: SealingKey,
    /// Own OPC UA certificate, and which servers are trusted.
    pub pki: PathBuf,
    /// Where the ledger node listens.
    pub node: NodeAddress,
    /// Our certificate or token for the node, and whom we trust to be it.
    pub access: Access,
    /// The ledger's key; without it the first one seen is kept in `data/ledger.pem`, and a change is refused.
    pub ledger_key: Option<VerifyingKey>,
    /// Where SCADA listens.
    pub broker: Option<BrokerConfig>,
    /// Where the agent's own interface listens.
    pub listen: Vec<Listen>,
    /// Certificates of its `tls:` places.
    pub listen_tls: Option<ServerTls>,
    /// How often all readings of a device are anchored in the ledger; `None`: never.
    pub anchors: Option<Duration>,
    /// What the gate does when it cannot ask the ledger.
    pub gate: crate::gate::GateSetting,
    /// How triggers are sealed together; `None`: each for itself.
    pub batch: Option<BatchLimits>,
    /// How much is kept.
    pub limits: Limits,
}

/// How often when nobody says otherwise: each costs a kilobyte in the ledger, and a question about the last minute waits for it.
pub const ANCHORS_EVERY: Duration = Duration::from_secs(60);

/// The MQTT broker the agent publishes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Where it is.
    pub address: MqttBroker,
    /// Certificates, when a server is reached over TLS.
    pub tls: Tls,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
    /// One topic a point, or one message a device and cycle.
    pub mode: PublishMode,
    /// First segment(s) of every topic.
    pub prefix: String,
    /// How much of what the broker missed is told later.
    pub history: SpoolLimits,
    /// Live values go out as Sparkplug B instead of JSON.
    pub sparkplug: Option<SparkplugConfig>,
    /// Commands of SCADA are heard and go through the gate; `None`: nobody listens.
    pub commands: Option<CommandLimits>,
}

/// The agent as a Sparkplug B edge node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SparkplugConfig {
    /// Group of the edge node.
    pub group: Name,
    /// The edge node; the agent's name when nothing else is written.
    pub edge_node: Name,
    /// Births wait until this host is online.
    pub primary_host: Option<Name>,
    /// The servers, in the order in which they are tried; the first is the broker itself.
    pub servers: Vec<MqttBroker>,
}

/// How live values are published; see `docs/formats/topics.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// One topic for each point.
    Point,
    /// One message for each device and cycle.
    Device,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of sealed triggers without a receipt. Alarm at half; at the limit no further trigger is sealed.
    pub outbox_bytes_max: u64,
    /// Days of readings and receipts.
    pub vault_days: u16,
    /// Bytes of readings.
    pub vault_bytes_max: u64,
}

impl Default for Limits {
    /// 1 GiB (some 800,000 triggers), 90 days, 10 GiB.
    fn default() -> Self {
        Self { outbox_bytes_max: 1 << 30, vault_days: 90, vault_bytes_max: 10 << 30 }
    }
}

impl AgentConfig {
    /// Reads and checks `file` and the keys it names. `env:NAME` passwords come from the environment.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault of the file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let whole =
            |text: String| ConfigError { file: file.to_owned(), faults: vec![Fault { line: 0, column: 0, text }] };
        let unreadable = |fault: std::io::Error| whole(format!("cannot be read: {fault}"));
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(whole(format!("has {bytes} bytes, allowed are {FILE_BYTES_MAX}; is this an agent.yaml?")));
        }
        // It may hold the broker's password.
        let text = Zeroizing::new(std::fs::read_to_string(file).map_err(unreadable)?);
        Self::parse(&text, file, &|name| std::env::var(name).ok())
    }

    /// Checks `text`; `file` is named in faults and is where relative paths begin.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault of the text.
    pub fn parse(text: &str, file: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let written: written::Written = serde_saphyr::from_str(text).map_err(|fault| {
            let (line, column) = fault.location().map_or((0, 0), |place| (place.line(), place.column()));
            let text = fault.without_snippet().to_string();
            let place = format!(" at line {line}, column {column}");
            let text = text.strip_suffix(&place).unwrap_or(&text).to_owned();
            ConfigError { file: file.to_owned(), faults: vec![Fault { line, column, text }] }
        })?;
        check::check(written, file, environment)
    }
}

/// What is wrong with an agent.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Every fault found.
    pub faults: Vec<Fault>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1; 0 when it concerns the whole file.
    pub line: u64,
    /// Column from 1.
    pub column: u64,
    /// What was found, what is allowed, and a hint.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            match fault.line {
                0 => write!(f, "{}: {}", self.file.display(), fault.text)?,
                line => write!(f, "{}:{line}:{}: {}", self.file.display(), fault.column, fault.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
