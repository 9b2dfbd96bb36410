//! From topics to devices and points; who was heard when, and what was said about it. Time comes in as an argument.
//!
//! A topic belongs to an edge node ([`nodes`]), else to the points that name it, else to the templates it fits ([`made`]):
//! a point that is described is not made a second time.

mod made;
mod nodes;

use crate::Plan;
use crate::decode::{Decoded, decode_message};
use crate::sparkplug::Topic;
pub(super) use crate::sparkplug::listen::Unsaid;
use crate::wire::{Publish, QoS};
use made::Made;
use nodes::NodeRoute;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, HistoricalBatch, OpenSeal, down_sample};
use tally_model::{DeviceId, DeviceSpec, MqttQos, NoValue, PointId, PointSpec, Quality, Sample, Timestamp, Value};
use tokio::time::Instant;

pub(super) struct Routes {
    routes: Vec<Route>,
    /// Topic to places in `routes`: devices may share a topic.
    by_topic: HashMap<String, Vec<usize>>,
    made: Made,
    nodes: Vec<NodeRoute>,
    /// What is subscribed: the highest QoS that a device wants of a topic.
    filters: BTreeMap<String, MqttQos>,
    /// Devices that seal their payloads, and who opens them.
    sealed: HashSet<DeviceId>,
    seals: Option<Arc<dyn OpenSeal>>,
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

/// What came of a message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Received {
    /// One for each device that listens to the topic.
    pub batches: Vec<Batch>,
    /// Values of the past.
    pub history: Vec<HistoricalBatch>,
    /// What is to be said: topic and payload.
    pub command: Option<(String, Vec<u8>)>,
}

impl Routes {
    pub(super) fn new(devices: &[(DeviceSpec, Plan)], seals: Option<Arc<dyn OpenSeal>>, now: Instant) -> Self {
        let sealed =
            devices.iter().filter(|(device, _)| device.mqtt.sealed.is_some()).map(|(device, _)| device.id.clone());
        let mut new = Self {
            sealed: sealed.collect(),
            seals,
            routes: Vec::new(),
            by_topic: HashMap::new(),
            made: Made::new(devices),
            nodes: nodes::of(devices, now),
            filters: BTreeMap::new(),
        };
        for (device, plan) in devices {
            for planned in &plan.topics {
                new.subscribe(&planned.topic, plan.qos);
                new.add(&planned.topic, Route::new(device.id.clone(), &planned.points, plan.silent_after, now));
            }
            plan.templates.iter().for_each(|planned| new.subscribe(&planned.filter, plan.qos));
        }
        for (filter, qos) in new.nodes.iter().flat_map(NodeRoute::filters).collect::<Vec<_>>() {
            new.subscribe(&filter, qos);
        }
        new
    }

    fn subscribe(&mut self, filter: &str, qos: MqttQos) {
        let wanted = self.filters.entry(filter.to_owned()).or_insert(qos);
        *wanted = qos.max(*wanted);
    }

    fn add(&mut self, topic: &str, route: Route) {
        self.by_topic.entry(topic.to_owned()).or_default().push(self.routes.len());
        self.routes.push(route);
    }

