//! The outbox's journal records; their bytes stand in [`super`].

use crate::bytes::{Put, Take};
use crate::error::StoreError;
use crate::seal::Sealed;

/// First byte of the record of a batch, and of those that only take a number of it.
const BATCH: u8 = 3;
const FURTHER: u8 = 4;

/// A record of the journal.
pub(super) enum Record {
    One(Box<Sealed>),
    /// At least one, with rising numbers.
    Batch(Vec<Sealed>),
    /// In the batch that begins at this number.
    Further(u64),
}

impl Record {
    pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Self, StoreError> {
        let record = match bytes.first() {
            Some(&BATCH) => decode_batch(number, bytes).map(Self::Batch),
            Some(&FURTHER) => decode_further(bytes).filter(|first| *first < number).map(Self::Further),
            _ => Sealed::decode(bytes).filter(|sealed| sealed.number == number).map(|one| Self::One(Box::new(one))),
        };
        record.ok_or(StoreError::Foreign { store: "outbox", record: number })
    }
}

pub(super) fn encode_batch(batch: &[Sealed]) -> Vec<u8> {
    let mut bytes = vec![BATCH];
    bytes.put_bytes(batch.first().map_or(&[], |first| &first.statement));
    bytes.put_u32(u32::try_from(batch.len()).unwrap_or(u32::MAX));
    batch.iter().for_each(|sealed| bytes.put_bytes(&sealed.encode_with(&[])));
    bytes
}

fn decode_batch(number: u64, bytes: &[u8]) -> Option<Vec<Sealed>> {
    let mut take = Take(bytes);
    take.u8()?;
    let (statement, count) = (take.bytes()?, take.u32()?);
    let one = |item: u32| {
        let sealed = Sealed::decode(take.bytes()?)?;
        let is_next = sealed.number == number.checked_add(u64::from(item))?
            && sealed.batched.as_ref().is_some_and(|batched| batched.item == item);
        is_next.then(|| Sealed { statement: statement.to_vec(), ..sealed })
    };
    let batch = (0..count).map(one).collect::<Option<Vec<_>>>()?;
    take.end()?;
    (!batch.is_empty()).then_some(batch)
}

pub(super) fn encode_further(first: u64) -> Vec<u8> {
    let mut bytes = vec![FURTHER];
    bytes.put_u64(first);
    bytes
}

fn decode_further(bytes: &[u8]) -> Option<u64> {
    let mut take = Take(bytes);
    take.u8()?;
    let first = take.u64()?;
    take.end()?;
    Some(first)
}
