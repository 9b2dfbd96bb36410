//! One of our statements and its receipt, taken from a running node, checked by a library that is not ours (PyPI
//! `scitt-cose`): the true ones verify, and nothing that differs from them in a single bit does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_evidence::cbor::{int, text};
use tally_evidence::{Checkpoint, Receipt};
use tally_ledger_client::RequestError;
use tally_tests::{PATIENCE, Party, Process, Site, python, root, tally_command};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn scitt_cose_verifies_statement_and_receipt_and_rejects_every_flipped_bit() {
    let site = Site::of_one_press().await;
    let _node = site.start_node().await;
    // A tree of several entries, so that the receipt has a path.
    let acme = Party::of(&site, "acme");
    let pay = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))];
    for _ in 0..4 {
        acme.call(&site.node, "accounts", "transfer", None, &pay).await;
    }
    let done = acme.call(&site.node, "accounts", "transfer", None, &pay).await;
    assert_eq!(done.refusal, None);

    // What the node gives to anyone who asks, not what it answered to us.
    let statement = site.node.get_bytes(&format!("/entries/{}/statement", done.id)).await.unwrap();
    let receipt = site.node.get_bytes(&format!("/entries/{}", done.id)).await.unwrap();
    assert_eq!((&statement, &receipt), (&done.statement, &done.receipt));
    let checkpoint = Checkpoint::open(&site.node.get_bytes("/checkpoint").await.unwrap(), &site.ledger_key()).unwrap();
    assert!(!Receipt::parse(&receipt).unwrap().path.is_empty());

    let files = site.outside();
    std::fs::write(files.join("statement.cose"), &statement).unwrap();
    std::fs::write(files.join("receipt.cose"), &receipt).unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/scitt_check.py"));
    command.arg(files.join("statement.cose")).arg(files.join("receipt.cose"));
    command
        .arg(site.dir().join("keys/acme.pub.pem"))
        .arg(site.dir().join("keys/node.pub.pem"))
        .arg(done.id.to_string());
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();

    assert_eq!((&answer["statement"], &answer["receipt"]), (&json!(true), &json!(true)), "{answer}");
    assert_eq!((&answer["issuer"], &answer["subject"]), (&json!("acme"), &json!("accounts")));
    assert_eq!(answer["root"], hex::encode(checkpoint.root), "the receipt proves the root of the checkpoint");
    assert_eq!((&answer["tree_size"], &answer["leaf_index"]), (&json!(checkpoint.size), &json!(done.entry)));
    assert_eq!(answer["statement_bits"], statement.len() * 8);
    assert_eq!(answer["receipt_bits"], receipt.len() * 8);
    assert_eq!(answer["statement_taken"], json!([]));
    assert_eq!(answer["id_taken"], json!([]));
    assert_eq!(answer["keys_swapped"], false);
    // RFC 9942 signs the root, not the size of the tree: a path can fit several sizes. Our own readers compare the size
    // with the checkpoint of that root. No other bit may differ.
    for forgery in answer["receipt_taken"].as_array().unwrap() {
        assert_ne!(
            forgery[2],
            json!(checkpoint.size),
            "byte {}, bit {} of the receipt is not protected",
            forgery[0],
            forgery[1]
        );
        assert_eq!(forgery[3], json!(done.entry));
    }
}

/// Retention took the statement away. The receipt that the node gives out of what it keeps is the one of before, byte for byte, and
/// still holds for others' tools beside the statement that its sender kept.
#[tokio::test(flavor = "multi_thread")]
async fn scitt_cose_verifies_the_receipt_of_an_entry_that_was_pruned() {
    let site = Site::of_one_press().await;
    site.append("node.yaml", "retention: {disk: 1MiB, segment: 1MiB}\n");
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let pay = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))];
    let done = acme.call(&site.node, "accounts", "transfer", None, &pay).await;
    // The contracts refuse these; they fill the log all the same.
    for _ in 0..20 {
        let heavy = [&pay[..], &[("ballast", text("x".repeat(200_000)))]].concat();
        assert_eq!(acme.call(&site.node, "accounts", "transfer", None, &heavy).await.refusal, Some(143));
    }
    let pass = site.node.post("/retention").await.unwrap();
    assert!(pass["kept_below"].as_u64() > Some(done.entry), "{pass}");
    match site.node.get_bytes(&format!("/entries/{}/statement", done.id)).await {
        Err(RequestError::Refused { status: 410, .. }) => {}
        found => panic!("it was not pruned: {found:?}"),
    }
    let receipt = site.node.get_bytes(&format!("/entries/{}", done.id)).await.unwrap();
    assert_eq!(receipt, done.receipt, "the same bytes");
    // Our own command needs the statement as little as others' do, by id and by index.
    let key = site.dir().join("keys/node.pub.pem").display().to_string();
    for name in [done.id.to_string(), done.entry.to_string()] {
        let node = site.node.address().to_string();
        let ask = tally_command(&["ledger", "--node", &node, "proof", &name, "--ledger-key", &key]);
        let (code, said) = Process::says(ask).await;
        assert!(code == Some(0) && said.contains("holds: ") && said.contains("the archive has it"), "{said}");
        assert!(said.contains(&done.id.to_string()), "{said}");
    }

    // A page with such rows is shown whole, and does not call them proved.
    let page = site.node.get_json("/query/entries?proofs=true&limit=100").await.unwrap();
    let row = page["entries"].as_array().unwrap().iter().find(|row| row["entry"] == done.entry).unwrap();
    assert_eq!(row["proof"]["receipt"], json!(hex::encode(&receipt)), "{row}");
    let node = site.node.address().to_string();
    let ask = tally_command(&["query", "--node", &node, "entries", "--proofs", "--ledger-key", &key]);
    let (code, said) = Process::says(ask).await;
    assert!(code == Some(1) && said.contains("forgotten by retention") && !said.contains("DOES NOT HOLD"), "{said}");

    let files = site.outside();
    std::fs::write(files.join("statement.cose"), &done.statement).unwrap();
    std::fs::write(files.join("receipt.cose"), &receipt).unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/scitt_check.py"));
    command.arg(files.join("statement.cose")).arg(files.join("receipt.cose"));
    command.arg(site.dir().join("keys/acme.pub.pem")).arg(site.dir().join("keys/node.pub.pem"));
    command.arg(done.id.to_string());
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["statement"], &answer["receipt"]), (&json!(true), &json!(true)), "{answer}");
    assert_eq!(answer["leaf_index"], json!(done.entry));
    assert_eq!((&answer["statement_taken"], &answer["id_taken"]), (&json!([]), &json!([])));
}
