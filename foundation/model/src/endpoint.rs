//! Where a device is reached: the `connect:` line of a mapping.

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
    /// `modbus+tcp://host:port?unit=1`, default port 502, default unit 1.
    ModbusTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Unit identifier 0–255 (Modbus Messaging on TCP/IP V1.0b §4.4.2.2).
        unit: u8,
    },
    /// `opc.tcp://host:port/path`, default port 4840.
    OpcUa {
        /// The endpoint URL as written.
        url: String,
    },
    /// `mqtt://host:port`, default port 1883.
    Mqtt {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `replay:path/to/file.csv`: recorded readings played back, relative to the mapping file.
    Replay {
        /// The CSV file.
        file: PathBuf,
    },
}

impl Endpoint {
    /// The schemes a mapping may use.
    pub const SCHEMES: &'static [&'static str] = &["modbus+tcp://", "opc.tcp://", "mqtt://", "replay:"];

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
        match url.scheme() {
            "modbus+tcp" => {
                Ok(Self::ModbusTcp { host: host()?, port: url.port().unwrap_or(502), unit: modbus_unit(&url)? })
            }
            "opc.tcp" => {
                host()?;
                no_parameters(&url)?;
                Ok(Self::OpcUa { url: text.to_owned() })
            }
            "mqtt" => {
                no_parameters(&url)?;
                Ok(Self::Mqtt { host: host()?, port: url.port().unwrap_or(1883) })
            }
            other => Err(EndpointFault::Scheme(other.to_owned())),
        }
    }
}

fn modbus_unit(url: &url::Url) -> Result<u8, EndpointFault> {
    let mut unit = 1;
    for (key, value) in url.query_pairs() {
        if key != "unit" {
            return Err(EndpointFault::Parameter { found: key.into_owned(), allowed: "unit" });
        }
        unit = value.parse().map_err(|_| EndpointFault::ParameterValue {
            key: "unit",
            found: value.into_owned(),
            expected: "a unit identifier from 0 to 255",
        })?;
    }
    Ok(unit)
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
            Self::ModbusTcp { host, port, unit } => write!(f, "modbus+tcp://{host}:{port}?unit={unit}"),
            Self::OpcUa { url } => f.write_str(url),
            Self::Mqtt { host, port } => write!(f, "mqtt://{host}:{port}"),
            Self::Replay { file } => write!(f, "replay:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_registered_ports() {
        let modbus = Endpoint::parse("modbus+tcp://10.0.0.7").unwrap();
        assert_eq!(modbus, Endpoint::ModbusTcp { host: "10.0.0.7".into(), port: 502, unit: 1 });
        assert_eq!(Endpoint::parse("mqtt://broker").unwrap(), Endpoint::Mqtt { host: "broker".into(), port: 1883 });
    }

    #[test]
    fn faults_name_what_was_found() {
        assert!(matches!(Endpoint::parse("http://x"), Err(EndpointFault::Scheme(s)) if s == "http"));
        assert!(matches!(
            Endpoint::parse("modbus+tcp://x?unit=300"),
            Err(EndpointFault::ParameterValue { key: "unit", .. })
        ));
        assert!(matches!(Endpoint::parse("modbus+tcp://x?slave=3"), Err(EndpointFault::Parameter { .. })));
        assert!(matches!(Endpoint::parse("press"), Err(EndpointFault::NotAUrl(..))));
    }
}
