//! What an edge node says, and in which order. Pure: no socket, no clock; time comes in as an argument.
//!
//! ```text
//! unborn ── birth: NBIRTH (seq 0), DBIRTH of every living device ──► born ── samples: DBIRTH, DDATA, DDEATH
//!    ▲                                                                 │  rebirth: the same births again
//!    └────────────────────────── the session is over ◄─────────────────┘
//! ```
//! A device lives when at least one of its points is not "link down". It is born with all its points; a point that was
//! never read is null. The data type of a point comes from the mapping; where only the device knows (`auto`), from the
//! first value; when a later value does not fit (21, then 21.5), the type is widened and the device born again.
//!
//! Data is told by exception (tck-id-principles-rbe-recommended): a value, quality or reason equal to what was told last,
//! or within the point's deadband, is not told again. A birth tells the latest value in any case.

mod point;

use super::names::{MessageType, Name, Topic};
use super::payload::{Metric, MetricValue, Payload};
use super::value::{DataType, encode};
use crate::sparkplug::EdgeNodeFault;
use point::{Device, Known, Point};
use std::collections::{HashMap, HashSet};
use tally_model::{DeviceId, DeviceSpec, PointId, PointSpec, Sample, Timestamp};

/// Name of the metric that a host writes to ask for births (tck-id-topics-nbirth-rebirth-metric).
pub(crate) const REBIRTH: &str = "Node Control/Rebirth";

/// Name of the metric that ties a death to its birth.
pub(crate) const BD_SEQ: &str = "bdSeq";

/// Metrics in one data message: some 20 KiB. Births have them all, whatever their number.
const METRICS_PER_MESSAGE_MAX: usize = 1_000;

/// A message to send; QoS 0, not retained (tck-id-topics-nbirth-mqtt and its kin).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Out {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// Everything an edge node knows about its metrics.
pub(crate) struct Session {
    group: Name,
    edge_node: Name,
    devices: Vec<Device>,
    by_id: HashMap<DeviceId, usize>,
    bd_seq: u8,
    seq: u8,
    is_born: bool,
}

impl Session {
    /// A session nobody has heard of yet. Aliases count from 1 over all devices, in mapping order
    /// (tck-id-payloads-alias-uniqueness).
    pub(crate) fn try_new(group: Name, edge_node: Name, devices: &[DeviceSpec]) -> Result<Self, EdgeNodeFault> {
        check_cases(devices)?;
        let mut aliases = 1..;
        let mut point = |spec: &PointSpec| Point {
            name: spec.id.to_string(),
            alias: aliases.next().unwrap_or(u64::MAX),
            unit: spec.unit.to_string(),
            deadband: spec.deadband,
            kind: DataType::of_point(spec),
            last: None,
            told: None,
        };
        let devices: Vec<_> = devices
            .iter()
            .map(|device| Device {
                id: device.id.clone(),
                points: device.points.iter().map(&mut point).collect(),
                by_id: device.points.iter().enumerate().map(|(place, point)| (point.id.clone(), place)).collect(),
                is_born: false,
            })
            .collect();
        let by_id = devices.iter().enumerate().map(|(place, device)| (device.id.clone(), place)).collect();
        Ok(Self { group, edge_node, devices, by_id, bd_seq: 0, seq: 0, is_born: false })
    }

    /// The devices are others now, or described otherwise. What is known of points that stayed is kept, also what kind of
    /// values they have. The caller gives birth anew.
    pub(crate) fn describe(&mut self, devices: &[DeviceSpec]) -> Result<(), EdgeNodeFault> {
        let mut new = Self::try_new(self.group.clone(), self.edge_node.clone(), devices)?;
        for device in &mut new.devices {
            let Some(before) = self.by_id.get(&device.id).map(|place| &self.devices[*place]) else { continue };
            for (id, place) in &device.by_id {
                let Some(known) = before.by_id.get(id).map(|place| &before.points[*place]) else { continue };
                let point = &mut device.points[*place];
                let fits = |last: &Known| match (&last.outcome, point.kind) {
                    (Ok(value), Some(kind)) => encode(value, kind).is_some(),
                    _ => true,
                };
                point.last = known.last.clone().filter(fits);
                point.kind = point.kind.or(known.kind);
            }
        }
        (self.devices, self.by_id) = (new.devices, new.by_id);
        Ok(())
    }

    pub(crate) fn command_topic(&self) -> String {
        self.node_topic(MessageType::NodeCommand)
    }

