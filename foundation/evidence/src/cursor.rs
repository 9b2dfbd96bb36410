//! Reads deterministic CBOR (RFC 8949 §4.2.1) straight off the bytes, without a tree of values in between: a ledger reads a
//! hundred thousand triggers a second.
//!
//! As strict as [`crate::cbor::decode`], but it says only *that* something is wrong. Whoever gets `None` asks the slow way why.

use crate::Hash;
use crate::cbor;
use tally_model::Value;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

/// What is not read yet.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a>(
    /// The bytes.
    pub &'a [u8],
);

impl<'a> Cursor<'a> {
    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Major type and argument; only the shortest form.
    fn any_head(&mut self) -> Option<(u8, u64)> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        let (major, length, least) = match first & 0x1f {
            short @ 0..24 => return Some((first >> 5, u64::from(short))),
            24 => (first >> 5, 1, 24),
            25 => (first >> 5, 2, 1 << 8),
            26 => (first >> 5, 4, 1 << 16),
            27 => (first >> 5, 8, 1 << 32),
            _ => return None,
        };
        let number = self.take(length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        (number >= least).then_some((major, number))
    }

    fn head(&mut self, major: u8) -> Option<u64> {
        self.any_head().filter(|(found, _)| *found == major).map(|(_, number)| number)
    }

    /// The head of an array: how many items follow.
    pub fn array(&mut self) -> Option<u64> {
        self.head(ARRAY)
    }

    /// The head of a map: how many pairs follow.
    pub fn map(&mut self) -> Option<u64> {
        self.head(MAP)
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Option<u64> {
        self.head(UNSIGNED)
    }

    /// An integer that fits 64 bits with its sign.
    pub fn int(&mut self) -> Option<i64> {
        match self.any_head()? {
            (UNSIGNED, number) => i64::try_from(number).ok(),
            // −1−n (§3.1)
            (NEGATIVE, number) => Some(-1 - i64::try_from(number).ok()?),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.head(TEXT)?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// A text that means something.
    pub fn parse<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.head(BYTES)?).ok()?;
        self.take(length)
    }

    /// A byte string of 32 bytes.
    pub fn hash(&mut self) -> Option<Hash> {
        self.bytes()?.try_into().ok()
    }

    /// Exactly this key of a map.
    pub(crate) fn key(&mut self, name: &str) -> Option<()> {
        (self.text()? == name).then_some(())
    }

    /// The same key, if it is the next one.
    pub(crate) fn key_opt(&mut self, name: &str) -> bool {
        let mut ahead = *self;
        let is_next = ahead.key(name).is_some();
        if is_next {
            *self = ahead;
        }
        is_next
    }

    /// What a call may carry as an argument.
    pub(crate) fn scalar(&mut self) -> Option<Value> {
        let mut ahead = *self;
        Some(match self.0.first()? >> 5 {
            TEXT => Value::Text(self.text()?.to_owned()),
            UNSIGNED => match self.uint()? {
                number if i64::try_from(number).is_ok() => Value::Integer(i64::try_from(number).ok()?),
                number => Value::Unsigned(number),
            },
            NEGATIVE => Value::Integer(self.int()?),
            SIMPLE => {
                // false, true, and floats of 16, 32 and 64 bits.
                let length = match ahead.take(1)?[0] {
                    0xf4 | 0xf5 => 1,
                    0xf9 => 3,
                    0xfa => 5,
                    0xfb => 9,
                    _ => return None,
                };
                let item = self.take(length)?;
                // Rare and short: read by the slow way, which refuses a float that has a shorter form.
                cbor::to_value(&cbor::decode(item).ok()?)?
            }
            _ => return None,
        })
    }

    /// Every pair of a map with text keys, which must be in order; gives how many there are.
    pub(crate) fn pairs(&mut self, mut take: impl FnMut(&'a str, &mut Self) -> Option<()>) -> Option<u64> {
        let count = self.map()?;
        let mut before: Option<&str> = None;
        for _ in 0..count {
            let key = self.text()?;
            // In the shortest form a longer text has a greater head.
            if before.is_some_and(|before| (before.len(), before) >= (key.len(), key)) {
                return None;
            }
            before = Some(key);
            take(key, self)?;
        }
        Some(count)
    }

    /// Nothing may be left.
    pub const fn end(&self) -> Option<()> {
        if self.0.is_empty() { Some(()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the cursor takes for a scalar, the strict decoder takes for the same one, and the other way round.
        #[test]
        fn scalars_are_read_as_the_strict_decoder_does(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut cursor = Cursor(&bytes);
            let read = cursor.scalar().filter(|_| cursor.end().is_some());
            let strict = cbor::decode(&bytes).ok().as_ref().and_then(cbor::to_value);
            prop_assert_eq!(format!("{read:?}"), format!("{strict:?}"));
        }

        #[test]
        fn every_scalar_is_read(float in any::<f64>().prop_filter("finite", |float| float.is_finite()), number in any::<i64>()) {
            for value in [Value::Float(float), Value::Integer(number), Value::Bool(number > 0), Value::Text(number.to_string())] {
                let bytes = cbor::encode(&cbor::from_value(&value));
                let mut cursor = Cursor(&bytes);
                prop_assert_eq!((cursor.scalar(), cursor.end()), (Some(value), Some(())));
            }
        }
    }

    #[test]
    fn the_types_of_cbor_are_told_apart() {
        let bytes = cbor::encode(&cbor::Cbor::Array(vec![cbor::int(5)]));
        assert_eq!(Cursor(&bytes).array(), Some(1));
        assert_eq!((Cursor(&bytes).map(), Cursor(&bytes).uint(), Cursor(&bytes).text()), (None, None, None));
    }
}
