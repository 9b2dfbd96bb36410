//! The JSON form: nothing is lost, and nothing in it can be changed unseen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_evidence::json::{Mismatch, from_json, to_json};
use tally_verifier::{Step, verify};

/// An order from its trigger to its payment, as an older program wrote it.
const FROZEN: &[u8] = include_bytes!("../../../tests/formats/mo-1.tally");

/// Every place of a JSON text that has a value, from the outside in.
fn leaves(json: &Value, path: &str, all: &mut Vec<String>) {
    let step = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    match json {
        Value::Object(members) => members.iter().for_each(|(key, value)| leaves(value, &step(key), all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, value)| leaves(value, &step(&place.to_string()), all));
        }
        _ => all.push(path.to_owned()),
    }
}

/// Another value of the same kind: one digit, one character, one second.
fn other(value: &Value) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) if number.is_f64() => json!(number.as_f64().unwrap() + 0.5),
        Value::Number(number) => json!(number.as_i64().unwrap() + 1),
        Value::String(text) => {
            let last = if text.ends_with('0') { '1' } else { '0' };
            let mut other: String = text.chars().take(text.chars().count().saturating_sub(1)).collect();
            other.push(last);
            json!(other)
        }
        _ => json!("something"),
    }
}

fn form() -> Value {
    serde_json::from_str(&to_json(FROZEN).unwrap()).unwrap()
}

#[test]
fn nothing_is_lost_and_the_text_reads_well() {
    let text = to_json(FROZEN).unwrap();
    let back = from_json(text.as_bytes()).unwrap();
    assert_eq!((back.cbor.as_slice(), back.mismatches.len()), (FROZEN, 0));
    let report = verify(text.as_bytes(), None);
    assert!(report.all_hold(), "{report:#?}");
    assert_eq!(report.links[1].step, Step::Readable);
    // Spaces and the order of members mean nothing.
    let close = serde_json::to_vec(&form()).unwrap();
    assert_eq!(from_json(&close).unwrap().cbor, FROZEN);
    // A person finds the trigger, its time, and a reading with both of its times.
    let form = form();
    let trigger = form["entries"].as_array().unwrap().iter().find(|entry| entry.get("disclosure").is_some()).unwrap();
    let statement = &trigger["statement"]["reads"];
    assert_eq!(statement["protected"]["alg"], "ES256");
    assert_eq!(statement["payload"]["transition"], "raised");
    assert!(statement["payload"]["at"].as_str().unwrap().ends_with('Z'));
    let parts = trigger["disclosure"]["reads"]["parts"].as_array().unwrap();
    let reading = &parts.iter().find(|part| part.get("reading").is_some()).unwrap()["reading"];
    assert!(reading["source-time"].is_string() && reading["received"].is_string(), "{reading}");
}

#[test]
fn every_changed_value_of_the_file_is_noticed_and_its_step_named() {
    let mut forged = form();
    let mut all = Vec::new();
    leaves(&forged, "", &mut all);
    all.retain(|path| !path.contains("/reads/"));
    assert!(all.len() > 25, "{}", all.len());
    for path in &all {
        let place = forged.pointer_mut(path).unwrap();
        let true_one = place.clone();
        *place = other(&true_one);
        let report = verify(&serde_json::to_vec(&forged).unwrap(), None);
        assert!(report.first_broken().is_some(), "{path} does not matter");
        *forged.pointer_mut(path).unwrap() = true_one;
    }
}

/// Every object with bytes and what they say, under its name.
fn shown(json: &Value, name: &str, all: &mut Vec<(String, Value)>) {
    match json {
        Value::Object(members) if members.contains_key("reads") => all.push((name.to_owned(), json.clone())),
        Value::Object(members) => members.iter().for_each(|(key, value)| shown(value, key, all)),
        Value::Array(items) => items.iter().for_each(|value| shown(value, "0", all)),
        _ => {}
    }
}

#[test]
fn every_changed_value_that_is_shown_is_named_with_its_place() {
    let (mut all, mut changed) = (Vec::new(), 0);
    shown(&form(), "", &mut all);
    for (name, object) in all {
        let mut forged = json!({"tallystick-json": 1, name.clone(): object});
        let mut paths = Vec::new();
        leaves(&object, &format!("/{name}"), &mut paths);
        paths.retain(|path| path.contains("/reads/"));
        // All at once: each is named with its place and with what the bytes say.
        let true_ones: Vec<_> = paths.iter().map(|path| forged.pointer(path).unwrap().clone()).collect();
        for (path, true_one) in paths.iter().zip(&true_ones) {
            *forged.pointer_mut(path).unwrap() = other(true_one);
        }
        let read = from_json(forged.to_string().as_bytes()).unwrap();
        let said = |mismatch: &Mismatch| serde_json::from_str::<Value>(mismatch.said.as_ref().unwrap()).unwrap();
        let named: Vec<_> = read.mismatches.iter().map(|one| (format!("/{}", one.path), said(one))).collect();
        changed += paths.len();
        assert_eq!(named, paths.into_iter().zip(true_ones).collect::<Vec<_>>());
    }
    assert!(changed > 500, "{changed}");
}

#[test]
fn what_is_added_or_stands_twice_is_noticed_and_what_is_left_out_is_no_lie() {
    let mut added = form();
    added["entries"][0]["statement"]["reads"]["payload"]["note"] = json!("paid");
    let report = verify(added.to_string().as_bytes(), None);
    let broken = report.first_broken().unwrap();
    assert!(broken.step == Step::Readable && broken.detail.contains("payload/note shows \"paid\""), "{broken:?}");

    let twice = to_json(FROZEN).unwrap().replacen("\"reads\": {", "\"reads\": {}, \"reads\": {", 1);
    let report = verify(twice.as_bytes(), None);
    assert!(report.links[0].detail.contains("`reads` stands twice"), "{report:?}");

    let mut less = form();
    less["entries"][0]["statement"].as_object_mut().unwrap().remove("reads");
    assert!(verify(less.to_string().as_bytes(), None).all_hold());

    let mut capital = form();
    let hex = capital["key"]["hex"].as_str().unwrap().to_uppercase();
    capital["key"]["hex"] = json!(hex);
    assert!(verify(capital.to_string().as_bytes(), None).links[0].detail.contains("`key`"));
}

#[test]
fn other_forms_are_refused_with_the_reason() {
    for (text, words) in [
        (&b"{"[..], "EOF"),
        (b"{}", "JSON form unknown"),
        (br#"{"tallystick-json": 2}"#, "JSON form 2; this program reads form 1"),
        (br#"{"tallystick-json": 1, "ledger": true}"#, "`ledger` is neither"),
        (br#"{"tallystick-json": 1, "ledger": 1.5}"#, "`ledger` is not a whole number"),
        (br#"{"tallystick-json": 1} 1"#, "trailing"),
    ] {
        let report = verify(text, None);
        let link = &report.links[0];
        assert!(link.step == Step::File && !link.holds && link.detail.contains(words), "{link:?}");
    }
    // As deep as one likes: refused, not crashed.
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    assert!(!verify(deep.as_bytes(), None).all_hold());
    let nested = (0..40_000).fold(vec![0x80], |inner, _| {
        let mut outer = vec![0x81, 0x5a];
        outer.extend(u32::try_from(inner.len()).unwrap().to_be_bytes());
        outer.extend(inner);
        outer
    });
    let file = json!({"tallystick-json": 1, "x": {"hex": hex::encode(nested)}});
    assert!(!verify(file.to_string().as_bytes(), None).all_hold());
}
