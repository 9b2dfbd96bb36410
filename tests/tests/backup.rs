//! A copy made while the node works under load, restored on another folder: the same ledger, receipt by receipt. Copies that
//! were altered, cut or are of another ledger are refused and leave nothing behind. `tally ledger du` explains every byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use tally_evidence::StatementId;
use tally_evidence::cbor::{int, text};
use tally_tests::{Chain, Done, Party, Process, Site, eventually, tally_command};

async fn tally(arguments: &[&str]) -> (Option<i32>, String) {
    Process::says(tally_command(arguments)).await
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

async fn pay(site: &Site, acme: &Party) -> Done {
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    acme.call(&site.node, "accounts", "transfer", None, &args).await
}

/// What was acknowledged: statement and receipt.
type Told = Arc<Mutex<Vec<(StatementId, Vec<u8>)>>>;

/// Pays one cent after the other, and remembers what was acknowledged.
async fn pay_on(site: Arc<Site>, told: Told) {
    let acme = Party::of(&site, "acme");
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    loop {
        let statement = acme.seal("accounts", "transfer", None, &args);
        let id = tally_evidence::SignedStatement::parse(&statement).unwrap().id;
        let submitted = site.node.submit(&statement).await.unwrap();
        told.lock().unwrap().push((id, submitted.receipt));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_under_load_is_the_same_ledger() {
    let site = Arc::new(Site::of_one_press().await);
    let mut node = site.start_node().await;
    let told = Told::default();
    let payers: Vec<_> = (0..3).map(|_| tokio::spawn(pay_on(Arc::clone(&site), Arc::clone(&told)))).collect();
    eventually("some payments", async || (told.lock().unwrap().len() > 30).then_some(())).await;
    let config = shown(&site.dir().join("node.yaml"));
    let copy = site.outside().join("copy");
    let before = told.lock().unwrap().len();
    let (code, said) = tally(&["backup", &shown(&copy), "--config", &config]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("copied to") && said.contains("entries in"), "{said}");
    eventually("payments after the copy", async || (told.lock().unwrap().len() > before + 5).then_some(())).await;
    payers.iter().for_each(tokio::task::JoinHandle::abort);
    // A folder with a copy in it takes no second one.
    let (code, said) = tally(&["backup", &shown(&copy), "--config", &config]).await;
    assert!(code == Some(2) && said.contains("is not empty"), "{said}");

    let whole = Chain::read(&site.node, &site.ledger_key()).await;
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    let (code, said) = tally(&["restore", &shown(&copy), "--config", &config]).await;
    assert!(code == Some(2) && said.contains("there is a ledger in"), "{said}");
    std::fs::rename(site.dir().join("node"), site.outside().join("old")).unwrap();
    let (code, said) = tally(&["restore", &shown(&copy), "--config", &config]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("executed again"), "{said}");

    let mut node = site.start_node().await;
    let restored = Chain::read(&site.node, &site.ledger_key()).await;
    let count = restored.checkpoints.len();
    assert_eq!(restored.checkpoints[..], whole.checkpoints[..count], "the copy is the beginning of the ledger");
    // All that was acknowledged before the copy began, under the same receipts.
    for (id, receipt) in told.lock().unwrap().iter().take(before) {
        assert_eq!(&restored.find(id).expect("acknowledged before the copy").receipt, receipt);
    }
    explained(&site).await;
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

fn bytes_below(folder: &Path) -> u64 {
    let size = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { bytes_below(&entry.path()) } else { meta.len() }
    };
    std::fs::read_dir(folder).unwrap().map(|entry| size(entry.unwrap())).sum()
}

/// The parts of `tally ledger du` add up to the files, byte by byte.
async fn explained(site: &Site) {
    let data = site.dir().join("node");
    std::fs::write(data.join("notes.txt"), b"left here by mistake").unwrap();
    let socket = format!("unix:{}", shown(&site.dir().join("node.sock")));
    let (code, said) = tally(&["ledger", "--node", &socket, "du", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let usage: serde_json::Value = serde_json::from_str(&said).unwrap();
    let parts = usage["parts"].as_array().unwrap();
    let sum = |place: &str| -> u64 {
        let of = parts.iter().filter(|part| part["place"].as_str().unwrap().starts_with(place));
        of.map(|part| part["bytes"].as_u64().unwrap()).sum()
    };
    let files = bytes_below(&data);
    assert_eq!((sum(""), usage["bytes"].as_u64().unwrap()), (files, files), "{said}");
    assert_eq!(sum("notes.txt"), 20);
    assert_eq!(sum("state.redb"), std::fs::metadata(data.join("state.redb")).unwrap().len());
    // The statements are what the ledger shows, and the rest of the log is explained by its format: heads of 64 bytes,
    // frames of 8, marks of 24.
    let chain = Chain::read(&site.node, &site.ledger_key()).await;
    let statements: usize = chain.entries.iter().map(|entry| entry.bytes.len()).sum();
    let part = |what: &str| {
        let part = parts.iter().find(|part| part["what"].as_str().unwrap().contains(what));
        part.unwrap_or_else(|| panic!("no part `{what}`: {said}"))["bytes"].as_u64().unwrap()
    };
    assert_eq!(part("as they were signed"), u64::try_from(statements).unwrap());
    let frames = part("sync marks") - 64 - 8 * u64::try_from(chain.checkpoints.len()).unwrap();
    assert_eq!(frames % 24, 0, "{said}");
    let (_, said) = tally(&["ledger", "--node", &socket, "du"]).await;
    assert!(said.contains("in all") && said.contains("notes.txt") && said.contains("somebody put it here"), "{said}");
    std::fs::remove_file(data.join("notes.txt")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_copy_is_refused_and_leaves_nothing() {
    let site = Site::of_one_press().await;
    let (config, copy) = (shown(&site.dir().join("node.yaml")), site.outside().join("copy"));
    let (code, said) = tally(&["backup", &shown(&copy), "--config", &config]).await;
    assert!(code == Some(2) && said.contains("holds no ledger"), "{said}");
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    for _ in 0..5 {
        pay(&site, &acme).await;
    }
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    // Nobody has the ledger open now.
    let _ = std::fs::remove_dir_all(&copy);
    let (code, said) = tally(&["backup", &shown(&copy), "--config", &config]).await;
    assert_eq!(code, Some(0), "{said}");
    std::fs::rename(site.dir().join("node"), site.outside().join("old")).unwrap();

    let segment = copy.join("log/00000000000000000000.seg");
    let (manifest, bytes) = (copy.join("MANIFEST.json"), std::fs::read(&segment).unwrap());
    let text = std::fs::read_to_string(&manifest).unwrap();
    let flipped = {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        flipped
    };
    // Somebody who adapts the manifest to his change is stopped by checksums and seals.
    let digest = |bytes: &[u8]| hex::encode(tally_evidence::sha256(bytes));
    let adapted = text.replace(&digest(&bytes), &digest(&flipped));
    assert_ne!(adapted, text);
    for (segment_bytes, manifest_text, word) in [
        (&flipped[..], &*text, "SHA-256"),
        (&bytes[..bytes.len() - 30], &text, "the manifest says"),
        (&flipped, &adapted, "does not hold"),
        (&bytes, "{}", "names no version"),
        (&bytes, &text.replace("\"tallystick_backup\": 4", "\"tallystick_backup\": 5"), "has version 5"),
        (
            &bytes,
            &text.replace("\"ledger\": \"press-line\"", "\"ledger\": \"other-line\""),
            "node.yaml says `press-line`",
        ),
        (&bytes, &text.replace("00000000000000000000.seg", "../../keys/node.key"), "is no segment"),
        // What it says in clear is what its sealed checkpoint says.
        (&bytes, &text.replace("\"entries\": 6", "\"entries\": 7"), "entries is 7, its sealed checkpoint says 6"),
        (&bytes, &text.replace("\"time\": \"20", "\"time\": \"21"), "time is 21"),
    ] {
        std::fs::write(&segment, segment_bytes).unwrap();
        std::fs::write(&manifest, manifest_text).unwrap();
        let (code, said) = tally(&["restore", &shown(&copy), "--config", &config]).await;
        assert!(code == Some(2) && said.contains(word), "{word}: {said}");
        assert!(!site.dir().join("node/log").exists(), "{word}");
    }
    std::fs::write(&segment, &bytes).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    let (code, said) = tally(&["restore", &shown(&copy), "--config", &config]).await;
    assert!(code == Some(2) && said.contains("no whole copy"), "{said}");
    std::fs::write(&manifest, &text).unwrap();
    let (code, said) = tally(&["restore", &shown(&copy), "--config", &config]).await;
    assert_eq!(code, Some(0), "{said}");
    let mut node = site.start_node().await;
    assert_eq!(Chain::read(&site.node, &site.ledger_key()).await.entries.len(), 6);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
