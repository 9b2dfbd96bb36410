//! A node whose disk failed: it says why, ends by itself with exit code 2 as an error of its environment, and a supervisor
//! that starts it again gets the ledger back as soon as there is room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_evidence::cbor::{int, text};
use tally_ledger_client::SubmitError;
use tally_tests::{Chain, Party, Process, Site, TinyDisk, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_itself_and_comes_back() {
    let site = Site::of_one_press().await;
    let disk = TinyDisk::limited(&site.dir().join("node"));
    let mut node = Process::start("tally node", disk.command(&site.command("node")));
    site.node_ready(&mut node).await;
    let acme = Party::of(&site, "acme");
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    let paid = acme.call(&site.node, "accounts", "transfer", None, &args).await;

    disk.fill(&node);
    eventually("the node to refuse", async || {
        let statement = acme.seal("accounts", "transfer", None, &args);
        matches!(site.node.submit(&statement).await, Err(SubmitError::NotNow { .. })).then_some(())
    })
    .await;
    // It goes on saying why for a moment …
    let status = site.node.get_json("/status").await.unwrap();
    assert_eq!(status["state"], "failed", "{status}");
    let reason = status["failure"].as_str().unwrap().to_owned();
    // … and ends without being asked.
    let ended = node.ended().await;
    assert_eq!(ended.code(), Some(2), "{}", node.tail());
    assert!(node.log().contains(&reason), "the log does not say `{reason}`{}", node.tail());

    disk.free(&mut node);
    let mut node = Process::start("tally node", disk.command(&site.command("node")));
    site.node_ready(&mut node).await;
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    assert_eq!(chain.find(&paid.id).unwrap().receipt, paid.receipt);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
