//! The program as people and scripts meet it: exit codes (0 yes or done, 1 the answer is no, 2 usage or environment), help
//! that names every flag, JSON that is JSON, keys that are not overwritten, mappings that ship and hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_evidence::SigningKey;
use tally_tests::{PATIENCE, Process, Pymodbus, Site, eventually, free_port, root, tally_command};

/// What a run of the program gave.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn is(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "--- output:\n{}\n--- errors:\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|fault| panic!("not JSON ({fault}):\n{}", self.out))
    }

    #[track_caller]
    fn says(&self, word: &str) -> &Self {
        assert!(self.out.contains(word) || self.err.contains(word), "no `{word}` in\n{}\n{}", self.out, self.err);
        self
    }
}

async fn tally(arguments: &[&str]) -> Ran {
    let mut command = tally_command(arguments);
    command.env("CNC_PASSWORD", "geheim");
    let output = Process::run(command, PATIENCE).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Every command with the flags its help must name.
const COMMANDS: &[(&str, &[&str])] = &[
    ("demo", &["--once", "--broker", "--dir"]),
    ("init", &["--mapping", "--broker"]),
    ("check", &["--test", "--schema"]),
    ("plan", &["--rules"]),
    ("browse", &["--output", "--from", "--depth", "--policy"]),
    ("probe", &["--from-one", "--count", "--timeout"]),
    ("trust", &["list", "approve", "reject", "--pki"]),
    ("sim", &["FILE", "--mapping", "--write", "--socket", "break"]),
    ("agent", &["--config"]),
    ("node", &["--config"]),
    ("witness", &["--config"]),
    ("keys", &["new", "show"]),
    ("call", &["--agreement", "--arg", "--private", "--as", "--key", "--node"]),
    ("access", &["policy", "request", "revoke", "permits", "use", "quarantine"]),
    ("orders", &["--state", "--device", "--contract", "--node"]),
    ("order", &["--node"]),
    ("balance", &["--node"]),
    ("evidence", &["--output", "--format", "--timestamp", "--tsa-ca", "--agent", "--node"]),
    ("prove", &["--device", "--from", "--to", "--reading", "--out", "--format", "--ledger-key", "--agent", "--node"]),
    ("disclose", &["--field", "--output", "--format", "--ledger-key", "--node"]),
    ("purge", &["--field", "--reason", "--as", "--key", "--node"]),
    ("registry", &["show", "retirement", "visibility"]),
    ("ca", &["init", "issue", "renew"]),
    ("enrol", &["--renew"]),
    ("token", &["add", "list", "revoke"]),
    ("timestamp", &["--tsa", "--request", "--response", "--output", "--replace", "--tsa-ca"]),
    ("verify", &["--ledger-key", "--tsa-ca"]),
    ("convert", &["--output"]),
    ("ledger", &["show", "entries", "du", "block", "entry", "state", "proof"]),
    ("query", &["agreements"]),
    ("backup", &["--config"]),
    ("restore", &["--config"]),
    ("status", &["--agent"]),
    ("reload", &["--agent"]),
    ("bench", &["--dir", "--seconds", "--points", "--entries"]),
];

#[tokio::test]
async fn help_teaches_every_command_and_flag() {
    let help = tally(&["--help"]).await.is(0);
    let listed = help.out.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let listed: BTreeSet<_> = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let listed: BTreeSet<_> = listed.into_iter().filter(|word| !word.is_empty() && *word != "help").collect();
    assert_eq!(listed, COMMANDS.iter().map(|(name, _)| *name).collect(), "this test knows every command");
    help.says("Exit codes");
    for (name, flags) in COMMANDS {
        let help = tally(&[name, "--help"]).await.is(0);
        for flag in flags.iter().chain(&["--json", "--log"]) {
            assert!(help.out.contains(flag), "`tally {name} --help` does not name {flag}:\n{}", help.out);
        }
        // Every argument has a sentence: a line that ends with its name has it on the next.
        let lines: Vec<_> = help.out.lines().collect();
        for (place, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("--")) {
            let is_told =
                line.trim().contains("  ") || lines.get(place + 1).is_some_and(|next| next.starts_with("     "));
            assert!(is_told, "`tally {name} --help` says nothing about {line}");
        }
    }
}

#[tokio::test]
async fn wrong_usage_is_2() {
    for arguments in [
        &[] as &[&str],
        &["dance"],
        &["check"],
        &["check", "--loud", "x.yaml"],
        &["verify"],
        &["keys"],
        &["call", "accounts"],
        &["orders", "--node", "http://localhost"],
        &["bench", "--seconds", "0"],
        &["bench", "scale", "--entries", "9"],
        &["evidence", "mo-1"],
        &["registry", "visibility", "tina", "--as", "tina", "--key", "k"],
        &["registry", "visibility", "tina", "--everyone", "--only", "tom", "--as", "tina", "--key", "k"],
        &["registry", "visibility", "tina", "--role", "operator", "--as", "tina", "--key", "k"],
    ] {
        tally(arguments).await.is(2);
    }
}

/// Whoever asks a node shows it the token he was told to show: a flag that is taken and left aside would be silent.
#[tokio::test]
async fn whoever_asks_a_node_reads_the_token_file() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("tina.key").display().to_string();
    tally(&["keys", "new", &key]).await.is(0);
    let caller = ["--as", "tina", "--key", &key];
    for (asks, is_sealed) in [
        (&["orders"] as &[&str], false),
        (&["order", "mo-1"], false),
        (&["balance"], false),
        (&["ledger", "show"], false),
        (&["query", "agreements"], false),
        (&["disclose", "1"], false),
        (&["registry", "show", "tina"], false),
        (&["access", "permits"], false),
        (&["registry", "offer", "press-01", "--to", "fixit"], true),
        (&["registry", "visibility", "tina", "--nobody"], true),
        (&["access", "revoke", "--permit", "1"], true),
        (&["purge", "1", "--field", "f", "--reason", "r"], true),
        (&["call", "registry", "revoke-party"], true),
    ] {
        let mut all = asks.to_vec();
        all.extend(["--node", "tcp:127.0.0.1:1", "--token", "missing.token"]);
        all.extend(if is_sealed { &caller[..] } else { &[] });
        tally(&all).await.is(2).says("missing.token");
    }
}

