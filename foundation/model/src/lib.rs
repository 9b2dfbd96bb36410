//! The words every other crate speaks: what a device said, in which unit, how good it is, and when.
//!
//! Ground floor: no I/O, no clock, no tokio. A value never travels without its unit and quality
//! ([`Sample`], [`Reading`]); a reading that did not come is data with a reason ([`NoValue`]).

mod address;
mod alarm_part;
mod checks;
mod clock;
mod device;
mod device_map;
mod endpoint;
mod grade;
mod id;
mod modbus_address;
mod mqtt_options;
mod opcua_options;
mod options;
mod origin;
mod reading;
mod rule;
mod time;
mod unit;
mod value;

pub use address::{Address, AddressFault, ModbusTable};
pub use alarm_part::AlarmPart;
pub use checks::{Checks, EvidenceQuality, Finding, FindingCode, Frozen, PointChecks, Redundant, Related, Replay};
pub use clock::ClockState;
pub use device::{ByteOrder, DeviceSpec, Encoding, OpcUaPolicy, PointSpec, Secret, Security, Tls};
pub use endpoint::{Endpoint, EndpointFault, ModbusLine, MqttBroker, Parity, SerialLine};
pub use grade::{Grade, GradeFault};
pub use id::{ActionName, AgreementId, ContractName, DeviceId, IdFault, PartyId, PointId, PolicyId, SiteId, TriggerId};
pub use modbus_address::AddressBase;
pub use mqtt_options::{MqttOptions, MqttQos, MqttVersion, PointTemplate, SealedAs, SealedPayloads, TemplateFault};
pub use opcua_options::{OpcUaLimits, OpcUaOptions, OpcUaRead};
pub use options::{
    ArgumentKind, BitField, MethodArgument, ModbusOptions, MqttCommand, OpcUaMethod, PointOptions, Writable,
};
pub use origin::{
    IDENTITY_BYTES_MAX, LinkProtection, LinkProtocol, LinkSecurity, Login, Origin, Stretch, are_stretches, identity_of,
};
pub use reading::{Reading, Sample};
pub use rule::{CallTemplate, Priority, RuleSource};
pub use time::{DurationFault, Timestamp, parse_duration};
pub use unit::{Unit, UnitFault};
pub use value::{NoValue, Outcome, Quality, Value, ValueKind};
