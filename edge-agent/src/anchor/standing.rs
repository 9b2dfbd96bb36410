//! How the anchors of every device stand: what is sealed, what the ledger took, and what the next one must fit. In memory; the book
//! keeps it.

use super::record::{Answer, SealedAnchor, State};
use std::collections::{BTreeMap, HashMap};
use tally_evidence::Hash;
use tally_model::{DeviceId, Timestamp};

/// Anchors without an answer; beyond that each covers more readings.
pub const PENDING_MAX: usize = 10_000;

/// Refusals that say: the ledger's last anchor of the device is not the one we think (104, 105, 177, 178, 179).
const NOT_OUR_CHAIN: [u16; 5] = [104, 105, 177, 178, 179];

/// How every device stands, and the anchors without an answer.
#[derive(Default)]
pub(in crate::anchor) struct Standings {
    devices: HashMap<DeviceId, Standing>,
    /// Anchors without an answer, by journal record.
    pending: BTreeMap<u64, Pending>,
}

struct Standing {
    state: State,
    /// The last one was sealed behind a refusal, with everything before it answered: it had to fit.
    is_retried: bool,
    pending: usize,
}

struct Pending {
    device: DeviceId,
    number: u64,
    next: u64,
    received: Timestamp,
}

impl Standings {
    /// How a device stands; one that is new here begins with reading `first`.
    pub(super) fn state_or_begin(&mut self, device: &DeviceId, first: u64) -> &State {
        if !self.devices.contains_key(device) {
            self.standing(device).state.next = first;
        }
        &self.standing(device).state
    }

    /// The device's anchors begin with reading `first`, found at or behind this vault record.
    pub(super) fn begin_with(&mut self, device: &DeviceId, first: u64, place: u64) {
        if !self.devices.contains_key(device) {
            let state = &mut self.standing(device).state;
            (state.next, state.place) = (first, Some(place));
        }
    }

    /// The agent begins again with reading `next`.
    pub(super) fn resume(&mut self, device: &DeviceId, next: u64) {
        let resumes = &mut self.standing(device).state.resumes;
        if next > 0 && resumes.last() != Some(&next) {
            resumes.push(next);
        }
    }

    /// Whether an anchor of the device may be sealed now: not while one is unanswered behind a refusal, and not above
    /// [`PENDING_MAX`], unless it is too large to wait.
    pub(super) fn may_seal(&self, device: &DeviceId, is_large: bool) -> bool {
        let waits = self.devices.get(device).is_some_and(|known| known.state.refusals > 0 && known.pending > 0);
        is_large || !waits && self.pending.len() < PENDING_MAX
    }

    /// Refusals since the last anchor that was taken.
    pub(super) fn refusals(&self, device: &DeviceId) -> u32 {
        self.devices.get(device).map_or(0, |known| known.state.refusals)
    }

    /// What the next anchor of the device must fit.
    pub(super) fn before(&self, device: &DeviceId) -> Before {
        let none = Before { number: 0, digest: [0; 32], next: 0, received: None, is_refused: false };
        let Some(Standing { state, pending, .. }) = self.devices.get(device) else { return none };
        let State { number, digest, next, received, .. } = *state;
        match state.covered {
            _ if *pending > 0 => Before { number, digest, next, received, is_refused: false },
            Some((next, received)) => {
                Before { number, digest, next, received: Some(received), is_refused: next != state.next }
            }
            None => Before { is_refused: number > 0, ..none },
        }
    }

    pub(super) fn sealed(&mut self, record: u64, anchor: &SealedAnchor) {
        let standing = self.standing(&anchor.device);
        let state = &mut standing.state;
        state.next = anchor.last + 1;
        state.place = Some(anchor.place);
        state.received = Some(anchor.received);
        (state.number, state.digest) = (anchor.number, anchor.digest);
        state.resumes.retain(|number| *number > anchor.last);
        standing.is_retried = state.refusals > 0;
        standing.pending += 1;
        let (device, next, received) = (anchor.device.clone(), anchor.last + 1, anchor.received);
        self.pending.insert(record, Pending { device, number: anchor.number, next, received });
    }

