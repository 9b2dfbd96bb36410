//! Where a point lives inside its device: the `at:` line of a mapping.

use crate::AlarmPart;
use std::fmt;

/// The four tables of the Modbus data model (Modbus Application Protocol V1.1b3 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModbusTable {
    /// Single bits, read and write (function code 1).
    Coil,
    /// Single bits, read only (function code 2).
    Discrete,
    /// 16-bit registers, read only (function code 4).
    Input,
    /// 16-bit registers, read and write (function code 3).
    Holding,
}

impl ModbusTable {
    /// Whether the table holds bits rather than registers.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The word used in mappings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Input => "input",
            Self::Holding => "holding",
        }
    }
}

/// A checked address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Table and zero-based protocol address, as on the wire; the spellings are in [`Address::parse_modbus`].
    Modbus {
        /// Which table.
        table: ModbusTable,
        /// Zero-based address as sent on the wire.
        offset: u16,
        /// Bit 0–15 inside a register (`holding:17.3`).
        bit: Option<u8>,
    },
    /// `nsu=urn:…;s=…` or `ns=2;i=…` (OPC UA Part 6 §5.3.1.10); the URI form is preferred, indexes may move. With `alarm:`
    /// before it and `#/active` behind it, what the server's events say about the condition with this node id (Part 9).
    OpcUa {
        /// Namespace URI, when written as `nsu=`.
        namespace: Option<String>,
        /// Namespace index, when written as `ns=` (0 when neither is written).
        index: u16,
        /// Identifier with its type letter: `s=Spindle.Load`, `i=2258`, `g=…`, `b=…`.
        identifier: String,
        /// Way into an array or structure, as a JSON pointer (RFC 6901): `s=Axes#/2/Position`. `None` for the whole value.
        pointer: Option<String>,
        /// Which fact about the condition; `None` for the value of a variable. Excludes `pointer`.
        alarm: Option<AlarmPart>,
    },
    /// `topic/of/sensor` for a raw payload, `topic/of/sensor#/a/b` for a JSON pointer (RFC 6901) into a JSON payload.
    Mqtt {
        /// Topic without wildcards.
        topic: String,
        /// JSON pointer, `None` for the raw payload as text.
        pointer: Option<String>,
    },
    /// `cbor:topic/of/sensor` for a payload that is one CBOR value (RFC 8949), `cbor:topic/of/sensor#/a/b` for a place in it.
    MqttCbor {
        /// Topic without wildcards.
        topic: String,
        /// Way to the value, as a JSON pointer (RFC 6901); `None` for the whole payload.
        pointer: Option<String>,
    },
    /// `sparkplug:group/edge_node/device#Metric/Name`: a metric of a Sparkplug B device, or of the edge node itself.
    Sparkplug {
        /// Group of the edge node.
        group: String,
        /// The edge node.
        edge_node: String,
        /// The device behind it; `None` for a metric of the edge node.
        device: Option<String>,
        /// Name of the metric, as the birth has it.
        metric: String,
    },
    /// `column:vibration`: a column of a replayed CSV file.
    Column(String),
}

/// Why an `at:` text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not {what}: {reason}")]
pub struct AddressFault {
    /// What was written.
    pub found: String,
    /// Which kind of address was expected.
    pub what: &'static str,
    /// What is wrong with it, with an example of what is right.
    pub reason: String,
}