#[tokio::test]
async fn keys_are_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tina.key");
    let shown = file.display().to_string();
    let made = tally(&["keys", "new", &shown, "--json"]).await.is(0).json();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    let key = SigningKey::from_pem(std::str::from_utf8(&bytes).unwrap()).unwrap();
    assert_eq!(made["key_id"], key.public().id().to_string());
    assert!(!made.to_string().contains("PRIVATE"), "{made}");

    tally(&["keys", "new", &shown]).await.is(2).says("never overwritten");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    // The public half alone is not overwritten either.
    let other = dir.path().join("tom.key");
    std::fs::write(dir.path().join("tom.pub.pem"), "precious").unwrap();
    tally(&["keys", "new", &other.display().to_string()]).await.is(2);
    assert_eq!(std::fs::read_to_string(dir.path().join("tom.pub.pem")).unwrap(), "precious");

    let id = key.public().id().to_string();
    tally(&["keys", "show", &shown]).await.is(0).says(&id);
    let public = dir.path().join("tina.pub.pem").display().to_string();
    assert_eq!(tally(&["keys", "show", &public, "--json"]).await.is(0).json()["key_id"], id);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    tally(&["keys", "show", &shown]).await.is(2).says("chmod 600");
    std::fs::write(&file, "-----BEGIN NONSENSE-----").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    tally(&["keys", "show", &shown]).await.is(2);
    tally(&["keys", "show", &dir.path().join("nobody.key").display().to_string()]).await.is(2).says("nobody.key");
}