    /// What is to be subscribed, every filter once.
    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, QoS)> {
        self.filters.iter().map(|(filter, qos)| (filter.as_str(), wire(*qos)))
    }

    /// What comes of a message; `None` when nobody listens to its topic.
    pub(super) fn receive(&mut self, publish: &Publish, received: Timestamp, now: Instant) -> Option<Received> {
        if let Some(topic) = Topic::parse(&publish.topic)
            && let Some(node) = self.nodes.iter_mut().find(|node| node.is_of(&topic))
        {
            return Some(node.receive(&topic, publish, received, now));
        }
        if !self.by_topic.contains_key(&publish.topic) {
            for (device, points, silent_after) in self.made.points_for(&publish.topic)? {
                self.add(&publish.topic, Route::new(device, &points, silent_after, now));
            }
        }
        let places = self.by_topic.get(&publish.topic).map_or(&[][..], Vec::as_slice);
        let batch = |place: &usize| {
            let route = self.routes.get_mut(*place)?;
            let seals = self.sealed.contains(&route.device).then_some(self.seals.as_deref());
            route.receive(publish, received, now, seals)
        };
        Some(Received { batches: places.iter().filter_map(batch).collect(), ..Received::default() })
    }

    /// The link is up: silence counts from now, and edge nodes are asked who they are. Gives what is to be said.
    pub(super) fn listen_from(&mut self, now: Instant, at: Timestamp) -> Vec<(String, Vec<u8>)> {
        for route in &mut self.routes {
            route.last_heard = now;
        }
        self.nodes.iter_mut().filter_map(|node| node.listen_from(now, at)).collect()
    }

    /// Requests for births that were not answered, again.
    pub(super) fn ask_again(&mut self, now: Instant, at: Timestamp) -> Vec<(String, Vec<u8>)> {
        self.nodes.iter_mut().filter_map(|node| node.ask_again(now, at)).collect()
    }

    /// The command of Sparkplug that wants the metric of this point to be `value`: topic and payload.
    ///
    /// # Errors
    /// [`Unsaid`].
    pub(super) fn metric_command(
        &self,
        device: &DeviceId,
        point: &PointId,
        value: &Value,
        at: Timestamp,
    ) -> Result<(String, Vec<u8>), Unsaid> {
        let said = self.nodes.iter().find_map(|node| node.command(device, point, value, at));
        said.unwrap_or_else(|| Err(Unsaid::Type(format!("`{point}` of `{device}` is no metric of Sparkplug"))))
    }

    /// One `Timeout` for every point of a topic that has been silent for too long, once per silence.
    pub(super) fn fall_silent(&mut self, now: Instant, at: Timestamp) -> Vec<Batch> {
        let silent = |route: &&mut Route| !route.told && now.duration_since(route.last_heard) >= route.silent_after;
        let routes = self.routes.iter_mut().filter(silent).map(|route| route.tell(NoValue::Timeout, at));
        routes.chain(self.nodes.iter_mut().flat_map(|node| node.fall_silent(now, at))).collect()
    }

    /// The broker does not give us what `filter` stands for.
    pub(super) fn refuse(&mut self, filter: &str, at: Timestamp) -> Vec<Batch> {
        let places = self.by_topic.get(filter).map_or(&[][..], Vec::as_slice);
        let batch = |place: &usize| self.routes.get_mut(*place).map(|route| route.tell(NoValue::Refused, at));
        let of_nodes = self.nodes.iter().flat_map(|node| node.refuse(filter, at));
        places.iter().filter_map(batch).chain(of_nodes).collect()
    }

    /// The link is down: what the points that were made say. The others are in the mapping.
    pub(super) fn made_are_down(&self, at: Timestamp) -> Vec<Batch> {
        let made = self.routes.iter().filter(|route| self.made.has(&route.device, &route.points));
        made.map(|route| route.without_value(NoValue::LinkDown, at)).collect()
    }
}

/// One batch for each device, in the order in which they come up.
fn batches(samples: Vec<(DeviceId, Sample)>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (device, sample) in samples {
        match batches.iter_mut().find(|batch| batch.device == device) {
            Some(batch) => batch.samples.push(sample),
            None => batches.push(Batch { device, samples: vec![sample], origin: None }),
        }
    }
    batches
}

impl Route {
    fn new(device: DeviceId, points: &[PointSpec], silent_after: Duration, now: Instant) -> Self {
        let points = points.iter().map(|spec| Listener { spec: spec.clone(), complained: false }).collect();
        Self { device, points, silent_after, last_heard: now, told: false }
    }

