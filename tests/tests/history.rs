//! What a device recorded while its line was cut reaches SCADA's archive: an OPC UA server that is not ours (asyncua), the
//! agent as a process, mosquitto.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use std::collections::BTreeSet;
use tally_tests::{Asyncua, Ear, Mosquitto, PATIENCE, Process, Proxy, Site, eventually, free_port, tally_command};

const LIVE: &str = "tallystick/line/cnc-01/speed";
const HISTORY: &str = "tallystick/line/cnc-01/history";

/// One machine, and a rule that what it recorded during the outage would fire.
fn mapping(port: u16) -> String {
    format!(
        r#"plant: line
devices:
  - id: cnc-01
    connect: "opc.tcp://127.0.0.1:{port}"
    every: 100ms
    timeout: 1s
    security: {{policy: none}}
    opcua: {{history: 1h}}
    points:
      - {{id: speed, at: "nsu=urn:tallystick:rich;s=Speed", unit: "1", type: f64}}
      - {{id: steady, at: "nsu=urn:tallystick:rich;s=Steady", unit: "1", type: f64}}
triggers:
  - id: too-fast
    device: cnc-01
    when: "speed > 900.0"
"#
    )
}

/// Values and source times that a device had recorded, as they came; each marked, and without a number.
fn recorded(ear: &Ear) -> Vec<(f64, String)> {
    let messages = ear.since(0).into_iter().filter(|message| message.topic == HISTORY);
    let values = messages.flat_map(|message| {
        assert!(!message.retained);
        message.json["history"].as_array().unwrap().clone()
    });
    let historical = values.filter(|value| value["historical"] == true);
    let told = historical.map(|value| {
        assert_eq!((&value["p"], &value["n"]), (&json!("speed"), &Value::Null), "{value}");
        assert_eq!((&value["q"], &value["u"]), (&json!("good"), &json!("1")), "{value}");
        // Told after the outage in which it was recorded.
        assert!(value["r"].as_str().unwrap() > value["t"].as_str().unwrap(), "{value}");
        (value["v"].as_f64().unwrap(), value["t"].as_str().unwrap().to_owned())
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_recorded_during_an_outage_comes_once_marked_historical_and_moves_nothing_live() {
    const MISSED: u32 = 40;
    let outside = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Asyncua::rich(port, &[]).await;
    let line = Proxy::start(port).await;
    let mut broker = Mosquitto::start(outside.path()).await;
    let site = Site::new(&mapping(line.port), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    ear.value(0, LIVE, &json!(1.0)).await;

    // The line is cut; no new connection gets through.
    line.sessions(0);
    line.cut();
    ear.until(0, LIVE, |json| json["e"] == "link-down").await;
    for number in 0..MISSED {
        server.tell(&format!("set Speed {}", 1_000 + number)).await;
    }
    server.tell("set Speed 2").await;
    let mark = ear.mark();
    line.sessions(usize::MAX);
    ear.value(mark, LIVE, &json!(2.0)).await;
    server.tell("set Speed 3").await;
    ear.value(mark, LIVE, &json!(3.0)).await;
    eventually("what was recorded", async || (recorded(&ear).len() >= MISSED as usize).then_some(())).await;
    // A last live value behind it: nothing of the past comes after that, and none of it live.
    server.tell("set Speed 4").await;
    ear.value(mark, LIVE, &json!(4.0)).await;

    let told = recorded(&ear);
    let values: Vec<_> = told.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, (0..MISSED).map(|number| f64::from(1_000 + number)).collect::<Vec<_>>(), "each once, in order");
    assert!(told.windows(2).all(|pair| pair[0].1 < pair[1].1), "by source time: {told:?}");
    let live: Vec<_> = ear.since(0).into_iter().filter(|message| message.topic == LIVE).collect();
    let numbers: Vec<_> = live.iter().map(|message| message.json["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "live values in order: {numbers:?}");
    let of_the_past = live.iter().filter(|message| message.json["v"].as_f64().is_some_and(|value| value >= 1_000.0));
    assert_eq!(of_the_past.count(), 0, "the past is no live value");
    assert_eq!(site.counter("readings_late").await, u64::from(MISSED));
    assert_eq!(site.counter("triggers_sealed").await, 0, "no rule sees the past");
    let socket = format!("unix:{}", site.dir().join("agent.sock").display());
    let output = Process::run(tally_command(&["status", "--agent", &socket]), PATIENCE).await;
    let words = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(words.contains("40 values that devices had recorded during an outage"), "{words}");

    // Another outage while the broker is away too, and the agent is killed: what it had recorded is told all the same.
    broker.kill().await;
    line.sessions(0);
    line.cut();
    eventually("the cut line", async || site.status().await["links"].to_string().contains("down").then_some(())).await;
    for number in 0..MISSED {
        server.tell(&format!("set Speed {}", 2_000 + number)).await;
    }
    server.tell("set Speed 5").await;
    line.sessions(usize::MAX);
    let all = u64::from(2 * MISSED);
    eventually("what was recorded", async || (site.counter("readings_late").await == all).then_some(())).await;
    agent.kill().await;
    broker.restart().await;
    ear.subscribed(2).await;
    let mut agent = site.start_agent().await;
    eventually("what was recorded before the kill", async || {
        let told: BTreeSet<_> = recorded(&ear).into_iter().map(|(_, at)| at).collect();
        (told.len() == 2 * MISSED as usize).then_some(())
    })
    .await;
    assert!(agent.is_running() && !agent.log().contains("panicked"), "{}", agent.tail());
    server.kill().await;
}
