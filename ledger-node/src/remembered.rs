//! What was computed and never changes, as much of it as there is room for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values that are remembered; when they are too many, all are forgotten.
#[derive(Debug)]
pub(crate) struct Remembered<K, V> {
    most: usize,
    known: Mutex<HashMap<K, V>>,
}

impl<K: Eq + Hash, V: Copy> Remembered<K, V> {
    /// None yet, and never more than `most`.
    pub fn new(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().get(key).copied()
    }

    pub fn put(&self, key: K, value: V) {
        let mut known = self.lock();
        if known.len() >= self.most {
            known.clear();
        }
        known.insert(key, value);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
