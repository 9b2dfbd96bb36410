//! Step 6: a decided firing becomes a signed statement.

use crate::bytes::{Put, Take};
use crate::watch::Decided;
use tally_evidence::{
    SignedStatement, SigningKey, StatementFault, StatementId, StatementKind, Transition, TriggerBody, TriggerCall,
    rule_digest, sign,
};
use tally_model::{ClockState, DeviceId, PartyId, Priority, Timestamp, TriggerId};

/// Format of a record: the first byte of everything the outbox keeps.
const SEALED: u8 = 1;

/// Who seals, and for which ledger.
#[derive(Debug, Clone)]
pub struct Sealer {
    /// The agent: `iss`.
    pub agent: PartyId,
    /// The ledger: `aud`.
    pub ledger: String,
    /// The agent's key.
    pub key: SigningKey,
}

/// A sealed trigger with what the agent must know of it without reading the statement again.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// Number among all triggers of the agent, which is also its record in the outbox.
    pub number: u64,
    /// Whose readings.
    pub device: DeviceId,
    /// Which trigger.
    pub trigger: TriggerId,
    /// Raised or cleared.
    pub transition: Transition,
    /// Its priority.
    pub priority: Priority,
    /// First reading behind it.
    pub first: u64,
    /// Reading that decided it.
    pub last: u64,
    /// Vault records that hold `first` (at or after the first of them) and `last`.
    pub places: (u64, u64),
    /// Rule time.
    pub at: Timestamp,
    /// Name of the statement.
    pub id: StatementId,
    /// The signed statement.
    pub statement: Vec<u8>,
}

impl Sealer {
    /// Seals, with how good the agent's clock is now. Deterministic: the same gives the same bytes.
    ///
    /// # Errors
    /// [`StatementFault`] when our own statement does not parse, which would be a fault of this program.
    pub fn seal(&self, number: u64, decided: Decided, clock: ClockState) -> Result<Sealed, StatementFault> {
        let Decided { rule, firing, claim, places } = decided;
        let source = rule.source();
        let transition = match firing.transition {
            tally_rules::Transition::Raised => Transition::Raised,
            tally_rules::Transition::Cleared => Transition::Cleared,
        };
        let call = source.call.as_ref().filter(|_| transition == Transition::Raised);
        let body = TriggerBody {
            trigger: source.id.clone(),
            device: source.device.clone(),
            rule: rule_digest(source),
            transition,
            priority: source.priority,
            at: firing.at,
            number,
            call: call.map(|call| TriggerCall {
                contract: call.contract.clone(),
                action: call.action.clone(),
                with: firing.with,
            }),
            readings: claim,
            clock: Some(clock),
        };
        let (kind, subject) = (StatementKind::Trigger, source.device.as_str());
        let issued_at = firing.at.as_seconds();
        let statement = sign(kind, &self.key, &self.agent, subject, &self.ledger, issued_at, body.encode());
        let id = SignedStatement::parse(&statement)?.id;
        Ok(Sealed {
            number,
            device: body.device,
            trigger: body.trigger,
            transition,
            priority: body.priority,
            first: body.readings.first,
            last: body.readings.last,
            places,
            at: body.at,
            id,
            statement,
        })
    }
}

impl Sealed {
    /// As a record: 1 u8, number u64, transition u8 (0 raised, 1 cleared), priority u8 (0 low … 3 critical), first u64,
    /// last u64, vault records 2 × u64, at i64 µs, statement id [32], device, trigger and statement with u32 lengths.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.statement.len() + 200);
        bytes.push(SEALED);
        bytes.put_u64(self.number);
        bytes.push(match self.transition {
            Transition::Raised => 0,
            Transition::Cleared => 1,
        });
        bytes.push(match self.priority {
            Priority::Low => 0,
            Priority::Medium => 1,
            Priority::High => 2,
            Priority::Critical => 3,
        });
        bytes.put_u64(self.first);
        bytes.put_u64(self.last);
        bytes.put_u64(self.places.0);
        bytes.put_u64(self.places.1);
        bytes.put_time(self.at);
        bytes.extend(self.id.0);
        bytes.put_bytes(self.device.as_str().as_bytes());
        bytes.put_bytes(self.trigger.as_str().as_bytes());
        bytes.put_bytes(&self.statement);
        bytes
    }

    /// `None` when the bytes are no such record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        if take.u8()? != SEALED {
            return None;
        }
        let sealed = Self {
            number: take.u64()?,
            transition: match take.u8()? {
                0 => Transition::Raised,
                1 => Transition::Cleared,
                _ => return None,
            },
            priority: match take.u8()? {
                0 => Priority::Low,
                1 => Priority::Medium,
                2 => Priority::High,
                3 => Priority::Critical,
                _ => return None,
            },
            first: take.u64()?,
            last: take.u64()?,
            places: (take.u64()?, take.u64()?),
            at: take.time()?,
            id: StatementId(take.exact()?),
            device: take.parse()?,
            trigger: take.parse()?,
            statement: take.bytes()?.to_vec(),
        };
        take.end()?;
        Some(sealed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sealed(number: u64, priority: Priority) -> Sealed {
        Sealed {
            number,
            device: DeviceId::try_new("press-01").unwrap(),
            trigger: TriggerId::try_new("bearing-worn").unwrap(),
            transition: Transition::Raised,
            priority,
            first: number * 10,
            last: number * 10 + 5,
            places: (number * 2, number * 2 + 1),
            at: Timestamp::from_micros(1_000_000 * i64::try_from(number).unwrap()),
            id: StatementId(tally_evidence::sha256(&number.to_le_bytes())),
            statement: vec![7; 600],
        }
    }

    #[test]
    fn records_round_trip() {
        for priority in [Priority::Low, Priority::Medium, Priority::High, Priority::Critical] {
            let mut sealed = sealed(3, priority);
            assert_eq!(Sealed::decode(&sealed.encode()), Some(sealed.clone()));
            sealed.transition = Transition::Cleared;
            assert_eq!(Sealed::decode(&sealed.encode()), Some(sealed));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Sealed::decode(&bytes);
            bytes.insert(0, SEALED);
            let _ = Sealed::decode(&bytes);
        }
    }
}