/// Every plant that ships, and the sample site.
fn shipped() -> Vec<PathBuf> {
    let plants = std::fs::read_dir(root().join("mappings/plants")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = plants.filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(files.len() >= 2, "two plants ship, here are {files:?}");
    files.push(root().join("deploy/site/plant.yaml"));
    files
}

#[tokio::test]
async fn every_shipped_mapping_passes_its_tests_and_can_be_planned() {
    let mut tests = 0;
    for file in shipped() {
        let shown = file.display().to_string();
        tally(&["check", "--test", &shown]).await.is(0).says("is fine");
        let checked = tally(&["check", "--test", "--json", &shown]).await.is(0).json();
        assert_eq!(checked[0]["ok"], true, "{checked}");
        tests += checked[0]["tests"].as_array().unwrap().len();
        let rules = tempfile::tempdir().unwrap();
        let folder = rules.path().join("rules").display().to_string();
        tally(&["plan", &shown, "--rules", &folder]).await.is(0).says("rules");
        let plan = tally(&["plan", &shown, "--json"]).await.is(0).json();
        assert!(!plan["devices"].as_array().unwrap().is_empty(), "{plan}");
        let written = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(written, plan["rules"].as_array().unwrap().len());
    }
    assert!(tests > 0, "no shipped mapping has a test in it");
    let sheets = std::fs::read_dir(root().join("mappings/devices")).unwrap().count();
    assert!(sheets >= 3, "three data sheets ship, here are {sheets}");
    assert!(tally(&["check", "--schema"]).await.is(0).json().is_object());
}

const FAULTY: &str = "
plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:5020?unit=1
    evry: 1s
    points:
      - {id: oil_temp, at: holdin:40017, type: f32, unit: °C}
triggers:
  - {id: hot, device: press-02, when: oil_temp > 60}
";

#[tokio::test]
async fn a_faulty_mapping_is_a_no_with_every_fault_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faulty.yaml");
    std::fs::write(&file, FAULTY).unwrap();
    let shown = file.display().to_string();
    let answer = tally(&["check", &shown]).await.is(1);
    for word in ["evry", "every", "holdin", "Cel", "press-02"] {
        answer.says(word);
    }
    let answer = tally(&["check", "--json", &shown]).await.is(1).json();
    let faults = answer[0]["faults"].as_array().unwrap();
    assert!(faults.len() >= 4, "{answer}");
    for fault in faults {
        assert!(fault["line"].as_u64().is_some_and(|line| line > 1), "{fault}");
    }
    tally(&["plan", &shown]).await.is(2);
    // A file that is not there is no answer about it.
    tally(&["check", &dir.path().join("nothing.yaml").display().to_string()]).await.is(2).says("nothing.yaml");
    tally(&["plan", &dir.path().join("nothing.yaml").display().to_string()]).await.is(2).says("nothing.yaml");
}

#[tokio::test]
async fn without_configuration_or_somebody_to_ask_it_is_2() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere").display().to_string();
    let address = format!("unix:{nowhere}");
    let key = dir.path().join("tina.key").display().to_string();
    tally(&["keys", "new", &key]).await.is(0);
    for arguments in [
        &["agent", "--config", &nowhere] as &[&str],
        &["node", "--config", &nowhere],
        &["sim", &nowhere],
        &["orders", "--node", &address],
        &["order", "mo-1", "--node", &address],
        &["balance", "--node", &address],
        &["status", "--agent", &address],
        &["call", "accounts", "transfer", "--as", "tina", "--key", &key, "--node", &address],
        &["evidence", "mo-1", "--node", &address, "--agent", &address, "--output", &nowhere],
        &["init", &nowhere, "--mapping", &nowhere],
    ] {
        tally(arguments).await.is(2).says("nowhere");
    }
    let keys = std::fs::read_dir(Path::new(&nowhere).join("keys")).map_or(0, Iterator::count);
    assert_eq!(keys, 0, "keys were made for a site whose mapping is not there");
}

