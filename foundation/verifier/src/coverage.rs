//! Checks a coverage file: is any reading of a device missing that was received between two times?
//!
//! The order of trust: the ledger's key proves the entries, registering entries prove the agent's key and that it speaks for
//! the device, each anchor follows the one before by number, digest and reading numbers, the state proves that no signer was
//! revoked since, and then the receive times say what is covered.

use crate::entry::{self, Body, Ledger, Proved};
use crate::known::Known;
use crate::report::{Coverage, Hole, Report, Step};
use crate::witness::{self, Witnesses};
use crate::{check_key, trigger};
use std::collections::{BTreeMap, BTreeSet};
use tally_evidence::cbor::{self, Cbor};
use tally_evidence::{
    AnchorBody, AnchorLink, Checkpoint, CoverageFile, Disclosure, Gap, GapReason, Hash, StateClaim, StateProof,
    VerifyingKey, device_state_key, revocation_state_key,
};
use tally_model::{PartyId, Reading, Timestamp};

pub(crate) fn verify(file: &[u8], pinned: Option<&VerifyingKey>, witnesses: &Witnesses) -> Report {
    let mut report = Report::default();
    let Some(file) = report.record("the file", Step::File, CoverageFile::decode(file)) else { return report };
    let question = &file.question;
    let (device, from, to) = (&question.device, question.from, question.to);
    report.holds("the file", Step::File, format!("coverage of {device} on ledger {}", file.ledger));
    let ledger = Ledger { name: &file.ledger, key: &file.key };
    check_key(ledger, pinned, &mut report);
    if question.digest() == file.digest && from <= to {
        report.holds("the question", Step::Question, format!("readings of {device} received from {from} to {to}"));
    } else {
        report.fails("the question", Step::Question, "device or times are not the ones that were asked for");
    }
    let proved = entries(&file, ledger, &mut report);
    state(&file, ledger, &proved, &mut report);
    judge(&file, &proved, &mut report);
    witness::check((&file.entries, file.witnessed.as_ref()), ledger, witnesses, &mut report);
    report
}

/// What the entries prove.
#[derive(Default)]
struct ProvedAnchors {
    /// In ledger order; each follows the one before.
    anchors: Vec<AnchorBody>,
    signers: BTreeSet<PartyId>,
    /// Height of the last entry.
    height: u64,
}

fn entries(file: &CoverageFile, ledger: Ledger<'_>, report: &mut Report) -> ProvedAnchors {
    let mut known = Known::default();
    let mut found = ProvedAnchors::default();
    let (mut before, mut link) = (None, None);
    for entry in &file.entries {
        let Some(proved) = entry::prove(entry, before, ledger, &known, report) else { continue };
        before = Some(proved.position);
        found.height = found.height.max(proved.height);
        match &proved.body {
            Body::Call(call) => {
                let (about, statement, outcome) = (&proved.about, &proved.statement, &proved.outcome);
                entry::check_call(about, call, statement, outcome, entry, ledger, &mut known, report);
            }
            Body::Anchor(anchor) => {
                if let Some(next) = check_anchor(file, &proved, anchor, link.as_ref(), &known, report) {
                    link = Some(next);
                    found.signers.insert(proved.statement.issuer.clone());
                    found.anchors.push(anchor.clone());
                    if let Some(disclosure) = &entry.disclosure {
                        show(&proved.about, anchor, disclosure, report);
                    }
                } else if entry.disclosure.is_some() {
                    report.fails(&proved.about, Step::Readings, "an anchor that does not hold shows nothing");
                }
            }
            Body::Trigger(..) => {
                report.fails(&proved.about, Step::Statement, "a trigger says nothing about what is missing");
            }
        }
    }
    found
}

