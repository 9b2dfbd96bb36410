//! The readings behind a sealed trigger, for evidence: shown points opened, all others behind their hashes.
//!
//! Built on demand from the vault, and checked against the sealed root before anybody gets it. The vault is read in small
//! pieces, so that readings go on meanwhile.

use crate::anchor::{Answer, SealedAnchor};
use crate::error::StoreError;
use crate::receipts::Receipted;
use crate::seal::Sealed;
use crate::store::Stores;
use crate::vault::RECORDS_AT_ONCE;
use std::collections::HashMap;
use tally_evidence::{
    AnchorBody, BatchFault, BodyFault, Disclosure, DisclosureFault, ReadingFault, SignedStatement, StatementFault,
    StatementName, decode_reading,
};
use tally_journal::Storage;
use tally_model::DeviceId;

/// Why there is no disclosure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscloseError {
    /// This agent did not seal it, or no longer knows.
    #[error("no trigger of this agent has the name {0}")]
    Unknown(StatementName),
    /// No anchor in the book covers the reading.
    #[error("no anchor of this agent covers reading {number} of {device}")]
    NotAnchored {
        /// Whose reading.
        device: DeviceId,
        /// Which.
        number: u64,
    },
    /// A store, or readings that are gone.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own trigger does not parse.
    #[error("{0}")]
    Trigger(#[from] BatchFault),
    /// Our own anchor does not.
    #[error("{0}")]
    Anchor(#[from] StatementFault),
    /// Nor what it says.
    #[error("{0}")]
    AnchorBody(#[from] BodyFault),
    /// A reading in the vault is none.
    #[error("{0}")]
    Reading(#[from] ReadingFault),
    /// What the vault holds does not give what was sealed.
    #[error("{0}")]
    Disclosure(#[from] DisclosureFault),
    /// The vault holds other readings than were sealed.
    #[error("the readings in the vault do not give the root that was sealed: the vault was altered")]
    OtherRoot,
}

/// A sealed trigger, wherever it is by now.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// In the ledger.
    Receipted(Box<Receipted>),
    /// Waiting for its receipt, or a dead letter.
    Unanswered(Sealed),
}

impl Found {
    /// The trigger.
    #[must_use]
    pub fn sealed(&self) -> &Sealed {
        match self {
            Self::Receipted(receipted) => &receipted.sealed,
            Self::Unanswered(sealed) => sealed,
        }
    }
}

/// Looks for a statement: newest receipts first, then the outbox, then the dead letters.
///
/// # Errors
/// [`DiscloseError::Unknown`], or a store's.
pub fn find<S: Storage>(stores: &Stores<S>, name: impl Into<StatementName>) -> Result<Found, DiscloseError> {
    let name = name.into();
    let mut end = stores.receipts().end();
    loop {
        let (receipts, begin) = stores.receipts().some_before(end, RECORDS_AT_ONCE as u64)?;
        if let Some(found) = receipts.into_iter().find(|receipted| receipted.sealed.name() == name) {
            return Ok(Found::Receipted(Box::new(found)));
        }
        if begin >= end || begin <= stores.receipts().first() {
            break;
        }
        end = begin;
    }
    let mut number = stores.outbox().first_kept();
    loop {
        let sealed = stores.outbox().some_from(number, RECORDS_AT_ONCE)?;
        let Some(last) = sealed.last() else { break };
        number = last.number + 1;
        if let Some(found) = sealed.into_iter().find(|sealed| sealed.name() == name) {
            return Ok(Found::Unanswered(found));
        }
    }
    let dead = stores.receipts().dead_letters()?;
    let found = dead.into_iter().map(|letter| letter.sealed).find(|sealed| sealed.name() == name);
    found.map(Found::Unanswered).ok_or(DiscloseError::Unknown(name))
}

/// The disclosure of a trigger, as bytes.
///
/// # Errors
/// [`DiscloseError`].
pub fn disclose<S: Storage>(stores: &Stores<S>, sealed: &Sealed) -> Result<Vec<u8>, DiscloseError> {
    let body = sealed.body()?;
    let claim = &body.readings;
    let (mut place, mut leaves, mut opened) = (sealed.places.0, Vec::new(), HashMap::new());
    while place <= sealed.places.1 {
        let numbers = claim.first..=claim.last;
        let (stored, next) = stores.vault().read(&body.device, place, numbers, RECORDS_AT_ONCE)?;
        for stored in stored {
            leaves.push(stored.leaf());
            let (reading, _) = decode_reading(&body.device, &stored.bytes)?;
            if claim.points.contains_key(&reading.sample.point) {
                opened.insert(stored.number, (stored.salt, stored.bytes));
            }
        }
        place = next;
    }
    if leaves.len() as u64 != claim.last - claim.first + 1 {
        let (device, first, last) = (body.device, claim.first, claim.last);
        return Err(StoreError::NotKept { device, first, last }.into());
    }
    let open = |number: u64| opened.get(&number).cloned();
    let disclosure = Disclosure::build(body.device.clone(), claim.first, &leaves, &open);
    disclosure.readings(&claim.points)?;
    if disclosure.root()? == claim.root { Ok(disclosure.encode()) } else { Err(DiscloseError::OtherRoot) }
}

/// Shows reading `number` of `device` alone, under the root of the anchor that covers it; gives the anchor and, when the ledger
/// answered, its answer.
///
/// # Errors
/// [`DiscloseError`].
pub fn show_reading<S: Storage>(
    stores: &Stores<S>,
    device: &DeviceId,
    number: u64,
) -> Result<(Vec<u8>, SealedAnchor, Option<Answer>), DiscloseError> {
    let not_anchored = || DiscloseError::NotAnchored { device: device.clone(), number };
    let found = stores.anchors().as_ref().map_or(Ok(None), |anchors| anchors.book().covering(device, number))?;
    let (anchor, answer) = found.ok_or_else(not_anchored)?;
    let body = AnchorBody::decode(&SignedStatement::parse(&anchor.statement)?.payload)?;
    let (mut leaves, mut opened) = (Vec::new(), None);
    // Where the anchor's readings begin is not written down: the vault is walked from its beginning.
    // One look at a time: in one expression the second would wait for the first's lock for ever.
    let end = stores.vault().next_place();
    let mut place = stores.vault().first_place();
    let count = body.last - body.first + 1;
    while place < end && (leaves.len() as u64) < count {
        let (stored, next) = stores.vault().read(device, place, body.first..=body.last, RECORDS_AT_ONCE)?;
        for stored in stored {
            leaves.push(stored.leaf());
            if stored.number == number {
                opened = Some((stored.salt, stored.bytes));
            }
        }
        place = next;
    }
    if leaves.len() as u64 != count {
        return Err(StoreError::NotKept { device: device.clone(), first: body.first, last: body.last }.into());
    }
    let open = |at: u64| opened.clone().filter(|_| at == number);
    let disclosure = Disclosure::build(device.clone(), body.first, &leaves, &open);
    if body.shows(&disclosure) { Ok((disclosure.encode(), anchor, answer)) } else { Err(DiscloseError::OtherRoot) }
}
