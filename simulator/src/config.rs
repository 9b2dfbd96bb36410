//! The simulator's YAML: read, checked, ready to run. Checking connects to nothing.
//!
//! Limits: 1 MiB of YAML. All faults are reported at once, each with file, line and column.

mod check;
mod faults;
mod identity;
mod opcua;
mod signals;
mod written;

use crate::fault::ScheduledFlaw;
use crate::{Identities, OpcUaOptions};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Address, BitField, ByteOrder, DeviceId, Encoding, Endpoint, PointId, Secret, Value};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

/// Longest YAML in bytes: a plant of thousands of signals fits, a log file given by mistake does not.
const YAML_BYTES_MAX: u64 = 1 << 20;

/// A checked plant.
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// Same seed, same noise.
    pub(crate) seed: u64,
    pub(crate) models: BTreeMap<String, ModelConfig>,
    /// Port of an MQTT broker to run on 127.0.0.1 beside the devices.
    pub broker: Option<u16>,
    /// The devices in file order, ids unique.
    pub devices: Vec<DeviceConfig>,
}

/// One simulated device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceConfig {
    /// Its name.
    pub id: DeviceId,
    /// Where it is served: Modbus TCP and OPC UA listen there, MQTT publishes to the broker there.
    pub serve: Endpoint,
    /// How often it publishes (MQTT only).
    pub every: Duration,
    /// User names and passwords it accepts (OPC UA only); anonymous is always accepted unless there are users.
    pub users: Vec<(String, Secret)>,
    /// Folder of its certificates (Modbus over TLS, OPC UA); a temporary one without.
    pub pki: Option<PathBuf>,
    /// What it calls itself (Modbus only).
    pub identity: Identities,
    /// What its server offers and remembers (OPC UA only).
    pub opcua: OpcUaOptions,
    /// What will be wrong with it, and when.
    pub(crate) faults: Vec<ScheduledFlaw>,
    /// What it says, in file order, ids unique.
    pub signals: Vec<SignalConfig>,
}

/// One signal of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalConfig {
    /// Its name, the key into [`crate::PlantState`].
    pub id: PointId,
    /// Where it is served.
    pub address: Address,
    /// How its bytes are written (Modbus); [`Encoding::Auto`] on protocols that carry types themselves.
    pub encoding: Encoding,
    /// How its bytes lie (Modbus).
    pub order: ByteOrder,
    /// Bytes of a text (Modbus).
    pub length: u16,
    /// What a reader multiplies the raw number with: raw = (value − offset) ÷ scale.
    pub scale: f64,
    /// What a reader adds.
    pub offset: f64,
    /// Only these bits of a whole number (Modbus).
    pub bits: Option<BitField>,
    /// Names of numbers: the signal says the name, the wire carries the number.
    pub labels: Option<Arc<BTreeMap<i64, String>>>,
    pub(crate) source: Source,
}

/// An OPC UA server to run: everything of its device, and the socket it already listens on, so that port 0 works
/// and the address is known before the first client.
#[derive(Debug)]
pub struct OpcUaServerConfig {
    /// The device it serves.
    pub device: DeviceId,
    /// Already bound.
    pub listener: TcpListener,
    /// User names and passwords; empty means anonymous only.
    pub users: Vec<(String, Secret)>,
    /// What it serves; addresses are [`Address::OpcUa`].
    pub signals: Vec<SignalConfig>,
}

/// An MQTT sensor to run.
#[derive(Debug, Clone)]
pub struct MqttSensorConfig {
    /// The device.
    pub device: DeviceId,
    /// Broker host.
    pub host: String,
    /// Broker port.
    pub port: u16,
    /// How often it publishes.
    pub every: Duration,
    /// What it publishes; addresses are [`Address::Mqtt`]. Signals of one topic go into one message.
    pub signals: Vec<SignalConfig>,
}

/// Where a signal's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Constant(Value),
    Ramp {
        from: f64,
        per_second: f64,
        until: Option<f64>,
    },
    Sine {
        mean: f64,
        amplitude: f64,
        period: Duration,
    },
    Noise {
        mean: f64,
        spread: f64,
    },
    /// One after the other, each for `every`, round and round.
    Cycle {
        of: Vec<Value>,
        every: Duration,
    },
    /// Offsets and numbers of one recorded column, in time order; played round and round.
    Replay(Vec<(Duration, f64)>),
    Model(String),
}

/// A little physical model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelConfig {
    /// Says `healthy` when new and `worn` after `wears_out_in`; `noise` is the largest deviation.
    Wear { healthy: f64, worn: f64, wears_out_in: Duration, noise: f64 },
    /// Follows the wear of another model from `ambient` to `hot`, as slowly as `time_constant` says.
    Heating { ambient: f64, hot: f64, follows: String, time_constant: Duration },
}

/// What is wrong with a simulator file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimConfigFault {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, column (1-based; 0 when the whole file is meant) and what is wrong there.
    pub faults: Vec<(u64, u64, String)>,
}

impl fmt::Display for SimConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (line, column, text)) in self.faults.iter().enumerate() {
            let newline = if place == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{line}:{column}: {text}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for SimConfigFault {}

impl SimConfig {
    /// Reads and checks a file; `${NAME:-default}` and `env:NAME` are filled from the environment.
    ///
    /// # Errors
    /// [`SimConfigFault`] with every fault.
    pub fn load(file: &Path) -> Result<Self, SimConfigFault> {
        let whole = |text: String| SimConfigFault { file: file.to_owned(), faults: vec![(0, 0, text)] };
        let size = std::fs::metadata(file).map_err(|fault| whole(format!("cannot be read: {fault}")))?.len();
        if size > YAML_BYTES_MAX {
            return Err(whole(format!("has {size} bytes, allowed are {YAML_BYTES_MAX}; is this a simulator file?")));
        }
        // It may hold passwords of the devices that it plays.
        let text = std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|fault| whole(format!("cannot be read: {fault}")))?;
        Self::parse(&text, file, &|name| std::env::var(name).ok())
    }

    /// Checks `text`; `file` is named in faults and is where replayed CSV files are looked for; `environment` gives
    /// the value of a variable.
    ///
    /// # Errors
    /// [`SimConfigFault`] with every fault.
    pub fn parse(
        text: &str,
        file: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SimConfigFault> {
        let written: written::Plant = serde_saphyr::from_str(text).map_err(|fault| {
            let (line, column) = fault.location().map_or((0, 0), |place| (place.line(), place.column()));
            // Without the parser's own snippet and place: both are said by us.
            let text = fault.without_snippet().to_string();
            let place = format!(" at line {line}, column {column}");
            let what = text.strip_suffix(&place).unwrap_or(&text).to_owned();
            SimConfigFault { file: file.to_owned(), faults: vec![(line, column, what)] }
        })?;
        check::check(written, file, environment)
    }
}
