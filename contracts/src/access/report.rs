//! What the agent's gate says: the result of a permit, which burns it, and attempts that it turned away.

use super::records::Burnt;
use super::{burn, needs_agent, permit_id, short_text};
use crate::args::Args;
use crate::engine::bad_argument;
use crate::records::corrupt;
use crate::registry::By;
use crate::run::Run;
use crate::{Refusal, keys};
use std::collections::BTreeMap;
use tally_evidence::Permit;
use tally_evidence::cbor::{Cbor, from_value, int, text, to_value};

/// Longest code of a gate's refusal, and longest words with it, in bytes.
const CODE_BYTES_MAX: usize = 64;
const REASON_BYTES_MAX: usize = 512;
/// What may become of a permit. `unknown`: the agent died, or the line broke, between intention and answer.
const RESULTS: [&str; 3] = ["done", "refused", "unknown"];

/// Burns the permit. One that was revoked or ran out while the agent was at it is reported all the same: it happened.
pub(super) fn result(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    let id = permit_id(args)?.ok_or_else(|| Refusal::MissingArgument { argument: "permit".to_owned() })?;
    let value = args.need("how")?;
    let how = value.as_text().filter(|word| RESULTS.contains(word));
    let how = how.ok_or_else(|| bad_argument("how", value, "done, refused or unknown"))?;
    let (permit, before) = find(run, id)?;
    if permit.agent != *by.signer {
        let (signer, device, agent) = (by.signer.to_string(), permit.device.to_string(), permit.agent.to_string());
        return Err(Refusal::NotTheAgent { signer, device, agent });
    }
    let words = before.map_or_else(|| how.to_owned(), |before| format!("{how}, {before} meanwhile"));
    let mut data = said(args)?;
    burn::burn(run, by.entry, &permit, &words, true);
    data.insert("permit".to_owned(), int(id));
    data.insert("how".to_owned(), text(words));
    data.insert("agent".to_owned(), text(by.signer.as_str()));
    data.insert("requester".to_owned(), text(permit.requester.as_str()));
    data.extend(permit.sender.as_ref().map(|sender| ("sender".to_owned(), text(sender.clone()))));
    data.insert("point".to_owned(), text(permit.point.as_str()));
    data.insert("right".to_owned(), text(permit.right.word()));
    data.extend(permit.value.as_ref().map(|value| ("value".to_owned(), from_value(value))));
    run.emit_map("access.permit-used", permit.device.as_str(), data);
    Ok(())
}

/// The permit, and how it had ended before its agent reported.
fn find(run: &Run<'_, '_>, id: u64) -> Result<(Permit, Option<String>), Refusal> {
    if let Some(permit) = burn::open(run, id)? {
        return Ok((permit, None));
    }
    let key = keys::burnt(id);
    let burnt: Option<Burnt> = run.load(&key)?;
    let burnt = burnt.ok_or_else(|| Refusal::UnknownPermit { what: format!("permit {id}") })?;
    if burnt.is_reported {
        return Err(Refusal::PermitBurnt { permit: id, how: burnt.how });
    }
    let permit = Permit::decode(&burnt.permit).map_err(|_| corrupt(&key))?;
    Ok((permit, Some(burnt.how)))
}

/// `code` and `reason` of a refusal, `found`: what was read, or read back after writing.
fn said(args: &mut Args<'_>) -> Result<BTreeMap<String, Cbor>, Refusal> {
    let mut data = BTreeMap::new();
    let code = short_text(args, "code", CODE_BYTES_MAX)?;
    let reason = short_text(args, "reason", REASON_BYTES_MAX)?;
    data.extend(code.map(|code| ("code".to_owned(), text(code))));
    data.extend(reason.map(|reason| ("reason".to_owned(), text(reason))));
    if let Some(found) = args.take("found") {
        let value = to_value(found).ok_or_else(|| bad_argument("found", found, "a flag, a number or a text"))?;
        data.insert("found".to_owned(), from_value(&value));
    }
    Ok(data)
}

/// Something that the gate turned away without burning anything: a forgery, a permit for another agent, one before its time.
/// Changes nothing; it is an entry, and an event.
pub(super) fn attempt(run: &mut Run<'_, '_>, by: By<'_>, args: &mut Args<'_>) -> Result<(), Refusal> {
    needs_agent(by, "report an attempt")?;
    let permit = permit_id(args)?;
    let value = args.need("count")?;
    let count = value.as_integer().and_then(|count| u64::try_from(count).ok()).filter(|count| *count > 0);
    let count = count.ok_or_else(|| bad_argument("count", value, "how often, above zero"))?;
    let mut data = said(args)?;
    data.insert("count".to_owned(), int(count));
    data.extend(permit.map(|permit| ("permit".to_owned(), int(permit))));
    run.emit_map("access.attempt-refused", by.signer.as_str(), data);
    Ok(())
}