#[tokio::test]
async fn verify_tells_no_from_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("garbage.tally");
    std::fs::write(&file, b"\xffgarbage").unwrap();
    let shown = file.display().to_string();
    tally(&["verify", &shown]).await.is(1).says("DOES NOT HOLD");
    assert_eq!(tally(&["verify", "--json", &shown]).await.is(1).json()["holds"], false);
    tally(&["verify", &dir.path().join("nothing").display().to_string()]).await.is(2).says("nothing");
    tally(&["verify", &shown, "--ledger-key", &shown]).await.is(2);
}

const LINE: &str = r#"
plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:1?unit=1
    points:
      - {id: worn, at: coil:1, unit: "1"}
triggers:
  - {id: bearing-worn, device: press-01, when: worn, call: {contract: maintenance-order, action: report, with: {fault: "'bearing-worn'"}}}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_calls_to_a_running_node_and_agent() {
    let site = Site::new(LINE, None).await;
    let (mut node, mut agent) = (site.start_node().await, site.start_agent().await);
    let at = |name: &str| format!("unix:{}", site.dir().join(name).display());
    let (node_at, agent_at) = (at("node.sock"), at("agent.sock"));
    let key_of = |party: &str| site.dir().join(format!("keys/{party}.key")).display().to_string();

    tally(&["orders", "--node", &node_at]).await.is(0);
    assert!(tally(&["orders", "--node", &node_at, "--json"]).await.is(0).json().is_array());
    tally(&["order", "mo-1", "--node", &node_at]).await.is(1).says("no order");
    tally(&["balance", "--node", &node_at]).await.is(0).says("totals are conserved");
    let balance = tally(&["balance", "acme", "--node", &node_at, "--json"]).await.is(0).json();
    assert_eq!(balance["conserved"], true);
    tally(&["status", "--agent", &agent_at]).await.is(0).says("press-01");
    assert!(tally(&["status", "--agent", &agent_at, "--json"]).await.is(0).json().is_object());
    let pay = |amount: &'static str| {
        ["call", "accounts", "transfer", "--as", "acme", "--arg", "to=fixit", "--arg", "currency=EUR", "--arg", amount]
    };
    let call = async |party: &str, amount| {
        let (key, mut arguments) = (key_of(party), pay(amount).to_vec());
        arguments.extend(["--key", &key, "--node", &node_at, "--json"]);
        tally(&arguments).await
    };
    let paid = call("acme", "amount=4200").await.is(0).json();
    assert_eq!(paid["refusal"], Value::Null, "{paid}");
    // Too much: an entry all the same, and a no with its number and words.
    let refused = call("acme", "amount=999999999999").await.is(1).json();
    assert_eq!(refused["refusal"], 183, "{refused}");
    assert!(!refused["reason"].as_str().unwrap().is_empty());
    // Somebody else's key: not taken at the door.
    call("fixit", "amount=1").await.is(2).says("key");
    let after = tally(&["balance", "fixit", "--node", &node_at, "--json"]).await.is(0).json();
    assert_eq!(after["accounts"][0]["balance_minor"], 4200, "{after}");
    tally(&["balance", "--node", &node_at, "--json"]).await.is(0).says("\"conserved\": true");

    // How long ended agreements stay in the state: an admin says so, nobody else.
    let retirement = async |party: &str, more: &[&'static str]| {
        let key = key_of(party);
        let arguments =
            [&["registry", "retirement"], more, &["--as", party, "--key", &key, "--node", &node_at]].concat();
        tally(&arguments).await
    };
    retirement("fixit", &["30d"]).await.is(1).says("refused (151)");
    retirement("acme", &["soon"]).await.is(2).says("never");
    retirement("acme", &["30d"]).await.is(0).says("registry.retirement-set");
    retirement("acme", &["30d"]).await.is(1).says("refused (161)");
    // The time is in force; those that ended before are dated all the same.
    retirement("acme", &["30d", "--also-ended"]).await.is(0).says("dated anew: 0 that ended before, in 1 calls");
    let dated = retirement("acme", &["never", "--also-ended", "--json"]).await.is(0).json();
    assert_eq!((&dated["dated"], &dated["set"]["refusal"]), (&0.into(), &Value::Null), "{dated}");
    let shown = tally(&["ledger", "show", "--node", &node_at, "--json"]).await.is(0).json();
    assert_eq!(shown["retire_after_seconds"], Value::Null, "{shown}");

    // A second `tally init` there writes nothing.
    let mapping = site.outside().join("line.yaml").display().to_string();
    let before = std::fs::read(site.dir().join("keys/node.key")).unwrap();
    tally(&["init", &site.dir().display().to_string(), "--mapping", &mapping]).await.is(2);
    assert_eq!(std::fs::read(site.dir().join("keys/node.key")).unwrap(), before);

    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

