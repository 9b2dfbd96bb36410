//! `tally registry` against a whole node: keys, bindings and owners change, and what was stays provable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{PartyKind, PartyRecord, SigningKey};
use tally_model::{Grade, PartyId};
use tally_tests::{PATIENCE, Party, Process, Site, Watcher, eventually, find, tally, tally_command};
use tokio::process::Command;

/// `tally registry …` of the site; exit code and both outputs.
async fn registry(site: &Site, arguments: &[&str]) -> (i32, String) {
    let mut command = tally_command(&["registry"]);
    command.args(arguments).current_dir(site.dir());
    command.args(["--node", &format!("unix:{}", site.dir().join("node.sock").display())]);
    let output = Process::run(command, PATIENCE).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

async fn done(site: &Site, arguments: &[&str]) -> String {
    let (code, said) = registry(site, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {said}");
    said
}

async fn shown(site: &Site, id: &str, at: Option<&str>) -> Value {
    shown_with(site, &[&[id][..], &at.map_or_else(Vec::new, |at| vec!["--at", at])].concat()).await
}

/// What is shown holds: the exit code says so.
async fn shown_with(site: &Site, arguments: &[&str]) -> Value {
    let mut command = tally_command(&["--json", "registry", "show", "--ledger-key", "keys/node.pub.pem"]);
    command.args(arguments).current_dir(site.dir());
    command.args(["--node", &format!("unix:{}", site.dir().join("node.sock").display())]);
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn new_key(site: &Site, name: &str) -> String {
    let file = format!("keys/{name}.key");
    let mut command = tally_command(&["keys", "new", &file]);
    command.current_dir(site.dir());
    assert!(Process::run(command, PATIENCE).await.status.success());
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_and_every_height_stays_provable() {
    let site = Site::of_one_press().await;
    let mut node = site.start_node().await;
    let tina = ["--as", "tina", "--key", "keys/tina.key"];
    let before = shown(&site, "tina", None).await["holds"]["record"]["key_id"].clone();
    let second = new_key(&site, "tina-b").await;
    done(&site, &[&["rotate", "--new-key", &second, "--overlap", "1h"][..], &tina].concat()).await;

    // Both keys speak: the contract answers, and not the door.
    let pay = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))];
    let old = Party::of(&site, "tina");
    assert!(old.call(&site.node, "accounts", "transfer", None, &pay).await.refusal.is_some());
    let new = ["--as", "tina", "--key", second.as_str()];
    let third = new_key(&site, "tina-c").await;
    let (code, said) = registry(&site, &[&["rotate", "--new-key", &third][..], &tina].concat()).await;
    assert!(code == 1 && said.contains("123"), "the old key takes nothing away: {said}");
    let rotated = done(&site, &[&["rotate", "--new-key", &third, "--overlap", "0s"][..], &new].concat()).await;
    assert!(rotated.contains("registry.key-rotated"), "{rotated}");
    let (code, said) = registry(&site, &[&["offer", "press-01", "--withdraw"][..], &new].concat()).await;
    assert!(code != 0 && said.contains("another key"), "turned away at the door: {said}");

    // Who she was, at every height, by the ledger's key alone.
    let now = shown(&site, "tina", None).await;
    let versions = now["versions"].as_array().unwrap().clone();
    assert_eq!(versions.len(), 3);
    assert_eq!(shown(&site, "tina", Some("0")).await["holds"]["record"]["key_id"], before);
    let height = versions[1]["from_height"].as_u64().unwrap();
    for (at, number) in [(height - 1, 0), (height, 1), (now["holds"]["from_height"].as_u64().unwrap(), 2)] {
        let then = shown(&site, "tina", Some(&at.to_string())).await;
        assert_eq!(then["holds"]["record"]["key_id"], versions[number]["record"]["key_id"], "at {at}");
    }
    // A restart reads the same from its log.
    node.terminate().await;
    let _node = site.start_node().await;
    assert_eq!(shown(&site, "tina", None).await["versions"], now["versions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_withheld_from_whom_its_owner_does_not_name() {
    let site = Site::of_one_press().await;
    for name in ["anna", "acme"] {
        let tokens = site.dir().join("tokens.json").display().to_string();
        let file = site.dir().join(format!("{name}.token")).display().to_string();
        let add = ["token", "add", name, "--role", "auditor", "--file", &tokens, "--write", &file];
        assert!(Process::run(tally_command(&add), PATIENCE).await.status.success());
    }
    site.append("node.yaml", "access: {tokens: tokens.json}");
    let _node = site.start_node().await;
    let fixit = ["--as", "fixit", "--key", "keys/fixit.key"];
    let said = done(&site, &[&["visibility", "tina", "--only", "acme"][..], &fixit].concat()).await;
    assert!(said.contains("registry.visibility-set"), "{said}");
    let named = |token: &'static str| ["show", "tina", "--ledger-key", "keys/node.pub.pem", "--token", token];
    let (code, said) = registry(&site, &named("anna.token")).await;
    assert!(code == 1 && said.contains("withheld (policy of fixit, entry 1); who may see it is proved"), "{said}");
    assert!(said.contains("firm         fixit") && said.contains("seen by      acme"), "{said}");
    let (code, said) = registry(&site, &named("acme.token")).await;
    assert!(code == 0 && said.contains("proved") && said.contains("seen by      acme"), "{said}");
    // This machine's operator sees everything, and it is told at a height.
    assert_eq!(shown(&site, "tina", Some("0")).await["visibility"]["everyone"], true);
    assert_eq!(shown(&site, "tina", None).await["visibility"]["by"], "fixit");
    let acme = ["--as", "acme", "--key", "keys/acme.key"];
    let (code, said) = registry(&site, &[&["visibility", "tina", "--everyone"][..], &acme].concat()).await;
    assert!(code == 1 && said.contains("151"), "not acme's: {said}");
    done(&site, &[&["visibility", "tina", "--everyone"][..], &fixit].concat()).await;
    let (code, said) = registry(&site, &named("anna.token")).await;
    assert!(code == 0 && !said.contains("withheld"), "{said}");
    // Each rule at its height, proved: none, fixit's, and that everyone may.
    for (at, everyone, entry) in [("0", true, Value::Null), ("1", false, 1.into()), ("3", true, 3.into())] {
        let then = shown(&site, "tina", Some(at)).await["visibility"].clone();
        assert_eq!((&then["everyone"], &then["entry"]), (&everyone.into(), &entry), "at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organisation_is_recovered_and_a_device_changes_hands() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let acme = ["--as", "acme", "--key", "keys/acme.key"];
    let fixit = ["--as", "fixit", "--key", "keys/fixit.key"];
    let tina = ["--as", "tina", "--key", "keys/tina.key"];
    done(&site, &[&["recoverers", "tina", "acme", "--needed", "2"][..], &fixit].concat()).await;
    let key = new_key(&site, "fixit-b").await;
    done(&site, &[&["recover", "fixit", "--new-key", &key, "--write-proof", "fixit.json"][..], &tina].concat()).await;
    let said = done(&site, &[&["recover", "fixit", "--proof", "fixit.json"][..], &tina].concat()).await;
    assert!(said.contains("registry.recovery-approved"), "{said}");
    let said = done(&site, &[&["recover", "fixit", "--proof", "fixit.json"][..], &acme].concat()).await;
    assert!(said.contains("registry.key-recovered"), "{said}");
    let (code, said) = registry(&site, &[&["offer", "press-01", "--withdraw"][..], &fixit].concat()).await;
    assert!(code != 0 && said.contains("another key"), "the lost key is over: {said}");

    done(&site, &[&["bind", "press-01", "--site", "hall-3"][..], &acme].concat()).await;
    let file = site.dir().join("firmware.bin");
    std::fs::write(&file, b"v1.2").unwrap();
    done(
        &site,
        &[&["fingerprint", "press-01", "--of", "firmware", "--file", "firmware.bin", "--version", "1.2"][..], &acme]
            .concat(),
    )
    .await;
    done(&site, &[&["offer", "press-01", "--to", "fixit"][..], &acme].concat()).await;
    let agent = shown(&site, "press-01", None).await["holds"]["record"]["agent"].as_str().unwrap().to_owned();
    let new = ["--as", "fixit", "--key", key.as_str()];
    done(&site, &[&["accept", "press-01", "--agent", &agent, "--site", "yard"][..], &new].concat()).await;
    let now = shown(&site, "press-01", None).await;
    assert_eq!((&now["holds"]["record"]["owner"], &now["holds"]["record"]["site"]), (&"fixit".into(), &"yard".into()));
    assert_eq!(now["fingerprints"][0]["version"], "1.2");
    let first = shown(&site, "press-01", Some("0")).await;
    assert_eq!((&first["holds"]["record"]["owner"], &first["holds"]["record"]["site"]), (&"acme".into(), &Value::Null));
    let (code, said) = registry(&site, &[&["bind", "press-01", "--site", "x"][..], &acme].concat()).await;
    assert!(code == 1 && said.contains("refused"), "no longer acme's: {said}");
}

/// Wants to hear it from the sensor itself.
const GRADED: &str = "
contract: alarm
version: 1
prefix: al
about: The sensor itself must say that it is hot.
requires: {grade: device-sealed}
parties: {owner: organisation}
fields: {device: device, peak: integer}
key: [device]
standing: {}
actions: {report: {peak: integer}, over: {}}
on:
  - {from: new, trigger: report, to: hot, do: [{set: {peak: args.peak}}]}
  - {from: hot, call: over, by: owner, to: cold}
ends: [cold]
";

#[tokio::test(flavor = "multi_thread")]
async fn many_are_registered_under_one_seal_and_a_contract_demands_the_sensors_own_word() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let (mut north, south) = (Watcher::new("north", 41), Watcher::new("south", 42));
    let [(one, sensor), (two, other)] = [&north, &south].map(|watcher| watcher.records(&acme.id));
    // A name that is taken and a device that is there: they are refused each for itself and stop none of the others.
    let mut taken = two.clone();
    taken.id = "north".parse().unwrap();
    let mut there = other.clone();
    there.id = "press-01".parse().unwrap();
    let parties = Cbor::Array([&one, &taken, &two].map(|party| party.to_cbor()).into());
    let devices = Cbor::Array([&sensor, &there, &other].map(|device| device.to_cbor()).into());
    let many = [("parties", parties), ("devices", devices)];
    assert_eq!(acme.call(&site.node, "registry", "register-many", None, &many).await.refusal, None);
    for (id, key) in [("north", &one.key), ("south", &two.key)] {
        let shown = shown(&site, id, None).await;
        assert_eq!(shown["holds"]["record"]["key_id"], key.id().to_string(), "{id}: {shown:#}");
    }
    assert_eq!(shown(&site, "south-sensor", None).await["holds"]["record"]["agent"], "south");
    let press = shown(&site, "press-01", None).await;
    assert_eq!(press["versions"].as_array().unwrap().len(), 1, "nobody bound it anew: {press:#}");
    assert_ne!(press["holds"]["record"]["agent"], "south");

    for (contract, action, args) in [
        ("registry", "deploy-contract", vec![("text", text(GRADED))]),
        ("registry", "register-rule", vec![("rule", north.rule().to_cbor())]),
        ("alarm", "standing", vec![("device", text("north-sensor")), ("currency", text("EUR"))]),
    ] {
        assert_eq!(acme.call(&site.node, contract, action, None, &args).await.refusal, None, "{action}");
    }
    assert_eq!(north.say(&site, 130).await, Some(158), "the agent's word is not enough");
    assert_eq!(north.say_as(&site, 130, Grade::Device).await, Some(157), "the sensor has no key on this ledger");
    let sensor = [("party", north.sensor(&acme.id).to_cbor())];
    assert_eq!(acme.call(&site.node, "registry", "register-party", None, &sensor).await.refusal, None);
    assert_eq!(north.say_as(&site, 130, Grade::Device).await, None);
    let order = site.node.get_json("/agreements/al-1").await.unwrap();
    assert_eq!((&order["state"], &order["fields"]["peak"]), (&"hot".into(), &130.into()), "{order:#}");

    // Whoever checks it offline knows the agent from the call that registered many.
    let file = site.node.get_bytes("/agreements/al-1/evidence").await.unwrap();
    let report = tally_verifier::verify(&file, Some(&site.ledger_key()));
    let about = |link: &&tally_verifier::Link| link.about.contains("trigger hot") && link.holds;
    let held: Vec<_> = report.links.iter().filter(about).map(|link| link.step).collect();
    for step in [tally_verifier::Step::Seal, tally_verifier::Step::DeviceBinding, tally_verifier::Step::Rule] {
        assert!(held.contains(&step), "{step:?}: {:#?}", report.links);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grade_of_a_height_is_that_of_then() {
    let site = Site::of_one_press().await;
    let mut node = site.start_node().await;
    let grade = async |at: Option<u64>| {
        let at = at.map(|at| at.to_string());
        let mut arguments = vec!["press-01", "--device"];
        arguments.extend(at.iter().flat_map(|at| ["--at", at.as_str()]));
        shown_with(&site, &arguments).await["grade"].as_str().unwrap().to_owned()
    };
    let height = async || {
        let checkpoint = site.node.get_bytes("/checkpoint").await.unwrap();
        tally_evidence::Checkpoint::open(&checkpoint, &site.ledger_key()).unwrap().height
    };
    let (acme, before) = (Party::of(&site, "acme"), height().await);
    assert_eq!(grade(None).await, "agent-sealed");
    let record = PartyRecord {
        id: PartyId::try_new("press-01").unwrap(),
        kind: PartyKind::Device,
        name: "press 1".into(),
        key: SigningKey::from_secret(&[9; 32]).unwrap().public().clone(),
        firm: Some(acme.id.clone()),
        skills: Vec::new(),
    };
    let call = async |action: &str, name: &str, value| {
        let done = acme.call(&site.node, "registry", action, None, &[(name, value)]).await;
        assert_eq!(done.refusal, None, "{action}");
    };
    call("register-party", "party", record.to_cbor()).await;
    let registered = height().await;
    assert_eq!(grade(None).await, "device-sealed");
    call("revoke-party", "party", text("press-01")).await;
    let revoked = height().await;
    assert!(before < registered && registered < revoked);
    for (at, expected) in [
        (Some(before), "agent-sealed"),
        (Some(registered), "device-sealed"),
        (Some(revoked), "agent-sealed"),
        (None, "agent-sealed"),
    ] {
        assert_eq!(grade(at).await, expected, "at {at:?}");
    }
    // The party itself: revoked now, and not then.
    let then = registered.to_string();
    assert_eq!(shown(&site, "press-01", Some(&then)).await["revoked"], false);
    assert_eq!(shown(&site, "press-01", None).await["revoked"], true);
    node.kill().await;
}

/// A command that runs as nobody when the tests run as root: what a process may read of another and whether it leaves a core says
/// nothing about one of root's. Core files are allowed; who wants none must say so himself.
fn as_nobody(folder: &Path, program: &Path, arguments: &[&str]) -> Command {
    let with_cores = ["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""];
    let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        let mut command = Command::new(find("setpriv"));
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(with_cores).arg(program).args(arguments).current_dir(folder);
    command
}

/// Gives everything below to nobody, when that is who [`as_nobody`] is.
fn give_to_nobody(folder: &Path) {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    std::os::unix::fs::chown(folder, Some(65_534), Some(65_534)).unwrap();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give_to_nobody(&path);
        } else {
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        }
    }
}

/// Whose a process's files in /proc are: its own user's, or root's when it is not dumpable (proc(5)).
fn files_of(process: &Process) -> (u32, u32) {
    let owner = |file: &str| std::fs::metadata(format!("/proc/{}/{file}", process.pid())).unwrap().uid();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    (owner("environ"), user.split_whitespace().next().unwrap().parse().unwrap())
}

fn cores(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("core")).collect()
}

/// What a thief who is not root could get hold of: the memory of a running program, a core file, the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_holds_keys_leaves_no_core_and_no_key_in_its_log() {
    let site = Site::of_one_press().await;
    let folder = site.outside();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    give_to_nobody(&site.dir());

    // A program that says nothing about it: its memory can be read, and a crash leaves it on disk. Else this test would show nothing.
    let mut other = Process::start("sleep", as_nobody(&site.dir(), &find("sleep"), &["600"]));
    let command = format!("/proc/{}/comm", other.pid());
    let is_there = async || std::fs::read_to_string(&command).is_ok_and(|name| name == "sleep\n").then_some(());
    eventually("sleep to run", is_there).await;
    let (environ, user) = files_of(&other);
    assert!(user != 0 && environ == user, "{environ} {user}");
    other.signal("ABRT").await;
    let leaves_cores = other.ended().await.core_dumped();
    let where_to = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let hard_limit = std::fs::read_to_string("/proc/self/limits").unwrap();
    let may = hard_limit.lines().any(|line| line.starts_with("Max core file size") && line.contains("unlimited"));
    assert!(
        leaves_cores || !may || where_to.trim().is_empty(),
        "a crash leaves no core here ({where_to}): nothing is shown"
    );
    for name in cores(&site.dir()) {
        std::fs::remove_file(site.dir().join(name)).unwrap();
    }

    let mut node = Process::start("tally node", as_nobody(&site.dir(), &tally(), &["node", "--config", "node.yaml"]));
    site.node_ready(&mut node).await;
    let (environ, user) = files_of(&node);
    assert!(user != 0 && environ == 0, "its memory could be read by programs of the same user: {environ} {user}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    node.signal("ABRT").await;
    let status = node.ended().await;
    assert!(!status.success() && !status.core_dumped(), "{status}");
    assert_eq!(cores(&site.dir()), Vec::<String>::new());
}

/// A key that cannot be used is spoken of, and not shown: not as hexadecimal, base64 or a list of numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_shows_no_key() {
    let site = Site::of_one_press().await;
    let secret: [u8; 32] = std::array::from_fn(|place| 0x51 + u8::try_from(place).unwrap() * 5);
    let pem = SigningKey::from_secret(&secret).unwrap().to_pem().unwrap().to_string();
    let mut shown: Vec<_> =
        pem.lines().filter(|line| line.len() > 30 && !line.starts_with('-')).map(str::to_owned).collect();
    shown.extend([hex::encode(secret), hex::encode_upper(secret), format!("{:?}", &secret[..8])]);
    let shown: Vec<_> = shown.iter().map(|text| text.trim_matches(['[', ']'])[..24].to_owned()).collect();
    let run = async |what: &str, arguments: &[&str], named: &str| {
        let mut command = tally_command(arguments);
        command.current_dir(site.dir()).env("TALLY_LOG", "trace");
        let output = Process::run(command, PATIENCE).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(named), "{what}: {said}");
        for piece in &shown {
            assert!(!said.contains(piece), "{what}: a piece of the key is shown: {said}");
        }
    };
    let file = |name: &str, text: &str, mode: u32| {
        let file = site.dir().join("keys").join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (what, text, mode, named) in [
        ("open to the group", pem.clone(), 0o640, "chmod 600"),
        ("damaged", pem.replace("-----END", "AAAA\n-----END"), 0o600, ".key"),
        ("cut off", pem[..120].to_owned(), 0o600, ".key"),
        ("of another kind", pem.replace("PRIVATE KEY", "EC PRIVATE KEY"), 0o600, ".key"),
    ] {
        for name in ["node.key", "agent-01.key", "acme.key"] {
            file(name, &text, mode);
        }
        run(what, &["node", "--config", "node.yaml"], named).await;
        run(what, &["agent", "--config", "agent.yaml"], named).await;
        run(what, &["keys", "show", "keys/acme.key"], named).await;
        let transfer = ["call", "accounts", "transfer", "--as", "acme", "--key", "keys/acme.key"];
        run(what, &[&transfer[..], &["--node", "unix:node.sock"]].concat(), named).await;
    }
    // Sound, and of no use: the node is away.
    file("acme.key", &pem, 0o600);
    let transfer =
        ["call", "accounts", "transfer", "--as", "acme", "--key", "keys/acme.key", "--node", "unix:node.sock"];
    run("the node is away", &transfer, "node").await;
}
