//! `tally ledger`: what a newcomer sees of a ledger, and that its proofs say no where they should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use std::process::Stdio;
use tally_evidence::cbor::{int, text};
use tally_tests::{PATIENCE, Party, Process, Site, eventually, tally_command};

/// `tally ledger …` of the site; gives the exit code and both outputs.
async fn ledger(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let node = format!("unix:{}", site.dir().join("node.sock").display());
    let mut command = tally_command(&["ledger", "--node", &node]);
    command.args(arguments);
    let output = Process::run(command, PATIENCE).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

async fn as_json(site: &Site, arguments: &[&str]) -> (i32, Value) {
    let (code, out, err) = ledger(site, &[&["--json"], arguments].concat()).await;
    (code, serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}{err}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_blocks_and_proofs_of_a_ledger() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let pay = |amount: i64| [("to", text("fixit")), ("amount", int(amount)), ("currency", text("EUR"))];
    for amount in 1..=5 {
        acme.call(&site.node, "accounts", "transfer", None, &pay(amount)).await;
    }
    let refused = acme.call(&site.node, "accounts", "transfer", None, &pay(i64::MAX)).await;
    assert!(refused.refusal.is_some());

    let (code, shown, _) = ledger(&site, &["show"]).await;
    assert_eq!(code, 0);
    assert!(shown.contains("press-line") && shown.contains("entries      7"), "{shown}");

    let (code, found) = as_json(&site, &["entries", "--limit", "3", "--from", "5"]).await;
    let numbers: Vec<_> = found["entries"].as_array().unwrap().iter().map(|row| row["entry"].clone()).collect();
    assert_eq!((code, numbers), (0, vec![json!(5), json!(4), json!(3)]));
    let (_, shown, _) = ledger(&site, &["entries"]).await;
    assert_eq!(shown.lines().count(), 8, "a head and seven entries, down to the genesis: {shown}");
    assert!(shown.contains(&format!("refused ({})", refused.refusal.unwrap())), "{shown}");
    assert!(shown.contains("accounts.transferred"), "{shown}");

    let (_, entry) = as_json(&site, &["entry", &refused.id.to_string()]).await;
    assert_eq!((&entry["signer"], &entry["outcome"]["refusal"]), (&json!("acme"), &json!(refused.refusal)));
    assert_eq!(entry["body"]["args"]["amount"], json!(i64::MAX));
    let (_, block) = as_json(&site, &["block", "0"]).await;
    assert_eq!(
        (&block["height"], &block["size"], &block["entries"][0]["subject"]),
        (&json!(0), &json!(1), &json!("registry"))
    );

    let key = |party: &str| site.dir().join("keys").join(format!("{party}.pub.pem")).display().to_string();
    let files = site.outside().join("proof");
    let output = files.display().to_string();
    let (code, proof) = as_json(&site, &["proof", "3", "--ledger-key", &key("node"), "--output", &output]).await;
    assert_eq!((code, &proof["holds"], &proof["index"]), (0, &json!(true), &json!(3)));
    assert!(files.join("receipt.cose").exists() && files.join("statement.cose").exists());
    let (code, shown, _) = ledger(&site, &["proof", "3", "--ledger-key", &key("acme")]).await;
    assert_eq!(code, 1, "sealed by another than the key we know: {shown}");
    assert!(shown.contains("DOES NOT HOLD: checkpoint: sealed by the key"), "{shown}");
    assert!(shown.contains(&site.ledger_key().id().to_string()), "whose it is instead: {shown}");
    let (_, entry) = as_json(&site, &["entry", "3"]).await;
    assert!(entry["time"].as_str().is_some_and(|time| time.starts_with("20")), "{entry}");

    for missing in [&["entry", "7"][..], &["block", "7000"], &["proof", &"0".repeat(64)]] {
        let (code, _, said) = ledger(&site, missing).await;
        assert_eq!(code, 1, "{missing:?}: {said}");
        assert!(said.contains("there is no"), "{said}");
    }
    let (code, _, said) = ledger(&site, &["entry", "what?"]).await;
    assert_eq!(code, 2, "{said}");
}

/// `tally … | head -1`, and a full disk behind `>`: no panic, and never the exit code of an answer.
#[tokio::test(flavor = "multi_thread")]
async fn standard_output_that_nobody_takes() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let node = site.node.address().to_string();
    // The tables follow the ledger, and a table without rows is an answer without a word.
    eventually("a row of the tables", async || {
        let (_, said) = Process::says(tally_command(&["query", "entries", "--csv", "--node", &node])).await;
        (!said.is_empty()).then_some(())
    })
    .await;
    for question in [&["ledger", "show"][..], &["query", "entries", "--csv"], &["balance", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        for (output, word) in [(Stdio::from(writer), ""), (full.into(), "No space left on device")] {
            let mut command = tally_command(&[question, &["--node", &node]].concat());
            let child = command.stdout(output).stderr(Stdio::piped()).spawn().unwrap();
            let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{question:?}: {said}");
            assert!(!said.contains("panicked") && said.contains(word), "{question:?}: {said}");
            assert_eq!(said.is_empty(), word.is_empty(), "{question:?}: {said}");
        }
    }
}

/// Who asks the wrong one of our programs, or for what is not there, is told so.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_address_and_the_wrong_name() {
    let site = Site::of_one_press().await;
    let (_node, _agent) = (site.start_node().await, site.start_agent().await);
    let at = |name: &str| format!("unix:{}", site.dir().join(name).display());
    for question in [&["ledger", "show"][..], &["query", "success"], &["ledger", "proof", "0"]] {
        let (code, said) = Process::says(tally_command(&[question, &["--node", &at("agent.sock")]].concat())).await;
        assert!(code == Some(2) && said.contains("is this the address of a node?"), "{question:?}: {said}");
    }
    let history =
        async |id: &str| Process::says(tally_command(&["query", "history", id, "--node", &at("node.sock")])).await.1;
    let unknown =
        async |id: &str| history(id).await.contains(&format!("no agreement, device or party is named `{id}`"));
    assert!(unknown("press-1").await);
    // The tables follow the ledger.
    eventually("the history of press-01", async || (!unknown("press-01").await).then_some(())).await;
}

