use super::*;
use crate::plan::tests::device;
use crate::sparkplug::payload::PropertyContent;
use crate::sparkplug::value::decode;
use proptest::prelude::*;
use tally_model::{Encoding, NoValue, Outcome, Unit, Value};

fn spec(id: &str, encoding: Encoding) -> PointSpec {
    let mut spec = crate::decode::tests::spec(id, &format!("t/{id}"));
    (spec.encoding, spec.unit) = (encoding, Unit::try_new("Cel").unwrap());
    spec
}

fn sample(point: &str, outcome: Outcome, at: i64) -> Sample {
    let at = Timestamp::from_micros(at * 1_000);
    Sample::at(PointId::try_new(point).unwrap(), outcome, Unit::try_new("Cel").unwrap(), at)
}

fn session(points: Vec<PointSpec>) -> (Session, DeviceId) {
    let device = device(points);
    let id = device.id.clone();
    let name = |text| Name::try_new(text).unwrap();
    (Session::try_new(name("g"), name("e"), &[device]).unwrap(), id)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

fn read(out: &Out) -> (String, Payload) {
    (out.topic.clone(), Payload::parse(&out.payload).unwrap())
}

#[test]
fn a_device_is_born_with_all_its_points_and_then_told_by_alias() {
    let (mut session, hall) = session(vec![spec("t", Encoding::F32), spec("n", Encoding::I16)]);
    session.connect(7, at(1));
    session.take(&hall, &[sample("t", Ok(Value::Float(21.5)), 5)], at(6));
    let births = session.birth(at(9));
    let (topic, node) = read(&births[0]);
    assert_eq!((topic.as_str(), node.seq, node.timestamp), ("spBv1.0/g/NBIRTH/e", Some(0), Some(9)));
    assert_eq!(node.metrics[0].value, Some(MetricValue::Long(7)));
    let (topic, born) = read(&births[1]);
    assert_eq!((topic.as_str(), born.seq), ("spBv1.0/g/DBIRTH/e/hall", Some(1)));
    assert_eq!(born.metrics[0].value, Some(MetricValue::Float(21.5)));
    assert_eq!((born.metrics[1].datatype, born.metrics[1].is_null), (Some(3), Some(true)), "never read, but known");
    let data = session.take(&hall, &[sample("n", Ok(Value::Integer(-3)), 10)], at(11));
    let (topic, data) = read(&data[0]);
    assert_eq!((topic.as_str(), data.seq), ("spBv1.0/g/DDATA/e/hall", Some(2)));
    let metric = &data.metrics[0];
    assert_eq!((metric.alias, metric.timestamp, &metric.name, metric.datatype), (Some(2), Some(10), &None, None));
    assert_eq!(decode(metric.value.as_ref().unwrap(), DataType::Int32), Some(Value::Integer(-3)));
}

#[test]
fn only_news_is_told_and_a_deadband_holds_back_no_drift() {
    let mut banded = spec("t", Encoding::F64);
    banded.deadband = Some(0.5);
    let (mut session, hall) = session(vec![banded, spec("n", Encoding::I64)]);
    session.connect(0, at(0));
    session.take(&hall, &[sample("t", Ok(Value::Float(1.0)), 1), sample("n", Ok(Value::Integer(1)), 1)], at(1));
    session.birth(at(1));
    let told: Vec<_> = [1.4, 1.5, 1.2, 2.0]
        .map(|value| session.take(&hall, &[sample("t", Ok(Value::Float(value)), 2)], at(2)).len())
        .into();
    assert_eq!(told, [0, 1, 0, 1]);
    assert!(session.take(&hall, &[sample("n", Ok(Value::Integer(1)), 3)], at(3)).is_empty());
    let bad = session.take(&hall, &[sample("n", Err(NoValue::Timeout), 3)], at(3));
    let (_, bad) = read(&bad[0]);
    let properties = bad.metrics[0].properties.as_ref().unwrap();
    assert_eq!((bad.metrics[0].is_null, properties.get("Quality")), (Some(true), Some(&PropertyContent::Int(0))));
    assert_eq!(properties.get("Reason"), Some(&PropertyContent::String(NoValue::Timeout.to_string())));
    let (_, good) = read(&session.take(&hall, &[sample("n", Ok(Value::Integer(1)), 4)], at(4))[0]);
    assert_eq!(good.metrics[0].properties.as_ref().unwrap().get("Quality"), Some(&PropertyContent::Int(192)));
    let (_, again) = read(&session.take(&hall, &[sample("n", Ok(Value::Integer(2)), 5)], at(5))[0]);
    assert_eq!(again.metrics[0].properties, None);
}

#[test]
fn a_lost_device_dies_once_and_is_born_again() {
    let (mut session, hall) = session(vec![spec("t", Encoding::F64)]);
    session.connect(0, at(0));
    assert_eq!(session.birth(at(1)).len(), 1, "never heard of: not born");
    let kinds =
        [Ok(Value::Float(1.0)), Err(NoValue::LinkDown), Err(NoValue::LinkDown), Ok(Value::Float(1.0))].map(|outcome| {
            session.take(&hall, &[sample("t", outcome, 2)], at(2)).iter().map(|out| read(out).0).collect::<Vec<_>>()
        });
    let topic = |kind: &str| vec![format!("spBv1.0/g/{kind}/e/hall")];
    assert_eq!(kinds, [topic("DBIRTH"), topic("DDEATH"), vec![], topic("DBIRTH")]);
}

#[test]
fn a_type_only_the_device_knows_is_learnt_and_widened() {
    let (mut session, hall) = session(vec![spec("x", Encoding::Auto)]);
    session.connect(0, at(0));
    session.birth(at(1));
    let mut types = Vec::new();
    for value in [Value::Integer(21), Value::Integer(22), Value::Float(21.5), Value::Integer(21)] {
        for out in session.take(&hall, &[sample("x", Ok(value), 2)], at(2)) {
            let (topic, payload) = read(&out);
            types.push((topic.contains("DBIRTH"), payload.metrics[0].datatype));
        }
    }
    assert_eq!(types, [(true, Some(4)), (false, None), (true, Some(10)), (false, None)]);
}

#[test]
fn the_past_is_marked_and_changes_nothing() {
    let (mut session, hall) = session(vec![spec("t", Encoding::F64)]);
    session.connect(0, at(0));
    let old = [sample("t", Ok(Value::Float(9.0)), 1), sample("t", Ok(Value::Float(8.0)), 2)];
    assert_eq!(session.history(&hall, old.iter(), at(3)), None, "nobody was born");
    session.take(&hall, &[sample("t", Ok(Value::Float(1.0)), 5)], at(5));
    session.birth(at(5));
    let (_, past) = read(&session.history(&hall, old.iter(), at(6)).unwrap());
    assert!(past.metrics.iter().all(|metric| metric.is_historical == Some(true) && metric.alias == Some(1)));
    assert_eq!(past.metrics.iter().map(|metric| metric.timestamp.unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert!(session.take(&hall, &[sample("t", Ok(Value::Float(1.0)), 7)], at(7)).is_empty(), "still 1.0");
}

#[test]
fn a_new_description_keeps_what_is_known() {
    let (mut session, hall) = session(vec![spec("t", Encoding::F64), spec("x", Encoding::Auto)]);
    session.connect(3, at(0));
    session.take(&hall, &[sample("t", Ok(Value::Float(1.5)), 1), sample("x", Ok(Value::Integer(4)), 1)], at(1));
    session.birth(at(1));
    session.describe(&[device(vec![spec("new", Encoding::Bool), spec("x", Encoding::Auto)])]).unwrap();
    let births: Vec<_> = session.birth(at(2)).iter().map(read).collect();
    assert_eq!(births[0].1.metrics[0].value, Some(MetricValue::Long(3)), "the same connection, the same bdSeq");
    let told = |name: &str| births[1].1.metrics.iter().find(|metric| metric.name.as_deref() == Some(name)).cloned();
    assert_eq!(told("x").unwrap().value, Some(MetricValue::Long(4)));
    assert_eq!((told("new").unwrap().is_null, told("t")), (Some(true), None));
    let clash = session.describe(&[device(vec![spec("a", Encoding::Bool), spec("A", Encoding::Bool)])]);
    assert!(clash.is_err() && session.birth(at(3)).len() == 2, "a description with a fault changes nothing");
}

#[test]
fn names_that_differ_in_case_only_are_refused() {
    let name = |text| Name::try_new(text).unwrap();
    let twins = device(vec![spec("t", Encoding::F64), spec("T", Encoding::F64)]);
    let fault = Session::try_new(name("g"), name("e"), &[twins]).err().unwrap().to_string();
    assert!(fault.contains("point `T` of device `hall`"), "{fault}");
}

#[test]
fn a_rebirth_is_a_true_flag_of_that_name() {
    let command = |name: &str, value| {
        let metric = Metric { name: Some(name.to_owned()), value: Some(value), ..Metric::default() };
        asks_for_rebirth(&Payload { metrics: vec![metric], ..Payload::default() })
    };
    assert!(command(REBIRTH, MetricValue::Boolean(true)));
    assert!(!command(REBIRTH, MetricValue::Boolean(false)));
    assert!(!command("Node Control/Reboot", MetricValue::Boolean(true)));
    assert!(!command(REBIRTH, MetricValue::Int(1)));
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<i64>().prop_map(|number| Ok(Value::Integer(number))),
        (-1e9..1e9).prop_map(|number| Ok(Value::Float(number))),
        "[a-z]{0,5}".prop_map(|text| Ok(Value::Text(text))),
        Just(Err(NoValue::LinkDown)),
        Just(Err(NoValue::Timeout)),
    ]
}

proptest! {
    /// Whatever comes: numbers go on without a gap, data follows a birth, and a host that applies births and data has the
    /// latest values.
    #[test]
    fn a_host_that_follows_knows_the_latest(
        steps in prop::collection::vec((0..2_usize, any_outcome(), prop::bool::weighted(0.05)), 0..600)
    ) {
        let (mut session, hall) = session(vec![spec("a", Encoding::Auto), spec("b", Encoding::Auto)]);
        session.connect(0, at(0));
        let (mut next, mut types, mut known) = (0, HashMap::new(), HashMap::new());
        let mut last = HashMap::new();
        let mut alive = false;
        let mut follow = |outs: Vec<Out>| {
            for out in outs {
                let (topic, payload) = read(&out);
                if topic.contains("NBIRTH") { next = 0; }
                assert_eq!(payload.seq, Some(next));
                next = (next + 1) % 256;
                match topic.split('/').nth(2).unwrap() {
                    "DBIRTH" => alive = true,
                    "DDEATH" => alive = false,
                    "DDATA" => assert!(alive),
                    _ => continue,
                }
                for metric in &payload.metrics {
                    if let Some(kind) = metric.datatype { types.insert(metric.alias, DataType::from_code(kind).unwrap()); }
                    let value = metric.value.as_ref().map(|value| decode(value, types[&metric.alias]).unwrap());
                    known.insert(metric.alias.unwrap(), value);
                }
            }
        };
        follow(session.birth(at(0)));
        for (time, (point, outcome, rebirth)) in steps.into_iter().enumerate() {
            let time = i64::try_from(time).unwrap();
            last.insert(point as u64 + 1, outcome.clone().ok());
            follow(session.take(&hall, &[sample(["a", "b"][point], outcome, time)], at(time)));
            if rebirth { follow(session.birth(at(time))); }
        }
        if alive {
            for (alias, value) in last {
                let told = known.get(&alias).cloned().flatten();
                let same = match (&told, &value) {
                    (Some(Value::Float(told)), Some(value)) => value.as_f64() == Some(*told),
                    (Some(Value::Text(told)), Some(value)) => value.to_string() == *told,
                    (told, value) => told == value,
                };
                prop_assert!(same, "{:?} was told, {:?} is", told, value);
            }
        }
    }

    #[test]
    fn any_bytes_are_a_payload_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(payload) = Payload::parse(&bytes) {
            let _ = asks_for_rebirth(&payload);
            prop_assert_eq!(Payload::parse(&payload.to_bytes()).unwrap().metrics.len(), payload.metrics.len());
        }
    }
}
