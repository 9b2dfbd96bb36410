//! PKCS#11 URIs (RFC 7512): which module, which token, which key, and where the PIN is. Never the PIN itself.

use crate::pin::PinSource;
use crate::{KeyError, SCHEME};
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// Setting that names the module when a URI does not.
const MODULE: &str = "TALLY_PKCS11_MODULE";
/// Longer ones are no URI of a key.
const BYTES_MAX: usize = 4096;
const EXAMPLE: &str = "for example pkcs11:token=plant;object=agent-01?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/tallystick/pin";

/// A key in a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUri {
    /// Label of the token (`token`).
    pub token: Option<String>,
    /// Its serial number (`serial`).
    pub serial: Option<String>,
    /// Its maker (`manufacturer`).
    pub manufacturer: Option<String>,
    /// Its model (`model`).
    pub model: Option<String>,
    /// Number of the slot it sits in (`slot-id`).
    pub slot: Option<u64>,
    /// Label of the key (`object`, CKA_LABEL).
    pub object: Option<String>,
    /// Its id (`id`, CKA_ID), percent-encoded bytes.
    pub id: Option<Vec<u8>>,
    /// The PKCS#11 library (`module-path`), or the setting `TALLY_PKCS11_MODULE`.
    pub module: PathBuf,
    /// Where the PIN is (`pin-source`); `None` for tokens that need none or have a keypad.
    pub pin: Option<PinSource>,
}

/// What is wrong with a URI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriFault {
    /// A PIN stands in it. It is not repeated here.
    #[error(
        "`pin-value` puts the PIN where everybody can read it: in configuration, in the list of processes, in the history of the \
         shell; write it into a file with mode 0600 and `pin-source=FILE`, or hand it over by systemd and \
         `pin-source=credential:NAME`"
    )]
    PinValue,
    /// Anything else.
    #[error("`{attribute}`: {text}; {EXAMPLE}")]
    Attribute {
        /// Which part.
        attribute: String,
        /// What is wrong, and what is allowed.
        text: &'static str,
    },
}

fn fault(attribute: &str, text: &'static str) -> UriFault {
    // What somebody mistyped may be anything: short, and on one line.
    let attribute = attribute.chars().filter(|c| !c.is_control()).take(40).collect();
    UriFault::Attribute { attribute, text }
}

