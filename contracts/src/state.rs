//! The state as the kernel sees it: bytes under byte keys, read through a trait, written into an overlay.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

/// Reads the state.
pub trait StateRead {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// At most `limit` pairs whose key begins with `prefix`, in key order.
    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// What a write leaves under its key: a value, or nothing.
type Written = Option<Vec<u8>>;

/// A key with its value before and now.
pub(crate) type Touched<'a> = (&'a [u8], Written, Option<&'a [u8]>);

/// Keys with what was written under them.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Finished writes over a base, for reading: the state behind a block that the base does not have yet.
pub struct Layer<'a> {
    base: &'a dyn StateRead,
    changes: &'a Changes,
}

impl<'a> Layer<'a> {
    /// `changes` over `base`.
    #[must_use]
    pub const fn new(base: &'a dyn StateRead, changes: &'a Changes) -> Self {
        Self { base, changes }
    }
}

impl StateRead for Layer<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.changes.get(key) {
            Some(value) => value.clone(),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let written = self.changes.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(prefix));
        // A written key stands in for the base's pair; only a deleted one leaves a hole to fill from the base.
        let deleted = written.clone().filter(|(_, value)| value.is_none()).count();
        let base = self.base.scan(prefix, limit.saturating_add(deleted)).into_iter();
        let mut merged: BTreeMap<_, _> = base.filter(|(key, _)| !self.changes.contains_key(key)).collect();
        let kept = written.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        merged.extend(kept.take(limit));
        merged.into_iter().take(limit).collect()
    }
}

/// Writes over a base that is not touched; reads see both.
///
/// Every input reads some twenty keys and writes ten, but asks for their order hardly ever: so the writes lie in a hash map,
/// and keys of one kind (first byte) are put in order when that kind is first scanned.
pub struct Overlay<'a> {
    base: &'a dyn StateRead,
    written: HashMap<Vec<u8>, Written>,
    /// The written keys of each kind that was scanned.
    ordered: RefCell<BTreeMap<u8, BTreeSet<Vec<u8>>>>,
    /// What each write since the last savepoint replaced, oldest first.
    undo: Vec<(Vec<u8>, Option<Written>)>,
}

impl<'a> Overlay<'a> {
    /// Nothing written yet.
    #[must_use]
    pub fn new(base: &'a dyn StateRead) -> Self {
        Self { base, written: HashMap::new(), ordered: RefCell::default(), undo: Vec::new() }
    }

    /// The same with room for so many written keys: a block of thousands would otherwise move them time and again.
    #[must_use]
    pub fn with_room(base: &'a dyn StateRead, keys: usize) -> Self {
        Self { written: HashMap::with_capacity(keys), ..Self::new(base) }
    }

