//! From points to topics: what one device makes us subscribe to. Nothing connects here.

use crate::PlanFault;
use crate::sparkplug::listen::check_names;
use std::fmt;
use std::time::Duration;
use tally_model::{Address, DeviceId, DeviceSpec, Endpoint, MqttBroker, MqttQos, PointId, PointSpec, PointTemplate};

/// Longest topic in bytes (MQTT 3.1.1 §1.5.3: strings carry a 16-bit length).
pub(crate) const TOPIC_BYTES_MAX: usize = 65_535;

/// A sensor that says nothing for this long is told as silent even when it is read fast.
pub(crate) const SILENCE_MIN: Duration = Duration::from_secs(30);

/// What is subscribed for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which device.
    pub device: DeviceId,
    /// The broker.
    pub broker: MqttBroker,
    /// Of the subscriptions.
    pub qos: MqttQos,
    /// Without a message for this long a topic's points get one "did not answer in time".
    pub silent_after: Duration,
    /// In file order of their first point, each topic once.
    pub topics: Vec<PlannedTopic>,
    /// Points that are made while it speaks, by the filter that is subscribed for them.
    pub templates: Vec<PlannedTemplates>,
    /// Most points that are made.
    pub points_max: u16,
    /// Sparkplug edge nodes.
    pub nodes: Vec<PlannedNode>,
}

/// Templates that look into the messages of the same topics.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTemplates {
    /// What is subscribed, with `+` for each name.
    pub filter: String,
    /// In file order.
    pub templates: Vec<PointTemplate>,
}

/// One edge node with the metrics that are points.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// Its group.
    pub group: String,
    /// Its name.
    pub edge_node: String,
    /// In file order: its device (`None` for the edge node itself), the metric, the point.
    pub metrics: Vec<(Option<String>, String, PointSpec)>,
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
    let Endpoint::Mqtt(broker) = &device.endpoint else {
        return Err(PlanFault::Endpoint { device: device.id.clone(), endpoint: device.endpoint.to_string() });
    };
    let mut plan = Plan {
        device: device.id.clone(),
        broker: broker.clone(),
        qos: device.mqtt.qos,
        silent_after: device.every.saturating_mul(10).max(SILENCE_MIN),
        topics: Vec::new(),
        templates: Vec::new(),
        points_max: device.mqtt.points_max,
        nodes: Vec::new(),
    };
    device.points.iter().try_for_each(|point| plan.add(point))?;
    device.templates.iter().try_for_each(|template| plan.add_template(template))?;
    Ok(plan)
}

impl Plan {
    fn add(&mut self, point: &PointSpec) -> Result<(), PlanFault> {
        match &point.address {
            Address::Mqtt { topic, .. } | Address::MqttCbor { topic, .. } => {
                check_topic(topic).map_err(|reason| topic_fault(&point.id, topic, reason))?;
                match self.topics.iter_mut().find(|planned| planned.topic == *topic) {
                    Some(planned) => planned.points.push(point.clone()),
                    None => self.topics.push(PlannedTopic { topic: topic.clone(), points: vec![point.clone()] }),
                }
                Ok(())
            }
            Address::Sparkplug { group, edge_node, device, metric } => {
                self.add_metric((group, edge_node), device.as_ref(), metric, point)
            }
            other => Err(PlanFault::Address { point: point.id.clone(), address: other.clone() }),
        }
    }

    fn add_metric(
        &mut self,
        (group, edge_node): (&String, &String),
        device: Option<&String>,
        metric: &str,
        point: &PointSpec,
    ) -> Result<(), PlanFault> {
        let names = [group, edge_node].into_iter().chain(device).map(String::as_str);
        check_names(names).map_err(|reason| PlanFault::Name { point: point.id.clone(), reason })?;
        let metric = (device.cloned(), metric.to_owned(), point.clone());
        match self.nodes.iter_mut().find(|node| node.group == *group && node.edge_node == *edge_node) {
            Some(node) => node.metrics.push(metric),
            None => {
                let (group, edge_node) = (group.clone(), edge_node.clone());
                self.nodes.push(PlannedNode { group, edge_node, metrics: vec![metric] });
            }
        }
        Ok(())
    }

