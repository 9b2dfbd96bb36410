//! One bad point, node, unit, device or payload never stops a neighbour: everything that can be wrong is wrong at once, and
//! what is right is read at its own pace all the while.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::{Duration, Instant};
use tally_tests::{Manner, Mosquitto, Rogue, Simulator, Site, TIME_TO_DATA, eventually, free_port, publish};
use tokio::time::sleep;

fn mapping(modbus: u16, opcua: u16, broker: u16, garbage: u16, silent: u16, dead: u16) -> String {
    let modbus_device = |id: &str, port: u16, unit: u8| {
        format!(
            "  - id: {id}\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit={unit}\"\n    every: 100ms\n    timeout: 300ms\n    points:\n      \
             - {{id: load, at: \"holding:0\", type: f32, unit: \"%\"}}\n"
        )
    };
    [
        "plant: line\ndevices:\n".to_owned(),
        modbus_device("good", modbus, 1),
        // An address that the device does not have, far from the good one.
        "      - {id: nowhere, at: \"holding:40000\", type: f32, unit: \"%\"}\n".to_owned(),
        // A register that the device cannot read at the moment, in the same request as the good one.
        "      - {id: broken, at: \"holding:2\", type: u16, unit: \"%\"}\n".to_owned(),
        modbus_device("unit-that-is-silent", modbus, 2),
        modbus_device("garbage", garbage, 1),
        modbus_device("silent", silent, 1),
        modbus_device("dead", dead, 1),
        format!(
            "  - id: cnc\n    connect: \"opc.tcp://127.0.0.1:{opcua}\"\n    security: {{policy: none}}\n    every: 100ms\n    points:\n      \
             - {{id: spindle, at: \"nsu=urn:factory:cnc;s=Spindle.Load\", unit: \"%\"}}\n      \
             - {{id: no_node, at: \"nsu=urn:factory:cnc;s=No.Such.Node\", unit: \"%\"}}\n"
        ),
        format!("  - id: cnc-dead\n    connect: \"opc.tcp://127.0.0.1:{dead}\"\n    security: {{policy: none}}\n    every: 100ms\n    points:\n      - {{id: spindle, at: \"nsu=urn:factory:cnc;s=Spindle.Load\", unit: \"%\"}}\n"),
        format!(
            "  - id: hall\n    connect: \"mqtt://127.0.0.1:{broker}\"\n    every: 1s\n    points:\n      \
             - {{id: level, at: \"hall/tank/level\", type: f64, unit: m}}\n      \
             - {{id: nonsense, at: \"hall/nonsense\", type: f64, unit: m}}\n"
        ),
    ]
    .concat()
}

fn simulation(modbus: u16, opcua: u16) -> String {
    let load =
        "      - {id: load, at: \"holding:0\", type: f32, from: {ramp: {from: 0, per_second: 1.5, until: 100}}}\n";
    let broken = "      - {id: broken, at: \"holding:2\", type: u16, from: {constant: 1}}\n";
    format!(
        "devices:\n  - id: good\n    serve: \"modbus+tcp://127.0.0.1:{modbus}?unit=1\"\n    signals:\n{load}{broken}  \
         - id: unit-that-is-silent\n    serve: \"modbus+tcp://127.0.0.1:{modbus}?unit=2\"\n    signals:\n{load}  \
         - id: cnc\n    serve: \"opc.tcp://127.0.0.1:{opcua}\"\n    signals:\n      \
         - {{id: spindle, at: \"nsu=urn:factory:cnc;s=Spindle.Load\", from: {{ramp: {{from: 0, per_second: 1.5, until: 100}}}}}}\n"
    )
}

async fn count(site: &Site, name: &str, label: &str) -> f64 {
    Site::metric(&site.agent, &format!("tally_agent_device_{name}_total"), label).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_its_neighbours_are_read_at_their_own_pace() {
    let outside = tempfile::tempdir().unwrap();
    let (modbus, opcua, dead) = (free_port(), free_port(), free_port());
    let mut sim = Simulator::start(outside.path(), &simulation(modbus, opcua)).await;
    sim.tell("drop unit-that-is-silent 10m").await;
    sim.tell("break good bad on broken").await;
    let broker = Mosquitto::start(outside.path()).await;
    let (garbage, silent) = (Rogue::start(Manner::Garbage).await, Rogue::start(Manner::Never).await);
    let mapping = mapping(modbus, opcua, broker.port, garbage.port, silent.port, dead);
    let site = Site::new(&mapping, None).await;
    let mut agent = site.start_agent().await;
    let port = broker.port;
    let sensor = tokio::spawn(async move {
        loop {
            publish(port, "hall/tank/level", "1.75").await;
            publish(port, "hall/nonsense", "{\"not\": ").await;
        }
    });
    let bad = ["good", "unit-that-is-silent", "garbage", "silent", "dead", "cnc", "cnc-dead", "hall"];
    for device in bad {
        eventually(&format!("{device} to say what is wrong"), async || {
            (count(&site, "no_values", &format!("device=\"{device}\"")).await > 0.0).then_some(())
        })
        .await;
    }
    // All that is wrong is known now: the good ones must keep their pace.
    let good = ["good", "cnc", "hall"];
    let (mut before, begun) = (Vec::new(), Instant::now());
    for device in good {
        before.push(count(&site, "values", &format!("device=\"{device}\"")).await);
    }
    sleep(Duration::from_secs(5)).await;
    for (device, before) in good.into_iter().zip(before) {
        // Fifty cycles; a unit on the same line that is silent may cost its timeout now and then, and the machine is shared.
        eventually(&format!("15 values of {device}"), async || {
            let values = count(&site, "values", &format!("device=\"{device}\"")).await - before;
            (values >= 15.0).then_some(())
        })
        .await;
        eprintln!("{device}: 15 values in {:.1?}", begun.elapsed());
        assert!(begun.elapsed() < TIME_TO_DATA, "{device}: {:?}", begun.elapsed());
    }
    let ready = site.agent.get_bytes("/ready").await;
    assert!(ready.is_ok(), "devices that are down are no reason to restart an agent: {ready:?}");
    for reason in ["no-such-address", "refused"] {
        let label = format!("device=\"good\",reason=\"{reason}\"");
        assert!(count(&site, "no_values", &label).await > 0.0, "a neighbour of the good point is {reason}");
    }
    // The silent unit's timeouts are longer than the period of its neighbour on the line: what that missed is counted.
    let overruns = Site::metric(&site.agent, "tally_agent_link_overruns_total", &format!(":{modbus}")).await;
    assert!(overruns > 0.0, "missed cycles are counted");
    for device in ["garbage", "silent", "dead"] {
        assert!(count(&site, "values", &format!("device=\"{device}\"")).await < 1.0, "{device}");
    }
    // What is wrong stands in the status, in words.
    let status = site.status().await.to_string();
    for words in ["down: ", "no value yet", "last value", "link-down"] {
        assert!(status.contains(words), "`{words}` is not in {status}");
    }
    sensor.abort();
    assert!(agent.is_running(), "{}", agent.tail());
}
