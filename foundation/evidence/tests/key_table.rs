//! A key's table against `aws-lc-rs`: the same answer to every signature, good, altered, at the edges of the field, and to Wycheproof's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use p256::elliptic_curve::ops::Reduce;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::sec1::FromSec1Point;
use p256::{AffinePoint, FieldBytes, ProjectivePoint, Scalar, Sec1Point};
use proptest::prelude::*;
use std::sync::LazyLock;
use tally_evidence::{KeyTable, SigningKey, VerifyingKey, sha256};
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

type Word = [u8; 32];

/// The order of the curve (SEC 2 v2 §2.4.2).
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

struct Checked {
    key: SigningKey,
    table: KeyTable,
}

impl Checked {
    fn new(secret: Word) -> Self {
        let key = SigningKey::from_secret(&secret).unwrap();
        Self { table: KeyTable::new(key.public()).unwrap(), key }
    }
}

static KEYS: LazyLock<[Checked; 3]> =
    LazyLock::new(|| [1, 2, 0xa7].map(|last| Checked::new(scalar(last).to_bytes().into())));

fn scalar(number: u64) -> Scalar {
    Scalar::from(number)
}

fn reduced(bytes: Word) -> Scalar {
    <Scalar as Reduce<FieldBytes>>::reduce(&bytes.into())
}

/// `n` and a small number above or below it, or around 0 or half of it, or all ones.
fn edges() -> Vec<Word> {
    let order: Word = hex::decode(ORDER).unwrap().try_into().unwrap();
    let near = |number: Word, add: i8| {
        let mut number = number;
        number[31] = number[31].checked_add_signed(add).unwrap();
        number
    };
    let half: Word = (scalar(2).invert().unwrap() - Scalar::ONE).to_bytes().into();
    let mut edges: Vec<Word> = [0, 1, 2, 31, 32, 33].map(|number| near([0; 32], number)).to_vec();
    edges.extend([-2, -1, 0, 1].map(|add| near(order, add)));
    edges.extend([0, 1].map(|add| near(half, add)));
    edges.push([0xff; 32]);
    edges
}

/// What both say, which must be the same.
fn agreed(table: &KeyTable, key: &VerifyingKey, digest: &Word, signature: &[u8]) -> bool {
    let by_table = table.verify_digest(digest, signature);
    assert_eq!(
        by_table,
        key.verify_digest(digest, signature),
        "digest {} signature {}",
        hex::encode(digest),
        hex::encode(signature)
    );
    by_table
}

fn joined(r: Word, s: Word) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// Of `(r, s)` and `(r, n − s)` the one in the low-s form; the other one must be refused.
fn is_taken(table: &KeyTable, key: &VerifyingKey, digest: &Word, r: Scalar, s: Scalar) -> bool {
    let taken = [s, -s].map(|s| agreed(table, key, digest, &joined(r.to_bytes().into(), s.to_bytes().into())));
    assert!(taken != [true, true]);
    taken.contains(&true)
}

