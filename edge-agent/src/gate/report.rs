//! What the gate tells the ledger: the result of a permit, and attempts it turned away, each a sealed call of `access`.

use super::hands::Done;
use super::order::Order;
use super::refusal::Refusal;
use crate::seal::Sealer;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tally_evidence::SealFault;
use tally_evidence::cbor::{Cbor, from_value, int, text};
use tally_evidence::{CallBody, Permit, Right, StatementKind, sign_with};
use tally_model::{ActionName, ContractName, Timestamp, Value};

/// The same reason about the same permit is recorded once in this time; what came meanwhile is summed up.
const ATTEMPT_EVERY: Duration = Duration::from_secs(60);
/// Different attempts remembered at a time; more are only counted.
const ATTEMPTS_MAX: usize = 200;
/// Longest reason a contract takes, in bytes.
const REASON_BYTES_MAX: usize = 512;

/// What became of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The device took it.
    Done,
    /// Nothing was done.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl How {
    /// The word in the call.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// The use of a permit, as people and the ledger are told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Which permit.
    pub permit: u64,
    /// Whose command it was, when SCADA sent one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// On which device.
    pub device: String,
    /// On which point.
    pub point: String,
    /// Read, write or call.
    pub right: &'static str,
    /// What was to be written.
    pub value: Option<Value>,
    /// What became of it.
    pub how: How,
    /// Why, when it is not simply done.
    pub code: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// What was read, or read back.
    pub found: Option<Value>,
    /// When, by the agent's clock.
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
}

fn as_text<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

impl Report {
    fn new(permit: &Permit, at: Timestamp, how: How) -> Self {
        Self {
            permit: permit.id,
            sender: permit.sender.clone(),
            device: permit.device.to_string(),
            point: permit.point.to_string(),
            right: permit.right.word(),
            value: permit.value.clone(),
            how,
            code: None,
            reason: None,
            found: None,
            at,
        }
    }

    pub(super) fn of(permit: &Permit, at: Timestamp, order: &Order, done: Done) -> Self {
        let said = |how, code: &str, reason: String, found| Self {
            code: Some(code.to_owned()),
            reason: Some(reason),
            found,
            ..Self::new(permit, at, how)
        };
        match done {
            Done::Taken(Ok(Some(found))) => match &order.value {
                Some(wanted) if order.right == Right::Write && !is_same(wanted, &found) => {
                    let reason = format!("{wanted} was written, and reads back as {found}");
                    said(How::Done, "reads-back-differently", reason, Some(found))
                }
                _ => Self { found: Some(found), ..Self::new(permit, at, How::Done) },
            },
            Done::Taken(Ok(None)) => Self::new(permit, at, How::Done),
            Done::Taken(Err(reason)) => {
                let reason = format!("the device took it, and cannot be read back: {reason}");
                said(How::Done, "not-read-back", reason, None)
            }
            Done::Unheard(reason) => {
                let reason = format!("it was sent, and the device did not say that it took it: {reason}");
                said(How::Unknown, "not-read-back", reason, None)
            }
            Done::Left(code, reason) => said(How::Refused, code, reason, None),
            Done::Unknown(reason, found) => {
                let reason = format!("it was sent, and nobody knows whether it was done: {reason}");
                said(How::Unknown, "no-answer", reason, found)
            }
        }
    }

    pub(super) fn refused(permit: &Permit, at: Timestamp, refusal: &Refusal) -> Self {
        let (code, reason) = (Some(refusal.code.to_owned()), Some(refusal.text.clone()));
        Self { code, reason, ..Self::new(permit, at, How::Refused) }
    }

    pub(super) fn after_a_crash(permit: &Permit, at: Timestamp, found: Option<Value>) -> Self {
        let reason = "the agent stopped between its intention and the answer; it was not tried again".to_owned();
        let (code, reason) = (Some("agent-stopped".to_owned()), Some(reason));
        Self { code, reason, found, ..Self::new(permit, at, How::Unknown) }
    }

    /// As `access/result`.
    pub(super) fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>, SealFault> {
        let mut args = vec![("permit", int(self.permit)), ("how", text(self.how.word()))];
        args.extend(self.code.as_ref().map(|code| ("code", text(code.clone()))));
        args.extend(self.reason.as_ref().map(|reason| ("reason", text(short(reason)))));
        args.extend(self.found.as_ref().map(|found| ("found", from_value(found))));
        seal(sealer, "result", args, self.at)
    }
}

/// A number that went through a single, a scale and back is the same when it is the same to six digits.
pub(super) fn is_same(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Bool(_) | Value::Text(_), _) | (_, Value::Bool(_) | Value::Text(_)) => wanted == found,
        _ => wanted
            .as_f64()
            .zip(found.as_f64())
            .is_some_and(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1e-6)),
    }
}