/// From a coil to an evidence file, with nothing but the commands of the manual.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_accepted_and_proved() {
    let mut press = Pymodbus::start(free_port()).await;
    let line = LINE.replace("127.0.0.1:1?", &format!("127.0.0.1:{}?", press.port));
    let site = Site::new(&line, None).await;
    let (_node, _agent) = (site.start_node().await, site.start_agent().await);
    let at = |name: &str| format!("unix:{}", site.dir().join(name).display());
    let (node, agent) = (at("node.sock"), at("agent.sock"));
    press.tell("set coil 1 1").await;
    let orders = eventually("an order", async || {
        let orders = tally(&["orders", "--node", &node, "--device", "press-01", "--json"]).await.is(0).json();
        (!orders.as_array().unwrap().is_empty()).then_some(orders)
    });
    let order = orders.await[0].clone();
    assert_eq!((&order["id"], &order["state"]), (&"mo-1".into(), &"reported".into()), "{order}");
    let technician = order["parties"]["technician"].as_str().unwrap();
    tally(&["orders", "--node", &node, "--state", "reported"]).await.is(0).says("mo-1").says(technician);
    assert_eq!(
        tally(&["orders", "--node", &node, "--state", "confirmed", "--json"]).await.is(0).json(),
        serde_json::json!([])
    );
    tally(&["order", "mo-1", "--node", &node]).await.is(0).says("reported").says("bearing-worn");

    let key = |party: &str| site.dir().join(format!("keys/{party}.key")).display().to_string();
    let accept = async |party: &str| {
        let key = key(party);
        let call = [
            "call",
            "maintenance-order",
            "accept",
            "--agreement",
            "mo-1",
            "--as",
            party,
            "--key",
            &key,
            "--node",
            &node,
        ];
        tally(&call).await
    };
    // Who is not the technician may not; who is, may once.
    accept("acme").await.is(1).says("refused (152)");
    accept(technician).await.is(0).says("done: entry");
    accept(technician).await.is(1).says("refused (172)");
    assert_eq!(tally(&["order", "mo-1", "--node", &node, "--json"]).await.is(0).json()["state"], "accepted");

    let file = site.outside().join("mo-1.tally").display().to_string();
    let evidence = ["evidence", "mo-1", "--node", &node, "--agent", &agent, "-o", &file];
    tally(&evidence).await.is(0).says("tally verify");
    let ledger_key = site.dir().join("keys/node.pub.pem").display().to_string();
    let shown = tally(&["verify", &file, "--ledger-key", &ledger_key]).await.is(0);
    shown
        .says("Every link holds")
        .says("as received: none of its own") // it speaks Modbus
        .says("by the agent's clock")
        .says("by the ledger's clock");
    let checked = tally(&["verify", &file, "--ledger-key", &ledger_key, "--json"]).await.is(0).json();
    // A real agent, on whatever clock this computer has.
    let times = &checked["report"]["times"][0];
    let state = times["agent_clock"]["state"].as_str().unwrap();
    assert!(["synchronised", "free-running", "unknown"].contains(&state), "{times:#}");
    assert_eq!(times["agent_clock"]["error_us"].is_u64(), state == "synchronised", "{times:#}");
    assert!(["source", "received", "block"].iter().all(|time| times[time].is_i64()), "{times:#}");
    shown.says(&format!("agent's clock    {state}"));
    // For people as JSON, which verifies too and turns back into the same bytes.
    let (readable, back) = (format!("{file}.json"), format!("{file}.back"));
    let as_json = ["evidence", "mo-1", "--node", &node, "--agent", &agent, "--format", "json", "-o", &readable];
    tally(&as_json).await.is(0);
    tally(&["verify", &readable, "--ledger-key", &ledger_key]).await.is(0).says("readable part      holds");
    tally(&["convert", &readable, "-o", &back]).await.is(0);
    assert_eq!(std::fs::read(&back).unwrap(), std::fs::read(&file).unwrap());
    let forged = std::fs::read_to_string(&readable).unwrap().replacen("\"raised\"", "\"cleared\"", 1);
    std::fs::write(&readable, forged).unwrap();
    tally(&["verify", &readable]).await.is(1).says("readable part").says("shows \"cleared\", the bytes say \"raised\"");
    tally(&["convert", &readable, "-o", &back]).await.is(1).says("transition");
    // There is no evidence about an order that does not exist.
    let nothing = site.outside().join("none.tally");
    let evidence = ["evidence", "mo-99", "--node", &node, "--agent", &agent, "-o", &nothing.display().to_string()];
    tally(&evidence).await.is(1).says("mo-99");
    assert!(!nothing.exists());
    // Nor a file without the time-stamp that was asked for.
    let nowhere = nothing.display().to_string();
    let evidence = ["evidence", "mo-1", "--node", &node, "--agent", &agent, "-o", &nowhere];
    let stamped = [&evidence[..], &["--timestamp", "http://127.0.0.1:1/tsr"]].concat();
    tally(&stamped).await.is(2).says("asking http://127.0.0.1:1/tsr");
    assert!(!nothing.exists());
    the_auditors_manual(&site, &node, &agent).await;
}