fn x_of(point: ProjectivePoint) -> Scalar {
    reduced(point.to_affine().x().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn good_seals_hold_and_none_with_one_bit_more_or_less(which in 0..3usize, message: [u8; 16], bit in 0..512usize) {
        let Checked { key, table } = &KEYS[which];
        let (digest, signature) = (sha256(&message), key.sign(&message));
        prop_assert!(agreed(table, key.public(), &digest, &signature));
        let mut altered = signature;
        altered[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!agreed(table, key.public(), &digest, &altered));
        let mut other = digest;
        other[bit / 8 % 32] ^= 1 << (bit % 8);
        prop_assert!(!agreed(table, key.public(), &other, &signature));
        let third = &KEYS[(which + 1) % 3];
        prop_assert!(!agreed(&third.table, third.key.public(), &digest, &signature));
    }

    #[test]
    fn keys_and_signatures_of_any_numbers_are_judged_the_same(secret: Word, digest: Word, k: Word, length in 0..70usize) {
        let (d, k) = (reduced(secret), reduced(k));
        prop_assume!(d != Scalar::ZERO && k != Scalar::ZERO);
        let Checked { key, table } = Checked::new(d.to_bytes().into());
        let r = x_of(ProjectivePoint::GENERATOR * k);
        let s = k.invert().unwrap() * (reduced(digest) + r * d);
        prop_assert!(is_taken(&table, key.public(), &digest, r, s));
        prop_assert!(!is_taken(&table, key.public(), &digest, s, r));
        let any: Vec<u8> = secret.iter().chain(&digest).chain(&secret).copied().take(length).collect();
        agreed(&table, key.public(), &digest, &any);
    }
}

#[test]
fn numbers_at_the_edges_are_judged_the_same() {
    let Checked { key, table } = &KEYS[2];
    for (r, s, digest) in edges()
        .iter()
        .flat_map(|r| edges().into_iter().flat_map(|s| [[0; 32], [0xff; 32]].map(|digest| (*r, s, digest))))
    {
        agreed(table, key.public(), &digest, &joined(r, s));
    }
    // Each as the digest of a good signature, 0 and those above the order among them.
    let d = scalar(0xa7);
    for digest in edges() {
        let k = scalar(7);
        let r = x_of(ProjectivePoint::GENERATOR * k);
        let s = k.invert().unwrap() * (reduced(digest) + r * d);
        assert!(is_taken(table, key.public(), &digest, r, s), "{}", hex::encode(digest));
    }
}

#[test]
fn an_x_coordinate_above_the_order_counts_modulo_the_order() {
    // One point in four thousand million has such an x; so the key is made for the point instead: Q = r⁻¹ (s·R − e·G).
    let order: Word = hex::decode(ORDER).unwrap().try_into().unwrap();
    let found = (1..100u8).find_map(|r| {
        let mut compressed = vec![2];
        compressed.extend(order);
        compressed[32] += r;
        let point = Sec1Point::from_bytes(&compressed).ok()?;
        Some((scalar(r.into()), Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&point))?))
    });
    let (r, point) = found.expect("every second x is one of a point");
    let (s, digest) = (scalar(12_345), sha256(b"rare"));
    let inverse = r.invert().unwrap();
    let sum = ProjectivePoint::from(point) * s - ProjectivePoint::GENERATOR * reduced(digest);
    let public = p256::ecdsa::VerifyingKey::from_affine((sum * inverse).to_affine()).unwrap();
    let key = VerifyingKey::from_sec1(public.to_sec1_point(false).as_bytes()).unwrap();
    let table = KeyTable::new(&key).unwrap();
    assert!(is_taken(&table, &key, &digest, r, s));
    assert!(!is_taken(&table, &key, &digest, r + Scalar::ONE, s));
}

#[test]
fn sums_that_meet_themselves_are_right() {
    // The key 1·G: the same multiples of the same point on both sides, so additions of equal and of opposite points occur.
    let Checked { key, table } = &KEYS[0];
    for u in 1..=40 {
        let u = scalar(u);
        let double = x_of(ProjectivePoint::GENERATOR * (u + u));
        let s = double * u.invert().unwrap();
        assert!(is_taken(table, key.public(), &double.to_bytes().into(), double, s));
        // u·G − u·G: nothing, which is no point with an x.
        assert!(!is_taken(table, key.public(), &(-double).to_bytes().into(), double, s));
    }
}

#[test]
fn wycheproof_agrees() {
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut valid, mut refused) = (0, 0);
    for group in &set.test_groups {
        let key = VerifyingKey::from_sec1(&group.key.key).unwrap();
        let table = KeyTable::new(&key).unwrap();
        for test in &group.tests {
            let holds = agreed(&table, &key, &sha256(&test.msg), &test.sig);
            match test.result {
                TestResult::Invalid => assert!(!holds, "{} {}", test.tc_id, test.comment),
                // All but the high-s twins, which any other library takes as well.
                _ => assert_eq!(holds, key.verify(&test.msg, &test.sig), "{} {}", test.tc_id, test.comment),
            }
            *if holds { &mut valid } else { &mut refused } += 1;
        }
    }
    assert!(valid > 50 && refused > 50, "{valid} {refused}");
}
