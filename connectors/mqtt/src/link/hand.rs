//! The writing half: a value published where a device takes it, and what the device says then where its point is. A capability,
//! not a feature of a link: whoever holds a [`Hand`] can move a machine. It is meant for one holder, the agent's gate.
//!
//! A connection of its own, CleanSession 1 (`[MQTT-3.1.2-6]`), for one order: what tells the state is subscribed and granted before
//! anything is published, so that no answer can be missed. What the device says is read as the link reads it (`routes`): JSON,
//! CBOR, seals, Sparkplug.
//!
//! A broker that has a message is no device that did something: only the device's own word counts.

use super::routes::{Received, Routes, Unsaid};
use super::subscriptions::Subscriptions;
use crate::PlanFault;
use crate::config::{LinkConfig, PACKET_BYTES_MAX};
use crate::encode::encode;
use crate::wire::{self, Broken, Client, Event, EventLoop, Publish, QoS, Receipt, Setup};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Clock, LinkFault, OpenSeal, SystemClock};
use tally_model::{DeviceSpec, PointId, PointSpec, Value};
use tokio::time::{Instant, timeout_at};

/// Subscriptions, acknowledgements, requests for births, one message, DISCONNECT.
const REQUESTS_MAX: usize = 256;
/// For DISCONNECT.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(200);

/// Why a device was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandFault {
    /// Nothing was sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The device does not take such a value. Nothing was sent.
    #[error("{0}")]
    Type(String),
    /// The broker said no (MQTT 5 alone can).
    #[error("the broker said no: {0}")]
    Refused(String),
    /// It was sent, and the line broke or the broker was silent: nobody knows.
    #[error("the broker did not acknowledge the message: {0}")]
    Unknown(String),
}

/// The right to publish for one point.
pub struct Hand {
    client: Client,
    event_loop: EventLoop,
    subscriptions: Subscriptions,
    routes: Routes,
    device: DeviceSpec,
    point: PointSpec,
    clock: SystemClock,
    is_up: bool,
    /// Messages that are not on the wire yet.
    unsent: usize,
    /// What the device said, or what the broker had kept of it.
    known: Option<Value>,
    /// What it said since it was told something.
    answer: Option<Value>,
    is_told: bool,
    /// The broker's answer to our message.
    acknowledged: Option<Result<(), String>>,
}

impl Hand {
    /// Connects, and listens for `point` of `device`. `client_id` is not that of the link. A broker that lets us publish and not
    /// subscribe is refused: nobody would know what came of it.
    ///
    /// # Errors
    /// [`LinkFault`]; nothing was published.
    pub async fn open(
        device: &DeviceSpec,
        point: &PointId,
        client_id: &str,
        seals: Option<Arc<dyn OpenSeal>>,
        until: Instant,
    ) -> Result<Self, LinkFault> {
        let refused = |fault: PlanFault| LinkFault::Refused(fault.to_string());
        let unknown = || LinkFault::Refused(format!("device `{}` has no point `{point}`", device.id));
        let point = device.points.iter().find(|known| known.id == *point).cloned().ok_or_else(unknown)?;
        let device = DeviceSpec { points: vec![point.clone()], templates: Vec::new(), ..device.clone() };
        let LinkConfig { login, devices, .. } =
            LinkConfig::try_new(vec![device.clone()], client_id).map_err(refused)?;
        let routes = Routes::new(&devices, seals, Instant::now());
        let setup = Setup { login, clean: true, will: None, incoming_bytes_max: PACKET_BYTES_MAX };
        let (client, event_loop) = wire::open(setup, REQUESTS_MAX);
        let mut hand = Self {
            client,
            event_loop,
            subscriptions: Subscriptions::default(),
            routes,
            device,
            point,
            clock: SystemClock::default(),
            is_up: false,
            unsent: 0,
            known: None,
            answer: None,
            is_told: false,
            acknowledged: None,
        };
        while !hand.is_up {
            let step = timeout_at(until, hand.step()).await;
            step.unwrap_or_else(|_| Err(LinkFault::Line("the broker does not answer".to_owned())))?;
        }
        Ok(hand)
    }

    /// What the point holds: what the broker kept of it, else the device's next word; `None` when it says nothing until then.
    pub async fn look(&mut self, until: Instant) -> Option<Value> {
        while self.known.is_none() {
            timeout_at(until, self.step()).await.ok()?.ok()?;
        }
        self.known.clone()
    }

