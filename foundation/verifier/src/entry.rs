//! The links every entry has: statement, inclusion, checkpoint, outcome, seal.

use crate::known::Known;
use crate::report::{Report, Step};
use crate::story::Story;
use crate::trigger;
use tally_evidence::{
    AnchorBody, CallBody, Checkpoint, EvidenceEntry, Hash, OutcomeRecord, Place, Receipt, SignedStatement,
    StatementKind, TriggerBody, VerifyingKey, leaf_hash, root_from_path,
};

/// The ledger a file speaks of.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a VerifyingKey,
}

/// A body, read.
pub(crate) enum Body {
    Trigger(TriggerBody),
    Call(CallBody),
    Anchor(AnchorBody),
}

/// An entry whose place, seal and outcome are proved.
pub(crate) struct Proved {
    pub(crate) about: String,
    pub(crate) index: u64,
    pub(crate) statement: SignedStatement,
    pub(crate) body: Body,
    pub(crate) outcome: OutcomeRecord,
    pub(crate) height: u64,
}

/// Checks one entry of an agreement; gives its index when its place in the ledger is proved.
pub(crate) fn check(
    entry: &EvidenceEntry,
    before: Option<u64>,
    ledger: Ledger<'_>,
    known: &mut Known,
    story: &mut Story,
    report: &mut Report,
) -> Option<u64> {
    let proved = prove(entry, before, ledger, known, report)?;
    let Proved { about, index, statement, body, outcome, .. } = proved;
    match body {
        Body::Trigger(trigger) => trigger::check(&about, &trigger, &statement, entry, known, report),
        Body::Call(call) => check_call(&about, &call, &statement, &outcome, entry, ledger, known, report),
        Body::Anchor(_) => report.fails(&about, Step::Statement, "an anchor says nothing about an agreement"),
    }
    story.add(outcome.height, entry.outcome_index, outcome.events);
    Some(index)
}

/// Checks what every entry has: statement, inclusion, checkpoint, outcome, seal.
pub(crate) fn prove(
    entry: &EvidenceEntry,
    before: Option<u64>,
    ledger: Ledger<'_>,
    known: &Known,
    report: &mut Report,
) -> Option<Proved> {
    let statement = report.record("an entry", Step::Statement, SignedStatement::parse(&entry.statement))?;
    let body = report.record("an entry", Step::Statement, read_body(&statement))?;
    let receipt = report.record("an entry", Step::Inclusion, Receipt::parse(&entry.receipt))?;
    let about = describe(&receipt, &body);
    report.record(&about, Step::Statement, meant_for(&statement, &body, ledger))?;
    let root = report.record(&about, Step::Inclusion, included(&receipt, &statement, before, ledger))?;
    report.holds(&about, Step::Inclusion, format!("entry {} of {}", receipt.index, receipt.size));
    let proof = OutcomeProof {
        outcome: &entry.outcome,
        index: entry.outcome_index,
        path: &entry.outcome_path,
        checkpoint: &entry.checkpoint,
    };
    let (checkpoint, outcome) = check_outcome(&about, &proof, ledger, report)?;
    report.record(&about, Step::Checkpoint, covers(&checkpoint, &receipt, root))?;
    report.holds(&about, Step::Checkpoint, format!("height {} at {}", checkpoint.height, checkpoint.time));
    report.record(&about, Step::Outcome, belongs(&outcome, &receipt, &statement))?;
    report.holds(&about, Step::Outcome, outcome_words(&outcome));
    let key = report.record(&about, Step::DeviceBinding, signer_key(&statement, ledger, known))?;
    report.record(&about, Step::Seal, statement.check_seal(&key))?;
    report.holds(&about, Step::Seal, format!("sealed by {}", statement.issuer));
    Some(Proved { about, index: receipt.index, statement, body, outcome, height: checkpoint.height })
}

/// An outcome with its proof.
pub(crate) struct OutcomeProof<'a> {
    pub(crate) outcome: &'a [u8],
    pub(crate) index: u64,
    pub(crate) path: &'a [Hash],
    pub(crate) checkpoint: &'a [u8],
}

/// Checks that an outcome is among those of its checkpoint.
pub(crate) fn check_outcome(
    about: &str,
    proof: &OutcomeProof<'_>,
    ledger: Ledger<'_>,
    report: &mut Report,
) -> Option<(Checkpoint, OutcomeRecord)> {
    let checkpoint = report.record(about, Step::Checkpoint, Checkpoint::open(proof.checkpoint, ledger.key))?;
    if checkpoint.ledger != ledger.name {
        report.fails(about, Step::Checkpoint, format!("the checkpoint is of ledger {}", checkpoint.ledger));
        return None;
    }
    let outcome = report.record(about, Step::Outcome, OutcomeRecord::decode(proof.outcome))?;
    let root = root_from_path(leaf_hash(proof.outcome), proof.index, checkpoint.outcome_count, proof.path);
    if root != Some(checkpoint.outcomes) || outcome.height != checkpoint.height {
        report.fails(about, Step::Outcome, "the outcome is not among those of the checkpoint");
        return None;
    }
    Some((checkpoint, outcome))
}

