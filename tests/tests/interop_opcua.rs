//! The agent, as a process, against an OPC UA server that is not ours (asyncua), without security and with Basic256Sha256
//! SignAndEncrypt: the values that SCADA hears over mosquitto are the values that were set, and servers may be killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_evidence::{TriggerBody, sha256};
use tally_model::{LinkProtection, LinkProtocol, Login, Stretch};
use tally_tests::{
    Asyncua, Chain, Ear, Mosquitto, PATIENCE, Process, Site, eventually, free_port, python, root, tally_command,
};
use tokio::process::Command;

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

/// What the sealed trigger of a device says of where its readings come from.
async fn origins(site: &Site, device: &str) -> Vec<Stretch> {
    let body: TriggerBody = eventually("a trigger on the ledger", async || {
        let chain = Chain::read(&site.node, &site.ledger_key()).await;
        chain.triggers("agent-01").into_iter().map(|(_, body)| body).find(|body| body.device.as_str() == device)
    })
    .await;
    assert!(!body.origins.is_empty() && body.origins[0].from == body.readings.first, "{:?}", body.origins);
    body.origins
}

/// The evidence about the order, by `tally verify` and by the verifier in Python.
async fn evidence_says(site: &Site, certificate: &str) {
    let file = site.outside().join("mo-1.tally");
    let (node, agent) = (site.node.address().to_string(), site.agent.address().to_string());
    let output = file.display().to_string();
    let made = tally_command(&["evidence", "mo-1", "--node", &node, "--agent", &agent, "-o", &output]);
    let made = Process::run(made, PATIENCE).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = Process::run(tally_command(&["verify", &output]), PATIENCE).await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}");
    let wanted = format!("opc-ua, security sign-encrypt, Basic256Sha256, certificate {certificate}, login anonymous");
    assert!(text.contains(&wanted), "{text}");
    let mut theirs = Command::new(python());
    theirs.arg(root().join("tests/interop/verify.py")).arg(&file).arg("--json");
    let theirs = Process::run(theirs, 2 * PATIENCE).await;
    let said: Value = serde_json::from_slice(&theirs.stdout).unwrap();
    assert_eq!(said["holds"], true, "{said:#}");
    assert_eq!(said["origins"][0]["certificate"], certificate, "{said:#}");
    assert_eq!(said["origins"][0]["security"], "sign-encrypt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_says_over_which_security_the_readings_came() {
    let outside = tempfile::tempdir().unwrap();
    let (open_port, secure_port) = (free_port(), free_port());
    let secure_pki = outside.path().join("secure");
    let mut open = Asyncua::start(open_port, "none", &outside.path().join("open")).await;
    let mut secure = Asyncua::start(secure_port, "basic256sha256", &secure_pki).await;
    let rules =
        |device: &str, call: &str| format!("  - {{id: {device}-full, device: {device}, when: count > 100{call}}}\n");
    let call = r#", call: {contract: maintenance-order, action: report, with: {fault: "'full'"}}"#;
    let mapping = line(open_port, secure_port) + "triggers:\n" + &rules("cnc-open", "") + &rules("cnc-secure", call);
    let site = Site::new(&mapping, None).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    eventually("the certificate of the secured server", async || (site.trust_all() > 0).then_some(())).await;
    for device in ["cnc-open", "cnc-secure"] {
        eventually("readings", async || (site.readings(device).await >= 6).then_some(())).await;
    }
    eventually("a value over the secured link", async || {
        let status = site.status().await;
        let links = status["links"].as_array().unwrap();
        links.iter().all(|link| link["state"].as_str().is_some_and(|state| state.starts_with("up"))).then_some(())
    })
    .await;
    open.tell("set Count 101").await;
    secure.tell("set Count 101").await;

    let in_the_open = origins(&site, "cnc-open").await;
    let link = &in_the_open.last().unwrap().origin.link;
    assert_eq!((link.protocol, link.protection, link.certificate), (LinkProtocol::OpcUa, LinkProtection::None, None));
    assert!(link.policy.as_ref().is_some_and(|policy| policy.ends_with("#None")), "{link:?}");

    let encrypted = origins(&site, "cnc-secure").await;
    let link = &encrypted.last().unwrap().origin.link;
    let certificate = sha256(&std::fs::read(secure_pki.join("server.der")).unwrap());
    assert_eq!((link.protection, link.certificate), (LinkProtection::SignEncrypt, Some(certificate)));
    assert_eq!(link.login, Some(Login::Anonymous));
    assert!(link.policy.as_ref().is_some_and(|policy| policy.ends_with("#Basic256Sha256")), "{link:?}");
    evidence_says(&site, &hex::encode(certificate)).await;
    assert!(agent.is_running(), "{}", agent.tail());
}
