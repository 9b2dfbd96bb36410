//! Deterministic CBOR (RFC 8949 §4.2.1): shortest numbers, definite lengths, map keys sorted by their encoded bytes.
//!
//! Decoding is strict: bytes that are not exactly what [`encode`] would write are refused, so one meaning has one form
//! and a flipped byte can never hide in a different spelling of the same thing. Keys of maps are texts, whole numbers or byte strings: no
//! format of ours has others, and to compare maps that are keys of maps takes time that doubles with every level.

pub use ciborium::Value as Cbor;
use ciborium::value::Integer;
use std::cmp::Ordering;

/// Deepest nesting we read: our formats need 8, the rest is head-room, an attacker's million levels are refused.
const DEPTH_MAX: usize = 32;

/// Why bytes are not the CBOR we expect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborFault {
    /// Not CBOR, cut short, or nested too deeply.
    #[error("not CBOR: {0}")]
    Syntax(String),
    /// Something after the end of the item.
    #[error("{0} bytes after the end of the first CBOR item")]
    Trailing(usize),
    /// CBOR, but not in deterministic encoding (RFC 8949 §4.2.1).
    #[error("not in deterministic encoding (RFC 8949 §4.2.1)")]
    NotDeterministic,
    /// A map with a key that is an array, a map, a tag, a float or a simple value.
    #[error("a map has a key that is neither text nor whole number nor byte string")]
    Key,
    /// A field is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has another type than expected.
    #[error("`{field}` is not {expected}")]
    Type {
        /// Which field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field nobody knows.
    #[error("unknown field `{0}`")]
    Unknown(String),
}

/// Writes deterministic CBOR.
#[must_use]
pub fn encode(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    write_sorted(value, &mut bytes);
    bytes
}

/// Why the library could not read it.
fn in_words<T>(fault: ciborium::de::Error<T>) -> String {
    use ciborium::de::Error;
    match fault {
        // A slice has no other fault of reading than its end.
        Error::Io(_) => "it ends in the middle".to_owned(),
        Error::Syntax(place) => format!("no item begins at byte {place}"),
        Error::Semantic(_, text) => text,
        Error::RecursionLimitExceeded => format!("nested deeper than {DEPTH_MAX}"),
    }
}

/// Reads deterministic CBOR; refuses everything else.
///
/// # Errors
/// [`CborFault::Syntax`], [`CborFault::Trailing`], [`CborFault::Key`] or [`CborFault::NotDeterministic`].
pub fn decode(bytes: &[u8]) -> Result<Cbor, CborFault> {
    let mut rest = bytes;
    let value: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|fault| CborFault::Syntax(in_words(fault)))?;
    if !rest.is_empty() {
        return Err(CborFault::Trailing(rest.len()));
    }
    if !has_plain_keys(&value) {
        return Err(CborFault::Key);
    }
    // No map may be out of order or hold a key twice, and written back it must be the same bytes.
    if !is_sorted(&value) {
        return Err(CborFault::NotDeterministic);
    }
    let mut again = Vec::with_capacity(bytes.len());
    write_sorted(&value, &mut again);
    if again == bytes { Ok(value) } else { Err(CborFault::NotDeterministic) }
}

/// Writes with every map in order.
pub(crate) fn write_sorted(value: &Cbor, bytes: &mut Vec<u8>) {
    match value {
        Cbor::Array(items) => {
            write_head(4, items.len() as u64, bytes);
            items.iter().for_each(|item| write_sorted(item, bytes));
        }
        Cbor::Map(pairs) => {
            write_head(5, pairs.len() as u64, bytes);
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_by(|a, b| key_order(&a.0, &b.0));
            for (key, value) in pairs {
                write_sorted(key, bytes);
                write_sorted(value, bytes);
            }
        }
        Cbor::Tag(tag, inner) => {
            write_head(6, *tag, bytes);
            write_sorted(inner, bytes);
        }
        Cbor::Text(text) => write_text(text, bytes),
        Cbor::Bytes(content) => {
            write_head(2, content.len() as u64, bytes);
            bytes.extend_from_slice(content);
        }
        Cbor::Integer(number) => match u64::try_from(*number) {
            Ok(number) => write_head(0, number, bytes),
            // −1−n (§3.1); the range of a CBOR integer ends at −2⁶⁴.
            Err(_) => write_head(1, u64::try_from(-1 - i128::from(*number)).unwrap_or(u64::MAX), bytes),
        },
        other => {
            // Floats in their shortest form, and the simple values. Writing into a Vec has no failing case.
            let written = ciborium::ser::into_writer(other, bytes);
            debug_assert!(written.is_ok());
        }
    }
}

