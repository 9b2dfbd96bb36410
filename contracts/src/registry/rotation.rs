//! `registry/rotate-key`: a party takes another key. Both speak for a while, so that nothing that is under way is lost.

use super::{By, history, not_allowed};
use crate::args::Args;
use crate::engine::bad_argument;
use crate::records::{Party, Registered};
use crate::run::Run;
use crate::state::StateRead;
use crate::{Refusal, keys};
use std::time::Duration;
use tally_evidence::cbor::{self, Cbor, bytes, int, text};
use tally_evidence::{PartyKind, PartyRecord, VerifyingKey, possession};
use tally_model::{PartyId, Timestamp};

/// Longest time that the old key still speaks beside the new one.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// By the party itself, or by its firm, with the key in force: whoever has only the old one may not take the new one away.
pub(super) fn rotate(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id: PartyId = args.parse("party", "a party id")?;
    let overlap = duration(args, "overlap", OVERLAP_MAX)?.unwrap_or_default();
    let party = run.named(&id, &[], "a party")?;
    let of_firm = matches!(party.kind, PartyKind::Person | PartyKind::Agent | PartyKind::Device);
    let is_firm = of_firm && party.firm.as_ref() == Some(by.signer);
    if id != *by.signer && !is_firm {
        return Err(not_allowed(by, format!("rotate the key of `{id}`"), "itself, or its firm"));
    }
    needs_current_key(by)?;
    let key = new_key(run, &id, &party, args)?;
    let until = (!overlap.is_zero()).then(|| run.block.time.plus(overlap));
    let key_id = bytes(key.id().0);
    replace(run, by, &id, party, &key, until)?;
    let mut data = vec![("key", key_id), ("by", text(by.signer.as_str()))];
    data.extend(until.map(|until| ("until", int(until.as_micros()))));
    let data = data.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    run.emit_map("registry.key-rotated", id.as_str(), data);
    Ok(())
}

pub(super) fn needs_current_key(by: By<'_>) -> Result<(), Refusal> {
    if by.party.key == *by.key {
        return Ok(());
    }
    let (found, registered) = (by.key.to_string(), by.party.key.to_string());
    Err(Refusal::WrongKey { signer: by.signer.to_string(), found, registered })
}

/// An optional duration in µs.
pub(super) fn duration(
    args: &mut Args<'_>,
    name: &'static str,
    longest: Duration,
) -> Result<Option<Duration>, Refusal> {
    let Some(value) = args.take(name) else { return Ok(None) };
    let micros = value.as_integer().and_then(|number| u64::try_from(number).ok()).map(Duration::from_micros);
    let expected = || format!("a duration in µs, at most {} days", longest.as_secs() / 86_400);
    micros.filter(|found| *found <= longest).map(Some).ok_or_else(|| bad_argument(name, value, expected()))
}

/// `key` and `proof`: a key that was never this party's, and its holder's signature ([`possession`]).
pub(super) fn new_key(
    run: &Run<'_, '_>,
    id: &PartyId,
    party: &Party,
    args: &mut Args<'_>,
) -> Result<VerifyingKey, Refusal> {
    let value = args.need("key")?;
    let key = value.as_bytes().and_then(|sec1| VerifyingKey::from_sec1(sec1).ok());
    let key = key.ok_or_else(|| bad_argument("key", value, "a P-256 key, 65 bytes of uncompressed SEC1"))?;
    let proof = args.need("proof")?.as_bytes().map(Vec::as_slice).unwrap_or_default();
    if !key.verify(&possession(&run.block.ledger, id, &key), proof) {
        return Err(Refusal::KeyNotHeld { party: id.to_string(), key: key.id().to_string() });
    }
    if party.key == key.id() || run.state.get(&keys::past_key(id, &key.id().0)).is_some() {
        return Err(Refusal::AlreadyRegistered { what: format!("key {} of `{id}`, now or before,", key.id()) });
    }
    Ok(key)
}

/// The new key speaks from now on; the old one until `until`, or no more.
pub(super) fn replace(
    run: &mut Run<'_, '_>,
    by: By<'_>,
    id: &PartyId,
    party: Party,
    key: &VerifyingKey,
    until: Option<Timestamp>,
) -> Result<(), Refusal> {
    let place = keys::party_record(id);
    let unreadable = || crate::records::corrupt(&place);
    let registered: Registered = run.load(&place)?.ok_or_else(unreadable)?;
    let record: Option<Cbor> = cbor::decode(&registered.bytes).ok();
    let record = record.and_then(|record| PartyRecord::from_cbor(record).ok()).ok_or_else(unreadable)?;
    if let Some((previous, _)) = &party.previous {
        history::cut_previous(run, id, previous)?;
    }
    history::end_key(run, by.entry, id, (registered, party.key), until)?;
    let record = PartyRecord { key: key.clone(), ..record };
    let previous = until.map(|until| (party.key, until));
    run.store(keys::party(id), &Party { key: key.id(), previous, ..party });
    run.store(place, &Registered { entry: by.entry, bytes: cbor::encode(&record.to_cbor()) });
    Ok(())
}
