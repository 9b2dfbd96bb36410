//! What the row of an entry says, out of the statement's own bytes.

use crate::database::Value;
use tally_evidence::cbor::Cbor;
use tally_evidence::{AnchorBody, BatchEnvelope, CallBody, PartyRecord, SignedStatement, StatementKind, TriggerBody};
use tally_model::{DeviceId, Priority};

/// A statement as far as the tables show it. `None` where it says nothing of the kind, or where its bytes are no longer kept.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub kind: &'static str,
    pub signer: Option<String>,
    pub device: Option<String>,
    pub contract: Option<String>,
    pub action: Option<String>,
    /// The agreement a call names.
    pub agreement: Option<String>,
    /// Name of a trigger.
    pub name: Option<String>,
    pub transition: Option<&'static str>,
    pub priority: Option<&'static str>,
    /// Of the agent's triggers, or of the device's anchors.
    pub number: Option<u64>,
    /// First and last reading behind it.
    pub readings: Option<(u64, u64)>,
    /// When it was made, by the signer's clock.
    pub at: Option<i64>,
    /// What a call of the registry registers.
    pub parties: Vec<PartyRecord>,
}

impl Said {
    /// Reads a statement that the ledger has admitted: what it says itself, then, of a batch, what each of its triggers says. What
    /// this program does not understand is left out, never guessed.
    pub fn read(bytes: Option<&[u8]>) -> Vec<Self> {
        let named = |kind| vec![Self { kind, ..Self::default() }];
        let Some(bytes) = bytes else { return named("pruned") };
        let Ok(statement) = BatchEnvelope::statement_in(bytes) else { return named("unknown") };
        let Ok(statement) = SignedStatement::parse(statement) else { return named("unknown") };
        let payload = &statement.payload;
        let said = match statement.kind {
            StatementKind::Trigger => TriggerBody::decode(payload).ok().map(|body| vec![Self::trigger(body)]),
            StatementKind::Call => CallBody::decode(payload).ok().map(|body| vec![Self::call(body)]),
            StatementKind::Anchor => AnchorBody::decode(payload).ok().map(|body| vec![Self::anchor(body)]),
            StatementKind::Batch => Self::batch(bytes, &statement),
        };
        let mut said = said.unwrap_or_else(|| named("unknown"));
        said.iter_mut().for_each(|said| said.signer = Some(statement.issuer.as_str().to_owned()));
        said
    }

    fn batch(bytes: &[u8], statement: &SignedStatement) -> Option<Vec<Self>> {
        let (body, triggers) = BatchEnvelope::split(bytes).ok()?.open(statement).ok()?;
        let batch = Self { kind: "batch", number: Some(body.first), ..Self::default() };
        Some(std::iter::once(batch).chain(triggers.into_iter().map(Self::trigger)).collect())
    }

    fn trigger(body: TriggerBody) -> Self {
        let call = body.call.as_ref();
        Self {
            kind: "trigger",
            device: Some(body.device.to_string()),
            contract: call.map(|call| call.contract.to_string()),
            action: call.map(|call| call.action.to_string()),
            name: Some(body.trigger.to_string()),
            transition: Some(body.transition.word()),
            priority: Some(word(body.priority)),
            number: Some(body.number),
            readings: Some((body.readings.first, body.readings.last)),
            at: Some(body.at.as_micros()),
            ..Self::default()
        }
    }

    fn call(body: CallBody) -> Self {
        // Anyone may write anything there: only what can be the id of a device is looked for later.
        let device = body.args.get("device").and_then(|device| DeviceId::try_new(device.as_text()?).ok());
        Self {
            kind: "call",
            device: device.map(|device| device.to_string()),
            contract: Some(body.contract.to_string()),
            action: Some(body.action.to_string()),
            agreement: body.agreement.as_ref().map(ToString::to_string),
            at: Some(body.at.as_micros()),
            parties: if body.contract.as_str() == "registry" { parties(body) } else { Vec::new() },
            ..Self::default()
        }
    }

    fn anchor(body: AnchorBody) -> Self {
        Self {
            kind: "anchor",
            device: Some(body.device.to_string()),
            number: Some(body.number),
            readings: Some((body.first, body.last)),
            at: Some(body.received.1.as_micros()),
            ..Self::default()
        }
    }

    /// The columns of `entries` from `kind` to `refusal`; `agreement` is the one it came to concern.
    pub fn columns(&self, statement: &str, agreement: Option<&str>, refusal: u16) -> [Value; 15] {
        let number = |number: Option<u64>| number.map_or(Value::Null, Value::count);
        [
            Value::text(self.kind),
            Value::text(statement),
            Value::text_or_null(self.signer.as_deref()),
            Value::text_or_null(self.device.as_deref()),
            Value::text_or_null(self.contract.as_deref()),
            Value::text_or_null(self.action.as_deref()),
            Value::text_or_null(agreement),
            Value::text_or_null(self.name.as_deref()),
            Value::text_or_null(self.transition),
            Value::text_or_null(self.priority),
            number(self.number),
            number(self.readings.map(|(first, _)| first)),
            number(self.readings.map(|(_, last)| last)),
            self.at.map_or(Value::Null, Value::Integer),
            Value::Integer(refusal.into()),
        ]
    }
}

/// The parties in a call of the registry: one, or those of the genesis.
fn parties(mut body: CallBody) -> Vec<PartyRecord> {
    let values = match (body.args.remove("parties"), body.args.remove("party")) {
        (Some(Cbor::Array(values)), _) => values,
        (_, Some(value)) => vec![value],
        _ => Vec::new(),
    };
    values.into_iter().filter_map(|value| PartyRecord::from_cbor(value).ok()).collect()
}

/// ISA-18.2 words, as in the statement.
const fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::Low => "low",
        Priority::Medium => "medium",
        Priority::High => "high",
        Priority::Critical => "critical",
    }
}
