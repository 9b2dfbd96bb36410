//! A full disk under the node's store and under the agent's vault and outbox: both refuse loudly, say so on `/ready`, and
//! lose nothing that was acknowledged. Each once with a limit on file sizes (everywhere), once with a real small disk
//! (where mounting is allowed; see [`TinyDisk`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::time::Duration;
use tally_evidence::Transition;
use tally_evidence::cbor::{int, text};
use tally_ledger_client::{RequestError, SubmitError};
use tally_tests::{Chain, Done, Manner, Party, Process, Rogue, Site, TinyDisk, eventually, press};

fn line(port: u16) -> String {
    press(
        port,
        r#"    every: 50ms
    points:
      - {id: stopped, at: coil:0, unit: "1"}
triggers:
  - {id: emergency-stop, device: press-01, when: stopped}
"#,
    )
}

async fn pay(site: &Site, acme: &Party) -> Done {
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    acme.call(&site.node, "accounts", "transfer", None, &args).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_the_node_with_a_limit_on_file_sizes() {
    the_store_of_the_node(TinyDisk::limited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_the_node_on_a_small_disk() {
    the_store_of_the_node(TinyDisk::real).await;
}

async fn the_store_of_the_node(disk: impl FnOnce(&Path) -> TinyDisk) {
    let site = Site::new(&line(1), None).await;
    let disk = disk(&site.dir().join("node"));
    let mut node = Process::start("tally node", disk.command(&site.command("node")));
    site.node_ready(&mut node).await;
    let acme = Party::of(&site, "acme");
    let mut acknowledged = Vec::new();
    for _ in 0..20 {
        acknowledged.push(pay(&site, &acme).await);
    }

    disk.fill(&node);
    // Whatever still fits into the last block of the disk may be taken; then it ends, and not by silence.
    let refusal = eventually("the node to refuse", async || {
        let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
        let statement = acme.seal("accounts", "transfer", None, &args);
        match site.node.submit(&statement).await {
            Ok(submitted) => {
                let id = tally_evidence::SignedStatement::parse(&statement).unwrap().id;
                let (receipt, entry, refusal) = (submitted.receipt, submitted.entry, submitted.refusal);
                acknowledged.push(Done { id, statement, receipt, entry, refusal });
                None
            }
            Err(SubmitError::NotNow { cause, .. }) => Some(cause),
            Err(refused) => panic!("a full disk is not the signer's fault: {refused}"),
        }
    })
    .await;
    assert!(!refusal.is_empty());
    let said = not_ready(&mut node, &site.node).await;
    assert!(said.contains("log") || said.contains("index"), "{said}");
    names_the_cause(&said);
    // Once it has failed it does not try its luck again.
    if node.is_running() {
        let statement = acme.seal("accounts", "transfer", None, &[]);
        assert!(matches!(site.node.submit(&statement).await, Err(SubmitError::NotNow { .. })));
    }

    disk.free(&mut node);
    end(&mut node).await;
    let mut node = Process::start("tally node", disk.command(&site.command("node")));
    site.node_ready(&mut node).await;
    acknowledged.push(pay(&site, &acme).await);
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    for done in &acknowledged {
        let entry = chain.find(&done.id).unwrap_or_else(|| panic!("entry {} was acknowledged and is gone", done.entry));
        assert_eq!((entry.index, &entry.bytes, &entry.receipt), (done.entry, &done.statement, &done.receipt));
    }
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

/// ENOSPC or EFBIG in words: an operator must not have to guess why a file cannot be written.
#[track_caller]
fn names_the_cause(said: &str) {
    assert!(said.contains("No space left on device") || said.contains("File too large"), "{said}");
}

/// What `/ready` says when it does not say yes, or the log when the process ended (which must not look like success).
async fn not_ready(process: &mut Process, client: &tally_ledger_client::Client) -> String {
    eventually("a word on /ready, or an end with an error", async || match client.get_bytes("/ready").await {
        Ok(_) => None,
        Err(RequestError::NotNow { text, .. }) => Some(text),
        Err(_) if !process.is_running() => {
            process.ended().await;
            Some(process.log())
        }
        Err(_) => None,
    })
    .await
}

/// Ends a process that stopped at a failure. Unless it ended by itself, it may not call that a success either.
async fn end(process: &mut Process) {
    process.signal("TERM").await;
    let status = process.ended().await;
    assert_ne!(status.code(), Some(0), "it stopped at a failure and says that all is well{}", process.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_and_outbox_of_the_agent_with_a_limit_on_file_sizes() {
    vault_and_outbox_of_the_agent(TinyDisk::limited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_and_outbox_of_the_agent_on_a_small_disk() {
    vault_and_outbox_of_the_agent(TinyDisk::real).await;
}

async fn vault_and_outbox_of_the_agent(disk: impl FnOnce(&Path) -> TinyDisk) {
    let press = Rogue::start(Manner::Good(0)).await;
    let site = Site::new(&line(press.port), None).await;
    let disk = disk(&site.dir().join("agent"));
    let mut node = site.start_node().await;
    let mut agent = Process::start("tally agent", disk.command(&site.command("agent")));
    site.agent_live(&mut agent).await;
    // Four triggers: two are on the ledger, two are sealed while the node is away.
    toggle(&press, &site, 2).await;
    eventually("two triggers on the ledger", async || (triggers(&site).await == 2).then_some(())).await;
    assert_eq!(node.terminate().await.code(), Some(0));
    toggle(&press, &site, 4).await;

    disk.fill(&agent);
    press.behave(Manner::Good(1));
    let said = not_ready(&mut agent, &site.agent).await;
    assert!(said.contains("vault") || said.contains("outbox"), "{said}");
    names_the_cause(&said);
    eventually("an error in the log", async || agent.log().contains("ERROR").then_some(())).await;
    disk.free(&mut agent);
    end(&mut agent).await;

    // Room again, node again: what was sealed arrives, each trigger once, the interrupted one as well.
    let _node = site.start_node().await;
    let mut agent = Process::start("tally agent", disk.command(&site.command("agent")));
    site.agent_live(&mut agent).await;
    eventually("five triggers on the ledger", async || (triggers(&site).await >= 5).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    let found: Vec<_> = chain.triggers("agent-01").iter().map(|(_, body)| (body.number, body.transition)).collect();
    let expected: Vec<_> =
        (0..5).map(|n| (n, if n % 2 == 0 { Transition::Raised } else { Transition::Cleared })).collect();
    assert_eq!(found, expected);
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
}

/// Sets and clears the coil until `count` triggers are sealed altogether.
async fn toggle(press: &Rogue, site: &Site, count: u64) {
    let start = site.counter("triggers_sealed").await;
    for number in start..count {
        press.behave(Manner::Good(u8::from(number % 2 == 0)));
        eventually("a sealed trigger", async || (site.counter("triggers_sealed").await > number).then_some(())).await;
    }
}

/// How many triggers the ledger has.
async fn triggers(site: &Site) -> usize {
    Chain::read(&site.node, &site.ledger_key()).await.triggers("agent-01").len()
}
