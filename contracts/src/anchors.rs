//! Anchors: an agent's numbered, chained word that it holds all readings of a device. The ledger takes one only from the
//! device's agent, and only if it follows the last one, or says itself what is missing.

use crate::records::{AnchorPlace, Device, LastAnchor};
use crate::run::Run;
use crate::{Refusal, keys, registry};
use std::collections::BTreeMap;
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{AnchorBody, AnchorFault, AnchorLink, Gap, KeyId};
use tally_model::PartyId;

/// Checks an anchor and makes it the device's last one. The order of the checks is that of the refusal numbers.
pub(crate) fn anchor(
    run: &mut Run<'_, '_>,
    entry: u64,
    signer: &PartyId,
    key: &KeyId,
    body: &AnchorBody,
) -> Result<(), Refusal> {
    let last: Option<LastAnchor> = run.load(&keys::last_anchor(&body.device))?;
    let link = last.as_ref().map(|last| AnchorLink { number: last.number, digest: last.digest, last: last.last });
    let follows = body.follow(link.as_ref());
    if let Err(fault @ (AnchorFault::Replayed { .. } | AnchorFault::Covered { .. })) = follows {
        return Err(refusal(body, fault));
    }
    run.check_time(body.received.1)?;
    run.signer(signer, key)?;
    let device = registry::device(run, &body.device)?;
    if device.agent != *signer {
        let (signer, device, agent) = (signer.to_string(), body.device.to_string(), device.agent.to_string());
        return Err(Refusal::NotTheAgent { signer, device, agent });
    }
    follows.map_err(|fault| refusal(body, fault))?;
    keep(run, entry, &device, last.as_ref(), body);
    Ok(())
}

fn keep(run: &mut Run<'_, '_>, entry: u64, device: &Device, last: Option<&LastAnchor>, body: &AnchorBody) {
    let count = last.map_or(0, |last| last.count).saturating_add(1);
    // Never falling, so that the history can be searched by time; the clock of another agent may be behind.
    let received = last.map_or(body.received.1, |last| last.received.max(body.received.1));
    let place = AnchorPlace { entry, received, registered: device.entry };
    run.store(keys::anchor(&body.device, count), &place);
    let link = body.link();
    let last = LastAnchor { number: link.number, digest: link.digest, last: link.last, received, count, entry };
    run.store(keys::last_anchor(&body.device), &last);
    for gap in &body.gaps {
        run.emit_map("anchor.gap", body.device.as_str(), gap_data(gap));
    }
    let (first, last) = (int(body.first), int(body.last));
    let data = [("number", int(body.number)), ("first", first), ("last", last), ("root", bytes(body.root))];
    run.emit("anchor.accepted", body.device.as_str(), data);
}

fn gap_data(gap: &Gap) -> BTreeMap<String, Cbor> {
    let mut data =
        BTreeMap::from([("reason".to_owned(), text(gap.reason.word())), ("to".to_owned(), int(gap.to.as_micros()))]);
    if let Some(from) = gap.from {
        data.insert("from".to_owned(), int(from.as_micros()));
    }
    if let Some((first, last)) = gap.readings {
        data.insert("first".to_owned(), int(first));
        data.insert("last".to_owned(), int(last));
    }
    data
}

fn refusal(body: &AnchorBody, fault: AnchorFault) -> Refusal {
    let device = body.device.to_string();
    match fault {
        AnchorFault::Replayed { number, last } => Refusal::AnchorReplayed { device, number, last },
        AnchorFault::Covered { first, covered } => Refusal::ReadingsCovered { device, first, covered },
        AnchorFault::Skips { number, expected } => Refusal::AnchorSkips { device, number, expected },
        AnchorFault::Unchained { number } => Refusal::AnchorUnchained { device, number },
        AnchorFault::Missing { from, to } => Refusal::ReadingsMissing { device, from, to },
    }
}
