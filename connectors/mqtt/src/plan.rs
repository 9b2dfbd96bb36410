//! From points to topics: what one device makes us subscribe to. Nothing connects here.

use crate::PlanFault;
use std::fmt;
use std::time::Duration;
use tally_model::{Address, DeviceId, DeviceSpec, Endpoint, PointId, PointSpec};

/// Longest topic in bytes (MQTT 3.1.1 §1.5.3: strings carry a 16-bit length).
pub(crate) const TOPIC_BYTES_MAX: usize = 65_535;

/// A sensor that says nothing for this long is told as silent even when it is read fast.
pub(crate) const SILENCE_MIN: Duration = Duration::from_secs(30);

/// What is subscribed for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which device.
    pub device: DeviceId,
    /// Broker host.
    pub host: String,
    /// Broker port.
    pub port: u16,
    /// Without a message for this long a topic's points get one "did not answer in time".
    pub silent_after: Duration,
    /// In file order of their first point, each topic once.
    pub topics: Vec<PlannedTopic>,
}

/// One topic with the points that come out of its messages.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTopic {
    /// The topic, without wildcards.
    pub topic: String,
    /// In file order.
    pub points: Vec<PointSpec>,
}

/// Plans the subscriptions of `device`: all points of a topic come out of one message.
///
/// # Errors
/// [`PlanFault`] when the device is not reached over MQTT, or a point has no usable topic.
pub fn plan(device: &DeviceSpec) -> Result<Plan, PlanFault> {
    let Endpoint::Mqtt { host, port } = &device.endpoint else {
        return Err(PlanFault::Endpoint { device: device.id.clone(), endpoint: device.endpoint.to_string() });
    };
    let mut topics: Vec<PlannedTopic> = Vec::new();
    for point in &device.points {
        let topic = topic_of(point)?;
        match topics.iter_mut().find(|planned| planned.topic == topic) {
            Some(planned) => planned.points.push(point.clone()),
            None => topics.push(PlannedTopic { topic: topic.to_owned(), points: vec![point.clone()] }),
        }
    }
    let silent_after = device.every.saturating_mul(10).max(SILENCE_MIN);
    Ok(Plan { device: device.id.clone(), host: host.clone(), port: *port, silent_after, topics })
}

fn topic_of(point: &PointSpec) -> Result<&str, PlanFault> {
    let Address::Mqtt { topic, .. } = &point.address else {
        return Err(PlanFault::Address { point: point.id.clone(), address: point.address.clone() });
    };
    check_topic(topic).map_err(|reason| topic_fault(&point.id, topic, reason))?;
    Ok(topic)
}

fn topic_fault(point: &PointId, topic: &str, reason: &'static str) -> PlanFault {
    PlanFault::Topic { point: point.clone(), topic: topic.chars().take(80).collect(), reason }
}

/// Why `topic` cannot be the name of one topic (MQTT 3.1.1 §4.7).
pub(crate) fn check_topic(topic: &str) -> Result<(), &'static str> {
    match topic {
        // [MQTT-4.7.3-1]
        "" => Err("a topic has at least one character"),
        // [MQTT-4.7.1-1] and [MQTT-3.3.2-2]: wildcards belong into filters. One point is one value of one topic.
        _ if topic.contains(['+', '#']) => Err("wildcards are not allowed, one point is one value of one topic"),
        // [MQTT-4.7.3-2]
        _ if topic.contains('\0') => Err("a topic must not contain the character NUL"),
        // [MQTT-4.7.3-3]
        _ if topic.len() > TOPIC_BYTES_MAX => Err("a topic has at most 65535 bytes"),
        _ => Ok(()),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points: usize = self.topics.iter().map(|topic| topic.points.len()).sum();
        write!(
            f,
            "{} (broker {}:{}): {points} points in {} topics; the sensors decide when they speak; told as silent after {:?}",
            self.device,
            self.host,
            self.port,
            self.topics.len(),
            self.silent_after,
        )?;
        self.topics.iter().try_for_each(|topic| write!(f, "\n  {topic}"))
    }
}

impl fmt::Display for PlannedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscribe QoS 1 {}:", self.topic)?;
        for point in &self.points {
            match &point.address {
                Address::Mqtt { pointer: Some(pointer), .. } => write!(f, " {} (#{pointer})", point.id)?,
                _ => write!(f, " {} (raw)", point.id)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decode::tests::spec;
    use tally_model::Security;

    pub(crate) fn device(points: Vec<PointSpec>) -> DeviceSpec {
        DeviceSpec {
            id: DeviceId::try_new("hall").unwrap(),
            endpoint: Endpoint::parse("mqtt://127.0.0.1:1883").unwrap(),
            security: Security::default(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            registers_per_request_max: 125,
            gap_max: 0,
            modbus: Default::default(),
            opcua: Default::default(),
            points,
        }
    }

    #[test]
    fn points_of_one_topic_come_out_of_one_message() {
        let device = device(vec![spec("t", "hall/climate#/t"), spec("raw", "hall/raw"), spec("h", "hall/climate#/h")]);
        let plan = plan(&device).unwrap();
        assert_eq!(
            plan.to_string(),
            "hall (broker 127.0.0.1:1883): 3 points in 2 topics; the sensors decide when they speak; \
             told as silent after 50s\n  subscribe QoS 1 hall/climate: t (#/t) h (#/h)\n  subscribe QoS 1 hall/raw: raw (raw)"
        );
    }

    #[test]
    fn wildcards_and_other_protocols_are_refused() {
        for topic in ["hall/+", "hall/#", "", "hall\0", &"x".repeat(65_536)] {
            let mut point = spec("p", "x");
            point.address = Address::Mqtt { topic: topic.to_owned(), pointer: None };
            assert!(matches!(plan(&device(vec![point])), Err(PlanFault::Topic { .. })));
        }
        let mut modbus = spec("p", "x");
        modbus.address = Address::parse_modbus("holding:1").unwrap();
        assert!(matches!(plan(&device(vec![modbus])), Err(PlanFault::Address { .. })));
        let mut elsewhere = device(vec![]);
        elsewhere.endpoint = Endpoint::parse("opc.tcp://127.0.0.1:4840").unwrap();
        assert!(matches!(plan(&elsewhere), Err(PlanFault::Endpoint { .. })));
    }
}
