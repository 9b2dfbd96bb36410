//! Bad input from outside, over real sockets to the real processes: what the node refuses and how it says so, and devices
//! that misbehave beside devices that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod commands;
mod files;
mod http;
mod lies;
mod modbus;
mod mqtt;
mod opcua;
mod permits;
mod statements;

use futures_util::future::join_all;
use serde_json::json;
use tally_evidence::cbor::{Cbor, int, text};
use tally_ledger_client::SubmitError;
use tally_tests::{Asyncua, Ear, Mosquitto, Party, Process, Site, eventually, free_port};

const LINE: &str = r#"
plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:1?unit=1
    points:
      - {id: worn, at: coil:1, unit: "1"}
triggers:
  - {id: bearing-worn, device: press-01, when: worn}
"#;

fn transfer() -> [(&'static str, Cbor); 3] {
    [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))]
}

/// Sends bytes and gives the code with which they are refused.
async fn code(site: &Site, statement: &[u8]) -> String {
    match site.node.submit(statement).await {
        Err(SubmitError::Refused { code, text }) => {
            assert!(text.len() > 10, "{code}: {text}");
            code
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// How often the node says it refused with each code.
async fn refused(site: &Site, code: &str) -> f64 {
    Site::metric(&site.node, "tally_refused_total", &format!("code=\"{code}\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signer_that_floods_does_not_hinder_another() {
    let site = Site::new(LINE, None).await;
    site.append("node.yaml", "limits: {per_signer_per_second: 10}");
    let _node = site.start_node().await;
    let (acme, fixit) = (Party::of(&site, "acme"), Party::of(&site, "fixit"));
    let mut slowed = 0;
    // At once: one after the other they might be slower than what is allowed.
    let flood: Vec<_> = (0..60).map(|_| acme.seal("accounts", "transfer", None, &transfer())).collect();
    for answer in join_all(flood.iter().map(|statement| site.node.submit(statement))).await {
        match answer {
            Ok(_) => {}
            Err(SubmitError::NotNow { retry_after, cause }) => {
                assert!(retry_after.is_some(), "{cause}");
                slowed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(slowed > 0, "60 statements at once, 10 a second are allowed");
    let back = [("to", text("acme")), ("amount", int(1)), ("currency", text("EUR"))];
    assert!(site.node.submit(&fixit.seal("accounts", "transfer", None, &back)).await.is_ok());
    assert!(Site::metric(&site.node, "tally_not_now_total", "code=\"rate\"").await > 0.5);
}

fn device(name: &str, port: u16, kind: &str) -> String {
    format!(
        "\n  - id: {name}\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n    every: 100ms\n    timeout: 300ms\n    \
         points:\n      - {{id: load, at: holding:0, type: {kind}, unit: \"%\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_node_and_an_untrusted_server_are_named_and_their_neighbours_flow() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let (open_port, secure_port) = (free_port(), free_port());
    let mut open = Asyncua::start(open_port, "none", &outside.path().join("open")).await;
    let _secure = Asyncua::start(secure_port, "basic256sha256", &outside.path().join("secure")).await;
    let line = format!(
        r#"
plant: line
devices:
  - id: open
    connect: "opc.tcp://127.0.0.1:{open_port}"
    security: {{policy: none}}
    every: 100ms
    points:
      - {{id: temperature, at: "nsu=urn:tallystick:test;s=Temperature", unit: Cel}}
      - {{id: ghost, at: "nsu=urn:tallystick:test;s=No.Such.Node", unit: "1"}}
      - {{id: stranger, at: "nsu=urn:nobody:knows;i=7", unit: "1"}}
  - id: secure
    connect: "opc.tcp://127.0.0.1:{secure_port}"
    every: 100ms
    points:
      - {{id: temperature, at: "nsu=urn:tallystick:test;s=Temperature", unit: Cel}}
"#
    );
    let site = Site::new(&line, Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    for point in ["ghost", "stranger"] {
        let topic = format!("tallystick/line/open/{point}");
        ear.until(0, &topic, |json| json["e"] == "no-such-address" && json["v"].is_null()).await;
    }
    ear.until(0, "tallystick/line/secure/temperature", |json| json["v"].is_null()).await;
    for value in [20.5, 30.25] {
        let mark = ear.mark();
        open.tell(&format!("set Temperature {value}")).await;
        ear.value(mark, "tallystick/line/open/temperature", &json!(value)).await;
    }
    eventually("words about the certificate", async || {
        let status = site.status().await.to_string();
        status.contains("its certificate is not trusted").then_some(())
    })
    .await;
    let values = ear.since(0).into_iter().filter(|m| m.topic.contains("/secure/") && !m.json["v"].is_null()).count();
    assert_eq!(values, 0, "no value from a server that is not trusted");
    is_well(&mut agent);
}

fn is_well(agent: &mut Process) {
    assert!(agent.is_running() && !agent.log().contains("panicked"), "{}", agent.tail());
}