    fn add_template(&mut self, template: &PointTemplate) -> Result<(), PlanFault> {
        let filter = template.filter();
        // What stands between the names must do as a topic.
        let plain = filter.replace('+', "x");
        check_topic(&plain).map_err(|reason| topic_fault(&template.point.id, &filter, reason))?;
        match self.templates.iter_mut().find(|planned| planned.filter == filter) {
            Some(planned) => planned.templates.push(template.clone()),
            None => self.templates.push(PlannedTemplates { filter, templates: vec![template.clone()] }),
        }
        Ok(())
    }
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
        let metrics: usize = self.nodes.iter().map(|node| node.metrics.len()).sum();
        let points = metrics + self.topics.iter().map(|topic| topic.points.len()).sum::<usize>();
        write!(
            f,
            "{} ({}): {points} points in {} topics; the sensors decide when they speak; told as silent after {:?}",
            self.device,
            self.broker,
            self.topics.len(),
            self.silent_after,
        )?;
        let qos = self.qos.number();
        self.topics.iter().try_for_each(|topic| write!(f, "\n  subscribe QoS {qos} {topic}"))?;
        for planned in &self.templates {
            let ids: Vec<_> = planned.templates.iter().map(PointTemplate::id).collect();
            let (filter, most) = (&planned.filter, self.points_max);
            write!(f, "\n  subscribe QoS {qos} {filter}: {} for each topic, {most} points at most", ids.join(" "))?;
        }
        for PlannedNode { group, edge_node, metrics } in &self.nodes {
            write!(f, "\n  subscribe QoS {qos} births, data and deaths of Sparkplug {group}/{edge_node}:")?;
            for (device, metric, point) in metrics {
                let of = device.as_ref().map(|device| format!("{device}#")).unwrap_or_default();
                write!(f, " {} ({of}{metric})", point.id)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for PlannedTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.topic)?;
        for point in &self.points {
            match &point.address {
                Address::Mqtt { pointer: Some(pointer), .. } => write!(f, " {} (#{pointer})", point.id)?,
                Address::MqttCbor { pointer, .. } => {
                    write!(f, " {} (CBOR #{})", point.id, pointer.as_deref().unwrap_or_default())?;
                }
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

    pub(crate) fn device(points: Vec<PointSpec>) -> DeviceSpec {
        DeviceSpec {
            every: Duration::from_secs(5),
            points,
            ..DeviceSpec::new(DeviceId::try_new("hall").unwrap(), Endpoint::parse("mqtt://127.0.0.1:1883").unwrap())
        }
    }

    #[test]
    fn points_of_one_topic_come_out_of_one_message() {
        let device = device(vec![spec("t", "hall/climate#/t"), spec("raw", "hall/raw"), spec("h", "hall/climate#/h")]);
        let plan = plan(&device).unwrap();
        assert_eq!(
            plan.to_string(),
            "hall (mqtt://127.0.0.1:1883): 3 points in 2 topics; the sensors decide when they speak; \
             told as silent after 50s\n  subscribe QoS 1 hall/climate: t (#/t) h (#/h)\n  subscribe QoS 1 hall/raw: raw (raw)"
        );
    }

    #[test]
    fn templates_and_edge_nodes_are_planned() {
        let at = |id: &str, topic: &str| PointTemplate::try_new(id, topic, spec("p", &format!("{topic}#/v"))).unwrap();
        let mut device = device(vec![
            spec("temp", "sparkplug:works/edge/press#Motor/Temp"),
            spec("up", "sparkplug:works/edge#Uptime"),
            spec("level", "cbor:tank#/level"),
        ]);
        device.templates = vec![at("{m}_t", "hall/{m}/climate"), at("{n}_h", "hall/{n}/climate")];
        device.mqtt.qos = MqttQos::ExactlyOnce;
        let plan = plan(&device).unwrap();
        assert_eq!(plan.templates.len(), 1, "one filter");
        assert_eq!(
            plan.to_string(),
            "hall (mqtt://127.0.0.1:1883): 3 points in 1 topics; the sensors decide when they speak; told as silent after \
             50s\n  subscribe QoS 2 tank: level (CBOR #/level)\n  subscribe QoS 2 hall/+/climate: {m}_t {n}_h for each \
             topic, 100 points at most\n  subscribe QoS 2 births, data and deaths of Sparkplug works/edge: temp \
             (press#Motor/Temp) up (Uptime)"
        );
        let stray = super::tests::device(vec![spec("p", "sparkplug:STATE/edge#x")]);
        assert!(matches!(super::plan(&stray), Err(PlanFault::Name { .. })));
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