    /// All commands to devices of ours (tck-id-message-flow-device-dcmd-subscribe).
    pub(crate) fn device_commands(&self) -> String {
        self.topic(MessageType::DeviceCommand, Some("+"))
    }

    /// The point behind a metric of a command, by name or by the alias of its birth; and its type, which a command need not repeat.
    pub(crate) fn metric_of(&self, device: &str, metric: &Metric) -> Option<(PointId, Option<DataType>)> {
        let device = self.devices.iter().find(|known| known.id.as_str() == device)?;
        let is_meant = |point: &&Point| match &metric.name {
            Some(name) => point.name == *name,
            None => metric.alias == Some(point.alias),
        };
        let point = device.points.iter().find(is_meant)?;
        Some((PointId::try_new(point.name.clone()).ok()?, point.kind))
    }

    /// A new connection begins: its NDEATH, which is the will of the CONNECT (tck-id-payloads-ndeath-will-message). It has
    /// nothing but the bdSeq (tck-id-topics-ndeath-payload).
    pub(crate) fn connect(&mut self, bd_seq: u8, now: Timestamp) -> Out {
        self.over();
        self.bd_seq = bd_seq;
        self.death(now)
    }

    /// NDEATH of this connection.
    pub(crate) fn death(&self, now: Timestamp) -> Out {
        let metric = Metric { timestamp: None, ..self.bd_seq_metric(now) };
        let payload = Payload { timestamp: Some(millis(now)), metrics: vec![metric], seq: None, ..Payload::default() };
        Out { topic: self.node_topic(MessageType::NodeDeath), payload: payload.to_bytes() }
    }

    /// The session is over: what was told counts no more.
    pub(crate) fn over(&mut self) {
        self.is_born = false;
        for device in &mut self.devices {
            device.is_born = false;
            device.points.iter_mut().for_each(|point| point.told = None);
        }
    }

    pub(crate) const fn is_born(&self) -> bool {
        self.is_born
    }

    /// NBIRTH and a DBIRTH for each living device; also the answer to a rebirth request
    /// (tck-id-operational-behavior-data-commands-rebirth-action-2).
    pub(crate) fn birth(&mut self, now: Timestamp) -> Vec<Out> {
        self.is_born = true;
        self.seq = 0;
        let rebirth = Metric {
            name: Some(REBIRTH.to_owned()),
            timestamp: Some(millis(now)),
            datatype: Some(DataType::Boolean.code()),
            value: Some(MetricValue::Boolean(false)),
            ..Metric::default()
        };
        let node = self.message(MessageType::NodeBirth, None, vec![self.bd_seq_metric(now), rebirth], now);
        let mut messages = vec![node];
        for place in 0..self.devices.len() {
            if self.devices[place].lives() {
                messages.push(self.device_birth(place, now));
            }
        }
        messages
    }

    /// Takes samples in; gives what is to be told of them.
    pub(crate) fn take(&mut self, device: &DeviceId, samples: &[Sample], now: Timestamp) -> Vec<Out> {
        let Some(&place) = self.by_id.get(device) else { return Vec::new() };
        let mut must_be_born = !self.devices[place].is_born;
        for sample in samples {
            must_be_born |= self.devices[place].take(sample);
        }
        match (self.is_born, self.devices[place].lives()) {
            (false, _) => Vec::new(),
            (true, false) => self.device_death(place, now).into_iter().collect(),
            (true, true) if must_be_born => vec![self.device_birth(place, now)],
            (true, true) => self.device_data(place, samples, now),
        }
    }

