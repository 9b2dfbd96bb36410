//! What several said of one thing, while the contract waits for enough of them: `attest:` of a contract, k of n.

use crate::Origin;
use crate::codec::{Reader, Record, Writer};
use tally_evidence::cbor::{self, Cbor};
use tally_model::{AgreementId, DeviceId, EvidenceQuality, Grade, PartyId, Timestamp, TriggerId};

/// A round of attesting: from the first word on until its term runs out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attestation {
    /// `mo.attest-3`; its term runs under it.
    pub id: AgreementId,
    /// Key under which it is found.
    pub running: Vec<u8>,
    /// Whom the agreement is about.
    pub device: DeviceId,
    pub due: Timestamp,
    /// Devices whose words made it fire, once it has.
    pub agreed: Option<Vec<String>>,
    /// One word a device, in order of device.
    pub votes: Vec<Vote>,
}

/// The word of one device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vote {
    pub device: DeviceId,
    pub agent: PartyId,
    pub firm: Option<PartyId>,
    pub origin: Origin,
    /// Rule time, by the agent's clock.
    pub at: Timestamp,
    pub trigger: TriggerId,
    pub grade: Grade,
    /// `None`: not checked.
    pub quality: Option<EvidenceQuality>,
    /// The arguments as the trigger gave them, a CBOR map: measured numbers are floats, which no field holds.
    pub with: Vec<u8>,
}

impl Vote {
    /// An argument as given.
    pub(crate) fn arguments(&self) -> Vec<(String, Cbor)> {
        let Ok(Cbor::Map(pairs)) = cbor::decode(&self.with) else { return Vec::new() };
        pairs.into_iter().filter_map(|(name, value)| Some((name.into_text().ok()?, value))).collect()
    }
}

impl Record for Attestation {
    const BYTES_USUAL: usize = 512;

    fn write(&self, to: &mut Writer) {
        to.array(6).text(self.id.as_str()).bytes(&self.running).text(self.device.as_str());
        to.int(self.due.as_micros());
        match &self.agreed {
            Some(devices) => to.texts(devices),
            None => to.null(),
        };
        to.array(self.votes.len());
        self.votes.iter().for_each(|vote| vote.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(6)?;
        Some(Self {
            id: from.parse()?,
            running: from.bytes()?.to_vec(),
            device: from.parse()?,
            due: Timestamp::from_micros(from.int()?),
            agreed: from.or_null(Reader::texts)?,
            votes: {
                let count = from.array()?;
                (0..count).map(|_| Vote::read(from)).collect::<Option<_>>()?
            },
        })
    }
}

impl Record for Vote {
    fn write(&self, to: &mut Writer) {
        to.array(9).text(self.device.as_str()).text(self.agent.as_str());
        to.text_or_null(self.firm.as_ref().map(PartyId::as_str));
        self.origin.write(to);
        to.int(self.at.as_micros()).text(self.trigger.as_str()).text(self.grade.word());
        to.text_or_null(self.quality.map(EvidenceQuality::word)).bytes(&self.with);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.array_of(9)?;
        Some(Self {
            device: from.parse()?,
            agent: from.parse()?,
            firm: from.or_null(|from| from.parse())?,
            origin: Origin::read(from)?,
            at: Timestamp::from_micros(from.int()?),
            trigger: from.parse()?,
            grade: from.parse()?,
            quality: from.or_null(|from| EvidenceQuality::from_word(from.text()?))?,
            with: from.bytes()?.to_vec(),
        })
    }
}
