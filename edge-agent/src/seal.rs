//! Step 6: a decided firing becomes a signed statement.

use crate::bytes::{Put, Take};
use crate::watch::Decided;
use std::time::Duration;
use tally_evidence::{
    BATCH_TRIGGERS_MAX, BatchBody, BatchFault, SealFault, SealingKey, SignedStatement, StatementFault, StatementId,
    StatementKind, StatementName, Transition, TriggerBody, TriggerCall, rule_digest, sign_with,
};
use tally_model::{ClockState, DeviceId, PartyId, Priority, Timestamp, TriggerId};

/// Format of a record: the first byte of everything the outbox keeps.
const SEALED: u8 = 1;
/// The same for a trigger that was sealed in a batch.
const BATCHED: u8 = 2;

/// How triggers are sealed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most triggers under one seal, at most [`BATCH_TRIGGERS_MAX`].
    pub triggers: u32,
    /// How long readings are gathered before their triggers are sealed.
    pub within: Duration,
}

/// Bytes of bodies under one seal: with what is around them well below what a node takes (`limits.body_bytes_max`, 1 MiB).
const BATCH_BYTES_MAX: usize = 768 << 10;

/// Who seals, and for which ledger.
#[derive(Debug, Clone)]
pub struct Sealer {
    /// The agent: `iss`.
    pub agent: PartyId,
    /// The ledger: `aud`.
    pub ledger: String,
    /// The agent's key.
    pub key: SealingKey,
}

/// Why something was not sealed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SealError {
    /// The key is away, or refuses: what is to be sealed waits.
    #[error(transparent)]
    Key(#[from] SealFault),
    /// Our own statement does not parse, which would be a fault of this program.
    #[error("our own statement does not parse: {0}; this is a fault of the program")]
    Ours(#[from] StatementFault),
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
    /// Id of the statement.
    pub id: StatementId,
    /// The signed statement: the trigger's own, or that of its batch.
    pub statement: Vec<u8>,
    /// When it was sealed in a batch: its place there, and its body.
    pub batched: Option<Batched>,
}

/// What a trigger of a batch has of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Batched {
    /// Its place in the batch, from 0.
    pub item: u32,
    /// Its body ([`TriggerBody::encode`]).
    pub body: Vec<u8>,
}

impl Sealer {
    /// Seals a prepared trigger as a statement of its own; when that does not work it stays prepared.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_alone(&self, prepared: &mut Sealed) -> Result<(), SealError> {
        let body = prepared.batched.as_ref().map(|batched| batched.body.clone()).unwrap_or_default();
        let (kind, subject, at) = (StatementKind::Trigger, prepared.device.as_str(), prepared.at.as_seconds());
        let statement = sign_with(kind, &self.key, &self.agent, subject, &self.ledger, at, body)?;
        prepared.id = SignedStatement::parse(&statement)?.id;
        prepared.statement = statement;
        prepared.batched = None;
        Ok(())
    }

    /// Seals prepared triggers in their order: with limits as many under one seal as they say, one alone as a statement of its own;
    /// without, each as its own. Where the key goes away, the rest stays prepared.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_all(&self, prepared: &mut [Sealed], batch: Option<BatchLimits>) -> Result<(), SealError> {
        let limits = batch.unwrap_or(BatchLimits { triggers: 1, within: Duration::ZERO });
        let mut rest = prepared;
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at_mut(batch_length(rest, limits));
            match batch {
                [one] => self.seal_alone(one)?,
                many => self.seal_together(many)?,
            }
            rest = behind;
        }
        Ok(())
    }

    fn seal_together(&self, batch: &mut [Sealed]) -> Result<(), SealError> {
        let bodies: Vec<_> = batch.iter().filter_map(|sealed| Some(&sealed.batched.as_ref()?.body)).collect();
        let first = batch.first().map_or(0, |first| first.number);
        // As many as the limits let in: never none, never too many.
        let sealed = BatchBody::over(first, &bodies).map_err(|_| StatementFault::Header("a batch of this size"))?;
        let at = batch.iter().map(|sealed| sealed.at.as_seconds()).max().unwrap_or_default();
        let agent = &self.agent;
        let kind = StatementKind::Batch;
        let statement = sign_with(kind, &self.key, agent, agent.as_str(), &self.ledger, at, sealed.encode())?;
        let id = SignedStatement::parse(&statement)?.id;
        for (item, sealed) in (0..).zip(batch) {
            sealed.id = id;
            sealed.statement.clone_from(&statement);
            if let Some(batched) = &mut sealed.batched {
                batched.item = item;
            }
        }
        Ok(())
    }

    /// All of a trigger but its seal.
    #[must_use]
    pub fn prepare(number: u64, decided: Decided, clock: ClockState) -> Sealed {
        let Decided { rule, firing, claim, places, quality, mapping, origins, grade } = decided;
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
            grade,
            mapping,
            origins,
            quality,
        };
        let batched = Some(Batched { item: 0, body: body.encode() });
        Sealed {
            number,
            device: body.device,
            trigger: body.trigger,
            transition,
            priority: body.priority,
            first: body.readings.first,
            last: body.readings.last,
            places,
            at: body.at,
            id: StatementId([0; 32]),
            statement: Vec::new(),
            batched,
        }
    }
}