/// What the ledger checked, checked again: whose device, and that it follows. The first anchor of the file follows nothing
/// here; everything before it is outside the question.
fn check_anchor(
    file: &CoverageFile,
    proved: &Proved,
    anchor: &AnchorBody,
    before: Option<&AnchorLink>,
    known: &Known,
    report: &mut Report,
) -> Option<AnchorLink> {
    let about = &proved.about;
    report.record(about, Step::DeviceBinding, trigger::bound(&anchor.device, &proved.statement, known))?;
    let words = format!("{} speaks for {}", proved.statement.issuer, anchor.device);
    report.holds(about, Step::DeviceBinding, words);
    if anchor.device != file.question.device {
        report.fails(about, Step::Anchor, format!("is about {}", anchor.device));
        return None;
    }
    if !proved.outcome.is_done() {
        report.fails(about, Step::Anchor, format!("the ledger did not take it (refusal {})", proved.outcome.refusal));
        return None;
    }
    if before.is_some() {
        report.record(about, Step::Anchor, anchor.follow(before))?;
    }
    report.holds(about, Step::Anchor, format!("readings {}–{}", anchor.first, anchor.last));
    Some(anchor.link())
}

/// Readings shown under an anchor's root, each with the device's time and the agent's.
fn show(about: &str, anchor: &AnchorBody, disclosure: &[u8], report: &mut Report) {
    let Some((readings, hidden)) = report.record(about, Step::Readings, shown(anchor, disclosure)) else { return };
    report.holds(about, Step::Readings, format!("{} shown, {hidden} hidden", readings.len()));
    for Reading { number, sample, .. } in readings {
        let value = sample.outcome.map_or_else(|reason| format!("no value: {reason}"), |value| value.to_string());
        let times = format!("device's time {}, received {}", sample.source_time, sample.received);
        report.story.push(format!("reading {number}: {} {value} {}, {times}", sample.point, sample.unit));
    }
}

fn shown(anchor: &AnchorBody, disclosure: &[u8]) -> Result<(Vec<Reading>, u64), String> {
    let disclosure = Disclosure::decode(disclosure).map_err(|fault| fault.to_string())?;
    if !anchor.shows(&disclosure) {
        return Err("the readings shown do not give the root that was sealed".to_owned());
    }
    let readings = disclosure.readings(&BTreeMap::new()).map_err(|fault| fault.to_string())?;
    Ok((readings, disclosure.hidden()))
}

fn state(file: &CoverageFile, ledger: Ledger<'_>, proved: &ProvedAnchors, report: &mut Report) {
    const ABOUT: &str = "the state";
    let Some(checkpoint) = report.record(ABOUT, Step::Checkpoint, Checkpoint::open(&file.checkpoint, ledger.key))
    else {
        return;
    };
    if checkpoint.ledger != ledger.name || checkpoint.height < proved.height {
        report.fails(ABOUT, Step::Checkpoint, "the checkpoint is of another ledger, or older than the entries");
        return;
    }
    report.holds(ABOUT, Step::Checkpoint, format!("height {}, block time {}", checkpoint.height, checkpoint.time));
    let mut missing: BTreeSet<_> = proved.signers.iter().map(revocation_state_key).collect();
    let device_key = device_state_key(&file.question.device);
    for claim in &file.state {
        let Some(()) = report.record(ABOUT, Step::State, check_claim(claim, &checkpoint.state)) else { continue };
        if claim.key == device_key {
            if let Some(words) = report.record(ABOUT, Step::State, agent_words(claim)) {
                report.holds(ABOUT, Step::State, words);
            }
        } else if missing.remove(&claim.key) {
            let party = String::from_utf8_lossy(claim.key.get(1..).unwrap_or_default()).into_owned();
            match claim.value {
                None => report.holds(ABOUT, Step::State, format!("{party} is not revoked")),
                Some(_) => report.fails(ABOUT, Step::State, format!("{party} was revoked")),
            }
        } else {
            report.fails(ABOUT, Step::State, "a key that nobody asked for");
        }
    }
    for key in missing {
        let party = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
        report.fails(ABOUT, Step::State, format!("nothing shows that {party} is not revoked"));
    }
}

