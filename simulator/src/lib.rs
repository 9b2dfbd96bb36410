//! Simulated PLCs and sensors, described in YAML, speaking real protocols over real sockets.
//!
//! One [`PlantState`] holds what every signal says at this moment, and everything that is wrong with the devices. Little
//! physical models and signal shapes write it every 50 ms, faults come by the file's plan; the servers (Modbus, OPC UA) and
//! the MQTT publisher only read it; commands change it (`repair`, `set`, `break`, `drop`). Nothing here decides anything about
//! triggers or orders: the simulator knows the protocols and nothing of Tallystick. The YAML is described in
//! `docs/operator/simulator.md`.

mod broker;
mod config;
mod control;
mod error;
mod fault;
mod identity;
mod modbus;
mod mqtt;
mod opcua;
mod recording;
mod run;
mod state;
mod stepper;

use std::time::Duration;

/// How often models and shapes move: faster than any mapping samples, slow enough to cost nothing.
pub const STEP: Duration = Duration::from_millis(50);

pub use broker::{Broker, start_broker};
pub use config::{DeviceConfig, MqttSensorConfig, OpcUaServerConfig, SignalConfig, SimConfig, SimConfigFault};
pub use error::SimError;
pub use fault::{ClockError, Defect, Flaw, Trouble, WireFault, Wrong};
pub use identity::{Identities, Identity};
pub use mqtt::publish_mqtt;
pub use opcua::{OpcUaOffer, OpcUaOptions, serve_opcua, serve_opcua_with};
pub use run::{SimHandle, run, run_with_socket};
pub use state::{PlantState, SignalView};
