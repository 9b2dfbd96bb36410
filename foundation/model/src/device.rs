//! A device as a connector needs it: checked, complete, without mapping-file positions.

mod encoding;
mod security;

pub use encoding::{ByteOrder, Encoding};
pub use security::{OpcUaPolicy, Secret, Security, Tls};

use crate::{
    Address, DeviceId, Endpoint, ModbusOptions, MqttOptions, OpcUaOptions, PointId, PointOptions, PointTemplate, Unit,
    ValueKind,
};
use std::time::Duration;

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
