//! The state as the kernel sees it: bytes under byte keys, read through a trait, written into an overlay.

use std::collections::{BTreeMap, BTreeSet};

/// Reads the state.
pub trait StateRead {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// At most `limit` pairs whose key begins with `prefix`, in key order.
    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// What a write leaves under its key: a value, or nothing.
type Written = Option<Vec<u8>>;

/// Writes over a base that is not touched; reads see both.
pub struct Overlay<'a> {
    base: &'a dyn StateRead,
    changes: BTreeMap<Vec<u8>, Written>,
    /// What each write since the last savepoint replaced, oldest first.
    undo: Vec<(Vec<u8>, Option<Written>)>,
}

impl<'a> Overlay<'a> {
    /// Nothing written yet.
    #[must_use]
    pub fn new(base: &'a dyn StateRead) -> Self {
        Self { base, changes: BTreeMap::new(), undo: Vec::new() }
    }

    /// All writes: `None` means deleted.
    #[must_use]
    pub fn into_changes(self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        self.changes
    }

    /// All writes so far.
    #[must_use]
    pub const fn changes(&self) -> &BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        &self.changes
    }

    /// Writes `value` under `key`.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    /// Deletes `key`.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.changes.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// From here on [`Overlay::roll_back`] takes writes back.
    pub fn savepoint(&mut self) {
        self.undo.clear();
    }

    /// Takes back every write since the last savepoint.
    pub fn roll_back(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(value) => self.changes.insert(key, value),
                None => self.changes.remove(&key),
            };
        }
    }

    /// Keys beginning with `prefix` written since the last savepoint, each with its value before and now.
    pub(crate) fn touched(&self, prefix: &[u8]) -> Vec<(&[u8], Written, Written)> {
        let mut seen = BTreeSet::new();
        let mut touched = Vec::new();
        for (key, before) in self.undo.iter().filter(|(key, _)| key.starts_with(prefix)) {
            // Of several writes the oldest knows what was there before.
            if seen.insert(key) {
                let before = before.clone().unwrap_or_else(|| self.base.get(key));
                touched.push((key.as_slice(), before, self.changes.get(key).cloned().flatten()));
            }
        }
        touched
    }
}

impl StateRead for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.changes.get(key) {
            Some(value) => value.clone(),
            None => self.base.get(key),
        }
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let written: Vec<_> =
            self.changes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)).collect();
        if written.is_empty() {
            return self.base.scan(prefix, limit);
        }
        // Each write can hide at most one pair of the base.
        let mut merged: BTreeMap<_, _> =
            self.base.scan(prefix, limit.saturating_add(written.len())).into_iter().collect();
        for (key, value) in written {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        merged.into_iter().take(limit).collect()
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
