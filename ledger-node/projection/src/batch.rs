//! The rows of a few blocks, on their way into one transaction.

mod about;
mod money;

use crate::database::{Database, Fault, Value, places};
use crate::facts::{AgreementFacts, BlockFacts};
use crate::rows::{AgreementRow, Column, data, json_text, number, text};
use crate::statement::Said;
use about::{ID_BYTES_MAX, device_of, owner_of, party};
use money::Account;
use serde_json::json;
use std::collections::BTreeMap;
use tally_evidence::{Event, OutcomeRecord, PartyRecord, Place};

/// Agreements and accounts that these blocks touch; everything else is written as it comes.
pub(crate) struct Batch<'a> {
    database: &'a mut dyn Database,
    agreements: BTreeMap<String, AgreementRow>,
    accounts: BTreeMap<String, Account>,
}

/// Where something happened.
struct Cause<'a> {
    height: u64,
    time: i64,
    /// The entry, and the item of [`cause`].
    entry: Option<(u64, i64)>,
    due: Option<i64>,
    said: &'a Said,
    /// The agreement it is about, once known.
    agreement: Option<String>,
}

impl<'a> Batch<'a> {
    pub fn new(database: &'a mut dyn Database) -> Self {
        Self { database, agreements: BTreeMap::new(), accounts: BTreeMap::new() }
    }

    /// Takes one block in.
    pub fn block(&mut self, block: &BlockFacts) -> Result<(), Fault> {
        let row = [
            Value::count(block.height),
            Value::Integer(block.time.as_micros()),
            Value::count(block.first_entry),
            Value::count(block.statements.len() as u64),
            Value::count(block.terms),
            Value::text(hex::encode(block.checkpoint)),
        ];
        self.insert("blocks", "height, time_us, first_entry, entries, terms, checkpoint", &row)?;
        let (mut seq, mut read) = (0, Read::default());
        for outcome in &block.outcomes {
            let (said, statement) = read.of(block, outcome);
            let mut cause = cause(block, outcome, said)?;
            if let Some(statement) = statement {
                self.entry(&cause, statement, outcome.refusal)?;
            }
            self.outcome(&mut cause, outcome, &mut seq)?;
        }
        Ok(())
    }

    fn insert(&mut self, table: &str, columns: &str, row: &[Value]) -> Result<(), Fault> {
        let sql = format!("INSERT INTO {table} ({columns}) VALUES ({})", places(row.len()));
        self.database.run(&sql, row).map(|_| ())
    }

    fn entry(&mut self, cause: &Cause<'_>, statement: &str, refusal: u16) -> Result<(), Fault> {
        const COLUMNS: &str = "entry, item, height, time_us, kind, statement, signer, device, contract, action, agreement, name, \
                               transition, priority, number, first_reading, last_reading, at_us, refusal";
        let [entry, item] = cause.entry();
        let mut row = vec![entry, item, Value::count(cause.height), cause.time.into()];
        row.extend(cause.said.columns(statement, cause.agreement.as_deref(), refusal));
        self.insert("entries", COLUMNS, &row)
    }

    /// The events of an outcome, numbered as `GET /events` numbers them.
    fn outcome(&mut self, cause: &mut Cause<'_>, outcome: &OutcomeRecord, seq: &mut u64) -> Result<(), Fault> {
        if !outcome.is_done() {
            let subject = cause.agreement.clone().or_else(|| cause.said.device.clone());
            let event = Event {
                kind: "entry.refused".to_owned(),
                subject: subject.or_else(|| cause.said.contract.clone()).unwrap_or_default(),
                data: BTreeMap::new(),
            };
            let refusal = json_text(json!({"refusal": outcome.refusal}));
            return self.event(cause, &event, refusal, seq);
        }
        for event in &outcome.events {
            self.follow(cause, event, *seq)?;
            self.event(cause, event, data(event), seq)?;
        }
        Ok(())
    }

