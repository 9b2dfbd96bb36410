//! A mirror written in Python follows the ledger's tree as a C2SP tiled log, and PyPI `scitt-cose` checks that it only grew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_evidence::cbor::{int, text};
use tally_evidence::{Checkpoint, ConsistencyReceipt};
use tally_tests::{PATIENCE, Party, Process, Site, free_port, python, root};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_others_recomputes_the_root_from_tiles_and_sees_that_the_log_only_grew() {
    let site = Site::of_one_press().await;
    let port = free_port();
    site.edit("node.yaml", "listen: [", &format!("listen: [\"tcp:127.0.0.1:{port}\", "));
    let _node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let pay = [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))];
    let mut before = None;
    // More than one full tile, and a partial one on each level.
    for number in 0..300 {
        acme.call(&site.node, "accounts", "transfer", None, &pay).await;
        if number == 100 {
            let sealed = site.node.get_bytes("/checkpoint").await.unwrap();
            before = Some(Checkpoint::open(&sealed, &site.ledger_key()).unwrap());
        }
    }
    let (before, key) = (before.unwrap(), site.ledger_key());
    let now = Checkpoint::open(&site.node.get_bytes("/checkpoint").await.unwrap(), &key).unwrap();

    let receipt = site.node.get_bytes(&format!("/consistency/{}", before.size)).await.unwrap();
    let receipt = ConsistencyReceipt::parse(&receipt).unwrap();
    assert_eq!((receipt.old, receipt.size), (before.size, now.size));
    assert_eq!(receipt.check(before.root, &key), Ok(now.root));
    for wrong in [0, now.size + 1] {
        assert!(site.node.get_bytes(&format!("/consistency/{wrong}")).await.is_err(), "{wrong}");
    }
    for wrong in ["0/001.p/200", "0/002", "1/001", "7/000.p/1", "entries/001.p/200", "0/x000/001"] {
        assert!(site.node.get_bytes(&format!("/tlog/tile/{wrong}")).await.is_err(), "{wrong}");
    }

    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/tlog_check.py")).arg(format!("http://127.0.0.1:{port}"));
    command.arg(site.dir().join("keys/node.pub.pem")).arg("press-line");
    let olds = [1, 2, 100, before.size, 256, 257, now.size];
    command.args(olds.map(|old| old.to_string()));
    let output = Process::run(command, PATIENCE).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, json!({"size": now.size, "root": hex::encode(now.root), "consistent_from": olds}));
}
