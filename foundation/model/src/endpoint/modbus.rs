//! What a Modbus device is reached over.
//!
//! | scheme | frames | over | default |
//! |---|---|---|---|
//! | `modbus+tcp://HOST:PORT` | MBAP (Modbus Messaging on TCP/IP V1.0b §3.1) | TCP | port 502 |
//! | `modbus+tls://HOST:PORT` | MBAP inside TLS (Modbus/TCP Security V36 §5) | TCP | port 802 |
//! | `modbus+rtu:///dev/ttyUSB0` | RTU (Modbus over Serial Line V1.02 §2.5.1) | serial | 19200 8E1 |
//! | `modbus+ascii:///dev/ttyUSB0` | ASCII (the same, §2.5.2) | serial | 19200 7E1 |
//! | `modbus+rtu+tcp://HOST:PORT` | RTU, as serial device servers pass it on | TCP | port 502 |
//! | `modbus+ascii+tcp://HOST:PORT` | ASCII, likewise | TCP | port 502 |
//!
//! Parameters: `unit=1` everywhere; `baud=19200 data=8 parity=even stop=1` on serial lines.

use super::{Endpoint, EndpointFault};
use std::fmt;
use std::path::PathBuf;

/// What one or several Modbus units are reached over, and how frames look there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModbusLine {
    /// MBAP frames over TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// MBAP frames over TLS.
    Tls {
        /// Host name or address; must stand in the server's certificate unless that is pinned.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// RTU frames over TCP.
    RtuOverTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// ASCII frames over TCP.
    AsciiOverTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// RTU frames on a serial line.
    Rtu(SerialLine),
    /// ASCII frames on a serial line.
    Ascii(SerialLine),
}

/// A serial line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialLine {
    /// `/dev/ttyUSB0`, `COM3`.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// 7 or 8.
    pub data_bits: u8,
    /// Parity.
    pub parity: Parity,
    /// 1 or 2.
    pub stop_bits: u8,
}

impl SerialLine {
    /// Bits of one character on the line: start bit, data, parity, stop bits.
    #[must_use]
    pub fn bits_per_character(&self) -> u32 {
        1 + u32::from(self.data_bits) + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits)
    }
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parity {
    /// None; then two stop bits are the standard (Modbus over Serial Line V1.02 §2.5.1).
    None,
    /// Even, the standard.
    Even,
    /// Odd.
    Odd,
}

impl Parity {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }
}

impl ModbusLine {
    /// The serial line, where it is one.
    #[must_use]
    pub const fn serial(&self) -> Option<&SerialLine> {
        match self {
            Self::Rtu(serial) | Self::Ascii(serial) => Some(serial),
            _ => None,
        }
    }

    /// Whether answers carry the id of their question (MBAP). Without it a late answer looks like the next one.
    #[must_use]
    pub const fn has_transaction_ids(&self) -> bool {
        matches!(self, Self::Tcp { .. } | Self::Tls { .. })
    }
}

impl fmt::Display for ModbusLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "modbus+tcp://{host}:{port}"),
            Self::Tls { host, port } => write!(f, "modbus+tls://{host}:{port}"),
            Self::RtuOverTcp { host, port } => write!(f, "modbus+rtu+tcp://{host}:{port}"),
            Self::AsciiOverTcp { host, port } => write!(f, "modbus+ascii+tcp://{host}:{port}"),
            Self::Rtu(serial) => write!(f, "modbus+rtu://{serial}"),
            Self::Ascii(serial) => write!(f, "modbus+ascii://{serial}"),
        }
    }
}

impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, baud, data_bits, parity, stop_bits } = self;
        write!(f, "{}?baud={baud}&data={data_bits}&parity={}&stop={stop_bits}", path.display(), parity.word())
    }
}

/// Reads a URL whose scheme is `modbus+` and `kind`.
pub(super) fn modbus(url: &url::Url, text: &str, kind: &str) -> Result<Endpoint, EndpointFault> {
    let host = || url.host_str().map(str::to_owned).ok_or_else(|| EndpointFault::NoHost(text.to_owned()));
    let port = |standard| url.port().unwrap_or(standard);
    let mut parameters = Parameters::read(url, matches!(kind, "rtu" | "ascii"))?;
    let line = match kind {
        "tcp" => ModbusLine::Tcp { host: host()?, port: port(502) },
        "tls" => ModbusLine::Tls { host: host()?, port: port(802) },
        "rtu+tcp" => ModbusLine::RtuOverTcp { host: host()?, port: port(502) },
        "ascii+tcp" => ModbusLine::AsciiOverTcp { host: host()?, port: port(502) },
        "rtu" => ModbusLine::Rtu(parameters.serial(url, text, 8)?),
        "ascii" => ModbusLine::Ascii(parameters.serial(url, text, 7)?),
        _ => return Err(EndpointFault::Scheme(url.scheme().to_owned())),
    };
    Ok(Endpoint::Modbus { line, unit: parameters.unit.take().unwrap_or(1) })
}

/// What may stand behind `?`.
#[derive(Default)]
struct Parameters {
    unit: Option<u8>,
    baud: Option<u32>,
    data_bits: Option<u8>,
    parity: Option<Parity>,
    stop_bits: Option<u8>,
}

