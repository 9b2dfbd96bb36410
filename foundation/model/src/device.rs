//! A device as a connector needs it: checked, complete, without mapping-file positions.

use crate::{
    Address, DeviceId, Endpoint, ModbusOptions, MqttOptions, OpcUaOptions, PointId, PointOptions, PointTemplate, Unit,
    ValueKind,
};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// How the bytes of a value lie in registers: A is the most significant byte of the value.
///
/// For 64-bit values the same letter pattern continues (`ABCD` = `ABCDEFGH`, `CDAB` = `GHEFCDAB`,
/// `BADC` = `BADCFEHG`, `DCBA` = `HGFEDCBA`); the eight-letter names are for 64 bits only. 16-bit values know only the
/// byte swap (`BADC`, `DCBA`).
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
    /// 64 bits: low word first inside each half, high half first.
    Cdabghef,
    /// 64 bits: little-endian inside each half, high half first.
    Dcbahgfe,
    /// 64 bits: low half first, each half big-endian.
    Efghabcd,
    /// 64 bits: low half first, bytes swapped inside each word.
    Fehgbadc,
}

impl ByteOrder {
    /// All orders, those for every width first.
    pub const ALL: [Self; 8] = [
        Self::Abcd,
        Self::Cdab,
        Self::Badc,
        Self::Dcba,
        Self::Cdabghef,
        Self::Dcbahgfe,
        Self::Efghabcd,
        Self::Fehgbadc,
    ];

    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
            Self::Cdabghef => "CDABGHEF",
            Self::Dcbahgfe => "DCBAHGFE",
            Self::Efghabcd => "EFGHABCD",
            Self::Fehgbadc => "FEHGBADC",
        }
    }

    /// Whether the order is one of 64-bit values only.
    #[must_use]
    pub const fn is_for_64_bits(self) -> bool {
        matches!(self, Self::Cdabghef | Self::Dcbahgfe | Self::Efghabcd | Self::Fehgbadc)
    }

    /// Whether the two bytes of each register are swapped.
    #[must_use]
    pub const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba | Self::Dcbahgfe | Self::Fehgbadc)
    }
}

/// How raw data becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// One bit.
    Bool,
    /// Unsigned 8 bits: the low byte of a register, the high byte in an order that swaps bytes.
    U8,
    /// Signed 8 bits, placed like [`Encoding::U8`].
    I8,
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
    /// IEEE 754 half (binary16), one register.
    F16,
    /// IEEE 754 single, two registers.
    F32,
    /// IEEE 754 double, four registers.
    F64,
    /// Four decimal digits, one a nibble (8-4-2-1 BCD), one register.
    Bcd16,
    /// Eight decimal digits, two registers.
    Bcd32,
    /// Sixteen decimal digits, four registers.
    Bcd64,
    /// Text, two bytes a register, `length` bytes; trailing NULs and spaces are cut.
    Text,
    /// Text, one byte a register in its low half, `length` bytes.
    #[serde(rename = "text-low")]
    TextLow,
    /// Text, one byte a register in its high half, `length` bytes.
    #[serde(rename = "text-high")]
    TextHigh,
    /// Whatever the protocol itself says (OPC UA variants, JSON values).
    Auto,
}

/// A password or key that never shows itself in logs or errors, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Encoding {
    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::Bcd16 => "bcd16",
            Self::Bcd32 => "bcd32",
            Self::Bcd64 => "bcd64",
            Self::Text => "text",
            Self::TextLow => "text-low",
            Self::TextHigh => "text-high",
            Self::Auto => "auto",
        }
    }

    /// Whether it is one of the texts.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::TextLow | Self::TextHigh)
    }

    /// Bits of a whole number or BCD number; `None` for everything else.
    #[must_use]
    pub const fn whole_bits(self) -> Option<u8> {
        match self {
            Self::U8 | Self::I8 => Some(8),
            Self::U16 | Self::I16 | Self::Bcd16 => Some(16),
            Self::U32 | Self::I32 | Self::Bcd32 => Some(32),
            Self::U64 | Self::I64 | Self::Bcd64 => Some(64),
            _ => None,
        }
    }
}

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself; call it only where it goes onto the wire.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Out of a file that is wiped, too: what the reader of the file copies meanwhile is its own.
impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
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
    /// `Aes128_Sha256_RsaOaep`, signed only.
    #[serde(rename = "aes128-sha256-rsaoaep-sign")]
    Aes128Sign,
    /// `Aes128_Sha256_RsaOaep`, signed and encrypted.
    #[serde(rename = "aes128-sha256-rsaoaep-sign-encrypt")]
    Aes128SignAndEncrypt,
    /// `Aes256_Sha256_RsaPss`, signed only.
    #[serde(rename = "aes256-sha256-rsapss-sign")]
    Aes256Sign,
    /// `Aes256_Sha256_RsaPss`, signed and encrypted.
    #[serde(rename = "aes256-sha256-rsapss-sign-encrypt")]
    Aes256SignAndEncrypt,
    /// Basic256, signed and encrypted; deprecated (SHA-1), needs `insecure: true`.
    #[serde(rename = "basic256-sign-encrypt")]
    Basic256SignAndEncrypt,
    /// Basic128Rsa15, signed and encrypted; deprecated (SHA-1, PKCS#1 v1.5), needs `insecure: true`.
    #[serde(rename = "basic128rsa15-sign-encrypt")]
    Basic128Rsa15SignAndEncrypt,
}

