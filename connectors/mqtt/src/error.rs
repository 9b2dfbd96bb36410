//! Why devices cannot be planned, and why a message cannot be published. Why a connection ended stands with its packets
//! (`wire`).

use tally_connector_api::tls::TlsFault;
use tally_model::{Address, DeviceId, PointId};

/// Why devices cannot be read as they are described. Found before anything connects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// The device is not reached over MQTT.
    #[error("device `{device}` is reached at `{endpoint}`, which is not MQTT; write `mqtt://host:port`")]
    Endpoint {
        /// Which device.
        device: DeviceId,
        /// Where it says it is.
        endpoint: String,
    },
    /// A link was asked for without devices.
    #[error("a link needs at least one device")]
    NoDevices,
    /// Devices of one link publish to different brokers.
    #[error("device `{device}` is reached at {found}, the link at {link}; one link is one broker")]
    OtherBroker {
        /// Which device.
        device: DeviceId,
        /// Its broker.
        found: String,
        /// The link's broker.
        link: String,
    },
    /// Devices of one link log in differently.
    #[error("device `{device}` has another user, password or certificate than the link; one link is one login")]
    OtherLogin {
        /// Which device.
        device: DeviceId,
    },
    /// A password without a user, which MQTT 3.1.1 cannot send (`[MQTT-3.1.2-22]`).
    #[error("device `{device}` has a password and no user; write `user:` beside `password:`")]
    PasswordWithoutUser {
        /// Which device.
        device: DeviceId,
    },
    /// A secure connection that cannot even be tried.
    #[error("device `{device}`: {fault}")]
    Tls {
        /// Which device.
        device: DeviceId,
        /// What is wrong with its certificates.
        fault: TlsFault,
    },
    /// A client id the broker could not remember us by.
    #[error("client id `{found}` cannot be used: {reason}; write for example `tally-line-1`")]
    ClientId {
        /// What was given.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A point has an address of another protocol.
    #[error("point `{point}`: `{address}` is not an MQTT address; write for example `hall/climate#/temperature`")]
    Address {
        /// Which point.
        point: PointId,
        /// What was written.
        address: Address,
    },
    /// A name of an edge node or of its device that Sparkplug does not allow.
    #[error("point `{point}`: {reason}")]
    Name {
        /// Which point.
        point: PointId,
        /// What is wrong with it.
        reason: String,
    },
    /// A topic that is not the name of one topic.
    #[error("point `{point}`: topic `{topic}` cannot be used: {reason}")]
    Topic {
        /// Which point.
        point: PointId,
        /// What was written, at most 80 characters of it.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Why a message was not published. What is not listed here is waited for: an absent broker is no error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic is not the name of one topic.
    #[error("topic `{topic}` cannot be published to: {reason}")]
    Topic {
        /// What was given, at most 80 characters of it.
        topic: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The payload is larger than we send.
    #[error("a payload for `{topic}` has {bytes} bytes, allowed are {bytes_max}")]
    TooLarge {
        /// Where it should go.
        topic: String,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// The broker does not take this message, and never will (MQTT 5; with MQTT 3.1.1 it drops it without a word).
    #[error("`{topic}`: {reason}")]
    Refused {
        /// Where it should have gone.
        topic: String,
        /// The broker's reason.
        reason: String,
    },
    /// The publisher was stopped before the broker acknowledged. The broker may have the message or not.
    #[error("the publisher was stopped before the broker acknowledged the message")]
    Stopped,
}
