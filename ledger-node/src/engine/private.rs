//! Private fields: taken with their call, shown, and gone.

use super::submit::Ticket;
use super::{Committed, Engine, Inner, ReadError, SubmitError};
use crate::admit::{NotNow, Refused};
use crate::private::{self, OpeningName, PrivateError};
use std::sync::Arc;
use tally_contracts::PrivateField;
use tally_evidence::{CallBody, Presented, PrivateFault, SignedStatement, StatementId, StatementKind, open_fields};

impl Engine {
    /// A statement that came with openings. Whoever waits for it may leave: they are settled in any case.
    pub(super) async fn submit_presented(&self, presented: Arc<[u8]>) -> Result<Committed, SubmitError> {
        let engine = self.clone();
        let submitting = tokio::spawn(async move {
            let (taking, settling) = (engine.clone(), engine.clone());
            let (id, ticket) = on_disk(move || taking.admit_presented(&presented)).await?;
            let committed = engine.settled(ticket).await?;
            on_disk(move || settling.inner.settle(id)).await?;
            Ok(committed)
        });
        submitting.await.unwrap_or_else(|died| Err(NotNow::Failed(died.to_string()).into()))
    }

    fn admit_presented(&self, presented: &[u8]) -> Result<(StatementId, Ticket), SubmitError> {
        let (id, Presented { statement, openings }) = self.split_presented(presented)?;
        let admitted = self.admit_with(statement.into(), &openings);
        let is_known =
            || self.on_its_way(&id).is_some() || self.inner.store.entry_of(&id).is_ok_and(|found| found.is_some());
        if admitted.is_err() && !is_known() {
            self.inner.private.withdraw(&self.inner.store, id).map_err(|fault| failed(&fault))?;
        }
        Ok((id, admitted?))
    }

    /// What is no statement at all never comes to [`admit_with`](Self::admit_with), where the others are counted.
    fn split_presented(&self, presented: &[u8]) -> Result<(StatementId, Presented), Refused> {
        let split = || {
            let presented = Presented::split(presented).map_err(Refused::Private)?;
            Ok((SignedStatement::parse(&presented.statement).map_err(Refused::Malformed)?.id, presented))
        };
        split().inspect_err(|refused: &Refused| self.metrics().refused(refused.code()))
    }

    /// Erases what was purged; the words of the failure.
    pub(super) fn purge_all(&self, purged: &[(u64, String)]) -> Result<(), String> {
        let Inner { private, store, .. } = &*self.inner;
        let purge = |(entry, field): &(u64, String)| private.purge(store, *entry, field);
        purged.iter().try_for_each(purge).map_err(|fault| fault.to_string())
    }

    /// The private fields of an entry, by name.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn private_fields(&self, entry: u64) -> Result<Vec<PrivateField>, ReadError> {
        Ok(private::fields(&self.inner.store, entry)?)
    }

    /// What opens a private field, if it is kept.
    ///
    /// # Errors
    /// [`ReadError`]; a file that was altered is named.
    pub fn opening(&self, field: &PrivateField) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(statement) = self.inner.store.id_of(field.entry)? else { return Ok(None) };
        let name = OpeningName { statement, digest: field.commitment.0 };
        Ok(self.inner.private.read(&name).map_err(PrivateError::from)?)
    }
}

impl Inner {
    /// Openings of a statement whose seal holds, onto the disk.
    pub(super) fn take_openings(&self, parsed: &SignedStatement, openings: &[Vec<u8>]) -> Result<(), SubmitError> {
        if parsed.kind != StatementKind::Call {
            return Err(Refused::Private(PrivateFault::NotACall).into());
        }
        let call = CallBody::decode(&parsed.payload).map_err(Refused::Body)?;
        let opened = open_fields(&call, openings.iter().map(Vec::as_slice)).map_err(Refused::Private)?;
        let opened: Vec<_> =
            opened.iter().zip(openings).map(|((commitment, _), bytes)| (*commitment, &bytes[..])).collect();
        self.private.offer(&self.store, parsed.id, &opened).map_err(|fault| failed(&fault))
    }

    fn settle(&self, id: StatementId) -> Result<(), SubmitError> {
        self.private.settle(&self.store, id).map_err(|fault| failed(&fault))
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SubmitError> + Send + 'static,
) -> Result<T, SubmitError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|died| Err(NotNow::Failed(died.to_string()).into()))
}

fn failed(fault: &PrivateError) -> SubmitError {
    tracing::error!(%fault, "private fields cannot be kept");
    NotNow::Failed(fault.to_string()).into()
}
