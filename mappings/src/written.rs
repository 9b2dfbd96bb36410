//! A mapping file as it is written. The comments here are the manual: they become the descriptions in the JSON Schema.
//!
//! Keys that must be there are `Option` all the same: what the shape check found wrong is taken out before these types
//! are filled, so that everything else can still be checked. Whoever meets `None` on such a key says nothing; it has
//! been said.
#![allow(dead_code)] // names and descriptions are read by people and editors only

mod checks;
mod modbus;
mod mqtt;
mod opcua;
mod writing;

pub(crate) use checks::{
    CheckWord, DeviceChecksWritten, FrozenWritten, PointChecksWritten, QualityWritten, ReplayWritten,
};
pub(crate) use modbus::ModbusWritten;
pub(crate) use mqtt::{MqttWritten, SealedWritten};
pub(crate) use opcua::{LimitsWritten, OpcUaWritten};
pub(crate) use writing::{ArgumentWord, ArgumentWritten, MethodWritten, WriteWritten};

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use tally_model::{ByteOrder, Encoding, OpcUaPolicy, Priority};

/// A plant: devices, triggers, tests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tallystick plant file")]
pub(crate) struct PlantFile {
    /// Name of the line or site.
    #[schemars(required)]
    pub plant: Option<String>,
    /// What it is about, for readers.
    pub description: Option<String>,
    /// The devices.
    #[schemars(required)]
    pub devices: Option<Vec<DeviceWritten>>,
    /// The rules.
    #[serde(default)]
    pub triggers: Vec<TriggerWritten>,
    /// Recorded readings and the triggers they must give, run by `tally check --test`.
    #[serde(default)]
    pub tests: Vec<TestWritten>,
}

/// A data sheet: what all devices of one type have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Tallystick data sheet")]
pub(crate) struct SheetFile {
    /// Name of the device type.
    #[schemars(required)]
    pub sheet: Option<String>,
    /// What it is about, for readers.
    pub description: Option<String>,
    /// Sampling period, 10ms to 1h.
    pub every: Option<String>,
    /// How long an answer may take, 10ms to 60s.
    pub timeout: Option<String>,
    /// Most registers in one Modbus request, 1 to 125.
    #[schemars(range(min = 1, max = 125))]
    pub registers_per_request_max: Option<u16>,
    /// Unused registers read along to save a request, 0 to 124.
    #[schemars(range(min = 0, max = 124))]
    pub gap_max: Option<u16>,
    /// What Modbus devices of this type need.
    pub modbus: Option<ModbusWritten>,
    /// How the topics of MQTT devices of this type are read.
    pub mqtt: Option<MqttWritten>,
    /// The points.
    #[schemars(required)]
    pub points: Option<Vec<PointWritten>>,
}

/// One machine, PLC or sensor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceWritten {
    /// Its name: letters, digits, `_`, `-`, `.`; unique in the plant.
    #[schemars(required)]
    pub id: Option<String>,
    /// Where it is: `modbus+tcp://host:502?unit=1`, `modbus+rtu:///dev/ttyUSB0?baud=19200&unit=3`,
    /// `opc.tcp://host:4840/path`, `mqtt://host:1883`, `mqtts://host:8883?version=5`, `replay:file.csv`.
    /// `${NAME}` and `${NAME:-default}` are taken from the environment.
    #[schemars(required)]
    pub connect: Option<String>,
    /// What it is about, for readers.
    pub description: Option<String>,
    /// Data sheet, relative to this file, else in a `devices` folder beside or above it.
    #[serde(rename = "use")]
    pub sheet: Option<String>,
    /// Put before the node ids (`s=`) and topics of the data sheet.
    pub prefix: Option<String>,
    /// Added to the register addresses of the data sheet.
    pub offset: Option<i32>,
    /// Sampling period, 10ms to 1h; default 1s.
    pub every: Option<String>,
    /// How long an answer may take, 10ms to 60s; default is the sampling period, but at least 1s and at most 5s.
    pub timeout: Option<String>,
    /// Most registers in one Modbus request, 1 to 125; default 125.
    #[schemars(range(min = 1, max = 125))]
    pub registers_per_request_max: Option<u16>,
    /// Unused registers read along to save a request, 0 to 124; default 8.
    #[schemars(range(min = 0, max = 124))]
    pub gap_max: Option<u16>,
    /// How to log in.
    pub security: Option<SecurityWritten>,
    /// What is checked of its readings before a trigger is sealed over them; without it nothing is.
    pub checks: Option<DeviceChecksWritten>,
    /// How an OPC UA server is read.
    pub opcua: Option<OpcUaWritten>,
    /// What this Modbus device needs.
    pub modbus: Option<ModbusWritten>,
    /// How the topics of this MQTT device are read.
    pub mqtt: Option<MqttWritten>,
    /// Its points; with a data sheet, points of the same id change what the sheet says, others are added.
    #[serde(default)]
    pub points: Vec<PointWritten>,
}

/// How a connection is secured.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecurityWritten {
    /// OPC UA security policy; default `best`.
    pub policy: Option<OpcUaPolicy>,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Where the password is: `env:NAME` or `file:/path`. Never the password itself.
    pub password: Option<String>,
    /// OPC UA: certificate of the user (DER or PEM), relative to this file, instead of `user` and `password`.
    pub user_certificate: Option<String>,
    /// The key of `user_certificate` (PEM).
    pub user_key: Option<String>,
    /// `true` allows the policies that OPC UA has deprecated.
    pub insecure: Option<bool>,
    /// TLS: certificates of the authorities that may have signed the device's (PEM), relative to this file.
    pub ca: Option<String>,
    /// TLS: SHA-256 of the device's own certificate, 64 hexadecimal digits, instead of `ca`.
    pub pin: Option<String>,
    /// TLS: our certificate with its chain (PEM), relative to this file.
    pub certificate: Option<String>,
    /// TLS: the key of `certificate` (PEM).
    pub key: Option<String>,
}

