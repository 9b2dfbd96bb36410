//! Commands of SCADA through the gate, the whole plant with real processes: mosquitto carries them, a Sparkplug host that is not
//! ours sends them, pymodbus is written. Nothing without a standing policy, nothing twice, all on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value as Json, json};
use std::time::Duration;
use tally_evidence::cbor::text;
use tally_evidence::{Policy, Right, Who};
use tally_model::Timestamp;
use tally_tests::{
    Ear, Mosquitto, PATIENCE, Party, Process, Pymodbus, Site, eventually, free_port, policy, press, publish, python,
    root,
};
use tokio::process::Command;

fn mapping(port: u16) -> String {
    press(
        port,
        r#"    every: 200ms
    timeout: 1s
    points:
      - {id: setpoint, at: holding:17, type: u16, unit: Cel, writable: true, write_range: [0, 60]}
      - {id: fixed, at: holding:30, type: u16, unit: "1"}
triggers:
  - id: too-hot
    device: press-01
    when: "setpoint > 900"
"#,
    )
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap())
}

const ROOT: &str = "tallystick/line/agent/agent-01";

/// A plant whose broker carries commands to the agent.
struct Plant {
    site: Site,
    broker: Mosquitto,
    ear: Ear,
    slave: Pymodbus,
    acme: Party,
}