/// How many of these go under the next seal: at least one.
fn batch_length(prepared: &[Sealed], limits: BatchLimits) -> usize {
    let mut bytes = 0;
    let fits = prepared.iter().take(limits.triggers.min(BATCH_TRIGGERS_MAX) as usize).take_while(|sealed| {
        bytes += sealed.batched.as_ref().map_or(0, |batched| batched.body.len());
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

impl Sealed {
    /// Whether it is sealed, and not prepared only.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        !self.statement.is_empty()
    }

    /// What names it on the ledger.
    #[must_use]
    pub fn name(&self) -> StatementName {
        StatementName { statement: self.id, item: self.batched.as_ref().map(|batched| batched.item) }
    }

    /// What it says.
    ///
    /// # Errors
    /// [`BatchFault`] when our own bytes do not parse, which would be a fault of this program.
    pub fn body(&self) -> Result<TriggerBody, BatchFault> {
        let read = |body: &[u8]| TriggerBody::decode(body).map_err(BatchFault::Payload);
        match &self.batched {
            Some(batched) => read(&batched.body),
            None => read(&SignedStatement::parse(&self.statement).map_err(BatchFault::Statement)?.payload),
        }
    }

    /// Bytes that it is counted for in the outbox: its record's; of a trigger of a batch without the seal that they share.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.encode_with(if self.batched.is_some() { &[] } else { &self.statement }).len()
    }

    /// As a record: 1 u8, number u64, transition u8 (0 raised, 1 cleared), priority u8 (0 low … 3 critical), first u64,
    /// last u64, vault records 2 × u64, at i64 µs, statement id [32], device, trigger and statement with u32 lengths. Of a trigger of a batch: 2 u8
    /// in front, and behind it its place in the batch u32, and its body with u32 length.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_with(&self.statement)
    }

    /// The record with this statement, which triggers of a batch share.
    #[must_use]
    pub fn encode_with(&self, statement: &[u8]) -> Vec<u8> {
        let body = self.batched.as_ref().map_or(0, |batched| batched.body.len());
        let mut bytes = Vec::with_capacity(statement.len() + body + 200);
        bytes.push(if self.batched.is_some() { BATCHED } else { SEALED });
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
        bytes.put_bytes(statement);
        if let Some(Batched { item, body }) = &self.batched {
            bytes.put_u32(*item);
            bytes.put_bytes(body);
        }
        bytes
    }

    /// `None` when the bytes are no such record.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let kind = take.u8()?;
        if ![SEALED, BATCHED].contains(&kind) {
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
            batched: match kind {
                BATCHED => Some(Batched { item: take.u32()?, body: take.bytes()?.to_vec() }),
                _ => None,
            },
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
            batched: None,
        }
    }

    /// Triggers from `first` on under one seal.
    pub(crate) fn batch(first: u64, count: u32) -> Vec<Sealed> {
        let id = StatementId(tally_evidence::sha256(&[&first.to_le_bytes()[..], b"batch"].concat()));
        let one = |item: u32| Sealed {
            id,
            statement: vec![8; 300],
            batched: Some(Batched { item, body: vec![9; 400] }),
            ..sealed(first + u64::from(item), Priority::Low)
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn records_round_trip() {
        for priority in [Priority::Low, Priority::Medium, Priority::High, Priority::Critical] {
            let mut sealed = sealed(3, priority);
            assert_eq!(Sealed::decode(&sealed.encode()), Some(sealed.clone()));
            sealed.transition = Transition::Cleared;
            assert_eq!(Sealed::decode(&sealed.encode()), Some(sealed.clone()));
            sealed.batched = Some(Batched { item: 7, body: vec![1; 30] });
            assert_eq!(Sealed::decode(&sealed.encode()), Some(sealed));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Sealed::decode(&bytes);
            for kind in [SEALED, BATCHED] {
                bytes.insert(0, kind);
                let _ = Sealed::decode(&bytes);
            }
        }
    }
}
