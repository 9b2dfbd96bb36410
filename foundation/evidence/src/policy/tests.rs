use super::*;
use proptest::prelude::*;

fn policy() -> Policy {
    let allowed =
        Allowed { address: "holding:40017".into(), rights: vec![Right::Read, Right::Write], range: Some((0.0, 80.0)) };
    Policy {
        id: PolicyId::try_new("service").unwrap(),
        devices: vec![DeviceId::try_new("press-01").unwrap()],
        who: vec![Who { firm: Some(PartyId::try_new("fixit").unwrap()), skill: Some("oil".into()), ..Who::default() }],
        points: [(PointId::try_new("setpoint").unwrap(), allowed)].into(),
        rate: Some((3, Duration::from_secs(3600))),
        hours: Some((6 * 60, 14 * 60)),
        days: Some(vec![1, 2, 3, 4, 5]),
        from: Some(Timestamp::from_micros(-5)),
        until: None,
        lasts: Duration::from_secs(600),
    }
}

#[test]
fn policies_round_trip() {
    assert_eq!(Policy::decode(&policy().encode()), Ok(policy()));
    let scada = Who { sender: Some("mqtt:hmi-3".into()), ..Who::default() };
    let standing = Policy { who: vec![scada], ..policy() };
    assert_eq!(Policy::decode(&standing.encode()), Ok(standing));
    assert!(!policy().is_empty());
    assert!(Policy { who: Vec::new(), ..policy() }.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let wrong: [fn(&mut Policy); 10] = [
        |policy| policy.who.push(Who::default()),
        |policy| policy.who[0].sender = Some(String::new()),
        |policy| policy.who[0].sender = Some("a\0b".into()),
        |policy| policy.hours = Some((60, 60)),
        |policy| policy.hours = Some((0, 1_440)),
        |policy| policy.days = Some(vec![8]),
        |policy| policy.rate = Some((0, Duration::from_secs(1))),
        |policy| policy.lasts = Duration::from_secs(25 * 3600),
        |policy| policy.devices = vec![policy.devices[0].clone(); 65],
        |policy| policy.points.values_mut().for_each(|allowed| allowed.range = Some((2.0, 1.0))),
    ];
    for spoil in wrong {
        let mut policy = policy();
        spoil(&mut policy);
        assert!(Policy::decode(&policy.encode()).is_err(), "{policy:?}");
    }
}

#[test]
fn shifts_by_the_clock() {
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let days = policy();
    assert_eq!(days.shift_end(at("2026-11-20T06:00:00Z")), Some(at("2026-11-20T14:00:00Z")), "a Friday");
    assert_eq!(days.shift_end(at("2026-11-20T14:00:00Z")), None);
    assert_eq!(days.shift_end(at("2026-11-21T08:00:00Z")), None, "a Saturday");
    let night = Policy { hours: Some((22 * 60, 6 * 60)), days: None, ..policy() };
    assert_eq!(night.shift_end(at("2026-11-21T23:00:00Z")), Some(at("2026-11-22T06:00:00Z")));
    assert_eq!(night.shift_end(at("2026-11-22T05:59:00Z")), Some(at("2026-11-22T06:00:00Z")));
    assert_eq!(night.shift_end(at("2026-11-22T12:00:00Z")), None);
    let always = Policy { hours: None, days: None, ..policy() };
    assert_eq!(always.shift_end(at("2026-11-22T12:00:00Z")), Some(Timestamp::from_micros(i64::MAX)));
}

#[test]
fn values_lie_within_the_range_or_not() {
    let allowed = policy().points.into_values().next().unwrap();
    for (value, takes) in [
        (Value::Float(80.0), true),
        (Value::Float(80.1), false),
        (Value::Integer(0), true),
        (Value::Integer(-1), false),
        (Value::Bool(true), false),
        (Value::Text("5".into()), false),
    ] {
        assert_eq!(allowed.takes(&value), takes, "{value:?}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Policy::decode(&bytes);
    }

    #[test]
    fn a_shift_ends_after_now(now: i64, from in 0u16..1440, to in 0u16..1440) {
        let policy = Policy { hours: Some((from, to)), days: None, ..policy() };
        if let Some(end) = policy.shift_end(Timestamp::from_micros(now)) {
            prop_assert!(end > Timestamp::from_micros(now) || end.as_micros() == i64::MAX);
        }
    }
}