    /// Values of the past, marked as such; nothing of what is known now changes. `None` when nothing is left to say.
    pub(crate) fn history<'s>(
        &mut self,
        device: &DeviceId,
        samples: impl Iterator<Item = &'s Sample>,
        now: Timestamp,
    ) -> Option<Out> {
        let place = *self.by_id.get(device)?;
        if !(self.is_born && self.devices[place].is_born) {
            return None;
        }
        let device = &self.devices[place];
        let metrics = samples.filter_map(|sample| {
            let point = &device.points[*device.by_id.get(&sample.point)?];
            let known = Known { outcome: sample.outcome.clone(), quality: sample.quality, at: sample.source_time };
            // A type that was widened since holds the older values, too; what does not fit is nothing we ever said.
            Some(Metric { is_historical: Some(true), ..point.data(&known)? })
        });
        let metrics: Vec<_> = metrics.collect();
        if metrics.is_empty() {
            return None;
        }
        Some(self.message(MessageType::DeviceData, Some(place), metrics, now))
    }

    fn device_birth(&mut self, place: usize, now: Timestamp) -> Out {
        let device = &mut self.devices[place];
        device.is_born = true;
        let mut metrics: Vec<_> = device.points.iter_mut().map(|point| point.birth(now)).collect();
        sort(&mut metrics);
        self.message(MessageType::DeviceBirth, Some(place), metrics, now)
    }

    fn device_death(&mut self, place: usize, now: Timestamp) -> Option<Out> {
        if !std::mem::replace(&mut self.devices[place].is_born, false) {
            return None;
        }
        Some(self.message(MessageType::DeviceDeath, Some(place), Vec::new(), now))
    }

    fn device_data(&mut self, place: usize, samples: &[Sample], now: Timestamp) -> Vec<Out> {
        let device = &mut self.devices[place];
        let mut metrics = Vec::new();
        for sample in samples {
            let Some(&point) = device.by_id.get(&sample.point) else { continue };
            let known = Known { outcome: sample.outcome.clone(), quality: sample.quality, at: sample.source_time };
            metrics.extend(device.points[point].tell(known));
        }
        sort(&mut metrics);
        let mut messages = Vec::new();
        while !metrics.is_empty() {
            let rest = metrics.split_off(metrics.len().min(METRICS_PER_MESSAGE_MAX));
            let some = std::mem::replace(&mut metrics, rest);
            messages.push(self.message(MessageType::DeviceData, Some(place), some, now));
        }
        messages
    }

    /// Every message but NDEATH has the next number (tck-id-payloads-sequence-num-incrementing).
    fn message(&mut self, kind: MessageType, place: Option<usize>, metrics: Vec<Metric>, now: Timestamp) -> Out {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        let payload =
            Payload { timestamp: Some(millis(now)), metrics, seq: Some(u64::from(seq)), ..Payload::default() };
        let topic = match place.map(|place| self.devices[place].id.as_str()) {
            None => self.node_topic(kind),
            device => self.topic(kind, device),
        };
        Out { topic, payload: payload.to_bytes() }
    }

    /// INT64, as tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq has it; without an alias.
    fn bd_seq_metric(&self, now: Timestamp) -> Metric {
        Metric {
            name: Some(BD_SEQ.to_owned()),
            timestamp: Some(millis(now)),
            datatype: Some(DataType::Int64.code()),
            value: Some(MetricValue::Long(u64::from(self.bd_seq))),
            ..Metric::default()
        }
    }

    fn node_topic(&self, kind: MessageType) -> String {
        self.topic(kind, None)
    }

    fn topic(&self, kind: MessageType, device: Option<&str>) -> String {
        let (group, edge_node) = (self.group.as_str(), self.edge_node.as_str());
        Topic { group, kind, edge_node, device }.to_string()
    }
}

/// Chronological order (tck-id-operational-behavior-data-publish-dbirth-order); equal times stay in mapping order.
fn sort(metrics: &mut [Metric]) {
    metrics.sort_by_key(|metric| metric.timestamp);
}

/// Milliseconds since 1970; what is before counts as 1970, because the field has no sign.
pub(crate) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros().div_euclid(1_000)).unwrap_or(0)
}

/// Names that are equal but for their case confuse hosts (tck-id-case-sensitivity-sparkplug-ids, -metric-names).
fn check_cases(devices: &[DeviceSpec]) -> Result<(), EdgeNodeFault> {
    let mut seen = HashSet::new();
    for device in devices {
        if !seen.insert(device.id.as_str().to_lowercase()) {
            return Err(EdgeNodeFault::Case { what: "device", found: device.id.to_string(), place: String::new() });
        }
        let mut points = HashSet::new();
        for point in &device.points {
            if !points.insert(point.id.as_str().to_lowercase()) {
                let place = format!(" of device `{}`", device.id);
                return Err(EdgeNodeFault::Case { what: "point", found: point.id.to_string(), place });
            }
        }
    }
    Ok(())
}

/// Whether a command to the edge node asks for births (tck-id-operational-behavior-data-commands-ncmd-rebirth-name).
pub(crate) fn asks_for_rebirth(command: &Payload) -> bool {
    let is_rebirth =
        |metric: &Metric| metric.name.as_deref() == Some(REBIRTH) && metric.value == Some(MetricValue::Boolean(true));
    command.metrics.iter().any(is_rebirth)
}

#[cfg(test)]
mod tests;
