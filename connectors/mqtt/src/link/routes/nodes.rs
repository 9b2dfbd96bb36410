//! Sparkplug edge nodes that are read: one watch for each, whichever devices of the mapping read it.

use super::{Received, batches};
use crate::Plan;
use crate::sparkplug::Topic;
use crate::sparkplug::listen::{NodeWatch, Unsaid, Wanted};
use crate::wire::Publish;
use std::time::Duration;
use tally_connector_api::{Batch, HistoricalBatch};
use tally_model::{DeviceId, DeviceSpec, MqttQos, NoValue, PointId, Timestamp, Value};
use tokio::time::Instant;

pub(super) struct NodeRoute {
    watch: NodeWatch,
    qos: MqttQos,
    silent_after: Duration,
    /// That it cannot be followed was logged; its next birth ends it.
    complained: bool,
}

/// What all devices want of one edge node.
struct Gathered<'p> {
    name: (&'p str, &'p str),
    wanted: Vec<Wanted>,
    qos: MqttQos,
    silent_after: Duration,
}

/// The edge nodes of all devices, each once.
pub(super) fn of(devices: &[(DeviceSpec, Plan)], now: Instant) -> Vec<NodeRoute> {
    let mut nodes: Vec<Gathered<'_>> = Vec::new();
    for (device, plan) in devices {
        for node in &plan.nodes {
            let wanted = node.metrics.iter().map(|(of, metric, point)| Wanted {
                device: device.id.clone(),
                point: point.clone(),
                of: of.clone(),
                metric: metric.clone(),
            });
            let name = (node.group.as_str(), node.edge_node.as_str());
            match nodes.iter_mut().find(|known| known.name == name) {
                Some(known) => {
                    known.wanted.extend(wanted);
                    known.qos = plan.qos.max(known.qos);
                    known.silent_after = plan.silent_after.min(known.silent_after);
                }
                None => nodes.push(Gathered {
                    name,
                    wanted: wanted.collect(),
                    qos: plan.qos,
                    silent_after: plan.silent_after,
                }),
            }
        }
    }
    let route = |Gathered { name: (group, edge_node), wanted, qos, silent_after }| NodeRoute {
        watch: NodeWatch::new(group, edge_node, wanted, now),
        qos,
        silent_after,
        complained: false,
    };
    nodes.into_iter().map(route).collect()
}

impl NodeRoute {
    pub(super) fn filters(&self) -> impl Iterator<Item = (String, MqttQos)> + use<> {
        let qos = self.qos;
        self.watch.filters().into_iter().map(move |filter| (filter, qos))
    }

    pub(super) fn is_of(&self, topic: &Topic<'_>) -> bool {
        self.watch.is_of(topic)
    }

    pub(super) fn receive(
        &mut self,
        topic: &Topic<'_>,
        publish: &Publish,
        received: Timestamp,
        now: Instant,
    ) -> Received {
        // Nothing of an edge node is retained (tck-id-payloads-nbirth-retain and its kin): what is, is from another time.
        if publish.retain {
            return Received::default();
        }
        let heard = self.watch.hear(topic, &publish.payload, received, now);
        match heard.fault {
            Some(fault) if !self.complained => {
                self.complained = true;
                tracing::warn!(%topic, fault, "births are asked for; logged once until there is one");
            }
            None if self.complained && !heard.samples.is_empty() => self.complained = false,
            _ => {}
        }
        let command = if heard.wants_birth { self.watch.ask(now, received) } else { None };
        let history = batches(heard.historical).into_iter();
        let history = history.map(|Batch { device, samples, .. }| HistoricalBatch { device, samples }).collect();
        Received { batches: batches(heard.samples), history, command }
    }

    /// `None` when the point is not one of this edge node.
    pub(super) fn command(
        &self,
        device: &DeviceId,
        point: &PointId,
        value: &Value,
        at: Timestamp,
    ) -> Option<Result<(String, Vec<u8>), Unsaid>> {
        self.watch.command(device, point, value, at)
    }

    /// The connection is new; gives the request for births.
    pub(super) fn listen_from(&mut self, now: Instant, at: Timestamp) -> Option<(String, Vec<u8>)> {
        self.watch.listen_from(now);
        self.watch.ask(now, at)
    }

    pub(super) fn ask_again(&mut self, now: Instant, at: Timestamp) -> Option<(String, Vec<u8>)> {
        self.watch.ask_again(now, at)
    }

    pub(super) fn fall_silent(&mut self, now: Instant, at: Timestamp) -> Vec<Batch> {
        batches(self.watch.fall_silent(self.silent_after, now, at))
    }

    pub(super) fn refuse(&self, filter: &str, at: Timestamp) -> Vec<Batch> {
        if !self.watch.filters().iter().any(|own| own == filter) {
            return Vec::new();
        }
        batches(self.watch.without_value(NoValue::Refused, at, |_| true))
    }
}