/// Cut to what a contract takes, at a whole character.
fn short(reason: &str) -> String {
    cut(reason, REASON_BYTES_MAX)
}

/// Cut to so many bytes, at a whole character.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn seal(sealer: &Sealer, action: &str, args: Vec<(&str, Cbor)>, at: Timestamp) -> Result<Vec<u8>, SealFault> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|_| SealFault::Away("the operating system gave no randomness".to_owned()))?;
    seal_with(sealer, action, args, at, nonce)
}

/// A call of `access`; the same arguments, time and nonce give the same statement.
pub(super) fn seal_with(
    sealer: &Sealer,
    action: &str,
    args: Vec<(&str, Cbor)>,
    at: Timestamp,
    nonce: [u8; 16],
) -> Result<Vec<u8>, SealFault> {
    let (Ok(contract), Ok(action)) = (ContractName::try_new("access"), ActionName::try_new(action)) else {
        return Ok(Vec::new());
    };
    let args = args.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
    let body = CallBody { contract, action, agreement: None, args, nonce, at };
    let (issuer, ledger) = (&sealer.agent, &sealer.ledger);
    sign_with(StatementKind::Call, &sealer.key, issuer, body.subject(), ledger, at.as_seconds(), body.encode())
}

/// Something turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    permit: Option<u64>,
    code: &'static str,
    reason: String,
    count: u64,
}

impl Attempt {
    /// As `access/attempt`.
    pub(super) fn seal(&self, sealer: &Sealer, at: Timestamp) -> Result<Vec<u8>, SealFault> {
        let mut args =
            vec![("code", text(self.code)), ("reason", text(short(&self.reason))), ("count", int(self.count))];
        args.extend(self.permit.map(|permit| ("permit", int(permit))));
        seal(sealer, "attempt", args, at)
    }
}

/// Attempts of the same sender, about the same permit, for the same reason, are told together.
type About = (Option<String>, Option<u64>, &'static str);

/// What was turned away of late.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// When it was recorded last, and what came since.
    known: HashMap<About, (Timestamp, Attempt)>,
}

impl Attempts {
    /// Notes an attempt; gives it back when it is to be recorded now.
    pub(super) fn note(
        &mut self,
        sender: Option<&str>,
        permit: Option<u64>,
        refusal: &Refusal,
        now: Timestamp,
    ) -> Option<Attempt> {
        let key = (sender.map(ToOwned::to_owned), permit, refusal.code);
        if let Some((_, attempt)) = self.known.get_mut(&key) {
            attempt.count += 1;
            return None;
        }
        if self.known.len() >= ATTEMPTS_MAX {
            return None;
        }
        let attempt = Attempt { permit, code: refusal.code, reason: refusal.text.clone(), count: 1 };
        self.known.insert(key, (now, Attempt { count: 0, ..attempt.clone() }));
        Some(attempt)
    }

    /// What is to be recorded now because its minute is over.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Attempt> {
        let mut due = Vec::new();
        self.known.retain(|_, (since, attempt)| {
            let is_over = now.since(*since) >= ATTEMPT_EVERY;
            if is_over && attempt.count > 0 {
                due.push(attempt.clone());
            }
            !is_over
        });
        due
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knocking_is_summed_up() {
        let mut attempts = Attempts::default();
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let forged = Refusal::new("forged", "no".into());
        assert_eq!(attempts.note(None, Some(1), &forged, at(0)).map(|attempt| attempt.count), Some(1));
        for _ in 0..500 {
            assert_eq!(attempts.note(None, Some(1), &forged, at(1)), None);
        }
        assert!(attempts.due(at(59)).is_empty());
        assert_eq!(attempts.due(at(60))[0].count, 500);
        assert!(attempts.due(at(200)).is_empty() && attempts.known.is_empty());
        let recorded = (0..1_000).filter(|id| attempts.note(None, Some(*id), &forged, at(300)).is_some()).count();
        assert_eq!(recorded, ATTEMPTS_MAX, "however many numbers are tried");
    }

    #[test]
    fn read_back_is_the_same_to_six_digits() {
        assert!(is_same(&Value::Integer(42), &Value::Float(42.0)));
        assert!(is_same(&Value::Float(41.7), &Value::Float(f64::from(41.7_f32))));
        assert!(!is_same(&Value::Float(41.7), &Value::Float(41.8)));
        assert!(!is_same(&Value::Bool(true), &Value::Integer(1)));
        assert!(is_same(&Value::Text("on".into()), &Value::Text("on".into())));
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        assert_eq!(short(&"ü".repeat(400)).len(), 512);
        assert_eq!(short(&format!("x{}", "ü".repeat(400))).len(), 511);
    }
}
