//! Permits from request to result, the whole plant with real processes: the gate writes to pymodbus and to asyncua once, and
//! turns everything else away, on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value as Json;
use std::time::Duration;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{PermitFile, Right};
use tally_tests::{
    Asyncua, PATIENCE, Party, Process, Pymodbus, Site, eventually, free_port, party, policy, press, tally_command,
};

fn modbus(port: u16) -> String {
    press(
        port,
        r#"    every: 200ms
    timeout: 1s
    points:
      - {id: setpoint, at: holding:17, type: u16, unit: Cel, writable: true, write_range: [0, 60]}
      - {id: speed, at: holding:20, type: f32, unit: "1", writable: true, write_range: [0, 1000]}
      - {id: lamp, at: coil:3, writable: true}
      - {id: fixed, at: holding:30, type: u16, unit: "1"}
triggers:
  - id: too-hot
    device: press-01
    when: "setpoint > 900"
"#,
    )
}

/// A site whose owner lets tina have everything written that `points` name, within 0 to 80.
struct Plant {
    site: Site,
    acme: Party,
    tina: Party,
}

impl Plant {
    async fn new(mapping: &str, device: &str, points: &[(&str, &str)]) -> (Self, Process) {
        let site = Site::new(mapping, None).await;
        let node = site.start_node().await;
        let (acme, tina) = (Party::of(&site, "acme"), Party::of(&site, "tina"));
        let plant = Self { site, acme, tina };
        plant.policy(device, points).await;
        (plant, node)
    }

    async fn policy(&self, device: &str, points: &[(&str, &str)]) {
        let range = |at: &str| (!at.starts_with("coil")).then_some((0.0, 80.0));
        let rights: &[Right] = &[Right::Read, Right::Write];
        let points: Vec<_> = points.iter().map(|(id, at)| (*id, *at, rights, range(at))).collect();
        self.site.allow(&self.acme, &policy("service", device, party("tina"), &points)).await;
    }

    async fn call(&self, who: &Party, action: &str, args: &[(&str, Cbor)]) -> (u64, Option<u16>) {
        let done = who.call(&self.site.node, "access", action, None, args).await;
        (done.entry, done.refusal)
    }

    /// A permit that somebody brings.
    async fn permit(&self, device: &str, point: &str, value: Cbor, more: &[(&str, Cbor)]) -> u64 {
        let mut args =
            vec![("device", text(device)), ("point", text(point)), ("right", text("write")), ("value", value)];
        args.push(("carried", Cbor::Bool(true)));
        args.extend(more.iter().cloned());
        let (entry, refusal) = self.call(&self.tina, "request", &args).await;
        assert_eq!(refusal, None, "{device} {point}");
        entry
    }

    async fn file(&self, id: u64) -> PermitFile {
        self.site.permit_file(id).await
    }

    async fn bring(&self, file: &PermitFile) -> Result<Json, String> {
        self.site.bring(file.encode()).await
    }

    /// The ledger's event about a permit.
    async fn event(&self, kind: &str, permit: Option<u64>) -> Json {
        eventually(&format!("{kind} of permit {permit:?}"), async || {
            let entries = self.site.node.get_json("/entries?limit=200").await.ok()?;
            for entry in entries["entries"].as_array()? {
                let id = entry["statement"].as_str()?;
                if entry["events"].to_string().contains(kind) {
                    let outcome = self.site.node.get_json(&format!("/entries/{id}/outcome")).await.ok()?;
                    let events = outcome["events"].as_array()?.clone();
                    let fits =
                        |event: &&Json| event["kind"] == kind && permit.is_none_or(|id| event["data"]["permit"] == id);
                    if let Some(event) = events.iter().find(fits) {
                        return Some(event.clone());
                    }
                }
            }
            None
        })
        .await
    }

    async fn value(&self, device: &str, point: &str) -> Json {
        let file = self.read_permit(device, point).await;
        self.bring(&file).await.unwrap()["found"].clone()
    }

    async fn read_permit(&self, device: &str, point: &str) -> PermitFile {
        let args =
            [("device", text(device)), ("point", text(point)), ("right", text("read")), ("carried", Cbor::Bool(true))];
        let (entry, refusal) = self.call(&self.tina, "request", &args).await;
        assert_eq!(refusal, None);
        self.file(entry).await
    }
}

