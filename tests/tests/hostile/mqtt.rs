//! What a broker carries: payloads of sensors, Sparkplug messages and commands that are bombs. Each costs its own point or nothing; the
//! press beside it is read on, and nothing is written.

use super::commands;
use serde_json::json;
use tally_connector_mqtt::sparkplug::{DataType, Metric, MetricValue, Payload};
use tally_tests::{Attacks, Ear, Manner, Mosquitto, Rogue, Site, eventually, publish_bytes};
use tempfile::TempDir;

pub(super) const AGENT: &str = "tallystick/line/agent/agent-01";

fn mapping(press: u16, broker: u16) -> String {
    let points: String = SENSORS
        .iter()
        .map(|sensor| {
            format!("      - {{id: {}, at: \"{}\", type: f64, unit: m}}\n", point(sensor.name), sensor.address())
        })
        .collect();
    format!(
        r#"plant: line
devices:
  - id: press-01
    connect: "modbus+tcp://127.0.0.1:{press}?unit=1"
    every: 100ms
    points: [{{id: setpoint, at: holding:0, type: u16, unit: Cel, writable: true, write_range: [0, 60]}}]
  - id: hall
    connect: "mqtt://127.0.0.1:{broker}"
    every: 1s
    points:
      - {{id: level, at: hall/level, type: f64, unit: m}}
{points}  - id: mill
    connect: "mqtt://127.0.0.1:{broker}"
    every: 1s
    points:
      - {{id: temp, at: "sparkplug:works/edge/mill#Temp", type: f64, unit: Cel}}
"#
    )
}

/// A sensor's bomb: how its point is addressed (`#` JSON, `cbor:`, or raw), what it publishes, the reason its point then has.
struct Sensor {
    name: &'static str,
    sent: &'static str,
    form: &'static str,
    payload: fn() -> Vec<u8>,
    expected: &'static str,
}

impl Sensor {
    fn topic(&self) -> String {
        format!("bomb/{}", self.name)
    }

    fn address(&self) -> String {
        match self.form {
            "json" => format!("{}#/a", self.topic()),
            "cbor" => format!("cbor:{}#/a", self.topic()),
            _ => self.topic(),
        }
    }
}

const fn sensor(
    name: &'static str,
    sent: &'static str,
    form: &'static str,
    expected: &'static str,
    payload: fn() -> Vec<u8>,
) -> Sensor {
    Sensor { name, sent, form, payload, expected }
}

const SENSORS: [Sensor; 14] = [
    sensor("payload-long", "250,000 letters for a number", "raw", "nonsense", || vec![b'x'; 250_000]),
    // The broker's packet is larger than the agent takes: it says so by ending the connection, and begins a new one.
    sensor("payload-huge", "2 MB for a number", "raw", "nonsense|link-down", || vec![b'1'; 2_000_000]),
    sensor("payload-empty", "nothing", "raw", "nonsense", Vec::new),
    sensor("payload-not-utf8", "bytes that are no text", "raw", "nonsense", || vec![0xff, 0xfe, 0, 0xd8]),
    sensor("payload-nan", "NaN", "raw", "not-a-number", || b"NaN".to_vec()),
    sensor("payload-overflow", "1e999", "raw", "not-a-number", || b"1e999".to_vec()),
    sensor("json-deep", "100,000 arrays in one another", "json", "nonsense", || vec![b'['; 100_000]),
    sensor("json-deep-objects", "30,000 objects in one another", "json", "nonsense", || b"{\"a\":".repeat(30_000)),
    sensor("json-long-number", "a number of 200,000 digits", "json", "nonsense|not-a-number|out-of-range", || {
        format!("{{\"a\":{}}}", "9".repeat(200_000)).into_bytes()
    }),
    sensor("json-crowd", "20,000 keys and not this one", "json", "nonsense|no-such-address", || {
        let keys: Vec<_> = (0..20_000).map(|number| format!("\"k{number}\":1")).collect();
        format!("{{{}}}", keys.join(",")).into_bytes()
    }),
    sensor("json-not-this-type", "an object for a number", "json", "nonsense", || b"{\"a\":{\"b\":1}}".to_vec()),
    sensor("cbor-deep", "100,000 arrays in one another", "cbor", "nonsense", || vec![0x81; 100_000]),
    sensor("cbor-length-lie", "a text of 2^62 bytes", "cbor", "nonsense", || {
        [&[0xa1, 0x61, b'a', 0x7b][..], &(1_u64 << 62).to_be_bytes()].concat()
    }),
    sensor("cbor-endless", "a list without an end", "cbor", "nonsense", || vec![0x9f; 10_000]),
];