    /// `seals`: present for a device that seals its payloads; what is inside is who can open them. `None` comes of a message that
    /// was taken already.
    fn receive(
        &mut self,
        publish: &Publish,
        received: Timestamp,
        now: Instant,
        seals: Option<Option<&dyn OpenSeal>>,
    ) -> Option<Batch> {
        self.last_heard = now;
        self.told = false;
        let (mut payload, mut seal) = (Cow::Borrowed(&publish.payload[..]), None);
        if let Some(seals) = seals {
            let opened = seals.map(|seals| seals.open(&self.device, &publish.payload, received));
            match opened {
                Some(Ok(Some(inside))) => {
                    payload = Cow::Owned(inside);
                    seal = Some(Arc::<[u8]>::from(&publish.payload[..]));
                }
                Some(Ok(None)) => return None,
                // Whoever opens seals counts it and says why.
                Some(Err(_)) | None => return Some(self.without_value(NoValue::Nonsense, received)),
            }
        }
        let decoded = decode_message(self.points.iter().map(|point| &point.spec), &payload, received);
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
            sample.seal.clone_from(&seal);
            sample
        });
        let samples = samples.collect();
        Some(Batch { samples, device: self.device.clone(), origin: None })
    }

    /// All points get the same reason, and nothing more is said until the next message.
    fn tell(&mut self, reason: NoValue, at: Timestamp) -> Batch {
        self.told = true;
        tracing::debug!(device = %self.device, points = self.points.len(), %reason, "told once, until it speaks again");
        self.without_value(reason, at)
    }

    fn without_value(&self, reason: NoValue, at: Timestamp) -> Batch {
        let samples = self.points.iter().map(|point| down_sample(&point.spec, reason, at));
        // The link says where it came from.
        Batch { device: self.device.clone(), samples: samples.collect(), origin: None }
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

const fn wire(qos: MqttQos) -> QoS {
    match qos {
        MqttQos::AtMostOnce => QoS::AtMostOnce,
        MqttQos::AtLeastOnce => QoS::AtLeastOnce,
        MqttQos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::spec;
    use crate::plan::plan;
    use crate::plan::tests::device;
    use bytes::Bytes;

    const AT: Timestamp = Timestamp::from_micros(1_000_000);

    fn routes(now: Instant) -> Routes {
        let device = device(vec![spec("t", "hall/climate#/t"), spec("raw", "hall/raw")]);
        let plan = plan(&device).unwrap();
        Routes::new(&[(device, plan)], None, now)
    }

    fn message(topic: &str, payload: &str) -> Publish {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Publish { topic: topic.to_owned(), payload, qos: QoS::AtLeastOnce, retain: false, packet_id: 1 }
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
            routes.receive(&retained, AT, Instant::now()).unwrap().batches[0].samples[0].quality
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
        let mut careful = second;
        careful.qos = MqttQos::ExactlyOnce;
        let mut routes = Routes::new(&[(one, first), (two, careful)], None, Instant::now());
        assert_eq!(routes.topics().collect::<Vec<_>>(), [("x", QoS::ExactlyOnce)], "once, with the higher QoS");
        let batches = routes.receive(&message("x", r#"{"a":1,"b":2}"#), AT, Instant::now()).unwrap().batches;
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[1].samples[0].outcome, Ok(Value::Integer(2)));
        assert!(routes.receive(&message("y", "1"), AT, Instant::now()).is_none());
        assert_eq!(routes.refuse("x", AT).len(), 2);
    }

    #[test]
    fn points_are_made_as_topics_speak() {
        let template = |id: &str, at: &str| {
            let topic = at.split_once('#').map_or(at, |(topic, _)| topic);
            tally_model::PointTemplate::try_new(id, topic, spec("p", at)).unwrap()
        };
        let mut device = device(vec![spec("known", "hall/press-01/climate#/t")]);
        device.templates = vec![template("{m}_t", "hall/{m}/climate#/t"), template("{m}_h", "hall/{m}/climate#/h")];
        device.mqtt.points_max = 4;
        let plan = plan(&device).unwrap();
        let mut routes = Routes::new(&[(device, plan)], None, Instant::now());
        assert_eq!(routes.topics().count(), 2);
        let mut heard = |topic: &str| {
            let received = routes.receive(&message(topic, r#"{"t":1,"h":2}"#), AT, Instant::now());
            let samples = received.map(|received| received.batches.into_iter().flat_map(|batch| batch.samples));
            samples.map(|samples| samples.map(|sample| sample.point.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(heard("hall/press-01/climate"), Some(vec!["known".into()]), "what is described is not made");
        assert_eq!(heard("hall/press-02/climate"), Some(vec!["press_02_t".into(), "press_02_h".into()]));
        assert_eq!(heard("hall/press_02/climate"), Some(vec![]), "another topic would give the same ids");
        assert_eq!(heard("hall/3/climate"), Some(vec!["_3_t".into(), "_3_h".into()]));
        assert_eq!(heard("hall/4/climate"), Some(vec![]), "four points are enough");
        assert_eq!(heard("hall/press-02/climate"), Some(vec!["press_02_t".into(), "press_02_h".into()]));
        assert_eq!(heard("hall/press-02/other"), None);
        let down = routes.made_are_down(AT);
        assert_eq!(down.iter().map(|batch| batch.samples.len()).sum::<usize>(), 4);
    }
}
