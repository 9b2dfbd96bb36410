//! What permits have done beside registers and nodes, with devices that are not ours: MQTT valves, one of them behind a Sparkplug edge
//! node, are told a position and say what they hold; a method of an OPC UA server is called. Each once, within the mapping's bounds, on
//! record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value as Json, json};
use tally_evidence::Right;
use tally_evidence::cbor::{Cbor, int, text};
use tally_tests::{
    Asyncua, Done, Mosquitto, PATIENCE, Party, Process, Site, free_port, party, policy, python, root, tally_command,
};
use tokio::process::Command;

const ALL: &[Right] = &[Right::Read, Right::Write, Right::Call];

struct Plant {
    site: Site,
    tina: Party,
    _processes: [Process; 2],
}

impl Plant {
    /// Tina may have everything done at these points, each the only one of its device that counts.
    async fn start(mapping: &str, points: &[(&str, &str, &str)]) -> Self {
        Self::start_within(mapping, points, None).await
    }

    /// The same within a range of numbers.
    async fn start_within(mapping: &str, points: &[(&str, &str, &str)], range: Option<(f64, f64)>) -> Self {
        let site = Site::new(mapping, None).await;
        let node = site.start_node().await;
        let acme = Party::of(&site, "acme");
        for (device, point, at) in points {
            let may = policy(&format!("service-{device}"), device, party("tina"), &[(point, at, ALL, range)]);
            site.allow(&acme, &may).await;
        }
        let agent = site.start_agent().await;
        for (device, ..) in points {
            site.connected(device).await;
        }
        let tina = Party::of(&site, "tina");
        Self { site, tina, _processes: [node, agent] }
    }

    /// Requests, and brings what was granted.
    async fn use_once(&self, device: &str, point: &str, right: &str, value: Option<Cbor>) -> Result<Json, String> {
        self.site.bring(self.granted(device, point, right, value).await).await
    }

    async fn granted(&self, device: &str, point: &str, right: &str, value: Option<Cbor>) -> Vec<u8> {
        let done = self.request(device, point, right, value).await;
        assert_eq!(done.refusal, None);
        self.site.permit_file(done.entry).await.encode()
    }

