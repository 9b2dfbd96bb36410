//! A table of multiples of one public key: its seals are checked twice as fast as without.
//!
//! ECDSA (SEC 1 v2 §4.1.4) asks whether `u1·G + u2·Q` has the x-coordinate `r`. Without a table that takes 256 doublings. With the
//! points `d·2^(w·i)·P` for every window `i` and digit `d` at hand it takes one addition a window and none of them (fixed-base
//! windowing: Brickell, Gordon, McCurley, Wilson, "Fast Exponentiation with Precomputation", EUROCRYPT 1992); digits are
//! signed, which halves the table. Everything here is public, so the time may depend on it.
//!
//! Curve and field are those of `ark-secp256r1`, scalars those of `p256`; nothing of either is written here. Whoever uses this keeps
//! [`VerifyingKey::verify_digest`], which has the last word, at hand for what a table denies.

use crate::VerifyingKey;
use crate::key::is_low;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, BigInt, BigInteger, Field, PrimeField};
use ark_secp256r1::{Affine, Fq, Fr, Projective};
use p256::Scalar;
use p256::elliptic_curve::ops::Reduce;
use std::fmt;
use std::sync::LazyLock;

/// Bits of a window over a key's multiples: one more doubles the table and saves six additions.
const KEY_WINDOW: usize = 6;
/// Bits of a window over the multiples of the generator, of which there is one table for all.
const GENERATOR_WINDOW: usize = 8;

static GENERATOR: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(Projective::generator(), GENERATOR_WINDOW));

/// The table of one key. Takes [`KeyTable::BYTES`], and a millisecond to make.
pub struct KeyTable(Multiples);

impl fmt::Debug for KeyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyTable({} points)", self.0.points.len())
    }
}

impl KeyTable {
    /// What a table takes in memory.
    pub const BYTES: usize = (rows(KEY_WINDOW) << (KEY_WINDOW - 1)) * size_of::<(Fq, Fq)>();

    /// The table of `key`; `None` never happens, for a [`VerifyingKey`] is a point of the curve.
    #[must_use]
    pub fn new(key: &VerifyingKey) -> Option<Self> {
        let (x, y) = key.sec1()[1..].split_at(32);
        let point = Affine::new_unchecked(field(x)?, field(y)?);
        (point.is_on_curve() && !point.is_zero()).then(|| Self(Multiples::of(point.into_group(), KEY_WINDOW)))
    }

    /// As [`VerifyingKey::verify_digest`]: whether `signature` over the message of that SHA-256 holds and is in the low-s form.
    #[must_use]
    pub fn verify_digest(&self, digest: &crate::Hash, signature: &[u8]) -> bool {
        is_low(signature) && self.holds(digest, signature).unwrap_or(false)
    }

    /// SEC 1 v2 §4.1.4, steps 1 to 8. `None`: r or s is not from 1 to n − 1, or the sum is the point at infinity.
    fn holds(&self, digest: &crate::Hash, signature: &[u8]) -> Option<bool> {
        let signature = p256::ecdsa::Signature::from_slice(signature).ok()?;
        let (r, s) = (signature.r(), signature.s());
        let inverse = Option::<Scalar>::from(s.as_ref().invert_vartime())?;
        let e = <Scalar as Reduce<p256::FieldBytes>>::reduce(&(*digest).into());
        let mut sum = Projective::default();
        GENERATOR.add(&mut sum, &(e * inverse));
        self.0.add(&mut sum, &(*r.as_ref() * inverse));
        if sum.z == Fq::ZERO {
            return None;
        }
        // x = X / Z² (Jacobian coordinates), and x mod n = r: x is r, or r + n where that is below p. No division is needed.
        let (zz, r) = (sum.z.square(), integer(&r.to_bytes()));
        let mut r_n = r;
        let is_over = r_n.add_with_carry(&Fr::MODULUS);
        let has_x = |x: BigInt<4>| Fq::from_bigint(x).is_some_and(|x| x * zz == sum.x);
        Some(has_x(r) || !is_over && has_x(r_n))
    }
}

/// Windows of `bits` over a scalar; the last one has room for the carry of signed digits.
const fn rows(bits: usize) -> usize {
    256 / bits + 1
}

/// For each window, `1·B` to `2^(bits−1)·B` of its base `B`, as x and y.
struct Multiples {
    bits: usize,
    points: Box<[(Fq, Fq)]>,
}

impl Multiples {
    fn of(point: Projective, bits: usize) -> Self {
        let half = 1 << (bits - 1);
        let (mut multiples, mut base) = (Vec::with_capacity(rows(bits) * half), point);
        for _ in 0..rows(bits) {
            let first = multiples.len();
            multiples.push(base);
            for _ in 1..half {
                multiples.push(multiples[multiples.len() - 1] + base);
            }
            // Twice the last one, half · B, is the base of the next window.
            base = multiples[first + half - 1].double();
        }
        // The order is prime, so no multiple below it is the point at infinity.
        let points = Projective::normalize_batch(&multiples).into_iter().map(|point| (point.x, point.y)).collect();
        Self { bits, points }
    }

    /// Adds `scalar` times the point to `sum`.
    fn add(&self, sum: &mut Projective, scalar: &Scalar) {
        let half = 1 << (self.bits - 1);
        for (row, digit) in self.points.chunks_exact(half).zip(digits(scalar, self.bits)) {
            let Some((x, y)) = digit.unsigned_abs().checked_sub(1).and_then(|place| row.get(place)) else { continue };
            let y = if digit < 0 { -*y } else { *y };
            *sum += Affine::new_unchecked(*x, y);
        }
    }
}

/// A scalar as digits from −2^(bits−1) + 1 to 2^(bits−1), each worth `2^bits` times the one before.
fn digits(scalar: &Scalar, bits: usize) -> impl Iterator<Item = isize> {
    let BigInt(limbs) = integer(&scalar.to_bytes());
    let mut carry = 0;
    (0..rows(bits)).map(move |row| {
        let (limb, shift) = (row * bits / 64, row * bits % 64);
        let at = |limb: usize| u128::from(limbs.get(limb).copied().unwrap_or(0));
        let window = (at(limb) | at(limb + 1) << 64) >> shift & ((1 << bits) - 1);
        // Below 2^bits, which is at most 256.
        let digit = isize::try_from(window).unwrap_or(0) + carry;
        carry = isize::from(digit > 1 << (bits - 1));
        digit - (carry << bits)
    })
}

fn field(bytes: &[u8]) -> Option<Fq> {
    Fq::from_bigint(integer(bytes))
}

/// 32 bytes, big-endian.
fn integer(bytes: &[u8]) -> BigInt<4> {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_be_bytes(*bytes);
    }
    BigInt(limbs)
}