const POINTS: [(&str, &str); 4] =
    [("setpoint", "holding:17"), ("speed", "holding:20"), ("lamp", "coil:3"), ("fixed", "holding:30")];

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_is_carried_out_once_and_everything_else_is_turned_away_on_record() {
    let port = free_port();
    let mut slave = Pymodbus::start(port).await;
    let (plant, _node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;

    // Written, read back, on the ledger; once.
    let id = plant.permit("press-01", "setpoint", int(42), &[]).await;
    let file = plant.file(id).await;
    let report = plant.bring(&file).await.unwrap();
    assert_eq!((&report["how"], &report["found"]), (&Json::from("done"), &Json::from(42)), "{report}");
    let used = plant.event("access.permit-used", Some(id)).await;
    assert_eq!((&used["data"]["found"], &used["subject"]), (&Json::from(42), &Json::from("press-01")));
    // In the histories of the device and of who asked.
    for of in ["devices/press-01", "parties/tina"] {
        eventually(&format!("the permit in the history of {of}"), async || {
            let shown = plant.site.node.get_json(&format!("/query/{of}/history?limit=100")).await.ok()?;
            let shown = shown["events"].to_string();
            (shown.contains("access.permit-granted") && shown.contains("access.permit-used")).then_some(())
        })
        .await;
    }
    slave.tell("set holding 17 0007").await;
    assert_eq!(plant.bring(&file).await, Err("replayed".into()));
    assert_eq!(plant.value("press-01", "setpoint").await, 7, "not written again");
    let attempt = plant.event("access.attempt-refused", Some(id)).await;
    assert_eq!(attempt["data"]["code"], "replayed");
    // Two registers, and a coil.
    let id = plant.permit("press-01", "speed", Cbor::Float(12.5), &[]).await;
    assert_eq!(plant.bring(&plant.file(id).await).await.unwrap()["found"], 12.5);
    let id = plant.permit("press-01", "lamp", Cbor::Bool(true), &[]).await;
    assert_eq!(plant.bring(&plant.file(id).await).await.unwrap()["found"], true);

    // What is forged, too early, too late or taken back: `hostile/permits.rs`.

    // What the mapping does not let through is burnt: out of its bounds, not writable at all.
    let id = plant.permit("press-01", "setpoint", int(70), &[]).await;
    let file = plant.file(id).await;
    assert_eq!(plant.bring(&file).await, Err("out-of-bounds".into()));
    assert_eq!(plant.event("access.permit-used", Some(id)).await["data"]["code"], "out-of-bounds");
    assert_eq!(plant.bring(&file).await, Err("replayed".into()));
    let id = plant.permit("press-01", "fixed", int(1), &[]).await;
    assert_eq!(plant.bring(&plant.file(id).await).await, Err("not-writable".into()));
    assert_eq!(plant.value("press-01", "setpoint").await, 7, "nothing of all that was written");
    // A policy that names another register than the mapping.
    plant.policy("press-01", &[("setpoint", "holding:18")]).await;
    let id = plant.permit("press-01", "setpoint", int(1), &[]).await;
    assert_eq!(plant.bring(&plant.file(id).await).await, Err("wrong-address".into()));

    assert!(plant.site.counter("permit_attempts").await >= 2);
    assert_eq!(plant.site.counter("permits_refused").await, 3);
    assert_eq!(plant.site.counter("permits_unknown").await, 0);
    slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_does_at_once_what_it_hears_and_hears_a_revocation_within_a_moment() {
    let port = free_port();
    let slave = Pymodbus::start(port).await;
    let (plant, mut node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    // Granted before the agent ran: it asks for what is open.
    let args = |value: i64| {
        [("device", text("press-01")), ("point", text("setpoint")), ("right", text("write")), ("value", int(value))]
    };
    let (before, refusal) = plant.call(&plant.tina, "request", &args(11)).await;
    assert_eq!(refusal, None);
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    plant.event("access.permit-used", Some(before)).await;
    let (heard, _) = plant.call(&plant.tina, "request", &args(12)).await;
    let used = plant.event("access.permit-used", Some(heard)).await;
    assert_eq!((&used["data"]["how"], &used["data"]["found"]), (&Json::from("done"), &Json::from(12)));

    // Granted for later: done when its time has come, and nobody is accused of having tried before.
    let from = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + Duration::from_secs(2);
    let later = [&args(13)[..], &[("from", int(i64::try_from(from.as_micros()).unwrap()))]].concat();
    let (later, refusal) = plant.call(&plant.tina, "request", &later).await;
    assert_eq!(refusal, None);
    assert_eq!(plant.event("access.permit-used", Some(later)).await["data"]["found"], 13);
    assert_eq!(plant.site.counter("permit_attempts").await, 0);

    // Revoked while the agent listens; then the node goes away, and the proof is young enough to be believed.
    let id = plant.permit("press-01", "setpoint", int(33), &[]).await;
    let other = plant.permit("press-01", "setpoint", int(34), &[]).await;
    let (file, other_file) = (plant.file(id).await, plant.file(other).await);
    let revoked = plant.site.counter("permits_revoked").await;
    let begun = std::time::Instant::now();
    assert_eq!(plant.call(&plant.acme, "revoke", &[("permit", int(id))]).await.1, None);
    let acknowledged = begun.elapsed();
    while plant.site.counter("permits_revoked").await == revoked {
        assert!(begun.elapsed() < PATIENCE, "the revocation was not heard within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("revoked: acknowledged after {acknowledged:?}, known to the gate after {:?}", begun.elapsed());
    node.kill().await;
    assert_eq!(plant.bring(&file).await, Err("revoked".into()), "the agent remembers");
    assert_eq!(plant.bring(&other_file).await.unwrap()["found"], 34, "cut off, and the proof is young");
    slave.kill().await;
}

/// `tally access …` with its exit code, as JSON or text.
async fn tally(arguments: &[&str]) -> (i32, String) {
    let (code, said) = Process::says(tally_command(&[&["access"], arguments].concat())).await;
    (code.unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_have_a_value_written_taken_back_and_cut_off_at_the_command_line() {
    let port = free_port();
    let slave = Pymodbus::start(port).await;
    let (plant, _node) = Plant::new(&modbus(port), "press-01", &[]).await;
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    let at = |name: &str| plant.site.dir().join(name).display().to_string();
    let (node, agent) = (format!("--node=unix:{}", at("node.sock")), format!("--agent=unix:{}", at("agent.sock")));
    let key = |who: &str| [format!("--as={who}"), format!("--key={}", at(&format!("keys/{who}.key")))];
    let (acme, tina) = (key("acme"), key("tina"));
    let ask = async |who: &[String], words: &[&str]| {
        let who: Vec<_> = who.iter().map(String::as_str).collect();
        tally(&[words, &who, &[&node]].concat()).await
    };
    let text = "policy: mine\ndevices: [press-01]\nwho: [{party: tina}]\npoints: {setpoint: {may: [read, write], range: [0, 80]}}\nlasts: 5min\n";
    std::fs::write(at("mine.yaml"), text).unwrap();
    let mapping = plant.site.outside().join("line.yaml");
    let (code, said) = ask(&acme, &["policy", &at("mine.yaml"), "--mapping", &mapping.display().to_string()]).await;
    assert_eq!(code, 0, "{said}");

    let request = ["request", "--device=press-01", "--point=setpoint"];
    let write =
        async |who, value: &str, more: &[&str]| ask(who, &[&request[..], &["--write", value], more].concat()).await;
    let (code, said) = write(&tina, "42", &[]).await;
    assert!(code == 0 && said.contains("it holds 42 now"), "{said}");
    let (code, said) = write(&tina, "42", &["--lasts", "1h"]).await;
    assert!(code == 0 && said.contains("it lasts 5min, not 1h"), "{said}");
    let (code, said) = write(&tina, "61", &["--json"]).await;
    assert!(code == 1 && said.contains("out-of-bounds"), "the mapping says no: {said}");
    let (code, said) = write(&tina, "81", &[]).await;
    assert!(code == 1 && said.contains("refused (154)"), "the policy says no: {said}");

    let out = at("permit.tally");
    assert_eq!(write(&tina, "7", &["--out", &out]).await.0, 0);
    let (code, said) = tally(&["use", &out, &agent]).await;
    assert!(code == 0 && said.contains("it holds 7 now"), "{said}");
    assert_eq!(tally(&["use", &out, &agent]).await.0, 1, "once");

    assert_eq!(ask(&acme, &["revoke", "--party", "tina"]).await.0, 0);
    assert_eq!(ask(&acme, &["quarantine", "--device", "press-01", "--reason", "moves by itself"]).await.0, 0);
    let (_, said) = ask(&[], &["permits"]).await;
    for line in ["may ask: tina", "acme barred tina", "quarantine of device press-01 by acme: moves by itself"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(write(&tina, "8", &[]).await.1.contains("refused (12"), "barred, or in quarantine");
    assert_eq!(ask(&acme, &["revoke", "--party", "tina", "--lift"]).await.0, 0);
    let (_, said) = write(&tina, "8", &[]).await;
    assert!(
        said.contains("refused (124): device `press-01` is in quarantine, put there by `acme`: moves by itself"),
        "{said}"
    );
    assert_eq!(ask(&acme, &["quarantine", "--device", "press-01", "--lift"]).await.0, 0);
    assert_eq!(write(&tina, "8", &[]).await.0, 0);
    slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_an_old_proof_is_refused_unless_the_site_says_otherwise() {
    let port = free_port();
    let slave = Pymodbus::start(port).await;
    let (plant, mut node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    plant.site.append("agent.yaml", "gate: {proof_age: 1ms}");
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    let id = plant.permit("press-01", "setpoint", int(33), &[]).await;
    let (file, read) = (plant.file(id).await, plant.read_permit("press-01", "setpoint").await);
    node.kill().await;
    assert_eq!(plant.bring(&file).await, Err("stale".into()));
    assert_eq!(plant.bring(&read).await, Err("stale".into()));
    agent.kill().await;
    plant.site.edit("agent.yaml", "proof_age: 1ms", "proof_age: 1ms, past_age: allow-read");
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    assert_eq!(plant.bring(&file).await, Err("stale".into()), "a write moves a machine");
    assert_eq!(plant.bring(&read).await.unwrap()["found"], 0, "a read moves nothing");
    agent.kill().await;
    plant.site.edit("agent.yaml", "past_age: allow-read", "past_age: allow");
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    assert_eq!(plant.bring(&file).await.unwrap()["found"], 33);
    // The report waits for the node.
    let _node = plant.site.start_node().await;
    assert_eq!(plant.event("access.permit-used", Some(id)).await["data"]["how"], "done");
    slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_while_cut_off_the_agent_knows_what_was_revoked_before() {
    let port = free_port();
    let slave = Pymodbus::start(port).await;
    let (plant, mut node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    // Their own proofs would be believed for an hour.
    plant.site.append("agent.yaml", "gate: {proof_age: 1h}");
    let revoked = plant.permit("press-01", "setpoint", int(31), &[]).await;
    let open = plant.permit("press-01", "setpoint", int(32), &[]).await;
    let (revoked_file, open_file) = (plant.file(revoked).await, plant.file(open).await);
    // Nobody listens when it is taken back: no event reaches the agent, then or later.
    assert_eq!(plant.call(&plant.acme, "revoke", &[("permit", int(revoked))]).await.1, None);
    let checkpoint = plant.site.node.get_bytes("/checkpoint").await.unwrap();
    let behind = tally_evidence::Checkpoint::open(&checkpoint, &plant.site.ledger_key()).unwrap().height;
    let mut agent = plant.site.start_agent().await;
    let known = eventually("the agent to know what is open", async || {
        let known = plant.site.status().await["permits"].clone();
        (known["height"].as_u64()? >= behind).then_some(known)
    })
    .await;
    assert!(known["open"] == 1 && known["age_seconds"].is_number(), "{known}");
    node.kill().await;
    agent.kill().await;
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    let known = plant.site.status().await["permits"].clone();
    assert!(known["height"].as_u64().unwrap() >= behind, "on disk: {known}");
    assert_eq!(plant.bring(&revoked_file).await, Err("revoked".into()));
    // Past the age it is as set, for what is revoked as for what is not.
    agent.kill().await;
    plant.site.edit("agent.yaml", "proof_age: 1h", "proof_age: 1ms");
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    assert_eq!(plant.bring(&open_file).await, Err("stale".into()));
    agent.kill().await;
    plant.site.edit("agent.yaml", "proof_age: 1ms", "proof_age: 1ms, past_age: allow");
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    assert_eq!(plant.bring(&revoked_file).await, Err("revoked".into()), "what is known to be revoked never passes");
    assert_eq!(plant.bring(&open_file).await.unwrap()["found"], 32);
    slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_moment_writes_at_most_once_and_says_so() {
    let port = free_port();
    let mut slave = Pymodbus::start(port).await;
    let (plant, _node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    let mut agent = plant.site.start_agent().await;
    let mut seed = 42_u64;
    for round in 1..=6_i64 {
        plant.site.connected("press-01").await;
        let id = plant.permit("press-01", "setpoint", int(round), &[]).await;
        let file = plant.file(id).await;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((seed >> 33) % 12_000);
        // Killed somewhere between the intention, the write, the read-back, the report and the answer.
        let killed = tokio::time::timeout(delay, plant.site.agent.post_bytes("/permits/use", file.encode())).await;
        agent.kill().await;
        // What was on its way when the agent died is in pymodbus by then: its loop went round since.
        for _ in 0..5 {
            slave.tell("unit 1").await;
        }
        // Whoever writes it again is seen.
        slave.tell("set holding 17 00ff").await;
        agent = plant.site.start_agent().await;
        plant.site.connected("press-01").await;
        let again = plant.bring(&file).await;
        println!("round {round}: killed after {delay:?}, answered before: {}, again: {again:?}", killed.is_ok());
        match again {
            // The kill came before the intention: nothing had been sent.
            Ok(report) => assert_eq!(report["found"], round),
            Err(code) => {
                assert!(code == "replayed" || code == "revoked", "{code}");
                assert_eq!(plant.value("press-01", "setpoint").await, 0xff, "never a second write");
            }
        }
        let used = plant.event("access.permit-used", Some(id)).await;
        assert!(["done", "unknown"].contains(&used["data"]["how"].as_str().unwrap()), "{used}");
    }
    slave.kill().await;
}

/// The node does not answer, so the gate waits for its word, with nothing intended yet. Killed there, the permit is as good as before.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_before_its_intention_has_used_nothing() {
    let port = free_port();
    let slave = Pymodbus::start(port).await;
    let (plant, node) = Plant::new(&modbus(port), "press-01", &POINTS).await;
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    // The agent knows the ledger's key from here on.
    assert_eq!(plant.value("press-01", "setpoint").await, 0);
    let id = plant.permit("press-01", "setpoint", int(44), &[]).await;
    let file = plant.file(id).await;
    node.hold().await;
    let bring = plant.site.agent.post_bytes("/permits/use", file.encode());
    // Its patience with the node is a second.
    let unanswered = tokio::time::timeout(Duration::from_millis(150), bring).await;
    agent.kill().await;
    node.signal("CONT").await;
    assert!(unanswered.is_err(), "the gate asks the node first: {unanswered:?}");
    let _agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    let report = plant.bring(&file).await.expect("nothing had been intended");
    assert_eq!((&report["how"], &report["found"]), (&Json::from("done"), &Json::from(44)));
    assert_eq!(plant.event("access.permit-used", Some(id)).await["data"]["how"], "done");
    assert_eq!(plant.bring(&file).await, Err("replayed".into()));
    slave.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_an_opc_ua_server_is_written_and_read_back() {
    let port = free_port();
    let mut server = Asyncua::rich(port, &[]).await;
    let mapping = format!(
        r#"plant: line
devices:
  - id: cnc-01
    connect: "opc.tcp://127.0.0.1:{port}"
    every: 200ms
    timeout: 2s
    security: {{policy: none}}
    points:
      - {{id: speed, at: "nsu=urn:tallystick:rich;s=Speed", unit: "1", type: f64, writable: true, write_range: [0, 50]}}
      - {{id: mode, at: "nsu=urn:tallystick:rich;s=Mode", unit: "1", writable: true, write_range: [0, 50]}}
triggers:
  - id: too-fast
    device: cnc-01
    when: "speed > 900.0"
"#
    );
    let points = [("speed", "nsu=urn:tallystick:rich;s=Speed"), ("mode", "nsu=urn:tallystick:rich;s=Mode")];
    let (plant, _node) = Plant::new(&mapping, "cnc-01", &points).await;
    let _agent = plant.site.start_agent().await;
    plant.site.connected("cnc-01").await;
    let id = plant.permit("cnc-01", "speed", Cbor::Float(12.5), &[]).await;
    let file = plant.file(id).await;
    assert_eq!(plant.bring(&file).await.unwrap()["found"], 12.5);
    server.tell("set Speed 3").await;
    assert_eq!(plant.bring(&file).await, Err("replayed".into()));
    assert_eq!(plant.value("cnc-01", "speed").await, 3.0);
    // The server itself says no.
    let id = plant.permit("cnc-01", "mode", int(1), &[]).await;
    let report = plant.bring(&plant.file(id).await).await.unwrap();
    assert_eq!((&report["how"], &report["code"]), (&Json::from("refused"), &Json::from("device-refused")), "{report}");
    server.kill().await;
}
