//! Faults: of the mapping (before anything connects), and of the line (sorted into the classes of [`LinkFault`]).

use opcua::types::StatusCode;
use tally_connector_api::LinkFault;
use tally_model::DeviceId;

/// Why devices cannot become a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// A link without devices.
    #[error("an OPC UA link needs at least one device")]
    NoDevices,
    /// The device is not reached over OPC UA.
    #[error("device `{device}` is reached at `{found}`; an OPC UA link takes `opc.tcp://host:port`")]
    NotOpcUa {
        /// Which device.
        device: DeviceId,
        /// Its endpoint.
        found: String,
    },
    /// A point whose address is no node id.
    #[error(
        "device `{device}`, point `{point}`: `{found}` is no OPC UA node id ({reason}); write for example \
         `nsu=urn:factory:cnc;s=Spindle.Load`"
    )]
    Address {
        /// Which device.
        device: DeviceId,
        /// Which point.
        point: String,
        /// What was written.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sampling period of zero.
    #[error("device `{device}`: `every` must be longer than 0; write for example `every: 500ms`")]
    Every {
        /// Which device.
        device: DeviceId,
    },
    /// A user without a password or the reverse.
    #[error("device `{device}`: `user` and `password` belong together; found only `{found}`")]
    Credentials {
        /// Which device.
        device: DeviceId,
        /// Which of the two was written.
        found: &'static str,
    },
    /// Devices that cannot share a session.
    #[error("devices `{first}` and `{other}` differ in endpoint or security and need a link each")]
    Mixed {
        /// The first device.
        first: DeviceId,
        /// The one that differs.
        other: DeviceId,
    },
}

/// Sorts a bad status of a whole request into the three classes an engineer treats differently.
/// `asked` says what we wanted when it came.
pub(crate) fn link_fault(asked: &str, status: StatusCode, detail: &str) -> LinkFault {
    let said = if detail.is_empty() { status.to_string() } else { format!("{status} ({detail})") };
    match status {
        StatusCode::BadCommunicationError
        | StatusCode::BadConnectionClosed
        | StatusCode::BadConnectionRejected
        | StatusCode::BadDisconnect
        | StatusCode::BadNotConnected
        | StatusCode::BadServerNotConnected
        | StatusCode::BadTcpEndpointUrlInvalid
        | StatusCode::BadSecureChannelClosed
        | StatusCode::BadSecureChannelIdInvalid
        | StatusCode::BadSessionClosed
        | StatusCode::BadSessionIdInvalid
        | StatusCode::BadServerHalted
        | StatusCode::BadShutdown
        | StatusCode::BadTimeout
        | StatusCode::BadRequestTimeout => LinkFault::Line(format!("{asked}: {said}")),
        StatusCode::BadDecodingError
        | StatusCode::BadEncodingError
        | StatusCode::BadEncodingLimitsExceeded
        | StatusCode::BadTcpMessageTypeInvalid
        | StatusCode::BadTcpMessageTooLarge
        | StatusCode::BadSequenceNumberInvalid
        | StatusCode::BadUnexpectedError
        | StatusCode::BadUnknownResponse => LinkFault::Nonsense(format!("{asked}: {said}")),
        _ => LinkFault::Refused(format!("{asked}: {said}{}", hint(status))),
    }
}

/// What the operator can do about a refusal.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BadIdentityTokenRejected
        | StatusCode::BadIdentityTokenInvalid
        | StatusCode::BadUserAccessDenied => "; check `user` and `password` of the device",
        StatusCode::BadSecurityChecksFailed
        | StatusCode::BadCertificateUntrusted
        | StatusCode::BadCertificateInvalid
        | StatusCode::BadCertificateUriInvalid
        | StatusCode::BadCertificateTimeInvalid => {
            "; the server does not trust our certificate: put `own/cert.der` of the pki directory among its trusted ones"
        }
        StatusCode::BadTooManySessions | StatusCode::BadTooManySubscriptions | StatusCode::BadMaxConnectionsReached => {
            "; close another client of this server or raise its limit"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_the_server_and_nonsense_are_told_apart() {
        let fault = |status| link_fault("activate a session", status, "");
        assert!(matches!(fault(StatusCode::BadTimeout), LinkFault::Line(_)));
        assert!(matches!(fault(StatusCode::BadDecodingError), LinkFault::Nonsense(_)));
        let LinkFault::Refused(text) = fault(StatusCode::BadIdentityTokenRejected) else { panic!("not refused") };
        assert!(text.contains("activate a session") && text.contains("password"), "{text}");
    }
}