impl Plant {
    /// With `agent` behind `prefix: tallystick` of the broker in agent.yaml.
    async fn start(agent: &str, broker_lines: &str) -> (Self, Process, Process) {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap().keep());
        let slave = Pymodbus::start(port).await;
        std::fs::write(dir.join("acl"), ACL).unwrap();
        let broker =
            Mosquitto::start_with(&dir, &broker_lines.replace("ACL", &dir.join("acl").display().to_string())).await;
        let site = Site::new(&mapping(port), Some(&broker.url())).await;
        let url = broker.url();
        let text = std::fs::read_to_string(site.dir().join("agent.yaml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("broker:")).unwrap().to_owned();
        site.edit("agent.yaml", &line, &format!("broker: {{url: \"{url}\", {agent}}}"));
        let node = site.start_node().await;
        let ear = Ear::listen(broker.port).await;
        let process = site.start_agent().await;
        site.connected("press-01").await;
        let acme = Party::of(&site, "acme");
        (Self { site, broker, ear, slave, acme }, node, process)
    }

    /// What the owner allows the sender: 0 to 50 on the setpoint.
    async fn standing(&self, sender: &str, change: impl FnOnce(&mut Policy)) {
        let who = Who { sender: Some(sender.to_owned()), ..Who::default() };
        let points = [("setpoint", "holding:17"), ("fixed", "holding:30")];
        let points = points.map(|(id, at)| (id, at, &[Right::Write][..], Some((0.0, 50.0))));
        let mut policy = Policy { lasts: Duration::from_secs(60), ..policy("scada", "press-01", who, &points) };
        change(&mut policy);
        self.site.allow(&self.acme, &policy).await;
    }

    async fn call(&self, action: &str, args: &[(&str, tally_evidence::cbor::Cbor)]) {
        assert_eq!(self.acme.call(&self.site.node, "access", action, None, args).await.refusal, None);
    }

    /// Publishes a command and waits for the answer to its id.
    async fn command(&self, client: &str, point: &str, command: &Json) -> Json {
        let mark = self.ear.mark();
        publish(self.broker.port, &format!("{ROOT}/command/{client}/press-01/{point}"), &command.to_string()).await;
        self.answer(mark, &format!("{client}/press-01/{point}"), |answer| answer["id"] == command["id"]).await
    }

    async fn answer(&self, mark: usize, to: &str, fits: impl Fn(&Json) -> bool) -> Json {
        let answer = self.ear.until(mark, &format!("{ROOT}/answer/{to}"), fits).await.json;
        if answer["how"] == "refused" {
            let words = [&answer["reason"], &answer["hint"]].map(|words| words.as_str().unwrap_or_default().len());
            assert!(words.iter().all(|length| *length > 20), "it says why, and what to do: {answer}");
        }
        answer
    }

    async fn refused(&self, client: &str, point: &str, command: Json) -> String {
        let answer = self.command(client, point, &command).await;
        assert_eq!(answer["how"], "refused", "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// What the machine holds, as SCADA sees it.
    async fn held(&self, value: u16) {
        let topic = "tallystick/line/press-01/setpoint";
        self.ear.value(self.ear.mark(), topic, &json!(value)).await;
    }

    /// All of the ledger's events of a kind, oldest first.
    async fn events(&self, kind: &str) -> Vec<Json> {
        let entries = self.site.node.get_json("/entries?limit=500").await.unwrap();
        let mut found = Vec::new();
        for entry in entries["entries"].as_array().unwrap() {
            if entry["events"].to_string().contains(kind) {
                let id = entry["statement"].as_str().unwrap();
                let outcome = self.site.node.get_json(&format!("/entries/{id}/outcome")).await.unwrap();
                found.extend(
                    outcome["events"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).cloned(),
                );
            }
        }
        found
    }

    async fn attempt(&self, code: &str, words: &str) {
        eventually(&format!("an attempt {code} with `{words}` on the ledger"), async || {
            let attempts = self.events("access.attempt-refused").await;
            let fits = |event: &Json| event["data"]["code"] == code && event["data"].to_string().contains(words);
            attempts.iter().any(fits).then_some(())
        })
        .await;
    }
}

/// As docs/operator/access.md has it: a client commands in its own name, and hears its own answers.
const ACL: &str = "\
topic readwrite #
pattern write tallystick/+/agent/+/command/%u/#
pattern read tallystick/+/agent/+/answer/%u/#
";

async fn publish_as(port: u16, user: &str, topic: &str, payload: &str) {
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-u",
        user,
        "-P",
        "x",
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ]);
    assert!(Process::run(command, PATIENCE).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_command_is_written_once_under_its_standing_policy_and_everything_else_is_turned_away() {
    let (plant, mut node, mut agent) = Plant::start("prefix: tallystick, commands: {age: 60s}", "acl_file ACL\n").await;
    let write = |id: &str, value: Json| json!({"id": id, "at": now().to_string(), "write": value});

    // Nothing written down: nothing allowed.
    assert_eq!(plant.refused("hmi-3", "setpoint", write("a", json!(41))).await, "no-policy");
    plant.standing("mqtt:hmi-3", |_| {}).await;
    let first = write("b", json!(42));
    let done = plant.command("hmi-3", "setpoint", &first).await;
    assert_eq!((&done["how"], &done["found"]), (&json!("done"), &json!(42)), "{done}");
    plant.held(42).await;
    let permit = done["permit"].as_u64().unwrap();
    let used = eventually("the report on the ledger", async || {
        plant.events("access.permit-used").await.into_iter().find(|event| event["data"]["permit"] == permit)
    });
    let used = used.await;
    assert_eq!((&used["data"]["sender"], &used["data"]["requester"]), (&json!("mqtt:hmi-3"), &json!("agent-01")));
    let statement = plant.site.node.get_json("/entries?limit=500").await.unwrap()["entries"].to_string();
    assert!(statement.contains("access.permit-granted"), "{statement}");

    // Once: the same id again, also with another value, also after a restart.
    assert_eq!(plant.refused("hmi-3", "setpoint", first.clone()).await, "replayed-command");
    assert_eq!(plant.refused("hmi-3", "setpoint", write("b", json!(43))).await, "replayed-command");
    agent.kill().await;
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    eventually("the agent to hear commands", async || {
        let mark = plant.ear.mark();
        publish(plant.broker.port, &format!("{ROOT}/command/hmi-3/press-01/setpoint"), &first.to_string()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        plant.ear.since(mark).into_iter().find(|said| said.json["code"] == "replayed-command")
    })
    .await;
    plant.attempt("replayed-command", "hmi-3").await;

    // Too old, from the future, without a time, kept by the broker, no command at all.
    let at = |seconds: i64| Timestamp::from_micros(now().as_micros() + seconds * 1_000_000).to_string();
    assert_eq!(plant.refused("hmi-3", "setpoint", json!({"id": "c", "at": at(-90), "write": 1})).await, "too-old");
    assert_eq!(
        plant.refused("hmi-3", "setpoint", json!({"id": "d", "at": at(90), "write": 1})).await,
        "from-the-future"
    );
    assert_eq!(plant.refused("hmi-3", "setpoint", json!({"id": "e", "write": 1})).await, "no-time");
    assert_eq!(plant.refused("hmi-3", "setpoint", json!({"id": null, "write": 1})).await, "malformed");
    let mark = plant.ear.mark();
    let mut kept = Command::new("mosquitto_pub");
    let topic = format!("{ROOT}/command/hmi-3/press-01/setpoint");
    kept.args(["-h", "127.0.0.1", "-p", &plant.broker.port.to_string(), "-r", "-q", "1", "-t", &topic]);
    kept.args(["-m", &write("f", json!(44)).to_string()]);
    assert!(Process::run(kept, PATIENCE).await.status.success());
    // While somebody is subscribed the flag is gone (MQTT 3.1.1 3.3.1.3): that was said now, and is done. The next who comes is told
    // that it is an old one.
    plant.answer(mark, "hmi-3/press-01/setpoint", |answer| answer["id"] == "f" && answer["how"] == "done").await;
    let mark = plant.ear.mark();
    agent.kill().await;
    let _agent = plant.site.start_agent().await;
    plant.answer(mark, "hmi-3/press-01/setpoint", |answer| answer["id"] == "f" && answer["code"] == "retained").await;
    plant.site.connected("press-01").await;

    // Both locks: the policy's bounds, the mapping's; what cannot be written at all; what is not there.
    assert_eq!(plant.refused("hmi-3", "setpoint", write("g", json!(51))).await, "beyond-policy");
    assert_eq!(plant.refused("hmi-3", "setpoint", write("h", json!(61))).await, "out-of-bounds");
    assert_eq!(plant.refused("hmi-3", "fixed", write("i", json!(1))).await, "not-writable");
    assert_eq!(plant.refused("hmi-3", "ghost", write("j", json!(1))).await, "unknown-point");
    // Another client; and one that speaks in the name of this one, which the broker does not let through.
    assert_eq!(plant.refused("hmi-4", "setpoint", write("k", json!(1))).await, "no-policy");
    let mark = plant.ear.mark();
    publish_as(plant.broker.port, "hmi-4", &topic, &write("l", json!(2)).to_string()).await;
    publish_as(plant.broker.port, "hmi-3", &topic, &write("m", json!(3)).to_string()).await;
    plant.answer(mark, "hmi-3/press-01/setpoint", |answer| answer["id"] == "m" && answer["found"] == 3).await;
    assert!(plant.ear.since(mark).iter().all(|said| said.json["id"] != "l"));

    // Hours, rate, quarantine, revocation.
    plant.standing("mqtt:hmi-3", |policy| policy.until = Some(Timestamp::from_micros(1))).await;
    assert_eq!(plant.refused("hmi-3", "setpoint", write("n", json!(1))).await, "out-of-hours");
    plant.standing("mqtt:hmi-3", |policy| policy.rate = Some((1, Duration::from_secs(3600)))).await;
    plant.command("hmi-3", "setpoint", &write("o", json!(5))).await;
    // The first of the hour may have been taken by earlier permits of this policy's name.
    assert_eq!(plant.refused("hmi-3", "setpoint", write("p", json!(6))).await, "too-many");
    plant.standing("mqtt:hmi-3", |_| {}).await;
    plant.call("quarantine", &[("device", text("press-01"))]).await;
    assert_eq!(plant.refused("hmi-3", "setpoint", write("q", json!(1))).await, "quarantined");
    plant.call("lift", &[("device", text("press-01"))]).await;
    assert_eq!(plant.command("hmi-3", "setpoint", &write("r", json!(7))).await["found"], 7);
    plant.call("revoke", &[("policy", text("scada"))]).await;
    assert_eq!(plant.refused("hmi-3", "setpoint", write("s", json!(1))).await, "no-policy");

    // Without the ledger nothing is written.
    plant.standing("mqtt:hmi-3", |_| {}).await;
    node.kill().await;
    assert_eq!(plant.refused("hmi-3", "setpoint", write("t", json!(1))).await, "ledger-away");
    // Nothing of all that was written.
    plant.held(7).await;
    assert!(plant.site.counter("commands_refused").await >= 11, "since the last start");
    plant.slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparkplug_host_has_a_metric_written_through_the_gate_and_a_rebirth_stays_a_rebirth() {
    let setting = "prefix: tallystick, sparkplug: {group: works}, commands: {}";
    let (plant, _node, _agent) = Plant::start(setting, "").await;
    plant.standing("sparkplug:works/agent-01", |_| {}).await;
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/sparkplug_host.py"));
    command.args([&plant.broker.port.to_string(), "works", "agent-01", "press-01"]);
    let mut host = Process::start("sparkplug_host.py", command);
    assert_eq!(host.line().await, "born");
    let mut tell = async |line: &str, to: &str| {
        let mark = plant.ear.mark();
        assert_eq!(host.tell(line).await, "ok");
        plant.answer(mark, &format!("sparkplug/{to}"), |_| true).await
    };
    let done = tell("write setpoint 42", "press-01/setpoint").await;
    assert_eq!((&done["how"], &done["found"]), (&json!("done"), &json!(42)), "{done}");
    assert_eq!(tell("again", "press-01/setpoint").await["code"], "replayed-command");
    let done = tell("alias setpoint 43", "press-01/setpoint").await;
    assert_eq!((&done["how"], &done["found"]), (&json!("done"), &json!(43)), "{done}");
    assert_eq!(tell("write setpoint 51", "press-01/setpoint").await["code"], "beyond-policy");
    assert_eq!(tell("old setpoint 1", "press-01/setpoint").await["code"], "too-old");
    assert_eq!(tell("write ghost 1", "press-01/ghost").await["code"], "unknown-point");
    assert_eq!(tell("node setpoint 1", "edge-node/setpoint").await["code"], "unknown-point");
    plant.attempt("too-old", "was sent").await;
    let used = plant.events("access.permit-used").await;
    assert!(used.iter().all(|event| event["data"]["sender"] == "sparkplug:works/agent-01"), "{used:?}");
    plant.slave.kill().await;
}

/// Commands are heard only where the configuration says so.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_configured_nothing_heard() {
    let (plant, _node, _agent) = Plant::start("prefix: tallystick, sparkplug: {group: works}", "").await;
    plant.standing("mqtt:hmi-3", |_| {}).await;
    let mark = plant.ear.mark();
    let payload = json!({"id": "a", "at": now().to_string(), "write": 1}).to_string();
    publish(plant.broker.port, &format!("{ROOT}/command/hmi-3/press-01/setpoint"), &payload).await;
    publish(plant.broker.port, "spBv1.0/works/DCMD/agent-01/press-01", "x").await;
    // Whatever would come of it would come before this.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(plant.ear.since(mark).iter().all(|said| !said.topic.contains("/answer/")));
    assert_eq!(plant.events("access.permit-granted").await, Vec::<Json>::new());
    plant.slave.kill().await;
}
