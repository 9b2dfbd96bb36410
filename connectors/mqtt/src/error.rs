//! Why devices cannot be planned, why a connection ended, and why a message cannot be published.

use crate::config::PACKET_BYTES_MAX;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, mqttbytes};
use std::io;
use tally_connector_api::LinkFault;
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
    #[error("device `{device}` has another user or password than the link; one link is one login")]
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
    /// The publisher was stopped before the broker acknowledged. The broker may have the message or not.
    #[error("the publisher was stopped before the broker acknowledged the message")]
    Stopped,
}

/// Sorts what rumqttc says about the end of a connection: the line, a refusal, or nonsense.
pub(crate) fn link_fault(error: &ConnectionError) -> LinkFault {
    match error {
        ConnectionError::ConnectionRefused(code) => LinkFault::Refused(refusal(*code).to_owned()),
        ConnectionError::NotConnAck(packet) => LinkFault::Nonsense(format!("CONNACK was expected, came {packet:?}")),
        ConnectionError::NetworkTimeout => LinkFault::Line("the broker did not answer the connect in time".into()),
        ConnectionError::FlushTimeout => LinkFault::Line("the broker takes no more data".into()),
        ConnectionError::RequestsDone => LinkFault::Line("the client was closed".into()),
        ConnectionError::Io(fault) => io_fault(fault),
        ConnectionError::MqttState(state) => state_fault(state),
    }
}

/// CONNACK return codes (MQTT 3.1.1 §3.2.2.3, table 3.1).
fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "the broker refused with the code for success",
        ConnectReturnCode::RefusedProtocolVersion => "the broker does not speak MQTT 3.1.1 (CONNACK 1)",
        ConnectReturnCode::BadClientId => "the broker does not accept our client id (CONNACK 2)",
        ConnectReturnCode::ServiceUnavailable => "the broker is there but does not serve (CONNACK 3)",
        ConnectReturnCode::BadUserNamePassword => "the broker does not accept user name or password (CONNACK 4)",
        ConnectReturnCode::NotAuthorized => {
            "the broker does not let us in (CONNACK 5, not authorized): check user and password"
        }
    }
}

fn state_fault(error: &StateError) -> LinkFault {
    match error {
        StateError::Io(fault) => io_fault(fault),
        StateError::ConnectionAborted => LinkFault::Line("the broker closed the connection".into()),
        StateError::AwaitPingResp => LinkFault::Line("the broker did not answer a ping".into()),
        StateError::CollisionTimeout => LinkFault::Line("the broker does not acknowledge a message".into()),
        StateError::Deserialization(mqttbytes::Error::Io(fault)) => io_fault(fault),
        StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(bytes)) => LinkFault::Nonsense(format!(
            "a message of {bytes} bytes came, at most {PACKET_BYTES_MAX} can be received; limit the publisher, or the \
             broker with `max_packet_size`"
        )),
        other => LinkFault::Nonsense(other.to_string()),
    }
}

fn io_fault(fault: &io::Error) -> LinkFault {
    match fault.kind() {
        // The codec's own word for a connection that ends inside a packet: whoever answers does not speak MQTT.
        io::ErrorKind::Other => LinkFault::Nonsense(format!("the answer is not MQTT: {fault}")),
        _ => LinkFault::Line(fault.to_string()),
    }
}

/// Whether the connection ended because of one message that is too large to receive. As long as the broker keeps our
/// session it would send it again for ever.
pub(crate) fn is_too_large(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(_)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_classes_are_kept_apart() {
        let bad = ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword);
        assert!(matches!(link_fault(&bad), LinkFault::Refused(text) if text.contains("password")));
        let reset = ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(matches!(link_fault(&reset), LinkFault::Line(_)));
        let ping = ConnectionError::MqttState(StateError::AwaitPingResp);
        assert!(matches!(link_fault(&ping), LinkFault::Line(_)));
        let huge = StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded(99));
        let huge = ConnectionError::MqttState(huge);
        assert!(is_too_large(&huge) && !is_too_large(&ping));
        assert!(matches!(link_fault(&huge), LinkFault::Nonsense(text) if text.contains("99 bytes")));
    }
}
