//! MQTT 5.0 (OASIS Standard, 7 March 2019).

use super::codec::{In, Out, Welcome, nonsense, too_large};
use super::{Broken, Publish, Setup};
use crate::config::KEEP_ALIVE;
use bytes::{Buf, Bytes, BytesMut};
use rumqttc::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, LastWill, Login,
    Packet, PingReq, PubAck, PubAckReason, PubComp, PubRec, Subscribe, SubscribeReasonCode, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error, QoS as QoS5};
use tally_connector_api::LinkFault;
use tally_model::Secret;

/// The broker keeps our session for ever, as one of MQTT 3.1.1 does (§3.1.2.11.2).
const SESSION_FOR_EVER: u32 = u32::MAX;

pub(super) fn write(packet: &Out<'_>, out: &mut BytesMut, max: u32) -> Result<(), Error> {
    let packet = match packet {
        Out::Connect(setup) => connect(setup),
        Out::Publish { topic, qos, retain, payload, packet_id } => {
            let mut publish = rumqttc::v5::mqttbytes::v5::Publish::new(*topic, qos_5(*qos), payload.clone(), None);
            (publish.retain, publish.pkid) = (*retain, *packet_id);
            Packet::Publish(publish)
        }
        Out::Subscribe { packet_id, filters } => {
            let filters = filters.iter().map(|(topic, qos)| Filter::new(topic, qos_5(*qos)));
            let mut subscribe = Subscribe::new_many(filters, None);
            subscribe.pkid = *packet_id;
            Packet::Subscribe(subscribe)
        }
        Out::Unsubscribe { packet_id, topic } => {
            let mut unsubscribe = Unsubscribe::new(*topic, None);
            unsubscribe.pkid = *packet_id;
            Packet::Unsubscribe(unsubscribe)
        }
        Out::PubAck(id) => Packet::PubAck(PubAck::new(*id, None)),
        Out::PubRec(id) => Packet::PubRec(PubRec::new(*id, None)),
        Out::PubComp(id) => Packet::PubComp(PubComp::new(*id, None)),
        Out::Ping => Packet::PingReq(PingReq),
        Out::Disconnect => Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)),
    };
    packet.write(out, Some(max)).map(|_| ())
}

fn connect(setup: &Setup) -> Packet {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = (!setup.clean).then_some(SESSION_FOR_EVER);
    // Larger messages are not sent to us and do not end the connection (§3.1.2.11.4).
    properties.max_packet_size = u32::try_from(setup.incoming_bytes_max).ok();
    let connect = Connect {
        keep_alive: u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX),
        client_id: setup.login.client_id.clone(),
        clean_start: setup.clean,
        properties: Some(properties),
    };
    let will = setup.will.as_ref();
    let will = will.map(|will| LastWill::new(&will.topic, will.payload.clone(), qos_5(will.qos), will.retain, None));
    let password = setup.login.password.as_ref().map_or("", Secret::reveal);
    let login = setup.login.user.as_ref().map(|user| Login::new(user, password));
    Packet::Connect(connect, will, login)
}

const fn qos_5(qos: QoS) -> QoS5 {
    match qos {
        QoS::AtMostOnce => QoS5::AtMostOnce,
        QoS::AtLeastOnce => QoS5::AtLeastOnce,
        QoS::ExactlyOnce => QoS5::ExactlyOnce,
    }
}

const fn qos_4(qos: QoS5) -> QoS {
    match qos {
        QoS5::AtMostOnce => QoS::AtMostOnce,
        QoS5::AtLeastOnce => QoS::AtLeastOnce,
        QoS5::ExactlyOnce => QoS::ExactlyOnce,
    }
}

pub(super) fn read(inbox: &mut BytesMut, max: usize) -> Result<Option<In>, Broken> {
    if let Some(reason) = short_farewell(inbox) {
        let reason = reason?;
        return Ok(Some(In::Leaving(farewell(&Disconnect::new(reason)))));
    }
    let limit = u32::try_from(max).unwrap_or(u32::MAX);
    let waiting = inbox.len();
    let packet = match Packet::read(inbox, Some(limit)) {
        Ok(packet) => packet,
        // Said of a packet that is whole, it means that the packet ends before its parts do.
        Err(Error::InsufficientBytes(_)) if inbox.len() == waiting => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded { pkt_size, .. }) => return Err(too_large(pkt_size, max)),
        Err(fault) => return Err(nonsense(&fault)),
    };
    Ok(Some(match packet {
        Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => In::ConnAck(welcome(&answer)),
        Packet::ConnAck(answer) => In::Refused(refusal(&answer)),
        Packet::Publish(publish) => In::Publish(message(publish)?),
        Packet::PubAck(answer) => In::PubAck { packet_id: answer.pkid, refusal: not_taken(answer.reason) },
        Packet::PubRel(release) => In::PubRel(release.pkid),
        Packet::SubAck(answer) => {
            let granted = answer.return_codes.iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Ok(qos_4(*qos)),
                refusal => Err(not_subscribed(*refusal)),
            });
            In::SubAck { packet_id: answer.pkid, granted: granted.collect() }
        }
        Packet::UnsubAck(answer) => In::UnsubAck(answer.pkid),
        Packet::PingResp(_) => In::Pong,
        Packet::Disconnect(goodbye) => In::Leaving(farewell(&goodbye)),
        other => In::Other(format!("{other:?}").chars().take(40).collect()),
    }))
}

