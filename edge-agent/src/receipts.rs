//! What the ledger answered: receipts, and the dead letters it will never take.
//!
//! Receipt records: 1 u8, outbox number u64, entry u64, refusal u16 (0: none), receipt bytes, sealed trigger bytes.
//! State records: 2 u8, count u32, count × (device text, trigger text, last reading u64, transition u8): how every rule
//! stands, written before older receipts are deleted. Dead letters: 1 u8, outbox number u64, code text, reason text,
//! sealed trigger bytes. (`text` and `bytes` with a u32 length in front.)
//!
//! **Who writes, who deletes.** The submit task writes both; receipts are deleted after `vault_days`, dead letters never: a
//! person looks at them.

use crate::bytes::{Put, Take};
use crate::error::StoreError;
use crate::seal::Sealed;
use crate::watch::SealedBefore;
use std::collections::{BTreeSet, HashMap};
use tally_evidence::Transition;
use tally_journal::{Journal, JournalError, Options, Storage};
use tally_model::{DeviceId, Timestamp, TriggerId};

const RECORD: u8 = 1;
const STATE: u8 = 2;

/// Limits of both journals.
#[must_use]
pub fn journal_options() -> Options {
    Options { segment_bytes_max: 16 << 20, ..Options::default() }
}

/// A trigger that is in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipted {
    /// The trigger.
    pub sealed: Sealed,
    /// Index of its entry.
    pub entry: u64,
    /// Number of the contract's refusal, if it refused.
    pub refusal: Option<u16>,
    /// The receipt, checked.
    pub receipt: Vec<u8>,
}

/// A trigger that the node will never take.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The trigger.
    pub sealed: Sealed,
    /// The node's code.
    pub code: String,
    /// The node's words.
    pub reason: String,
}

/// What is found on disk.
#[derive(Default)]
pub struct Answered {
    /// Outbox numbers that have an answer.
    pub numbers: BTreeSet<u64>,
    /// How every rule stood, and what was sealed since.
    pub before: SealedBefore,
}

impl Answered {
    /// Notes a sealed trigger; `from` is the first reading its device will see again.
    pub fn note(&mut self, device: &DeviceId, trigger: &TriggerId, last: u64, transition: Transition, from: u64) {
        let sealed = self.before.entry((device.clone(), trigger.clone())).or_default();
        if last < from {
            // Of those before the replay only the latest counts.
            sealed.retain(|(known, _)| *known > last);
        }
        match sealed.binary_search_by_key(&last, |(known, _)| *known) {
            Ok(place) => sealed[place].1 = transition,
            Err(place) => sealed.insert(place, (last, transition)),
        }
    }
}

/// The answers.
pub struct Receipts<S: Storage> {
    receipts: Journal<S>,
    dead: Journal<S>,
    /// How every rule stands by what is answered.
    states: HashMap<(DeviceId, TriggerId), (u64, Transition)>,
}

