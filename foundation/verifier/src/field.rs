//! Checks a field file: is this what a call sealed as a private field?
//!
//! The order of trust: the ledger's key proves the entries, registering entries prove the signer's key, the last entry is the call, and
//! the digest of each opening is the argument that the call sealed under its name.

use crate::check_key;
use crate::entry::{self, Body, Ledger};
use crate::known::Known;
use crate::report::{Report, Step};
use tally_evidence::cbor::Cbor;
use tally_evidence::{CallBody, FieldFile, VerifyingKey, open_fields};

pub(crate) fn verify(file: &[u8], pinned: Option<&VerifyingKey>) -> Report {
    let mut report = Report::default();
    let Some(file) = report.record("the file", Step::File, FieldFile::decode(file)) else { return report };
    report.holds("the file", Step::File, format!("private fields of a call on ledger {}", file.ledger));
    let ledger = Ledger { name: &file.ledger, key: &file.key };
    check_key(ledger, pinned, &mut report);
    let mut known = Known::default();
    let (mut before, mut call) = (None, None);
    for (place, entry) in (1..).zip(&file.entries) {
        let Some(proved) = entry::prove(entry, before, ledger, &known, &mut report) else { continue };
        before = Some(proved.position);
        let Body::Call(body) = &proved.body else {
            report.fails(&proved.about, Step::Statement, "only calls belong into a field file");
            continue;
        };
        let (about, statement, outcome) = (&proved.about, &proved.statement, &proved.outcome);
        if place == file.entries.len() {
            if entry.disclosure.is_some() {
                report.fails(about, Step::Readings, "a call has no readings");
            }
            call = Some((
                proved.about.clone(),
                body.clone(),
                format!("{} sealed, block time {}", statement.issuer, proved.time),
            ));
        } else if body.contract.as_str() == "registry" {
            entry::check_call(about, body, statement, outcome, entry, ledger, &mut known, &mut report);
        } else {
            report.fails(about, Step::Statement, "registers nobody: it does not belong into this file");
        }
    }
    match call {
        Some((about, body, who)) => show(&about, &body, &who, &file.openings, &mut report),
        None => report.fails("the call", Step::Field, "is not proved, so nothing is shown"),
    }
    report
}

fn show(about: &str, call: &CallBody, who: &str, openings: &[Vec<u8>], report: &mut Report) {
    let opened = open_fields(call, openings.iter().map(Vec::as_slice));
    let Some(opened) = report.record(about, Step::Field, opened) else { return };
    if opened.is_empty() {
        report.fails(about, Step::Field, "the file shows no field");
    }
    for (_, opening) in opened {
        report.holds(about, Step::Field, format!("`{}` is what {who}", opening.name));
        report.story.push(format!("{} = {}", opening.name, words(&opening.value)));
    }
}

/// A value for people; bytes in hexadecimal.
fn words(value: &Cbor) -> String {
    match value {
        Cbor::Text(text) => format!("{text:?}"),
        Cbor::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("h'{digits}'")
        }
        Cbor::Integer(number) => i128::from(*number).to_string(),
        Cbor::Bool(flag) => flag.to_string(),
        other => format!("{other:?}"),
    }
}
