//! What is left of keys in memory: the memory of running programs is read, as a core file would have it, and searched. A key that was used
//! and dropped is nowhere; of a key in use only the form that signs is there, and nothing of its file.
//!
//! Who is not root cannot look into a program that holds keys: then that is what is shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead, Write};
use std::path::Path;
use tally_evidence::SigningKey;
use tally_keys::KeySource;
use tally_tests::{Needles, Process, Site, skipped};
use tokio::process::Command;

/// The folder of keys, for the process that is looked at: this program, started anew.
const FOLDER: &str = "TALLY_TEST_KEYS";

/// What is there of a key in use: the number from behind, as the arithmetic has it.
const IN_USE: &str = "from behind";

fn needles(name: &str, file: &Path) -> Needles {
    let mut needles = Needles::default();
    needles.add_key(name, &std::fs::read_to_string(file).unwrap());
    needles
}

/// Signs with one key and drops it, keeps another as no program should, and waits to be looked at. Nothing to do when nobody looks.
#[test]
fn uses_a_key_and_drops_it() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let say = |what: &str| {
        // Past the harness, which keeps back what a test prints.
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{what}").unwrap();
        out.flush().unwrap();
        std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    };
    let careless = std::fs::read_to_string(folder.join("careless.key")).unwrap();
    let key = KeySource::File(folder.join("used.key")).open().unwrap();
    let seal = key.sign(b"a statement").unwrap();
    say("used");
    drop(key);
    say("dropped");
    drop((careless, seal));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_and_dropped_is_nowhere_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["used", "careless"] {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let pem = SigningKey::from_secret(&secret).unwrap().to_pem().unwrap();
        tally_secrets::write(&folder.path().join(format!("{name}.key")), pem.as_bytes()).unwrap();
    }
    let of = |name: &str| needles(name, &folder.path().join(format!("{name}.key")));
    let (used, careless) = (of("used"), of("careless"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "uses_a_key_and_drops_it", "--nocapture"]).env(FOLDER, folder.path());
    let mut looked_at = Process::start("a program that uses a key", command);
    while looked_at.line().await != "used" {}
    let found = match used.in_memory(looked_at.pid()) {
        Ok(found) => found,
        Err(fault) => return skipped("memory of a process that used a key", &fault.to_string()),
    };
    // Both searches find what is there: else the last one would show nothing.
    assert_eq!(found, [format!("used {IN_USE}")], "what signs, and nothing of the file");
    assert!(careless.in_memory(looked_at.pid()).unwrap().iter().any(|found| found.contains("PEM")));
    assert_eq!(looked_at.tell("go on").await, "");
    assert_eq!(looked_at.line().await, "dropped");
    assert_eq!(used.in_memory(looked_at.pid()).unwrap(), Vec::<&str>::new());
    assert!(careless.in_memory(looked_at.pid()).unwrap().iter().any(|found| found.contains("PEM")));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_hold_what_signs_and_nothing_else_of_their_key_files() {
    let site = Site::of_one_press().await;
    let (node, agent) = (site.start_node().await, site.start_agent().await);
    for (process, key, named) in [(&node, "node", "press-line"), (&agent, "agent-01", "press-01")] {
        let needles = needles(key, &site.dir().join(format!("keys/{key}.key")));
        match needles.in_memory(process.pid()) {
            Ok(found) => assert_eq!(found, [format!("{key} {IN_USE}")]),
            // Not dumpable, and we are not root.
            Err(fault) => {
                assert_eq!(fault.kind(), std::io::ErrorKind::PermissionDenied, "{fault}");
                skipped(&format!("memory of the process that holds {key}.key"), &fault.to_string());
                continue;
            }
        }
        let mut there = Needles::default();
        there.add("a name that it uses", named.as_bytes());
        assert!(!there.in_memory(process.pid()).unwrap().is_empty(), "the search finds what is there");
    }
}
