//! The links every entry has: statement, inclusion, checkpoint, outcome, seal.

use crate::attest::{self, Word};
use crate::known::Known;
use crate::report::{Graded, Report, Step, Times};
use crate::story::Story;
use crate::trigger;
use tally_evidence::cbor::Cbor;
use tally_evidence::{
    AnchorBody, BatchBody, BatchFault, BatchedTrigger, CallBody, Checkpoint, EvidenceEntry, Hash, OutcomeRecord, Place,
    Receipt, SignedStatement, StatementKind, TriggerBody, VerifyingKey, leaf_hash, root_from_path,
};
use tally_model::{Reading, Timestamp};

/// The ledger a file speaks of.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a VerifyingKey,
}

/// A body, read.
pub(crate) enum Body {
    /// With its batch, when it came in one: not yet proved to be in it.
    Trigger(TriggerBody, Option<BatchBody>),
    Call(CallBody),
    Anchor(AnchorBody),
}

/// Where an entry stands: its index, and for a trigger of a batch its place there plus one.
pub(crate) type Position = (u64, u64);

/// An entry whose place, seal and outcome are proved.
pub(crate) struct Proved {
    pub(crate) about: String,
    pub(crate) position: Position,
    pub(crate) statement: SignedStatement,
    pub(crate) body: Body,
    pub(crate) outcome: OutcomeRecord,
    pub(crate) height: u64,
    /// When the ledger made the block.
    pub(crate) time: Timestamp,
}

/// Checks one entry of an agreement; gives its position when its place in the ledger is proved.
pub(crate) fn check(
    entry: &EvidenceEntry,
    before: Option<Position>,
    ledger: Ledger<'_>,
    known: &mut Known,
    story: &mut Story,
    report: &mut Report,
) -> Option<Position> {
    let proved = prove(entry, before, ledger, known, report)?;
    let Proved { about, position, statement, body, outcome, time, .. } = proved;
    let opened = outcome.events.iter().find(|event| event.kind == "agreement.opened");
    let version = opened.and_then(|event| event.data.get("version")).and_then(Cbor::as_integer);
    known.opens(version.map(|version| i128::from(version).to_string()));
    match body {
        Body::Trigger(trigger, _) => {
            let last = trigger::check(&about, &trigger, &statement, entry, known, report);
            report.grades.push(graded(&about, &trigger));
            if outcome.is_done() {
                known.hear(Word { entry: position.0, agent: statement.issuer.clone(), body: trigger.clone() });
                attest::check(&about, &trigger, &outcome.events, known, report);
            }
            report.times.push(times(about, &trigger, last.as_ref(), time));
        }
        Body::Call(call) => check_call(&about, &call, &statement, &outcome, entry, ledger, known, report),
        Body::Anchor(_) => report.fails(&about, Step::Statement, "an anchor says nothing about an agreement"),
    }
    story.add(entry.outcome_index, outcome);
    Some(position)
}

fn graded(about: &str, trigger: &TriggerBody) -> Graded {
    let mapping = trigger.mapping.map(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect());
    Graded { about: about.to_owned(), grade: trigger.grade.word(), mapping }
}

/// Each time of a trigger with the clock it is from; `last` is the reading that decided it.
fn times(about: String, trigger: &TriggerBody, last: Option<&Reading>, block: Timestamp) -> Times {
    let source = last.map(|reading| reading.sample.source_time);
    let received = last.map(|reading| reading.sample.received);
    Times { about, source, received, agent_clock: trigger.clock.map(Into::into), block }
}

