//! A key in a real token (SoftHSM2): made, found, pulled out, put back, with wrong PINs, and with another key in its place.
//!
//! SoftHSM2 reads a setting of its process, so each test runs again as a process of its own that has it.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "../../tests/src/patience.rs"]
mod patience;

use patience::PATIENCE;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tally_evidence::{SealFault, SealingKey};
use tally_keys::testing::{PIN, SoftToken};
use tally_keys::{KeyError, KeySource, TokenUri, generate};

/// Runs `work` in a process that sees a token; `name` is that of the test.
fn with_token(name: &str, work: impl FnOnce(&SoftToken)) {
    const FOLDER: &str = "TALLY_TEST_TOKEN";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return work(&SoftToken::new(Path::new(&folder)).unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(FOLDER, dir.path());
    again.env("SOFTHSM2_CONF", dir.path().join("softhsm2.conf"));
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert!(!said.contains(PIN), "the PIN was printed: {said}");
}

/// Debian's current one is used, not a pinned one: the log of the tests says which.
#[test]
fn the_log_says_which_softhsm_it_was() {
    println!("SoftHSM2 {}", tally_keys::testing::version().unwrap());
}

fn source(uri: &str) -> KeySource {
    KeySource::parse(uri, Path::new(".")).unwrap()
}

fn uri(uri: &str) -> TokenUri {
    TokenUri::parse(uri, Path::new(".")).unwrap()
}

/// Signs as soon as it can.
fn signed(key: &SealingKey) {
    let begin = Instant::now();
    loop {
        match key.sign(b"statement") {
            Ok(signature) => return assert!(key.public().unwrap().verify(b"statement", &signature)),
            Err(fault) => assert!(begin.elapsed() < PATIENCE, "{fault}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_key_is_made_once_and_signs_in_the_low_form() {
    with_token("a_key_is_made_once_and_signs_in_the_low_form", |token| {
        let made = generate(&uri(&token.uri("agent-01"))).unwrap();
        assert!(matches!(generate(&uri(&token.uri("agent-01"))), Err(KeyError::Exists { .. })));
        let key = source(&token.uri("agent-01")).open().unwrap();
        assert_eq!(key.public().unwrap(), made.public);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let signature = key.sign(b"statement").unwrap();
            // About every second one comes from the token with the other `s`: `verify` takes only the low one.
            assert!(made.public.verify(b"statement", &signature));
            seen.insert(signature);
        }
        assert_eq!(seen.len(), 40, "a token draws a nonce for each");
        let other = source(&token.uri("nobody")).open().unwrap_err().to_string();
        assert!(other.contains("object=nobody") && other.contains("no private"), "{other}");
    });
}

#[test]
fn a_pulled_token_is_found_again() {
    with_token("a_pulled_token_is_found_again", |token| {
        generate(&uri(&token.uri("agent-01"))).unwrap();
        generate(&uri(&token.uri("agent-02"))).unwrap();
        let (one, two) =
            (source(&token.uri("agent-01")).open().unwrap(), source(&token.uri("agent-02")).open().unwrap());
        for _ in 0..2 {
            signed(&one);
            one.look().unwrap();
            token.pull().unwrap();
            assert!(one.look().is_err(), "noticed without a signature");
            let fault = one.sign(b"statement").unwrap_err();
            assert!(matches!(&fault, SealFault::Away(text) if text.contains("pulled out")), "{fault:?}");
            assert_eq!(one.public().unwrap(), one.public().unwrap(), "what it is stays known");
            let said = source(&token.uri("agent-01")).open().unwrap_err().to_string();
            assert!(said.contains("pulled out"), "{said}");
            token.put_back().unwrap();
            signed(&one);
            // The library was started anew below it.
            signed(&two);
        }
    });
}

#[test]
fn a_service_begins_without_its_token() {
    with_token("a_service_begins_without_its_token", |token| {
        generate(&uri(&token.uri("agent-01"))).unwrap();
        token.pull().unwrap();
        let key = source(&token.uri("agent-01")).open_later().unwrap();
        assert!(matches!(key.public(), Err(SealFault::Away(_))));
        assert!(key.sign(b"statement").is_err());
        token.put_back().unwrap();
        signed(&key);
    });
}

#[test]
fn a_wrong_pin_is_tried_once() {
    with_token("a_wrong_pin_is_tried_once", |token| {
        generate(&uri(&token.uri("agent-01"))).unwrap();
        // Nobody is logged in any more once the library ended; a session that is open would be taken for a log-in.
        token.pull().unwrap();
        let key = source(&token.uri("agent-01")).open_later().unwrap();
        assert!(key.sign(b"statement").is_err());
        token.put_back().unwrap();
        token.write_pin("0000000000").unwrap();
        let begin = Instant::now();
        let mut said = Vec::new();
        while !said.iter().any(|text: &String| text.contains("not tried a second time")) {
            let fault = key.sign(b"statement").unwrap_err().to_string();
            assert!(begin.elapsed() < PATIENCE && !fault.contains("0000000000"), "{said:?}");
            said.push(fault);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(said.iter().any(|text| text.contains("the PIN is wrong")), "{said:?}");
        token.write_pin(PIN).unwrap();
        signed(&key);
    });
}

#[test]
fn another_key_under_the_same_name_seals_nothing() {
    with_token("another_key_under_the_same_name_seals_nothing", |token| {
        generate(&uri(&token.uri("agent-01"))).unwrap();
        let key = source(&token.uri("agent-01")).open().unwrap();
        signed(&key);
        token.pull().unwrap();
        assert!(key.sign(b"statement").is_err());
        // Another token with the same label, PIN and name of a key.
        let folder = token.pin_file().parent().unwrap().join("other");
        let other = SoftToken::new(&folder).unwrap();
        let slots = token.pin_file().parent().unwrap().join("slots");
        std::fs::remove_dir(&slots).unwrap();
        std::fs::rename(folder.join("slots"), &slots).unwrap();
        assert!(other.pin_file().is_file());
        let begin = Instant::now();
        let made = loop {
            match generate(&uri(&token.uri("agent-01"))) {
                Ok(made) => break made,
                Err(fault) => assert!(begin.elapsed() < PATIENCE, "{fault}"),
            }
        };
        loop {
            let fault = key.sign(b"statement").unwrap_err();
            if fault.to_string().contains(&made.public.id().to_string()) {
                assert!(matches!(fault, SealFault::Refused(_)));
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{fault}");
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

#[test]
fn what_needs_a_file_says_so() {
    with_token("what_needs_a_file_says_so", |token| {
        let said =
            source(&token.uri("node")).open_file("the ledger's key signs receipts anew").unwrap_err().to_string();
        assert!(said.starts_with("pkcs11:token=plant;object=node:") && said.contains("key file"), "{said}");
        std::fs::set_permissions(token.pin_file(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let said = source(&token.uri("agent-01")).open_later().unwrap_err().to_string();
        assert!(said.contains("chmod 600"), "{said}");
    });
}
