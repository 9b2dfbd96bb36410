use super::*;
use crate::decode::tests::spec;
use crate::sparkplug::session::asks_for_rebirth;
use crate::sparkplug::value;
use proptest::prelude::*;
use tally_model::{Outcome, Quality, Value};

const AT: Timestamp = Timestamp::from_micros(9_000_000);

fn wanted(id: &str, of: Option<&str>, metric: &str) -> Wanted {
    let mut point = spec(id, "x");
    point.unit = tally_model::Unit::one();
    Wanted { device: DeviceId::try_new("line").unwrap(), point, of: of.map(str::to_owned), metric: metric.to_owned() }
}

fn watch() -> NodeWatch {
    let wanted = vec![
        wanted("up", None, "Uptime"),
        wanted("temp", Some("press"), "Motor/Temp"),
        wanted("count", Some("press"), "Count"),
    ];
    NodeWatch::new("works", "edge", wanted, Instant::now())
}

fn metric(name: Option<&str>, alias: Option<u64>, kind: Option<DataType>, value: MetricValue) -> Metric {
    Metric {
        name: name.map(str::to_owned),
        alias,
        datatype: kind.map(DataType::code),
        value: Some(value),
        ..Metric::default()
    }
}

fn said(watch: &mut NodeWatch, topic: &str, seq: Option<u64>, metrics: Vec<Metric>) -> Heard {
    let topic = format!("spBv1.0/works/{topic}");
    let payload = Payload { timestamp: Some(5_000), metrics, seq, ..Payload::default() };
    watch.hear(&Topic::parse(&topic).unwrap(), &payload.to_bytes(), AT, Instant::now())
}

fn node_birth(watch: &mut NodeWatch, seq: u64, bd_seq: u64) -> Heard {
    let metrics = vec![
        metric(Some("bdSeq"), None, Some(DataType::Int64), MetricValue::Long(bd_seq)),
        metric(Some("Uptime"), Some(1), Some(DataType::UInt64), MetricValue::Long(12)),
    ];
    said(watch, "NBIRTH/edge", Some(seq), metrics)
}

fn device_birth(watch: &mut NodeWatch, seq: u64) -> Heard {
    let metrics = vec![
        metric(Some("Motor/Temp"), Some(2), Some(DataType::Float), MetricValue::Float(21.5)),
        metric(Some("Other"), Some(3), Some(DataType::Boolean), MetricValue::Boolean(true)),
        metric(Some("Count"), Some(4), Some(DataType::Int16), MetricValue::Int(0xFFFF_FFFF)),
    ];
    said(watch, "DBIRTH/edge/press", Some(seq), metrics)
}

fn outcomes(heard: &Heard) -> Vec<(&str, Outcome)> {
    heard.samples.iter().map(|(_, sample)| (sample.point.as_str(), sample.outcome.clone())).collect()
}

#[test]
fn births_give_names_and_data_follow_by_alias_and_by_name() {
    let mut watch = watch();
    assert_eq!(outcomes(&node_birth(&mut watch, 0, 3)), [("up", Ok(Value::Integer(12)))]);
    let birth = device_birth(&mut watch, 1);
    assert_eq!(outcomes(&birth), [("temp", Ok(Value::Float(21.5))), ("count", Ok(Value::Integer(-1)))]);
    assert_eq!(birth.samples[0].1.source_time, Timestamp::from_micros(5_000_000));
    let data = vec![
        metric(None, Some(3), None, MetricValue::Boolean(false)),
        Metric { timestamp: Some(6_000), ..metric(None, Some(4), None, MetricValue::Int(7)) },
        metric(Some("Motor/Temp"), None, None, MetricValue::Float(22.5)),
    ];
    let heard = said(&mut watch, "DDATA/edge/press", Some(2), data);
    assert_eq!(outcomes(&heard), [("count", Ok(Value::Integer(7))), ("temp", Ok(Value::Float(22.5)))]);
    assert_eq!(heard.samples[0].1.source_time, Timestamp::from_micros(6_000_000));
    assert!(!heard.wants_birth);
    let heard = said(&mut watch, "NDATA/edge", Some(3), vec![metric(None, Some(1), None, MetricValue::Long(13))]);
    assert_eq!(outcomes(&heard), [("up", Ok(Value::Integer(13)))]);
}

