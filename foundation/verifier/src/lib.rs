//! Checks an evidence file offline: every link of the chain from the device's readings to the contract's outcome, each
//! named, each either holding or not. Needs no node, no agent, no network, no clock.
//!
//! The order of the links is the order of trust: the ledger's key proves checkpoints, checkpoints prove entries and
//! outcomes, registering entries prove keys, devices and rules, those prove triggers and calls, and a trigger's readings
//! prove the trigger.

mod entry;
mod known;
mod report;
mod story;
mod trigger;

pub use report::{Link, Report, Step};

use known::Known;
use story::Story;
use tally_evidence::{EvidenceFile, EvidenceTerm, VerifyingKey};

/// Checks an evidence file. `pinned` is the ledger's key as the reader knows it from elsewhere; without it the key in
/// the file is used, and the report says so.
#[must_use]
pub fn verify(file: &[u8], pinned: Option<&VerifyingKey>) -> Report {
    let mut report = Report::default();
    let file = match EvidenceFile::decode(file) {
        Ok(file) => file,
        Err(fault) => {
            report.fails("the file", Step::File, fault);
            return report;
        }
    };
    report.holds("the file", Step::File, format!("evidence about {} on ledger {}", file.agreement, file.ledger));
    report.agreement = Some(file.agreement.clone());
    report.ledger = Some(file.ledger.clone());
    report.ledger_key = Some(file.key.id().to_string());
    check_key(&file, pinned, &mut report);
    let mut known = Known::default();
    let mut story = Story::new(&file.agreement);
    let mut before = None;
    for entry in &file.entries {
        before = entry::check(entry, before, &file, &mut known, &mut story, &mut report).or(before);
    }
    for term in &file.terms {
        check_term(term, &file, &mut story, &mut report);
    }
    story.finish(&mut report);
    report
}

fn check_key(file: &EvidenceFile, pinned: Option<&VerifyingKey>, report: &mut Report) {
    match pinned {
        Some(key) if *key == file.key => report.holds("the ledger", Step::LedgerKey, "is the key you gave".to_owned()),
        Some(key) => report.fails(
            "the ledger",
            Step::LedgerKey,
            format!("the file was made by the ledger key {}, you trust {}", file.key.id(), key.id()),
        ),
        None => {
            let detail = format!("{} (taken from the file: compare it, or give --ledger-key)", file.key.id());
            report.holds("the ledger", Step::LedgerKey, detail);
        }
    }
}

fn check_term(term: &EvidenceTerm, file: &EvidenceFile, story: &mut Story, report: &mut Report) {
    let proof = entry::OutcomeProof {
        outcome: &term.outcome,
        index: term.outcome_index,
        path: &term.outcome_path,
        checkpoint: &term.checkpoint,
    };
    let Some((checkpoint, outcome)) = entry::check_outcome("a term", &proof, file, report) else { return };
    let tally_evidence::Place::Term { agreement, .. } = &outcome.place else {
        report.fails("a term", Step::Outcome, "is the outcome of an entry, not of a term");
        return;
    };
    if *agreement != file.agreement {
        report.fails("a term", Step::Outcome, format!("belongs to {agreement}"));
        return;
    }
    report.holds("a term", Step::Outcome, format!("ran out at height {}", checkpoint.height));
    story.add(outcome.height, term.outcome_index, outcome.events);
}
