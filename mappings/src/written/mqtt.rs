//! `mqtt:` of a device or data sheet.

use schemars::JsonSchema;
use serde::Deserialize;

/// How the topics of an MQTT device are read.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MqttWritten {
    /// QoS of the subscriptions: 0 may lose messages, 1 repeats them until they are kept (default), 2 takes each once.
    #[schemars(range(min = 0, max = 2))]
    pub qos: Option<u8>,
    /// Most points that templates may make, 1 to 10000; default 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub points_max: Option<u16>,
    /// The device seals its payloads itself: what is not sealed with its key is no value.
    pub sealed: Option<SealedWritten>,
}

/// How a device seals its payloads.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SealedWritten {
    /// `cose`: COSE_Sign1 over CBOR, for addresses with `cbor:`. `jws`: JWS over JSON, for addresses with a JSON pointer.
    pub r#as: String,
    /// Its public key: a PEM file (P-256), relative to the plant file.
    pub key: String,
    /// A message that is older when it comes is no value, 1s to 1d; default 1min.
    pub age: Option<String>,
}