impl<S: Storage> Receipts<S> {
    /// Reads what is there. Numbers below `outbox_first` are of no interest any more; `replays_from` gives the first
    /// reading of a device that its rules will see again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(
        receipts: Journal<S>,
        dead: Journal<S>,
        outbox_first: u64,
        replays_from: impl Fn(&DeviceId) -> u64,
    ) -> Result<(Self, Answered), StoreError> {
        let mut answered = Answered::default();
        let mut states = HashMap::new();
        let mut note = |device: &DeviceId, trigger: &TriggerId, last: u64, transition| {
            answered.note(device, trigger, last, transition, replays_from(device));
            remember(&mut states, device, trigger, last, transition);
        };
        let mut numbers = BTreeSet::new();
        for record in receipts.iter_from(0).map_err(receipts_fault)? {
            let (number, bytes) = record.map_err(receipts_fault)?;
            let foreign = StoreError::Foreign { store: "receipts", record: number };
            if bytes.first() == Some(&STATE) {
                for (device, trigger, last, transition) in decode_states(&bytes).ok_or(foreign)? {
                    note(&device, &trigger, last, transition);
                }
            } else {
                let sealed = decode_receipt(&bytes).ok_or(foreign)?.sealed;
                numbers.extend((sealed.number >= outbox_first).then_some(sealed.number));
                note(&sealed.device, &sealed.trigger, sealed.last, sealed.transition);
            }
        }
        for record in dead.iter_from(0).map_err(dead_fault)? {
            let (number, bytes) = record.map_err(dead_fault)?;
            let letter = decode_dead(&bytes).ok_or(StoreError::Foreign { store: "dead letters", record: number })?;
            let sealed = letter.sealed;
            numbers.insert(sealed.number);
            note(&sealed.device, &sealed.trigger, sealed.last, sealed.transition);
        }
        answered.numbers = numbers.split_off(&outbox_first);
        Ok((Self { receipts, dead, states }, answered))
    }

    /// Keeps a receipt. Durable after [`Receipts::sync`]; until then a crash costs a second submission, which gets the
    /// same receipt.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep(&mut self, receipted: &Receipted) -> Result<(), StoreError> {
        let sealed = &receipted.sealed;
        let mut bytes = vec![RECORD];
        bytes.put_u64(sealed.number);
        bytes.put_u64(receipted.entry);
        bytes.put_u16(receipted.refusal.unwrap_or(0));
        bytes.put_bytes(&receipted.receipt);
        bytes.put_bytes(&sealed.encode());
        self.receipts.append(&bytes).map_err(receipts_fault)?;
        remember(&mut self.states, &sealed.device, &sealed.trigger, sealed.last, sealed.transition);
        Ok(())
    }

    /// Keeps dead letters, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn bury(&mut self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        for DeadLetter { sealed, code, reason } in letters {
            let mut bytes = vec![RECORD];
            bytes.put_u64(sealed.number);
            bytes.put_bytes(code.as_bytes());
            bytes.put_bytes(reason.as_bytes());
            bytes.put_bytes(&sealed.encode());
            self.dead.append(&bytes).map_err(dead_fault)?;
        }
        self.dead.sync().map_err(dead_fault)?;
        for DeadLetter { sealed, .. } in letters {
            remember(&mut self.states, &sealed.device, &sealed.trigger, sealed.last, sealed.transition);
        }
        Ok(())
    }

    /// Makes the receipts kept so far durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.receipts.sync().map_err(receipts_fault)
    }

    /// Deletes receipts of triggers before `since`, whole segments only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn retain(&mut self, since: Timestamp) -> Result<(), StoreError> {
        let mut until = self.receipts.first_number();
        for record in self.receipts.iter_from(until).map_err(receipts_fault)? {
            let (number, bytes) = record.map_err(receipts_fault)?;
            until = number;
            if decode_receipt(&bytes).is_some_and(|receipted| receipted.sealed.at >= since) {
                break;
            }
        }
        if until > self.receipts.first_number() {
            // If we die in between: the states stand twice.
            self.receipts.append(&encode_states(&self.states)).map_err(receipts_fault)?;
            self.sync()?;
            self.receipts.discard_before(until).map_err(receipts_fault)?;
        }
        Ok(())
    }

    /// At most `count` receipts that end before record `end`, oldest first, and the record they begin at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn some_before(&self, end: u64, count: u64) -> Result<(Vec<Receipted>, u64), StoreError> {
        let begin = end.saturating_sub(count).max(self.receipts.first_number());
        let records = self.receipts.iter_from(begin).map_err(receipts_fault)?;
        let mut found = Vec::new();
        for record in records {
            let (number, bytes) = record.map_err(receipts_fault)?;
            if number >= end {
                break;
            }
            found.extend(decode_receipt(&bytes));
        }
        Ok((found, begin))
    }

    /// The record behind the last receipt.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.receipts.next_number()
    }

    /// The first record still kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.receipts.first_number()
    }

    /// All dead letters, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, StoreError> {
        let records = self.dead.iter_from(0).map_err(dead_fault)?;
        let letters = records.map(|record| record.map_err(dead_fault).map(|(_, bytes)| decode_dead(&bytes)));
        letters.filter_map(Result::transpose).collect()
    }

    /// How many dead letters there are.
    #[must_use]
    pub fn dead_letter_count(&self) -> u64 {
        self.dead.next_number() - self.dead.first_number()
    }
}

fn remember(
    states: &mut HashMap<(DeviceId, TriggerId), (u64, Transition)>,
    device: &DeviceId,
    trigger: &TriggerId,
    last: u64,
    transition: Transition,
) {
    let state = states.entry((device.clone(), trigger.clone())).or_insert((last, transition));
    if last >= state.0 {
        *state = (last, transition);
    }
}

fn receipts_fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: "receipts", source }
}

fn dead_fault(source: JournalError) -> StoreError {
    StoreError::Journal { store: "dead letters", source }
}

fn decode_receipt(bytes: &[u8]) -> Option<Receipted> {
    let mut take = Take(bytes);
    if take.u8()? != RECORD {
        return None;
    }
    let (_, entry, refusal) = (take.u64()?, take.u64()?, take.u16()?);
    let receipt = take.bytes()?.to_vec();
    let sealed = Sealed::decode(take.bytes()?)?;
    take.end()?;
    Some(Receipted { sealed, entry, refusal: (refusal > 0).then_some(refusal), receipt })
}

