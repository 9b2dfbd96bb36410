//! Where a point is: the `at:` of each protocol, moved when it comes from a data sheet.

use super::PointLayers;
use crate::check::{Checker, Site};
use crate::written::DeviceWritten;
use tally_model::{Address, AddressBase, AddressFault, Endpoint, PointSpec};

/// What a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::check) enum Protocol {
    Modbus,
    OpcUa,
    Mqtt,
    Replay,
}

impl Protocol {
    pub(in crate::check) const fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Modbus { .. } => Self::Modbus,
            Endpoint::OpcUa { .. } => Self::OpcUa,
            Endpoint::Mqtt(_) => Self::Mqtt,
            Endpoint::Replay { .. } => Self::Replay,
        }
    }

    /// From the first word of an endpoint that is wrong further on.
    pub(in crate::check) fn guess(connect: &str) -> Option<Self> {
        let known = [
            ("modbus+", Self::Modbus),
            ("opc.tcp:", Self::OpcUa),
            ("mqtt:", Self::Mqtt),
            ("mqtts:", Self::Mqtt),
            ("replay:", Self::Replay),
        ];
        known.into_iter().find(|(scheme, _)| connect.starts_with(scheme)).map(|(_, protocol)| protocol)
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Modbus => "Modbus",
            Self::OpcUa => "OPC UA",
            Self::Mqtt => "MQTT",
            Self::Replay => "replay",
        }
    }

    fn parse(self, text: &str) -> Result<Address, AddressFault> {
        match self {
            Self::Modbus => Address::parse_modbus(text),
            Self::OpcUa => Address::parse_opcua(text),
            Self::Mqtt => Address::parse_mqtt(text),
            Self::Replay => Address::parse_column(text),
        }
    }

    /// Register numbers behind a table word begin at `base`.
    fn parse_from(self, text: &str, base: AddressBase) -> Result<Address, AddressFault> {
        match self {
            Self::Modbus => Address::parse_modbus_from(text, base),
            _ => self.parse(text),
        }
    }

    /// The protocol whose address this is beyond doubt (almost any text is a topic).
    fn whose(text: &str) -> Option<Self> {
        [Self::Modbus, Self::OpcUa, Self::Replay].into_iter().find(|protocol| protocol.parse(text).is_ok())
    }
}

impl Checker<'_> {
    pub(super) fn address(
        &mut self,
        layers: &PointLayers<'_>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        device: &DeviceWritten,
    ) -> Option<Address> {
        let Some(at) = layers.pick("at", |written| written.at.as_deref()) else {
            if !layers.is_written("at") {
                let fault = site.key("at").fault("`at` is missing");
                self.report(fault.hint("where the value is: `holding:16`, `nsu=urn:…;s=…`, `topic#/pointer`"));
            }
            return None;
        };
        let protocol = protocol?;
        match protocol.parse_from(at.value, at.base) {
            Ok(address) if at.from_sheet => self.moved(address, &at.site, device),
            Ok(address) => Some(address),
            Err(fault) => {
                self.report(address_fault(&at.site, protocol, &fault));
                None
            }
        }
    }

    /// An address of a data sheet, moved by the device's `prefix` and `offset`.
    pub(super) fn moved(&mut self, address: Address, site: &Site<'_>, device: &DeviceWritten) -> Option<Address> {
        let prefix = device.prefix.as_deref().unwrap_or_default();
        Some(match address {
            Address::Modbus { table, offset, bit } => {
                let moved = i32::from(offset).saturating_add(device.offset.unwrap_or(0));
                let Ok(offset) = u16::try_from(moved) else {
                    let fault =
                        site.fault(format!("with `offset: {}` the address is {moved}", device.offset.unwrap_or(0)));
                    self.report(fault.allowed("0 to 65535"));
                    return None;
                };
                Address::Modbus { table, offset, bit }
            }
            Address::OpcUa { namespace, index, identifier, pointer, alarm } => {
                let identifier = match identifier.strip_prefix("s=") {
                    Some(name) => format!("s={prefix}{name}"),
                    None => identifier,
                };
                Address::OpcUa { namespace, index, identifier, pointer, alarm }
            }
            Address::Mqtt { topic, pointer } => Address::Mqtt { topic: format!("{prefix}{topic}"), pointer },
            Address::MqttCbor { topic, pointer } => Address::MqttCbor { topic: format!("{prefix}{topic}"), pointer },
            other @ (Address::Sparkplug { .. } | Address::Column(_)) => other,
        })
    }

    /// The last register of the value exists.
    pub(super) fn fits_registers(&mut self, point: &PointSpec, site: &Site<'_>) {
        if let Address::Modbus { offset, .. } = point.address {
            let last = u32::from(offset) + u32::from(point.registers().max(1)) - 1;
            if last > u32::from(u16::MAX) {
                self.report(site.key("at").fault(format!("its last register would be {last}")).allowed("0 to 65535"));
            }
        }
    }
}

fn address_fault(site: &Site<'_>, protocol: Protocol, fault: &AddressFault) -> crate::Fault {
    let found = format!("`{}`", fault.found);
    match Protocol::whose(&fault.found) {
        Some(other) if other != protocol => {
            let message = format!("this is {} address, but the device speaks {}", with_article(other), protocol.word());
            site.fault(message).found(found).hint(fault.reason.clone())
        }
        _ => site.fault(format!("not {}", fault.what)).found(found).hint(fault.reason.clone()),
    }
}

const fn with_article(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Modbus => "a Modbus",
        Protocol::OpcUa => "an OPC UA",
        Protocol::Mqtt => "an MQTT",
        Protocol::Replay => "a replay",
    }
}
