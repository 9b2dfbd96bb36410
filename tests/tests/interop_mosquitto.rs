//! The agent, as a process, with Debian's mosquitto on both sides: sensors that publish there are read, and SCADA hears
//! there what the agent says, in both topic layouts. Nothing that counts is lost while the broker is away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::json;
use std::path::Path;
use tally_tests::{Ear, Mosquitto, Process, Pymodbus, Site, eventually, free_port, publish};

fn line(broker: &str, press: u16) -> String {
    format!(
        r#"
plant: line
devices:
  - id: hall
    connect: "{broker}"
    every: 100ms
    points:
      - {{id: temperature, at: "hall/climate#/temperature", type: f64, unit: Cel}}
      - {{id: humidity, at: "hall/climate#/air/humidity", unit: "%"}}
      - {{id: level, at: "hall/tank/level", type: f64, unit: m}}
  - id: press-01
    connect: "modbus+tcp://127.0.0.1:{press}?unit=1"
    every: 100ms
    points:
      - {{id: load, at: holding:0, type: f32, unit: "%"}}
      - {{id: stopped, at: coil:0, unit: "1"}}
triggers:
  - id: emergency-stop
    device: press-01
    when: stopped
    priority: high
"#
    )
}

struct Plant {
    broker: Mosquitto,
    press: Pymodbus,
    site: Site,
    ear: Ear,
}

impl Plant {
    async fn start(outside: &Path) -> Self {
        let broker = Mosquitto::start(outside).await;
        let press = Pymodbus::start(free_port()).await;
        let site = Site::new(&line(&broker.url(), press.port), Some(&broker.url())).await;
        let ear = Ear::listen(broker.port).await;
        Self { broker, press, site, ear }
    }

    /// The agent is held until SCADA is back: what is published before reaches nobody, and the agent could not know.
    async fn restart_broker(&mut self, agent: &Process) {
        let often = self.ear.subscriptions();
        agent.hold().await;
        self.broker.restart().await;
        self.ear.subscribed(often + 1).await;
        agent.signal("CONT").await;
    }