fn point(name: &str) -> String {
    name.replace('-', "_")
}

/// The plant, and what is heard of it.
pub(super) struct Hall {
    _outside: TempDir,
    _press: Rogue,
    pub(super) site: Site,
    pub(super) broker: Mosquitto,
    pub(super) ear: Ear,
}

impl Hall {
    /// With more settings of the agent's broker.
    async fn made(setting: &str) -> Self {
        let outside = tempfile::tempdir().unwrap();
        let press = Rogue::start(Manner::Good(42)).await;
        let broker = Mosquitto::start(outside.path()).await;
        let site = Site::new(&mapping(press.port, broker.port), Some(&broker.url())).await;
        let text = std::fs::read_to_string(site.dir().join("agent.yaml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("broker:")).unwrap().to_owned();
        let setting = format!("broker: {{url: \"{}\", prefix: tallystick, {setting}}}", broker.url());
        site.edit("agent.yaml", &line, &setting);
        let ear = Ear::listen(broker.port).await;
        Self { _outside: outside, _press: press, site, broker, ear }
    }

    pub(super) async fn say(&self, topic: &str, payload: Vec<u8>) {
        publish_bytes(self.broker.port, topic, payload, false).await;
    }

    /// An honest value of the sensor gets through.
    async fn level(&self, level: f64) {
        let (mark, shown) = (self.ear.mark(), json!(level));
        // What came before may have cost the connection, and a message of that moment with it.
        let said = async {
            loop {
                self.say("hall/level", level.to_string().into_bytes()).await;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            () = said => {}
            _ = self.ear.value(mark, "tallystick/line/hall/level", &shown) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bomb_of_a_broker_costs_its_own_point_at_most() {
    let hall = Hall::made("commands: {age: 60s}").await;
    let mut node = hall.site.start_node().await;
    let mut attacks = Attacks::on("what a broker carries");

    keep_a_command(&hall).await;
    let mut agent = hall.site.start_agent().await;
    hall.ear.value(0, "tallystick/line/press-01/setpoint", &json!(42)).await;
    hall.level(0.5).await;
    let command = hall.ear.until(0, &format!("{AGENT}/answer/hmi-3/press-01/setpoint"), |_| true).await.json;
    attacks.tried("command-retained", "one that the broker had kept", "retained", commands::code(&command));

    let memory = agent.resident_kib();
    for (number, sensor) in SENSORS.iter().enumerate() {
        let mark = hall.ear.mark();
        hall.say(&sensor.topic(), (sensor.payload)()).await;
        let topic = format!("tallystick/line/hall/{}", point(sensor.name));
        let told = hall.ear.until(mark, &topic, |json| json["v"].is_null() && json["e"] != "timeout").await.json;
        attacks.tried(sensor.name, sensor.sent, sensor.expected, told["e"].as_str().unwrap_or_default());
        let told = u32::try_from(number).unwrap();
        hall.level(1.0 + f64::from(told)).await;
    }
    sparkplug(&hall, &mut attacks).await;
    let refused = hall.site.counter("commands_refused").await;
    let tried = commands::bad(&hall, &mut attacks).await;
    assert_eq!(hall.site.counter("commands_refused").await - refused, tried, "each refusal is counted");
    commands::flood(&hall, &mut attacks).await;

    hall.level(99.5).await;
    nothing_lost(&hall).await;
    assert!(agent.resident_kib() < memory + (100 << 10), "{memory} KiB before, {} KiB now", agent.resident_kib());
    for process in [&mut node, &mut agent] {
        super::is_well(process);
    }
    attacks.finish(48);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_command_of_a_sparkplug_host_is_refused_and_counted() {
    let hall = Hall::made("sparkplug: {group: works}, commands: {age: 60s}").await;
    let mut node = hall.site.start_node().await;
    let mut agent = hall.site.start_agent().await;
    eventually("the press to be read", async || (hall.site.readings("press-01").await > 0).then_some(())).await;
    eventually("the edge node's birth", async || agent.log().contains("link=sparkplug").then_some(())).await;
    let mut attacks = Attacks::on("the edge node");
    let tried = commands::of_hosts(&hall, &mut attacks).await;
    assert_eq!(hall.site.counter("commands_refused").await, tried, "each refusal is counted");
    nothing_lost(&hall).await;
    for process in [&mut node, &mut agent] {
        super::is_well(process);
    }
    attacks.finish(5);
}

/// The readings of the press go on, and nothing was granted or written.
async fn nothing_lost(hall: &Hall) {
    let before = hall.site.readings("press-01").await;
    eventually("more readings of the press", async || {
        (hall.site.readings("press-01").await > before + 5).then_some(())
    })
    .await;
    let entries = hall.site.node.get_json("/entries?limit=500").await.unwrap().to_string();
    assert!(!entries.contains("access.permit-granted"), "no command became a permit");
}

/// Kept by the broker before the agent comes.
async fn keep_a_command(hall: &Hall) {
    let command = json!({"id": "kept", "write": 41}).to_string().into_bytes();
    publish_bytes(hall.broker.port, &format!("{AGENT}/command/hmi-3/press-01/setpoint"), command, true).await;
}

pub(super) fn temp(value: f64) -> Metric {
    let (name, datatype) = (Some("Temp".to_owned()), Some(DataType::Double.code()));
    Metric { name, datatype, alias: Some(7), value: Some(MetricValue::Double(value)), ..Metric::default() }
}

pub(super) fn message(seq: u64, metrics: Vec<Metric>) -> Vec<u8> {
    Payload { timestamp: Some(1_790_000_000_000), seq: Some(seq), metrics, ..Payload::default() }.to_bytes()
}

/// Each message after a good birth; whatever it did, the next birth counts again, and no value of the bomb was ever shown.
async fn sparkplug(hall: &Hall, attacks: &mut Attacks) {
    let crowd = |count: u32| {
        let metric =
            |number| Metric { name: Some(format!("m{number}")), alias: Some(u64::from(number) + 100), ..temp(666.0) };
        message(0, (0..count).map(metric).collect())
    };
    let metric = |change: fn(&mut Metric)| {
        let mut metric = temp(666.0);
        change(&mut metric);
        message(2, vec![metric])
    };
    let topic = |kind: &str| format!("spBv1.0/works/{kind}/edge{}", if kind.starts_with('D') { "/mill" } else { "" });
    let bombs: [(&str, &str, &str, Vec<u8>); 9] = [
        ("sparkplug-not-protobuf", "a birth that is no protobuf", "NBIRTH", vec![0xff; 500]),
        ("sparkplug-flood", "a birth of 5,000 metrics, none of them ours", "NBIRTH", crowd(5_000)),
        ("sparkplug-huge", "a birth of 100,000 metrics, more than a packet may have", "NBIRTH", crowd(100_000)),
        ("sparkplug-reordered", "data with a number that does not follow", "DDATA", message(99, vec![temp(666.0)])),
        (
            "sparkplug-no-number",
            "data without a number",
            "DDATA",
            Payload { metrics: vec![temp(666.0)], ..Payload::default() }.to_bytes(),
        ),
        (
            "sparkplug-foreign-alias",
            "data under an alias nobody gave",
            "DDATA",
            metric(|metric| (metric.name, metric.alias) = (None, Some(u64::MAX))),
        ),
        (
            "sparkplug-type-lie",
            "a text that says to be a number",
            "DDATA",
            metric(|metric| metric.value = Some(MetricValue::String("666".to_owned()))),
        ),
        ("sparkplug-nan", "NaN", "DDATA", metric(|metric| metric.value = Some(MetricValue::Double(f64::NAN)))),
        (
            "sparkplug-length-lie",
            "a metric longer than its message",
            "DDATA",
            vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 1],
        ),
    ];
    for (number, (name, sent, kind, payload)) in (0_u32..).zip(bombs) {
        let mark = hall.ear.mark();
        let value = 20.0 + f64::from(number);
        born(hall, &topic, value).await;
        hall.say(&topic(kind), payload).await;
        born(hall, &topic, value + 0.5).await;
        let shown = hall.ear.since(mark).into_iter().filter(|said| said.topic == "tallystick/line/mill/temp");
        let is_believed =
            shown.map(|said| said.json["v"].as_f64()).any(|value| value.is_some_and(|value| value > 600.0));
        attacks.tried(name, sent, "not believed", if is_believed { "believed" } else { "not believed" });
    }
}

/// Births until the value is shown: one may fall into a moment without a connection.
async fn born(hall: &Hall, topic: &impl Fn(&str) -> String, value: f64) {
    let (mark, shown) = (hall.ear.mark(), json!(value));
    let said = async {
        loop {
            hall.say(&topic("NBIRTH"), message(0, Vec::new())).await;
            hall.say(&topic("DBIRTH"), message(1, vec![temp(value)])).await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        () = said => {}
        _ = hall.ear.value(mark, "tallystick/line/mill/temp", &shown) => {}
    }
}