/// Questions that can have no answer are no empty answers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    for (question, word) in [
        (&["--csv"][..], "nothing is asked"),
        (&["--sql", "SELECT 1", "agreements"], "leave out the other one"),
        (&["--sql", " "], "--sql is empty"),
        (&["--sql", "SELECT 1", "--proofs"], "cannot prove"),
        (&["entries", "--since", "2027-01-01T00:00:00Z", "--until", "2026-01-01T00:00:00Z"], "swap them"),
        (&["entries", "--kind", "triger"], "trigger, call, anchor, batch, pruned, unknown"),
    ] {
        let (code, said) = Process::says(tally_command(&[&["query"], question].concat())).await;
        assert!(code == Some(2) && said.contains(word), "{question:?}: {said}");
    }
}

/// What others wrote cannot command the terminal it is shown on.
#[tokio::test(flavor = "multi_thread")]
async fn escapes_of_others_do_not_reach_the_terminal() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    let node = site.node.address().to_string();
    let acme = Party::of(&site, "acme");
    let report = [("device", text("press-01")), ("fault", text("leak\u{1b}[31m\u{7}\nand more"))];
    let done = acme.call(&site.node, "maintenance-order", "report", None, &report).await;
    assert!(done.refusal.is_none(), "{:?}", done.refusal);
    let refused = acme.call(&site.node, "accounts", "transfer", None, &[("to", text("\u{1b}[31m"))]).await;
    for question in [&["order", "mo-1"][..], &["orders"], &["ledger", "entry", &refused.id.to_string()]] {
        let (code, said) = Process::says(tally_command(&[question, &["--node", &node]].concat())).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
    }
}
