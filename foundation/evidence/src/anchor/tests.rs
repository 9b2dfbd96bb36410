use super::*;
use crate::{encode_reading, reading_leaf, root_of};
use proptest::prelude::*;
use tally_model::{PointId, Quality, Reading, Sample, Unit, Value};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn anchor(number: u64, previous: Hash, first: u64, last: u64) -> AnchorBody {
    AnchorBody {
        device: DeviceId::try_new("press-01").unwrap(),
        number,
        previous,
        first,
        last,
        root: [1; 32],
        head: [2; 32],
        received: (at(10), at(20)),
        source: (at(-5), at(19)),
        pause: 3,
        gaps: Vec::new(),
    }
}

fn gap(reason: GapReason, readings: Option<(u64, u64)>) -> Gap {
    Gap { reason, from: (reason != GapReason::NewVault).then_some(at(1)), to: at(9), readings }
}

#[test]
fn bodies_round_trip() {
    let mut body = anchor(1, [0; 32], 6, 9);
    assert_eq!(AnchorBody::decode(&body.encode()), Ok(body.clone()));
    body.gaps = vec![
        gap(GapReason::NewVault, None),
        gap(GapReason::Stopped, None),
        gap(GapReason::NotKept, Some((0, 5))),
        gap(GapReason::Refused, Some((5, 5))),
    ];
    assert_eq!(AnchorBody::decode(&body.encode()), Ok(body));
}

#[test]
fn what_can_never_be_right_is_no_anchor() {
    let good = || anchor(2, [7; 32], 6, 9);
    let mut bad = vec![anchor(0, [7; 32], 6, 9), anchor(1, [7; 32], 6, 9), anchor(2, [0; 32], 6, 9)];
    bad.extend([anchor(2, [7; 32], 6, 5), anchor(2, [7; 32], 0, ANCHOR_READINGS_MAX)]);
    bad.push(AnchorBody { received: (at(2), at(1)), ..good() });
    bad.push(AnchorBody { source: (at(2), at(1)), ..good() });
    for gap in [
        gap(GapReason::NewVault, None),
        gap(GapReason::Stopped, Some((0, 5))),
        gap(GapReason::NotKept, None),
        gap(GapReason::Refused, Some((0, 6))),
        gap(GapReason::Refused, Some((3, 2))),
        Gap { from: None, ..gap(GapReason::Stopped, None) },
        Gap { from: Some(at(99)), ..gap(GapReason::Stopped, None) },
    ] {
        bad.push(AnchorBody { gaps: vec![gap], ..good() });
    }
    bad.push(AnchorBody { gaps: vec![gap(GapReason::Stopped, None); ANCHOR_GAPS_MAX + 1], ..good() });
    for body in bad {
        assert!(AnchorBody::decode(&body.encode()).is_err(), "{body:?}");
    }
}

#[test]
fn an_anchor_follows_exactly_the_one_before() {
    let first = anchor(1, [0; 32], 0, 5);
    assert_eq!(first.follow(None), Ok(()));
    let (link, digest) = (first.link(), first.digest());
    assert_eq!(anchor(2, digest, 6, 9).follow(Some(&link)), Ok(()));
    for (body, fault) in [
        (anchor(1, [0; 32], 0, 5), AnchorFault::Replayed { number: 1, last: 1 }),
        (anchor(2, digest, 5, 9), AnchorFault::Covered { first: 5, covered: 5 }),
        (anchor(3, digest, 6, 9), AnchorFault::Skips { number: 3, expected: 2 }),
        (anchor(2, [9; 32], 6, 9), AnchorFault::Unchained { number: 2 }),
        (anchor(2, digest, 8, 9), AnchorFault::Missing { from: 6, to: 7 }),
    ] {
        assert_eq!(body.follow(Some(&link)), Err(fault));
    }
    assert_eq!(anchor(2, [9; 32], 0, 9).follow(None), Err(AnchorFault::Skips { number: 2, expected: 1 }));
    assert_eq!(anchor(1, [0; 32], 4, 9).follow(None), Err(AnchorFault::Missing { from: 0, to: 3 }));
}

#[test]
fn a_declared_gap_lets_numbers_jump_and_a_new_vault_begins_anew() {
    let link = anchor(1, [0; 32], 0, 5).link();
    let mut later = anchor(9, [9; 32], 40, 50);
    later.gaps = vec![gap(GapReason::Refused, Some((6, 39)))];
    assert_eq!(later.follow(Some(&link)), Ok(()));
    later.gaps = vec![gap(GapReason::Refused, Some((7, 39)))];
    assert_eq!(later.follow(Some(&link)), Err(AnchorFault::Skips { number: 9, expected: 2 }));
    // The number that follows must name the one before, whatever it declares.
    let mut next = anchor(2, [9; 32], 40, 50);
    next.gaps = vec![gap(GapReason::Refused, Some((6, 39)))];
    assert_eq!(next.follow(Some(&link)), Err(AnchorFault::Unchained { number: 2 }));
    let mut anew = anchor(1, [0; 32], 0, 3);
    anew.gaps = vec![gap(GapReason::NewVault, None)];
    assert_eq!(anew.follow(Some(&link)), Ok(()));
    anew.first = 2;
    assert_eq!(anew.follow(Some(&link)), Err(AnchorFault::Missing { from: 0, to: 1 }));
}

#[test]
fn a_reading_is_shown_against_an_anchor() {
    let device = DeviceId::try_new("press-01").unwrap();
    let bytes = |number: u64| {
        let sample = Sample {
            seal: None,
            point: PointId::try_new("p").unwrap(),
            outcome: Ok(Value::Integer(5)),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: at(1),
            received: at(2),
        };
        encode_reading(&Reading { device: device.clone(), number, sample }, number)
    };
    let leaves: Vec<_> = (4..15).map(|number| reading_leaf(&[3; 16], &bytes(number))).collect();
    let mut body = anchor(2, [7; 32], 4, 14);
    body.root = root_of(&leaves);
    let open = |number: u64| (number == 9).then(|| ([3; 16], bytes(number)));
    let shown = Disclosure::build(device.clone(), 4, &leaves, &open);
    assert!(body.shows(&shown));
    assert_eq!(shown.readings(&Default::default()).unwrap()[0].number, 9);
    body.root[0] ^= 1;
    assert!(!body.shows(&shown));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = AnchorBody::decode(&body);
    }

    #[test]
    fn flipped_bits_are_another_anchor_or_none(place in 0usize..400, bit in 0u8..8) {
        let mut body = anchor(2, [7; 32], 6, 9);
        body.gaps = vec![gap(GapReason::Stopped, None), gap(GapReason::Refused, Some((0, 5)))];
        let mut forged = body.encode();
        let place = place % forged.len();
        forged[place] ^= 1 << bit;
        prop_assert_ne!(AnchorBody::decode(&forged), Ok(body));
    }
}
