//! Where readings come from, as CBOR. CDDL: `docs/formats/trigger.cddl`.

use crate::body::BodyFault;
use crate::cbor::{self, Cbor, Fields, bytes, int, map, text};
use crate::cursor::Cursor;
use tally_model::{LinkProtection, LinkProtocol, LinkSecurity, Login, Origin, Stretch, are_stretches};

/// A stretch as bytes: one of those in a trigger, and the vault's record of it.
#[must_use]
pub fn encode_stretch(stretch: &Stretch) -> Vec<u8> {
    cbor::encode(&stretch_to_cbor(stretch))
}

/// Reads a stretch strictly; `None` when the bytes are none.
#[must_use]
pub fn decode_stretch(bytes: &[u8]) -> Option<Stretch> {
    let mut from = Cursor(bytes);
    let stretch = read_stretch(&mut from)?;
    from.end()?;
    stretch.origin.is_consistent().then_some(stretch)
}

pub(crate) fn stretches_to_cbor(stretches: &[Stretch]) -> Cbor {
    Cbor::Array(stretches.iter().map(stretch_to_cbor).collect())
}

fn stretch_to_cbor(Stretch { from, origin }: &Stretch) -> Cbor {
    let LinkSecurity { protocol, protection, policy, certificate, login } = &origin.link;
    let optional = [
        policy.as_ref().map(|policy| ("policy", text(policy.clone()))),
        certificate.map(|digest| ("certificate", bytes(digest))),
        login.map(|login| ("login", text(login.word()))),
        origin.identity.as_ref().map(|said| ("identity", text(said.clone()))),
    ];
    let needed = [("from", int(*from)), ("over", text(protocol.word())), ("security", text(protection.word()))];
    map(needed.into_iter().chain(optional.into_iter().flatten()))
}

pub(crate) fn decode_stretches(value: Cbor) -> Result<Vec<Stretch>, BodyFault> {
    let Cbor::Array(list) = value else { return Err(BodyFault::Origins) };
    let stretches = list.into_iter().map(decode_one).collect::<Result<_, _>>()?;
    checked(stretches).ok_or(BodyFault::Origins)
}

fn decode_one(value: Cbor) -> Result<Stretch, BodyFault> {
    let mut fields = Fields::new(value, "origins")?;
    let (over, security, login) = (fields.text("over")?, fields.text("security")?, fields.text_opt("login")?);
    let link = LinkSecurity {
        protocol: LinkProtocol::from_word(&over).ok_or(BodyFault::Word(over))?,
        protection: LinkProtection::from_word(&security).ok_or(BodyFault::Word(security))?,
        policy: fields.text_opt("policy")?,
        certificate: fields.take("certificate").map(digest).transpose()?,
        login: login.map(|word| Login::from_word(&word).ok_or(BodyFault::Word(word))).transpose()?,
    };
    let stretch =
        Stretch { from: fields.int("from")?, origin: Origin { link, identity: fields.text_opt("identity")? } };
    fields.finish()?;
    Ok(stretch)
}

fn digest(value: Cbor) -> Result<[u8; 32], BodyFault> {
    value.as_bytes().and_then(|bytes| bytes.as_slice().try_into().ok()).ok_or(BodyFault::Origins)
}

/// One form: at least one, rising, each another one than the one before.
fn checked(stretches: Vec<Stretch>) -> Option<Vec<Stretch>> {
    (!stretches.is_empty() && are_stretches(&stretches)).then_some(stretches)
}

/// The same straight off the bytes.
pub(crate) fn read_stretches(from: &mut Cursor<'_>) -> Option<Vec<Stretch>> {
    let length = from.array()?;
    let mut stretches = Vec::new();
    for _ in 0..length {
        stretches.push(read_stretch(from)?);
    }
    checked(stretches)
}

fn read_stretch(cursor: &mut Cursor<'_>) -> Option<Stretch> {
    let count = cursor.map()?;
    cursor.key("from")?;
    let from = cursor.uint()?;
    cursor.key("over")?;
    let protocol = LinkProtocol::from_word(cursor.text()?)?;
    let login = if cursor.key_opt("login") { Some(Login::from_word(cursor.text()?)?) } else { None };
    let policy = if cursor.key_opt("policy") { Some(cursor.text()?.to_owned()) } else { None };
    let identity = if cursor.key_opt("identity") { Some(cursor.text()?.to_owned()) } else { None };
    cursor.key("security")?;
    let protection = LinkProtection::from_word(cursor.text()?)?;
    let certificate = if cursor.key_opt("certificate") { Some(cursor.hash()?) } else { None };
    let optional = [login.is_some(), policy.is_some(), identity.is_some(), certificate.is_some()];
    let optional = optional.into_iter().filter(|is_there| *is_there).count() as u64;
    let link = LinkSecurity { protocol, protection, policy, certificate, login };
    (count == 3 + optional).then_some(Stretch { from, origin: Origin { link, identity } })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn origin() -> impl Strategy<Value = Origin> {
        let protection = prop::sample::select(LinkProtection::ALL.to_vec());
        let protocol = prop::sample::select(LinkProtocol::ALL.to_vec());
        let login = proptest::option::of(prop::sample::select(Login::ALL.to_vec()));
        let texts = (proptest::option::of("[a-z:/#]{1,20}"), proptest::option::of("[A-Za-z0-9;. ]{1,20}"));
        (protocol, protection, login, texts, any::<[u8; 32]>()).prop_map(
            |(protocol, protection, login, texts, digest)| {
                let certificate = (protection != LinkProtection::None).then_some(digest);
                let (policy, identity) = texts;
                Origin { link: LinkSecurity { protocol, protection, policy, certificate, login }, identity }
            },
        )
    }

    /// As agents write them; sometimes none.
    pub(crate) fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
        let all = proptest::collection::btree_map(any::<u64>(), origin(), 0..4);
        all.prop_map(|all| {
            let mut stretches: Vec<_> = all.into_iter().map(|(from, origin)| Stretch { from, origin }).collect();
            stretches.dedup_by(|next, one| next.origin == one.origin);
            stretches
        })
    }

    proptest! {
        #[test]
        fn stretches_round_trip_both_ways(stretches in stretches()) {
            for stretch in &stretches {
                prop_assert_eq!(decode_stretch(&encode_stretch(stretch)), Some(stretch.clone()));
            }
            let bytes = cbor::encode(&stretches_to_cbor(&stretches));
            let slow = decode_stretches(cbor::decode(&bytes).unwrap());
            prop_assert_eq!(read_stretches(&mut Cursor(&bytes)), slow.clone().ok());
            prop_assert_eq!(slow.ok(), Some(stretches).filter(|all| !all.is_empty()));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode_stretch(&bytes);
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let open = Origin { link: LinkSecurity::none(LinkProtocol::Modbus), identity: None };
        let mut forged = Stretch { from: 3, origin: open };
        forged.origin.link.certificate = Some([1; 32]);
        assert_eq!(decode_stretch(&encode_stretch(&forged)), None, "nothing was signed with it");
        assert_eq!(decode_stretches(Cbor::Array(Vec::new())), Err(BodyFault::Origins), "none is left out");
    }
}
