//! The witnesses' word: others saw the tree that all entries are in. `docs/formats/verifying.md`, *Witnesses*.

use crate::entry::Ledger;
use crate::report::{Report, Step};
use tally_evidence::{
    Cosigner, EvidenceEntry, LogKey, Receipt, SignedNote, SignedStatement, WitnessedNote, leaf_hash, root_from_path,
    witnessed,
};
use tally_model::Timestamp;

const ABOUT: &str = "the witnesses";

/// Whose word the reader takes, and of how many.
#[derive(Debug, Clone, Default)]
pub struct Witnesses {
    /// The witnesses he knows. Without any, those in the file are shown and no more.
    pub known: Vec<Cosigner>,
    /// How many of them must have signed.
    pub need: usize,
}

/// Checks what the file says of witnesses, and that it is enough.
pub(crate) fn check(
    (entries, witnessed): (&[EvidenceEntry], Option<&WitnessedNote>),
    ledger: Ledger<'_>,
    wanted: &Witnesses,
    report: &mut Report,
) {
    match witnessed {
        None if wanted.need == 0 => {}
        None => absent(wanted, report),
        Some(given) => {
            let checked = whole(entries, given, ledger).and_then(|note| enough(given, &note, ledger, wanted));
            if let Some(detail) = report.record(ABOUT, Step::Witness, checked) {
                report.holds(ABOUT, Step::Witness, detail);
            }
        }
    }
}

/// The file carries no witnesses' word, and the reader wants it.
pub(crate) fn absent(wanted: &Witnesses, report: &mut Report) {
    if wanted.need > 0 {
        let words = format!("{} are needed, the file carries the word of none", wanted.need);
        report.fails(ABOUT, Step::Witness, words);
    }
}

fn log_key(ledger: Ledger<'_>) -> LogKey {
    LogKey::new(ledger.name.to_owned(), ledger.key.clone().into())
}

/// Every signature in the note is the ledger's or a listed witness's and holds, each listed witness signed, and every entry is in the
/// note's tree: so no byte of it is outside every check.
fn whole(entries: &[EvidenceEntry], given: &WitnessedNote, ledger: Ledger<'_>) -> Result<SignedNote, String> {
    let log = log_key(ledger);
    let note = SignedNote::parse(&given.note).map_err(|fault| fault.to_string())?;
    let tree = log.check(&note).map_err(|fault| fault.to_string())?;
    for witness in &given.witnesses {
        witness.time_of(&note).map_err(|fault| format!("{}: {fault}", witness.name()))?;
    }
    let is_known = |line| given.witnesses.iter().any(|witness| witness.is_of(line));
    let is_logs = |line: &tally_evidence::SignatureLine| line.name == log.origin() && line.key_id == log.key_id();
    if let Some(line) = note.lines().iter().find(|line| !is_logs(line) && !is_known(line)) {
        return Err(format!("a signature of {} is of nobody listed", line.name));
    }
    if given.paths.len() != entries.len() {
        return Err(format!("{} paths for {} entries", given.paths.len(), entries.len()));
    }
    for (entry, path) in entries.iter().zip(&given.paths) {
        let read = (SignedStatement::parse(&entry.statement), Receipt::parse(&entry.receipt));
        let (Ok(statement), Ok(receipt)) = read else { return Err("an entry cannot be read".to_owned()) };
        let reached = root_from_path(leaf_hash(&statement.id.0), receipt.index, tree.size, path);
        if reached != Some(tree.root) {
            return Err(format!(
                "entry {} is not in the tree of {} entries that they signed",
                receipt.index, tree.size
            ));
        }
    }
    Ok(note)
}

/// Enough of those whom the reader knows signed; their names and the earliest time.
fn enough(given: &WitnessedNote, note: &SignedNote, ledger: Ledger<'_>, wanted: &Witnesses) -> Result<String, String> {
    let is_given = !wanted.known.is_empty();
    let asked = if is_given { &wanted.known } else { &given.witnesses };
    let found = witnessed(note, &log_key(ledger), asked).map_err(|fault| fault.to_string())?;
    let names: Vec<_> = found.by.iter().map(|(name, _)| name.as_str()).collect();
    if found.by.len() < wanted.need {
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        return Err(format!("{} are needed, {names} of those you know signed", wanted.need));
    }
    let since = found.by.iter().map(|(_, time)| *time).min().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
    let since = Timestamp::from_micros(since.saturating_mul(1_000_000));
    let whose = if is_given { "" } else { " (taken from the file: compare them, or give --witness)" };
    Ok(format!("{} signed a tree of {} entries, the first at {since}{whose}", names.join(", "), found.size))
}