/// One value of a device.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointWritten {
    /// Its name in rules: letters, digits, `_`, not a digit first; unique in the device.
    /// MQTT: with `{name}` inside, a point for each topic that speaks.
    #[schemars(required)]
    pub id: Option<String>,
    /// Where it is: `holding:16`, `input:3.5`, `coil:1`, `discrete:0`, `HR16`, `40017`, `4x17` (Modbus); `nsu=urn:…;s=…`, `ns=2;i=1001`, `alarm:nsu=urn:…;s=…#/active` (OPC UA);
    /// `topic`, `topic#/json/pointer`, `cbor:topic#/pointer`, `hall/{machine}/temp`,
    /// `sparkplug:group/edge_node/device#metric` (MQTT); `column:name` (replay).
    pub at: Option<String>,
    /// What the bytes are. Registers need it; coils are `bool`; other protocols say it themselves (`auto`).
    #[serde(rename = "type")]
    pub encoding: Option<Encoding>,
    /// How the bytes of a value lie in its registers, A the most significant; default `ABCD`.
    pub order: Option<ByteOrder>,
    /// Bytes of a `text`, 1 to 250; of a `text-low` or `text-high`, 1 to 125.
    #[schemars(range(min = 1, max = 250))]
    pub length: Option<u16>,
    /// Modbus, OPC UA: only these bits of a whole number, the lowest is 0: `4-7`.
    pub bits: Option<String>,
    /// Modbus, OPC UA: names of the numbers; the value is the name, a number without one is no value.
    pub labels: Option<BTreeMap<String, String>>,
    /// Modbus, OPC UA: a sampling period of its own, 10ms to 1h; default is the device's.
    pub every: Option<String>,
    /// Factor on the raw number; default 1.
    pub scale: Option<f64>,
    /// Added after the factor; default 0.
    pub offset: Option<f64>,
    /// UCUM code of the unit after scaling: `Cel`, `mm/s`, `kW.h`, `%`; `1` for counts and flags.
    pub unit: Option<String>,
    /// A smaller change is not published; the vault keeps every reading. In the point's unit.
    pub deadband: Option<f64>,
    /// Lowest and highest believable value in the point's unit; outside there is no value.
    pub range: Option<(f64, f64)>,
    /// `true` lets whoever has a permit of the ledger write the point (acknowledge it, for an alarm); without it nobody writes it,
    /// permit or not. A number needs `write_range`, a topic `write`.
    pub writable: Option<bool>,
    /// Lowest and highest number that may be written, in the point's unit; default is `range`.
    pub write_range: Option<(f64, f64)>,
    /// MQTT: how the device is told a value, for a `writable` point.
    pub write: Option<WriteWritten>,
    /// OPC UA: a method that whoever has a permit of the ledger may have called at this point.
    pub method: Option<MethodWritten>,
    /// What is checked of it before a trigger is sealed over its readings.
    pub checks: Option<PointChecksWritten>,
    /// What it is about, for readers.
    pub description: Option<String>,
}

/// A rule: when something is worth a trigger.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriggerWritten {
    /// Its name; unique in the plant.
    #[schemars(required)]
    pub id: Option<String>,
    /// The device whose points it reads.
    #[schemars(required)]
    pub device: Option<String>,
    /// What it is about, for readers.
    pub description: Option<String>,
    /// CEL condition that raises it.
    #[schemars(required)]
    pub when: Option<String>,
    /// On-delay: how long `when` must hold; default 0s, at most 24h.
    #[serde(rename = "for")]
    pub on_delay: Option<String>,
    /// CEL condition that clears it; default: when `when` is false.
    pub until: Option<String>,
    /// Priority of the alarm (ISA-18.2); default `medium`.
    pub priority: Option<Priority>,
    /// Points disclosed in evidence beyond those the rule reads.
    #[serde(default)]
    pub disclose: Vec<String>,
    /// What a contract is asked to do when it is raised.
    pub call: Option<CallWritten>,
}

/// What a contract is asked to do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallWritten {
    /// Which contract.
    #[schemars(required)]
    pub contract: Option<String>,
    /// Which action of it.
    #[schemars(required)]
    pub action: Option<String>,
    /// Argument to CEL expression, evaluated when the trigger is raised; texts stand in quotes inside: `"'bearing'"`.
    #[serde(default)]
    pub with: BTreeMap<String, String>,
}

/// Readings and what must come of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestWritten {
    /// Its name; default: the name of the recording.
    pub name: Option<String>,
    /// CSV file relative to this file: column `time` (seconds or RFC 3339), and one column a point id.
    #[schemars(required)]
    pub readings: Option<String>,
    /// Whose readings; not needed when the plant has one device.
    pub device: Option<String>,
    /// Every trigger the readings must raise, in any order; one that is raised and not listed fails the test.
    #[schemars(required)]
    pub expect: Option<Vec<ExpectWritten>>,
}

/// One trigger that must be raised or cleared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectWritten {
    /// Which trigger.
    #[schemars(required)]
    pub trigger: Option<String>,
    /// When, counted from the first row: `41s`, `1500ms`.
    #[schemars(required)]
    pub at: Option<String>,
    /// How far off it may be; default 0s, that is, at exactly this reading.
    pub within: Option<String>,
    /// Cleared, not raised; default false.
    pub cleared: Option<bool>,
    /// How good its evidence must be found, exactly; default: it is not looked at.
    pub quality: Option<QualityWritten>,
}
