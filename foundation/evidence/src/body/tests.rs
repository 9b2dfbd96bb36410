//! Bodies round-trip, have one form, and both readers agree.

use super::quick::read_trigger;
use super::*;
use crate::cbor::{self, Cbor, bytes, int, map, text};
use crate::cursor::Cursor;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tally_model::{
    ActionName, AgreementId, ClockState, ContractName, DeviceId, Finding, PointId, Timestamp, TriggerId, Value,
};

pub(crate) fn trigger() -> TriggerBody {
    TriggerBody {
        trigger: TriggerId::try_new("bearing-worn").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        rule: [1; 32],
        transition: Transition::Raised,
        priority: Priority::High,
        at: Timestamp::from_micros(1_790_000_000_000_000),
        readings: ReadingsClaim {
            first: 10,
            last: 40,
            root: [2; 32],
            head: [3; 32],
            points: [(PointId::try_new("vibration").unwrap(), 20)].into(),
        },
        number: 7,
        call: Some(TriggerCall {
            contract: ContractName::try_new("maintenance-order").unwrap(),
            action: ActionName::try_new("report").unwrap(),
            with: [("peak".to_owned(), Value::Float(9.25))].into(),
        }),
        clock: Some(ClockState::Synchronised { error_us: 1_250 }),
        grade: Grade::Device,
        mapping: Some([5; 32]),
        origins: Vec::new(),
        quality: None,
    }
}

/// As the checks give them: one for each code and point, in order.
fn findings() -> impl Strategy<Value = Vec<Finding>> {
    let one = (0..9_usize, proptest::option::of("[a-z_]{1,9}"), any::<u64>(), any::<u32>(), any::<Option<u64>>());
    proptest::collection::vec(one, 0..5).prop_map(|found| {
        let made = found.into_iter().map(|(code, point, from, more, earlier)| Finding {
            code: tally_model::FindingCode::ALL[code],
            point: point.map(|point| PointId::try_new(point).unwrap()),
            from,
            to: from.saturating_add(more.into()),
            earlier,
        });
        let found: BTreeMap<_, _> = made.map(|finding| ((finding.code, finding.point.clone()), finding)).collect();
        found.into_values().collect()
    })
}

#[test]
fn the_class_must_follow_from_the_findings() {
    let body = TriggerBody { quality: Some(Vec::new()), ..trigger() };
    let Cbor::Map(pairs) = cbor::decode(&body.encode()).unwrap() else { panic!("a map") };
    for (class, accepted) in [("sound", true), ("doubtful", false), ("perfect", false)] {
        let quality = map([("class", text(class)), ("findings", Cbor::Array(Vec::new()))]);
        let mut pairs = pairs.clone();
        for pair in pairs.iter_mut().filter(|(key, _)| key.as_text() == Some("quality")) {
            pair.1 = quality.clone();
        }
        let bytes = cbor::encode(&Cbor::Map(pairs));
        assert_eq!(TriggerBody::decode(&bytes).is_ok(), accepted, "{class}");
        assert_eq!(read_trigger(Cursor(&bytes)).is_some(), accepted, "{class}");
    }
}

#[test]
fn trigger_round_trips() {
    assert_eq!(TriggerBody::decode(&trigger().encode()), Ok(trigger()));
    let mut backwards = trigger();
    backwards.readings.last = 9;
    assert_eq!(TriggerBody::decode(&backwards.encode()), Err(BodyFault::Range { first: 10, last: 9 }));
}

#[test]
fn the_state_of_the_clock_has_one_form() {
    for clock in [None, Some(ClockState::FreeRunning), Some(ClockState::Unknown), trigger().clock] {
        let body = TriggerBody { clock, ..trigger() };
        assert_eq!(TriggerBody::decode(&body.encode()), Ok(body));
    }
    let refused = |clock: Cbor| {
        let old = TriggerBody { clock: None, ..trigger() }.encode();
        let Cbor::Map(mut pairs) = cbor::decode(&old).unwrap() else { panic!("a map") };
        pairs.push((text("clock"), clock));
        let bytes = cbor::encode(&Cbor::Map(pairs));
        assert_eq!(read_trigger(Cursor(&bytes)), None);
        TriggerBody::decode(&bytes).unwrap_err()
    };
    for word in ["good", "synchronised"] {
        assert_eq!(refused(map([("state", text(word))])), BodyFault::Clock(word.into()));
    }
    let bounded = map([("state", text("free-running")), ("error-us", int(5))]);
    assert_eq!(refused(bounded), BodyFault::Clock("free-running".into()));
    let more = map([("state", text("unknown")), ("tip", int(5))]);
    assert_eq!(refused(more), CborFault::Unknown("tip".into()).into());
    assert!(matches!(refused(text("unknown")), BodyFault::Cbor(_)));
}

