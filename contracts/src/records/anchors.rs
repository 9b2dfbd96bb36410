//! How far the anchors of a device reach.

use crate::codec::{Reader, Record, Writer};
use tally_evidence::Hash;
use tally_model::Timestamp;

/// The last anchor of a device: what the next one must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastAnchor {
    pub number: u64,
    pub digest: Hash,
    /// Last reading covered.
    pub last: u64,
    /// Latest receive time covered by any anchor of the device.
    pub received: Timestamp,
    /// Anchors of the device so far, those of earlier vaults included.
    pub count: u64,
    pub entry: u64,
}

impl Record for LastAnchor {
    fn write(&self, to: &mut Writer) {
        to.array(6).uint(self.number).bytes(&self.digest).uint(self.last);
        to.int(self.received.as_micros()).uint(self.count).uint(self.entry);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(6)?;
        Some(Self {
            number: from.uint()?,
            digest: from.hash()?,
            last: from.uint()?,
            received: Timestamp::from_micros(from.int()?),
            count: from.uint()?,
            entry: from.uint()?,
        })
    }
}

/// Where an anchor of a device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AnchorPlace {
    pub entry: u64,
    /// Latest receive time covered by it or any before it.
    pub received: Timestamp,
    /// The entry that had registered the device with the agent of the anchor.
    pub registered: u64,
}

impl Record for AnchorPlace {
    fn write(&self, to: &mut Writer) {
        to.array(3).uint(self.entry).int(self.received.as_micros()).uint(self.registered);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { entry: from.uint()?, received: Timestamp::from_micros(from.int()?), registered: from.uint()? })
    }
}
