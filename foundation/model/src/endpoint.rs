//! Where a device is reached: the `connect:` line of a mapping.

mod modbus;
mod mqtt;

pub use modbus::{ModbusLine, Parity, SerialLine};
pub use mqtt::MqttBroker;

use modbus::modbus;
use mqtt::mqtt;
use std::fmt;
use std::path::PathBuf;

/// Why a `connect:` text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Not a URL at all.
    #[error("`{0}` is not a URL: {1}")]
    NotAUrl(String, String),
    /// A scheme no connector speaks.
    #[error("no connector speaks `{0}`; known are {known}", known = Endpoint::SCHEMES.join(", "))]
    Scheme(String),
    /// A URL without a host.
    #[error("`{0}` names no host")]
    NoHost(String),
    /// A serial endpoint without a serial line.
    #[error("`{0}` names no serial line; write for example `modbus+rtu:///dev/ttyUSB0?baud=19200&unit=3`")]
    NoSerialLine(String),
    /// A query parameter nobody reads.
    #[error("unknown parameter `{found}`; allowed: {allowed}")]
    Parameter {
        /// What was written.
        found: String,
        /// What may be written.
        allowed: &'static str,
    },
    /// A parameter with a value that makes no sense.
    #[error("`{key}={found}` makes no sense: {expected}")]
    ParameterValue {
        /// Parameter name.
        key: &'static str,
        /// What was written.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
}

/// A checked endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `modbus+tcp://host:port?unit=1` and its relatives, see [`ModbusLine`]; default unit 1.
    Modbus {
        /// What it is reached over; several units may share it.
        line: ModbusLine,
        /// Unit identifier 0–255 (Modbus Messaging on TCP/IP V1.0b §4.4.2.2), on serial lines 1–247 (Modbus over
        /// Serial Line V1.02 §2.2).
        unit: u8,
    },
    /// `opc.tcp://host:port/path`, default port 4840.
    OpcUa {
        /// The endpoint URL as written.
        url: String,
    },
    /// `mqtt://host:port` or `mqtts://host:port`, see [`MqttBroker`].
    Mqtt(MqttBroker),
    /// `replay:path/to/file.csv`: recorded readings played back, relative to the mapping file.
    Replay {
        /// The CSV file.
        file: PathBuf,
    },
}

impl Endpoint {
    /// The schemes a mapping may use.
    pub const SCHEMES: &'static [&'static str] = &[
        "modbus+tcp://",
        "modbus+tls://",
        "modbus+rtu://",
        "modbus+rtu+tcp://",
        "modbus+ascii://",
        "modbus+ascii+tcp://",
        "opc.tcp://",
        "mqtt://",
        "mqtts://",
        "replay:",
    ];

    /// Reads a `connect:` text.
    ///
    /// # Errors
    /// [`EndpointFault`] with what was found and what is allowed.
    pub fn parse(text: &str) -> Result<Self, EndpointFault> {
        if let Some(path) = text.strip_prefix("replay:") {
            return Ok(Self::Replay { file: PathBuf::from(path) });
        }
        let url = url::Url::parse(text).map_err(|fault| EndpointFault::NotAUrl(text.to_owned(), fault.to_string()))?;
        let host = || url.host_str().map(str::to_owned).ok_or_else(|| EndpointFault::NoHost(text.to_owned()));
        if let Some(kind) = url.scheme().strip_prefix("modbus+") {
            return modbus(&url, text, kind);
        }
        match url.scheme() {
            "opc.tcp" => {
                host()?;
                no_parameters(&url)?;
                Ok(Self::OpcUa { url: text.to_owned() })
            }
            scheme @ ("mqtt" | "mqtts") => mqtt(&url, host()?, scheme == "mqtts"),
            other => Err(EndpointFault::Scheme(other.to_owned())),
        }
    }
}

fn no_parameters(url: &url::Url) -> Result<(), EndpointFault> {
    match url.query_pairs().next() {
        Some((key, _)) => Err(EndpointFault::Parameter { found: key.into_owned(), allowed: "none" }),
        None => Ok(()),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modbus { line, unit } if line.serial().is_some() => write!(f, "{line}&unit={unit}"),
            Self::Modbus { line, unit } => write!(f, "{line}?unit={unit}"),
            Self::OpcUa { url } => f.write_str(url),
            Self::Mqtt(broker) => write!(f, "{broker}"),
            Self::Replay { file } => write!(f, "replay:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_registered_ports() {
        assert_eq!(Endpoint::parse("mqtt://broker").unwrap(), Endpoint::Mqtt(MqttBroker::plain("broker", 1883)));
        assert_eq!(Endpoint::parse("mqtts://broker").unwrap().to_string(), "mqtts://broker:8883");
    }

    #[test]
    fn the_version_of_mqtt_is_a_parameter() {
        for text in ["mqtt://broker:1883?version=5", "mqtts://broker:1?version=5", "mqtt://broker:1883"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse("mqtt://b?version=3.1.1").unwrap().to_string(), "mqtt://b:1883");
        assert!(matches!(Endpoint::parse("mqtt://b?version=4"), Err(EndpointFault::ParameterValue { .. })));
        assert!(matches!(Endpoint::parse("mqtt://b?qos=1"), Err(EndpointFault::Parameter { .. })));
    }

    #[test]
    fn faults_name_what_was_found() {
        assert!(matches!(Endpoint::parse("http://x"), Err(EndpointFault::Scheme(s)) if s == "http"));
        assert!(matches!(Endpoint::parse("press"), Err(EndpointFault::NotAUrl(..))));
    }
}
