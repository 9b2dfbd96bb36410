//! A reading as bytes, its salted leaf, and the vault's numbered hash chain. CDDL: `docs/formats/reading.cddl`.
//!
//! ```text
//! reading = [number, point, point number, value / [no-value code], unit, quality (0 good, 1 uncertain, 2 bad),
//!            source time, received, ? sealed message]   times in µs; the last one only where the device sealed it itself
//! leaf    = SHA-256(0x00 ‖ salt (16 bytes) ‖ reading)       so that a hidden reading cannot be guessed from its leaf
//! head 0  = SHA-256("tallystick vault v1" ‖ 0x00 ‖ device)
//! head n+1 = SHA-256(0x02 ‖ head n ‖ leaf n)                so that a missing, altered or reordered reading shows
//! ```
//! The number counts the readings of the device, the point number those of the point, both from 0 without gaps: a reading
//! of a disclosed point cannot hide among the undisclosed ones.

use crate::Hash;
use crate::cbor::{self, Cbor, CborFault};
use sha2::{Digest, Sha256};
use tally_model::{DeviceId, NoValue, PointId, Quality, Reading, Sample, Timestamp, Unit, Value};

/// Random per reading; without it a leaf of "running = true" could be guessed.
pub type Salt = [u8; 16];

/// Why bytes are not a reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadingFault {
    /// Not deterministic CBOR.
    #[error("reading: {0}")]
    Cbor(#[from] CborFault),
    /// Not the eight-element array.
    #[error("reading: {0}")]
    Shape(&'static str),
}

/// The canonical bytes of a reading that is the `point_number`-th of its point. The device is not repeated in them: the
/// chain is per device.
#[must_use]
pub fn encode_reading(reading: &Reading, point_number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80);
    push_reading(&mut bytes, reading.number, point_number, &reading.sample);
    bytes
}

/// Appends what [`encode_reading`] gives to `bytes`, without allocating: the vault does this 200,000 times a second.
///
/// Written by hand head by head (RFC 8949 §3, shortest forms of §4.2.1); a test holds it against [`cbor::encode`].
pub fn push_reading(bytes: &mut Vec<u8>, number: u64, point_number: u64, sample: &Sample) {
    bytes.push(if sample.seal.is_none() { 0x88 } else { 0x89 }); // an array of eight, or nine
    push_head(bytes, UNSIGNED, number);
    push_text(bytes, sample.point.as_str());
    push_head(bytes, UNSIGNED, point_number);
    match &sample.outcome {
        Ok(value) => push_value(bytes, value),
        Err(reason) => {
            bytes.push(0x81); // an array of one
            push_head(bytes, UNSIGNED, u64::from(reason.code()));
        }
    }
    push_text(bytes, sample.unit.as_str());
    bytes.push(match sample.quality {
        Quality::Good => 0,
        Quality::Uncertain => 1,
        Quality::Bad => 2,
    });
    push_integer(bytes, sample.source_time.as_micros());
    push_integer(bytes, sample.received.as_micros());
    if let Some(seal) = &sample.seal {
        push_head(bytes, BYTES, seal.len() as u64);
        bytes.extend_from_slice(seal);
    }
}

/// Major types of RFC 8949 §3.1, in the upper three bits.
const UNSIGNED: u8 = 0x00;
const NEGATIVE: u8 = 0x20;
const BYTES: u8 = 0x40;
const TEXT: u8 = 0x60;

/// A head: major type and argument in the shortest form.
fn push_head(bytes: &mut Vec<u8>, major: u8, argument: u64) {
    let wide = argument.to_be_bytes();
    match argument {
        0..=23 => bytes.push(major | wide[7]),
        24..=0xff => bytes.extend([major | 24, wide[7]]),
        0x100..=0xffff => bytes.extend([major | 25, wide[6], wide[7]]),
        0x1_0000..=0xffff_ffff => {
            bytes.push(major | 26);
            bytes.extend(&wide[4..]);
        }
        _ => {
            bytes.push(major | 27);
            bytes.extend(&wide);
        }
    }
}

fn push_integer(bytes: &mut Vec<u8>, number: i64) {
    // A negative n is written as -1 - n, which is the complement of its bits.
    let (major, argument) = if number < 0 { (NEGATIVE, !number) } else { (UNSIGNED, number) };
    push_head(bytes, major, argument.unsigned_abs());
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_head(bytes, TEXT, text.len() as u64);
    bytes.extend(text.as_bytes());
}

fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => bytes.push(if *flag { 0xf5 } else { 0xf4 }),
        Value::Integer(number) => push_integer(bytes, *number),
        Value::Unsigned(number) => push_head(bytes, UNSIGNED, *number),
        Value::Float(number) => push_float(bytes, *number),
        Value::Text(text) => push_text(bytes, text),
    }
}

/// The shortest of half, single and double that holds the number exactly.
#[allow(clippy::cast_possible_truncation)] // compared with the original right after
fn push_float(bytes: &mut Vec<u8>, number: f64) {
    let single = number as f32;
    if f64::from(single).to_bits() != number.to_bits() {
        bytes.push(0xfb);
        bytes.extend(number.to_be_bytes());
    } else if let Some(half) = exact_half(single) {
        bytes.push(0xf9);
        bytes.extend(half.to_be_bytes());
    } else {
        bytes.push(0xfa);
        bytes.extend(single.to_be_bytes());
    }
}

/// The bits of the IEEE 754 half that equals a finite `single`, if there is one.
#[allow(clippy::cast_possible_truncation)] // the shifts leave 16 bits
fn exact_half(single: f32) -> Option<u16> {
    let bits = single.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
    match exponent {
        0 if fraction == 0 => Some(sign),
        // 2^-14 … 2^15: normal halves, ten bits of fraction.
        113..=142 if fraction.trailing_zeros() >= 13 => Some(sign | ((exponent - 112) << 10 | fraction >> 13) as u16),
        // 2^-24 … 2^-15: subnormal halves; the leading one is written out.
        103..=112 => {
            let (whole, shift) = (fraction | 0x80_0000, 126 - exponent);
            (whole.trailing_zeros() >= shift).then_some(sign | (whole >> shift) as u16)
        }
        _ => None,
    }
}

/// Reads a reading of `device` strictly; gives it with its point number.
///
/// # Errors
/// [`ReadingFault`].
pub fn decode_reading(device: &DeviceId, bytes: &[u8]) -> Result<(Reading, u64), ReadingFault> {
    let Cbor::Array(items) = cbor::decode(bytes)? else { return Err(ReadingFault::Shape("not an array")) };
    let (items, seal) = match items.as_slice() {
        [items @ .., Cbor::Bytes(seal)] => (items, Some(seal.as_slice().into())),
        items => (items, None),
    };
    let [number, point, point_number, value, unit, quality, source, received] = items else {
        return Err(ReadingFault::Shape("not eight elements, or nine with a sealed message"));
    };
    let quality = match quality.as_integer().map(i128::from) {
        Some(0) => Quality::Good,
        Some(1) => Quality::Uncertain,
        Some(2) => Quality::Bad,
        _ => return Err(ReadingFault::Shape("quality is 0, 1 or 2")),
    };
    let outcome = match value {
        Cbor::Array(code) => Err(no_value(code)?),
        value => Ok(cbor::to_value(value).ok_or(ReadingFault::Shape("value is no scalar"))?),
    };
    if outcome.is_err() != (quality == Quality::Bad) {
        return Err(ReadingFault::Shape("quality is bad exactly when there is no value"));
    }
    let point = point.as_text().and_then(|name| PointId::try_new(name).ok());
    let unit = unit.as_text().and_then(|code| Unit::try_new(code).ok());
    let sample = Sample {
        seal,
        point: point.ok_or(ReadingFault::Shape("point is no point id"))?,
        outcome,
        unit: unit.ok_or(ReadingFault::Shape("unit is no unit"))?,
        quality,
        source_time: instant(source)?,
        received: instant(received)?,
    };
    Ok((Reading { device: device.clone(), number: count(number)?, sample }, count(point_number)?))
}

fn count(value: &Cbor) -> Result<u64, ReadingFault> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or(ReadingFault::Shape("a number counts from 0"))
}

fn no_value(code: &[Cbor]) -> Result<NoValue, ReadingFault> {
    let [code] = code else { return Err(ReadingFault::Shape("a no-value reason is one number")) };
    let code = code.as_integer().and_then(|code| u8::try_from(code).ok());
    code.and_then(NoValue::from_code).ok_or(ReadingFault::Shape("unknown no-value reason"))
}

fn instant(value: &Cbor) -> Result<Timestamp, ReadingFault> {
    let micros = value.as_integer().and_then(|micros| i64::try_from(micros).ok());
    micros.map(Timestamp::from_micros).ok_or(ReadingFault::Shape("a time is whole microseconds"))
}

/// The leaf of a reading.
#[must_use]
pub fn reading_leaf(salt: &Salt, reading: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(salt).chain_update(reading).finalize().into()
}

/// The head of a device's vault chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead(pub Hash);