impl TokenUri {
    /// Reads a URI; a relative `pin-source` begins at `folder`.
    ///
    /// # Errors
    /// [`UriFault`]. Unknown attributes are refused: one that was mistyped would widen what is meant.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, UriFault> {
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| fault(SCHEME, "a URI of a token begins with it"))?;
        if rest.contains("pin-value") {
            return Err(UriFault::PinValue);
        }
        if text.len() > BYTES_MAX {
            return Err(fault(SCHEME, "the URI has more than 4096 bytes"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = attributes(path, ';')?;
        let query = attributes(query, '&')?;
        let mut uri = Self::empty();
        for (name, value) in path {
            uri.take_path(name, value)?;
        }
        let mut module = None;
        for (name, value) in query {
            let value = utf8(name, value)?;
            match name {
                "module-path" => module = Some(PathBuf::from(value)),
                "pin-source" => {
                    let source = PinSource::parse(&value, folder);
                    let why = "a file, `file:` and a file, or `credential:` and a name; commands are not run";
                    uri.pin = Some(source.ok_or_else(|| fault(name, why))?);
                }
                "module-name" => return Err(fault(name, "is looked up nowhere; write `module-path`")),
                _ => return Err(fault(name, "behind the `?` may stand `module-path` and `pin-source`")),
            }
        }
        uri.module = module.or_else(|| std::env::var_os(MODULE).map(PathBuf::from)).ok_or_else(|| {
            fault("module-path", "no PKCS#11 library is named, neither here nor in the setting TALLY_PKCS11_MODULE")
        })?;
        uri.check()
    }

    fn empty() -> Self {
        Self {
            token: None,
            serial: None,
            manufacturer: None,
            model: None,
            slot: None,
            object: None,
            id: None,
            module: PathBuf::new(),
            pin: None,
        }
    }

    fn take_path(&mut self, name: &str, value: Vec<u8>) -> Result<(), UriFault> {
        let text = match name {
            "token" => &mut self.token,
            "serial" => &mut self.serial,
            "manufacturer" => &mut self.manufacturer,
            "model" => &mut self.model,
            "object" => &mut self.object,
            "id" => {
                self.id = Some(value);
                return Ok(());
            }
            "slot-id" => {
                let number = utf8(name, value)?.parse();
                self.slot = Some(number.map_err(|_| fault(name, "is a decimal number"))?);
                return Ok(());
            }
            "type" if value == b"private" => return Ok(()),
            "type" => return Err(fault(name, "only `private` keys sign")),
            _ => {
                let known = "before the `?` may stand token, serial, manufacturer, model, slot-id, object, id, type";
                return Err(fault(name, known));
            }
        };
        *text = Some(utf8(name, value)?);
        Ok(())
    }

    fn check(self) -> Result<Self, UriFault> {
        if self.token.is_none() && self.serial.is_none() && self.slot.is_none() {
            return Err(fault("token", "which token: write `token`, `serial` or `slot-id`"));
        }
        match (&self.object, &self.id) {
            (None, None) => Err(fault("object", "which key: write `object` (its label) or `id`")),
            (Some(empty), _) if empty.is_empty() => Err(fault("object", "is empty")),
            (_, Some(empty)) if empty.is_empty() => Err(fault("id", "is empty")),
            _ => Ok(self),
        }
    }

    /// Whether the PIN can be read, without trying it.
    pub(crate) fn pin_is_readable(&self) -> Result<(), KeyError> {
        self.pin.as_ref().map_or(Ok(()), |pin| pin.read().map(|_| ()))
    }
}

/// `name=value` pairs, values decoded; each name once (RFC 7512 §2.3).
fn attributes(text: &str, separator: char) -> Result<Vec<(&str, Vec<u8>)>, UriFault> {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for part in text.split(separator).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| fault(part, "write NAME=VALUE"))?;
        if found.iter().any(|(known, _)| *known == name) {
            return Err(fault(name, "stands here twice"));
        }
        found.push((name, decode(name, value)?));
    }
    Ok(found)
}

/// Percent-encoding (RFC 3986 §2.1).
fn decode(name: &str, value: &str) -> Result<Vec<u8>, UriFault> {
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = behind.split_at_checked(2).and_then(|(digits, behind)| {
            rest = behind;
            let digits = std::str::from_utf8(digits).ok()?;
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
        });
        bytes.push(byte.ok_or_else(|| fault(name, "`%` is followed by two hexadecimal digits"))?);
    }
    Ok(bytes)
}

fn utf8(name: &str, value: Vec<u8>) -> Result<String, UriFault> {
    let text = String::from_utf8(value).map_err(|_| fault(name, "is no UTF-8"))?;
    if text.contains('\0') { Err(fault(name, "contains NUL")) } else { Ok(text) }
}

