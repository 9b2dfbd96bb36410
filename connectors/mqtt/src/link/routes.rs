//! From topics to devices and points; who was heard when, and what was said about it. Time comes in as an argument.

use crate::Plan;
use crate::decode::{Decoded, decode_message};
use rumqttc::Publish;
use std::collections::HashMap;
use std::time::Duration;
use tally_connector_api::Batch;
use tally_model::{DeviceId, DeviceSpec, NoValue, PointSpec, Quality, Sample, Timestamp};
use tokio::time::Instant;

pub(super) struct Routes {
    routes: Vec<Route>,
    /// Topic to places in `routes`: devices may share a topic.
    by_topic: HashMap<String, Vec<usize>>,
}

/// One topic of one device.
struct Route {
    device: DeviceId,
    points: Vec<Listener>,
    silent_after: Duration,
    last_heard: Instant,
    /// Silence or a refusal was told; the next message ends it.
    told: bool,
}

struct Listener {
    spec: PointSpec,
    /// Its payloads make no sense, which was logged once.
    complained: bool,
}

impl Routes {
    pub(super) fn new(devices: &[(DeviceSpec, Plan)], now: Instant) -> Self {
        let mut new = Self { routes: Vec::new(), by_topic: HashMap::new() };
        for (device, plan) in devices {
            for planned in &plan.topics {
                new.by_topic.entry(planned.topic.clone()).or_default().push(new.routes.len());
                let points = planned.points.iter().map(|spec| Listener { spec: spec.clone(), complained: false });
                new.routes.push(Route {
                    device: device.id.clone(),
                    points: points.collect(),
                    silent_after: plan.silent_after,
                    last_heard: now,
                    told: false,
                });
            }
        }
        new
    }

    /// Every topic once.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.by_topic.keys().map(String::as_str)
    }

    /// One batch per device that listens to the message's topic; `None` when nobody does.
    pub(super) fn receive(&mut self, publish: &Publish, received: Timestamp, now: Instant) -> Option<Vec<Batch>> {
        let places = self.by_topic.get(&publish.topic)?;
        let batch = |place: &usize| self.routes.get_mut(*place).map(|route| route.receive(publish, received, now));
        Some(places.iter().filter_map(batch).collect())
    }

    /// The link is up: silence counts from now.
    pub(super) fn listen_from(&mut self, now: Instant) {
        for route in &mut self.routes {
            route.last_heard = now;
        }
    }

    /// One `Timeout` for every point of a topic that has been silent for too long, once per silence.
    pub(super) fn fall_silent(&mut self, now: Instant, at: Timestamp) -> Vec<Batch> {
        let silent = |route: &&mut Route| !route.told && now.duration_since(route.last_heard) >= route.silent_after;
        self.routes.iter_mut().filter(silent).map(|route| route.tell(NoValue::Timeout, at)).collect()
    }

    /// The broker does not give us `topic`.
    pub(super) fn refuse(&mut self, topic: &str, at: Timestamp) -> Vec<Batch> {
        let places = self.by_topic.get(topic).map_or(&[][..], Vec::as_slice);
        let batch = |place: &usize| self.routes.get_mut(*place).map(|route| route.tell(NoValue::Refused, at));
        places.iter().filter_map(batch).collect()
    }
}

impl Route {
    fn receive(&mut self, publish: &Publish, received: Timestamp, now: Instant) -> Batch {
        self.last_heard = now;
        self.told = false;
        let decoded = decode_message(self.points.iter().map(|point| &point.spec), &publish.payload, received);
        let device = self.device.clone();
        let samples = self.points.iter_mut().zip(decoded).map(|(point, decoded)| {
            point.complain_once(&device, &publish.topic, &decoded);
            let is_of_unknown_age = publish.retain && !decoded.has_source_time;
            let mut sample = decoded.sample;
            // A retained message (`[MQTT-3.3.1-8]`) is the last known value; without a time of its own nobody knows
            // from when.
            if is_of_unknown_age && sample.quality == Quality::Good {
                sample.quality = Quality::Uncertain;
            }
            sample
        });
        Batch { samples: samples.collect(), device: self.device.clone() }
    }