/// Writes a text.
pub fn write_text(text: &str, bytes: &mut Vec<u8>) {
    write_head(3, text.len() as u64, bytes);
    bytes.extend_from_slice(text.as_bytes());
}

/// Major type and argument of an item, in the shortest form (§4.2.1).
pub fn write_head(major: u8, argument: u64, bytes: &mut Vec<u8>) {
    let be = argument.to_be_bytes();
    let (short, tail) = match argument {
        0..24 => (be[7], &be[8..]),
        24..=0xff => (24, &be[7..]),
        0x100..=0xffff => (25, &be[6..]),
        0x1_0000..=0xffff_ffff => (26, &be[4..]),
        _ => (27, &be[..]),
    };
    bytes.push(major << 5 | short);
    bytes.extend_from_slice(tail);
}

/// The order of two keys by their encoded bytes (RFC 8949 §4.2.1).
fn key_order(a: &Cbor, b: &Cbor) -> Ordering {
    match (a, b) {
        // In the shortest form a longer text has a greater head.
        (Cbor::Text(a), Cbor::Text(b)) => (a.len(), a.as_str()).cmp(&(b.len(), b.as_str())),
        _ => key_bytes(a).cmp(&key_bytes(b)),
    }
}

fn key_bytes(key: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    write_sorted(key, &mut bytes);
    bytes
}

fn has_plain_keys(value: &Cbor) -> bool {
    let is_plain = |key: &Cbor| matches!(key, Cbor::Text(_) | Cbor::Integer(_) | Cbor::Bytes(_));
    match value {
        Cbor::Array(items) => items.iter().all(has_plain_keys),
        Cbor::Tag(_, inner) => has_plain_keys(inner),
        Cbor::Map(pairs) => pairs.iter().all(|(key, value)| is_plain(key) && has_plain_keys(value)),
        _ => true,
    }
}

fn is_sorted(value: &Cbor) -> bool {
    match value {
        Cbor::Array(items) => items.iter().all(is_sorted),
        Cbor::Tag(_, inner) => is_sorted(inner),
        Cbor::Map(pairs) => {
            pairs.windows(2).all(|pair| key_order(&pair[0].0, &pair[1].0).is_lt())
                && pairs.iter().all(|(_, value)| is_sorted(value))
        }
        _ => true,
    }
}

/// A text.
#[must_use]
pub fn text(text: impl Into<String>) -> Cbor {
    Cbor::Text(text.into())
}

/// A byte string.
#[must_use]
pub fn bytes(bytes: impl Into<Vec<u8>>) -> Cbor {
    Cbor::Bytes(bytes.into())
}

/// A whole number.
#[must_use]
pub fn int(number: impl Into<Integer>) -> Cbor {
    Cbor::Integer(number.into())
}

/// A map with text keys; [`encode`] puts it in order.
#[must_use]
pub fn map<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Cbor)>) -> Cbor {
    Cbor::Map(pairs.into_iter().map(|(key, value)| (Cbor::Text(key.into()), value)).collect())
}

/// A value of a reading or an argument as CBOR.
#[must_use]
pub fn from_value(value: &tally_model::Value) -> Cbor {
    use tally_model::Value;
    match value {
        Value::Bool(flag) => Cbor::Bool(*flag),
        Value::Integer(number) => int(*number),
        Value::Unsigned(number) => int(*number),
        Value::Float(number) => Cbor::Float(*number),
        Value::Text(string) => text(string.clone()),
    }
}

/// The inverse of [`from_value`]; `None` for anything that is no scalar.
#[must_use]
pub fn to_value(cbor: &Cbor) -> Option<tally_model::Value> {
    use tally_model::Value;
    Some(match cbor {
        Cbor::Bool(flag) => Value::Bool(*flag),
        Cbor::Integer(number) => match i64::try_from(*number) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Unsigned(u64::try_from(*number).ok()?),
        },
        Cbor::Float(number) if number.is_finite() => Value::Float(*number),
        Cbor::Text(string) => Value::Text(string.clone()),
        _ => return None,
    })
}

/// Takes a text-keyed map apart, field by field, and refuses what is left over.
#[derive(Debug)]
pub struct Fields {
    fields: Vec<(String, Cbor)>,
}

