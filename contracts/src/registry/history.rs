//! What parties and devices were before: each version that ended, in order, so that a proof of the state of today says who
//! somebody was at any height.

use crate::codec::{Reader, Record, Writer};
use crate::records::{Device, Registered};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use tally_evidence::{DeviceRecord, KeyId, cbor};
use tally_model::{DeviceId, PartyId, Timestamp};

/// A version that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    /// The entry that put it in force.
    pub entry: u64,
    /// The entry that ended it.
    pub ended_by: u64,
    /// The height of that entry's block: the first at which it is no longer so.
    pub ended_at: u64,
    /// Of a party: block time until which its key still spoke; `None` when it ended at once.
    pub key_until: Option<Timestamp>,
    /// The party's or device's record.
    pub bytes: Vec<u8>,
}

impl Record for Past {
    fn write(&self, to: &mut Writer) {
        to.array(5).uint(self.entry).uint(self.ended_by).uint(self.ended_at);
        match self.key_until {
            Some(until) => to.int(until.as_micros()),
            None => to.null(),
        };
        to.bytes(&self.bytes);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(5)?;
        Some(Self {
            entry: from.uint()?,
            ended_by: from.uint()?,
            ended_at: from.uint()?,
            key_until: from.or_null(|from| from.int())?.map(Timestamp::from_micros),
            bytes: from.bytes()?.to_vec(),
        })
    }
}

fn add(run: &mut Run<'_, '_>, kind: u8, name: &str, past: &Past) -> Result<u64, Refusal> {
    let key = keys::history(kind, name);
    let number = run.load::<u64>(&key)?.unwrap_or(0).saturating_add(1);
    run.store(key, &number);
    run.store(keys::past(kind, name, number), past);
    Ok(number)
}

/// A device is about to be bound otherwise.
pub(super) fn end_device(run: &mut Run<'_, '_>, entry: u64, id: &DeviceId, before: &Device) -> Result<(), Refusal> {
    let Device { agent, owner, entry: registered, site } = before.clone();
    let record = DeviceRecord { id: id.clone(), agent, owner, site };
    let bytes = cbor::encode(&record.to_cbor());
    let past = Past { entry: registered, ended_by: entry, ended_at: run.block.height, key_until: None, bytes };
    add(run, b'd', id.as_str(), &past).map(|_| ())
}

/// A new agent numbers its readings anew: what was used of the old one's is no measure any more. The old agent itself is turned
/// away by its name.
pub(super) fn forget_readings(run: &mut Run<'_, '_>, id: &DeviceId) {
    for (key, _) in run.state.scan(&keys::last_readings(id), usize::MAX) {
        run.state.delete(key);
    }
}

/// The key of a party ends, now or at `until`.
pub(super) fn end_key(
    run: &mut Run<'_, '_>,
    entry: u64,
    id: &PartyId,
    (registered, key): (Registered, KeyId),
    until: Option<Timestamp>,
) -> Result<(), Refusal> {
    let Registered { entry: begun, bytes } = registered;
    let past = Past { entry: begun, ended_by: entry, ended_at: run.block.height, key_until: until, bytes };
    let number = add(run, b'p', id.as_str(), &past)?;
    run.store(keys::past_key(id, &key.0), &number);
    Ok(())
}

/// The key before the last one, if it still spoke, speaks no longer: at most two do.
pub(super) fn cut_previous(run: &mut Run<'_, '_>, id: &PartyId, key: &KeyId) -> Result<(), Refusal> {
    let Some(number) = run.load::<u64>(&keys::past_key(id, &key.0))? else { return Ok(()) };
    let place = keys::past(b'p', id.as_str(), number);
    let past: Option<Past> = run.load(&place)?;
    let Some(past) = past else { return Err(crate::records::corrupt(&place)) };
    let until = past.key_until.map(|until| until.min(run.block.time));
    run.store(place, &Past { key_until: until, ..past });
    Ok(())
}
