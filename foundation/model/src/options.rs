//! What few points and few devices need: everything here has a default that fits most.

use crate::{Address, ModbusTable, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What few points need.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointOptions {
    /// A sampling period of its own, instead of the device's.
    pub every: Option<Duration>,
    /// Only these bits of a whole number.
    pub bits: Option<BitField>,
    /// Names of numbers (an enumeration): the value is the name; a number without a name is
    /// [`crate::NoValue::OutOfRange`].
    pub labels: Option<Arc<BTreeMap<i64, String>>>,
    /// Whether, and within which bounds, somebody with a permit may write it; `None`: nobody may.
    pub writable: Option<Writable>,
    /// MQTT: how the device is told a value, when the point is writable; a Sparkplug metric needs none.
    pub command: Option<Arc<MqttCommand>>,
    /// OPC UA: what a permit to call the point calls.
    pub method: Option<Arc<OpcUaMethod>>,
}

/// How an MQTT device is told a value; what it holds then is heard where the point is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttCommand {
    /// Where it listens.
    pub topic: String,
    /// What is published there, with [`MqttCommand::PLACE`] in the place of the value.
    pub payload: String,
}

impl MqttCommand {
    /// Stands for the value in a payload.
    pub const PLACE: &'static str = "{value}";
}

impl fmt::Display for MqttCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        if self.payload == Self::PLACE { Ok(()) } else { write!(f, " {}", self.payload) }
    }
}

/// A method of an OPC UA server.
#[derive(Debug, Clone, PartialEq)]
pub struct OpcUaMethod {
    /// The object whose method it is.
    pub object: Address,
    /// The method.
    pub node: Address,
    /// What it is called with, in this order.
    pub arguments: Vec<MethodArgument>,
}

impl fmt::Display for OpcUaMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.node)
    }
}

/// An argument of a method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodArgument {
    /// What people call it.
    pub name: String,
    /// What may be given.
    pub takes: ArgumentKind,
}

/// What an argument may be. The server's own type must hold it without loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ArgumentKind {
    /// A number from the first to the second, both included.
    Number(f64, f64),
    /// A flag.
    Flag,
    /// A text.
    Text,
}

impl ArgumentKind {
    /// Whether the value is one of these.
    #[must_use]
    pub fn takes(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Flag, value) => matches!(value, Value::Bool(_)),
            (Self::Text, value) => matches!(value, Value::Text(_)),
            (Self::Number(..), Value::Bool(_) | Value::Text(_)) => false,
            (Self::Number(low, high), value) => value.as_f64().is_some_and(|number| low <= number && number <= high),
        }
    }
}

impl fmt::Display for ArgumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(low, high) => write!(f, "a number from {low} to {high}"),
            Self::Flag => f.write_str("true or false"),
            Self::Text => f.write_str("a text"),
        }
    }
}

/// The people at the machine say that a point may be written. Who may is another matter: the ledger's permits say that.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Writable {
    /// Lowest and highest number that may be written, both included, in the point's unit; none for flags, texts and alarms.
    pub range: Option<(f64, f64)>,
}

impl Writable {
    /// Whether the value lies within the bounds; a flag or a text within none.
    #[must_use]
    pub fn takes(&self, value: &Value) -> bool {
        let number = if matches!(value, Value::Bool(_)) { None } else { value.as_f64() };
        self.range.is_none_or(|(low, high)| number.is_some_and(|number| low <= number && number <= high))
    }
}

/// Neighbouring bits of a whole number, numbered from 0, the least significant, after its bytes were put in order.
/// Of a signed number the field is signed too: its highest bit is the sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitField {
    /// Least significant bit.
    pub low: u8,
    /// Most significant bit, at least `low`.
    pub high: u8,
}

impl BitField {
    /// Reads `4-7`, or `4` for one bit; `None` when it is neither or reaches beyond bit 63.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (low <= high && high < 64).then_some(Self { low, high })
    }

    /// How many bits.
    #[must_use]
    pub const fn width(self) -> u8 {
        self.high.saturating_sub(self.low) + 1
    }
}

/// What Modbus devices differ in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModbusOptions {
    /// Least time between an answer and the next question to this device, for devices that dislike bursts.
    pub pause: Duration,
    /// Wait after connecting before the first question.
    pub pause_after_connect: Duration,
    /// A connection idle for longer is closed and opened anew before it is used, for devices that drop idle
    /// connections without a word; `None` trusts it.
    pub idle_max: Option<Duration>,
    /// How often a question is repeated when the device says it is busy (exceptions 05 and 06).
    pub busy_retries: u8,
    /// Most bits in one request; `None` is what the protocol allows (2,000, Modbus V1.1b3 §6.1).
    pub bits_per_request_max: Option<u16>,
    /// Addresses no request may touch, not even to save another request.
    pub forbidden: Vec<(ModbusTable, RangeInclusive<u16>)>,
    /// After a timeout on a line without transaction ids (RTU, ASCII): how long a late answer may still come. Nothing is
    /// asked meanwhile, and what comes is thrown away. `None` is the device's `timeout` once more.
    pub late_max: Option<Duration>,
    /// How often the device is asked what it calls itself (function 43/14, V1.1b3 §6.21), and after each connection that is new;
    /// `None`: never.
    pub identify: Option<Duration>,
}