/// Every `tally` line of the auditor's manual does what stands there, in the order in which it stands there.
async fn the_auditors_manual(site: &Site, node: &str, agent: &str) {
    let manual = std::fs::read_to_string(root().join("docs/operator/audit.md")).unwrap();
    let here = site.outside().join("audit");
    std::fs::create_dir(&here).unwrap();
    std::fs::copy(site.dir().join("keys/node.pub.pem"), here.join("ledger.pub.pem")).unwrap();
    std::os::unix::fs::symlink(site.dir().join("node.sock"), here.join("node.sock")).unwrap();
    let program = PathBuf::from(tally_command(&[]).as_std().get_program());
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let lines: Vec<_> = manual.lines().filter(|line| line.starts_with("tally ")).collect();
    assert!(lines.len() > 15, "{lines:?}");
    for line in lines {
        let mut command = tokio::process::Command::new("sh");
        command
            .args(["-c", line])
            .current_dir(&here)
            .env("PATH", &path)
            .env("TALLY_NODE", node)
            .env("TALLY_AGENT", agent);
        let (code, said) = Process::says(command).await;
        let expected = i32::from(line.contains("# 1:"));
        assert_eq!(code, Some(expected), "{line}: {said}");
    }
}

#[tokio::test]
async fn init_makes_a_site_whose_keys_are_private() {
    let site = Site::new(LINE, None).await;
    let mut private = 0;
    for file in std::fs::read_dir(site.dir().join("keys")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|end| end == "key") {
            private += 1;
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
            assert!(file.with_extension("pub.pem").exists());
        }
    }
    assert!(private >= 3, "keys of the node, the agent and the parties");
    for name in ["genesis.yaml", "node.yaml", "agent.yaml"] {
        assert!(site.dir().join(name).is_file(), "{name}");
    }
    // Without a mapping it is the press line of the demo.
    let dir = tempfile::tempdir().unwrap();
    let line = dir.path().join("line").display().to_string();
    let made = tally(&["init", &line, "--json"]).await.is(0).json();
    assert!(Path::new(made["agent"].as_str().unwrap()).is_file(), "{made}");
    tally(&["check", &format!("{line}/plant.yaml")]).await.is(0);
}