impl Fields {
    /// Decodes `bytes` as a map with text keys.
    ///
    /// # Errors
    /// [`CborFault`] when it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborFault> {
        Self::new(decode(bytes)?, "the item")
    }

    /// Takes `value`, which must be a map with text keys; `name` is used in the fault.
    ///
    /// # Errors
    /// [`CborFault::Type`].
    pub fn new(value: Cbor, name: &str) -> Result<Self, CborFault> {
        let fault = || CborFault::Type { field: name.to_owned(), expected: "a map with text keys" };
        let Cbor::Map(pairs) = value else { return Err(fault()) };
        let fields = pairs.into_iter().map(|(key, value)| match key {
            Cbor::Text(key) => Ok((key, value)),
            _ => Err(fault()),
        });
        Ok(Self { fields: fields.collect::<Result<_, _>>()? })
    }

    /// Takes a field that may be absent.
    pub fn take(&mut self, name: &'static str) -> Option<Cbor> {
        let place = self.fields.iter().position(|(key, _)| key == name)?;
        Some(self.fields.remove(place).1)
    }

    /// Takes a field.
    ///
    /// # Errors
    /// [`CborFault::Missing`].
    pub fn need(&mut self, name: &'static str) -> Result<Cbor, CborFault> {
        self.take(name).ok_or(CborFault::Missing(name))
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn text(&mut self, name: &'static str) -> Result<String, CborFault> {
        self.need(name)?.into_text().map_err(|_| wrong(name, "a text"))
    }

    /// Takes a text that may be absent.
    ///
    /// # Errors
    /// [`CborFault::Type`].
    pub fn text_opt(&mut self, name: &'static str) -> Result<Option<String>, CborFault> {
        self.take(name).map(|value| value.into_text().map_err(|_| wrong(name, "a text"))).transpose()
    }

    /// Takes a text and parses it.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn parse<T: std::str::FromStr>(&mut self, name: &'static str, expected: &'static str) -> Result<T, CborFault> {
        self.text(name)?.parse().map_err(|_| wrong(name, expected))
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn bytes(&mut self, name: &'static str) -> Result<Vec<u8>, CborFault> {
        self.need(name)?.into_bytes().map_err(|_| wrong(name, "a byte string"))
    }

    /// Takes a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn bytes_exact<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], CborFault> {
        self.bytes(name)?.try_into().map_err(|_| wrong(name, "a byte string of the right length"))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn int<T: TryFrom<i128>>(&mut self, name: &'static str) -> Result<T, CborFault> {
        let number = self.need(name)?.into_integer().map_err(|_| wrong(name, "a whole number"))?;
        T::try_from(i128::from(number)).map_err(|_| wrong(name, "a whole number in range"))
    }

    /// Takes a whole number that may be absent.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn int_opt<T: TryFrom<i128>>(&mut self, name: &'static str) -> Result<Option<T>, CborFault> {
        if self.fields.iter().any(|(key, _)| key == name) { self.int(name).map(Some) } else { Ok(None) }
    }

    /// Takes an array.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn array(&mut self, name: &'static str) -> Result<Vec<Cbor>, CborFault> {
        self.need(name)?.into_array().map_err(|_| wrong(name, "an array"))
    }

    /// Takes an array of hashes.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn hashes(&mut self, name: &'static str) -> Result<Vec<crate::Hash>, CborFault> {
        hashes(self.need(name)?, name)
    }

    /// Takes a map with text keys.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn fields(&mut self, name: &'static str) -> Result<Self, CborFault> {
        Self::new(self.need(name)?, name)
    }

    /// All remaining fields, for maps with free keys.
    #[must_use]
    pub fn rest(self) -> Vec<(String, Cbor)> {
        self.fields
    }

    /// Nothing may be left over.
    ///
    /// # Errors
    /// [`CborFault::Unknown`].
    pub fn finish(self) -> Result<(), CborFault> {
        match self.fields.into_iter().next() {
            Some((name, _)) => Err(CborFault::Unknown(name)),
            None => Ok(()),
        }
    }
}

/// Takes `value`, which must be an array of hashes; `name` is used in the fault.
///
/// # Errors
/// [`CborFault::Type`].
pub fn hashes(value: Cbor, name: &str) -> Result<Vec<crate::Hash>, CborFault> {
    let hash = |item: Cbor| item.into_bytes().ok()?.try_into().ok();
    let items = value.into_array().map_err(|_| wrong(name, "an array"))?;
    items.into_iter().map(|item| hash(item).ok_or_else(|| wrong(name, "byte strings of 32 bytes"))).collect()
}

fn wrong(name: &str, expected: &'static str) -> CborFault {
    CborFault::Type { field: name.to_owned(), expected }
}

#[cfg(test)]
mod tests;
