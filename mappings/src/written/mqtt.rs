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
}