    /// All writes: `None` means deleted.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        self.written.into_iter().collect()
    }

    /// All writes so far.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.written.clone().into_iter().collect()
    }

    /// Writes `value` under `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    /// Deletes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn write(&mut self, key: Vec<u8>, value: Written) {
        let before = self.written.insert(key.clone(), value);
        if before.is_none() {
            self.keep_order(&key, BTreeSet::insert);
        }
        self.undo.push((key, before));
    }

    fn keep_order(&mut self, key: &[u8], change: fn(&mut BTreeSet<Vec<u8>>, Vec<u8>) -> bool) {
        let ordered = self.ordered.get_mut();
        if let Some(keys) = key.first().and_then(|kind| ordered.get_mut(kind)) {
            change(keys, key.to_vec());
        }
    }

    /// From here on [`Overlay::roll_back`] takes writes back.
    pub fn savepoint(&mut self) {
        self.undo.clear();
    }

    /// Takes back every write since the last savepoint.
    pub fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(value) => drop(self.written.insert(key, value)),
                None => {
                    self.written.remove(&key);
                    self.keep_order(&key, |keys, key| keys.remove(&key));
                }
            }
        }
    }

    /// Keys beginning with `prefix` written since the last savepoint, each with its value before and now.
    pub(crate) fn touched(&self, prefix: &[u8]) -> Vec<Touched<'_>> {
        let mut seen = BTreeSet::new();
        let mut touched = Vec::new();
        for (key, before) in self.undo.iter().filter(|(key, _)| key.starts_with(prefix)) {
            // Of several writes the oldest knows what was there before.
            if seen.insert(key.as_slice()) {
                let before = before.clone().unwrap_or_else(|| self.base.get(key));
                touched.push((key.as_slice(), before, self.written.get(key).and_then(Option::as_deref)));
            }
        }
        touched
    }

    /// The writes under a prefix, in order; `None` when there are none.
    fn written_under(&self, prefix: &[u8]) -> Option<Changes> {
        let Some(kind) = prefix.first().copied() else { return Some(self.changes()) };
        let mut ordered = self.ordered.borrow_mut();
        let keys = ordered
            .entry(kind)
            .or_insert_with(|| self.written.keys().filter(|key| key.first() == Some(&kind)).cloned().collect());
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let keys = keys.range::<[u8], _>(from).take_while(|key| key.starts_with(prefix));
        let changes: Changes = keys.filter_map(|key| Some((key.clone(), self.written.get(key)?.clone()))).collect();
        (!changes.is_empty()).then_some(changes)
    }
}

impl StateRead for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.written.get(key) {
            Some(value) => value.clone(),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        match self.written_under(prefix) {
            Some(changes) => Layer::new(self.base, &changes).scan(prefix, limit),
            None => self.base.scan(prefix, limit),
        }
    }
}

impl StateRead for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        BTreeMap::get(self, key).cloned()
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = self.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    #[derive(Debug, Clone)]
    enum Act {
        Write(Vec<u8>, Option<u8>),
        Savepoint,
        RollBack,
        Scan(Vec<u8>, usize),
    }

    fn key(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0u8..3, length)
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => (key(1..4), proptest::option::of(any::<u8>())).prop_map(|(key, value)| Act::Write(key, value)),
            1 => Just(Act::Savepoint),
            1 => Just(Act::RollBack),
            4 => (key(0..3), 0usize..6).prop_map(|(prefix, limit)| Act::Scan(prefix, limit)),
        ]
    }

    fn write(map: &mut Map, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => drop(map.insert(key.to_vec(), value)),
            None => drop(map.remove(key)),
        }
    }

    proptest! {
        #[test]
        fn an_overlay_is_the_map_it_would_become(
            base in proptest::collection::btree_map(key(1..4), proptest::collection::vec(any::<u8>(), 1..2), 0..20),
            acts in proptest::collection::vec(act(), 0..60),
        ) {
            let mut overlay = Overlay::new(&base);
            let (mut now, mut saved) = (base.clone(), base.clone());
            for act in acts {
                match act {
                    Act::Write(key, value) => {
                        let value = value.map(|value| vec![value]);
                        write(&mut now, &key, value.clone());
                        overlay.write(key, value);
                    }
                    Act::Savepoint => {
                        overlay.savepoint();
                        saved.clone_from(&now);
                    }
                    Act::RollBack => {
                        overlay.roll_back();
                        now.clone_from(&saved);
                    }
                    Act::Scan(prefix, limit) => {
                        prop_assert_eq!(overlay.scan(&prefix, limit), now.scan(&prefix, limit));
                    }
                }
            }
            for key in now.keys().chain(base.keys()) {
                prop_assert_eq!(overlay.get(key), StateRead::get(&now, key));
            }
            let changes = overlay.into_changes();
            prop_assert_eq!(Layer::new(&base, &changes).scan(b"", 1_000), now.scan(b"", 1_000));
            let mut applied = base.clone();
            changes.into_iter().for_each(|(key, value)| write(&mut applied, &key, value));
            prop_assert_eq!(applied, now);
        }
    }
}