fn read_body(statement: &SignedStatement) -> Result<Body, tally_evidence::BodyFault> {
    match statement.kind {
        StatementKind::Trigger => TriggerBody::decode(&statement.payload).map(Body::Trigger),
        StatementKind::Call => CallBody::decode(&statement.payload).map(Body::Call),
        StatementKind::Anchor => AnchorBody::decode(&statement.payload).map(Body::Anchor),
    }
}

fn describe(receipt: &Receipt, body: &Body) -> String {
    match body {
        Body::Trigger(trigger) => {
            format!("entry {} (trigger {} {})", receipt.index, trigger.trigger, trigger.transition.word())
        }
        Body::Call(call) => format!("entry {} (call {}/{})", receipt.index, call.contract, call.action),
        Body::Anchor(anchor) => format!("entry {} (anchor {} of {})", receipt.index, anchor.number, anchor.device),
    }
}

fn meant_for(statement: &SignedStatement, body: &Body, ledger: Ledger<'_>) -> Result<(), String> {
    if statement.audience != ledger.name {
        return Err(format!("was made for ledger {}, not {}", statement.audience, ledger.name));
    }
    let subject = match body {
        Body::Trigger(trigger) => trigger.device.as_str(),
        Body::Call(call) => call.subject(),
        Body::Anchor(anchor) => anchor.device.as_str(),
    };
    if statement.subject == subject {
        Ok(())
    } else {
        Err(format!("its subject is {}, its body is about {subject}", statement.subject))
    }
}

fn included(
    receipt: &Receipt,
    statement: &SignedStatement,
    before: Option<u64>,
    ledger: Ledger<'_>,
) -> Result<Hash, String> {
    if receipt.ledger != ledger.name || receipt.subject != statement.subject {
        return Err("the receipt is for another ledger or subject".to_owned());
    }
    if before.is_some_and(|before| receipt.index <= before) {
        return Err("the entries are not in ledger order".to_owned());
    }
    receipt.check(&statement.id, ledger.key).map_err(|fault| fault.to_string())
}

fn covers(checkpoint: &Checkpoint, receipt: &Receipt, root: Hash) -> Result<(), &'static str> {
    if checkpoint.size == receipt.size && checkpoint.root == root {
        Ok(())
    } else {
        Err("the checkpoint is of another tree than the receipt")
    }
}

fn belongs(outcome: &OutcomeRecord, receipt: &Receipt, statement: &SignedStatement) -> Result<(), &'static str> {
    if outcome.place == (Place::Entry { index: receipt.index, statement: statement.id }) {
        Ok(())
    } else {
        Err("the outcome belongs to another entry")
    }
}

fn outcome_words(outcome: &OutcomeRecord) -> String {
    if !outcome.is_done() {
        return format!("refused ({})", outcome.refusal);
    }
    let runs = outcome.events.chunk_by(|one, next| one.kind == next.kind).map(|run| match run {
        [event] => event.kind.clone(),
        run => format!("{} × {}", run.len(), run[0].kind),
    });
    let kinds: Vec<_> = runs.collect();
    if kinds.is_empty() { "done".to_owned() } else { format!("done: {}", kinds.join(", ")) }
}

fn signer_key(statement: &SignedStatement, ledger: Ledger<'_>, known: &Known) -> Result<VerifyingKey, String> {
    // Entry 0 is sealed by the ledger itself; everybody else is registered by an entry before.
    if statement.issuer.as_str() == ledger.name {
        return Ok(ledger.key.clone());
    }
    let party = known.party(&statement.issuer);
    party
        .map(|party| party.key.clone())
        .ok_or_else(|| format!("{} is not registered by any entry in this file", statement.issuer))
}

#[allow(clippy::too_many_arguments)] // the context of one entry, used once
pub(crate) fn check_call(
    about: &str,
    call: &CallBody,
    statement: &SignedStatement,
    outcome: &OutcomeRecord,
    entry: &EvidenceEntry,
    ledger: Ledger<'_>,
    known: &mut Known,
    report: &mut Report,
) {
    if entry.disclosure.is_some() {
        report.fails(about, Step::Readings, "a call has no readings");
    }
    if call.contract.as_str() != "registry" || !outcome.is_done() {
        return;
    }
    if call.action.as_str() == "genesis" && statement.issuer.as_str() != ledger.name {
        report.fails(about, Step::DeviceBinding, "a genesis must be sealed by the ledger itself");
        return;
    }
    if let Some(learned) = report.record(about, Step::DeviceBinding, known.learn(call)) {
        report.holds(about, Step::DeviceBinding, format!("registers {learned} parties, devices and rules"));
    }
}