impl OpcUaPolicy {
    /// Every policy a mapping may name.
    pub const ALL: [Self; 10] = [
        Self::Best,
        Self::None,
        Self::Basic256Sha256Sign,
        Self::Basic256Sha256SignAndEncrypt,
        Self::Aes128Sign,
        Self::Aes128SignAndEncrypt,
        Self::Aes256Sign,
        Self::Aes256SignAndEncrypt,
        Self::Basic256SignAndEncrypt,
        Self::Basic128Rsa15SignAndEncrypt,
    ];

    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::None => "none",
            Self::Basic256Sha256Sign => "basic256sha256-sign",
            Self::Basic256Sha256SignAndEncrypt => "basic256sha256-sign-encrypt",
            Self::Aes128Sign => "aes128-sha256-rsaoaep-sign",
            Self::Aes128SignAndEncrypt => "aes128-sha256-rsaoaep-sign-encrypt",
            Self::Aes256Sign => "aes256-sha256-rsapss-sign",
            Self::Aes256SignAndEncrypt => "aes256-sha256-rsapss-sign-encrypt",
            Self::Basic256SignAndEncrypt => "basic256-sign-encrypt",
            Self::Basic128Rsa15SignAndEncrypt => "basic128rsa15-sign-encrypt",
        }
    }

    /// Whether OPC UA has deprecated it (Part 7, profiles of 1.04: SHA-1 is broken).
    #[must_use]
    pub const fn is_deprecated(self) -> bool {
        matches!(self, Self::Basic256SignAndEncrypt | Self::Basic128Rsa15SignAndEncrypt)
    }
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
    /// The mapping allows policies that OPC UA has deprecated.
    pub insecure: bool,
    /// X.509 certificate (DER or PEM) of the user, instead of a name and password (OPC UA Part 4 §7.40.5).
    pub user_certificate: Option<PathBuf>,
    /// The key of `user_certificate`, PEM.
    pub user_key: Option<PathBuf>,
    /// Certificates of a TLS connection; ignored where the endpoint is not TLS.
    pub tls: Tls,
}

/// Certificates of a TLS connection. Files are PEM and are read at every connect, so that a renewed certificate
/// needs no restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// Certificates of the authorities that may have signed the server's.
    pub ca: Option<PathBuf>,
    /// SHA-256 over the server's own certificate (DER), 64 hexadecimal digits; instead of `ca`.
    pub pin: Option<String>,
    /// Our certificate, with its chain.
    pub certificate: Option<PathBuf>,
    /// The key of `certificate`.
    pub key: Option<PathBuf>,
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
    /// What few points need.
    pub options: PointOptions,
}

impl PointSpec {
    /// A point as a mapping gives it that says no more than this: big-endian, unscaled, any value believable.
    #[must_use]
    pub fn new(id: PointId, address: Address, encoding: Encoding, unit: Unit) -> Self {
        Self {
            id,
            address,
            encoding,
            order: ByteOrder::default(),
            length: 0,
            scale: 1.0,
            offset: 0.0,
            unit,
            deadband: None,
            range: None,
            options: PointOptions::default(),
        }
    }

    /// Where the point is, as policies and permits name it: its address, and behind `=>` where and how it is told a value or what
    /// is called, where the mapping says that. So a permit is for exactly this, and a mapping that says otherwise gets nothing done.
    #[must_use]
    pub fn place(&self) -> String {
        let PointOptions { command, method, .. } = &self.options;
        let told = command.iter().map(ToString::to_string).chain(method.iter().map(ToString::to_string));
        told.fold(self.address.to_string(), |place, told| format!("{place} => {told}"))
    }

    /// What kind of value the point gives; `None` when only the device knows ([`Encoding::Auto`]).
    #[must_use]
    pub fn kind(&self) -> Option<ValueKind> {
        match self.encoding {
            _ if self.options.labels.is_some() => Some(ValueKind::Text),
            Encoding::Auto => None,
            Encoding::Bool => Some(ValueKind::Bool),
            Encoding::Text | Encoding::TextLow | Encoding::TextHigh => Some(ValueKind::Text),
            Encoding::F16 | Encoding::F32 | Encoding::F64 => Some(ValueKind::Float),
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
            Encoding::Bool
            | Encoding::U8
            | Encoding::I8
            | Encoding::U16
            | Encoding::I16
            | Encoding::F16
            | Encoding::Bcd16 => 1,
            Encoding::U32 | Encoding::I32 | Encoding::F32 | Encoding::Bcd32 => 2,
            Encoding::U64 | Encoding::I64 | Encoding::F64 | Encoding::Bcd64 => 4,
            Encoding::Text => self.length.div_ceil(2),
            Encoding::TextLow | Encoding::TextHigh => self.length,
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
    /// What Modbus devices differ in beyond that.
    pub modbus: ModbusOptions,
    /// How an OPC UA server is read.
    pub opcua: OpcUaOptions,
    /// How MQTT topics are read.
    pub mqtt: MqttOptions,
    /// Points that are made while it speaks (MQTT).
    pub templates: Vec<PointTemplate>,
    /// Its points, in file order, ids unique.
    pub points: Vec<PointSpec>,
}

impl DeviceSpec {
    /// A device without points, asked every second, that must answer within one; all else as a mapping leaves it.
    #[must_use]
    pub fn new(id: DeviceId, endpoint: Endpoint) -> Self {
        Self {
            id,
            endpoint,
            security: Security::default(),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            registers_per_request_max: 125,
            gap_max: 8,
            modbus: ModbusOptions::default(),
            opcua: OpcUaOptions::default(),
            mqtt: MqttOptions::default(),
            templates: Vec::new(),
            points: Vec::new(),
        }
    }
}
