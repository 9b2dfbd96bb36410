//! What the state keeps about access. Permits and policies stand there in their evidence form.

use crate::codec::{Reader, Record, Writer};
use tally_model::{PartyId, Timestamp};

/// A policy with the entry that set it.
pub(super) struct PolicyRow {
    pub entry: u64,
    pub bytes: Vec<u8>,
}

impl Record for PolicyRow {
    fn write(&self, to: &mut Writer) {
        to.array(2).uint(self.entry).bytes(&self.bytes);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(2)?;
        Some(Self { entry: from.uint()?, bytes: from.bytes()?.to_vec() })
    }
}

/// A permit that can do nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Burnt {
    /// `done`, `refused`, `unknown`, `revoked` or `expired`.
    pub how: String,
    /// The entry that burnt it.
    pub entry: u64,
    /// Whether its agent said what became of it.
    pub is_reported: bool,
    /// What it was.
    pub permit: Vec<u8>,
}

impl Record for Burnt {
    fn write(&self, to: &mut Writer) {
        to.array(4).text(&self.how).uint(self.entry).flag(self.is_reported).bytes(&self.permit);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(4)?;
        Some(Self {
            how: from.text()?.to_owned(),
            entry: from.uint()?,
            is_reported: from.flag()?,
            permit: from.bytes()?.to_vec(),
        })
    }
}

/// Block times of the latest permits of a requester under a policy.
#[derive(Default)]
pub(super) struct Grants(pub Vec<Timestamp>);

impl Record for Grants {
    fn write(&self, to: &mut Writer) {
        to.array(self.0.len());
        for at in &self.0 {
            to.int(at.as_micros());
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let length = from.array()?;
        (0..length).map(|_| from.int().map(Timestamp::from_micros)).collect::<Option<_>>().map(Self)
    }
}

/// Why a device or agent is cut off.
pub(super) struct Quarantine {
    pub entry: u64,
    pub by: PartyId,
    pub reason: String,
}

impl Record for Quarantine {
    fn write(&self, to: &mut Writer) {
        to.array(3).uint(self.entry).text(self.by.as_str()).text(&self.reason);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(3)?;
        Some(Self { entry: from.uint()?, by: from.parse()?, reason: from.text()?.to_owned() })
    }
}