impl ChainHead {
    /// The head before the first reading.
    #[must_use]
    pub fn start(device: &DeviceId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tallystick vault v1\0");
        hash.update(device.as_str());
        Self(hash.finalize().into())
    }

    /// The head after one more leaf.
    #[must_use]
    pub fn extend(self, leaf: &Hash) -> Self {
        let mut hash = Sha256::new();
        hash.update([0x02]);
        hash.update(self.0);
        hash.update(leaf);
        Self(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::{int, text};
    use proptest::prelude::*;

    #[test]
    fn readings_round_trip() {
        let device = DeviceId::try_new("press-01").unwrap();
        let outcomes = [
            (Ok(Value::Float(7.25)), Quality::Good),
            (Ok(Value::from_u64(u64::MAX)), Quality::Uncertain),
            (Ok(Value::Text("läuft".into())), Quality::Good),
            (Err(NoValue::Timeout), Quality::Bad),
        ];
        for (outcome, quality) in outcomes {
            let sample = Sample {
                seal: None,
                point: PointId::try_new("vibration").unwrap(),
                outcome,
                unit: Unit::try_new("mm/s").unwrap(),
                quality,
                source_time: Timestamp::from_micros(1),
                received: Timestamp::from_micros(2),
            };
            let reading = Reading { device: device.clone(), number: 5, sample };
            let sealed = Sample { seal: Some((&[7; 300][..]).into()), ..reading.sample.clone() };
            let sealed = Reading { sample: sealed, ..reading.clone() };
            assert_eq!(encode_reading(&sealed, 3), by_the_book(&sealed, 3));
            assert_ne!(encode_reading(&sealed, 3), encode_reading(&reading, 3), "the seal is part of the leaf");
            assert_eq!(decode_reading(&device, &encode_reading(&sealed, 3)), Ok((sealed, 3)));
            assert_eq!(decode_reading(&device, &encode_reading(&reading, 3)), Ok((reading, 3)));
        }
    }

    /// What [`push_reading`] must write, in the words of the CDDL.
    fn by_the_book(reading: &Reading, point_number: u64) -> Vec<u8> {
        let sample = &reading.sample;
        let value = match &sample.outcome {
            Ok(value) => cbor::from_value(value),
            Err(reason) => Cbor::Array(vec![int(reason.code())]),
        };
        let mut items = vec![
            int(reading.number),
            text(sample.point.as_str()),
            int(point_number),
            value,
            text(sample.unit.as_str()),
            int(sample.quality as u8),
            int(sample.source_time.as_micros()),
            int(sample.received.as_micros()),
        ];
        items.extend(sample.seal.as_ref().map(|seal| Cbor::Bytes(seal.to_vec())));
        cbor::encode(&Cbor::Array(items))
    }

    fn outcome() -> impl Strategy<Value = Result<Value, NoValue>> {
        let float = |number: f64| if number.is_finite() { Value::Float(number) } else { Value::Float(-0.0) };
        prop_oneof![
            any::<bool>().prop_map(|flag| Ok(Value::Bool(flag))),
            any::<i64>().prop_map(|number| Ok(Value::Integer(number))),
            (-70_000i64..70_000).prop_map(|number| Ok(Value::Integer(number))),
            any::<u64>().prop_map(|number| Ok(Value::from_u64(number))),
            any::<f64>().prop_map(move |number| Ok(float(number))),
            any::<f32>().prop_map(move |number| Ok(float(f64::from(number)))),
            // Every half there is, and its neighbours: eleven significant bits at every exponent.
            (-2100i32..2100, -30i32..20).prop_map(move |(n, e)| Ok(float(f64::from(n) * 2f64.powi(e)))),
            ".{0,300}".prop_map(|text| Ok(Value::Text(text))),
            (1u8..8).prop_map(|code| Err(NoValue::from_code(code).unwrap())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_encoder_writes_deterministic_cbor(
            outcome in outcome(),
            number in any::<u64>(),
            point_number in 0u64..100_000,
            times in any::<(i64, i64)>(),
        ) {
            let quality = if outcome.is_ok() { Quality::Uncertain } else { Quality::Bad };
            let sample = Sample {
                seal: None,
                point: PointId::try_new("vibration").unwrap(),
                outcome,
                unit: Unit::try_new("mm/s").unwrap(),
                quality,
                source_time: Timestamp::from_micros(times.0),
                received: Timestamp::from_micros(times.1),
            };
            let reading = Reading { device: DeviceId::try_new("d").unwrap(), number, sample };
            prop_assert_eq!(encode_reading(&reading, point_number), by_the_book(&reading, point_number));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode_reading(&DeviceId::try_new("d").unwrap(), &bytes);
        }
    }
}