#[test]
fn the_grade_has_one_form() {
    for (grade, mapping) in Grade::ALL.into_iter().flat_map(|grade| [(grade, None), (grade, Some([6; 32]))]) {
        let body = TriggerBody { grade, mapping, ..trigger() };
        assert_eq!(TriggerBody::decode(&body.encode()), Ok(body.clone()));
        assert_eq!(read_trigger(Cursor(&body.encode())), Some(body));
    }
    let refused = |name: &str, value: Cbor| {
        let bare = TriggerBody { grade: Grade::Agent, mapping: None, ..trigger() }.encode();
        let Cbor::Map(mut pairs) = cbor::decode(&bare).unwrap() else { panic!("a map") };
        pairs.push((text(name), value));
        let bytes = cbor::encode(&Cbor::Map(pairs));
        assert_eq!(read_trigger(Cursor(&bytes)), None);
        TriggerBody::decode(&bytes).unwrap_err()
    };
    for word in ["agent-sealed", "sealed", ""] {
        assert_eq!(refused("grade", text(word)), BodyFault::Grade(word.into()));
    }
    assert!(matches!(refused("grade", int(1)), BodyFault::Cbor(_)));
    assert!(matches!(refused("mapping", bytes(vec![1; 31])), BodyFault::Cbor(_)));
}

#[test]
fn call_round_trips_and_unknown_fields_are_refused() {
    let call = CallBody {
        contract: ContractName::try_new("maintenance-order").unwrap(),
        action: ActionName::try_new("accept").unwrap(),
        agreement: Some(AgreementId::try_new("mo-1").unwrap()),
        args: BTreeMap::new(),
        nonce: [4; 16],
        at: Timestamp::from_micros(5),
    };
    assert_eq!(CallBody::decode(&call.encode()), Ok(call.clone()));
    let Cbor::Map(mut pairs) = cbor::decode(&call.encode()).unwrap() else { panic!("a map") };
    pairs.push((text("tip"), int(5)));
    let longer = cbor::encode(&Cbor::Map(pairs));
    assert_eq!(CallBody::decode(&longer), Err(CborFault::Unknown("tip".into()).into()));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = TriggerBody::decode(&body);
        let _ = CallBody::decode(&body);
    }

    #[test]
    fn both_ways_read_the_same_and_refuse_the_same(
        number in any::<u64>(), at in any::<i64>(), float in any::<f64>(), has_call: bool, error in any::<Option<u64>>(),
        grade in prop::sample::select(Grade::ALL.to_vec()), mapping in any::<Option<[u8; 32]>>(),
        points in proptest::collection::btree_map("[a-z_]{1,9}", any::<u64>(), 0..5),
        quality in proptest::option::of(findings()), origins in crate::origin::tests::stretches(),
        at_byte: prop::sample::Index, with_byte: u8, cut: prop::sample::Index,
    ) {
        let mut body = trigger();
        (body.grade, body.mapping) = (grade, mapping);
        (body.quality, body.origins) = (quality, origins);
        body.clock = error.map(|error_us| ClockState::Synchronised { error_us });
        (body.number, body.at) = (number, Timestamp::from_micros(at));
        body.readings.points = points.into_iter().map(|(point, number)| (PointId::try_new(point).unwrap(), number)).collect();
        if let Some(call) = &mut body.call {
            call.with.insert("number".to_owned(), Value::Integer(at));
            call.with.insert("f".to_owned(), Value::Float(float));
        }
        if !has_call {
            body.call = None;
        }
        let bytes = body.encode();
        prop_assert_eq!(read_trigger(Cursor(&bytes)), TriggerBody::decode_slowly(&bytes).ok());
        prop_assert!(float.is_infinite() || float.is_nan() || read_trigger(Cursor(&bytes)) == Some(body));
        let mut altered = bytes.clone();
        altered[at_byte.index(bytes.len())] = with_byte;
        prop_assert_eq!(read_trigger(Cursor(&altered)), TriggerBody::decode_slowly(&altered).ok());
        let cut = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(read_trigger(Cursor(cut)), TriggerBody::decode_slowly(cut).ok());
    }
}
