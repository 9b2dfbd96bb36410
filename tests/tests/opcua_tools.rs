//! `tally browse` and `tally trust`: from a server nobody knows to a mapping that the agent runs, against asyncua and
//! against our simulator, with certificates sorted as an operator would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use std::path::Path;
use tally_tests::{Asyncua, Ear, Mosquitto, PATIENCE, Process, Simulator, Site, free_port, tally_command};

/// Runs `tally`; gives its exit code, its answer, and what it said beside.
async fn tally(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = tally_command(arguments);
    command.envs(environment.iter().copied());
    let ran = Process::run(command, PATIENCE).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

async fn json_of(arguments: &[&str]) -> Value {
    let mut all = vec!["--json"];
    all.extend_from_slice(arguments);
    let (code, out, err) = tally(&all, &[]).await;
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_through_a_foreign_server_writes_a_mapping_that_the_agent_runs() {
    let outside = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Asyncua::rich(port, &[]).await;
    let (url, pki) = (format!("opc.tcp://127.0.0.1:{port}"), shown(&outside.path().join("pki")));
    let file = outside.path().join("browsed.yaml");
    let walk = ["browse", &url, "--policy", "none", "--pki", &pki, "--id", "cell-01"];
    let mut writing = walk.to_vec();
    let output = shown(&file);
    writing.extend(["--output", &output]);
    let (code, out, err) = tally(&writing, &[]).await;
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("written to"), "{err}");
    // What is written is what a mapping must be, and what standard output would have shown.
    let (code, _, err) = tally(&["check", &output], &[]).await;
    assert_eq!(code, Some(0), "{err}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(tally(&walk, &[]).await.1, text);

    let broker = Mosquitto::start(outside.path()).await;
    let site = Site::new(&text, Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = site.start_agent().await;
    let topic = |point: &str| format!("tallystick/browsed/cell-01/{point}");
    ear.value(0, &topic("Machine_Speed"), &json!(1.0)).await;
    ear.value(0, &topic("Machine_Axis_Position"), &json!(1.5)).await;
    ear.value(0, &topic("Machine_Cell_Name"), &json!("cell-7")).await;
    let mark = ear.mark();
    server.tell("set Speed 7.5").await;
    server.tell("axis 42.5").await;
    ear.value(mark, &topic("Machine_Speed"), &json!(7.5)).await;
    ear.value(mark, &topic("Machine_Axes_1_Position"), &json!(42.5)).await;
    assert!(agent.is_running(), "{}", agent.tail());

    // Parts of a server, and less than there is.
    let few = json_of(&[&walk[..], &["--max", "2"]].concat()).await;
    assert_eq!((few["points"].as_array().unwrap().len(), &few["cut"]), (2, &json!(true)));
    let machine = [&walk[..], &["--from", "nsu=urn:tallystick:rich;s=Machine", "--nodes-per-browse", "1"]].concat();
    let part = json_of(&machine).await;
    let speed = part["points"].as_array().unwrap().iter().find(|point| point["path"] == json!(["Speed"])).unwrap();
    assert_eq!((&speed["at"], &speed["type"]), (&json!("nsu=urn:tallystick:rich;s=Speed"), &json!("Double")));
    // Nothing there to be read, a node that is none, a server that is none.
    let (code, ..) = tally(&[&walk[..], &["--from", "i=2253"]].concat(), &[]).await;
    assert_eq!(code, Some(1));
    let (code, _, err) = tally(&[&walk[..], &["--from", "nsu=urn:nobody;s=x"]].concat(), &[]).await;
    assert!(code == Some(2) && err.contains("no node of this server"), "{err}");
    let (code, _, err) = tally(&["browse", "modbus+tcp://127.0.0.1"], &[]).await;
    assert!(code == Some(2) && err.contains("opc.tcp://host:port"), "{err}");
    let (code, _, err) = tally(&["browse", &url, "--policy", "strong"], &[]).await;
    assert!(code == Some(2) && err.contains("aes256-sha256-rsapss-sign-encrypt"), "{err}");
    server.kill().await;
    let (code, _, err) = tally(&walk, &[]).await;
    assert!(code == Some(2) && err.contains("the line broke"), "{err}");
}

fn simulation(port: u16) -> String {
    format!(
        r#"
devices:
  - id: cnc-02
    serve: "opc.tcp://127.0.0.1:{port}"
    users: {{operator: secret}}
    signals:
      - {{id: spindle, at: "nsu=urn:factory:cnc;s=Spindle.Load", type: f64, from: {{constant: 12.5}}}}
      - {{id: parts, at: "nsu=urn:factory:cnc;i=1001", type: u32, from: {{constant: 7}}}}
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_comes_before_the_walk_and_is_taken_back() {
    let outside = tempfile::tempdir().unwrap();
    let port = free_port();
    let _sim = Simulator::start(outside.path(), &simulation(port)).await;
    let (url, pki) = (format!("opc.tcp://127.0.0.1:{port}"), shown(&outside.path().join("pki")));
    let walk = ["browse", &url, "--pki", &pki, "--user", "operator", "--password-env", "SIM_PASSWORD"];
    let password = [("SIM_PASSWORD", "secret")];
    let (code, _, err) = tally(&["trust", "list", "--pki", &pki], &[]).await;
    assert!(code == Some(2) && err.contains("--pki DIR"), "{err}");

    let (code, _, err) = tally(&walk, &password).await;
    assert!(code == Some(2) && err.contains("its certificate is not trusted"), "{err}");
    let known = json_of(&["trust", "list", "--pki", &pki]).await;
    let certificates = known["certificates"].as_array().unwrap();
    let lists: Vec<_> = certificates.iter().map(|certificate| certificate["list"].as_str().unwrap()).collect();
    assert_eq!(lists, ["own", "rejected"], "{known}");
    let print = certificates[1]["sha1"].as_str().unwrap().to_owned();
    assert!(err.contains(&format!("tally trust approve {}", &print[..12])), "{err} {print}");
    let (_, out, _) = tally(&["trust", "list", "--pki", &pki], &[]).await;
    assert!(out.contains(&print) && out.contains("Tallystick simulator cnc-02"), "{out}");

    // A slip approves nothing.
    let (code, _, err) = tally(&["trust", "approve", "--pki", &pki, "beefbeefbeef"], &[]).await;
    assert!(code == Some(2) && err.contains("nothing approved") && err.contains(&print[..12]), "{err}");
    let (code, out, err) = tally(&["trust", "approve", "--pki", &pki, &print[..8]], &[]).await;
    assert!(code == Some(0) && out.contains(&print), "{out}{err}");
    let (code, out, err) = tally(&walk, &password).await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("user: \"operator\"") && out.contains("env:SIM_PASSWORD") && !out.contains("secret"), "{out}");
    for line in ["id: spindle, at: \"nsu=urn:factory:cnc;s=Spindle.Load\", type: f64", "nsu=urn:factory:cnc;i=1001"] {
        assert!(out.contains(line), "no `{line}` in\n{out}");
    }
    let (code, _, err) = tally(&walk, &[("SIM_PASSWORD", "wrong")]).await;
    assert!(code == Some(2) && err.contains("does not accept the login") && !err.contains("wrong"), "{err}");
    let (code, _, err) = tally(&walk, &[]).await;
    assert!(code == Some(2) && err.contains("`SIM_PASSWORD` is not set"), "{err}");

    // The agent trusts what the tool approved, and no more once it is taken back.
    let broker = Mosquitto::start(outside.path()).await;
    let site = Site::with_environment(&out, Some(&broker.url()), &password).await;
    let ear = Ear::listen(broker.port).await;
    let site_pki = shown(&site.dir().join("pki"));
    let file = certificates[1]["file"].as_str().unwrap().replace("/rejected/", "/trusted/");
    std::fs::create_dir_all(site.dir().join("pki/rejected")).unwrap();
    std::fs::copy(&file, site.dir().join("pki/rejected/cnc.der")).unwrap();
    let approved = json_of(&["trust", "approve", "--pki", &site_pki, "cnc.der"]).await;
    assert_eq!(approved["list"], "trusted");
    let mut agent = site.start_agent().await;
    ear.value(0, "tallystick/browsed/server-01/spindle", &json!(12.5)).await;
    assert!(agent.terminate().await.success());
    let rejected = json_of(&["trust", "reject", "--pki", &site_pki, &print]).await;
    assert_eq!((&rejected["list"], &rejected["sha1"]), (&json!("rejected"), &json!(print)));
    let _agent = site.start_agent().await;
    tally_tests::eventually("the agent to trust the server no more", async || {
        site.status().await["links"].to_string().contains("its certificate is not trusted").then_some(())
    })
    .await;
}
