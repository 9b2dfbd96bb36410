//! What devices, sensors and SCADA send: the connectors.

use crate::said::{TAKEN, outcome, plain, text};
use crate::targets::Seeds;
use std::sync::LazyLock;
use tally_connector_modbus::fuzzing::{ENCODINGS, Framing, QUESTIONS, answer};
use tally_connector_mqtt::fuzzing::{self, KINDS};
use tally_connector_mqtt::sparkplug::{
    DataType, Metric, MetricValue, Payload, PropertyContent, PropertySet, PropertyValue, Topic,
};
use tally_model::{Address, ByteOrder, DeviceSpec, Encoding, MqttVersion, PointId, PointSpec, Timestamp, Unit};

const NOON: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

fn point(address: Address, encoding: Encoding) -> PointSpec {
    PointSpec::new(PointId::try_new("p").unwrap(), address, encoding, Unit::one())
}

/// The first bytes choose how to read, the rest are registers.
pub fn modbus_words(bytes: &[u8]) -> String {
    let [kind, order, length, scale, rest @ ..] = bytes else { return "too short".to_owned() };
    let mut spec = point(Address::parse_modbus("holding:1").unwrap(), ENCODINGS[usize::from(*kind) % ENCODINGS.len()]);
    spec.order = ByteOrder::ALL[usize::from(*order) % ByteOrder::ALL.len()];
    spec.length = u16::from(*length);
    spec.scale = f64::from(*scale) - 1.0;
    let words: Vec<u16> =
        rest.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])).collect();
    outcome(&tally_connector_modbus::decode(&spec, &words))
}

pub fn modbus_word_seeds() -> Seeds {
    let kinds = (0..u8::try_from(ENCODINGS.len()).unwrap()).flat_map(|kind| {
        [1_u8, 2, 4]
            .map(|registers| [&[kind, 0, registers, 2][..], &[0x12, 0x34].repeat(usize::from(registers))].concat())
    });
    kinds.chain([vec![15, 1, 3, 2, b'p', b'r', b'e', b's', b's', 0]]).collect()
}

const FRAMINGS: [Framing; 3] = [Framing::Tcp, Framing::Rtu, Framing::Ascii];

/// A whole answer as it comes off the line: the first byte chooses the framing, the second the question that it answers, the
/// third into how many bytes it is cut on its way. However it is cut, it says the same or nothing.
pub fn modbus_frame(bytes: &[u8]) -> String {
    let [framing, question, piece, frame @ ..] = bytes else { return "too short".to_owned() };
    let framing = FRAMINGS[usize::from(*framing) % FRAMINGS.len()];
    let whole = answer(framing, *question, frame, usize::MAX);
    // With noise before a frame the reader may find the frame in one case and give up in the other; never something else.
    if let (Ok(words), Ok(cut)) = (&whole, answer(framing, *question, frame, usize::from(*piece))) {
        assert_eq!(&cut, words, "in pieces of {piece} it says something else");
    }
    whole.map_or_else(|fault| fault, |words| format!("{TAKEN} {} words", words.len()))
}

/// The answers of the standard (App §6) and an exception, in each framing.
pub fn modbus_frames() -> Seeds {
    let pdus: [&[u8]; 12] = [
        &[3, 6, 0x02, 0x2b, 0, 0, 0, 0x64],
        &[4, 2, 0, 10],
        &[1, 3, 0xcd, 0x6b, 0x05],
        &[2, 3, 0xac, 0xdb, 0x35],
        &[5, 0, 0xac, 0xff, 0],
        &[6, 0, 1, 0, 3],
        &[15, 0, 0x13, 0, 10],
        &[16, 0, 1, 0, 2],
        &[22, 0, 4, 0, 0xf2, 0, 0x25],
        &[23, 12, 0, 0xfe, 0x0a, 0xcd, 0, 1, 0, 3, 0, 0x0d, 0, 0xff],
        &[43, 14, 1, 1, 0, 0, 2, 0, 3, b'o', b'n', b'e', 1, 2, b'P', b'1'],
        &[0x83, 2],
    ];
    let seed = |number: usize, pdu: &[u8]| {
        let question = u8::try_from(number).unwrap() % QUESTIONS;
        let framed = [tcp(pdu), rtu(pdu), ascii(pdu)];
        (0_u8..)
            .zip(framed)
            .map(move |(framing, frame)| [&[framing, question, 3][..], &frame].concat())
            .collect::<Seeds>()
    };
    pdus.iter().enumerate().flat_map(|(number, pdu)| seed(number, pdu)).collect()
}

/// MBAP header (TCP §3.1.3) of transaction 0, unit 1.
fn tcp(pdu: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 0, u8::try_from(pdu.len() + 1).unwrap(), 1][..], pdu].concat()
}

