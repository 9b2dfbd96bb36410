//! Packets as both versions of MQTT mean them, and the two ways to write them.

use super::{Broken, Publish, Setup, v4, v5};
use bytes::{Bytes, BytesMut};
use rumqttc::QoS;
use tally_connector_api::LinkFault;
use tally_model::MqttVersion;

/// The broker's answer to one filter: the QoS it grants, or why it does not.
pub(crate) type Granted = Result<QoS, String>;

/// What we say.
pub(super) enum Out<'o> {
    Connect(&'o Setup),
    Publish { topic: &'o str, qos: QoS, retain: bool, payload: Bytes, packet_id: u16 },
    Subscribe { packet_id: u16, filters: &'o [(String, QoS)] },
    Unsubscribe { packet_id: u16, topic: &'o str },
    PubAck(u16),
    PubRec(u16),
    PubComp(u16),
    Ping,
    Disconnect,
}

/// What the broker says.
#[derive(Debug, PartialEq)]
pub(super) enum In {
    ConnAck(Welcome),
    /// CONNACK that lets nobody in.
    Refused(LinkFault),
    Publish(Publish),
    PubAck {
        packet_id: u16,
        refusal: Option<String>,
    },
    PubRel(u16),
    SubAck {
        packet_id: u16,
        granted: Vec<Granted>,
    },
    UnsubAck(u16),
    Pong,
    /// DISCONNECT with its reason (MQTT 5 only).
    Leaving(LinkFault),
    /// Nothing a broker says to such a client.
    Other(String),
}

/// CONNACK that lets us in, with the broker's limits (MQTT 5 §3.2.2.3; without a word of it there are none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    pub session_present: bool,
    /// QoS 1 messages of ours that may wait for their PUBACK.
    pub in_flight_max: u16,
    /// Largest packet it takes.
    pub packet_bytes_max: u32,
    /// Pings must come at least this often, in seconds.
    pub keep_alive: Option<u16>,
    /// Whether it keeps messages for those who subscribe later.
    pub retains: bool,
}

impl Welcome {
    pub(super) const fn without_limits(session_present: bool) -> Self {
        let (in_flight_max, packet_bytes_max) = (u16::MAX, u32::MAX);
        Self { session_present, in_flight_max, packet_bytes_max, keep_alive: None, retains: true }
    }
}

/// The largest packet MQTT has (MQTT 3.1.1 §2.2.3): 256 MiB and five bytes in front.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_455 + 5;

pub(super) fn write(version: MqttVersion, packet: &Out<'_>, out: &mut BytesMut, max: u32) -> Result<(), LinkFault> {
    let max = max.min(PACKET_BYTES_MAX);
    let written = match version {
        MqttVersion::V311 => v4::write(packet, out, max).map_err(|fault| fault.to_string()),
        MqttVersion::V5 => v5::write(packet, out, max).map_err(|fault| fault.to_string()),
    };
    written.map_err(|fault| LinkFault::Limit(format!("the broker cannot be sent this: {fault}")))
}

/// The next packet out of `inbox`, `None` while it is not whole.
pub(super) fn read(version: MqttVersion, inbox: &mut BytesMut, max: usize) -> Result<Option<In>, Broken> {
    match version {
        MqttVersion::V311 => v4::read(inbox, max),
        MqttVersion::V5 => v5::read(inbox, max),
    }
}

/// A packet that is too large to receive.
pub(super) fn too_large(bytes: usize, max: usize) -> Broken {
    let text = format!(
        "a message of {bytes} bytes came, at most {max} can be received; limit the publisher, or the broker with \
         `max_packet_size`"
    );
    Broken { fault: LinkFault::Nonsense(text), is_too_large: true }
}

/// Bytes that are no packet.
pub(super) fn nonsense(fault: &dyn std::fmt::Display) -> Broken {
    LinkFault::Nonsense(format!("what came is not MQTT: {fault}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters() -> Vec<(String, QoS)> {
        vec![("a/+".into(), QoS::ExactlyOnce), ("b".into(), QoS::AtMostOnce)]
    }

    #[test]
    fn packets_of_brokers_are_read_alike_in_both_versions() {
        for (version, bytes, expected) in [
            (MqttVersion::V311, &b"\x20\x02\x01\x00"[..], In::ConnAck(Welcome::without_limits(true))),
            (MqttVersion::V5, b"\x20\x03\x01\x00\x00", In::ConnAck(Welcome::without_limits(true))),
            (MqttVersion::V311, b"\x40\x02\x00\x07", In::PubAck { packet_id: 7, refusal: None }),
            (MqttVersion::V5, b"\x40\x02\x00\x07", In::PubAck { packet_id: 7, refusal: None }),
            // Nobody listens: not a refusal.
            (MqttVersion::V5, b"\x40\x03\x00\x07\x10", In::PubAck { packet_id: 7, refusal: None }),
            (MqttVersion::V311, b"\x62\x02\x00\x07", In::PubRel(7)),
            (MqttVersion::V5, b"\x62\x02\x00\x07", In::PubRel(7)),
            (MqttVersion::V5, b"\xd0\x00", In::Pong),
        ] {
            let mut inbox = BytesMut::from(bytes);
            assert_eq!(read(version, &mut inbox, 100).unwrap(), Some(expected), "{bytes:?}");
            assert!(inbox.is_empty());
            for length in 0..bytes.len() {
                assert_eq!(read(version, &mut BytesMut::from(&bytes[..length]), 100).unwrap(), None);
            }
        }
    }

    #[test]
    fn mqtt_5_says_why() {
        let read = |bytes: &[u8]| read(MqttVersion::V5, &mut BytesMut::from(bytes), 1_000).unwrap().unwrap();
        let In::PubAck { refusal: Some(text), .. } = read(b"\x40\x03\x00\x07\x87") else { panic!() };
        assert!(text.contains("access list"), "{text}");
        let In::Refused(LinkFault::Credentials(text)) = read(b"\x20\x03\x00\x86\x00") else { panic!() };
        assert!(text.contains("password"), "{text}");
        let In::Leaving(LinkFault::Refused(text)) = read(b"\xe0\x01\x8e") else { panic!() };
        assert!(text.contains("client id"), "{text}");
        let In::Leaving(LinkFault::Limit(_)) = read(b"\xe0\x02\x97\x00") else { panic!() };
        let In::Leaving(LinkFault::Line(_)) = read(b"\xe0\x00") else { panic!() };
        let In::SubAck { granted, .. } = read(b"\x90\x05\x00\x01\x00\x02\x87") else { panic!() };
        assert_eq!(granted[0], Ok(QoS::ExactlyOnce));
        assert!(granted[1].is_err());
        // Receive maximum 20, maximum packet size 1,000, server keep alive 2 s.
        let In::ConnAck(welcome) = read(b"\x20\x0e\x00\x00\x0b\x21\x00\x14\x27\x00\x00\x03\xe8\x13\x00\x02") else {
            panic!()
        };
        assert_eq!((welcome.in_flight_max, welcome.packet_bytes_max, welcome.keep_alive), (20, 1_000, Some(2)));
    }

    #[test]
    fn a_whole_packet_with_half_its_parts_is_nonsense() {
        for (version, bytes) in [
            (MqttVersion::V311, &b"\x90\x01\x00"[..]),
            (MqttVersion::V5, b"\x90\x01\x00"),
            (MqttVersion::V5, b"\x20\x02\x00\x00"),
            (MqttVersion::V5, b"\x30\x03\x00\x01t"),
        ] {
            let read = read(version, &mut BytesMut::from(bytes), 100);
            assert!(matches!(&read, Err(Broken { fault: LinkFault::Nonsense(_), .. })), "{bytes:?}: {read:?}");
        }
    }

    #[test]
    fn a_packet_too_large_for_the_broker_is_not_sent() {
        let payload = Bytes::from(vec![0; 100]);
        let packet = Out::Publish { topic: "t", qos: QoS::AtMostOnce, retain: false, payload, packet_id: 0 };
        for version in [MqttVersion::V311, MqttVersion::V5] {
            let mut out = BytesMut::new();
            assert!(matches!(write(version, &packet, &mut out, 50), Err(LinkFault::Limit(_))));
            assert!(out.is_empty());
            assert!(write(version, &packet, &mut out, 500).is_ok());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

        /// A panic in a packet reader would be the end of the link.
        #[test]
        fn no_bytes_make_a_packet_reader_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            kind in 1_u8..16,
            flags in 0_u8..16,
        ) {
            let mut framed = BytesMut::from(&[(kind << 4) | flags, u8::try_from(bytes.len()).unwrap()][..]);
            framed.extend_from_slice(&bytes);
            for version in [MqttVersion::V311, MqttVersion::V5] {
                let _ = read(version, &mut framed.clone(), 1 << 20);
                let _ = read(version, &mut BytesMut::from(&bytes[..]), 1 << 20);
            }
        }

        /// Properties (MQTT 5 §2.2.2) that make some sense reach deeper into the reader.
        #[test]
        fn no_properties_make_the_packet_reader_panic(
            kind in proptest::sample::select(vec![0x20_u8, 0x30, 0x32, 0x40, 0x50, 0x62, 0x90, 0xb0, 0xe0]),
            head in proptest::collection::vec(0_u8..4, 0..5),
            properties in proptest::collection::vec((1_u8..43, proptest::collection::vec(0_u8..6, 0..8)), 0..4),
            declared in 0_u8..40,
        ) {
            let mut body = head;
            body.push(declared);
            for (id, value) in properties {
                body.push(id);
                body.extend(value);
            }
            let mut framed = BytesMut::from(&[kind, u8::try_from(body.len()).unwrap()][..]);
            framed.extend_from_slice(&body);
            let _ = read(MqttVersion::V5, &mut framed, 1 << 20);
        }

        #[test]
        fn messages_come_back_as_they_went(topic in "[a-z/]{1,20}", payload in proptest::collection::vec(any::<u8>(), 0..300), qos in 0_u8..3) {
            let qos = rumqttc::qos(qos).unwrap();
            let packet_id = if qos == QoS::AtMostOnce { 0 } else { 9 };
            for version in [MqttVersion::V311, MqttVersion::V5] {
                let mut wire = BytesMut::new();
                let payload = Bytes::from(payload.clone());
                let out = Out::Publish { topic: &topic, qos, retain: true, payload: payload.clone(), packet_id };
                write(version, &out, &mut wire, u32::MAX).unwrap();
                let expected = Publish { topic: topic.clone(), payload, qos, retain: true, packet_id };
                prop_assert_eq!(read(version, &mut wire, 1 << 20).unwrap(), Some(In::Publish(expected)));
                prop_assert!(wire.is_empty());
            }
        }
    }

    #[test]
    fn what_we_say_is_what_a_foreign_reader_reads() {
        let mut out = BytesMut::new();
        let packet = Out::Subscribe { packet_id: 5, filters: &filters() };
        write(MqttVersion::V311, &packet, &mut out, u32::MAX).unwrap();
        // MQTT 3.1.1 §3.8: flags 0010, id, each filter with its QoS.
        assert_eq!(&out[..], b"\x82\x0c\x00\x05\x00\x03a/+\x02\x00\x01b\x00");
        out.clear();
        write(MqttVersion::V5, &packet, &mut out, u32::MAX).unwrap();
        // MQTT 5 §3.8: the same with an empty property list behind the id.
        assert_eq!(&out[..], b"\x82\x0d\x00\x05\x00\x00\x03a/+\x02\x00\x01b\x00");
    }
}