#[test]
fn the_numbers_come_round_and_a_missing_one_asks_for_births() {
    let mut watch = watch();
    node_birth(&mut watch, 255, 0);
    device_birth(&mut watch, 0);
    let count = |watch: &mut NodeWatch, seq| {
        said(watch, "DDATA/edge/press", seq, vec![metric(None, Some(4), None, MetricValue::Int(1))])
    };
    assert!(!count(&mut watch, Some(1)).wants_birth);
    let heard = count(&mut watch, Some(3));
    assert!(heard.wants_birth && heard.samples.is_empty(), "what came after the gap may mean something else");
    assert!(heard.fault.unwrap().contains("message 2 is missing, 3 came"));
    assert!(count(&mut watch, Some(4)).wants_birth, "nothing counts before the next birth");
    node_birth(&mut watch, 0, 0);
    device_birth(&mut watch, 1);
    assert_eq!(outcomes(&count(&mut watch, Some(2))), [("count", Ok(Value::Integer(1)))]);
    assert!(count(&mut watch, None).wants_birth);
}

#[test]
fn what_nobody_announced_asks_for_births() {
    for (topic, metric) in [
        ("DDATA/edge/press", metric(None, Some(99), None, MetricValue::Int(1))),
        ("DDATA/edge/stranger", metric(Some("x"), None, None, MetricValue::Int(1))),
    ] {
        let mut watch = watch();
        node_birth(&mut watch, 0, 0);
        device_birth(&mut watch, 1);
        assert!(said(&mut watch, topic, Some(2), vec![metric]).wants_birth, "{topic}");
    }
    let mut watch = watch();
    assert!(said(&mut watch, "NDATA/edge", Some(2), vec![]).wants_birth, "no birth yet");
    node_birth(&mut watch, 0, 0);
    let topic = Topic::parse("spBv1.0/works/NDATA/edge").unwrap();
    assert!(watch.hear(&topic, b"\xff\xff", AT, Instant::now()).wants_birth, "no payload");
}

#[test]
fn requests_are_commands_a_node_understands_and_not_too_many() {
    let (mut watch, start) = (watch(), Instant::now());
    let (topic, payload) = watch.ask(start, AT).unwrap();
    assert_eq!(topic, "spBv1.0/works/NCMD/edge");
    assert!(asks_for_rebirth(&Payload::parse(&payload).unwrap()));
    assert!(watch.ask(start + Duration::from_secs(4), AT).is_none());
    assert!(watch.ask(start + Duration::from_secs(5), AT).is_some());
}

