//! A device as a connector needs it: checked, complete, without mapping-file positions.

use crate::{Address, DeviceId, Endpoint, PointId, Unit, ValueKind};
use std::fmt;
use std::time::Duration;

/// How the bytes of a value lie in registers: A is the most significant byte of the value.
///
/// For 64-bit values the same letter pattern continues (`ABCD` = `ABCDEFGH`, `CDAB` = `GHEFCDAB`,
/// `BADC` = `BADCFEHG`, `DCBA` = `HGFEDCBA`). 16-bit values know only the byte swap (`BADC`, `DCBA`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum ByteOrder {
    /// Big-endian words, big-endian bytes: what the Modbus specification says (V1.1b3 §4.2).
    #[default]
    Abcd,
    /// Low word first.
    Cdab,
    /// Bytes swapped inside each word.
    Badc,
    /// Little-endian throughout.
    Dcba,
}

/// How raw data becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One bit.
    Bool,
    /// Unsigned 16 bits, one register.
    U16,
    /// Signed 16 bits, one register.
    I16,
    /// Unsigned 32 bits, two registers.
    U32,
    /// Signed 32 bits, two registers.
    I32,
    /// Unsigned 64 bits, four registers.
    U64,
    /// Signed 64 bits, four registers.
    I64,
    /// IEEE 754 single, two registers.
    F32,
    /// IEEE 754 double, four registers.
    F64,
    /// Text, two bytes a register, `length` bytes; trailing NULs and spaces are cut.
    Text,
    /// Whatever the protocol itself says (OPC UA variants, JSON values).
    Auto,
}

/// A password or key that never shows itself in logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself; call it only where it goes onto the wire.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Security policy of an OPC UA connection (OPC UA Part 7, security policy profiles).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub enum OpcUaPolicy {
    /// The strongest the server offers. Never weaker than Basic256Sha256 SignAndEncrypt unless nothing else is offered
    /// and the mapping says `none`.
    #[default]
    #[serde(rename = "best")]
    Best,
    /// No security: readable and forgeable by anyone on the wire.
    #[serde(rename = "none")]
    None,
    /// Basic256Sha256, signed only.
    #[serde(rename = "basic256sha256-sign")]
    Basic256Sha256Sign,
    /// Basic256Sha256, signed and encrypted.
    #[serde(rename = "basic256sha256-sign-encrypt")]
    Basic256Sha256SignAndEncrypt,
}

/// How to secure and log in to a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// OPC UA policy; ignored by other protocols.
    pub policy: OpcUaPolicy,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<Secret>,
}

/// One point of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct PointSpec {
    /// Its name.
    pub id: PointId,
    /// Where it lives.
    pub address: Address,
    /// How its bytes are read.
    pub encoding: Encoding,
    /// How its bytes lie.
    pub order: ByteOrder,
    /// Bytes of a [`Encoding::Text`]; 0 otherwise.
    pub length: u16,
    /// Factor applied to the raw number; 1 leaves integers integers.
    pub scale: f64,
    /// Added after `scale`.
    pub offset: f64,
    /// Unit after scaling.
    pub unit: Unit,
    /// Change below which a new value is not worth publishing, in `unit`; the vault keeps every reading.
    pub deadband: Option<f64>,
    /// Lowest and highest believable value in `unit`; outside is [`crate::NoValue::OutOfRange`].
    pub range: Option<(f64, f64)>,
}

impl PointSpec {
    /// What kind of value the point gives; `None` when only the device knows ([`Encoding::Auto`]).
    #[must_use]
    pub fn kind(&self) -> Option<ValueKind> {
        match self.encoding {
            Encoding::Auto => None,
            Encoding::Bool => Some(ValueKind::Bool),
            Encoding::Text => Some(ValueKind::Text),
            Encoding::F32 | Encoding::F64 => Some(ValueKind::Float),
            _ if self.is_scaled() => Some(ValueKind::Float),
            _ => Some(ValueKind::Integer),
        }
    }

    /// Whether `scale` or `offset` change the raw number; scaled numbers are always floats.
    #[must_use]
    pub fn is_scaled(&self) -> bool {
        !(is_exactly(self.scale, 1.0) && is_exactly(self.offset, 0.0))
    }

    /// Registers the point occupies on a Modbus device (0 for other protocols' [`Encoding::Auto`]).
    #[must_use]
    pub fn registers(&self) -> u16 {
        match self.encoding {
            Encoding::Bool | Encoding::U16 | Encoding::I16 => 1,
            Encoding::U32 | Encoding::I32 | Encoding::F32 => 2,
            Encoding::U64 | Encoding::I64 | Encoding::F64 => 4,
            Encoding::Text => self.length.div_ceil(2),
            Encoding::Auto => 0,
        }
    }
}

#[allow(clippy::float_cmp)] // "left at its default" is exact by intent
fn is_exactly(a: f64, b: f64) -> bool {
    a == b
}

/// One device with its points.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// Its name.
    pub id: DeviceId,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// How it is secured.
    pub security: Security,
    /// Sampling period.
    pub every: Duration,
    /// How long an answer may take before it counts as [`crate::NoValue::Timeout`].
    pub timeout: Duration,
    /// Most registers asked for in one Modbus request (1–125, Modbus V1.1b3 §6.3).
    pub registers_per_request_max: u16,
    /// Unused registers that may be read along to save a request.
    pub gap_max: u16,
    /// Its points, in file order, ids unique.
    pub points: Vec<PointSpec>,
}
