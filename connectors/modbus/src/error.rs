//! Why devices cannot be planned or linked, and what can go wrong with one request.

use tally_connector_api::LinkFault;
use tally_model::{Address, DeviceId, Encoding, NoValue, PointId};
use tokio_modbus::ExceptionCode;

/// Why devices cannot be read as they are described. Found before anything connects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// The device is not reached by Modbus.
    #[error(
        "device `{device}` is reached at `{endpoint}`, which is not Modbus; write `modbus+tcp://host:port?unit=1` or one of its relatives"
    )]
    Endpoint {
        /// Which device.
        device: DeviceId,
        /// Where it says it is.
        endpoint: String,
    },
    /// A link was asked for without devices.
    #[error("a link needs at least one device")]
    NoDevices,
    /// Devices of one link live on different lines.
    #[error("device `{device}` is reached at {found}, the link at {link}; one link is one line")]
    OtherLine {
        /// Which device.
        device: DeviceId,
        /// Its line.
        found: String,
        /// The link's line.
        link: String,
    },
    /// The certificates of a TLS connection cannot be used.
    #[error("device `{device}`: {reason}")]
    Tls {
        /// Which device.
        device: DeviceId,
        /// What is wrong with them.
        reason: String,
    },
    /// A point lies where no request may reach.
    #[error("point `{point}`: `{address}` and {registers} registers touch a forbidden range")]
    Forbidden {
        /// Which point.
        point: PointId,
        /// Where it starts.
        address: Box<Address>,
        /// How long it is.
        registers: u16,
    },
    /// A limit of the device makes no sense.
    #[error("device `{device}`: {key} is {found}, allowed is {allowed}")]
    Limit {
        /// Which device.
        device: DeviceId,
        /// Which limit.
        key: &'static str,
        /// What was written.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A point has an address of another protocol.
    #[error("point `{point}`: `{address}` is not a Modbus address; write for example `holding:16` or `coil:1`")]
    Address {
        /// Which point.
        point: PointId,
        /// What was written.
        address: Box<Address>,
    },
    /// The encoding does not fit the address.
    #[error("point `{point}`: {encoding:?} cannot be read from `{address}`: {reason}")]
    Encoding {
        /// Which point.
        point: PointId,
        /// What was written.
        encoding: Encoding,
        /// Where.
        address: Box<Address>,
        /// What would fit.
        reason: &'static str,
    },
    /// The point would need registers beyond 65535.
    #[error("point `{point}`: `{address}` and {registers} registers reach beyond 65535")]
    BeyondEnd {
        /// Which point.
        point: PointId,
        /// Where it starts.
        address: Box<Address>,
        /// How long it is.
        registers: u16,
    },
    /// The point is longer than one request may be.
    #[error(
        "point `{point}` has {registers} registers, a request at most {registers_max}; raise `registers_per_request_max`"
    )]
    TooLong {
        /// Which point.
        point: PointId,
        /// How long it is.
        registers: u16,
        /// How long a request may be.
        registers_max: u16,
    },
}

/// Why one request gave no words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The device answered with an exception (App §7). The connection is fine.
    Exception(ExceptionCode),
    /// No complete answer in time. The connection is dropped.
    Timeout(String),
    /// The connection broke.
    Line(String),
    /// The other side does not let us in.
    Denied(String),
    /// We do not trust the other side.
    Untrusted(String),
    /// The answer is no answer to what was asked. The connection is dropped.
    Nonsense(String),
}

impl Failure {
    /// What the points that were asked for get. All bus codes are mapped here and nowhere else.
    pub(crate) fn reason(&self) -> NoValue {
        match self {
            // App §7, code 02.
            Self::Exception(ExceptionCode::IllegalDataAddress) => NoValue::NoSuchAddress,
            // Code 0B: the gateway answered in place of a silent device.
            Self::Exception(ExceptionCode::GatewayTargetDevice) | Self::Timeout(_) => NoValue::Timeout,
            // Codes 01, 03…08, 0A and vendors' own.
            Self::Exception(_) => NoValue::Refused,
            Self::Line(_) | Self::Denied(_) | Self::Untrusted(_) => NoValue::LinkDown,
            Self::Nonsense(_) => NoValue::Nonsense,
        }
    }