fn decode_dead(bytes: &[u8]) -> Option<DeadLetter> {
    let mut take = Take(bytes);
    if take.u8()? != RECORD {
        return None;
    }
    take.u64()?;
    let (code, reason) = (take.parse()?, take.parse()?);
    let sealed = Sealed::decode(take.bytes()?)?;
    take.end()?;
    Some(DeadLetter { sealed, code, reason })
}

fn encode_states(states: &HashMap<(DeviceId, TriggerId), (u64, Transition)>) -> Vec<u8> {
    let mut bytes = vec![STATE];
    bytes.put_u32(u32::try_from(states.len()).unwrap_or(u32::MAX));
    for ((device, trigger), (last, transition)) in states {
        bytes.put_bytes(device.as_str().as_bytes());
        bytes.put_bytes(trigger.as_str().as_bytes());
        bytes.put_u64(*last);
        bytes.push(u8::from(*transition == Transition::Cleared));
    }
    bytes
}

type State = (DeviceId, TriggerId, u64, Transition);

fn decode_states(bytes: &[u8]) -> Option<Vec<State>> {
    let mut take = Take(bytes);
    take.u8()?;
    let count = take.u32()?;
    let mut state = || {
        let (device, trigger, last) = (take.parse()?, take.parse()?, take.u64()?);
        let transition = if take.u8()? == 0 { Transition::Raised } else { Transition::Cleared };
        Some((device, trigger, last, transition))
    };
    (0..count).map(|_| state()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::sealed;
    use crate::store::open_journal;
    use proptest::prelude::*;
    use tally_journal::testing::MemStorage;
    use tally_model::Priority;

    struct Disks(MemStorage, MemStorage);

    fn open(disks: &Disks) -> (Receipts<MemStorage>, Answered) {
        let options = Options { segment_bytes_max: 4096, ..Options::default() };
        let receipts = open_journal("receipts", disks.0.clone(), options.clone()).unwrap();
        let dead = open_journal("dead letters", disks.1.clone(), options).unwrap();
        Receipts::begin(receipts, dead, 0, |_| 0).unwrap()
    }

    fn receipted(number: u64) -> Receipted {
        let refusal = number.is_multiple_of(3).then_some(101);
        Receipted { sealed: sealed(number, Priority::Low), entry: number + 100, refusal, receipt: vec![1; 300] }
    }

    #[test]
    fn answers_survive_and_old_receipts_leave_the_state_of_their_rules_behind() {
        let disks = Disks(MemStorage::new(), MemStorage::new());
        let (mut receipts, _) = open(&disks);
        for number in 0..40 {
            receipts.keep(&receipted(number)).unwrap();
        }
        receipts.sync().unwrap();
        let letter = DeadLetter { sealed: sealed(40, Priority::Low), code: "bad".into(), reason: "is".into() };
        receipts.bury(std::slice::from_ref(&letter)).unwrap();
        receipts.retain(Timestamp::from_micros(35_000_000)).unwrap();
        let (receipts, answered) = open(&Disks(disks.0.power_cut(1), disks.1.power_cut(2)));
        assert!(receipts.first() > 20 && answered.numbers.contains(&39) && answered.numbers.contains(&40));
        assert_eq!(receipts.dead_letters().unwrap(), [letter]);
        let key = (sealed(0, Priority::Low).device, sealed(0, Priority::Low).trigger);
        assert_eq!(answered.before[&key].last(), Some(&(405, Transition::Raised)));
        let (found, _) = receipts.some_before(receipts.end(), 3).unwrap();
        assert_eq!(found.last(), Some(&receipted(39)));
    }

    #[test]
    fn of_what_is_before_the_replay_only_the_latest_counts() {
        let mut answered = Answered::default();
        let (device, trigger) = (sealed(0, Priority::Low).device, sealed(0, Priority::Low).trigger);
        for (last, transition) in
            [(5, Transition::Raised), (9, Transition::Cleared), (20, Transition::Raised), (20, Transition::Raised)]
        {
            answered.note(&device, &trigger, last, transition, 10);
        }
        assert_eq!(answered.before[&(device, trigger)], [(9, Transition::Cleared), (20, Transition::Raised)]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), kind in 0u8..4) {
            bytes[0] = kind;
            let _ = (decode_receipt(&bytes), decode_dead(&bytes), decode_states(&bytes));
        }
    }
}
