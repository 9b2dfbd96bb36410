//! The Sparkplug B payload on the wire (Sparkplug 3.0, chapter 6, the protobuf schema): the messages written as prost structs,
//! so that no compiler for schema files is needed to build this.
//!
//! DataSets, Templates, nested property sets and extensions are kept as the bytes they came in: we send none, and what a
//! sensor sends of them is told as "not a value of ours".

use prost::Message;

/// One Sparkplug B message.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// Milliseconds since 1970 (UTC) at which it was sent.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// Its metrics, in chronological order unless they are historical.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// 0 to 255, one more than in the message before; absent in NDEATH and commands.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
    /// Names a schema of `body`.
    #[prost(string, optional, tag = "4")]
    pub uuid: Option<String>,
    /// Something else than metrics.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub body: Option<Vec<u8>>,
}

/// One metric of a message.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Name; in births, and where there are no aliases.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Number that stands for the name after the birth.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// Milliseconds since 1970 (UTC) at which the value arose.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// [`crate::sparkplug::DataType`]; in births.
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// Not the value of now.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// Not to be stored.
    #[prost(bool, optional, tag = "6")]
    pub is_transient: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// About files and multi-part values; kept as bytes.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub metadata: Option<Vec<u8>>,
    /// Quality, unit and the like.
    #[prost(message, optional, tag = "9")]
    pub properties: Option<PropertySet>,
    /// The value; none with `is_null`.
    #[prost(oneof = "MetricValue", tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19")]
    pub value: Option<MetricValue>,
}

/// The value of a metric, as it is carried.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum MetricValue {
    /// Integers up to 32 bits; negative ones in two's complement.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Integers of 64 bits and instants.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// 32-bit float.
    #[prost(float, tag = "12")]
    Float(f32),
    /// 64-bit float.
    #[prost(double, tag = "13")]
    Double(f64),
    /// Flag.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// Text.
    #[prost(string, tag = "15")]
    String(String),
    /// Bytes, files and arrays.
    #[prost(bytes = "vec", tag = "16")]
    Bytes(Vec<u8>),
    /// A table, not decoded.
    #[prost(bytes = "vec", tag = "17")]
    DataSet(Vec<u8>),
    /// A structure, not decoded.
    #[prost(bytes = "vec", tag = "18")]
    Template(Vec<u8>),
    /// Somebody's extension, not decoded.
    #[prost(bytes = "vec", tag = "19")]
    Extension(Vec<u8>),
}

/// Properties of a metric: as many keys as values.
#[derive(Clone, PartialEq, Message)]
pub struct PropertySet {
    /// Names.
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
    /// Values, in the order of the names.
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PropertyValue>,
}

/// The value of a property.
#[derive(Clone, PartialEq, Message)]
pub struct PropertyValue {
    /// [`crate::sparkplug::DataType`].
    #[prost(uint32, optional, tag = "1")]
    pub r#type: Option<u32>,
    /// There is no value.
    #[prost(bool, optional, tag = "2")]
    pub is_null: Option<bool>,
    /// The value.
    #[prost(oneof = "PropertyContent", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub value: Option<PropertyContent>,
}

/// What a property holds.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PropertyContent {
    /// Integers up to 32 bits.
    #[prost(uint32, tag = "3")]
    Int(u32),
    /// Integers of 64 bits.
    #[prost(uint64, tag = "4")]
    Long(u64),
    /// 32-bit float.
    #[prost(float, tag = "5")]
    Float(f32),
    /// 64-bit float.
    #[prost(double, tag = "6")]
    Double(f64),
    /// Flag.
    #[prost(bool, tag = "7")]
    Boolean(bool),
    /// Text.
    #[prost(string, tag = "8")]
    String(String),
    /// Properties, not decoded.
    #[prost(bytes = "vec", tag = "9")]
    Set(Vec<u8>),
    /// Lists of properties, not decoded.
    #[prost(bytes = "vec", tag = "10")]
    Sets(Vec<u8>),
    /// Somebody's extension, not decoded.
    #[prost(bytes = "vec", tag = "11")]
    Extension(Vec<u8>),
}

/// Why bytes are no Sparkplug B payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Sparkplug B payload: {0}")]
pub struct PayloadFault(String);

impl Payload {
    /// Reads a payload; unknown fields are skipped, as protobuf has it.
    ///
    /// # Errors
    /// [`PayloadFault`] when the bytes are not protobuf, or a known field has another type.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadFault> {
        Self::decode(bytes).map_err(|fault| PayloadFault(fault.to_string()))
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

impl PropertySet {
    /// Adds a property.
    pub(crate) fn push(&mut self, key: &str, kind: super::DataType, value: PropertyContent) {
        self.keys.push(key.to_owned());
        self.values.push(PropertyValue { r#type: Some(kind.code()), is_null: None, value: Some(value) });
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&PropertyContent> {
        let place = self.keys.iter().position(|known| known == key)?;
        self.values.get(place)?.value.as_ref()
    }
}
