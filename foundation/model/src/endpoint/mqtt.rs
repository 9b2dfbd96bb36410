//! The broker an MQTT device publishes to.
//!
//! | scheme | over | default |
//! |---|---|---|
//! | `mqtt://HOST:PORT` | TCP | port 1883 |
//! | `mqtts://HOST:PORT` | TLS | port 8883 |
//!
//! Parameter: `version=3.1.1` (default) or `version=5`.

use super::{Endpoint, EndpointFault};
use crate::MqttVersion;
use std::fmt;

/// A broker. Everything that must be the same for devices that share a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MqttBroker {
    /// Host name or address; with TLS it must stand in the broker's certificate unless that is pinned.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is TLS.
    pub is_tls: bool,
    /// The version of MQTT that is spoken.
    pub version: MqttVersion,
}

impl MqttBroker {
    /// A broker without TLS, MQTT 3.1.1.
    #[must_use]
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, is_tls: false, version: MqttVersion::V311 }
    }
}

impl fmt::Display for MqttBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.is_tls { "mqtts" } else { "mqtt" }, self.host, self.port)?;
        match self.version {
            MqttVersion::V311 => Ok(()),
            MqttVersion::V5 => write!(f, "?version={}", self.version.word()),
        }
    }
}

pub(super) fn mqtt(url: &url::Url, host: String, is_tls: bool) -> Result<Endpoint, EndpointFault> {
    let mut version = MqttVersion::default();
    for (key, value) in url.query_pairs() {
        if key != "version" {
            return Err(EndpointFault::Parameter { found: key.into_owned(), allowed: "version" });
        }
        version = match value.as_ref() {
            "3.1.1" => MqttVersion::V311,
            "5" | "5.0" => MqttVersion::V5,
            _ => {
                return Err(EndpointFault::ParameterValue {
                    key: "version",
                    found: value.into_owned(),
                    expected: "3.1.1 or 5",
                });
            }
        };
    }
    let port = url.port().unwrap_or(if is_tls { 8883 } else { 1883 });
    Ok(Endpoint::Mqtt(MqttBroker { host, port, is_tls, version }))
}
