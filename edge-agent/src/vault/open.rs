//! Opening a vault: the state of every chain, and the readings that rules must see again.

use super::chain::{Chain, KeptReading};
use super::record::{self, Batch, Record, Saved};
use super::{RECORDS_AT_ONCE, Vault, chain_of};
use crate::error::StoreError;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tally_evidence::{decode_reading, reading_leaf};
use tally_journal::{Journal, Storage};
use tally_model::{DeviceId, Stretch};
use tally_secrets::SecretFault;
use zeroize::Zeroizing;

/// A vault whose journal is open and whose last snapshot is found, before its readings are walked through.
pub struct VaultOpening<S: Storage> {
    vault: Vault<S>,
    /// The last snapshot and its record.
    saved: HashMap<DeviceId, Saved>,
    snapshot: Option<u64>,
}

impl<S: Storage> VaultOpening<S> {
    /// Finds the last snapshot in the vault's journal. `watched` are the devices that rules look at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(
        journal: Journal<S>,
        secret: Zeroizing<[u8; 32]>,
        watched: HashSet<DeviceId>,
    ) -> Result<Self, StoreError> {
        let (snapshot, saved) = last_snapshot(&journal)?;
        let saved = saved.into_iter().map(|saved| (saved.device.clone(), saved)).collect();
        let (chains, reading, record) = (HashMap::new(), Vec::new(), Vec::new());
        let (snapshot_at, appended, discarded_before) = (0, 0, 0);
        let vault =
            Vault { journal, secret, watched, chains, snapshot_at, appended, discarded_before, reading, record };
        Ok(Self { vault, saved, snapshot })
    }

    /// The first reading of `device` that its rules must see again.
    #[must_use]
    pub fn replays_from(&self, device: &DeviceId) -> u64 {
        match self.saved.get(device) {
            Some(saved) => saved.needed.map_or(saved.next, |(number, _)| number),
            None => 0,
        }
    }

    /// Walks through the readings that rules must see again, in order, and gives the vault. `visit` gets each reading of
    /// a watched device, the journal record that holds it, and whether what follows from it may be undecided: `false`
    /// says that every trigger it gave is sealed or was given up.
    ///
    /// # Errors
    /// [`StoreError`], among them [`StoreError::Chain`] when readings and heads do not fit.
    pub fn replay(
        mut self,
        mut visit: impl FnMut(&Vault<S>, &KeptReading, u64, bool) -> Result<(), StoreError>,
    ) -> Result<Vault<S>, StoreError> {
        let (mut place, settled) = (self.start(), self.settled()?);
        while place < self.vault.journal.next_number() {
            for (at, bytes) in some_from(&self.vault.journal, place)? {
                place = at + 1;
                let Some(record) = record::decode(&bytes) else {
                    return Err(StoreError::Foreign { store: "vault", record: at });
                };
                match record {
                    Record::Snapshot(_) if Some(at) == self.snapshot => self.restore(),
                    // Neither chains nor rules know of what came late.
                    Record::Snapshot(_) | Record::Late(_) => {}
                    Record::Origin(device, stretch) => self.follow_origin(&device, stretch, at),
                    Record::Batch(batch) => {
                        let from = self.replays_from(&batch.device);
                        for kept in self.take_batch(&batch, at)? {
                            if kept.reading.number >= from {
                                visit(&self.vault, &kept, at, at >= settled)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(self.vault)
    }

    fn take_batch(&mut self, batch: &Batch<'_>, place: u64) -> Result<Vec<KeptReading>, StoreError> {
        match self.snapshot {
            Some(snapshot) if place < snapshot => self.look_back(batch, place),
            _ => self.vault.follow(batch, place),
        }
    }

    /// What lies before the snapshot stands in it.
    fn follow_origin(&mut self, device: &DeviceId, stretch: Stretch, place: u64) {
        if self.snapshot.is_none_or(|snapshot| place > snapshot) {
            let Vault { chains, secret, watched, .. } = &mut self.vault;
            chain_of(chains, device, secret, watched).follow_origin(stretch);
        }
    }

    /// Where walking begins: at the last snapshot, or before it when a rule needs more.
    fn start(&self) -> u64 {
        let Some(snapshot) = self.snapshot else { return self.vault.journal.first_number() };
        let watched = self.saved.values().filter(|saved| self.vault.watched.contains(&saved.device));
        let needed = watched.filter_map(|saved| saved.needed).map(|(_, place)| place);
        needed.min().unwrap_or(snapshot).min(snapshot).max(self.vault.journal.first_number())
    }

    /// The first record from which something may be undecided: the last batch that settled what came before it.
    fn settled(&self) -> Result<u64, StoreError> {
        let journal = &self.vault.journal;
        let from = self.snapshot.unwrap_or(journal.first_number());
        let settles = |bytes: &[u8]| matches!(record::decode(bytes), Some(Record::Batch(Batch { settles: true, .. })));
        let found = find_last(journal, from, settles)?;
        Ok(found.map_or(from, |(place, _)| place))
    }

    /// From here on the chains are known.
    fn restore(&mut self) {
        for saved in self.saved.values() {
            let Vault { chains, secret, watched, .. } = &mut self.vault;
            chain_of(chains, &saved.device, secret, watched).restore(saved.clone());
        }
    }

    /// Readings before the snapshot that a rule still needs: only watched devices, only from the needed number on.
    /// Their heads are those of the chain as far as it is known; nothing is decided from them.
    fn look_back(&mut self, batch: &Batch<'_>, place: u64) -> Result<Vec<KeptReading>, StoreError> {
        let from = self.replays_from(&batch.device);
        let Vault { chains, secret, watched, .. } = &mut self.vault;
        let last = batch.first + batch.readings.len() as u64;
        if !watched.contains(&batch.device) || last <= from {
            return Ok(Vec::new());
        }
        let chain = chain_of(chains, &batch.device, secret, watched);
        chain.next = batch.first;
        chain.anchor(place);
        read_batch(chain, batch, place)
    }
}

impl<S: Storage> Vault<S> {
    /// A batch behind the last snapshot: it must continue the chain and lead to its own head.
    fn follow(&mut self, batch: &Batch<'_>, place: u64) -> Result<Vec<KeptReading>, StoreError> {
        let is_first = !self.chains.contains_key(&batch.device);
        let chain = chain_of(&mut self.chains, &batch.device, &self.secret, &self.watched);
        let fault = || StoreError::Chain { device: batch.device.clone(), number: batch.first };
        if is_first && batch.first > 0 || batch.first != chain.next {
            return Err(fault());
        }
        chain.anchor(place);
        let kept = read_batch(chain, batch, place)?;
        if chain.head.0 == batch.head { Ok(kept) } else { Err(fault()) }
    }
}

fn read_batch(chain: &mut Chain, batch: &Batch<'_>, place: u64) -> Result<Vec<KeptReading>, StoreError> {
    let foreign = |_| StoreError::Foreign { store: "vault", record: place };
    let mut kept = Vec::with_capacity(batch.readings.len());
    for (number, bytes) in (batch.first..).zip(&batch.readings) {
        let (reading, point_number) = decode_reading(&batch.device, bytes).map_err(foreign)?;
        if reading.number != number {
            return Err(StoreError::Chain { device: batch.device.clone(), number });
        }
        let leaf = reading_leaf(&chain.salt(number), bytes);
        kept.push(chain.follow(reading, point_number, leaf));
    }
    Ok(kept)
}

/// Looks from the end for the last snapshot. Without one nothing was ever deleted.
fn last_snapshot<S: Storage>(journal: &Journal<S>) -> Result<(Option<u64>, Vec<Saved>), StoreError> {
    let Some((place, bytes)) = find_last(journal, journal.first_number(), record::is_snapshot)? else {
        return Ok((None, Vec::new()));
    };
    match record::decode(&bytes) {
        Some(Record::Snapshot(saved)) => Ok((Some(place), saved)),
        _ => Err(StoreError::Foreign { store: "vault", record: place }),
    }
}

/// The last record from `from` on that is wanted, found from the end in steps.
fn find_last<S: Storage>(
    journal: &Journal<S>,
    from: u64,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let mut end = journal.next_number();
    while end > from {
        let begin = end.saturating_sub(RECORDS_AT_ONCE as u64).max(from);
        let records = some_from(journal, begin)?;
        let before_end = records.into_iter().filter(|(place, _)| *place < end);
        if let Some(found) = before_end.rev().find(|(_, bytes)| wanted(bytes)) {
            return Ok(Some(found));
        }
        end = begin;
    }
    Ok(None)
}

/// Some records from `place` on: many small reads would be slow, all at once would be large.
fn some_from<S: Storage>(journal: &Journal<S>, place: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
    let records = journal.iter_from(place).map_err(StoreError::vault)?.take(RECORDS_AT_ONCE);
    records.map(|record| record.map_err(StoreError::vault)).collect()
}

/// Reads the vault's secret, or makes a new one when `may_create`. Written and synced before anything is salted with it. As keys: with
/// it, hidden readings can be guessed from what is disclosed.
///
/// # Errors
/// [`StoreError::SecretLost`] when there is none and a vault that needs it.
pub fn load_secret(file: &Path, may_create: bool) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut secret = Zeroizing::new([0; 32]);
    match tally_secrets::read(file, secret.len()) {
        Ok(bytes) => {
            // A power cut while it was being made may leave it short; nothing was salted with it then.
            match bytes.as_slice().try_into() {
                Ok(bytes) => {
                    *secret = bytes;
                    return Ok(secret);
                }
                Err(_) if may_create => {}
                Err(_) => return Err(StoreError::SecretLost { file: file.to_owned() }),
            }
        }
        Err(SecretFault::Read(fault)) if fault.kind() == std::io::ErrorKind::NotFound => {
            if !may_create {
                return Err(StoreError::SecretLost { file: file.to_owned() });
            }
        }
        Err(SecretFault::Read(fault)) => return Err(StoreError::file(file)(fault)),
        Err(SecretFault::Open(open)) => return Err(StoreError::file(file)(std::io::Error::other(open))),
    }
    getrandom::fill(&mut secret[..]).map_err(|_| StoreError::Randomness)?;
    let write = |mut made: File| made.write_all(&secret[..]).and_then(|()| made.sync_all());
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    made.and_then(write).map_err(StoreError::file(file))?;
    if let Some(folder) = file.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::file(folder))?;
    }
    Ok(secret)
}
