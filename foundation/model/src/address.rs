//! Where a point lives inside its device: the `at:` line of a mapping.

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
    /// `holding:17`, `input:0`, `coil:1`, `discrete:5`: table and zero-based protocol address, as on the wire;
    /// `holding:40017` and the like (data model numbers 40001…) are taken as protocol address 16.
    Modbus {
        /// Which table.
        table: ModbusTable,
        /// Zero-based address as sent on the wire.
        offset: u16,
        /// Bit 0–15 inside a register (`holding:17.3`).
        bit: Option<u8>,
    },
    /// `nsu=urn:…;s=…` or `ns=2;i=…` (OPC UA Part 6 §5.3.1.10); the URI form is preferred, indexes may move.
    OpcUa {
        /// Namespace URI, when written as `nsu=`.
        namespace: Option<String>,
        /// Namespace index, when written as `ns=` (0 when neither is written).
        index: u16,
        /// Identifier with its type letter: `s=Spindle.Load`, `i=2258`, `g=…`, `b=…`.
        identifier: String,
    },
    /// `topic/of/sensor` for a raw payload, `topic/of/sensor#/a/b` for a JSON pointer (RFC 6901) into a JSON payload.
    Mqtt {
        /// Topic without wildcards.
        topic: String,
        /// JSON pointer, `None` for the raw payload as text.
        pointer: Option<String>,
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
    /// Reads a Modbus address.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_modbus(text: &str) -> Result<Self, AddressFault> {
        let fault =
            |reason: &str| AddressFault { found: text.to_owned(), what: "a Modbus address", reason: reason.to_owned() };
        let (word, place) = text
            .split_once(':')
            .ok_or_else(|| fault("write the table and the number, for example `holding:16` or `coil:1`"))?;
        let (table, model_base) = match word {
            "coil" => (ModbusTable::Coil, 1),
            "discrete" => (ModbusTable::Discrete, 10_001),
            "input" => (ModbusTable::Input, 30_001),
            "holding" => (ModbusTable::Holding, 40_001),
            _ => return Err(fault("the tables are `coil`, `discrete`, `input`, `holding`")),
        };
        let (number, bit) = match place.split_once('.') {
            Some((number, bit)) if !table.is_bits() => {
                let bit = bit.parse().ok().filter(|bit| *bit < 16).ok_or_else(|| fault("bits are numbered 0 to 15"))?;
                (number, Some(bit))
            }
            Some(_) => return Err(fault("a coil or discrete input has no bits of its own")),
            None => (place, None),
        };
        let number: u32 = number.parse().map_err(|_| fault("the number is a whole number from 0 to 65535"))?;
        // Data model numbers (40001…49999) are recognised only in the table they belong to; coils have no such range.
        let in_model_range = model_base > 1 && (model_base..model_base + 9_999).contains(&number);
        let offset = if in_model_range { number - model_base } else { number };
        let offset = u16::try_from(offset).map_err(|_| fault("the number is a whole number from 0 to 65535"))?;
        Ok(Self::Modbus { table, offset, bit })
    }

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
        let (namespace, index, identifier) = if let Some(rest) = text.strip_prefix("nsu=") {
            let (uri, identifier) = rest.split_once(';').ok_or_else(|| fault(EXAMPLE))?;
            (Some(uri.to_owned()), 0, identifier)
        } else if let Some(rest) = text.strip_prefix("ns=") {
            let (index, identifier) = rest.split_once(';').ok_or_else(|| fault(EXAMPLE))?;
            (None, index.parse().map_err(|_| fault("a namespace index is a number from 0 to 65535"))?, identifier)
        } else {
            (None, 0, text)
        };
        match identifier.split_once('=') {
            Some(("s" | "g" | "b", rest)) if !rest.is_empty() => {}
            Some(("i", number)) if number.parse::<u32>().is_ok() => {}
            _ => return Err(fault(EXAMPLE)),
        }
        Ok(Self::OpcUa { namespace, index, identifier: identifier.to_owned() })
    }

    /// Reads an MQTT topic with an optional JSON pointer.
    ///
    /// # Errors
    /// [`AddressFault`] with the reason.
    pub fn parse_mqtt(text: &str) -> Result<Self, AddressFault> {
        let fault =
            |reason: &str| AddressFault { found: text.to_owned(), what: "an MQTT address", reason: reason.to_owned() };
        let (topic, pointer) = match text.split_once('#') {
            Some((topic, pointer)) => (topic, Some(pointer)),
            None => (text, None),
        };
        if topic.is_empty() || topic.contains(['+', '\0']) {
            return Err(fault(
                "write a topic without wildcards, for example `hall/temp` or `hall/climate#/temperature`",
            ));
        }
        if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(fault("after `#` comes a JSON pointer (RFC 6901), which starts with `/`"));
        }
        Ok(Self::Mqtt { topic: topic.to_owned(), pointer: pointer.map(str::to_owned) })
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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Modbus { table, offset, bit: None } => write!(f, "{}:{offset}", table.word()),
            Self::Modbus { table, offset, bit: Some(bit) } => write!(f, "{}:{offset}.{bit}", table.word()),
            Self::OpcUa { namespace: Some(uri), identifier, .. } => write!(f, "nsu={uri};{identifier}"),
            Self::OpcUa { index: 0, identifier, .. } => f.write_str(identifier),
            Self::OpcUa { index, identifier, .. } => write!(f, "ns={index};{identifier}"),
            Self::Mqtt { topic, pointer: None } => f.write_str(topic),
            Self::Mqtt { topic, pointer: Some(pointer) } => write!(f, "{topic}#{pointer}"),
            Self::Column(column) => write!(f, "column:{column}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modbus_numbers_as_on_the_wire_and_as_in_manuals() {
        let at = |text| Address::parse_modbus(text).unwrap();
        assert_eq!(at("holding:16"), at("holding:40017"));
        assert_eq!(at("coil:1"), Address::Modbus { table: ModbusTable::Coil, offset: 1, bit: None });
        assert_eq!(at("input:3.15"), Address::Modbus { table: ModbusTable::Input, offset: 3, bit: Some(15) });
        for text in ["16", "register:1", "holding:x", "holding:70000", "coil:1.2", "input:3.16"] {
            assert!(Address::parse_modbus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn node_ids_by_uri_and_index() {
        let at = Address::parse_opcua("nsu=urn:factory:cnc;s=Spindle.Load").unwrap();
        assert_eq!(at.to_string(), "nsu=urn:factory:cnc;s=Spindle.Load");
        assert_eq!(Address::parse_opcua("i=2258").unwrap().to_string(), "i=2258");
        for text in ["", "Spindle", "ns=x;s=a", "ns=2", "i=abc", "s="] {
            assert!(Address::parse_opcua(text).is_err(), "{text}");
        }
    }

    #[test]
    fn topics_with_pointers() {
        assert_eq!(Address::parse_mqtt("a/b#/c").unwrap().to_string(), "a/b#/c");
        for text in ["", "a/+/b", "a#c"] {
            assert!(Address::parse_mqtt(text).is_err(), "{text}");
        }
    }
}
