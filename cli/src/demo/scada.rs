//! SCADA's ear: what the agent publishes to the broker, heard like any SCADA system would.

use crate::answer::{Context, Fault};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the screen; a slow screen then slows down the listener, not the agent.
const MESSAGES_MAX: usize = 256;

/// A message: topic and JSON payload.
pub struct Message {
    pub topic: String,
    pub payload: Value,
}

pub struct Scada {
    messages: mpsc::Receiver<Message>,
}

impl Scada {
    /// Subscribes to everything the agent publishes.
    pub fn listen(broker: &str, stop: &CancellationToken) -> Result<Self, Fault> {
        let (host, port) = broker
            .strip_prefix("mqtt://")
            .and_then(|rest| rest.trim_end_matches('/').rsplit_once(':'))
            .ok_or_else(|| format!("{broker} is not mqtt://HOST:PORT"))?;
        let port = port.parse().context(format_args!("the port in {broker}"))?;
        let mut options = MqttOptions::new(format!("tally-demo-{}", std::process::id()), host, port);
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 20, 1 << 20);
        let (client, events) = AsyncClient::new(options, 16);
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        tokio::spawn(hear(client, events, sender, stop.clone()));
        Ok(Self { messages })
    }

    /// The next message.
    pub async fn next(&mut self) -> Result<Message, Fault> {
        self.messages.recv().await.ok_or_else(|| "the listener at the broker ended".into())
    }
}

async fn hear(
    client: AsyncClient,
    mut events: rumqttc::EventLoop,
    sender: mpsc::Sender<Message>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                if let Err(fault) = client.try_subscribe("tallystick/#", QoS::AtMostOnce) {
                    tracing::warn!(%fault, "cannot subscribe at the broker");
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let Ok(payload) = serde_json::from_slice(&publish.payload) else { continue };
                if sender.send(Message { topic: publish.topic, payload }).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::warn!(%fault, "the broker does not answer");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
