//! A row of values of which a copy costs next to nothing: what is changed behind that is copied then, a chunk at a time.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// Values of a chunk: of hashes 8 KiB.
const CHUNK: usize = 256;

/// The row.
#[derive(Debug, Clone)]
pub struct Chunks<T>(Vec<Arc<Vec<T>>>);

impl<T: Copy> Chunks<T> {
    pub fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub fn get(&self, place: usize) -> Option<&T> {
        self.0.get(place / CHUNK)?.get(place % CHUNK)
    }

    pub fn push(&mut self, value: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(value),
            _ => self.0.push(Arc::new(vec![value])),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Copy> From<&[T]> for Chunks<T> {
    fn from(values: &[T]) -> Self {
        Self(values.chunks(CHUNK).map(|chunk| Arc::new(chunk.to_vec())).collect())
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        &self.0[place / CHUNK][place % CHUNK]
    }
}

impl<T: Copy> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.0[place / CHUNK])[place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is done to it, it is what a vector is, and its copies stay as they were.
        #[test]
        fn it_is_a_row_and_its_copies_stay(
            first in proptest::collection::vec(any::<u16>(), 0..3 * CHUNK),
            steps in proptest::collection::vec((any::<proptest::sample::Index>(), any::<Option<u16>>()), 0..600),
        ) {
            let (mut vector, mut row) = (first.clone(), Chunks::from(&first[..]));
            let mut copies = Vec::new();
            for (number, (place, value)) in steps.into_iter().enumerate() {
                match value {
                    Some(value) if !vector.is_empty() && number % 3 > 0 => {
                        let place = place.index(vector.len());
                        (vector[place], row[place]) = (value, value);
                    }
                    value => {
                        vector.push(value.unwrap_or(7));
                        row.push(value.unwrap_or(7));
                    }
                }
                if number % 100 == 0 {
                    copies.push((vector.clone(), row.clone()));
                }
            }
            copies.push((vector, row));
            for (vector, row) in copies {
                prop_assert_eq!(row.len(), vector.len());
                prop_assert_eq!(row.iter().copied().collect::<Vec<_>>(), vector.clone());
                prop_assert_eq!(row.get(vector.len()), None);
                prop_assert!((0..vector.len()).all(|place| row.get(place) == Some(&row[place])));
            }
        }
    }
}