impl Address {
    /// Reads an OPC UA node id.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_opcua(text: &str) -> Result<Self, AddressFault> {
        let fault = |reason: &str| AddressFault {
            found: text.to_owned(),
            what: "an OPC UA node id",
            reason: reason.to_owned(),
        };
        const EXAMPLE: &str = "write for example `nsu=urn:factory:cnc;s=Spindle.Load` or `ns=2;i=1001`";
        if let Some(condition) = text.strip_prefix("alarm:") {
            return Self::parse_alarm(condition).ok_or_else(|| {
                let parts = AlarmPart::ALL.map(AlarmPart::word).join(", ");
                fault(&format!("write for example `alarm:nsu=urn:factory:cnc;s=Overheat#/active`; there are: {parts}"))
            });
        }
        let (namespace, index, identifier) = if let Some(rest) = text.strip_prefix("nsu=") {
            let (uri, identifier) = rest.split_once(';').ok_or_else(|| fault(EXAMPLE))?;
            (Some(uri.to_owned()), 0, identifier)
        } else if let Some(rest) = text.strip_prefix("ns=") {
            let (index, identifier) = rest.split_once(';').ok_or_else(|| fault(EXAMPLE))?;
            (None, index.parse().map_err(|_| fault("a namespace index is a number from 0 to 65535"))?, identifier)
        } else {
            (None, 0, text)
        };
        // The last `#/`, because an identifier may hold one too; `s=a#/b#` is the node `a#/b` as a whole.
        let (identifier, pointer) = match identifier.strip_suffix('#') {
            Some(whole) => (whole, None),
            None => match identifier.rsplit_once("#/") {
                Some((identifier, pointer)) => (identifier, Some(format!("/{pointer}"))),
                None => (identifier, None),
            },
        };
        match identifier.split_once('=') {
            Some(("s" | "g" | "b", rest)) if !rest.is_empty() => {}
            Some(("i", number)) if number.parse::<u32>().is_ok() => {}
            _ => return Err(fault(EXAMPLE)),
        }
        Ok(Self::OpcUa { namespace, index, identifier: identifier.to_owned(), pointer, alarm: None })
    }

    /// The node id of a condition and, behind the last `#/`, one of the words of [`AlarmPart`].
    fn parse_alarm(condition: &str) -> Option<Self> {
        match Self::parse_opcua(condition).ok()? {
            Self::OpcUa { namespace, index, identifier, pointer: Some(pointer), alarm: None } => {
                let alarm = Some(AlarmPart::parse(pointer.strip_prefix('/')?)?);
                Some(Self::OpcUa { namespace, index, identifier, pointer: None, alarm })
            }
            _ => None,
        }
    }

    /// Reads an MQTT topic with an optional JSON pointer.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_mqtt(text: &str) -> Result<Self, AddressFault> {
        let fault =
            |reason: &str| AddressFault { found: text.to_owned(), what: "an MQTT address", reason: reason.to_owned() };
        if let Some(metric) = text.strip_prefix("sparkplug:") {
            return sparkplug(metric).ok_or_else(|| {
                fault("write for example `sparkplug:works-1/edge-1/press-01#Motor/Temperature`, without the device for the edge node itself")
            });
        }
        let (is_cbor, rest) = text.strip_prefix("cbor:").map_or((false, text), |rest| (true, rest));
        let (topic, pointer) = match rest.split_once('#') {
            Some((topic, pointer)) => (topic, Some(pointer)),
            None => (rest, None),
        };
        if topic.is_empty() || topic.contains(['+', '\0']) {
            return Err(fault(
                "write a topic without wildcards, for example `hall/temp` or `hall/climate#/temperature`; for many topics name \
                 a level: `at: hall/{machine}/temp` with `id: \"{machine}_temp\"`",
            ));
        }
        if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(fault("after `#` comes a JSON pointer (RFC 6901), which starts with `/`"));
        }
        let (topic, pointer) = (topic.to_owned(), pointer.map(str::to_owned));
        Ok(if is_cbor { Self::MqttCbor { topic, pointer } } else { Self::Mqtt { topic, pointer } })
    }

    /// Reads a replay column.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_column(text: &str) -> Result<Self, AddressFault> {
        match text.strip_prefix("column:") {
            Some(column) if !column.is_empty() => Ok(Self::Column(column.to_owned())),
            _ => Err(AddressFault {
                found: text.to_owned(),
                what: "a replay address",
                reason: "write the CSV column, for example `column:vibration`".to_owned(),
            }),
        }
    }
}

