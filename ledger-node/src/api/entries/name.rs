//! What an entry is called, and finding it for who may see it.

use crate::api::problem::Problem;
use crate::api::sight::{Caller, shown};
use crate::engine::{Committed, Engine, ReadError};
use tally_evidence::{BatchEnvelope, BatchedTrigger, StatementId};

/// An entry, or one trigger of a batch.
pub(super) struct Found {
    pub committed: Committed,
    /// As the log has them.
    pub bytes: Vec<u8>,
    /// The trigger, when one was asked for.
    pub batched: Option<BatchedTrigger>,
}

impl Found {
    pub(super) fn statement(&self) -> Result<&[u8], ReadError> {
        BatchEnvelope::statement_in(&self.bytes).map_err(|_| ReadError::Entry(self.committed.entry))
    }
}

/// What an entry is called: by statement id or by index; `.N` behind it names trigger `N` of a batch.
pub(super) struct EntryName<'a> {
    name: &'a str,
    entry: Result<StatementId, u64>,
    pub item: Option<u32>,
}

impl<'a> EntryName<'a> {
    pub(super) fn parse(name: &'a str) -> Result<Self, Problem> {
        let malformed = || Problem::bad_request("entry-id", format!("`{name}` names no entry"), ID_HINT);
        let (id, item) = name.split_once('.').map_or((name, None), |(id, item)| (id, Some(item)));
        let item = item.map(|item| item.parse::<u32>().map_err(|_| malformed())).transpose()?;
        let entry = match (id.parse::<StatementId>(), id.parse::<u64>()) {
            (Ok(id), _) => Ok(id),
            (_, Ok(index)) => Err(index),
            _ => return Err(malformed()),
        };
        Ok(Self { name, entry, item })
    }

    pub(super) fn missing(&self) -> Problem {
        Problem::not_found("entry", format!("there is no entry `{}`", self.name), ID_HINT)
    }

    /// The entry; also when its statement was pruned.
    pub(super) fn committed(&self, engine: &Engine) -> Result<Committed, Problem> {
        let found = match self.entry {
            Ok(id) => Some(find_by_id(engine, &id)?),
            Err(index) => engine.committed(index)?,
        };
        found.ok_or_else(|| self.missing())
    }
}

/// The entry of this name; also when its statement was pruned.
pub(in crate::api) fn named(engine: &Engine, name: &str) -> Result<Committed, Problem> {
    EntryName::parse(name)?.committed(engine)
}

const ID_HINT: &str = "an entry is named by the 64 hexadecimal digits of its statement id, or by its index; \
     `.N` behind it names trigger N of a batch, from 0";

/// An entry that this caller may see.
pub(super) fn find(engine: &Engine, caller: &Caller, name: &str) -> Result<Found, Problem> {
    let name = EntryName::parse(name)?;
    let entry = name.committed(engine)?.entry;
    let (committed, bytes) = engine.entry(entry)?.ok_or_else(|| name.missing())?;
    shown(caller.sight(engine)?.entry(entry, &bytes)?, || format!("the statement {} (entry {entry})", committed.id))?;
    let show =
        |item| BatchEnvelope::split(&bytes).ok().and_then(|batch| batch.show(item)).ok_or_else(|| name.missing());
    let batched = name.item.map(show).transpose()?;
    Ok(Found { committed, bytes, batched })
}

/// An entry, or how far its statement is.
fn find_by_id(engine: &Engine, id: &StatementId) -> Result<Committed, Problem> {
    if let Some(found) = engine.find_committed(id)? {
        return Ok(found);
    }
    if let Some(state) = engine.on_its_way(id) {
        return Err(Problem::on_its_way(id, state));
    }
    // It may have arrived between the two looks.
    let hint = "never seen here, or lost in a crash before it was durable: send the statement (again)";
    engine.find_committed(id)?.ok_or_else(|| Problem::not_found("entry", format!("there is no entry `{id}`"), hint))
}
