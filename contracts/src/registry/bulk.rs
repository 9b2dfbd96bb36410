//! `registry/register-many`: parties and devices by the thousand under one seal, each with an outcome of its own.

use super::{By, may_register_device, may_register_party, put_device, put_party};
use crate::args::Args;
use crate::records::Device;
use crate::run::Run;
use crate::{Refusal, keys};
use tally_evidence::cbor::{int, text};
use tally_evidence::{DeviceRecord, PartyRecord};

/// Most records of one call.
const RECORDS_MAX: usize = 10_000;
/// A broken state is not the record's fault: nothing of the call is done then.
const FIRST_FATAL: u16 = 191;

/// Parties first, for devices name their agents. A record that is refused stops no other.
pub(super) fn register(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let (parties, devices) = (args.array("parties")?, args.array("devices")?);
    let count = parties.len() + devices.len();
    if count == 0 {
        return Err(Refusal::MissingArgument { argument: "parties or devices".to_owned() });
    }
    if count > RECORDS_MAX {
        return Err(Refusal::TooMany { what: "records in one call".to_owned(), limit: RECORDS_MAX as u64 });
    }
    for (place, value) in (0_u64..).zip(parties) {
        let record = Args::record("parties", value, PartyRecord::from_cbor)?;
        let done = may_register_party(run, by, &record).and_then(|()| put_party(run, by.entry, &record));
        note(run, "parties", place, record.id.as_str(), done)?;
    }
    for (place, value) in (0_u64..).zip(devices) {
        let record = Args::record("devices", value, DeviceRecord::from_cbor)?;
        let done = new_device(run, by, &record);
        note(run, "devices", place, record.id.as_str(), done)?;
    }
    Ok(())
}

/// New ones only: a device is bound otherwise one by one.
fn new_device(run: &mut Run<'_, '_>, by: By<'_>, record: &DeviceRecord) -> Result<(), Refusal> {
    may_register_device(by, record)?;
    if run.load::<Device>(&keys::device(&record.id))?.is_some() {
        return Err(Refusal::AlreadyRegistered { what: format!("device `{}`", record.id) });
    }
    put_device(run, by.entry, record)
}

fn note(
    run: &mut Run<'_, '_>,
    list: &'static str,
    place: u64,
    id: &str,
    done: Result<(), Refusal>,
) -> Result<(), Refusal> {
    match done {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.number() >= FIRST_FATAL => Err(refusal),
        Err(refusal) => {
            let number = u64::from(refusal.number());
            let data = [("list", text(list)), ("place", int(place)), ("refusal", int(number))];
            run.emit("registry.record-refused", id, data);
            Ok(())
        }
    }
}
