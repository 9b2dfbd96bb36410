//! How bytes on the wire become values.

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
