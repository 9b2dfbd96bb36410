//! What devices had recorded while they could not be heard, told afterwards: beside the chains, never in them.

use super::record::{BatchWriter, LateBatch};
use super::{Kept, READINGS_PER_RECORD_MAX, Vault};
use crate::error::StoreError;
use tally_connector_api::HistoricalBatch;
use tally_evidence::{decode_reading, push_reading};
use tally_journal::Storage;
use tally_model::Sample;

impl<S: Storage> Vault<S> {
    /// Keeps what came late, not yet synced. The answer says in which records it lies; it has no readings, because none
    /// of it has a number: chains, snapshots, rules, anchors and disclosures do not see it.
    ///
    /// # Errors
    /// [`StoreError`]; the vault must then be opened anew.
    pub fn keep_late(&mut self, batch: &HistoricalBatch) -> Result<Kept, StoreError> {
        let place = self.journal.next_number();
        let mut kept = Kept { device: batch.device.clone(), first_place: place, place, readings: Vec::new() };
        for samples in batch.samples.chunks(READINGS_PER_RECORD_MAX) {
            let mut writer = BatchWriter::late(std::mem::take(&mut self.record), &batch.device);
            for sample in samples {
                self.reading.clear();
                push_reading(&mut self.reading, 0, 0, sample);
                writer.push(&self.reading);
            }
            let received = samples.last().map(|sample| sample.received).unwrap_or_default();
            self.record = writer.finish_late(received);
            kept.place = self.journal.append(&self.record).map_err(StoreError::vault)?;
            self.appended += self.record.len() as u64;
        }
        Ok(kept)
    }
}

/// The samples of a late record; `None` when one of them is not what this program writes.
pub(super) fn samples(late: &LateBatch<'_>) -> Option<Vec<Sample>> {
    let samples = late.samples.iter().map(|bytes| Some(decode_reading(&late.device, bytes).ok()?.0.sample));
    samples.collect()
}