/// `group/edge_node#metric` or `group/edge_node/device#metric`. Only a metric may hold `/` and `#`.
fn sparkplug(text: &str) -> Option<Address> {
    let (place, metric) = text.split_once('#')?;
    let parts: Vec<&str> = place.split('/').collect();
    let (group, edge_node, device) = match parts.as_slice() {
        [group, edge_node] => (*group, *edge_node, None),
        [group, edge_node, device] => (*group, *edge_node, Some(*device)),
        _ => return None,
    };
    let is_name = |name: &str| !name.is_empty() && !name.contains(['+', '\0']);
    let is_whole = is_name(group) && is_name(edge_node) && device.is_none_or(is_name) && !metric.is_empty();
    is_whole.then(|| Address::Sparkplug {
        group: group.to_owned(),
        edge_node: edge_node.to_owned(),
        device: device.map(str::to_owned),
        metric: metric.to_owned(),
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modbus { table, offset, bit: None } => write!(f, "{}:{offset}", table.word()),
            Self::Modbus { table, offset, bit: Some(bit) } => write!(f, "{}:{offset}.{bit}", table.word()),
            Self::OpcUa { namespace, index, identifier, pointer, alarm } => {
                if alarm.is_some() {
                    f.write_str("alarm:")?;
                }
                match (namespace, index) {
                    (Some(uri), _) => write!(f, "nsu={uri};{identifier}")?,
                    (None, 0) => f.write_str(identifier)?,
                    (None, index) => write!(f, "ns={index};{identifier}")?,
                }
                match (pointer, alarm) {
                    (_, Some(part)) => write!(f, "#/{part}"),
                    (Some(pointer), _) => write!(f, "#{pointer}"),
                    _ if identifier.contains("#/") || identifier.ends_with('#') => f.write_str("#"),
                    _ => Ok(()),
                }
            }
            Self::Mqtt { topic, pointer: None } => f.write_str(topic),
            Self::Mqtt { topic, pointer: Some(pointer) } => write!(f, "{topic}#{pointer}"),
            Self::MqttCbor { topic, pointer } => {
                write!(
                    f,
                    "cbor:{topic}{}{}",
                    if pointer.is_some() { "#" } else { "" },
                    pointer.as_deref().unwrap_or("")
                )
            }
            Self::Sparkplug { group, edge_node, device, metric } => {
                write!(f, "sparkplug:{group}/{edge_node}")?;
                device.iter().try_for_each(|device| write!(f, "/{device}"))?;
                write!(f, "#{metric}")
            }
            Self::Column(column) => write!(f, "column:{column}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_by_uri_and_index() {
        let at = Address::parse_opcua("nsu=urn:factory:cnc;s=Spindle.Load").unwrap();
        assert_eq!(at.to_string(), "nsu=urn:factory:cnc;s=Spindle.Load");
        assert_eq!(Address::parse_opcua("i=2258").unwrap().to_string(), "i=2258");
        for text in ["ns=2;s=Axes#/2/Position", "i=2258#/BuildInfo", "s=odd#/name#", "s=odd#/name#/0"] {
            assert_eq!(Address::parse_opcua(text).unwrap().to_string(), text);
        }
        let Address::OpcUa { identifier, pointer, .. } = Address::parse_opcua("s=odd#/name#/0").unwrap() else {
            panic!()
        };
        assert_eq!((identifier.as_str(), pointer.as_deref()), ("s=odd#/name", Some("/0")));
        for text in ["", "Spindle", "ns=x;s=a", "ns=2", "i=abc", "s=", "s=#/0"] {
            assert!(Address::parse_opcua(text).is_err(), "{text}");
        }
    }

    #[test]
    fn facts_about_alarms() {
        for text in ["alarm:nsu=urn:cnc;s=Overheat#/active", "alarm:i=17#/severity", "alarm:ns=3;s=odd#/name#/message"]
        {
            assert_eq!(Address::parse_opcua(text).unwrap().to_string(), text);
        }
        let Address::OpcUa { identifier, pointer, alarm, .. } = Address::parse_opcua("alarm:s=a#/acked").unwrap()
        else {
            panic!()
        };
        assert_eq!((identifier.as_str(), pointer, alarm), ("s=a", None, Some(AlarmPart::Acked)));
        for text in
            ["alarm:s=a", "alarm:s=a#", "alarm:s=a#/colour", "alarm:s=a#/active/0", "alarm:", "alarm:alarm:s=a#/active"]
        {
            let fault = Address::parse_opcua(text).unwrap_err();
            assert!(fault.reason.contains("acked, confirmed"), "{text}: {fault}");
        }
    }

    #[test]
    fn topics_with_pointers() {
        assert_eq!(Address::parse_mqtt("a/b#/c").unwrap().to_string(), "a/b#/c");
        for text in ["cbor:a/b", "cbor:a/b#/c/0", "sparkplug:g/e#Node Control/Rebirth", "sparkplug:g/e/d#a#b/c"] {
            assert_eq!(Address::parse_mqtt(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "a/+/b",
            "a#c",
            "cbor:",
            "sparkplug:g#m",
            "sparkplug:g/e/d/x#m",
            "sparkplug:g/e/d#",
            "sparkplug:g//d#m",
        ] {
            assert!(Address::parse_mqtt(text).is_err(), "{text}");
        }
    }
}
