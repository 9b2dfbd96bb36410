//! Where a statement or trigger stands on the ledger.

use crate::codec::{Reader, Record, Writer};
use serde::Serialize;

/// Which entry, and for a trigger that came in a batch its place there. Ordered as they were executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Origin {
    /// Index of the entry.
    pub entry: u64,
    /// Place in the batch, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
}

impl From<u64> for Origin {
    fn from(entry: u64) -> Self {
        Self { entry, item: None }
    }
}

/// A number; for a trigger of a batch an array of two.
impl Record for Origin {
    fn write(&self, to: &mut Writer) {
        match self.item {
            Some(item) => to.array(2).uint(self.entry).uint(u64::from(item)),
            None => to.uint(self.entry),
        };
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        if from.is_array() {
            from.array_of(2)?;
            return Some(Self { entry: from.uint()?, item: Some(u32::try_from(from.uint()?).ok()?) });
        }
        from.uint().map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_written_as_it_always_was() {
        for (item, bytes) in [(None, vec![0x11]), (Some(300), vec![0x82, 0x11, 0x19, 0x01, 0x2c])] {
            let origin = Origin { entry: 17, item };
            assert_eq!(origin.to_bytes(), bytes);
            assert_eq!(Origin::from_bytes(&bytes), Some(origin));
        }
        assert!(
            Origin { entry: 17, item: Some(3) } < Origin::from(18)
                && Origin::from(17) < Origin { entry: 17, item: Some(0) }
        );
    }
}