fn check_claim(claim: &StateClaim, root: &Hash) -> Result<(), String> {
    let proof = StateProof::decode(&claim.proof).map_err(|fault| fault.to_string())?;
    proof.verify(root, &claim.key, claim.value.as_deref()).map_err(|fault| fault.to_string())
}

/// The device's record: `[agent, owner, entry]`, and its site when it has one.
fn agent_words(claim: &StateClaim) -> Result<String, &'static str> {
    let value = claim.value.as_deref().ok_or("the device is not registered any more")?;
    match cbor::decode(value) {
        Ok(Cbor::Array(items)) if matches!(items.len(), 3 | 4) => {
            let agent = items[0].as_text().ok_or("the device's record names no agent")?;
            Ok(format!("the device is spoken for by {agent}"))
        }
        _ => Err("the device's record is none"),
    }
}

/// Which part of the time asked for is covered, and what is missing.
fn judge(file: &CoverageFile, proved: &ProvedAnchors, report: &mut Report) {
    let (from, to) = (file.question.from, file.question.to);
    let mut gaps = edges(&proved.anchors, from, to);
    for (place, anchor) in proved.anchors.iter().enumerate() {
        let before = place.checked_sub(1).and_then(|before| proved.anchors.get(before));
        gaps.extend(anchor.gaps.iter().filter_map(|gap| declared(gap, before, from, to)));
    }
    gaps.sort_by_key(|gap| (gap.from, gap.to));
    let about = file.question.device.as_str();
    for gap in &gaps {
        let declared = if gap.is_declared { ", as the agent declared" } else { "" };
        report.fails(about, Step::Coverage, format!("from {} to {}: {}{declared}", gap.from, gap.to, gap.reason));
    }
    let readings = proved.anchors.iter().map(|anchor| anchor.last - anchor.first + 1).sum();
    let pause = proved.anchors.iter().map(|anchor| anchor.pause).max().unwrap_or(0);
    if gaps.is_empty() {
        let anchors = proved.anchors.len();
        let words = format!("nothing is missing from {from} to {to}: {readings} readings in {anchors} anchors");
        report.holds(about, Step::Coverage, words);
    }
    report.coverage = Some(Coverage {
        device: file.question.device.clone(),
        from,
        to,
        anchors: proved.anchors.len() as u64,
        readings,
        pause,
        gaps,
    });
}

/// Readings are numbered in the order of their receive times, but two may have the same: so the first anchor must begin before
/// `from`, and the last must end behind `to`. A first anchor that begins the device's numbering has nothing before it.
fn edges(anchors: &[AnchorBody], from: Timestamp, to: Timestamp) -> Vec<Hole> {
    let hole = |from, to, reason: &str| Hole { from, to, reason: reason.to_owned(), is_declared: false };
    let (Some(first), Some(last)) = (anchors.first(), anchors.last()) else {
        return vec![hole(from, to, "no anchor covers it")];
    };
    let mut holes = Vec::new();
    if first.received.0 >= from && !first.begins() {
        holes.push(hole(from, first.received.0.min(to), "no anchor in this file covers it"));
    }
    if last.received.1 <= to {
        holes.push(hole(last.received.1.max(from), to, "no anchor covers it yet"));
    }
    holes
}

/// A declared gap, as far as it touches the time asked for.
fn declared(gap: &Gap, before: Option<&AnchorBody>, from: Timestamp, to: Timestamp) -> Option<Hole> {
    let known = gap.from.or_else(|| before.map(|before| before.received.1));
    let begin = known.unwrap_or(Timestamp::from_micros(i64::MIN));
    if begin >= to || gap.to <= from {
        return None;
    }
    let mut reason = gap.reason.describe().to_owned();
    if let Some((first, last)) = gap.readings {
        reason = format!("{reason} (readings {first}–{last})");
    }
    // What a new vault cannot know is how long the silence before it was; the question's own beginning bounds it.
    let begin = if gap.reason == GapReason::NewVault || known.is_none() { begin.max(from) } else { begin };
    Some(Hole { from: begin, to: gap.to.min(to).max(begin), reason, is_declared: true })
}
