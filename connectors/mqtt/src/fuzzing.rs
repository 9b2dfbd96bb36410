//! The readers behind the socket, for whoever tries them with bytes of any kind.

use crate::sparkplug::listen::{NodeWatch, Wanted};
use crate::sparkplug::{self, Commanded, MessageType, Topic};
use crate::wire::{Publish, QoS};
use tally_model::{Address, DeviceId, DeviceSpec, Encoding, PointId, PointSpec, Sample, Timestamp, Unit};
use tokio::time::Instant;

pub use crate::wire::packets;

/// What another edge node can say.
pub const KINDS: [MessageType; 6] = [
    MessageType::NodeBirth,
    MessageType::NodeData,
    MessageType::NodeDeath,
    MessageType::DeviceBirth,
    MessageType::DeviceData,
    MessageType::DeviceDeath,
];

/// What the link makes of the messages of one edge node `works`/`edge` and its device `press`, of which it wants the metrics
/// `speed` (a float), `on` (a flag) and `name` (a text) of both.
pub fn edge_node<'m>(messages: impl IntoIterator<Item = (MessageType, &'m [u8])>) -> Vec<Sample> {
    let (now, at) = (Instant::now(), Timestamp::from_micros(1_790_000_000_000_000));
    let mut watch = NodeWatch::new("works", "edge", wanted(), now);
    let mut samples = Vec::new();
    for (kind, payload) in messages {
        let of_device = matches!(kind, MessageType::DeviceBirth | MessageType::DeviceData | MessageType::DeviceDeath);
        let topic = Topic { group: "works", kind, edge_node: "edge", device: of_device.then_some("press") };
        let heard = watch.hear(&topic, payload, at, now);
        samples.extend(heard.samples.into_iter().chain(heard.historical).map(|(_, sample)| sample));
        if heard.wants_birth {
            let _ = watch.ask(now, at);
        }
    }
    samples
}

fn wanted() -> Vec<Wanted> {
    let metrics = [("speed", Encoding::F64), ("on", Encoding::Bool), ("name", Encoding::Text)];
    let all = [None, Some("press")].into_iter().flat_map(|of| metrics.map(|(metric, encoding)| (of, metric, encoding)));
    all.filter_map(|(of, metric, encoding)| {
        let address = Address::parse_mqtt("t").ok()?;
        let point = PointSpec::new(PointId::try_new(metric).ok()?, address, encoding, Unit::one());
        let device = DeviceId::try_new("line").ok()?;
        Some(Wanted { device, point, of: of.map(str::to_owned), metric: metric.to_owned() })
    })
    .collect()
}

/// The commands that the edge node `works`/`edge` of these devices reads in a DCMD to `device`, or in an NCMD.
pub fn commands(devices: &[DeviceSpec], device: Option<&str>, payload: &[u8]) -> Vec<Commanded> {
    let kind = if device.is_some() { MessageType::DeviceCommand } else { MessageType::NodeCommand };
    let topic = Topic { group: "works", kind, edge_node: "edge", device }.to_string();
    let payload = payload.to_vec().into();
    sparkplug::commanded(devices, &Publish { topic, payload, qos: QoS::AtMostOnce, retain: false, packet_id: 0 })
}
