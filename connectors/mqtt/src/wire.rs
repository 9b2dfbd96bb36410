//! One MQTT connection on the wire: socket, TLS, packets, pings. The packets of both versions (3.1.1 and 5) are read and
//! written by rumqttc; the connection itself is ours (`docs/decisions/007-mqtt-client.md` says why). What must survive a
//! connection is nobody's business here.
//!
//! A [`Client`] asks, the [`EventLoop`] carries out and tells. [`EventLoop::poll`] may be dropped and called again: nothing
//! is lost by it.

mod codec;
mod driver;
mod hello;
mod ids;
mod socket;
mod v4;
mod v5;

use bytes::{Bytes, BytesMut};
use tally_connector_api::LinkFault;
use tally_model::{LinkSecurity, MqttVersion};
use tokio::sync::mpsc;

pub(crate) use codec::Granted;
pub(crate) use driver::EventLoop;
pub(crate) use rumqttc::QoS;

use crate::config::Login;

/// How one connection is made.
pub(crate) struct Setup {
    pub login: Login,
    /// Whether the broker forgets what it knew of us (`[MQTT-3.1.2-6]`); otherwise it keeps our session (`[MQTT-3.1.2-5]`).
    pub clean: bool,
    pub will: Option<Will>,
    /// Larger packets end the connection, or (MQTT 5) are not sent to us.
    pub incoming_bytes_max: usize,
}

/// What the broker says when it loses us.
#[derive(Clone)]
pub(crate) struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
}

/// What is asked of a connection.
#[derive(Debug)]
pub(super) enum Request {
    Publish { topic: String, qos: QoS, retain: bool, payload: Bytes },
    Subscribe(Vec<(String, QoS)>),
    Unsubscribe(String),
    Acknowledge(Receipt),
    Disconnect,
}

/// A message that came, to be acknowledged on the connection it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub packet_id: u16,
    pub qos: QoS,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publish {
    pub topic: String,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// 0 with QoS 0.
    pub packet_id: u16,
}

/// What happened on a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// The broker let us in.
    Connected {
        session_present: bool,
        /// How the connection is secured.
        security: LinkSecurity,
    },
    /// A message.
    Message(Publish),
    /// The broker has our message; with the reason when it refuses it (MQTT 5 only).
    Acknowledged {
        packet_id: u16,
        refusal: Option<String>,
    },
    /// The broker's answers to the filters of a SUBSCRIBE, in their order.
    Subscribed {
        packet_id: u16,
        granted: Vec<Granted>,
    },
    Unsubscribed,
    /// The broker will not send the message of this id again (QoS 2).
    Released(u16),
    Pong,
    /// Our oldest PUBLISH goes out under this id, 0 with QoS 0.
    Publishing(u16),
    /// Our oldest SUBSCRIBE goes out under this id.
    Subscribing(u16),
    Pinging,
    /// DISCONNECT is on the wire.
    Disconnected,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Broken {
    pub fault: LinkFault,
    /// Over a message that is too large to receive. As long as the broker keeps our session it would send it again.
    pub is_too_large: bool,
}

impl From<LinkFault> for Broken {
    fn from(fault: LinkFault) -> Self {
        Self { fault, is_too_large: false }
    }
}

/// The connection takes nothing more: it is gone, or its queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes nothing more")]
pub(crate) struct Full;

/// A connection that is not made yet, with room for `requests_max` requests.
pub(crate) fn open(setup: Setup, requests_max: usize) -> (Client, EventLoop) {
    let (sender, requests) = mpsc::channel(requests_max);
    (Client { requests: sender }, EventLoop::new(setup, requests))
}

/// Every packet of a broker in `bytes`, and the fault that ends them, in words: for [`crate::fuzzing`].
pub fn packets(version: MqttVersion, bytes: &[u8], packet_bytes_max: usize) -> Vec<String> {
    let (mut inbox, mut said) = (BytesMut::from(bytes), Vec::new());
    loop {
        match codec::read(version, &mut inbox, packet_bytes_max) {
            Ok(Some(packet)) => said.push(format!("{packet:?}")),
            Ok(None) => return said,
            Err(broken) => {
                said.push(broken.fault.to_string());
                return said;
            }
        }
    }
}

/// Asks one connection. A request of a connection that is gone is refused, never carried over to the next.
#[derive(Clone)]
pub(crate) struct Client {
    requests: mpsc::Sender<Request>,
}

impl Client {
    pub(crate) fn publish(
        &self,
        topic: impl Into<String>,
        qos: QoS,
        retain: bool,
        payload: impl Into<Bytes>,
    ) -> Result<(), Full> {
        self.ask(Request::Publish { topic: topic.into(), qos, retain, payload: payload.into() })
    }

    pub(crate) fn subscribe(&self, filters: Vec<(String, QoS)>) -> Result<(), Full> {
        self.ask(Request::Subscribe(filters))
    }

    pub(crate) fn unsubscribe(&self, topic: impl Into<String>) -> Result<(), Full> {
        self.ask(Request::Unsubscribe(topic.into()))
    }

    /// PUBACK, or PUBREC for a message with QoS 2.
    pub(crate) fn acknowledge(&self, receipt: Receipt) -> Result<(), Full> {
        self.ask(Request::Acknowledge(receipt))
    }

    pub(crate) fn disconnect(&self) -> Result<(), Full> {
        self.ask(Request::Disconnect)
    }

    fn ask(&self, request: Request) -> Result<(), Full> {
        self.requests.try_send(request).map_err(|_| Full)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection to nobody.
    pub(crate) fn connection(requests_max: usize) -> (Client, EventLoop) {
        let login = Login {
            host: "127.0.0.1".into(),
            port: 1,
            tls: None,
            version: MqttVersion::V311,
            client_id: "test".into(),
            user: None,
            password: None,
        };
        open(Setup { login, clean: true, will: None, incoming_bytes_max: 1_000 }, requests_max)
    }

    #[tokio::test]
    async fn a_request_of_a_connection_that_is_gone_is_refused() {
        let (client, event_loop) = connection(1);
        assert_eq!(client.unsubscribe("a"), Ok(()));
        assert_eq!(client.unsubscribe("b"), Err(Full));
        drop(event_loop);
        assert_eq!(client.disconnect(), Err(Full));
    }
}