fn rtu(pdu: &[u8]) -> Vec<u8> {
    let adu = [&[1][..], pdu].concat();
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&adu).to_le_bytes();
    [&adu[..], &crc].concat()
}

fn ascii(pdu: &[u8]) -> Vec<u8> {
    let adu = [&[1][..], pdu].concat();
    let sum = adu.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    format!(":{}{sum:02X}\r\n", hex::encode_upper(&adu)).into_bytes()
}

/// The first byte chooses how to read, the rest is the payload; pointers, raw text and CBOR side by side.
pub fn mqtt_payload(bytes: &[u8]) -> String {
    let [kind, payload @ ..] = bytes else { return "too short".to_owned() };
    let encoding = ENCODINGS[usize::from(*kind) % ENCODINGS.len()];
    let specs: Vec<_> =
        ["t", "t#/a/b", "t#/0"].iter().map(|at| point(Address::parse_mqtt(at).unwrap(), encoding)).collect();
    let samples = tally_connector_mqtt::decode(&specs, payload, NOON);
    assert_eq!(samples.len(), specs.len(), "a sample for each point");
    samples.iter().map(|sample| outcome(&sample.outcome) + " ").collect()
}

pub fn mqtt_payloads() -> Seeds {
    let kinds = 0..u8::try_from(ENCODINGS.len()).unwrap();
    let payloads: [&[u8]; 7] = [
        b"true",
        b"-21.5",
        b"running",
        br#"{"a":{"b":1.5},"timestamp":"2026-11-21T00:00:00Z"}"#,
        br#"[7,{"timestamp":1790000000000}]"#,
        b"\xa2\x61a\xa1\x61b\xfb\x40\x1d\0\0\0\0\0\0\x69timestamp\x1b\0\0\x01\xa0\xc5\x7f\x50\0",
        b"\x82\x07\xf9\x47\x40",
    ];
    kinds.flat_map(|kind| payloads.map(|payload| [&[kind][..], payload].concat())).collect()
}

/// What a broker says on the wire: the first byte chooses the version of MQTT.
pub fn mqtt_packets(bytes: &[u8]) -> String {
    let Some((version, bytes)) = bytes.split_first() else { return "too short".to_owned() };
    let version = if version % 2 == 0 { MqttVersion::V311 } else { MqttVersion::V5 };
    let packets = fuzzing::packets(version, bytes, 4_096);
    let is_read = packets.last().is_some_and(|last| !last.contains("not MQTT") && !last.contains("bytes came"));
    format!("{} {}", if is_read { TAKEN } else { "nothing" }, packets.join(" "))
}

pub fn mqtt_packet_seeds() -> Seeds {
    let both: [&[u8]; 6] = [
        b"\x40\x02\0\x07",
        b"\x62\x02\0\x07",
        b"\xd0\0",
        b"\x30\x0a\0\x03a/b21.5 C",
        b"\x33\x0a\0\x03a/b\0\x0921.",
        b"\xb0\x02\0\x01",
    ];
    let third: [&[u8]; 3] = [b"\x20\x02\x01\0", b"\x20\x02\0\x05", b"\x90\x04\0\x01\x02\x80"];
    let fifth: [&[u8]; 6] = [
        b"\x20\x0e\0\0\x0b\x21\0\x14\x27\0\0\x03\xe8\x13\0\x02",
        b"\x20\x03\0\x86\0",
        b"\x40\x03\0\x07\x87",
        b"\xe0\x02\x97\0",
        b"\x90\x05\0\x01\0\x02\x87",
        b"\x30\x0f\0\x03a/b\x07\x23\0\x01\x26\0\0\0\x3121",
    ];
    let of = |version: u8, packets: &[&[u8]]| {
        packets.iter().map(|packet| [&[version][..], packet].concat()).collect::<Seeds>()
    };
    [of(0, &both), of(1, &both), of(0, &third), of(1, &fifth)].concat()
}

/// The messages of one edge node in turn: kind (one byte), length (two, big-endian), payload.
pub fn sparkplug(mut bytes: &[u8]) -> String {
    let mut messages = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, behind) = rest.split_at(length);
        messages.push((KINDS[usize::from(*kind) % KINDS.len()], payload));
        bytes = behind;
    }
    let samples = fuzzing::edge_node(messages);
    samples.iter().map(|sample| outcome(&sample.outcome) + " ").collect()
}

fn metric(name: Option<&str>, alias: u64, kind: Option<DataType>, value: MetricValue) -> Metric {
    let (name, datatype) = (name.map(str::to_owned), kind.map(DataType::code));
    Metric { name, alias: Some(alias), datatype, value: Some(value), timestamp: Some(5_001), ..Metric::default() }
}

