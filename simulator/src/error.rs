//! Why a simulated plant cannot start or go on.

use crate::SimConfigFault;

/// Why a simulated plant cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The YAML cannot be used.
    #[error(transparent)]
    Config(#[from] SimConfigFault),
    /// A server cannot listen, usually because the port is taken.
    #[error("cannot listen on {address} for {what}: {source}; is the port in use? Port 0 takes a free one")]
    Bind {
        /// Which device or server.
        what: String,
        /// Host and port.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The Modbus server failed.
    #[error("the Modbus server failed: {0}")]
    Modbus(String),
    /// The OPC UA server failed.
    #[error("the OPC UA server failed: {0}")]
    OpcUa(String),
    /// The MQTT publisher failed.
    #[error("the MQTT publisher failed: {0}")]
    Mqtt(String),
    /// The broker failed.
    #[error("the broker failed: {0}")]
    Broker(String),
}