    fn event(&mut self, cause: &Cause<'_>, event: &Event, data: Value, seq: &mut u64) -> Result<(), Fault> {
        const COLUMNS: &str = "height, seq, time_us, entry, item, due_us, kind, subject, agreement, device, signer, party, \
                               from_state, to_state, amount_minor, currency, data";
        let agreement = cause.agreement.clone().filter(|agreement| *agreement == event.subject);
        let device = match &agreement {
            Some(agreement) => self.agreement(agreement)?.and_then(|row| row.device()),
            None => None,
        };
        let device = device.or_else(|| device_of(event).map(str::to_owned)).or_else(|| cause.said.device.clone());
        let moved = event.kind == "agreement.moved";
        let state = if moved { text(event, "to") } else { text(event, "state") };
        let [entry, item] = cause.entry();
        let row = [
            Value::count(cause.height),
            Value::count(*seq),
            cause.time.into(),
            entry,
            item,
            cause.due.map_or(Value::Null, Value::Integer),
            Value::text(event.kind.as_str()),
            Value::text(event.subject.as_str()),
            Value::text_or_null(agreement),
            Value::text_or_null(device),
            Value::text_or_null(cause.said.signer.as_deref()),
            Value::text_or_null(party(event)),
            Value::text_or_null(if moved { text(event, "from") } else { None }),
            Value::text_or_null(state),
            number(event, "amount").map_or(Value::Null, Value::Integer),
            Value::text_or_null(text(event, "currency")),
            data,
        ];
        *seq += 1;
        self.insert("events", COLUMNS, &row)
    }