/// Figures of a debug build mean nothing: it says so instead of printing them.
#[tokio::test]
async fn bench_measures_nothing_in_a_debug_build() {
    let answer = tally(&["bench", "memory", "--seconds", "1", "--json"]).await;
    match answer.code {
        Some(0) => assert!(answer.json().is_object() || answer.json().is_array()),
        _ => drop(answer.is(2).says("debug build")),
    }
}

/// A rehearsal in little: the figures mean nothing, what they are about does.
#[tokio::test]
async fn bench_scale_fills_a_ledger_and_tells_of_each_promise() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let little = ["bench", "scale", "--entries", "100", "--seconds", "1", "--turns", "2", "--dir", &shown, "--json"];
    let found = tally(&little).await.is(0).json();
    assert!(found["machine"]["cores"].as_u64().unwrap() > 0, "{found}");
    let figures = found["figures"].as_array().unwrap();
    let text = |figure: usize, key: &str| figures[figure][key].as_str().unwrap().to_owned();
    assert_eq!(figures.len(), 7, "{found}");
    assert!(text(0, "value").contains("p99") && text(0, "method").contains("the middle of 2 looks"), "{found}");
    assert!(text(0, "promise").contains("20 %") && text(0, "baseline").contains("seals"), "{found}");
    assert!(text(1, "name").contains("receipt each, in a ledger of 100 of them"), "{found}");
    assert!(text(2, "name").contains("steady paces") && text(2, "value").matches("p99").count() == 3, "{found}");
    assert_eq!(text(3, "value").matches("entries:").count(), 10, "a look for each tenth: {found}");
    assert!(text(3, "value").contains("logging"), "where the time goes: {found}");
    assert!(text(4, "value").contains("RssAnon") && text(4, "promise").contains("150 MB"), "{found}");
    for part in ["log:", "state.redb:", "tree/"] {
        assert!(text(5, "value").contains(part), "{part}: {found}");
    }
    assert!(text(6, "name").contains("101 entries") && text(6, "promise").contains("2 s"), "{found}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it takes its ledger away again");
}

#[tokio::test]
async fn the_simulator_obeys_and_stops_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sim.yaml");
    let plant = "devices:\n  - id: press-01\n    serve: \"modbus+tcp://127.0.0.1:0?unit=1\"\n    signals:\n      \
                 - {id: running, at: coil:1, from: {constant: true}}\n";
    std::fs::write(&file, plant).unwrap();
    let mut sim = Process::start("tally sim", tally_command(&["sim", &file.display().to_string()]));
    assert!(sim.line().await.starts_with("ready press-01=modbus+tcp://127.0.0.1:"));
    assert_eq!(sim.tell("get press-01 running").await, "ok true");
    assert!(sim.tell("explode press-01").await.starts_with("error"));
    assert_eq!(sim.terminate().await.code(), Some(0), "{}", sim.tail());
    std::fs::write(&file, "devices: 7\n").unwrap();
    tally(&["sim", &file.display().to_string()]).await.is(2).says("sim.yaml");
    // The end of its input is not the end of the plant.
    std::fs::write(&file, plant).unwrap();
    let mut command = tally_command(&["sim", &file.display().to_string()]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(child.try_wait().unwrap().is_none(), "it ended with its input");
}