    pub(super) fn answered(&mut self, answer: &Answer) {
        let Some(pending) = self.pending.remove(&answer.anchor) else { return };
        let standing = self.standing(&pending.device);
        standing.pending = standing.pending.saturating_sub(1);
        let state = &mut standing.state;
        if answer.refusal == 0 {
            state.covered = Some((pending.next, pending.received));
            state.refusals = 0;
            return;
        }
        // What was sealed behind a refused one without knowing it is refused as a consequence, which says nothing more.
        let had_to_fit = state.refusals == 0 || standing.is_retried && pending.number == state.number;
        if had_to_fit && NOT_OUR_CHAIN.contains(&answer.refusal) {
            state.covered = None;
        }
        state.refusals = state.refusals.saturating_add(1);
    }

    /// Of which record an answer is missing for longest.
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.pending.first_key_value().map(|(record, _)| *record)
    }

    /// Anchors without an answer.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// As it is written into the book.
    pub(super) fn states(&self) -> Vec<State> {
        self.devices.values().map(|standing| standing.state.clone()).collect()
    }

    /// As it was written into the book.
    pub(super) fn read(&mut self, state: State) {
        let device = state.device.clone();
        self.standing(&device).state = state;
    }

    /// Every device, by name.
    pub(super) fn summary(&self) -> Vec<Summary> {
        let mut all: Vec<_> = self.devices.values().map(Standing::summary).collect();
        all.sort_by(|a, b| a.device.cmp(&b.device));
        all
    }

    fn standing(&mut self, device: &DeviceId) -> &mut Standing {
        self.devices.entry(device.clone()).or_insert_with(|| Standing {
            state: State::new(device.clone()),
            is_retried: false,
            pending: 0,
        })
    }
}

impl Standing {
    fn summary(&self) -> Summary {
        let State { device, next, number, received, covered, refusals, .. } = &self.state;
        Summary {
            device: device.clone(),
            number: *number,
            next: *next,
            covered: covered.map(|(next, _)| next),
            sealed_until: (*number > 0).then_some(*received).flatten(),
            covered_until: covered.map(|(_, received)| received),
            pending: self.pending,
            refusals: *refusals,
        }
    }
}

/// What the next anchor of a device must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    /// Number and digest of the one before; 0 and zeros when numbering begins.
    pub number: u64,
    pub digest: Hash,
    /// The reading with which it should begin.
    pub next: u64,
    /// Receive time of the reading before that one.
    pub received: Option<Timestamp>,
    /// Readings are missing because the ledger did not take their anchor.
    pub is_refused: bool,
}

/// How a device stands, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Which device.
    pub device: DeviceId,
    /// Number of its last sealed anchor.
    pub number: u64,
    /// The first reading that no sealed anchor covers.
    pub next: u64,
    /// The first reading that no anchor in the ledger covers.
    pub covered: Option<u64>,
    /// Receive time of the last reading that a sealed anchor covers, RFC 3339.
    #[serde(serialize_with = "as_text")]
    pub sealed_until: Option<Timestamp>,
    /// Receive time of the last reading that an anchor in the ledger covers, RFC 3339: nothing is missing until then but declared
    /// gaps.
    #[serde(serialize_with = "as_text")]
    pub covered_until: Option<Timestamp>,
    /// Anchors without an answer.
    pub pending: usize,
    /// Refusals since the last one that the ledger took.
    pub refusals: u32,
}

#[allow(clippy::ref_option)] // as serde calls it
fn as_text<T: serde::Serializer>(time: &Option<Timestamp>, serializer: T) -> Result<T::Ok, T::Error> {
    serde::Serialize::serialize(&time.map(|time| time.to_string()), serializer)
}

impl Summary {
    /// Seconds from the last reading that an anchor in the ledger covers to `now`; `None` while it covers none.
    #[must_use]
    pub fn behind(&self, now: Timestamp) -> Option<f64> {
        self.covered_until.map(|until| now.since(until).as_secs_f64())
    }
}
