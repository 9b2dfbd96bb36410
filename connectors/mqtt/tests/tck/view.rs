//! What was recorded, taken apart.

use crate::common::recorder::Seen;
use rumqttc::{Packet, QoS, SubscribeFilter};
use std::time::Instant;
use tally_connector_mqtt::sparkplug::{MessageType, Payload, Topic};

/// One connection.
pub struct Connection {
    pub server: u16,
    pub began: Instant,
    pub others_open: Vec<u16>,
    pub ended: Option<Instant>,
    pub clean_session: bool,
    pub level: String,
    pub will: Option<(String, Vec<u8>, QoS, bool)>,
    pub filters: Vec<SubscribeFilter>,
    pub said: Vec<Said>,
    pub told: Vec<(Instant, String, Vec<u8>)>,
    pub disconnect: Option<Instant>,
    /// Names of packets, in order.
    pub order: Vec<&'static str>,
}

/// One PUBLISH of the edge node.
pub struct Said {
    pub at: Instant,
    pub topic: String,
    pub group: String,
    pub kind: MessageType,
    pub edge_node: String,
    pub device: Option<String>,
    pub qos: QoS,
    pub retain: bool,
    pub payload: Payload,
}

impl Connection {
    pub fn new(seen: &Seen) -> Self {
        let mut new = Self {
            server: seen.server,
            began: seen.began,
            others_open: seen.others_open.clone(),
            ended: seen.ended,
            clean_session: false,
            level: String::new(),
            will: None,
            filters: Vec::new(),
            said: Vec::new(),
            told: seen.told.clone(),
            disconnect: None,
            order: Vec::new(),
        };
        for (at, packet) in &seen.packets {
            new.order.push(match packet {
                Packet::Connect(_) => "CONNECT",
                Packet::Subscribe(_) => "SUBSCRIBE",
                Packet::Publish(_) => "PUBLISH",
                Packet::Disconnect => "DISCONNECT",
                _ => continue,
            });
            new.add(*at, packet);
        }
        new
    }

    fn add(&mut self, at: Instant, packet: &Packet) {
        match packet {
            Packet::Connect(connect) => {
                (self.clean_session, self.level) = (connect.clean_session, format!("{:?}", connect.protocol));
                let will = connect.last_will.clone();
                self.will = will.map(|will| (will.topic, will.message.to_vec(), will.qos, will.retain));
            }
            Packet::Subscribe(subscribe) => self.filters.extend(subscribe.filters.iter().cloned()),
            Packet::Publish(publish) => {
                let topic = Topic::parse(&publish.topic).unwrap_or_else(|| panic!("`{}` is no topic", publish.topic));
                self.said.push(Said {
                    at,
                    topic: publish.topic.clone(),
                    group: topic.group.to_owned(),
                    kind: topic.kind,
                    edge_node: topic.edge_node.to_owned(),
                    device: topic.device.map(str::to_owned),
                    qos: publish.qos,
                    retain: publish.retain,
                    payload: Payload::parse(&publish.payload).unwrap(),
                });
            }
            Packet::Disconnect => self.disconnect = Some(at),
            _ => {}
        }
    }

    pub fn will_payload(&self) -> Option<Payload> {
        self.will.as_ref().and_then(|(_, payload, ..)| Payload::parse(payload).ok())
    }

    pub fn of(&self, kind: MessageType) -> impl Iterator<Item = &Said> {
        self.said.iter().filter(move |said| said.kind == kind)
    }
}
