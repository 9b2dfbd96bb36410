//! Reading what is kept: a device's leaves, its readings for a disclosure, batches in the order in which they came. A little at a
//! time, because whoever reads holds the lock of whoever writes.

use super::record::{self, Record};
use super::{Vault, late};
use crate::error::StoreError;
use tally_evidence::{Hash, Salt, decode_reading, reading_leaf};
use tally_journal::Storage;
use tally_model::{DeviceId, Reading, Sample};

/// Records looked at before a lock is given back.
pub(crate) const RECORDS_AT_ONCE: usize = 256;

/// A reading as it lies in the vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub number: u64,
    /// Its salt.
    pub salt: Salt,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

impl Stored {
    /// Its leaf.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        reading_leaf(&self.salt, &self.bytes)
    }
}

/// Readings of one device as they lie in one record, with their leaves: what an anchor is made of.
#[derive(Debug)]
pub struct Walked {
    /// Whose readings.
    pub device: DeviceId,
    /// Their record.
    pub place: u64,
    /// In number order.
    pub readings: Vec<(Reading, Hash)>,
    /// Chain head behind the last.
    pub head: Hash,
}

/// What a record holds that somebody may be told of.
#[derive(Debug)]
pub enum Contents {
    /// Readings, in number order.
    Readings(Vec<Reading>),
    /// What came late; in no chain.
    Late(Vec<Sample>),
}

/// A batch as it lies in the journal; [`RawBatch::decode`] is the work that needs no lock.
#[derive(Debug)]
pub struct RawBatch {
    /// Its record.
    pub place: u64,
    bytes: Vec<u8>,
}

impl RawBatch {
    /// Whose they are, and what they are.
    ///
    /// # Errors
    /// [`StoreError::Foreign`].
    pub fn decode(&self) -> Result<(DeviceId, Contents), StoreError> {
        let foreign = || StoreError::Foreign { store: "vault", record: self.place };
        let batch = match record::decode(&self.bytes) {
            Some(Record::Batch(batch)) => batch,
            Some(Record::Late(late)) => {
                let samples = late::samples(&late).ok_or_else(foreign)?;
                return Ok((late.device, Contents::Late(samples)));
            }
            _ => return Err(foreign()),
        };
        let readings =
            batch.readings.iter().map(|bytes| decode_reading(&batch.device, bytes).map(|(reading, _)| reading));
        let readings = readings.collect::<Result<_, _>>().map_err(|_| foreign())?;
        Ok((batch.device, Contents::Readings(readings)))
    }
}

impl<S: Storage> Vault<S> {
    /// The leaves of readings `first..=last` of `device`.
    ///
    /// # Errors
    /// [`StoreError`], also when some are no longer kept.
    pub fn leaves(&self, device: &DeviceId, first: u64, last: u64) -> Result<Vec<Hash>, StoreError> {
        let gone = || StoreError::NotKept { device: device.clone(), first, last };
        let chain = self.chains.get(device).ok_or_else(gone)?;
        if let Some(leaves) = chain.leaves(first, last) {
            return Ok(leaves);
        }
        let mut place = chain.place_before(first).ok_or_else(gone)?;
        let mut leaves = Vec::new();
        while place < self.journal.next_number() {
            let (stored, next) = self.read(device, place, first..=last, RECORDS_AT_ONCE)?;
            leaves.extend(stored.iter().map(Stored::leaf));
            place = next;
        }
        if leaves.len() as u64 == last - first + 1 { Ok(leaves) } else { Err(gone()) }
    }

    /// Reads at most `records_max` records from `place` on and gives the readings of `device` among `numbers`, with the
    /// record to go on from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(
        &self,
        device: &DeviceId,
        place: u64,
        numbers: std::ops::RangeInclusive<u64>,
        records_max: usize,
    ) -> Result<(Vec<Stored>, u64), StoreError> {
        let mut found = Vec::new();
        let mut next = place;
        let Some(chain) = self.chains.get(device) else { return Ok((found, self.journal.next_number())) };
        for record in self.journal.iter_from(place).map_err(StoreError::vault)?.take(records_max) {
            let (at, bytes) = record.map_err(StoreError::vault)?;
            next = at + 1;
            let Some(Record::Batch(batch)) = record::decode(&bytes) else { continue };
            if batch.device != *device {
                continue;
            }
            for (number, reading) in (batch.first..).zip(batch.readings) {
                if numbers.contains(&number) {
                    found.push(Stored { number, salt: chain.salt(number), bytes: reading.to_vec() });
                }
            }
            if batch.first > *numbers.end() {
                return Ok((found, self.journal.next_number()));
            }
        }
        if next == place {
            next = self.journal.next_number();
        }
        Ok((found, next))
    }

    /// Batches from record `place` on, in the order in which they were kept: records until `readings_max` readings are
    /// reached, at least one. The second answer is the record to go on from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn batches_from(&self, place: u64, readings_max: usize) -> Result<(Vec<RawBatch>, u64), StoreError> {
        let (mut found, mut next, mut readings) = (Vec::new(), place.max(self.journal.first_number()), 0);
        for record in self.journal.iter_from(place).map_err(StoreError::vault)?.take(RECORDS_AT_ONCE * 8) {
            let (at, bytes) = record.map_err(StoreError::vault)?;
            if record::has_readings(&bytes) {
                readings += record::count(&bytes);
                if readings > readings_max && !found.is_empty() {
                    break;
                }
                found.push(RawBatch { place: at, bytes });
            }
            next = at + 1;
        }
        Ok((found, next))
    }

    /// Some records from `place` on, decoded, and the record to go on from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn walk(&self, place: u64) -> Result<(Vec<Walked>, u64), StoreError> {
        let (mut found, mut next) = (Vec::new(), place.max(self.journal.first_number()));
        for record in self.journal.iter_from(next).map_err(StoreError::vault)?.take(RECORDS_AT_ONCE) {
            let (at, bytes) = record.map_err(StoreError::vault)?;
            next = at + 1;
            let Some(Record::Batch(batch)) = record::decode(&bytes) else { continue };
            let Some(chain) = self.chains.get(&batch.device) else { continue };
            let foreign = |_| StoreError::Foreign { store: "vault", record: at };
            let mut readings = Vec::with_capacity(batch.readings.len());
            for (number, bytes) in (batch.first..).zip(&batch.readings) {
                let (reading, _) = decode_reading(&batch.device, bytes).map_err(foreign)?;
                readings.push((reading, reading_leaf(&chain.salt(number), bytes)));
            }
            found.push(Walked { device: batch.device, place: at, readings, head: batch.head });
        }
        Ok((found, next))
    }
}
