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
    /// A user certificate without its key or the reverse, or beside a user name.
    #[error("device `{device}`: {reason}")]
    UserCertificate {
        /// Which device.
        device: DeviceId,
        /// What does not fit together.
        reason: &'static str,
    },
    /// A policy that OPC UA has deprecated, without the word that says one knows.
    #[error(
        "device `{device}`: `policy: {found}` is deprecated because it rests on SHA-1; use `best`, or add \
         `insecure: true` beside it if this server can do no better"
    )]
    Deprecated {
        /// Which device.
        device: DeviceId,
        /// The policy.
        found: &'static str,
    },
    /// More subscriptions than the server can bear.
    #[error(
        "device `{device}`: its points need {needed} subscriptions, its limits say `subscriptions: {most}`; raise \
         `items_per_subscription`, map fewer points, or write `read: poll`"
    )]
    Subscriptions {
        /// Which device.
        device: DeviceId,
        /// How many it takes.
        needed: usize,
        /// How many there may be.
        most: u32,
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

/// Sorts a bad status of a whole request into the classes an engineer treats differently.
/// `asked` says what we wanted when it came.
pub(crate) fn link_fault(asked: &str, status: StatusCode, detail: &str) -> LinkFault {
    let said = if detail.is_empty() { status.to_string() } else { format!("{status} ({detail})") };
    let said = format!("{asked}: {said}");
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
        | StatusCode::BadRequestTimeout => LinkFault::Line(said),
        StatusCode::BadDecodingError
        | StatusCode::BadEncodingError
        | StatusCode::BadEncodingLimitsExceeded
        | StatusCode::BadTcpMessageTypeInvalid
        | StatusCode::BadTcpMessageTooLarge
        | StatusCode::BadSequenceNumberInvalid
        | StatusCode::BadUnexpectedError
        | StatusCode::BadUnknownResponse => LinkFault::Nonsense(said),
        _ => refusal(status, said),
    }
}

/// Who has to do what about a refusal.
fn refusal(status: StatusCode, said: String) -> LinkFault {
    match status {
        StatusCode::BadIdentityTokenRejected
        | StatusCode::BadIdentityTokenInvalid
        | StatusCode::BadUserSignatureInvalid
        | StatusCode::BadUserAccessDenied => LinkFault::Credentials(format!(
            "{said}; check `user` and `password` (or `user_certificate`) of the device, and that the server knows this user"
        )),
        // A server that does not know a certificate may say only "security checks failed" (Part 4 §6.1.3).
        StatusCode::BadSecurityChecksFailed
        | StatusCode::BadCertificateUntrusted
        | StatusCode::BadCertificateInvalid
        | StatusCode::BadCertificateUriInvalid
        | StatusCode::BadCertificateTimeInvalid
        | StatusCode::BadCertificateUseNotAllowed
        | StatusCode::BadCertificateRevoked
        | StatusCode::BadCertificateChainIncomplete
        | StatusCode::BadCertificateIssuerTimeInvalid => LinkFault::NotTrusted(format!(
            "{said}; put `own/cert.der` of the pki directory among the certificates the server trusts (it may wait in its \
             `rejected` list already)"
        )),
        StatusCode::BadTooManySessions
        | StatusCode::BadTooManySubscriptions
        | StatusCode::BadTooManyMonitoredItems
        | StatusCode::BadTooManyOperations
        | StatusCode::BadTooManyPublishRequests
        | StatusCode::BadMaxConnectionsReached
        | StatusCode::BadOutOfMemory
        | StatusCode::BadResourceUnavailable
        | StatusCode::BadServerTooBusy
        | StatusCode::BadTcpServerTooBusy
        | StatusCode::BadTcpNotEnoughResources => LinkFault::Limit(format!(
            "{said}; close another client of this server, raise its limit, or name its make with `opcua: {{profile: …}}`"
        )),
        _ => LinkFault::Refused(said),
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
        assert!(matches!(fault(StatusCode::BadNotSupported), LinkFault::Refused(_)));
    }

    #[test]
    fn refusals_say_who_has_to_act() {
        let fault = |status| link_fault("activate a session", status, "");
        let text = fault(StatusCode::BadIdentityTokenRejected).to_string();
        assert!(text.contains("activate a session") && text.contains("`user` and `password`"), "{text}");
        assert_eq!(fault(StatusCode::BadUserAccessDenied).class(), "bad-credentials");
        assert_eq!(fault(StatusCode::BadSecurityChecksFailed).class(), "we-are-not-trusted");
        assert_eq!(fault(StatusCode::BadTooManySessions).class(), "limit-hit");
        assert_eq!(fault(StatusCode::BadConnectionRejected).class(), "unreachable");
    }
}