    async fn request(&self, device: &str, point: &str, right: &str, value: Option<Cbor>) -> Done {
        let mut args = vec![("device", text(device)), ("point", text(point)), ("right", text(right))];
        args.push(("carried", Cbor::Bool(true)));
        args.extend(value.map(|value| ("value", value)));
        self.tina.call(&self.site.node, "access", "request", None, &args).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mqtt_valves_are_told_once_and_say_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(dir.path()).await;
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/mqtt_valve.py")).arg(broker.port.to_string());
    let mut valves = Process::start("mqtt_valve.py", command);
    assert_eq!(valves.line().await, "ready");
    let mapping = format!(
        r#"plant: line
devices:
  - id: valve-01
    connect: "{url}"
    every: 1min
    points:
      - id: position
        at: "valve/state#/position"
        type: f64
        unit: "%"
        writable: true
        write_range: [0, 100]
        write: {{topic: valve/set, payload: '{{"position": {{value}}}}'}}
  - id: valve-02
    connect: "{url}"
    every: 1min
    points:
      - {{id: opening, at: "sparkplug:works-1/edge-9/valve-02#Position", unit: "%", writable: true, write_range: [0, 100]}}
triggers:
  - {{id: open, device: valve-01, when: "position > 900.0"}}
"#,
        url = broker.url()
    );
    let points = [
        ("valve-01", "position", r#"valve/state#/position => valve/set {"position": {value}}"#),
        ("valve-02", "opening", "sparkplug:works-1/edge-9/valve-02#Position"),
    ];
    let plant = Plant::start(&mapping, &points).await;
    for (device, point, _) in points {
        let file = plant.granted(device, point, "write", Some(Cbor::Float(42.5))).await;
        let report = plant.site.bring(file.clone()).await.unwrap();
        assert_eq!((&report["how"], &report["found"], &report["code"]), (&json!("done"), &json!(42.5), &Json::Null));
        assert_eq!(plant.site.bring(file).await, Err("replayed".into()));
        assert_eq!(plant.use_once(device, point, "read", None).await.unwrap()["found"], 42.5);
        let high = plant.use_once(device, point, "write", Some(Cbor::Float(101.0))).await;
        assert_eq!(high, Err("out-of-bounds".into()));
        assert_eq!(plant.use_once(device, point, "call", None).await, Err("not-writable".into()));
    }
    // They take the command and do not move: said, not glossed over.
    assert_eq!(valves.tell("stick").await, "ok");
    for (device, point, _) in points {
        let report = plant.use_once(device, point, "write", Some(Cbor::Float(7.0))).await.unwrap();
        assert_eq!((&report["code"], &report["found"]), (&json!("reads-back-differently"), &json!(42.5)), "{report}");
    }
    assert_eq!(valves.tell("taken").await, "ok 4", "nothing came twice, and nothing that was refused");
    // Nobody there: the broker has the message, and that proves nothing. What was not born is not commanded.
    valves.kill().await;
    let report = plant.use_once("valve-01", "position", "write", Some(Cbor::Float(8.0))).await.unwrap();
    assert_eq!((&report["how"], &report["code"]), (&json!("unknown"), &json!("not-read-back")), "{report}");
    let report = plant.use_once("valve-02", "opening", "write", Some(Cbor::Float(8.0))).await.unwrap();
    assert_eq!((&report["how"], &report["code"]), (&json!("refused"), &json!("not-sent")), "{report}");
}

/// A machine whose point `speed` is a method of asyncua's rich server.
fn machine(port: u16, method: &str, arguments: &str) -> String {
    format!(
        r#"plant: line
devices:
  - id: cnc-01
    connect: "opc.tcp://127.0.0.1:{port}"
    every: 200ms
    timeout: 2s
    security: {{policy: none}}
    points:
      - id: speed
        at: "nsu=urn:tallystick:rich;s=Speed"
        unit: "1"
        type: f64
        method:
          object: "nsu=urn:tallystick:rich;s=Machine"
          node: "nsu=urn:tallystick:rich;s={method}"
          arguments: {arguments}
triggers:
  - {{id: too-fast, device: cnc-01, when: "speed > 900.0"}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_of_an_opc_ua_server_is_called_within_its_bounds() {
    let port = free_port();
    let server = Asyncua::rich(port, &[]).await;
    let arguments = "[{name: a, range: [0, 10]}, {name: b, range: [0, 5]}]";
    let mapping = machine(port, "Multiply", arguments);
    let rich = "nsu=urn:tallystick:rich;s=";
    let at = format!("{rich}Speed => {rich}Machine {rich}Multiply");
    let plant = Plant::start(&mapping, &[("cnc-01", "speed", &at)]).await;
    let file = plant.granted("cnc-01", "speed", "call", Some(text("[6, 2.5]"))).await;
    let report = plant.site.bring(file.clone()).await.unwrap();
    assert_eq!((&report["how"], &report["found"]), (&json!("done"), &json!(15.0)), "{report}");
    assert_eq!(plant.site.bring(file).await, Err("replayed".into()));
    for (arguments, code) in [("[11, 1]", "out-of-bounds"), ("[1]", "wrong-type"), ("faster", "wrong-type")] {
        let done = plant.use_once("cnc-01", "speed", "call", Some(text(arguments))).await;
        assert_eq!(done, Err(code.into()), "{arguments}");
    }
    // The mapping opens the method, not the point.
    let written = plant.use_once("cnc-01", "speed", "write", Some(Cbor::Float(1.0))).await;
    assert_eq!(written, Err("not-writable".into()));

    let at = |name: &str| plant.site.dir().join(name).display().to_string();
    let (node, key) = (format!("--node=unix:{}", at("node.sock")), format!("--key={}", at("keys/tina.key")));
    let words = ["access", "request", "--device=cnc-01", "--point=speed", "--call", "[3, 4]", "--as=tina", &key, &node];
    let output = Process::run(tally_command(&words), PATIENCE).await;
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.contains("it says 12"), "{said}");
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_range_of_a_policy_bounds_the_one_number_of_a_call_also_as_a_list_of_one() {
    let port = free_port();
    let server = Asyncua::rich(port, &[]).await;
    let mapping = machine(port, "Double", "[{name: a, range: [0, 100]}]");
    let rich = "nsu=urn:tallystick:rich;s=";
    let at = format!("{rich}Speed => {rich}Machine {rich}Double");
    // The machine could take 100; its owner allows tina 80.
    let plant = Plant::start_within(&mapping, &[("cnc-01", "speed", &at)], Some((0.0, 80.0))).await;
    for (value, answer) in [(int(80), 160.0), (Cbor::Float(79.5), 159.0), (text("[40]"), 80.0)] {
        let report = plant.use_once("cnc-01", "speed", "call", Some(value)).await.unwrap();
        assert_eq!((&report["how"], &report["found"]), (&json!("done"), &json!(answer)), "{report}");
    }
    for value in [int(81), int(-1), Cbor::Float(80.01), text("[81]"), text(" [ 8.1e1 ] ")] {
        let refusal = plant.request("cnc-01", "speed", "call", Some(value.clone())).await.refusal;
        assert_eq!(refusal, Some(154), "{value:?}");
    }
    // What is no number at all is refused before any policy is asked.
    for value in [f64::NAN, f64::INFINITY] {
        let refusal = plant.request("cnc-01", "speed", "call", Some(Cbor::Float(value))).await.refusal;
        assert_eq!(refusal, Some(142), "{value}");
    }
    // Two arguments are the mapping's to bound, and this method takes one.
    let two = plant.use_once("cnc-01", "speed", "call", Some(text("[81, 1]"))).await;
    assert_eq!(two, Err("wrong-type".into()));
    server.kill().await;
}
