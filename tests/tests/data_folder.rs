//! The data folder of the node, in real processes: one node at a time, its own ledger, no newer program's. Each refusal ends with
//! exit code 2 and says what is wrong and where; none changes anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_evidence::cbor::{int, text};
use tally_tests::{Chain, PATIENCE, Party, Process, Site, tally_command};

/// Starts a node that should refuse, with a configuration changed by `change`; gives what it said.
async fn refuses(site: &Site, change: &[(&str, &str)]) -> String {
    let mut config = std::fs::read_to_string(site.dir().join("node.yaml")).unwrap();
    for (from, to) in change {
        assert!(config.contains(from), "{from}: {config}");
        config = config.replace(from, to);
    }
    let file = site.dir().join("other-node.yaml");
    std::fs::write(&file, config).unwrap();
    let output = Process::run(tally_command(&["node", "--config", &file.display().to_string()]), PATIENCE).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn it_belongs_to_one_node_one_ledger_and_no_newer_program() {
    let site = Site::of_one_press().await;
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    let paid = acme.call(&site.node, "accounts", "transfer", None, &args).await;

    // A second node on the same data, at another address: told who has it.
    let said = refuses(&site, &[("node.sock", "other.sock")]).await;
    let holder = format!("process {} (tally)", node.pid());
    assert!(said.contains("in use by") && said.contains(&holder), "{holder}: {said}");
    // The first one did not notice.
    acme.call(&site.node, "accounts", "transfer", None, &args).await;
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());

    let said = refuses(&site, &[("ledger: press-line", "ledger: other-line")]).await;
    assert!(said.contains("holds the ledger `press-line`") && said.contains("`other-line`"), "{said}");
    let said = refuses(&site, &[("keys/node.key", "keys/acme.key")]).await;
    assert!(said.contains("not sealed by the key given"), "{said}");

    let format = site.dir().join("node/FORMAT");
    let ours = std::fs::read(&format).unwrap();
    std::fs::write(&format, "tallystick node data 7\n").unwrap();
    let said = refuses(&site, &[]).await;
    assert!(said.contains("newer version") && said.contains("data format 7") && said.contains("FORMAT"), "{said}");
    std::fs::write(&format, "something else\n").unwrap();
    let said = refuses(&site, &[]).await;
    assert!(said.contains("FORMAT") && said.contains("does not say"), "{said}");
    std::fs::write(&format, ours).unwrap();

    let mut node = site.start_node().await;
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    assert_eq!(chain.entries.len(), 3);
    assert_eq!(chain.find(&paid.id).unwrap().receipt, paid.receipt);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
