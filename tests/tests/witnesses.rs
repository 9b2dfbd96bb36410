//! A ledger and its witnesses as processes: receipts become final, witnesses die, are slow, lie and come back, the ledger lies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::path::Path;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{LogKey, NoteVerifyingKey, Receipt, SignedStatement, TreeNote};
use tally_ledger_client::SubmitError;
use tally_tests::{
    PATIENCE, Party, Process, PythonWitness, Site, Witness, ask_witnesses, eventually, free_port, python, root,
    tally_command,
};
use tokio::process::Command;

fn pay(amount: u32) -> [(&'static str, Cbor); 3] {
    [("to", text("fixit")), ("amount", int(amount)), ("currency", text("EUR"))]
}

/// What our node shows to others, checked by Python: size, and the names of those who signed.
async fn shown(site: &Site, witnesses: &[(&str, &Path)]) -> (u64, Vec<String>) {
    let file = site.outside().join("shown.note");
    std::fs::write(&file, site.node.get_bytes("/tlog/checkpoint").await.unwrap()).unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/witnessed_check.py")).arg(file).arg("press-line");
    command.arg(site.dir().join("keys/node.pub.pem"));
    command.args(witnesses.iter().map(|(name, key)| format!("{name}={}", key.display())));
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let signed = answer["signed"].as_object().unwrap();
    let names = signed.iter().filter(|(_, time)| !time.is_null()).map(|(name, _)| name.clone());
    (answer["size"].as_u64().unwrap(), names.collect())
}

async fn status(site: &Site) -> Value {
    site.node.get_json("/status").await.unwrap()["witnesses"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_make_a_receipt_final_whoever_of_them_is_away() {
    let site = Site::of_one_press().await;
    let (one, two) =
        (Witness::of(&site, "acme.example/w1", "ed25519").await, Witness::of(&site, "plant.example/w2", "p256").await);
    let not_ours = PythonWitness::start(&site, "not-ours", "honest").await;
    ask_witnesses(&site, 2, "5s", &[one.line(), two.line(), not_ours.line.clone()]);
    let (mut first, mut second) = (one.start().await, two.start().await);
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let known: Vec<(&str, &Path)> = vec![(&one.name, &one.dir), (&two.name, &two.dir)];
    let keys: Vec<_> = known.iter().map(|(name, dir)| (*name, dir.join("witness.pub.pem"))).collect();
    let keys: Vec<_> =
        keys.iter().map(|(name, key)| (*name, key.as_path())).chain([("not-ours", not_ours.key.as_path())]).collect();

    let paid = acme.call(&site.node, "accounts", "transfer", None, &pay(1)).await;
    let (size, signed) = shown(&site, &keys).await;
    assert!(size > paid.entry && signed.len() >= 2, "{size} {signed:?}");
    // All three sign in the end: also the one that is not ours, also the P-256 one.
    eventually("all three to sign", async || (shown(&site, &keys).await.1.len() == 3).then_some(())).await;

    // One is killed: nobody notices.
    first.kill().await;
    for amount in 2..6 {
        acme.call(&site.node, "accounts", "transfer", None, &pay(amount)).await;
    }
    let (size, signed) = shown(&site, &keys).await;
    assert_eq!(signed, ["not-ours", "plant.example/w2"], "{size}");

    // Two are away: durable, not final, and said so; the ledger goes on.
    second.kill().await;
    let statement = acme.seal("accounts", "transfer", None, &pay(6));
    let Err(SubmitError::NotFinal { cause }) = site.node.submit(&statement).await else { panic!("it cannot be final") };
    assert!(cause.contains("waiting for") && cause.contains("of 2 witnesses"), "{cause}");
    let id = SignedStatement::parse(&statement).unwrap().id;
    assert!(site.node.get_bytes(&format!("/entries/{id}")).await.is_err(), "no receipt before it is final");
    let outcome = site.node.get_json(&format!("/entries/{id}/outcome")).await.unwrap();
    assert_eq!(outcome["refusal"], 0, "executed all the same");
    assert!(status(&site).await["entries_behind"].as_u64().unwrap() >= 1);
    assert!(Site::metric(&site.node, "tally_witnesses_failed_total", "w1").await >= 1.0);

    // Everything is started again, in the other order; the receipt comes.
    node.kill().await;
    let mut node = site.start_node().await;
    assert!(matches!(site.node.submit(&statement).await, Err(SubmitError::NotFinal { .. })), "also after a restart");
    let _second = two.start().await;
    let receipt = eventually("the receipt", async || site.node.submit(&statement).await.ok()).await;
    assert!(Receipt::parse(&receipt.receipt).unwrap().check(&id, &site.ledger_key()).is_ok());
    let kept = std::fs::read_to_string(site.dir().join("node/witness/final.note")).unwrap();
    node.kill().await;
    let _node = site.start_node().await;
    let log = LogKey::new("press-line".to_owned(), site.ledger_key().into());
    assert!(TreeNote::open(&kept, &log).unwrap().size > receipt.entry);
    assert!(site.node.get_bytes(&format!("/entries/{id}")).await.is_ok(), "final stays final");
}

#[tokio::test(flavor = "multi_thread")]
async fn liars_and_sluggards_count_for_nothing_and_slow_nobody() {
    let site = Site::of_one_press().await;
    let mut lines = Vec::new();
    let mut others = Vec::new();
    for mode in ["bad-signature", "old-time", "replay", "slow"] {
        let witness = PythonWitness::start(&site, mode, mode).await;
        lines.push(witness.line.clone());
        others.push(witness);
    }
    let honest = Witness::of(&site, "honest", "ed25519").await;
    lines.push(honest.line());
    ask_witnesses(&site, 2, "1s", &lines);
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let _honest = honest.start().await;
    // The first note is signed by two: the honest one, and the replayer, whose first signature is a true one.
    let first = acme.seal("accounts", "transfer", None, &pay(1));
    eventually("the honest one to be asked", async || honest.size().await).await;
    let _ = site.node.submit(&first).await;
    let wrong = async |name: &str, code: &str| {
        eventually(&format!("{name} to be caught"), async || {
            let label = format!("code=\"{code}\",witness=\"{name}\"");
            (Site::metric(&site.node, "tally_witnesses_failed_total", &label).await >= 1.0).then_some(())
        })
        .await;
    };
    for amount in 2..5 {
        let _ = site.node.submit(&acme.seal("accounts", "transfer", None, &pay(amount))).await;
    }
    wrong("bad-signature", "bad-signature").await;
    wrong("old-time", "wrong-time").await;
    wrong("replay", "bad-signature").await;
    wrong("slow", "away").await;
    let last = acme.seal("accounts", "transfer", None, &pay(9));
    assert!(
        matches!(site.node.submit(&last).await, Err(SubmitError::NotFinal { .. })),
        "one honest witness is not two"
    );
    let state = status(&site).await;
    assert!(state["seconds_behind"].as_u64().is_some() && state["alarm"].is_null(), "{state}");
    // The ledger itself is as fast as without them: nobody waits any more once they have been away for longer than `wait`.
    eventually("the ledger to wait for nobody", async || {
        (status(&site).await["seconds_behind"].as_u64()? >= 2).then_some(())
    })
    .await;
    for amount in 10..40 {
        let statement = acme.seal("accounts", "transfer", None, &pay(amount));
        assert!(matches!(site.node.submit(&statement).await, Err(SubmitError::NotFinal { .. })));
    }
    drop(others);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_three_wait_for_the_last_one() {
    let site = Site::of_one_press().await;
    let witnesses = [
        Witness::of(&site, "w1", "ed25519").await,
        Witness::of(&site, "w2", "p256").await,
        Witness::of(&site, "w3", "ed25519").await,
    ];
    ask_witnesses(&site, 3, "1s", &witnesses.each_ref().map(Witness::line));
    let (_one, _two) = (witnesses[0].start().await, witnesses[1].start().await);
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let statement = acme.seal("accounts", "transfer", None, &pay(1));
    let Err(SubmitError::NotFinal { cause }) = site.node.submit(&statement).await else { panic!("w3 is away") };
    assert!(cause.contains("of 3 witnesses"), "{cause}");
    // The explorer does not call final what the API does not.
    let id = SignedStatement::parse(&statement).unwrap().id.to_string();
    let entry = async || {
        let node = site.node.address().to_string();
        Process::says(tally_command(&["ledger", "--node", &node, "entry", &id])).await
    };
    let (code, said) = entry().await;
    assert!(code == Some(0) && said.contains("state        durable") && said.contains("of 3 witnesses"), "{said}");
    // And who calls is not told to do it again.
    let node = site.node.address().to_string();
    let acme_key = site.dir().join("keys/acme.key").display().to_string();
    let call = ["call", "accounts", "transfer", "--node", &node, "--as", "acme", "--key", &acme_key];
    let call = [&call[..], &["--arg", "to=fixit", "--arg", "amount=1", "--arg", "currency=EUR"]].concat();
    let (code, said) = Process::says(tally_command(&call)).await;
    assert!(code == Some(0) && said.contains("not final yet") && said.contains("do not call again"), "{said}");
    let _three = witnesses[2].start().await;
    eventually("the receipt", async || site.node.submit(&statement).await.ok()).await;
    let (_, said) = entry().await;
    assert!(said.contains("state        final"), "{said}");
    assert_eq!(witnesses[2].size().await, witnesses[0].size().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_key_are_caught_and_the_proof_convinces_strangers() {
    let site = Site::of_one_press().await;
    let witness = Witness::of(&site, "w1", "ed25519").await;
    ask_witnesses(&site, 1, "5s", &[witness.line()]);
    // The twin: the same key and genesis, other entries. It is not asked to be watched.
    let twin = site.dir().join("twin.yaml");
    let config = std::fs::read_to_string(site.dir().join("node.yaml")).unwrap();
    let port = free_port();
    let config = config.replace("data: node\n", "data: twin\n");
    let listen = config.lines().find(|line| line.starts_with("listen:")).unwrap().to_owned();
    std::fs::write(&twin, config.replace(&listen, &format!("listen: [\"tcp:127.0.0.1:{port}\"]"))).unwrap();
    let mut watcher = witness.start().await;
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    // Not a power of two: then the path that the twin gives proves to the witness what the twin is (docs/formats/witness.md).
    for amount in 1..6 {
        acme.call(&site.node, "accounts", "transfer", None, &pay(amount)).await;
    }
    let size = witness.size().await.unwrap();
    node.kill().await;
    let mut second = Process::start("the twin", tally_command(&["node", "--config", &twin.display().to_string()]));
    let client = tally_ledger_client::Client::new(format!("tcp:127.0.0.1:{port}").parse().unwrap());
    eventually("the twin", async || {
        assert!(second.is_running(), "{}", second.tail());
        client.get_bytes("/ready").await.ok()
    })
    .await;
    // It is behind first: the witness has seen more of this ledger than the log here holds.
    let alarmed = async |words: &str| {
        eventually(words, async || {
            let state = client.get_json("/status").await.unwrap()["witnesses"].clone();
            state["alarm"].as_str().is_some_and(|alarm| alarm.contains(words)).then_some(())
        })
        .await;
    };
    alarmed("the log here ends at").await;
    // It grows to the same size and beyond.
    for amount in 11..19 {
        let _ = client.submit(&acme.seal("accounts", "transfer", None, &pay(amount))).await;
    }
    alarmed("the key signed two histories").await;
    assert!(Site::metric(&client, "tally_witnesses_alarm", "").await >= 1.0);
    let own = site.dir().join("twin/witness/alarm.split");
    let theirs = eventually("the witness's alarm", async || {
        let state = witness.client.get_json("/status").await.unwrap();
        state["logs"][0]["alarm"].as_str().map(str::to_owned)
    });
    // Each side may hold the proof: the node's own is enough for strangers. The witness has one when the path it was given proves it.
    let is_proved = async |file: &Path| {
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/split_check.py")).arg(file).arg(site.dir().join("keys/node.pub.pem"));
        let output = Process::run(command, PATIENCE).await;
        let by_python = output.status.code();
        let key = site.dir().join("keys/node.pub.pem").display().to_string();
        let shown = file.display().to_string();
        let ours = Process::run(tally_command(&["witness", "compare", &shown, "--ledger-key", &key]), PATIENCE).await;
        assert_eq!(by_python, ours.status.code(), "{}", String::from_utf8_lossy(&ours.stderr));
        by_python == Some(1)
    };
    assert!(own.exists() && size > 0);
    let (is_own, theirs) = (is_proved(&own).await, theirs.await);
    let is_theirs = is_proved(Path::new(&theirs)).await;
    assert!(is_own && is_theirs, "own {is_own}, the witness's {is_theirs}");
    // It says so to whoever asks, signs nothing more, also after a restart, until an operator settles it.
    let address = format!("tcp:127.0.0.1:{}", witness.port);
    let asked = Process::run(tally_command(&["witness", "status", "--witness", &address]), PATIENCE).await;
    assert_eq!(asked.status.code(), Some(1), "{}", String::from_utf8_lossy(&asked.stdout));
    watcher.terminate().await;
    let mut watcher = witness.start().await;
    assert_eq!(witness.size().await, Some(size));
    watcher.kill().await;
    second.kill().await;
    let config = witness.dir.join("witness.yaml").display().to_string();
    let settle = ["witness", "settle", "press-line", "--config", &config];
    assert_eq!(Process::run(tally_command(&settle), PATIENCE).await.status.code(), Some(0));
    let _watcher = witness.start().await;
    let _node = site.start_node().await;
    acme.call(&site.node, "accounts", "transfer", None, &pay(20)).await;
    assert!(witness.size().await > Some(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_others_is_cosigned_as_specified() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("log.key");
    let made = tally_command(&["keys", "new", &key.display().to_string(), "--algorithm", "ed25519"]);
    assert!(Process::run(made, PATIENCE).await.status.success());
    for algorithm in ["ed25519", "p256"] {
        let name = format!("witness.example/{algorithm}");
        let log = "example.com/behind-the-sofa";
        let witness = Witness::watching(dir.path(), &name, algorithm, log, &dir.path().join("log.pub.pem")).await;
        let _process = witness.start().await;
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/witness_check.py")).arg(format!("http://127.0.0.1:{}", witness.port));
        command.args([log.as_ref(), key.as_os_str(), name.as_ref(), witness.key().as_os_str()]);
        let output = Process::run(command, PATIENCE).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pem = std::fs::read_to_string(witness.key()).unwrap();
        assert!(NoteVerifyingKey::from_pem(&pem).is_ok());
        assert!(Site::metric(&witness.client, "tally_witness_alarm", log).await >= 1.0);
    }
}
