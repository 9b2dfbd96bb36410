//! State keys as people write them; the bytes stand in `docs/formats/state.md`.

use crate::keys;
use tally_model::{AgreementId, ContractName, DeviceId, PartyId, PolicyId};

/// Reads `party:tina`, `revoked:agent-01`, `device:press-01`, `anchor:press-01`, `account:acme/EUR`, `agreement:mo-1`,
/// `open:maintenance-order/press-01/bearing-worn`, `permit:17`, `burnt:17`, `policy:acme/service`, `barred:acme/tina`,
/// `quarantine:device/press-01`, `past:party/tina/1`, `visibility:party/tina`, `recovery:acme`, `offer:press-01`, `fingerprint:press-01/mapping`,
/// `private:7/remark`, `purged:7/remark` or `hex:7074696e61`.
///
/// # Errors
/// What was found and what is allowed.
pub fn state_key(text: &str) -> Result<Vec<u8>, String> {
    const KINDS: &str = "party:ID, revoked:PARTY, device:ID, anchor:DEVICE, account:ID, agreement:ID, open:CONTRACT/VALUE/…, \
         permit:NUMBER, burnt:NUMBER, policy:OWNER/ID, barred:OWNER/PARTY, quarantine:device/ID, quarantine:agent/ID, \
         past:party/ID/N, past:device/ID/N, visibility:party/ID[/N], visibility:device/ID[/N], recovery:PARTY, offer:DEVICE, fingerprint:DEVICE/KIND, private:ENTRY/FIELD, \
         purged:ENTRY/FIELD, hex:BYTES";
    let (kind, name) = text.split_once(':').ok_or_else(|| format!("`{text}` is no state key; write one of {KINDS}"))?;
    let party = || PartyId::try_new(name).map_err(|fault| fault.to_string());
    let device = || DeviceId::try_new(name).map_err(|fault| fault.to_string());
    match kind {
        "party" => Ok(keys::party(&party()?)),
        "revoked" => Ok(keys::revocation(&party()?)),
        "device" => Ok(keys::device(&device()?)),
        "anchor" => Ok(keys::last_anchor(&device()?)),
        "account" => Ok(keys::account(name)),
        "agreement" => {
            let id = AgreementId::try_new(name).map_err(|fault| fault.to_string())?;
            let key = keys::agreement(&id);
            if key.is_empty() {
                Err(format!("`{name}` is no id that a ledger gives; they look like mo-1"))
            } else {
                Ok(key)
            }
        }
        "open" => {
            let mut parts = name.split('/');
            let contract =
                ContractName::try_new(parts.next().unwrap_or_default()).map_err(|fault| fault.to_string())?;
            Ok(keys::open(&contract, parts))
        }
        "permit" | "burnt" => {
            let id = name.parse().map_err(|_| format!("`{name}` is no permit: a permit is named by a number"))?;
            Ok(if kind == "permit" { keys::permit(id) } else { keys::burnt(id) })
        }
        "policy" | "barred" | "quarantine" => access_key(kind, name),
        "past" | "fingerprint" | "visibility" => identity_key(kind, name),
        "recovery" => Ok(keys::recovery(&party()?)),
        "offer" => Ok(keys::offer(&device()?)),
        "private" | "purged" => field_key(kind, name),
        "hex" => read_hex(name).ok_or_else(|| format!("`{name}` is not an even number of hexadecimal digits")),
        other => Err(format!("`{other}` is no kind of state key; there are {KINDS}")),
    }
}

