use super::*;
use crate::{SigningKey, StateTree};
use proptest::prelude::*;

fn permit() -> Permit {
    Permit {
        id: 17,
        ledger: "press-line".into(),
        requester: PartyId::try_new("tina").unwrap(),
        sender: None,
        agent: PartyId::try_new("agent-01").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        point: PointId::try_new("setpoint").unwrap(),
        address: "holding:40017".into(),
        right: Right::Write,
        value: Some(Value::Float(41.5)),
        from: Timestamp::from_micros(5),
        until: Timestamp::from_micros(9),
        policy: PolicyId::try_new("service").unwrap(),
        carried: true,
    }
}

fn key() -> SigningKey {
    SigningKey::from_secret(&[5; 32]).unwrap()
}

/// A ledger whose state holds `open` and some other things.
fn file(open: &Permit, shown: &Permit) -> PermitFile {
    let mut tree = StateTree::default();
    let (key_of_it, value) = (permit_state_key(open.id), open.encode());
    tree.apply([(&key_of_it[..], Some(&value[..])), (b"pacme", Some(b"1")), (b"ptina", Some(b"2"))]);
    let checkpoint = Checkpoint {
        ledger: "press-line".into(),
        height: 3,
        size: 4,
        root: [1; 32],
        state: tree.root(),
        outcomes: [2; 32],
        outcome_count: 1,
        time: Timestamp::from_micros(7),
        previous: [0; 32],
    };
    let proof = tree.prove(&permit_state_key(shown.id)).encode();
    PermitFile { permit: shown.encode(), proof, checkpoint: checkpoint.seal(&key()) }
}

#[test]
fn a_granted_permit_is_proven() {
    let file = file(&permit(), &permit());
    let file = PermitFile::decode(&file.encode()).unwrap();
    let proven = file.check("press-line", key().public()).unwrap();
    assert_eq!(proven, ProvenPermit { permit: permit(), open_at: Timestamp::from_micros(7), height: 3 });
}

#[test]
fn widened_permits_prove_nothing() {
    let widened: [fn(&mut Permit); 10] = [
        |permit| permit.sender = Some("mqtt:hmi-3".into()),
        |permit| permit.value = Some(Value::Float(42.0)),
        |permit| permit.point = PointId::try_new("other").unwrap(),
        |permit| permit.address = "holding:40018".into(),
        |permit| permit.device = DeviceId::try_new("press-02").unwrap(),
        |permit| permit.agent = PartyId::try_new("agent-02").unwrap(),
        |permit| permit.until = Timestamp::from_micros(10),
        |permit| permit.right = Right::Read,
        |permit| permit.id = 18,
        |permit| permit.carried = false,
    ];
    for widen in widened {
        let mut shown = permit();
        widen(&mut shown);
        let checked = file(&permit(), &shown).check("press-line", key().public());
        assert!(matches!(checked, Err(PermitFault::Proof(_))), "{shown:?}: {checked:?}");
    }
}

#[test]
fn another_ledger_or_key_proves_nothing() {
    let file = file(&permit(), &permit());
    assert_eq!(file.check("other", key().public()), Err(PermitFault::Ledger("press-line".into())));
    let thief = SigningKey::from_secret(&[6; 32]).unwrap();
    assert!(matches!(file.check("press-line", thief.public()), Err(PermitFault::Checkpoint(_))));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = file(&permit(), &permit()).encode();
    for place in 0..bytes.len() * 8 {
        let mut forged = bytes.clone();
        forged[place / 8] ^= 1 << (place % 8);
        let checked = PermitFile::decode(&forged).and_then(|file| file.check("press-line", key().public()));
        assert!(checked.is_err(), "bit {place}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Permit::decode(&bytes), PermitFile::decode(&bytes), PermitFile::from_state_answer(&bytes));
    }

    #[test]
    fn permits_round_trip(id: u64, from: i64, until: i64, number in any::<i64>(), carried: bool) {
        let (from, until) = (Timestamp::from_micros(from), Timestamp::from_micros(until));
        let permit = Permit { id, from, until, value: Some(Value::Integer(number)), carried, ..permit() };
        prop_assert_eq!(Permit::decode(&permit.encode()), Ok(permit));
    }
}