impl Parameters {
    fn read(url: &url::Url, is_serial: bool) -> Result<Self, EndpointFault> {
        let mut read = Self::default();
        for (key, value) in url.query_pairs() {
            let senseless =
                |key, expected| EndpointFault::ParameterValue { key, found: value.clone().into_owned(), expected };
            match key.as_ref() {
                "unit" => {
                    let unit = value.parse().map_err(|_| senseless("unit", "a unit identifier from 0 to 255"))?;
                    read.unit = Some(unit);
                }
                "baud" if is_serial => {
                    let baud = value.parse().ok().filter(|baud| (300..=4_000_000).contains(baud));
                    read.baud = Some(baud.ok_or_else(|| senseless("baud", "bits per second, 300 to 4000000"))?);
                }
                "data" if is_serial => {
                    let bits = value.parse().ok().filter(|bits| [7, 8].contains(bits));
                    read.data_bits = Some(bits.ok_or_else(|| senseless("data", "7 or 8"))?);
                }
                "parity" if is_serial => {
                    let all = [Parity::None, Parity::Even, Parity::Odd];
                    let parity = all.into_iter().find(|parity| parity.word() == value);
                    read.parity = Some(parity.ok_or_else(|| senseless("parity", "none, even or odd"))?);
                }
                "stop" if is_serial => {
                    let bits = value.parse().ok().filter(|bits| [1, 2].contains(bits));
                    read.stop_bits = Some(bits.ok_or_else(|| senseless("stop", "1 or 2"))?);
                }
                _ => {
                    let allowed = if is_serial { "unit, baud, data, parity, stop" } else { "unit" };
                    return Err(EndpointFault::Parameter { found: key.into_owned(), allowed });
                }
            }
        }
        Ok(read)
    }

    fn serial(&self, url: &url::Url, text: &str, data_bits: u8) -> Result<SerialLine, EndpointFault> {
        // `modbus+rtu:///dev/ttyUSB0` has the name in the path, `modbus+rtu://COM3` in the host.
        let path = format!("{}{}", url.host_str().unwrap_or_default(), url.path());
        if matches!(path.as_str(), "" | "/") {
            return Err(EndpointFault::NoSerialLine(text.to_owned()));
        }
        let data_bits = self.data_bits.unwrap_or(data_bits);
        if data_bits == 7 && url.scheme() == "modbus+rtu" {
            let expected = "8: RTU needs whole bytes (Modbus over Serial Line V1.02 §2.5.1)";
            return Err(EndpointFault::ParameterValue { key: "data", found: "7".to_owned(), expected });
        }
        let parity = self.parity.unwrap_or(Parity::Even);
        // Without parity a second stop bit keeps the length of a character.
        let stop_bits = self.stop_bits.unwrap_or(if parity == Parity::None { 2 } else { 1 });
        Ok(SerialLine { path: PathBuf::from(path), baud: self.baud.unwrap_or(19_200), data_bits, parity, stop_bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> ModbusLine {
        match Endpoint::parse(text) {
            Ok(Endpoint::Modbus { line, .. }) => line,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_standards() {
        assert_eq!(
            Endpoint::parse("modbus+tcp://10.0.0.7").unwrap(),
            Endpoint::Modbus { line: ModbusLine::Tcp { host: "10.0.0.7".into(), port: 502 }, unit: 1 }
        );
        assert_eq!(line("modbus+tls://plc"), ModbusLine::Tls { host: "plc".into(), port: 802 });
        let ModbusLine::Rtu(rtu) = line("modbus+rtu:///dev/ttyUSB0?unit=3") else { panic!() };
        let usual =
            SerialLine { path: "/dev/ttyUSB0".into(), baud: 19_200, data_bits: 8, parity: Parity::Even, stop_bits: 1 };
        assert_eq!((rtu.bits_per_character(), rtu), (11, usual));
        let ModbusLine::Ascii(ascii) = line("modbus+ascii://COM3?baud=9600&parity=none") else { panic!() };
        assert_eq!((ascii.path.to_str(), ascii.data_bits, ascii.stop_bits), (Some("COM3"), 7, 2));
    }

    #[test]
    fn every_endpoint_is_read_back_as_it_is_shown() {
        for text in [
            "modbus+tcp://10.0.0.7:502?unit=1",
            "modbus+tls://plc:802?unit=0",
            "modbus+rtu+tcp://gateway:4001?unit=17",
            "modbus+ascii+tcp://[::1]:4001?unit=17",
            "modbus+rtu:///dev/ttyUSB0?baud=9600&data=8&parity=odd&stop=1&unit=3",
            "modbus+ascii:///dev/serial/by-id/usb-x?baud=19200&data=7&parity=even&stop=1&unit=247",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn faults_name_what_was_found() {
        let parameter = |text| match Endpoint::parse(text) {
            Err(EndpointFault::ParameterValue { key, .. }) => key.to_owned(),
            Err(EndpointFault::Parameter { found, .. }) => format!("unknown {found}"),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(parameter("modbus+tcp://x?unit=300"), "unit");
        assert_eq!(parameter("modbus+tcp://x?slave=3"), "unknown slave");
        assert_eq!(parameter("modbus+tcp://x?baud=9600"), "unknown baud");
        assert_eq!(parameter("modbus+rtu:///dev/x?baud=1"), "baud");
        assert_eq!(parameter("modbus+rtu:///dev/x?parity=mark"), "parity");
        assert_eq!(parameter("modbus+rtu:///dev/x?stop=3"), "stop");
        assert_eq!(parameter("modbus+rtu:///dev/x?data=7"), "data");
        assert!(matches!(Endpoint::parse("modbus+rtu://?unit=1"), Err(EndpointFault::NoSerialLine(_))));
        assert!(matches!(Endpoint::parse("modbus+udp://x"), Err(EndpointFault::Scheme(s)) if s == "modbus+udp"));
    }
}