fn identity_key(kind: &str, name: &str) -> Result<Vec<u8>, String> {
    let parts: Vec<&str> = name.split('/').collect();
    let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number of a version; the first is 1"));
    match (kind, parts.as_slice()) {
        ("past", ["party", id, version]) => {
            let id = PartyId::try_new(id).map_err(|fault| fault.to_string())?;
            Ok(keys::past(b'p', id.as_str(), number(version)?))
        }
        ("past", ["device", id, version]) => {
            let id = DeviceId::try_new(id).map_err(|fault| fault.to_string())?;
            Ok(keys::past(b'd', id.as_str(), number(version)?))
        }
        ("visibility", ["party", id, rest @ ..]) if rest.len() < 2 => {
            let id = PartyId::try_new(id).map_err(|fault| fault.to_string())?;
            visibility(b'p', id.as_str(), rest.first().map(|text| number(text)).transpose()?)
        }
        ("visibility", ["device", id, rest @ ..]) if rest.len() < 2 => {
            let id = DeviceId::try_new(id).map_err(|fault| fault.to_string())?;
            visibility(b'd', id.as_str(), rest.first().map(|text| number(text)).transpose()?)
        }
        ("fingerprint", [id, what @ ("firmware" | "mapping" | "identity")]) => {
            Ok(keys::fingerprint(&DeviceId::try_new(id).map_err(|fault| fault.to_string())?, what))
        }
        _ => Err(format!(
            "`{name}`: write party/ID/N, device/ID/N (of visibility also without N), or of a fingerprint DEVICE/firmware, DEVICE/mapping or DEVICE/identity"
        )),
    }
}

/// The rule in force, or an earlier one.
fn visibility(kind: u8, name: &str, number: Option<u64>) -> Result<Vec<u8>, String> {
    Ok(number.map_or_else(|| keys::visibility(kind, name), |number| keys::past_visibility(kind, name, number)))
}

fn access_key(kind: &str, name: &str) -> Result<Vec<u8>, String> {
    let (whose, what) = name.split_once('/').ok_or_else(|| format!("`{name}`: write two names with a `/` between"))?;
    let party = |name| PartyId::try_new(name).map_err(|fault| fault.to_string());
    match (kind, whose) {
        ("policy", _) => {
            let policy = PolicyId::try_new(what).map_err(|fault| fault.to_string())?;
            Ok(keys::policy(&party(whose)?, &policy))
        }
        ("barred", _) => Ok(keys::bar(&party(whose)?, &party(what)?)),
        (_, "device") => {
            Ok(keys::quarantine(b'd', DeviceId::try_new(what).map_err(|fault| fault.to_string())?.as_str()))
        }
        (_, "agent") => Ok(keys::quarantine(b'a', party(what)?.as_str())),
        (_, other) => Err(format!("`{other}` is not put in quarantine; write device/ID or agent/ID")),
    }
}

fn field_key(kind: &str, name: &str) -> Result<Vec<u8>, String> {
    let (entry, field) = name.split_once('/').ok_or_else(|| format!("`{name}`: write an entry, a `/` and a field"))?;
    let entry = entry.parse().map_err(|_| format!("`{entry}` is no entry: an entry is named by its index"))?;
    Ok(if kind == "private" { keys::private_field(entry, field) } else { keys::purged_field(entry, field) })
}

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_people_write_them() {
        for (text, key) in [
            ("party:tina", &b"ptina"[..]),
            ("revoked:agent-01", b"zagent-01"),
            ("device:press-01", b"dpress-01"),
            ("anchor:press-01", b"vpress-01"),
            ("account:acme/EUR", b"aacme/EUR"),
            ("agreement:mo-1", b"mmo\0\0\0\0\0\0\0\0\x01"),
            ("open:maintenance-order/press-01/bearing-worn", b"omaintenance-order\0press-01\0bearing-worn\0"),
            ("private:258/remark", b"I\0\0\0\0\0\0\x01\x02\0remark"),
            ("purged:0/a/b", b"X\0\0\0\0\0\0\0\0\0a/b"),
            ("visibility:party/tina", b"Eptina"),
            ("visibility:device/press-01/2", b"Edpress-01\0\0\0\0\0\0\0\0\x02"),
            ("hex:7aFf", b"z\xff"),
        ] {
            assert_eq!(state_key(text).as_deref(), Ok(key), "{text}");
        }
        for wrong in [
            "tina",
            "party:",
            "party:a b",
            "agreement:mo-01",
            "hex:7",
            "hex:xy",
            "what:x",
            "open:a b/x",
            "private:x/y",
            "purged:7",
            "visibility:tina",
            "visibility:party/tina/first",
            "visibility:party/tina/1/2",
        ] {
            assert!(state_key(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_key_or_a_fault(text in "(party|hex|open|agreement)?:?\\PC{0,30}") {
            let _ = state_key(&text);
        }
    }
}
