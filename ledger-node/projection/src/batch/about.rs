//! What an event is about.

use crate::rows::text;
use tally_evidence::Event;

/// Bytes of the longest text that can be a party's id.
pub(super) const ID_BYTES_MAX: usize = 128;

/// Owner and currency in the id of an account such as `acme/EUR`; nobody's is `issue:EUR`.
pub(super) fn owner_of(account: &str) -> (&str, &str) {
    account.rsplit_once('/').unwrap_or(("", account.strip_prefix("issue:").unwrap_or_default()))
}

/// The device that an event is about by itself.
pub(super) fn device_of(event: &Event) -> Option<&str> {
    let is_device = match event.kind.as_str() {
        "access.quarantined" | "access.lifted" => is_of_device(event),
        "registry.visibility-set" => text(event, "of") == Some("device"),
        kind => ["registry.device", "registry.rule", "access.permit"].iter().any(|begin| kind.starts_with(begin)),
    };
    is_device.then_some(event.subject.as_str()).filter(|id| id.len() <= ID_BYTES_MAX)
}

/// Whether a quarantine is of a device; otherwise it is of an agent.
fn is_of_device(event: &Event) -> bool {
    text(event, "what").is_some_and(|what| what.starts_with("device "))
}

/// The party an event is about besides its signer.
pub(super) fn party(event: &Event) -> Option<&str> {
    let found = match event.kind.as_str() {
        "agreement.opened" => text(event, "owner").filter(|owner| !owner.is_empty()),
        "escrow.held" | "payment.made" | "escrow.released" => text(event, "from").or_else(|| text(event, "to")),
        "accounts.transferred" => text(event, "to").map(|to| owner_of(to).0),
        "accounts.opened" | "accounts.issued" => Some(owner_of(&event.subject).0),
        "agreement.dispatched" => event.data.values().next().and_then(|person| person.as_text()),
        "registry.device-registered" | "registry.device-bound" | "registry.device-transferred" => text(event, "owner"),
        "registry.transfer-offered" => text(event, "to"),
        // Whose permit it is; one that is revoked is told with the agent that should have carried it out.
        "access.permit-granted" | "access.permit-used" => text(event, "requester"),
        "access.permit-revoked" => text(event, "agent"),
        "access.quarantined" | "access.lifted" if !is_of_device(event) => Some(event.subject.as_str()),
        "registry.visibility-set" if text(event, "of") == Some("party") => Some(event.subject.as_str()),
        kind if ["registry.party", "registry.key", "registry.recovery", "access.party"]
            .iter()
            .any(|begin| kind.starts_with(begin)) =>
        {
            Some(event.subject.as_str())
        }
        _ => None,
    };
    // Ids are short; a long text under such a name is not one, and would not fit an index.
    found.filter(|id| id.len() <= ID_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::cbor;

    fn event(kind: &str, subject: &str, data: &[(&str, &str)]) -> Event {
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), cbor::text(*value))).collect();
        Event { kind: kind.to_owned(), subject: subject.to_owned(), data }
    }

    #[test]
    fn events_of_access_are_found_by_device_and_by_party() {
        let permit = [("requester", "tina"), ("agent", "agent-01")];
        for (event, wanted) in [
            (event("access.permit-granted", "press-01", &permit), (Some("press-01"), Some("tina"))),
            (event("access.permit-used", "press-01", &permit), (Some("press-01"), Some("tina"))),
            (event("access.permit-revoked", "press-01", &permit[1..]), (Some("press-01"), Some("agent-01"))),
            (event("access.quarantined", "press-01", &[("what", "device `press-01`")]), (Some("press-01"), None)),
            (event("access.lifted", "agent-01", &[("what", "agent `agent-01`")]), (None, Some("agent-01"))),
            (event("access.party-barred", "tom", &[("owner", "acme")]), (None, Some("tom"))),
            (event("access.policy-revoked", "acme", &[("policy", "night")]), (None, None)),
            (event("registry.visibility-set", "tina", &[("of", "party")]), (None, Some("tina"))),
            (event("registry.visibility-set", "press-01", &[("of", "device")]), (Some("press-01"), None)),
            (event("registry.rule-registered", "press-01", &[]), (Some("press-01"), None)),
        ] {
            assert_eq!((device_of(&event), party(&event)), wanted, "{}", event.kind);
        }
    }
}
