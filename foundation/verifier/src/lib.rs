//! Checks an evidence file offline: every link of the chain from the device's readings to the contract's outcome, each
//! named, each either holding or not. Needs no node, no agent, no network, no clock.
//!
//! The order of the links is the order of trust: the ledger's key proves checkpoints, checkpoints prove entries and
//! outcomes, registering entries prove keys, devices and rules, those prove triggers and calls, and a trigger's readings
//! prove the trigger.

mod attest;
mod coverage;
mod entry;
mod field;
mod known;
mod report;
mod story;
pub mod timestamp;
mod trigger;
mod witness;

pub use report::{
    AgentClock, Coverage, Graded, Hole, Link, Quality, QualityFinding, ReadingsOrigin, Report, Step, Times,
};
pub use timestamp::{TimeAuthorities, TimeStamp};
pub use witness::Witnesses;

use entry::Ledger;
use known::Known;
use story::Story;
use tally_evidence::{CoverageFile, EvidenceFile, EvidenceTerm, FieldFile, FileFault, Stamped, VerifyingKey, json};

/// What a reader knows from elsewhere, and whose word he wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader<'a> {
    /// The ledger's key; without it the key in the file is used, and the report says so.
    pub ledger_key: Option<&'a VerifyingKey>,
    /// The witnesses; without any, those in the file are shown.
    pub witnesses: Option<&'a Witnesses>,
    /// The authorities that vouch for time-stamps. With them the file must have one; without them one that is there is shown,
    /// and the report says that its authority was not checked.
    pub time_authorities: Option<&'a TimeAuthorities>,
}

/// Checks an evidence file, a coverage file or a field file: what it is stands in it. `pinned` is the ledger's key as the reader knows
/// it from elsewhere; without it the key in the file is used, and the report says so.
///
/// The file may be in its JSON form ([`tally_evidence::json`]): then the bytes in it are checked, and one more link says
/// whether what it shows is what they say.
#[must_use]
pub fn verify(file: &[u8], pinned: Option<&VerifyingKey>) -> Report {
    verify_for(file, &Reader { ledger_key: pinned, ..Reader::default() })
}

/// The same for a reader who also wants the word of witnesses he knows.
#[must_use]
pub fn verify_witnessed(file: &[u8], pinned: Option<&VerifyingKey>, witnesses: &Witnesses) -> Report {
    verify_for(file, &Reader { ledger_key: pinned, witnesses: Some(witnesses), ..Reader::default() })
}

/// The same for a reader who knows more.
#[must_use]
pub fn verify_for(file: &[u8], reader: &Reader<'_>) -> Report {
    if !json::is_json(file) {
        return verify_cbor(file, reader);
    }
    match json::from_json(file) {
        Ok(read) => {
            let mut report = verify_cbor(&read.cbor, reader);
            report.shows(&read.mismatches);
            report
        }
        Err(fault) => not_a_file(&fault),
    }
}

fn not_a_file(fault: &dyn std::fmt::Display) -> Report {
    let mut report = Report::default();
    report.fails("the file", Step::File, fault);
    report
}

fn verify_cbor(file: &[u8], reader: &Reader<'_>) -> Report {
    let stamped = match Stamped::split(file).map_err(FileFault::from) {
        Ok(stamped) => stamped,
        Err(fault) => return not_a_file(&fault),
    };
    let mut report = verify_content(&stamped.content, reader);
    if report.links.first().is_some_and(|link| link.holds) {
        timestamp::check(stamped.token.as_ref(), &stamped.digest(), reader.time_authorities, &mut report);
    }
    report
}

fn verify_content(file: &[u8], reader: &Reader<'_>) -> Report {
    let nobody = Witnesses::default();
    let witnesses = reader.witnesses.unwrap_or(&nobody);
    if CoverageFile::is_one(file) {
        return coverage::verify(file, reader.ledger_key, witnesses);
    }
    if !FieldFile::is_one(file) {
        return verify_agreement(file, reader.ledger_key, witnesses);
    }
    let mut report = field::verify(file, reader.ledger_key);
    witness::absent(witnesses, &mut report);
    report
}

fn verify_agreement(file: &[u8], pinned: Option<&VerifyingKey>, witnesses: &Witnesses) -> Report {
    let mut report = Report::default();
    let Some(file) = report.record("the file", Step::File, EvidenceFile::decode(file)) else { return report };
    report.holds("the file", Step::File, format!("evidence about {} on ledger {}", file.agreement, file.ledger));
    report.agreement = Some(file.agreement.clone());
    let ledger = Ledger { name: &file.ledger, key: &file.key };
    check_key(ledger, pinned, &mut report);
    let mut known = Known::default();
    let mut story = Story::new(&file.agreement);
    let mut before = None;
    for entry in &file.entries {
        before = entry::check(entry, before, ledger, &mut known, &mut story, &mut report).or(before);
    }
    for term in &file.terms {
        check_term(term, ledger, &mut story, &mut report);
    }
    story.finish(&mut report);
    witness::check((&file.entries, file.witnessed.as_ref()), ledger, witnesses, &mut report);
    report
}

fn check_key(ledger: Ledger<'_>, pinned: Option<&VerifyingKey>, report: &mut Report) {
    report.ledger = Some(ledger.name.to_owned());
    report.ledger_key = Some(ledger.key.id().to_string());
    match pinned {
        Some(key) if key == ledger.key => report.holds("the ledger", Step::LedgerKey, "is the key you gave".to_owned()),
        Some(key) => report.fails(
            "the ledger",
            Step::LedgerKey,
            format!("the file was made by the ledger key {}, you trust {}", ledger.key.id(), key.id()),
        ),
        None => {
            let detail = format!("{} (taken from the file: compare it, or give --ledger-key)", ledger.key.id());
            report.holds("the ledger", Step::LedgerKey, detail);
        }
    }
}

fn check_term(term: &EvidenceTerm, ledger: Ledger<'_>, story: &mut Story, report: &mut Report) {
    let proof = entry::OutcomeProof {
        outcome: &term.outcome,
        index: term.outcome_index,
        path: &term.outcome_path,
        checkpoint: &term.checkpoint,
    };
    let Some((checkpoint, outcome)) = entry::check_outcome("a term", &proof, ledger, report) else { return };
    let tally_evidence::Place::Term { agreement, .. } = &outcome.place else {
        report.fails("a term", Step::Outcome, "is the outcome of an entry, not of a term");
        return;
    };
    if agreement.as_str() != story.agreement() {
        report.fails("a term", Step::Outcome, format!("belongs to {agreement}"));
        return;
    }
    report.holds("a term", Step::Outcome, format!("ran out at height {}", checkpoint.height));
    story.add(term.outcome_index, outcome);
}