    /// What an event changes in the other tables.
    fn follow(&mut self, cause: &mut Cause<'_>, event: &Event, seq: u64) -> Result<(), Fault> {
        match event.kind.as_str() {
            "agreement.opened" => {
                let row = AgreementRow::opened(event, cause.height, cause.time, cause.entry.map(|(entry, _)| entry));
                self.agreements.insert(event.subject.clone(), row);
                cause.agreement = Some(event.subject.clone());
            }
            "agreement.moved" | "agreement.updated" | "agreement.noted" => {
                cause.agreement = Some(event.subject.clone());
                self.step(cause, event)?;
            }
            "escrow.held" | "payment.made" | "escrow.released" => self.escrow(cause, event, seq)?,
            "accounts.opened" => {
                let (owner, currency) = owner_of(&event.subject);
                self.change(&event.subject, owner, currency, 0);
            }
            "accounts.issued" => {
                let source = format!("issue:{}", text(event, "currency").unwrap_or_default());
                self.posting(cause, event, seq, (&source, ""), (&event.subject, owner_of(&event.subject).0))?;
            }
            "accounts.transferred" => {
                let to = text(event, "to").unwrap_or_default();
                let (payer, payee) = (owner_of(&event.subject).0, owner_of(to).0);
                self.posting(cause, event, seq, (&event.subject, payer), (to, payee))?;
            }
            "registry.party-registered" => self.party(cause, event)?,
            "registry.party-revoked" => {
                let sql = "UPDATE parties SET revoked_us = ?2 WHERE party = ?1";
                self.database.run(sql, &[Value::text(event.subject.as_str()), cause.time.into()])?;
            }
            "registry.key-rotated" | "registry.key-recovered" => {
                let key = event.data.get("key").and_then(|key| key.as_bytes()).map(hex::encode);
                let sql = "UPDATE parties SET key = ?2 WHERE party = ?1";
                self.database.run(sql, &[Value::text(event.subject.as_str()), Value::text(key.unwrap_or_default())])?;
            }
            "registry.device-registered" | "registry.device-bound" | "registry.device-transferred" => {
                self.device(cause, event)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn step(&mut self, cause: &Cause<'_>, event: &Event) -> Result<(), Fault> {
        let (time, height) = (cause.time, Value::count(cause.height));
        // A contract may be named `agreement` and emit what it likes under that name.
        let Some(row) = self.agreement(&event.subject)? else { return Ok(()) };
        if event.kind == "agreement.noted" {
            row.add(Column::Notes, 1);
            return Ok(());
        }
        row.add(Column::Steps, 1);
        row.set(Column::Updated, time);
        row.set(Column::UpdatedHeight, height.clone());
        let state = text(event, if event.kind == "agreement.moved" { "to" } else { "state" });
        row.set(Column::State, Value::text(state.unwrap_or_default()));
        let has_ended = event.data.get("ended").and_then(|ended| ended.as_bool()) == Some(true);
        if has_ended {
            row.set(Column::Ended, 1);
            row.set(Column::Closed, time);
            row.set(Column::ClosedHeight, height);
        }
        Ok(())
    }

    fn party(&mut self, cause: &Cause<'_>, event: &Event) -> Result<(), Fault> {
        const COLUMNS: &str = "party, kind, name, firm, skills, key, entry, since_us";
        let record = cause.said.parties.iter().find(|record| record.id.as_str() == event.subject);
        let skills = record.map(|record: &PartyRecord| record.skills.join(" "));
        let key = event.data.get("key").and_then(|key| key.as_bytes()).map(hex::encode);
        let row = [
            Value::text(event.subject.as_str()),
            Value::text(text(event, "kind").unwrap_or_default()),
            Value::text_or_null(record.map(|record| record.name.as_str())),
            Value::text_or_null(record.and_then(|record| record.firm.as_ref()).map(|firm| firm.as_str())),
            Value::text_or_null(skills),
            Value::text(key.unwrap_or_default()),
            cause.entry()[0].clone(),
            cause.time.into(),
        ];
        self.insert("parties", COLUMNS, &row)
    }

    fn device(&mut self, cause: &Cause<'_>, event: &Event) -> Result<(), Fault> {
        let word = |name| Value::text(text(event, name).unwrap_or_default());
        let row = [
            Value::text(event.subject.as_str()),
            word("agent"),
            word("owner"),
            cause.entry()[0].clone(),
            cause.time.into(),
        ];
        // A device may be registered again with another agent.
        let sql = "INSERT INTO devices (device, agent, owner, entry, since_us) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (device) DO UPDATE SET agent = excluded.agent, owner = excluded.owner, entry = excluded.entry, \
                   since_us = excluded.since_us";
        self.database.run(sql, &row).map(|_| ())
    }

    fn agreement(&mut self, id: &str) -> Result<Option<&mut AgreementRow>, Fault> {
        if !self.agreements.contains_key(id) {
            let found = self.database.rows(&AgreementRow::select(), &[Value::text(id)])?;
            let Some(row) = found.into_iter().next() else { return Ok(None) };
            self.agreements.insert(id.to_owned(), AgreementRow::stored(row));
        }
        Ok(self.agreements.get_mut(id))
    }

    /// Writes what was gathered. With `details` (the state behind the last block taken in) also what only the state says, of these
    /// agreements and of those that earlier batches left open; without, these are left open.
    pub fn finish(mut self, details: Option<&mut Details<'_>>) -> Result<(), Fault> {
        match details {
            Some(details) => self.details(details)?,
            None => self.leave_open()?,
        }
        let upsert = AgreementRow::upsert();
        for row in self.agreements.values() {
            self.database.run(&upsert, row.row())?;
        }
        self.write_accounts()
    }

    fn leave_open(&mut self) -> Result<(), Fault> {
        for id in self.agreements.keys() {
            let sql = "INSERT INTO pending (agreement) VALUES (?1) ON CONFLICT (agreement) DO NOTHING";
            self.database.run(sql, &[Value::text(id.as_str())])?;
        }
        Ok(())
    }

    fn details(&mut self, details: &mut Details<'_>) -> Result<(), Fault> {
        let open = self.database.rows("SELECT agreement FROM pending", &[])?;
        for id in open.iter().filter_map(|row| row.first().and_then(Value::as_text)) {
            self.agreement(id)?;
        }
        if !open.is_empty() {
            self.database.run("DELETE FROM pending", &[])?;
        }
        for (id, row) in &mut self.agreements {
            let Some(facts) = details(id)? else { continue };
            row.detail(&facts);
            let id = Value::text(id.as_str());
            self.database.run("DELETE FROM agreement_parties WHERE agreement = ?1", std::slice::from_ref(&id))?;
            for (role, party) in &facts.parties {
                let sql = "INSERT INTO agreement_parties (agreement, role, party) VALUES (?1, ?2, ?3)";
                self.database.run(sql, &[id.clone(), Value::text(role.as_str()), Value::text(party.as_str())])?;
            }
        }
        Ok(())
    }
}

/// Gives what the state says of an agreement.
pub type Details<'a> = dyn FnMut(&str) -> Result<Option<AgreementFacts>, Fault> + 'a;

impl Cause<'_> {
    /// Entry and item, as columns.
    fn entry(&self) -> [Value; 2] {
        self.entry.map_or([Value::Null, Value::Null], |(entry, item)| [Value::count(entry), item.into()])
    }
}

/// The statement whose outcomes are being looked at, read once.
#[derive(Default)]
struct Read {
    entry: Option<u64>,
    said: Vec<Said>,
    id: String,
    nothing: Said,
}

impl Read {
    /// What was said, and the id of the statement; nothing of a term.
    fn of(&mut self, block: &BlockFacts, outcome: &OutcomeRecord) -> (&Said, Option<&str>) {
        let (entry, place) = match &outcome.place {
            Place::Entry { index, .. } => (*index, 0),
            Place::Item { index, item, .. } => (*index, *item as usize + 1),
            Place::Term { .. } => return (&self.nothing, None),
        };
        if self.entry != Some(entry) {
            let place = entry.checked_sub(block.first_entry).and_then(|place| usize::try_from(place).ok());
            let statement = place.and_then(|place| block.statements.get(place));
            self.said = Said::read(statement.and_then(|(_, bytes)| bytes.as_deref()));
            self.id = statement.map(|(id, _)| id.to_string()).unwrap_or_default();
            self.entry = Some(entry);
        }
        (self.said.get(place).unwrap_or(&self.nothing), Some(&self.id))
    }
}

/// In the tables a single statement is item 0 of its entry, a trigger of a batch has its place, and the batch itself is item -1.
fn cause<'a>(block: &BlockFacts, outcome: &OutcomeRecord, said: &'a Said) -> Result<Cause<'a>, Fault> {
    let (height, time) = (block.height, block.time.as_micros());
    if outcome.height != height {
        let text = format!("one of its outcomes is of block {}", outcome.height);
        return Err(Fault::Block { height, text });
    }
    let (entry, due, agreement) = match &outcome.place {
        Place::Entry { index, .. } => {
            // A batch whose bytes are no longer kept still says what it was.
            let is_batch = said.kind == "batch" || outcome.events.iter().any(|event| event.kind == "batch.executed");
            let item = if is_batch { -1 } else { 0 };
            (Some((*index, item)), None, said.agreement.clone().or_else(|| concerned(outcome)))
        }
        Place::Item { index, item, .. } => (Some((*index, i64::from(*item))), None, concerned(outcome)),
        Place::Term { agreement, due } => (None, Some(*due), Some(agreement.clone())),
    };
    Ok(Cause { height, time, entry, due, said, agreement })
}

/// The agreement that a trigger opened, moved or was noted on.
fn concerned(outcome: &OutcomeRecord) -> Option<String> {
    let event = outcome.events.iter().find(|event| event.kind.starts_with("agreement."))?;
    Some(event.subject.clone()).filter(|id| id.len() <= ID_BYTES_MAX)
}