    /// The sensor says it again and again, as sensors do: what is published while the agent is away is nobody's.
    async fn sensor_says(&self, temperature: f64, topic: &str, pointer: &str) {
        let payload = format!(r#"{{"temperature": {temperature}, "air": {{"humidity": 45}}}}"#);
        let mark = self.ear.mark();
        eventually("the value of the sensor", async || {
            publish(self.broker.port, "hall/climate", &payload).await;
            let heard = self.ear.since(mark);
            heard.iter().find(|m| m.topic == topic && m.json.pointer(pointer) == Some(&json!(temperature))).map(|_| ())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_are_heard_and_mosquitto_may_be_killed() {
    let outside = tempfile::tempdir().unwrap();
    let mut plant = Plant::start(outside.path()).await;
    let _node = plant.site.start_node().await;
    let mut agent = plant.site.start_agent().await;
    let topic = "tallystick/line/hall/temperature";
    plant.sensor_says(21.25, topic, "/v").await;
    plant.sensor_says(-3.5, topic, "/v").await;
    let mark = plant.ear.mark();
    publish(plant.broker.port, "hall/tank/level", "1.75").await;
    plant.ear.value(mark, "tallystick/line/hall/level", &json!(1.75)).await;
    // A payload that makes no sense is a reading without a value, and the other point of the topic is not harmed.
    let mark = plant.ear.mark();
    publish(plant.broker.port, "hall/climate", r#"{"temperature": "warm", "air": {"humidity": 46}}"#).await;
    plant.ear.until(mark, topic, |json| json["e"] == "nonsense").await;
    plant.ear.value(mark, "tallystick/line/hall/humidity", &json!(46)).await;

    // While the broker is away, the PLC is read on, and a trigger is sealed that SCADA must hear later (QoS 1).
    plant.broker.kill().await;
    let before = plant.site.readings("press-01").await;
    plant.press.tell("set coil 0 1").await;
    eventually("readings of the neighbour while the broker is away", async || {
        (plant.site.readings("press-01").await > before + 5).then_some(())
    })
    .await;
    let mark = plant.ear.mark();
    plant.restart_broker(&agent).await;
    plant.sensor_says(8.125, topic, "/v").await;
    let raised = "tallystick/line/press-01/triggers/emergency-stop";
    plant.ear.until(mark, raised, |json| json["transition"] == "raised").await;
    let mark = plant.ear.mark();
    plant.press.set_f32(0, 12.5).await;
    plant.ear.value(mark, "tallystick/line/press-01/load", &json!(12.5)).await;
    assert!(agent.is_running(), "{}", agent.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_per_device_and_cycle_and_a_last_will() {
    let outside = tempfile::tempdir().unwrap();
    let mut plant = Plant::start(outside.path()).await;
    plant.site.edit("agent.yaml", "mode: point", "mode: device");
    let _node = plant.site.start_node().await;
    let mut agent = plant.site.start_agent().await;
    let mark = plant.ear.mark();
    plant.press.set_f32(0, 99.5).await;
    let heard = plant.ear.until(mark, "tallystick/line/press-01", |json| json.to_string().contains("99.5")).await;
    let (load, stopped) = (&heard.json["points"]["load"], &heard.json["points"]["stopped"]);
    assert_eq!((&load["v"], &load["u"]), (&json!(99.5), &json!("%")), "{heard:?}");
    assert_eq!(stopped["v"], json!(false), "{heard:?}");
    // In this layout no point has a topic of its own.
    let points = plant.ear.since(0).into_iter().find(|message| message.topic == "tallystick/line/press-01/load");
    assert!(points.is_none(), "{points:?}");
    let status = "tallystick/line/agent/agent-01/status";
    plant.ear.until(0, status, |json| json.to_string().contains("online")).await;
    let mark = plant.ear.mark();
    agent.kill().await;
    plant.ear.until(mark, status, |json| json.to_string().contains("offline")).await;
}

/// QoS 1 on our side too: what the broker has not confirmed is told after a restart of the agent, and what it has is not
/// told again.
#[tokio::test(flavor = "multi_thread")]
async fn what_scada_has_not_heard_survives_a_restart_and_is_told_once() {
    let outside = tempfile::tempdir().unwrap();
    let mut plant = Plant::start(outside.path()).await;
    let _node = plant.site.start_node().await;
    let mut agent = plant.site.start_agent().await;
    let topic = "tallystick/line/press-01/triggers/emergency-stop";
    plant.press.tell("set coil 0 1").await;
    plant.ear.until(0, topic, |json| json["transition"] == "raised").await;
    // The ledger's own words are passed on as well: at least the genesis.
    plant.ear.until(0, "tallystick/line/ledger/registry.genesis/press-line", |json| json["specversion"] == "1.0").await;

    plant.broker.kill().await;
    plant.press.tell("set coil 0 0").await;
    eventually("a second trigger", async || (plant.site.counter("triggers_sealed").await == 2).then_some(())).await;
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    let often = plant.ear.subscriptions();
    plant.broker.restart().await;
    plant.ear.subscribed(often + 1).await;
    let mark = plant.ear.mark();
    let mut agent = plant.site.start_agent().await;
    plant.ear.until(mark, topic, |json| json["transition"] == "cleared").await;
    let noted = "tallystick/line/ledger/trigger.noted/press-01";
    plant.ear.until(mark, noted, |json| json["data"]["number"] == 1).await;
    // Heard by us is not yet confirmed to the agent: the broker's PUBACK may still be on its way.
    eventually("what was heard to be confirmed", async || {
        let heard = |part: &str| plant.ear.since(mark).iter().filter(|said| said.topic.contains(part)).count() as u64;
        let (triggers, events) = (heard("/triggers/"), heard("/ledger/"));
        let confirmed = [plant.site.counter("triggers_published").await, plant.site.counter("events_published").await];
        (confirmed == [triggers, events]).then_some(())
    })
    .await;
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());

    // Everything is told now: another restart repeats neither triggers nor ledger events.
    let mark = plant.ear.mark();
    let _agent = plant.site.start_agent().await;
    plant.press.set_f32(0, 77.5).await;
    plant.ear.value(mark, "tallystick/line/press-01/load", &json!(77.5)).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    // An anchor that declares the stop is news, not a repetition.
    let told = |message: &tally_tests::Message| {
        let topic = &message.topic;
        (topic.contains("/triggers/") || topic.contains("/ledger/")) && !topic.contains("/ledger/anchor.")
    };
    let repeated: Vec<_> = plant.ear.since(mark).into_iter().filter(told).collect();
    assert!(repeated.is_empty(), "{repeated:?}");
}
