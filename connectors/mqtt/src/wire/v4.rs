//! MQTT 3.1.1 (OASIS Standard, 29 October 2014).

use super::codec::{In, Out, Welcome, nonsense, too_large};
use super::{Broken, Publish, Setup};
use crate::config::KEEP_ALIVE;
use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::{
    Connect, ConnectReturnCode, LastWill, Login, Packet, PubAck, PubComp, PubRec, Subscribe, SubscribeFilter,
    SubscribeReasonCode, Unsubscribe,
};
use tally_connector_api::LinkFault;
use tally_model::Secret;

pub(super) fn write(packet: &Out<'_>, out: &mut BytesMut, max: u32) -> Result<(), Error> {
    let packet = match packet {
        Out::Connect(setup) => Packet::Connect(connect(setup)),
        Out::Publish { topic, qos, retain, payload, packet_id } => {
            let mut publish = rumqttc::Publish::from_bytes(*topic, *qos, payload.clone());
            (publish.retain, publish.pkid) = (*retain, *packet_id);
            Packet::Publish(publish)
        }
        Out::Subscribe { packet_id, filters } => {
            let filters = filters.iter().map(|(topic, qos)| SubscribeFilter::new(topic.clone(), *qos));
            let mut subscribe = Subscribe::new_many(filters);
            subscribe.pkid = *packet_id;
            Packet::Subscribe(subscribe)
        }
        Out::Unsubscribe { packet_id, topic } => {
            let mut unsubscribe = Unsubscribe::new(*topic);
            unsubscribe.pkid = *packet_id;
            Packet::Unsubscribe(unsubscribe)
        }
        Out::PubAck(id) => Packet::PubAck(PubAck::new(*id)),
        Out::PubRec(id) => Packet::PubRec(PubRec::new(*id)),
        Out::PubComp(id) => Packet::PubComp(PubComp::new(*id)),
        Out::Ping => Packet::PingReq,
        Out::Disconnect => Packet::Disconnect,
    };
    packet.write(out, usize::try_from(max).unwrap_or(usize::MAX)).map(|_| ())
}

fn connect(setup: &Setup) -> Connect {
    let mut connect = Connect::new(&setup.login.client_id);
    connect.keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX);
    connect.clean_session = setup.clean;
    connect.last_will =
        setup.will.as_ref().map(|will| LastWill::new(&will.topic, will.payload.clone(), will.qos, will.retain));
    let password = setup.login.password.as_ref().map_or("", Secret::reveal);
    connect.login = setup.login.user.as_ref().map(|user| Login::new(user, password));
    connect
}

pub(super) fn read(inbox: &mut BytesMut, max: usize) -> Result<Option<In>, Broken> {
    let waiting = inbox.len();
    let packet = match Packet::read(inbox, max) {
        Ok(packet) => packet,
        // Said of a packet that is whole, it means that the packet ends before its parts do.
        Err(Error::InsufficientBytes(_)) if inbox.len() == waiting => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded(bytes)) => return Err(too_large(bytes, max)),
        Err(fault) => return Err(nonsense(&fault)),
    };
    Ok(Some(match packet {
        Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
            In::ConnAck(Welcome::without_limits(answer.session_present))
        }
        Packet::ConnAck(answer) => In::Refused(refusal(answer.code)),
        Packet::Publish(publish) => In::Publish(Publish {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.pkid,
        }),
        Packet::PubAck(answer) => In::PubAck { packet_id: answer.pkid, refusal: None },
        Packet::PubRel(release) => In::PubRel(release.pkid),
        Packet::SubAck(answer) => {
            let granted = answer.return_codes.iter().map(|code| match code {
                SubscribeReasonCode::Success(qos) => Ok(*qos),
                // Return code 0x80 (§3.9.3) is all that this version has.
                SubscribeReasonCode::Failure => Err("the broker refused it: check its access list".to_owned()),
            });
            In::SubAck { packet_id: answer.pkid, granted: granted.collect() }
        }
        Packet::UnsubAck(answer) => In::UnsubAck(answer.pkid),
        Packet::PingResp => In::Pong,
        other => In::Other(format!("{other:?}").chars().take(40).collect()),
    }))
}

/// CONNACK return codes (§3.2.2.3, table 3.1).
fn refusal(code: ConnectReturnCode) -> LinkFault {
    let text = |text: &str| text.to_owned();
    match code {
        ConnectReturnCode::Success => LinkFault::Nonsense(text("the broker refused with the code for success")),
        ConnectReturnCode::RefusedProtocolVersion => {
            LinkFault::Refused(text("the broker does not speak MQTT 3.1.1 (CONNACK 1); try `?version=5`"))
        }
        ConnectReturnCode::BadClientId => {
            LinkFault::Refused(text("the broker does not accept our client id (CONNACK 2)"))
        }
        ConnectReturnCode::ServiceUnavailable => {
            LinkFault::Refused(text("the broker is there but does not serve (CONNACK 3)"))
        }
        ConnectReturnCode::BadUserNamePassword => {
            LinkFault::Credentials(text("the broker does not accept user name or password (CONNACK 4)"))
        }
        ConnectReturnCode::NotAuthorized => LinkFault::Credentials(text(
            "the broker does not let us in (CONNACK 5, not authorized): check user, password and client certificate",
        )),
    }
}