fn said(kind: u8, seq: u64, metrics: Vec<Metric>) -> Vec<u8> {
    let payload = Payload { timestamp: Some(5_000), seq: Some(seq), metrics, ..Payload::default() }.to_bytes();
    [&[kind][..], &u16::try_from(payload.len()).unwrap().to_be_bytes(), &payload].concat()
}

fn quality(code: u32) -> Option<PropertySet> {
    let value = PropertyValue { r#type: Some(3), is_null: None, value: Some(PropertyContent::Int(code)) };
    Some(PropertySet { keys: vec!["Quality".to_owned()], values: vec![value] })
}

pub fn sparkplug_seeds() -> Seeds {
    let born = |first| {
        vec![
            metric(Some("bdSeq"), 90, Some(DataType::Int64), MetricValue::Long(1)),
            metric(Some("speed"), first, Some(DataType::Double), MetricValue::Double(41.5)),
            metric(Some("on"), first + 1, Some(DataType::Boolean), MetricValue::Boolean(true)),
            metric(Some("name"), first + 2, Some(DataType::String), MetricValue::String("P1".to_owned())),
        ]
    };
    let data = vec![
        Metric { properties: quality(192), ..metric(None, 1, None, MetricValue::Double(42.5)) },
        Metric { is_historical: Some(true), ..metric(None, 2, None, MetricValue::Boolean(false)) },
        Metric { is_null: Some(true), ..metric(None, 3, None, MetricValue::Int(3)) },
        Metric { properties: quality(500), ..metric(Some("speed"), 1, None, MetricValue::Float(1.5)) },
    ];
    let births = [said(0, 0, born(1)), said(3, 1, born(5))].concat();
    let deaths = [said(5, 3, Vec::new()), said(2, 4, born(1)[..1].to_vec())].concat();
    let all = [&births[..], &said(1, 2, data.clone()), &deaths].concat();
    vec![births.clone(), [births, said(4, 2, data)].concat(), all]
}

/// A plant of one device, whose points can be commanded.
fn devices() -> &'static [DeviceSpec] {
    static PLANT: LazyLock<Vec<DeviceSpec>> = LazyLock::new(|| crate::site::plant(crate::site::PLANT).devices);
    &PLANT
}

/// What a host wants written: to a device, or (first byte odd) to the edge node.
pub fn sparkplug_command(bytes: &[u8]) -> String {
    let Some((to, payload)) = bytes.split_first() else { return "too short".to_owned() };
    let commands = fuzzing::commands(devices(), (to % 2 == 0).then_some("press-01"), payload);
    commands.iter().map(|command| outcome(&command.value) + " ").collect()
}

pub fn sparkplug_commands() -> Seeds {
    let metrics = vec![
        metric(Some("load"), 1, Some(DataType::Double), MetricValue::Double(41.5)),
        metric(None, 2, None, MetricValue::Boolean(true)),
        metric(Some("Node Control/Rebirth"), 9, Some(DataType::Boolean), MetricValue::Boolean(true)),
    ];
    let payload = Payload { timestamp: Some(5_000), metrics, ..Payload::default() }.to_bytes();
    [0_u8, 1].map(|to| [&[to][..], &payload].concat()).into()
}

/// Where a device is, and where on it a point is; topics of Sparkplug, names of cases.
pub fn addresses(bytes: &[u8]) -> String {
    text(bytes, |text| {
        let all =
            [plain(Address::parse_modbus(text)), plain(Address::parse_mqtt(text)), plain(Address::parse_opcua(text))];
        if let Some(topic) = Topic::parse(text) {
            assert_eq!(topic.to_string(), text, "a topic that is written otherwise");
        }
        format!("{} {}", plain(tally_model::Endpoint::parse(text)), all.join(" "))
    })
}

pub fn address_seeds() -> Seeds {
    let all = [
        "modbus+tcp://10.0.0.7:502?unit=1",
        "modbus+rtu:///dev/ttyUSB0?baud=9600&parity=none&unit=3",
        "modbus+ascii:///dev/ttyS1?baud=19200&parity=even&stop=2&unit=247",
        "modbus+rtu+tcp://gateway:4001?unit=2",
        "modbus+tls://plc.example:802?unit=1",
        "opc.tcp://h:4840/p",
        "mqtts://[fd00::1]:8883?version=5&qos=1",
        "mqtt://broker",
        "holding:16",
        "coil:1",
        "input:7.3",
        "400017",
        "%MW16",
        "ns=2;s=Press.Spindle.Vibration",
        "ns=0;i=2258",
        "nsu=http://example.org/UA/;g=09087e75-8e5e-499b-954f-f2a9603db28a",
        "ns=3;b=aGVsbG8=",
        "hall/climate#/temperature/0",
        "spBv1.0/works/DDATA/edge/press#Motor/Temp",
        "spBv1.0/works/NBIRTH/edge",
    ];
    all.map(|text| text.as_bytes().to_vec()).into()
}
