//! The plug is pulled while the node works: its data folder is an ext4 that is shut down without flushing its journal, and
//! mounted again. After each cut everything is looked at from outside: log, tree, receipts, totals; at the end the state is
//! recomputed from the log alone.
//!
//! Where the machine cannot (no root, no loop device), the test says SKIPPED with the reason and kills the node with -9
//! instead, which tests everything but the disk; unsynced writes are lost there in simulation only
//! (`ledger-node/tests/power_cut.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tally_evidence::Checkpoint;
use tally_evidence::cbor::{int, text};
use tally_ledger_client::SubmitError;
use tally_tests::{Chain, Done, LoopDisk, Party, Process, Site, eventually, random, skipped};
use tokio::task::JoinHandle;

/// Times the plug is pulled.
const CUTS: usize = 6;
/// Parties that pay all the time.
const PAYERS: usize = 4;

/// What was acknowledged so far, and when that was heard.
type Told = Arc<Mutex<Vec<(Instant, Done)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_plug_is_pulled() {
    let site = Arc::new(Site::of_one_press().await);
    site.edit("genesis.yaml", "amount: 5000000}", "amount: 5000000000}");
    let data = site.dir().join("node");
    // Made by `tally init`, and empty until the node begins its ledger.
    let mut disk = LoopDisk::on(&data);
    if let Err(why) = &disk {
        skipped("power cut of a real file system, kill -9 instead", why);
    }
    let seed = seed();
    println!("TALLY_TEST_SEED={seed}");
    let mut next = random(seed);
    let (told, mut began) = (Told::default(), None);
    for cut in 0..CUTS {
        let mut node = site.spawn("node");
        site.node_ready(&mut node).await;
        undecided(&site, &told, began.take()).await;
        check(&site, &told).await;
        let payers: Vec<_> = (0..PAYERS).map(|_| tokio::spawn(pay(Arc::clone(&site), Arc::clone(&told)))).collect();
        let before = told.lock().unwrap().len();
        eventually("a payment", async || (told.lock().unwrap().len() > before).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(next() % 400)).await;
        match &mut disk {
            Ok(disk) => {
                began = Some(Instant::now());
                disk.cut().unwrap();
                fails(&site, &mut node, cut == 0).await;
                stop(payers).await;
                disk.restore();
            }
            Err(_) => {
                node.kill().await;
                stop(payers).await;
            }
        }
    }
    let mut node = site.start_node().await;
    undecided(&site, &told, began).await;
    let chain = check(&site, &told).await;
    println!("{CUTS} cuts, {} payments acknowledged, {} entries", told.lock().unwrap().len(), chain.entries.len());
    the_log_alone_gives_the_same(&site, &chain, &mut node).await;
    drop(node);
}

/// The seed asked for, or any.
fn seed() -> u64 {
    match std::env::var("TALLY_TEST_SEED") {
        Ok(seed) => seed.parse().expect("TALLY_TEST_SEED is a number"),
        Err(_) => u64::from(std::process::id()) << 16,
    }
}

/// Pays one cent after the other; remembers what was acknowledged.
async fn pay(site: Arc<Site>, told: Told) {
    let acme = Party::of(&site, "acme");
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    loop {
        let statement = acme.seal("accounts", "transfer", None, &args);
        let id = tally_evidence::SignedStatement::parse(&statement).unwrap().id;
        match site.node.submit(&statement).await {
            Ok(submitted) => {
                let (receipt, entry, refusal) = (submitted.receipt, submitted.entry, submitted.refusal);
                told.lock().unwrap().push((Instant::now(), Done { id, statement, receipt, entry, refusal }));
            }
            Err(SubmitError::NotNow { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(refused) => panic!("{refused}"),
        }
    }
}

async fn stop(payers: Vec<JoinHandle<()>>) {
    for payer in payers {
        assert!(!payer.is_finished(), "a payer ended early: see above");
        payer.abort();
        let _ = payer.await;
    }
}

/// The node sees that its disk is gone, says so, and takes nothing more. Left alone it ends by itself with exit code 2.
async fn fails(site: &Site, node: &mut Process, to_its_end: bool) {
    let said = eventually("the node to say that its disk is gone", async || {
        let status = site.node.get_json("/status").await.ok()?;
        status["failure"].as_str().map(str::to_owned)
    })
    .await;
    // EIO, or EROFS where the kernel calls it that.
    assert!(said.contains("os error 5)") || said.contains("os error 30)"), "{said}");
    if to_its_end {
        let ended = node.ended().await;
        assert_eq!(ended.code(), Some(2), "{}", node.tail());
    } else {
        node.kill().await;
    }
}

/// Forgets what was heard after the cut began and is not there. A machine without power tells nobody anything; this one runs on,
/// and a sync that is under way while the kernel shuts the disk down may be told that all is well (measured with a bare loop
/// of write and `fdatasync`: 2 of 40 cuts). What was heard before is never forgotten.
async fn undecided(site: &Site, told: &Told, began: Option<Instant>) {
    let Some(began) = began else { return };
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    let mut told = told.lock().unwrap();
    let before = told.len();
    told.retain(|(heard, done)| *heard <= began || chain.find(&done.id).is_some());
    if told.len() < before {
        println!("{} were told while the disk was shut down, and are gone", before - told.len());
    }
}

/// The whole ledger from outside, and everything that was ever acknowledged in it.
async fn check(site: &Site, told: &Told) -> Chain {
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    for (_, done) in told.lock().unwrap().iter() {
        let entry = chain.find(&done.id).unwrap_or_else(|| panic!("entry {} was acknowledged and is gone", done.entry));
        assert_eq!((entry.index, &entry.bytes, &entry.receipt), (done.entry, &done.statement, &done.receipt));
    }
    let totals = site.node.get_json("/totals").await.unwrap();
    assert!(totals.as_object().unwrap().values().all(|sum| sum == 0), "{totals}");
    chain
}

/// Without its index the node executes the whole log again: the same entries, checkpoints, state and balances.
async fn the_log_alone_gives_the_same(site: &Site, chain: &Chain, node: &mut Process) {
    let head =
        async || Checkpoint::open(&site.node.get_bytes("/checkpoint").await.unwrap(), &site.ledger_key()).unwrap();
    let (before, accounts) = (head().await, site.node.get_json("/accounts").await.unwrap());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    std::fs::remove_file(site.dir().join("node/state.redb")).unwrap();
    let mut node = site.start_node().await;
    assert_eq!(head().await, before);
    assert_eq!(site.node.get_json("/accounts").await.unwrap(), accounts);
    assert_eq!(Chain::read(&site.node, &site.ledger_key()).await.checkpoints, chain.checkpoints);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
