//! The agent, as a process, against an OPC UA server that is not ours (asyncua), without security and with Basic256Sha256
//! SignAndEncrypt: the values that SCADA hears over mosquitto are the values that were set, and servers may be killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_tests::{Asyncua, Ear, Mosquitto, Site, eventually, free_port};

/// The same server twice, once in the open and once behind a secured channel: each is the other's neighbour.
fn line(open: u16, secure: u16) -> String {
    let points = r#"
    every: 100ms
    points:
      - {id: temperature, at: "nsu=urn:tallystick:test;s=Temperature", unit: Cel}
      - {id: pressure, at: "nsu=urn:tallystick:test;s=Pressure", unit: bar}
      - {id: count, at: "nsu=urn:tallystick:test;s=Count", unit: "1"}
      - {id: total, at: "nsu=urn:tallystick:test;s=Total", unit: "1"}
      - {id: running, at: "nsu=urn:tallystick:test;s=Running", unit: "1"}
      - {id: program, at: "nsu=urn:tallystick:test;s=Program", unit: "1"}"#;
    format!(
        r#"
plant: line
devices:
  - id: cnc-open
    connect: "opc.tcp://127.0.0.1:{open}"
    security: {{policy: none}}{points}
  - id: cnc-secure
    connect: "opc.tcp://127.0.0.1:{secure}"
    security: {{policy: basic256sha256-sign-encrypt}}{points}
"#
    )
}

const ROUNDS: [&[(&str, &str, &str)]; 2] = [
    &[
        ("Temperature", "22.25", "22.25"),
        ("Pressure", "3.5", "3.5"),
        ("Count", "8", "8"),
        ("Total", "5000000001", "5000000001"),
        ("Running", "false", "false"),
        ("Program", "O4712 rev B", "\"O4712 rev B\""),
    ],
    &[
        ("Temperature", "-40.1", "-40.1"),
        ("Pressure", "0.25", "0.25"),
        ("Count", "-2147483648", "-2147483648"),
        ("Total", "18446744073709551615", "18446744073709551615"),
        ("Running", "true", "true"),
        ("Program", "O4713", "\"O4713\""),
    ],
];

async fn values_set_are_values_heard(server: &mut Asyncua, ear: &Ear, device: &str) {
    for round in ROUNDS {
        let mark = ear.mark();
        for (name, value, _) in round {
            server.tell(&format!("set {name} {value}")).await;
        }
        for (name, _, value) in round {
            let value: Value = serde_json::from_str(value).unwrap();
            ear.value(mark, &format!("tallystick/line/{device}/{}", name.to_lowercase()), &value).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_in_the_open_and_encrypted_and_asyncua_may_be_killed() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let (open_port, secure_port) = (free_port(), free_port());
    let (open_pki, secure_pki) = (outside.path().join("open"), outside.path().join("secure"));
    let mut open = Asyncua::start(open_port, "none", &open_pki).await;
    let mut secure = Asyncua::start(secure_port, "basic256sha256", &secure_pki).await;
    let site = Site::new(&line(open_port, secure_port), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    values_set_are_values_heard(&mut open, &ear, "cnc-open").await;
    // An unknown certificate is set aside until the operator has looked at it.
    eventually("the certificate of the secured server", async || (site.trust_all() > 0).then_some(())).await;
    values_set_are_values_heard(&mut secure, &ear, "cnc-secure").await;

    for (security, device, neighbour) in
        [("none", "cnc-open", "cnc-secure"), ("basic256sha256", "cnc-secure", "cnc-open")]
    {
        let is_open = security == "none";
        let mark = ear.mark();
        let topic = format!("tallystick/line/{device}/temperature");
        let (dead, port, pki, mut alive) =
            if is_open { (open, open_port, &open_pki, secure) } else { (secure, secure_port, &secure_pki, open) };
        dead.kill().await;
        ear.until(mark, &topic, |json| json["e"] == "link-down" && json["v"].is_null()).await;
        values_set_are_values_heard(&mut alive, &ear, neighbour).await;
        let mark = ear.mark();
        let mut again = Asyncua::start(port, security, pki).await;
        // What a fresh server says before anybody sets anything.
        ear.value(mark, &topic, &json!(21.5)).await;
        values_set_are_values_heard(&mut again, &ear, device).await;
        (open, secure) = if is_open { (again, alive) } else { (alive, again) };
    }
    assert!(agent.is_running(), "{}", agent.tail());
    let status = site.status().await.to_string();
    assert!(status.contains(&format!("127.0.0.1:{secure_port}")), "{status}");
    secure.kill().await;
    open.kill().await;
}