    /// All points get the same reason, and nothing more is said until the next message.
    fn tell(&mut self, reason: NoValue, at: Timestamp) -> Batch {
        self.told = true;
        tracing::debug!(device = %self.device, points = self.points.len(), %reason, "told once, until it speaks again");
        let samples = self.points.iter().map(|point| Sample {
            point: point.spec.id.clone(),
            outcome: Err(reason),
            unit: point.spec.unit.clone(),
            quality: Quality::Bad,
            source_time: at,
            received: at,
        });
        Batch { device: self.device.clone(), samples: samples.collect() }
    }
}

impl Listener {
    fn complain_once(&mut self, device: &DeviceId, topic: &str, decoded: &Decoded) {
        let point = &self.spec.id;
        match &decoded.fault {
            Some(fault) if !self.complained => {
                self.complained = true;
                tracing::warn!(%device, %point, topic, %fault, "no value; logged once until there is one again");
            }
            None if self.complained => {
                self.complained = false;
                tracing::info!(%device, %point, topic, "there are values again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::spec;
    use crate::plan::plan;
    use crate::plan::tests::device;
    use rumqttc::QoS;
    use tally_model::Value;

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn routes(now: Instant) -> Routes {
        let device = device(vec![spec("t", "hall/climate#/t"), spec("raw", "hall/raw")]);
        let plan = plan(&device).unwrap();
        Routes::new(&[(device, plan)], now)
    }

    fn message(topic: &str, payload: &str) -> Publish {
        Publish::new(topic, QoS::AtLeastOnce, payload)
    }

    #[test]
    fn a_silence_is_told_once_and_each_topic_alone() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut routes = routes(start);
        // Every 5 s: silent after 50 s.
        assert!(routes.fall_silent(after(49), AT).is_empty());
        assert!(routes.receive(&message("hall/raw", "7"), AT, after(49)).is_some());
        let told = routes.fall_silent(after(50), AT);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].samples.len(), 1);
        assert_eq!(told[0].samples[0].point.as_str(), "t");
        assert_eq!(told[0].samples[0].outcome, Err(NoValue::Timeout));
        assert!(routes.fall_silent(after(98), AT).is_empty());
        assert_eq!(routes.fall_silent(after(99), AT)[0].samples[0].point.as_str(), "raw");
        assert!(routes.fall_silent(after(10_000), AT).is_empty());
        routes.receive(&message("hall/climate", "{\"t\":1}"), AT, after(10_000)).unwrap();
        assert_eq!(routes.fall_silent(after(10_050), AT).len(), 1, "a new silence is told again");
    }

    #[test]
    fn a_retained_value_without_a_time_is_uncertain() {
        let mut routes = routes(Instant::now());
        let mut quality = |payload: &str| {
            let retained = Publish { retain: true, ..message("hall/climate", payload) };
            routes.receive(&retained, AT, Instant::now()).unwrap()[0].samples[0].quality
        };
        assert_eq!(quality("{\"t\":1}"), Quality::Uncertain);
        assert_eq!(quality("{\"t\":1,\"timestamp\":1500}"), Quality::Good);
        assert_eq!(quality("{}"), Quality::Bad);
    }

    #[test]
    fn devices_may_share_a_topic_and_strangers_are_told_apart() {
        let (mut one, mut two) = (device(vec![spec("a", "x#/a")]), device(vec![spec("b", "x#/b")]));
        one.id = DeviceId::try_new("one").unwrap();
        two.id = DeviceId::try_new("two").unwrap();
        let plans = [plan(&one).unwrap(), plan(&two).unwrap()];
        let [first, second] = plans;
        let mut routes = Routes::new(&[(one, first), (two, second)], Instant::now());
        assert_eq!(routes.topics().collect::<Vec<_>>(), ["x"]);
        let batches = routes.receive(&message("x", r#"{"a":1,"b":2}"#), AT, Instant::now()).unwrap();
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[1].samples[0].outcome, Ok(Value::Integer(2)));
        assert!(routes.receive(&message("y", "1"), AT, Instant::now()).is_none());
        assert_eq!(routes.refuse("x", AT).len(), 2);
    }
}
