//! The bytes of state values: deterministic CBOR (RFC 8949 §4.2.1), written and read without a tree in between, because
//! every input reads and writes about ten of them. Only what the records need: integers, texts, byte strings, flags,
//! null, arrays, and maps with text keys (written from a `BTreeMap`, re-sorted by encoded key).

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use tally_evidence::Cursor;
use tally_evidence::cbor::{write_head, write_text};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// Something kept under one key of the state.
pub(crate) trait Record: Sized {
    fn write(&self, to: &mut Writer);
    fn read(from: &mut Reader<'_>) -> Option<Self>;

    /// What most of them need at most, in bytes.
    const BYTES_USUAL: usize = 64;

    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(Self::BYTES_USUAL));
        self.write(&mut writer);
        writer.0
    }

    /// `None` when the bytes are no such record or something follows it.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let record = Self::read(&mut reader)?;
        reader.is_over().then_some(record)
    }
}

/// Appends CBOR items.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    fn head(&mut self, major: u8, number: u64) -> &mut Self {
        write_head(major, number, &mut self.0);
        self
    }

    pub(crate) fn uint(&mut self, number: u64) -> &mut Self {
        self.head(UNSIGNED, number)
    }

    pub(crate) fn int(&mut self, number: i64) -> &mut Self {
        match u64::try_from(number) {
            Ok(number) => self.head(UNSIGNED, number),
            Err(_) => self.head(NEGATIVE, number.unsigned_abs() - 1),
        }
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        write_text(text, &mut self.0);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64).0.extend(bytes);
        self
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.0.push(if flag { TRUE } else { FALSE });
        self
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.0.push(NULL);
        self
    }

    pub(crate) fn array(&mut self, length: usize) -> &mut Self {
        self.head(ARRAY, length as u64)
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, texts: &[T]) -> &mut Self {
        self.array(texts.len());
        for text in texts {
            self.text(text.as_ref());
        }
        self
    }

    pub(crate) fn text_or_null(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Shorter keys come first: that is the order of their encoded bytes.
    pub(crate) fn map<V>(&mut self, map: &BTreeMap<String, V>, mut value: impl FnMut(&mut Self, &V)) -> &mut Self {
        let mut pairs: Vec<_> = map.iter().collect();
        pairs.sort_by_key(|(key, _)| key.len());
        self.head(MAP, pairs.len() as u64);
        for (key, item) in pairs {
            self.text(key);
            value(self, item);
        }
        self
    }
}

/// Takes CBOR items off the front; `None` for anything unexpected. What records need beyond a [`Cursor`].
pub(crate) struct Reader<'a>(Cursor<'a>);

impl<'a> Deref for Reader<'a> {
    type Target = Cursor<'a>;
    fn deref(&self) -> &Cursor<'a> {
        &self.0
    }
}

impl<'a> DerefMut for Reader<'a> {
    fn deref_mut(&mut self) -> &mut Cursor<'a> {
        &mut self.0
    }
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(Cursor(bytes))
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.0.end().is_some()
    }

    fn first(&self) -> Option<u8> {
        self.0.0.first().copied()
    }

    /// The next byte, if it is one of these simple values; gives which.
    fn simple(&mut self, values: &[u8]) -> Option<usize> {
        let found = values.iter().position(|value| Some(*value) == self.first())?;
        self.0.0 = &self.0.0[1..];
        Some(found)
    }

    pub(crate) fn peek_major(&self) -> Option<u8> {
        self.first().map(|first| first >> 5)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.simple(&[FALSE, TRUE]).map(|place| place == 1)
    }

    /// The length of an array that may have grown a last item since it was first written.
    pub(crate) fn array_of_or_more(&mut self, length: u64) -> Option<bool> {
        self.array_of_between(length, length + 1).map(|found| found > length)
    }

    /// The same of one that may have grown several, one after the other.
    pub(crate) fn array_of_between(&mut self, length: u64, length_max: u64) -> Option<u64> {
        self.array().filter(|found| (length..=length_max).contains(found))
    }

    /// Whether an array comes next.
    pub(crate) fn is_array(&self) -> bool {
        self.peek_major() == Some(ARRAY)
    }

    /// `Some(None)` for null.
    pub(crate) fn or_null<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.simple(&[NULL]).is_some() { Some(None) } else { read(self).map(Some) }
    }

    /// The length of an array that must have this many items.
    pub(crate) fn array_of(&mut self, length: u64) -> Option<()> {
        (self.array()? == length).then_some(())
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        let length = self.array()?;
        (0..length).map(|_| self.text().map(str::to_owned)).collect()
    }

    pub(crate) fn map<V>(&mut self, mut value: impl FnMut(&mut Self) -> Option<V>) -> Option<BTreeMap<String, V>> {
        let length = self.0.map()?;
        (0..length).map(|_| Some((self.text()?.to_owned(), value(self)?))).collect()
    }
}

/// Major types that [`Reader::peek_major`] gives.
pub(crate) mod major {
    pub(crate) const TEXT: u8 = super::TEXT;
    pub(crate) const ARRAY: u8 = super::ARRAY;
    pub(crate) const SIMPLE: u8 = 7;
}

impl Record for u64 {
    fn write(&self, to: &mut Writer) {
        to.uint(*self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.uint()
    }
}

impl Record for String {
    fn write(&self, to: &mut Writer) {
        to.text(self);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.text().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_evidence::cbor::{self, Cbor};

    struct Mixed(i64, String, Vec<u8>, bool, BTreeMap<String, u64>);

    impl Record for Mixed {
        fn write(&self, to: &mut Writer) {
            to.array(6).int(self.0).text(&self.1).bytes(&self.2).flag(self.3).null();
            to.map(&self.4, |to, number| {
                to.uint(*number);
            });
        }

        fn read(from: &mut Reader<'_>) -> Option<Self> {
            from.array_of(6)?;
            let (number, text, bytes) = (from.int()?, from.text()?.to_owned(), from.bytes()?.to_vec());
            let flag = from.flag()?;
            from.or_null(|from| from.text())?;
            Some(Self(number, text, bytes, flag, from.map(|from| from.uint())?))
        }
    }

    proptest! {
        /// What we write is what the strict decoder of the evidence formats accepts, and reads back the same.
        #[test]
        fn values_are_deterministic_cbor(
            number in any::<i64>(), string in ".{0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..300),
            flag in any::<bool>(), map in proptest::collection::btree_map("[a-z]{0,30}", any::<u64>(), 0..8),
        ) {
            let written = Mixed(number, string.clone(), bytes.clone(), flag, map.clone()).to_bytes();
            let same = cbor::map(map.iter().map(|(key, number)| (key.clone(), cbor::int(*number))));
            let tree = Cbor::Array(vec![
                cbor::int(number), cbor::text(string), cbor::bytes(bytes), Cbor::Bool(flag), Cbor::Null, same,
            ]);
            prop_assert_eq!(&written, &cbor::encode(&tree));
            let again = Mixed::from_bytes(&written).unwrap();
            prop_assert_eq!((again.0, again.4), (number, map));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Mixed::from_bytes(&bytes);
        }
    }
}