    /// Whether a smaller request might be answered: 02 address, 03 count, 04 failure while reading.
    pub(crate) fn is_about_addresses(&self) -> bool {
        matches!(
            self,
            Self::Exception(
                ExceptionCode::IllegalDataAddress
                    | ExceptionCode::IllegalDataValue
                    | ExceptionCode::ServerDeviceFailure
            )
        )
    }

    /// Whether the whole unit is out of reach, so that asking for its other points only costs time.
    pub(crate) fn is_about_unit(&self) -> bool {
        match self {
            // Codes 0A and 0B come from the gateway, not from the unit.
            Self::Exception(code) => {
                matches!(code, ExceptionCode::GatewayPathUnavailable | ExceptionCode::GatewayTargetDevice)
            }
            Self::Timeout(_) | Self::Line(_) | Self::Denied(_) | Self::Untrusted(_) | Self::Nonsense(_) => true,
        }
    }

    /// Whether the same question may get another answer: the device is busy, or a gateway answered for it.
    pub(crate) fn is_passing(&self) -> bool {
        self.is_busy() || self.is_about_unit()
    }

    /// Whether the connection must not be used again.
    pub(crate) fn spoils_connection(&self) -> bool {
        !matches!(self, Self::Exception(_))
    }

    pub(crate) fn into_link_fault(self) -> LinkFault {
        match self {
            Self::Exception(code) => LinkFault::Refused(format!("exception {:#04x}: {code}", u8::from(code))),
            Self::Timeout(text) | Self::Line(text) => LinkFault::Line(text),
            Self::Denied(text) => LinkFault::NotTrusted(text),
            Self::Untrusted(text) => LinkFault::Untrusted(text),
            Self::Nonsense(text) => LinkFault::Nonsense(text),
        }
    }
}

/// Sorts what tokio-modbus says. It checks transaction, unit and protocol id, function code and length itself
/// (TCP §4.2: an answer with another transaction id is not ours), but gives every codec fault as an I/O error.
impl From<tokio_modbus::Error> for Failure {
    fn from(error: tokio_modbus::Error) -> Self {
        use std::io::ErrorKind;
        if let tokio_modbus::Error::Transport(fault) = &error
            && let Some(reason) = crate::transport::denied(fault)
        {
            return Self::Denied(reason);
        }
        match error {
            tokio_modbus::Error::Protocol(fault) => Self::Nonsense(fault.to_string()),
            tokio_modbus::Error::Transport(fault) => match (fault.kind(), fault.raw_os_error()) {
                (ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe, _) => {
                    Self::Line(fault.to_string())
                }
                (ErrorKind::InvalidData | ErrorKind::InvalidInput, None) => Self::Nonsense(fault.to_string()),
                // The PDU is shorter than its own byte count says: the codec ran off its end.
                (ErrorKind::UnexpectedEof, None) => Self::Nonsense("shorter than it says itself".into()),
                // An orderly end comes as "the last OS error", which may be any old one; mid-frame as "bytes remaining".
                _ => Self::Line("the device closed the connection".into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exception_has_one_meaning() {
        let meaning = |code: u8| {
            let failure = Failure::Exception(ExceptionCode::new(code));
            (failure.reason(), failure.is_about_addresses(), failure.is_about_unit())
        };
        assert_eq!(meaning(0x01), (NoValue::Refused, false, false));
        assert_eq!(meaning(0x02), (NoValue::NoSuchAddress, true, false));
        assert_eq!(meaning(0x04), (NoValue::Refused, true, false));
        assert_eq!(meaning(0x06), (NoValue::Refused, false, false));
        assert_eq!(meaning(0x0a), (NoValue::Refused, false, true));
        assert_eq!(meaning(0x0b), (NoValue::Timeout, false, true));
        assert_eq!(meaning(0x77), (NoValue::Refused, false, false));
        assert!(!Failure::Exception(ExceptionCode::new(2)).spoils_connection());
        assert!(Failure::Timeout(String::new()).spoils_connection());
    }
}
