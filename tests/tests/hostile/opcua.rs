//! OPC UA servers that attack whoever connects: chunks that lie, never end, repeat. Each has no values and is told so; the agent
//! stays as large as it was, and the machines beside them are read on.

use serde_json::json;
use tally_tests::{Attacks, Ear, Manner, Mosquitto, OpcUaManner, Rogue, RogueOpcUa, Site, eventually};

const ATTACKS: [(&str, &str, OpcUaManner); 24] = [
    ("opcua-hello-garbage", "bytes that are no message for an answer to HEL", OpcUaManner::HelloGarbage),
    ("opcua-hello-huge", "an ACK of 4 GB", OpcUaManner::HelloHuge),
    ("opcua-hello-tiny", "an ACK shorter than its header", OpcUaManner::HelloTiny),
    ("opcua-no-buffers", "an ACK with buffers of no bytes", OpcUaManner::NoBuffers),
    ("opcua-long-error", "an ERR with a reason of 2 GB", OpcUaManner::LongError),
    ("opcua-silent", "nothing, ever", OpcUaManner::Silent),
    ("opcua-message-for-hello", "a MSG for an answer to HEL", OpcUaManner::MessageForHello),
    ("opcua-open-garbage", "garbage in an OPN", OpcUaManner::OpenGarbage),
    ("opcua-open-policy", "a security policy that nobody knows", OpcUaManner::OpenPolicy),
    ("opcua-open-long-policy", "a policy with a name of 2 GB", OpcUaManner::OpenLongPolicy),
    ("opcua-open-foreign", "an OPN that answers another request", OpcUaManner::OpenForeign),
    ("opcua-endless", "chunks of 8 KiB without end", OpcUaManner::Endless),
    ("opcua-endless-empty", "empty chunks without end", OpcUaManner::EndlessEmpty),
    ("opcua-large-chunk", "a chunk four times as large as negotiated", OpcUaManner::LargeChunk),
    ("opcua-size-lie", "a chunk of 4 GB", OpcUaManner::SizeLie),
    ("opcua-reordered", "sequence numbers that fall", OpcUaManner::Reordered),
    ("opcua-repeated", "a chunk three times", OpcUaManner::Repeated),
    ("opcua-foreign-channel", "a chunk of another channel", OpcUaManner::ForeignChannel),
    ("opcua-foreign-token", "a chunk under another token", OpcUaManner::ForeignToken),
    ("opcua-foreign-request", "an answer to what nobody asked", OpcUaManner::ForeignRequest),
    ("opcua-aborts", "halves of messages and their aborts without end", OpcUaManner::Aborts),
    ("opcua-body-garbage", "an answer that is no service", OpcUaManner::BodyGarbage),
    ("opcua-array-lie", "a list of 2^31-1 endpoints", OpcUaManner::ArrayLie),
    ("opcua-nested", "diagnostics nested 20,000 deep", OpcUaManner::Nested),
];

fn device(name: &str, port: u16) -> String {
    format!(
        "  - id: {name}\n    connect: \"opc.tcp://127.0.0.1:{port}\"\n    security: {{policy: none}}\n    every: 200ms\n    timeout: 1s\n    \
         points: [{{id: load, at: \"ns=2;s=Load\", unit: \"%\"}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rogue_server_is_given_up_and_the_press_beside_it_is_read_on() {
    let outside = tempfile::tempdir().unwrap();
    let (press, broker) = (Rogue::start(Manner::Good(42)).await, Mosquitto::start(outside.path()).await);
    let mut line =
        format!("plant: line\ndevices:\n{}", super::device("press", press.port, "u16").trim_start_matches('\n'));
    let mut rogues = Vec::new();
    for (name, _, manner) in ATTACKS {
        let rogue = RogueOpcUa::start(manner).await;
        line += &device(name, rogue.port);
        rogues.push(rogue);
    }
    let site = Site::new(&line, Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    ear.value(0, "tallystick/line/press/load", &json!(42)).await;
    let mut attacks = Attacks::on("the OPC UA client");
    for (name, sent, _) in ATTACKS {
        let told = ear.until(0, &format!("tallystick/line/{name}/load"), |json| json["v"].is_null()).await.json;
        let counted = count(&site, "no_values", name).await;
        let got =
            if counted > 0.0 { told["e"].as_str().unwrap_or_default().to_owned() } else { "not counted".to_owned() };
        attacks.tried(name, sent, "link-down|nonsense|timeout|refused", got);
    }
    // Two more rounds of connecting: what one attack leaves behind must not pile up.
    let (before, reads) = (agent.resident_kib(), count(&site, "values", "press").await);
    eventually("the press to be read on", async || {
        (count(&site, "values", "press").await > reads + 50.0).then_some(())
    })
    .await;
    let after = agent.resident_kib();
    assert!(after < before + (64 << 10) && after < 400 << 10, "{before} KiB, then {after} KiB");
    for (name, ..) in ATTACKS {
        assert!(count(&site, "values", name).await < 1.0, "{name} has a value");
    }
    // Those that attack on an open channel got that far.
    let open = ATTACKS.iter().position(|(_, _, manner)| *manner == OpcUaManner::Endless).unwrap();
    for ((name, ..), rogue) in ATTACKS.iter().zip(&rogues) {
        let is_open = ATTACKS[open..].iter().any(|(known, ..)| known == name);
        assert_eq!(rogue.asked() > 0, is_open, "{name}: asked {} times", rogue.asked());
    }
    let status = site.status().await.to_string();
    assert!(ATTACKS.iter().all(|(name, ..)| status.contains(name)) && status.contains("down: "), "{status}");
    press.behave(Manner::Good(43));
    ear.value(ear.mark(), "tallystick/line/press/load", &json!(43)).await;
    super::is_well(&mut agent);
    attacks.finish(24);
}

async fn count(site: &Site, what: &str, device: &str) -> f64 {
    Site::metric(&site.agent, &format!("tally_agent_device_{what}_total"), &format!("device=\"{device}\"")).await
}