/// A DISCONNECT without properties (§3.14.2.2.1), or without a reason, which is 0x00 (§3.14.2.1): rumqttc 0.25.1 reads
/// neither.
fn short_farewell(inbox: &mut BytesMut) -> Option<Result<DisconnectReasonCode, Broken>> {
    let (length, code) = match inbox.as_ref() {
        [0xe0, 0, ..] => (2, 0),
        [0xe0, 1, code, ..] => (3, *code),
        _ => return None,
    };
    inbox.advance(length);
    Some(DisconnectReasonCode::try_from(code).map_err(|fault| nonsense(&fault)))
}

/// A message. We allow no topic aliases (§3.1.2.11.5), so each carries its topic.
fn message(publish: rumqttc::v5::mqttbytes::v5::Publish) -> Result<Publish, Broken> {
    let utf8 = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| nonsense(&"a topic that is not UTF-8"));
    Ok(Publish {
        topic: utf8(publish.topic)?,
        payload: publish.payload,
        qos: qos_4(publish.qos),
        retain: publish.retain,
        packet_id: publish.pkid,
    })
}

fn welcome(answer: &ConnAck) -> Welcome {
    let plain = Welcome::without_limits(answer.session_present);
    let Some(properties) = &answer.properties else { return plain };
    Welcome {
        in_flight_max: properties.receive_max.unwrap_or(plain.in_flight_max),
        packet_bytes_max: properties.max_packet_size.unwrap_or(plain.packet_bytes_max),
        keep_alive: properties.server_keep_alive,
        retains: properties.retain_available != Some(0),
        ..plain
    }
}

/// CONNACK reason codes (§3.2.2.2, table 3-1).
fn refusal(answer: &ConnAck) -> LinkFault {
    use ConnectReturnCode as Code;
    let properties = answer.properties.as_ref();
    let reason = properties.and_then(|properties| properties.reason_string.clone());
    let reason = reason.map(|reason| format!(" (\"{}\")", cut(&reason))).unwrap_or_default();
    let text = |text: &str| format!("{text}{reason}");
    match answer.code {
        Code::BadUserNamePassword => {
            LinkFault::Credentials(text("the broker does not accept user name or password (CONNACK 0x86)"))
        }
        Code::NotAuthorized | Code::BadAuthenticationMethod | Code::Banned => LinkFault::Credentials(text(&format!(
            "the broker does not let us in (CONNACK: {:?}): check user, password and client certificate",
            answer.code
        ))),
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
            LinkFault::Refused(text("the broker does not speak MQTT 5 (CONNACK 0x84); leave out `?version=5`"))
        }
        Code::ClientIdentifierNotValid | Code::BadClientId => {
            LinkFault::Refused(text("the broker does not accept our client id (CONNACK 0x85)"))
        }
        Code::QuotaExceeded | Code::ServerBusy | Code::ConnectionRateExceeded => {
            LinkFault::Limit(text(&format!("the broker has no room for us now (CONNACK: {:?})", answer.code)))
        }
        Code::ServerUnavailable | Code::ServiceUnavailable => {
            LinkFault::Refused(text("the broker is there but does not serve (CONNACK 0x88)"))
        }
        other => LinkFault::Refused(text(&format!("the broker refused the connection (CONNACK: {other:?})"))),
    }
}

/// PUBACK reason codes (§3.4.2.1): only those from 0x80 on are refusals.
fn not_taken(reason: PubAckReason) -> Option<String> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::NotAuthorized => {
            Some("the broker does not let us publish there: check its access list (PUBACK 0x87)".to_owned())
        }
        other => Some(format!("the broker refused the message (PUBACK: {other:?})")),
    }
}

/// SUBACK reason codes (§3.9.3).
fn not_subscribed(code: SubscribeReasonCode) -> String {
    match code {
        SubscribeReasonCode::NotAuthorized => "the broker does not let us read it: check its access list".to_owned(),
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => {
            "the broker knows no wildcards: write each topic, or leave out `?version=5`".to_owned()
        }
        other => format!("the broker refused it (SUBACK: {other:?})"),
    }
}

/// DISCONNECT reason codes (§3.14.2.1).
fn farewell(goodbye: &Disconnect) -> LinkFault {
    use DisconnectReasonCode as Code;
    match goodbye.reason_code {
        Code::NormalDisconnection | Code::ServerShuttingDown => {
            LinkFault::Line("the broker is shutting down (DISCONNECT)".to_owned())
        }
        Code::KeepAliveTimeout => LinkFault::Line("the broker did not hear our pings (DISCONNECT 0x8D)".to_owned()),
        Code::SessionTakenOver => LinkFault::Refused(
            "another program connected with our client id (DISCONNECT 0x8E): is there a second agent of this name?"
                .to_owned(),
        ),
        Code::NotAuthorized => LinkFault::Credentials(
            "the broker does not let us go on (DISCONNECT 0x87): check its access list".to_owned(),
        ),
        Code::PacketTooLarge | Code::QuotaExceeded | Code::MessageRateTooHigh | Code::ReceiveMaximumExceeded => {
            LinkFault::Limit(format!("the broker ended the connection (DISCONNECT: {:?})", goodbye.reason_code))
        }
        ref other => LinkFault::Refused(format!("the broker ended the connection (DISCONNECT: {other:?})")),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