#[test]
fn a_request_is_repeated_until_there_is_a_birth_and_not_to_the_dead() {
    let (mut watch, start) = (watch(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    watch.listen_from(start);
    assert!(watch.ask(start, AT).is_some());
    assert!(watch.ask_again(after(29), AT).is_none());
    assert!(watch.ask_again(after(30), AT).is_some(), "perhaps it did not hear us");
    assert!(said(&mut watch, "NDATA/edge", Some(2), vec![]).wants_birth);
    assert!(watch.ask_again(after(34), AT).is_none());
    assert!(watch.ask_again(after(35), AT).is_some(), "it is there");
    node_birth(&mut watch, 0, 7);
    assert!(watch.ask_again(after(99), AT).is_none());
    let number = metric(Some("bdSeq"), None, Some(DataType::Int64), MetricValue::Long(7));
    said(&mut watch, "NDEATH/edge", None, vec![number]);
    assert!(watch.ask_again(after(200), AT).is_none());
}

#[test]
fn deaths_leave_no_value_and_late_ones_do_nothing() {
    let mut watch = watch();
    node_birth(&mut watch, 0, 7);
    device_birth(&mut watch, 1);
    let heard = said(&mut watch, "DDEATH/edge/press", Some(2), vec![]);
    assert_eq!(outcomes(&heard), [("temp", Err(NoValue::LinkDown)), ("count", Err(NoValue::LinkDown))]);
    device_birth(&mut watch, 3);
    let death = |watch: &mut NodeWatch, bd_seq| {
        let metrics = vec![metric(Some("bdSeq"), None, Some(DataType::Int64), MetricValue::Long(bd_seq))];
        said(watch, "NDEATH/edge", None, metrics)
    };
    assert_eq!(death(&mut watch, 6), Heard::default(), "of the session before");
    let heard = death(&mut watch, 7);
    assert_eq!(heard.samples.len(), 3);
    assert!(heard.samples.iter().all(|(_, sample)| sample.quality == Quality::Bad));
    assert_eq!(death(&mut watch, 7), Heard::default(), "told once");
}

#[test]
fn silence_is_no_fault_of_a_node_that_is_alive() {
    let (mut watch, after) = (watch(), Duration::from_secs(30));
    let start = Instant::now();
    watch.listen_from(start);
    assert!(watch.fall_silent(after, start + Duration::from_secs(29), AT).is_empty());
    assert_eq!(watch.fall_silent(after, start + after, AT).len(), 3, "never born");
    assert!(watch.fall_silent(after, start + after * 2, AT).is_empty(), "told once");
    node_birth(&mut watch, 0, 0);
    assert!(watch.fall_silent(after, start + after * 9, AT).is_empty());
}

#[test]
fn values_that_are_none_have_their_reasons() {
    let mut watch = watch();
    let heard = said(&mut watch, "NBIRTH/edge", Some(0), vec![]);
    assert_eq!(outcomes(&heard), [("up", Err(NoValue::NoSuchAddress))]);
    let temp = |value| metric(Some("Motor/Temp"), Some(2), Some(DataType::Double), value);
    let mut null = temp(MetricValue::Double(0.0));
    (null.value, null.is_null) = (None, Some(true));
    let mut stale = temp(MetricValue::Double(1.5));
    stale.properties = Some(value::with_quality(Quality::Uncertain));
    let mut past = temp(MetricValue::Double(1.0));
    past.is_historical = Some(true);
    let mut set = temp(MetricValue::DataSet(vec![1, 2]));
    set.datatype = Some(16);
    for (metric, expected, quality) in [
        (null, Err(NoValue::NotANumber), Quality::Bad),
        (temp(MetricValue::Double(f64::NAN)), Err(NoValue::NotANumber), Quality::Bad),
        (temp(MetricValue::String("x".into())), Err(NoValue::Nonsense), Quality::Bad),
        (set, Err(NoValue::Nonsense), Quality::Bad),
        (stale, Ok(Value::Float(1.5)), Quality::Uncertain),
    ] {
        node_birth(&mut watch, 0, 0);
        let heard = said(&mut watch, "DBIRTH/edge/press", Some(1), vec![metric]);
        let (_, sample) = &heard.samples[0];
        assert_eq!((&sample.outcome, sample.quality), (&expected, quality));
        assert_eq!(heard.samples[1].1.outcome, Err(NoValue::NoSuchAddress), "Count is not in this birth");
    }
    node_birth(&mut watch, 0, 0);
    let heard = said(&mut watch, "DBIRTH/edge/press", Some(1), vec![past]);
    assert_eq!(heard.historical.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    /// Whatever is said in whatever order, nothing panics, and each sample is of a point somebody wants.
    #[test]
    fn any_talk_is_survived(
        talk in proptest::collection::vec(
            (0_usize..7, proptest::option::of(0_u64..4), proptest::option::of(0_u64..5), 0_u32..20, any::<u64>(), any::<bool>()),
            0..30,
        ),
    ) {
        let topics = ["NBIRTH/edge", "NDATA/edge", "NDEATH/edge", "DBIRTH/edge/press", "DDATA/edge/press",
            "DDEATH/edge/press", "NCMD/edge"];
        let mut watch = watch();
        for (topic, seq, alias, kind, number, has_name) in talk {
            let mut one = metric(has_name.then_some("Motor/Temp"), alias, None, MetricValue::Long(number));
            one.datatype = Some(kind);
            let heard = said(&mut watch, topics[topic], seq, vec![one]);
            for (device, sample) in heard.samples {
                prop_assert_eq!(device.as_str(), "line");
                prop_assert!(["up", "temp", "count"].contains(&sample.point.as_str()));
                prop_assert!(sample.outcome.is_ok() || sample.quality == Quality::Bad);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_payload_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut watch = watch();
        for kind in ["NBIRTH/edge", "DBIRTH/edge/press", "NDATA/edge", "NDEATH/edge"] {
            let topic = format!("spBv1.0/works/{kind}");
            watch.hear(&Topic::parse(&topic).unwrap(), &bytes, AT, Instant::now());
        }
    }
}