/// Checks what every entry has: statement, inclusion, checkpoint, outcome, seal; and that a trigger of a batch is in it.
pub(crate) fn prove(
    entry: &EvidenceEntry,
    before: Option<Position>,
    ledger: Ledger<'_>,
    known: &Known,
    report: &mut Report,
) -> Option<Proved> {
    let statement = report.record("an entry", Step::Statement, SignedStatement::parse(&entry.statement))?;
    let body = report.record("an entry", Step::Statement, read_body(&statement, entry.batched.as_ref()))?;
    let receipt = report.record("an entry", Step::Inclusion, Receipt::parse(&entry.receipt))?;
    let item = entry.batched.as_ref().map(|batched| batched.item);
    let position = (receipt.index, item.map_or(0, |item| u64::from(item) + 1));
    let about = describe(&receipt, item, &body);
    report.record(&about, Step::Statement, meant_for(&statement, &body, ledger))?;
    let root = report.record(&about, Step::Inclusion, included(&receipt, &statement, (before, position), ledger))?;
    report.holds(&about, Step::Inclusion, format!("entry {} of {}", receipt.index, receipt.size));
    let proof = OutcomeProof {
        outcome: &entry.outcome,
        index: entry.outcome_index,
        path: &entry.outcome_path,
        checkpoint: &entry.checkpoint,
    };
    let (checkpoint, outcome) = check_outcome(&about, &proof, ledger, report)?;
    report.record(&about, Step::Checkpoint, covers(&checkpoint, &receipt, root))?;
    report.holds(&about, Step::Checkpoint, format!("height {}, block time {}", checkpoint.height, checkpoint.time));
    report.record(&about, Step::Outcome, belongs(&outcome, &receipt, &statement, item))?;
    report.holds(&about, Step::Outcome, outcome_words(&outcome));
    let key = report.record(&about, Step::DeviceBinding, signer_key(&statement, checkpoint.time, ledger, known))?;
    report.record(&about, Step::Seal, statement.check_seal(&key))?;
    report.holds(&about, Step::Seal, format!("sealed by {}", statement.issuer));
    if let (Body::Trigger(_, Some(batch)), Some(batched)) = (&body, &entry.batched) {
        report.record(&about, Step::Batch, batched.check(batch))?;
        report.holds(&about, Step::Batch, format!("trigger {} of {} under one seal", batched.item, batch.count));
    }
    Some(Proved { about, position, statement, body, outcome, height: checkpoint.height, time: checkpoint.time })
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

fn read_body(statement: &SignedStatement, batched: Option<&BatchedTrigger>) -> Result<Body, BatchFault> {
    let body = match (statement.kind, batched) {
        (StatementKind::Batch, None) => return Err(BatchFault::Bare),
        (StatementKind::Batch, Some(batched)) => {
            let batch = BatchBody::decode(&statement.payload)?;
            let fault = |fault| BatchFault::Trigger { item: batched.item, fault };
            return Ok(Body::Trigger(TriggerBody::decode(&batched.body).map_err(fault)?, Some(batch)));
        }
        (_, Some(_)) => return Err(BatchFault::NotABatch),
        (StatementKind::Trigger, _) => {
            TriggerBody::decode(&statement.payload).map(|trigger| Body::Trigger(trigger, None))
        }
        (StatementKind::Call, _) => CallBody::decode(&statement.payload).map(Body::Call),
        (StatementKind::Anchor, _) => AnchorBody::decode(&statement.payload).map(Body::Anchor),
    };
    body.map_err(BatchFault::Payload)
}

fn describe(receipt: &Receipt, item: Option<u32>, body: &Body) -> String {
    match body {
        Body::Trigger(trigger, _) => {
            let item = item.map_or_else(String::new, |item| format!(".{item}"));
            format!("entry {}{item} (trigger {} {})", receipt.index, trigger.trigger, trigger.transition.word())
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
        Body::Trigger(_, Some(_)) => statement.issuer.as_str(),
        Body::Trigger(trigger, None) => trigger.device.as_str(),
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
    (before, position): (Option<Position>, Position),
    ledger: Ledger<'_>,
) -> Result<Hash, String> {
    if receipt.ledger != ledger.name || receipt.subject != statement.subject {
        return Err("the receipt is for another ledger or subject".to_owned());
    }
    if before.is_some_and(|before| position <= before) {
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

fn belongs(
    outcome: &OutcomeRecord,
    receipt: &Receipt,
    statement: &SignedStatement,
    item: Option<u32>,
) -> Result<(), &'static str> {
    let (index, statement) = (receipt.index, statement.id);
    let place = match item {
        Some(item) => Place::Item { index, statement, item },
        None => Place::Entry { index, statement },
    };
    if outcome.place == place { Ok(()) } else { Err("the outcome belongs to another entry") }
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

fn signer_key(
    statement: &SignedStatement,
    time: Timestamp,
    ledger: Ledger<'_>,
    known: &Known,
) -> Result<VerifyingKey, String> {
    // Entry 0 is sealed by the ledger itself; everybody else is registered by an entry before.
    if statement.issuer.as_str() == ledger.name {
        return Ok(ledger.key.clone());
    }
    let key = known.key_of(&statement.issuer, &statement.key, time);
    key.cloned().ok_or_else(|| format!("{} is not registered by any entry in this file", statement.issuer))
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
    if let Some(learned) = report.record(about, Step::DeviceBinding, known.learn(call, &outcome.events)) {
        report.holds(about, Step::DeviceBinding, format!("registers {learned} parties, devices and rules"));
    }
}
