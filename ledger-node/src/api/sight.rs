//! Who sees which keys and metadata: the one place that every answer asks which could show some. What the rules mean stands in
//! [`tally_contracts::sight`]; which routes ask stands in the table of routes ([`super::roles::Shows`]), and `tests/sight.rs` walks it.

use super::on_disk;
use super::problem::Problem;
use crate::engine::{Engine, logged};
use crate::store::StateView;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tally_contracts::StateRead;
use tally_contracts::sight::{self, Reader, Subject, Withheld};
use tally_evidence::{Event, SignedStatement};
use tally_model::{DeviceId, PartyId};

/// What the site of a device stands under in the events about it.
const SITE: &str = "site";

/// Who sends a request, as the doorkeeper found out; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Reader>);

impl Caller {
    pub(super) fn new(reader: Reader) -> Self {
        Self(Arc::new(reader))
    }

    /// What he may see by now. Reads the disk.
    pub(super) fn sight(&self, engine: &Engine) -> Result<Sight, Problem> {
        if self.0.is_operator() {
            return Ok(Sight::operator());
        }
        let state = engine.store().state()?;
        let is_hiding = sight::hides_anything(&state);
        sound(&state)?;
        Ok(Sight { state: is_hiding.then_some(state), reader: Arc::clone(&self.0) })
    }

    /// For answers that show whatever there is.
    pub(super) async fn needs_everything(&self, engine: &Engine, what: &str) -> Result<(), Problem> {
        if self.0.is_operator() {
            return Ok(());
        }
        let (caller, what) = (self.clone(), what.to_owned());
        on_disk(engine, move |engine| shown(caller.sight(engine)?.ask(sight::everything)?, || what)).await
    }
}

/// What one reader may see, for one answer.
pub(crate) struct Sight {
    /// `None`: everything.
    state: Option<StateView>,
    reader: Arc<Reader>,
}

impl Sight {
    /// Whoever runs the node sees everything.
    pub(crate) fn operator() -> Self {
        Self { state: None, reader: Arc::new(Reader::operator()) }
    }

    /// Whether nothing is hidden from him, because nothing is hidden or because he is the operator.
    pub(super) fn is_whole(&self) -> bool {
        self.state.is_none()
    }

    fn ask(
        &self,
        question: impl FnOnce(&dyn StateRead, &Reader) -> Result<(), Withheld>,
    ) -> Result<Option<Withheld>, Problem> {
        let Some(state) = &self.state else { return Ok(None) };
        let answer = question(state, &self.reader);
        sound(state)?;
        Ok(answer.err())
    }

    /// Why key, name and skills of a party are not shown.
    pub(super) fn party(&self, id: &PartyId) -> Result<Option<Withheld>, Problem> {
        self.ask(|state, reader| sight::of(state, reader, &Subject::Party(id.clone())))
    }

    /// Why the site of a device is not shown.
    pub(super) fn device(&self, id: &DeviceId) -> Result<Option<Withheld>, Problem> {
        self.ask(|state, reader| sight::of(state, reader, &Subject::Device(id.clone())))
    }

    /// Why a statement is not shown, out of the bytes that the log has for its entry.
    pub(super) fn entry(&self, entry: u64, bytes: &[u8]) -> Result<Option<Withheld>, Problem> {
        if self.is_whole() { Ok(None) } else { self.statement(&logged(entry, bytes)?) }
    }

    fn statement(&self, statement: &SignedStatement) -> Result<Option<Withheld>, Problem> {
        self.ask(|state, reader| sight::statement(state, reader, statement))
    }

    /// Why the value of a state key is not shown.
    pub(super) fn state_key(&self, key: &[u8]) -> Result<Option<Withheld>, Problem> {
        self.ask(|state, reader| sight::state_key(state, reader, key))
    }

    /// Refuses an answer that cannot be given without this statement.
    pub(super) fn needs_statement(&self, entry: u64, statement: &SignedStatement) -> Result<(), Problem> {
        shown(self.statement(statement)?, || format!("entry {entry} is needed here"))
    }

    /// Refuses an answer that cannot be given without the value of this state key.
    pub(super) fn needs_state_key(&self, key: &[u8]) -> Result<(), Problem> {
        shown(self.state_key(key)?, || format!("state key {} is asked for", hex::encode(key)))
    }

    /// Why the site in an event is not shown.
    fn site(&self, kind: &str, subject: &str) -> Result<Option<Withheld>, Problem> {
        let device = DeviceId::try_new(subject).ok().filter(|_| kind.starts_with("registry.device-"));
        device.map_or(Ok(None), |device| self.device(&device))
    }

    /// Why an event is not shown as it is.
    pub(super) fn event(&self, event: &Event) -> Result<Option<Withheld>, Problem> {
        if event.data.contains_key(SITE) { self.site(&event.kind, &event.subject) } else { Ok(None) }
    }

    /// Takes what is hidden out of the data of an event.
    pub(super) fn take_out(&self, kind: &str, subject: &str, data: &mut Map<String, Value>) -> Result<(), Problem> {
        if self.is_whole() || !data.contains_key(SITE) {
            return Ok(());
        }
        if let Some(withheld) = self.site(kind, subject)? {
            data.remove(SITE);
            data.insert("withheld".to_owned(), json!(withheld));
        }
        Ok(())
    }
}

/// Nothing, or a "no" that names the rule; `what` says what was asked.
pub(super) fn shown(withheld: Option<Withheld>, what: impl FnOnce() -> String) -> Result<(), Problem> {
    withheld.map_or(Ok(()), |withheld| Err(Problem::withheld(&what(), &withheld)))
}

fn sound(state: &StateView) -> Result<(), Problem> {
    if state.is_sound() { Ok(()) } else { Err(Problem::not_now("internal", "the state cannot be read", 10)) }
}
