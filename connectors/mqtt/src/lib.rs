//! MQTT 3.1.1 and 5, both ways: sensors that publish to a broker are read ([`link`]), and the agent publishes to SCADA's
//! broker ([`MqttPublisher`], [`sparkplug::EdgeNode`]).
//!
//! Standards: *MQTT Version 3.1.1, OASIS Standard, 29 October 2014*, cited by section or by its own numbers
//! (`[MQTT-3.1.2-4]`), and *MQTT Version 5.0, OASIS Standard, 7 March 2019*. Packets are read and written by rumqttc;
//! connections and everything that must survive one live here (`docs/decisions/007-mqtt-client.md` says why).
//!
//! What the reading side promises:
//! - a message is acknowledged to the broker only after the agent took its batch, so a crash in between costs nothing;
//!   after a reconnect the broker may repeat messages (QoS 1 means at least once);
//! - a payload that makes no sense costs its own points and nobody else's;
//! - a silent sensor is told once per silence, a broken link once per outage.
//!
//! What the publishing side promises: [`Publisher::publish`] of a QoS 1 message returns when the broker said PUBACK,
//! and not before; whatever is cut in between, the message is sent again. Live values (QoS 0) are dropped and counted
//! when the broker is away or slow.
//!
//! [`Hand`] is the writing half: it tells a device one value, and hears what the device makes of it.

mod arrival;
mod config;
mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hearing;
mod link;
mod plan;
mod publish;
pub mod sparkplug;
mod wire;

pub use decode::{DecodeFault, PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX, decode};
pub use encode::{EncodeFault, encode};
pub use error::{PlanFault, PublishError};
pub use hearing::{Heard, HearingConfig, hear};
pub use link::{Hand, HandFault, link, link_with_seals};
pub use plan::{Plan, PlannedNode, PlannedTemplates, PlannedTopic, plan};
pub use publish::{Message, MqttPublisher, Publisher, PublisherConfig, QoS};