    /// Tells the device a value, once: QoS 1 and not retained, for a command is for now; a Sparkplug metric by a DCMD (for one of the
    /// edge node itself NCMD) with QoS 0, as Sparkplug 3.0 wants it. Returns when the broker has it.
    ///
    /// # Errors
    /// [`HandFault`]; the device may have taken it after [`HandFault::Unknown`] alone.
    pub async fn write(&mut self, value: &Value, until: Instant) -> Result<(), HandFault> {
        let (topic, payload, qos) = self.message(value, until).await?;
        self.known = None;
        self.is_told = true;
        self.publish(&topic, qos, payload).map_err(|fault| HandFault::NotSent(fault.to_string()))?;
        while self.unsent > 0 || (qos != QoS::AtMostOnce && self.acknowledged.is_none()) {
            let unknown = |fault: String| HandFault::Unknown(fault);
            let step = timeout_at(until, self.step()).await.map_err(|_| unknown("it was silent".to_owned()))?;
            step.map_err(|fault| unknown(fault.to_string()))?;
        }
        tracing::info!(device = %self.device.id, point = %self.point.id, topic, %value, "value published");
        self.acknowledged.take().unwrap_or(Ok(())).map_err(HandFault::Refused)
    }

    /// What the device said since it was told, as soon as `is_wanted` is content, else its last word when the time is over.
    pub async fn answer(&mut self, is_wanted: impl Fn(&Value) -> bool + Send, until: Instant) -> Option<Value> {
        while !self.answer.as_ref().is_some_and(&is_wanted) {
            match timeout_at(until, self.step()).await {
                Ok(Ok(())) => {}
                _ => break,
            }
        }
        self.answer.clone()
    }

    /// Leaves.
    pub async fn close(mut self) {
        self.event_loop.say_goodbye(&self.client, FAREWELL_TIME_MAX).await;
    }

    /// Topic, payload and QoS. An edge node of Sparkplug must have been born: its birth says which type the metric has.
    async fn message(&mut self, value: &Value, until: Instant) -> Result<(String, Vec<u8>, QoS), HandFault> {
        if let Some(command) = &self.point.options.command {
            let payload = encode(&self.point, value).map_err(|fault| HandFault::Type(fault.to_string()))?;
            return Ok((command.topic.clone(), payload, QoS::AtLeastOnce));
        }
        loop {
            match self.routes.metric_command(&self.device.id, &self.point.id, value, self.clock.now()) {
                Ok((topic, payload)) => return Ok((topic, payload, QoS::AtMostOnce)),
                Err(Unsaid::Type(fault)) => return Err(HandFault::Type(fault)),
                Err(Unsaid::Unborn(fault)) => {
                    let step = timeout_at(until, self.step()).await.map_err(|_| HandFault::NotSent(fault.clone()))?;
                    step.map_err(|fault| HandFault::NotSent(fault.to_string()))?;
                }
            }
        }
    }

    fn publish(&mut self, topic: &str, qos: QoS, payload: Vec<u8>) -> Result<(), LinkFault> {
        self.client.publish(topic, qos, false, payload).map_err(line)?;
        self.unsent += 1;
        Ok(())
    }

    /// The next event of the connection.
    async fn step(&mut self) -> Result<(), LinkFault> {
        match self.event_loop.poll().await.map_err(|Broken { fault, .. }| fault)? {
            Event::Connected { .. } => self.subscriptions.ask(&self.client, self.routes.topics()),
            Event::Subscribing(packet_id) => self.subscriptions.sent(packet_id),
            Event::Subscribed { packet_id, granted } => {
                if let Some((topic, reason)) = self.subscriptions.refused_by(packet_id, granted).into_iter().next() {
                    return Err(LinkFault::Refused(format!("the broker does not give us `{topic}`: {reason}")));
                }
                if self.subscriptions.are_answered() {
                    self.is_up = true;
                    for (topic, payload) in self.routes.listen_from(Instant::now(), self.clock.now()) {
                        self.publish(&topic, QoS::AtMostOnce, payload)?;
                    }
                }
            }
            Event::Publishing(_) => self.unsent = self.unsent.saturating_sub(1),
            Event::Acknowledged { refusal, .. } => self.acknowledged = Some(refusal.map_or(Ok(()), Err)),
            Event::Message(publish) => self.hear(&publish)?,
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, publish: &Publish) -> Result<(), LinkFault> {
        if publish.qos != QoS::AtMostOnce {
            let receipt = Receipt { packet_id: publish.packet_id, qos: publish.qos };
            self.client.acknowledge(receipt).map_err(line)?;
        }
        let received = self.routes.receive(publish, self.clock.now(), Instant::now());
        let Some(Received { batches, command, .. }) = received else { return Ok(()) };
        if let Some((topic, payload)) = command {
            self.publish(&topic, QoS::AtMostOnce, payload)?;
        }
        let samples = batches.into_iter().flat_map(|batch| batch.samples);
        let said = samples.filter(|sample| sample.point == self.point.id).filter_map(|sample| sample.outcome.ok());
        for value in said {
            // What the broker had kept (`[MQTT-3.3.1-8]`) is of before.
            if self.is_told && !publish.retain {
                self.answer = Some(value.clone());
            }
            self.known = Some(value);
        }
        Ok(())
    }
}

fn line(fault: impl std::fmt::Display) -> LinkFault {
    LinkFault::Line(fault.to_string())
}
