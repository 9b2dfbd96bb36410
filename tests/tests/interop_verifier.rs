//! A second verifier of evidence files, written in Python from `docs/formats` alone, and ours: both accept the frozen file,
//! and in a copy with one wrong bit both name the same link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use tally_evidence::{Stamped, TimeStampToken, VerifyingKey};
use tally_tests::{PATIENCE, Process, python, random, root};
use tally_verifier::verify;
use tokio::process::Command;

/// Bits that are turned.
const FLIPS: usize = 150;

fn frozen(name: &str) -> PathBuf {
    root().join("tests/formats").join(name)
}

async fn theirs(file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    said_by("verify.py", file, more).await
}

async fn said_by(script: &str, file: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop").join(script)).arg(file).arg("--json").args(more);
    let output = Process::run(command, 4 * PATIENCE).await;
    let said = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

#[tokio::test]
async fn both_accept_the_frozen_file_and_neither_a_flipped_bit() {
    agree_on("mo-1").await;
}

/// A file about an order that one trigger of a batch opened.
#[tokio::test]
async fn a_trigger_of_a_batch_is_verified_by_both_without_the_others() {
    agree_on("mo-1-batched").await;
}

/// The device got another agent, and the agent another key: the seal is of the old one, which still spoke.
#[tokio::test]
async fn both_know_which_key_spoke_and_for_whom() {
    agree_on("identity").await;
}

/// Over which links the readings came: three, one after the other.
#[tokio::test]
async fn both_read_where_the_readings_come_from() {
    agree_on("origins").await;
    let file = frozen("origins.tally");
    let ours = serde_json::to_value(verify(&std::fs::read(&file).unwrap(), None).origins).unwrap();
    let theirs = theirs(&file, &[]).await.1["origins"].clone();
    let without_text = |said: &Value| {
        let mut said = said.clone();
        said.as_object_mut().unwrap().remove("text");
        said
    };
    let ours: Vec<_> = ours.as_array().unwrap().iter().map(without_text).collect();
    assert_eq!(ours.len(), 3);
    assert_eq!(&ours, theirs.as_array().unwrap());
}

#[tokio::test]
async fn a_time_stamp_is_covered_in_both() {
    agree_on("timestamped").await;
}

/// A token that was altered on purpose, with the digest beside it made anew: theirs says the same time as ours, or it does not hold.
#[tokio::test]
async fn a_time_stamp_is_checked_by_both() {
    let (dir, authorities) = (tempfile::tempdir().unwrap(), frozen("timestamped.tsa-ca.pem").display().to_string());
    let bytes = std::fs::read(frozen("timestamped.tally")).unwrap();
    let stamp = |said: &Value| {
        let link = said["links"].as_array().unwrap().iter().find(|link| link["step"] == "timestamp").unwrap().clone();
        (link["holds"].as_bool().unwrap(), link["detail"].as_str().unwrap().to_owned())
    };
    let said = theirs(&frozen("timestamped.tally"), &["--tsa-ca", &authorities]).await.1;
    let good = stamp(&said);
    assert!(good.0 && good.1.contains("2026-11-21T21:08:58.632000Z (± 1.5001 s), by CN=TSA"), "{good:?}");
    // Not asked for who vouches, and asked in vain.
    assert!(stamp(&theirs(&frozen("timestamped.tally"), &[]).await.1).1.contains("its authority was not checked"));
    assert!(!stamp(&theirs(&frozen("mo-1.tally"), &["--tsa-ca", &authorities]).await.1).0);

    let stamped = Stamped::split(&bytes).unwrap();
    let der = stamped.token.clone().unwrap().der;
    // In the TSTInfo, the certificate, the signed attributes, the signature.
    let mut next = random(20_261_122);
    let mut refused = 0;
    for _ in 0..20 {
        let mut token = der.clone();
        let at = usize::try_from(next()).unwrap() % token.len();
        token[at] ^= 1 << (next() % 8);
        let file = dir.path().join("altered.tally");
        let altered = Stamped { token: Some(TimeStampToken::new(token)), ..stamped.clone() };
        std::fs::write(&file, altered.encode().unwrap()).unwrap();
        let (holds, detail) = stamp(&theirs(&file, &["--tsa-ca", &authorities]).await.1);
        assert!(!holds || detail == good.1, "byte {at} of the token: {detail}");
        refused += u32::from(!holds);
    }
    assert!(refused > 14, "{refused}");
    // About another file.
    let file = dir.path().join("other.tally");
    let content = std::fs::read(frozen("mo-1-batched.tally")).unwrap();
    std::fs::write(&file, Stamped { content, ..stamped }.encode().unwrap()).unwrap();
    let (holds, detail) = stamp(&theirs(&file, &["--tsa-ca", &authorities]).await.1);
    assert!(!holds && detail.contains("another digest"), "{detail}");
}

/// Three clocks, none taken for another: both read the same.
#[tokio::test]
async fn both_say_the_same_times() {
    let file = frozen("mo-1.tally");
    let ours = serde_json::to_value(verify(&std::fs::read(&file).unwrap(), None).times).unwrap();
    let theirs = theirs(&file, &[]).await.1["times"].clone();
    let (ours, theirs) = (ours.as_array().unwrap(), theirs.as_array().unwrap());
    assert!(!ours.is_empty() && ours.len() == theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        for name in ["about", "source", "received", "block"] {
            assert_eq!(ours[name], theirs[name], "{name}: {ours} {theirs}");
        }
    }
}

async fn agree_on(name: &str) {
    let (file, key_file) = (frozen(&format!("{name}.tally")), frozen(&format!("{name}.ledger.pub.pem")));
    let bytes = std::fs::read(&file).unwrap();
    let key = VerifyingKey::from_pem(&std::fs::read_to_string(&key_file).unwrap()).unwrap();
    let ours = verify(&bytes, Some(&key));
    assert!(ours.all_hold(), "{:?}", ours.first_broken());

    let mut next = random(20_261_121);
    let flips: Vec<_> =
        (0..FLIPS).map(|_| (usize::try_from(next()).unwrap() % bytes.len(), 1_u8 << (next() % 8))).collect();
    let words: Vec<_> = flips.iter().map(|(at, mask)| format!("{at}:{mask}")).collect();
    let key_name = key_file.display().to_string();
    let (code, said) = theirs(&file, &["--ledger-key", &key_name, "--flips", &words.join(",")]).await;
    let said = said.as_array().unwrap();
    assert_eq!((code, &said[0]["holds"], said.len()), (Some(0), &Value::Bool(true), FLIPS + 1), "{}", said[0]);
    for ((at, mask), theirs) in flips.into_iter().zip(&said[1..]) {
        let mut forged = bytes.clone();
        forged[at] ^= mask;
        let ours = verify(&forged, Some(&key));
        let ours = ours.first_broken().unwrap_or_else(|| panic!("ours accepts byte {at} ^ {mask}"));
        assert_eq!(theirs["holds"], false, "theirs accepts byte {at} ^ {mask}: {theirs}");
        let links = theirs["links"].as_array().unwrap();
        let theirs = links.iter().find(|link| link["holds"] == false).unwrap();
        let named = |about: &str, step: &Value| (about.to_owned(), step.clone());
        assert_eq!(
            named(theirs["about"].as_str().unwrap(), &theirs["step"]),
            named(&ours.about, &serde_json::to_value(ours.step).unwrap()),
            "byte {at} ^ {mask}: theirs `{}`, ours `{}`",
            theirs["detail"],
            ours.detail
        );
    }
}

#[tokio::test]
async fn both_count_the_same_witnesses_and_neither_takes_a_flipped_bit() {
    let (file, key_file) = (frozen("witnessed.tally"), frozen("witnessed.ledger.pub.pem"));
    let bytes = std::fs::read(&file).unwrap();
    let known = ["w1", "w2"].map(|name| format!("{name}={}", frozen(&format!("witnessed.{name}.pub.pem")).display()));
    let key = key_file.display().to_string();
    let asked = ["--ledger-key", &key, "--witness", &known[0], "--witness", &known[1]];
    // The file is one of a test plant: its blocks have an outcome too many, which only theirs looks at (*besides*, in verifying.md).
    let broken = |said: &Value| {
        let links = said["links"].as_array().unwrap().iter();
        let link = links
            .filter(|link| link["step"] == "witness" || link["step"] == "file")
            .find(|link| link["holds"] == false);
        link.map(|link| link["step"].clone())
    };
    assert_eq!(broken(&theirs(&file, &asked).await.1), None);
    let three = [&asked[..], &["--need", "3"]].concat();
    assert_eq!(broken(&theirs(&file, &three).await.1), Some(Value::from("witness")));
    assert_eq!(broken(&theirs(&frozen("mo-1.tally"), &asked[2..]).await.1), Some(Value::from("witness")));

    // Every byte of the note, the keys and the paths, which stand at the end of the file.
    let start = bytes.windows(9).position(|window| window == b"witnessed").unwrap();
    let flips: Vec<_> = (start..bytes.len()).map(|at| format!("{at}:{}", 1 << (at % 8))).collect();
    let (_, said) = theirs(&file, &[&asked[..2], &["--flips", &flips.join(",")]].concat()).await;
    for (at, theirs) in (start..).zip(&said.as_array().unwrap()[1..]) {
        let mut forged = bytes.clone();
        forged[at] ^= 1 << (at % 8);
        let ours = verify(&forged, None);
        let ours = ours.first_broken().unwrap_or_else(|| panic!("ours accepts byte {at}"));
        assert_eq!(broken(theirs), Some(serde_json::to_value(ours.step).unwrap()), "byte {at}");
    }
}

#[tokio::test]
async fn both_count_the_witnesses_of_a_coverage_file_and_neither_takes_a_flipped_bit() {
    let (file, key_file) = (frozen("witnessed.coverage"), frozen("witnessed.ledger.pub.pem"));
    let bytes = std::fs::read(&file).unwrap();
    let known = ["w1", "w2"].map(|name| format!("{name}={}", frozen(&format!("witnessed.{name}.pub.pem")).display()));
    let key = key_file.display().to_string();
    let asked = ["--ledger-key", &key, "--witness", &known[0], "--witness", &known[1]];
    let coverage = async |more: &[&str]| said_by("coverage_check.py", &file, &[&asked[..], more].concat()).await;
    assert_eq!(coverage(&[]).await.0, Some(0));
    let (code, said) = coverage(&["--need", "3"]).await;
    let broken = |said: &Value| {
        let links = said["links"].as_array().unwrap().iter();
        links.filter(|link| link["holds"] == false).map(|link| link["step"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((code, broken(&said)), (Some(1), vec![Value::from("witness")]));
    // Every byte of the witnesses' word, and some of the rest.
    let start = bytes.windows(9).position(|window| window == b"witnessed").unwrap();
    let places: Vec<_> = (start..start + 900).chain((0..bytes.len()).step_by(17)).collect();
    let flips: Vec<_> = places.iter().map(|at| format!("{at}:{}", 1 << (at % 8))).collect();
    let (_, said) = coverage(&["--flips", &flips.join(",")]).await;
    for (at, theirs) in places.into_iter().zip(&said.as_array().unwrap()[1..]) {
        let mut forged = bytes.clone();
        forged[at] ^= 1 << (at % 8);
        assert!(verify(&forged, None).first_broken().is_some(), "ours accepts byte {at}");
        assert!(!broken(theirs).is_empty(), "theirs accepts byte {at}");
    }
}

/// Without the ledger's key the file is judged by the one it carries; with another's, it is somebody else's ledger.
#[tokio::test]
async fn the_key_one_knows_decides() {
    let file = frozen("mo-1.tally");
    assert_eq!(theirs(&file, &[]).await.0, Some(0));
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.pem");
    std::fs::write(&other, tally_evidence::SigningKey::from_secret(&[7; 32]).unwrap().public().to_pem().unwrap())
        .unwrap();
    let (code, said) = theirs(&file, &["--ledger-key", &other.display().to_string()]).await;
    assert_eq!((code, &said["holds"]), (Some(1), &Value::Bool(false)), "{said}");
}

/// The JSON form is the same file to them.
#[tokio::test]
async fn the_json_form_is_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mo-1.json");
    let text = tally_evidence::json::to_json(&std::fs::read(frozen("mo-1.tally")).unwrap()).unwrap();
    std::fs::write(&file, &text).unwrap();
    let (code, said) = theirs(&file, &[]).await;
    assert_eq!((code, &said["holds"]), (Some(0), &Value::Bool(true)), "{said}");
    // A byte of a seal, and two members of one name.
    for (from, to) in [("\"hex\": \"d28458", "\"hex\": \"d28459"), ("\"ledger\":", "\"ledger\": \"x\", \"ledger\":")] {
        assert!(text.contains(from));
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        assert_eq!(theirs(&file, &[]).await.0, Some(1), "{to}");
    }
}