impl fmt::Display for TokenUri {
    /// As far as it names the key: without module and PIN source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot.map(|slot| slot.to_string());
        let parts = [
            ("token", self.token.as_deref().map(str::as_bytes)),
            ("serial", self.serial.as_deref().map(str::as_bytes)),
            ("manufacturer", self.manufacturer.as_deref().map(str::as_bytes)),
            ("model", self.model.as_deref().map(str::as_bytes)),
            ("slot-id", slot.as_deref().map(str::as_bytes)),
            ("object", self.object.as_deref().map(str::as_bytes)),
            ("id", self.id.as_deref()),
        ];
        f.write_str(SCHEME)?;
        let present = parts.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        for (place, (name, value)) in present.enumerate() {
            write!(f, "{}{name}=", if place > 0 { ";" } else { "" })?;
            for byte in value {
                // RFC 3986 §2.3: what needs no encoding.
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        f.write_char(char::from(*byte))?
                    }
                    other => write!(f, "%{other:02X}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAIL: &str = "?module-path=/lib/m.so&pin-source=pin";

    fn parse(text: &str) -> Result<TokenUri, UriFault> {
        TokenUri::parse(text, Path::new("/etc/tallystick"))
    }

    #[test]
    fn a_uri_is_read_and_shown() {
        let uri = parse(&format!("pkcs11:token=The%20plant;object=agent-01;id=%01%ff;type=private{TAIL}")).unwrap();
        assert_eq!((uri.token.as_deref(), uri.object.as_deref()), (Some("The plant"), Some("agent-01")));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.pin, Some(PinSource::File("/etc/tallystick/pin".into())));
        assert_eq!(uri.to_string(), "pkcs11:token=The%20plant;object=agent-01;id=%01%FF");
        let by_systemd = parse("pkcs11:slot-id=7;object=a?module-path=/m.so&pin-source=credential:pin").unwrap();
        assert_eq!((by_systemd.slot, by_systemd.pin), (Some(7), Some(PinSource::Credential("pin".to_owned()))));
        let absolute = parse("pkcs11:serial=1;id=%01?module-path=/m.so&pin-source=file:///run/pin").unwrap();
        assert_eq!(absolute.pin, Some(PinSource::File("/run/pin".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("pkcs11:object=a", "token"),
            ("pkcs11:token=a", "object"),
            ("pkcs11:token=a;object=", "object"),
            ("pkcs11:token=a;token=b;object=c", "token"),
            ("pkcs11:token=a;object=b;colour=red", "colour"),
            ("pkcs11:token=a;object=b;type=public", "type"),
            ("pkcs11:token=a;object=%4", "object"),
            ("pkcs11:token=%ff;object=b", "token"),
            ("pkcs11:token=%00;object=b", "token"),
            ("pkcs11:token", "token"),
        ] {
            let said = parse(&format!("{text}{TAIL}")).unwrap_err().to_string();
            assert!(said.starts_with(&format!("`{named}`")), "{text}: {said}");
        }
        for (query, named) in [
            ("module-path=/m.so&pin-source=|cat pin", "pin-source"),
            ("module-path=/m.so&pin-source=credential:../pin", "pin-source"),
            ("module-name=softhsm2", "module-name"),
            ("pin-source=pin", "module-path"),
        ] {
            let said = parse(&format!("pkcs11:token=a;object=b?{query}")).unwrap_err().to_string();
            assert!(said.starts_with(&format!("`{named}`")), "{query}: {said}");
        }
    }

    #[test]
    fn a_pin_in_a_uri_is_refused_and_not_repeated() {
        for text in ["pkcs11:token=a;object=b?pin-value=123456&module-path=/m.so", "pkcs11:pin-value=123456"] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault, UriFault::PinValue);
            assert!(!format!("{fault} {fault:?}").contains("123456") && fault.to_string().contains("pin-source"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "pkcs11:[ -~]{0,80}") {
            if let Ok(uri) = parse(&text) {
                let again = parse(&format!("{uri}{TAIL}")).unwrap();
                prop_assert_eq!((again.token, again.object, again.id), (uri.token, uri.object, uri.id));
            }
        }

        #[test]
        fn any_name_survives(token in "\\PC{1,20}", object in "\\PC{1,20}", id in proptest::collection::vec(any::<u8>(), 1..8)) {
            let uri = TokenUri { token: Some(token), object: Some(object), id: Some(id), ..TokenUri::empty() };
            let again = parse(&format!("{uri}{TAIL}")).unwrap();
            prop_assert_eq!((again.token, again.object, again.id), (uri.token, uri.object, uri.id));
        }
    }
}
