//! Simulated PLCs and sensors, described in YAML, speaking real protocols over real sockets.
//!
//! One [`PlantState`] holds what every signal says at this moment. Little physical models and signal shapes write it
//! every 50 ms; the servers (Modbus TCP, OPC UA) and the MQTT publisher only read it; commands change it
//! (`repair`, `set`, `fault`, `drop`). Nothing here decides anything about triggers or orders: the simulator knows
//! the protocols and nothing of Tallystick. The YAML is described in `simulator/README.md`.

mod broker;
mod config;
mod error;
mod mqtt;
mod opcua;
mod recording;
mod state;

pub use broker::{Broker, start_broker};
pub use config::{DeviceConfig, MqttSensorConfig, OpcUaServerConfig, SignalConfig, SimConfig, SimConfigFault};
pub use error::SimError;
pub use mqtt::publish_mqtt;
pub use opcua::serve_opcua;
pub use state::{PlantState, SignalView};
