//! Every input in the corpus, and every seed, again: nothing may break. And that the engine finds what it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::time::Duration;
use tally_fuzz::{TARGETS, Target, corpus, replay, run, seeds};

#[test]
fn every_input_that_was_ever_kept_is_answered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut tried = 0;
    for target in TARGETS {
        for (file, input) in corpus(&folder, target) {
            replay(target, &input).unwrap_or_else(|text| panic!("{}: {text}", file.display()));
            tried += 1;
        }
        for seed in seeds(target.name) {
            replay(target, &seed).unwrap_or_else(|text| panic!("a seed of {}: {text}", target.name));
        }
    }
    assert!(tried >= TARGETS.len(), "only {tried} inputs in the corpus");
}

#[test]
fn the_good_seeds_are_good() {
    for name in ["statement", "trigger", "call", "mapping", "node-yaml", "rule-expression", "certificate-request"] {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let answer = replay(target, &seeds(name)[0]).unwrap();
        assert!(answer.contains("taken"), "{name}: {answer}");
    }
}

#[test]
fn a_parser_that_panics_and_one_that_hangs_are_found() {
    fn breaks(bytes: &[u8]) -> String {
        assert!(!(bytes.len() > 2 && bytes[0] == 0xa0 && bytes[1] == 0x80), "found");
        ["short", "long"][usize::from(bytes.len() > 1)].to_owned()
    }
    fn hangs(_: &[u8]) -> String {
        std::thread::sleep(Duration::from_millis(1_100));
        String::new()
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("corpus");
    let found = run(&Target { name: "breaks", run: breaks }, &folder, Duration::from_secs(60), 1).found;
    let (file, text) = found.expect("a panic is found");
    assert!(text.contains("found") && file.starts_with(dir.path()) && file.exists(), "{text}");
    assert!(replay(&Target { name: "hangs", run: hangs }, b"").unwrap_err().contains("took"));
}
