//! From a value to the words a device keeps for it: the way back of [`crate::decode`], for the writing half.

use std::collections::BTreeMap;
use tally_model::{ByteOrder, Encoding, PointSpec, Value};

/// Why a value has no words.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeFault {
    /// The point takes another kind of value.
    #[error("`{point}` takes {takes}, not `{found}`")]
    Kind {
        /// Which point.
        point: String,
        /// What it takes.
        takes: &'static str,
        /// What was given.
        found: String,
    },
    /// The value is outside the point's range, or the registers cannot hold it.
    #[error("`{point}` cannot hold `{found}`: {reason}")]
    Range {
        /// Which point.
        point: String,
        /// What was given.
        found: String,
        /// What it can hold.
        reason: String,
    },
    /// Some bits of a register cannot be written without knowing the others.
    #[error("`{0}` is a part of a register; write the whole register, or its bits with a mask")]
    Part(String),
}

/// The words of `value`, exactly as many as the point occupies; one word of 0 or 1 for a coil.
///
/// # Errors
/// [`EncodeFault`]. Nothing is rounded silently except by the scale: a number that falls between two raw numbers becomes
/// the nearer one.
pub fn encode(spec: &PointSpec, value: &Value) -> Result<Vec<u16>, EncodeFault> {
    let is_bit = matches!(spec.address, tally_model::Address::Modbus { bit: Some(_), .. });
    if spec.options.bits.is_some() || is_bit {
        return Err(EncodeFault::Part(spec.id.to_string()));
    }
    if spec.encoding.is_text() {
        return text(spec, value);
    }
    if let Some(labels) = &spec.options.labels {
        return labelled(spec, labels, value);
    }
    match (spec.encoding, value) {
        (Encoding::Bool, Value::Bool(on)) => Ok(vec![u16::from(*on)]),
        (Encoding::Bool, _) => Err(kind(spec, "true or false", value)),
        (_, Value::Bool(_) | Value::Text(_)) => Err(kind(spec, "a number", value)),
        (Encoding::F16 | Encoding::F32 | Encoding::F64, _) => float(spec, value),
        _ => whole(spec, value),
    }
}

fn kind(spec: &PointSpec, takes: &'static str, value: &Value) -> EncodeFault {
    EncodeFault::Kind { point: spec.id.to_string(), takes, found: value.to_string() }
}

fn range(spec: &PointSpec, value: &Value, reason: impl Into<String>) -> EncodeFault {
    EncodeFault::Range { point: spec.id.to_string(), found: value.to_string(), reason: reason.into() }
}

/// The number before scaling; the exact way for whole numbers that are not scaled.
fn unscaled(spec: &PointSpec, value: &Value) -> Result<f64, EncodeFault> {
    let number = value.as_f64().unwrap_or(f64::NAN);
    if let Some((lowest, highest)) = spec.range
        && !(lowest..=highest).contains(&number)
    {
        return Err(range(spec, value, format!("its range is {lowest} to {highest}")));
    }
    let raw = (number - spec.offset) / spec.scale;
    if raw.is_finite() { Ok(raw) } else { Err(range(spec, value, "it is no finite number")) }
}

#[allow(clippy::cast_possible_truncation)] // narrowing is the purpose; what becomes infinite is refused
fn float(spec: &PointSpec, value: &Value) -> Result<Vec<u16>, EncodeFault> {
    let raw = unscaled(spec, value)?;
    let (bits, is_finite) = match spec.encoding {
        Encoding::F16 => {
            let half = half::f16::from_f64(raw);
            (u64::from(half.to_bits()), half.is_finite())
        }
        Encoding::F32 => (u64::from((raw as f32).to_bits()), (raw as f32).is_finite()),
        _ => (raw.to_bits(), true),
    };
    if is_finite { Ok(split(spec, bits)) } else { Err(range(spec, value, "it is too large for the registers")) }
}

#[allow(clippy::cast_possible_truncation)] // checked against the limits of the encoding, which are far below 2^127
fn whole(spec: &PointSpec, value: &Value) -> Result<Vec<u16>, EncodeFault> {
    let scaled = unscaled(spec, value)?;
    let number = match value {
        Value::Integer(number) if !spec.is_scaled() => i128::from(*number),
        Value::Unsigned(number) if !spec.is_scaled() => i128::from(*number),
        _ if !spec.is_scaled() && scaled.fract().abs() > 0.0 => {
            return Err(range(spec, value, "it holds whole numbers"));
        }
        _ => scaled.round() as i128,
    };
    bits_of(spec.encoding, number).map(|bits| split(spec, bits)).map_err(|reason| range(spec, value, reason))
}

/// The bits of a whole number, or what the encoding can hold.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the limits, and two's complement is the purpose
fn bits_of(encoding: Encoding, number: i128) -> Result<u64, String> {
    let bits = u32::from(encoding.whole_bits().ok_or("it holds no number")?);
    let (least, most) = match encoding {
        Encoding::I8 | Encoding::I16 | Encoding::I32 | Encoding::I64 => {
            (-(1_i128 << (bits - 1)), (1 << (bits - 1)) - 1)
        }
        Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 => (0, 10_i128.pow(bits / 4) - 1),
        _ => (0, (1_i128 << bits) - 1),
    };
    if !(least..=most).contains(&number) {
        return Err(format!("the registers hold {least} to {most}"));
    }
    Ok(match encoding {
        Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 => {
            (0..bits / 4).fold(0, |bits, place| bits | ((number / 10_i128.pow(place) % 10) as u64) << (4 * place))
        }
        Encoding::I8 => u64::from((number as i8).cast_unsigned()),
        _ => number as u64,
    })
}

fn labelled(spec: &PointSpec, labels: &BTreeMap<i64, String>, value: &Value) -> Result<Vec<u16>, EncodeFault> {
    let Value::Text(label) = value else { return Err(kind(spec, "one of its labels", value)) };
    let number = labels.iter().find(|(_, known)| *known == label).map(|(number, _)| *number);
    let number = number.ok_or_else(|| range(spec, value, "it is none of its labels"))?;
    let bits = bits_of(spec.encoding, i128::from(number)).map_err(|reason| range(spec, value, reason))?;
    Ok(split(spec, bits))
}

fn text(spec: &PointSpec, value: &Value) -> Result<Vec<u16>, EncodeFault> {
    let Value::Text(text) = value else { return Err(kind(spec, "a text", value)) };
    let length = usize::from(spec.length);
    if text.len() > length {
        return Err(range(spec, value, format!("it holds {length} bytes")));
    }
    let mut bytes = text.clone().into_bytes();
    bytes.resize(usize::from(spec.registers()) * if spec.encoding == Encoding::Text { 2 } else { 1 }, 0);
    let words: Vec<u16> = match spec.encoding {
        Encoding::TextLow => bytes.into_iter().map(u16::from).collect(),
        Encoding::TextHigh => bytes.into_iter().map(|byte| u16::from(byte) << 8).collect(),
        _ => bytes.chunks_exact(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u16::from(*byte))).collect(),
    };
    Ok(words.into_iter().map(|word| swapped(word, spec.order)).collect())
}

/// A number as words, in the point's order.
#[allow(clippy::cast_possible_truncation)] // a word is cut out on purpose
fn split(spec: &PointSpec, bits: u64) -> Vec<u16> {
    let places = (0..spec.registers()).rev();
    let mut words: Vec<u16> = places.map(|place| swapped((bits >> (16 * place)) as u16, spec.order)).collect();
    match (spec.order, words.as_mut_slice()) {
        (ByteOrder::Cdab | ByteOrder::Dcba, words) => words.reverse(),
        (ByteOrder::Cdabghef | ByteOrder::Dcbahgfe, [a, b, c, d]) => {
            std::mem::swap(a, b);
            std::mem::swap(c, d);
        }
        (ByteOrder::Efghabcd | ByteOrder::Fehgbadc, [a, b, c, d]) => {
            std::mem::swap(a, c);
            std::mem::swap(b, d);
        }
        _ => {}
    }
    words
}

const fn swapped(word: u16, order: ByteOrder) -> u16 {
    if order.swaps_bytes() { word.swap_bytes() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;
    use crate::decode::tests::spec;
    use proptest::prelude::*;
    use tally_model::BitField;

    const WHOLE: [Encoding; 11] = [
        Encoding::U8,
        Encoding::I8,
        Encoding::U16,
        Encoding::I16,
        Encoding::U32,
        Encoding::I32,
        Encoding::U64,
        Encoding::I64,
        Encoding::Bcd16,
        Encoding::Bcd32,
        Encoding::Bcd64,
    ];

    #[test]
    fn what_a_point_cannot_hold_is_refused() {
        let refused = |encoding, value| encode(&spec(encoding, ByteOrder::Abcd), &value).unwrap_err();
        assert!(matches!(refused(Encoding::U16, Value::Integer(-1)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::U16, Value::Integer(65_536)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::I8, Value::Integer(128)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::Bcd16, Value::Integer(10_000)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::U16, Value::Float(1.5)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::F32, Value::Float(1e300)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::F16, Value::Float(70_000.0)), EncodeFault::Range { .. }));
        assert!(matches!(refused(Encoding::F32, Value::Text("7".to_owned())), EncodeFault::Kind { .. }));
        assert!(matches!(refused(Encoding::Bool, Value::Integer(1)), EncodeFault::Kind { .. }));
        let mut part = spec(Encoding::U16, ByteOrder::Abcd);
        part.options.bits = BitField::parse("3");
        assert!(matches!(encode(&part, &Value::Integer(1)), Err(EncodeFault::Part(_))));
        let mut ranged = spec(Encoding::U16, ByteOrder::Abcd);
        ranged.range = Some((0.0, 100.0));
        assert!(matches!(encode(&ranged, &Value::Integer(101)), Err(EncodeFault::Range { .. })));
    }

    #[test]
    fn labels_and_scales_go_both_ways() {
        let mut mode = spec(Encoding::I16, ByteOrder::Badc);
        mode.options.labels = Some(BTreeMap::from([(-1, "fault".to_owned()), (2, "run".to_owned())]).into());
        assert_eq!(encode(&mode, &Value::Text("fault".to_owned())), Ok(vec![0xffff]));
        assert_eq!(encode(&mode, &Value::Text("run".to_owned())), Ok(vec![0x0200]));
        assert!(encode(&mode, &Value::Text("walk".to_owned())).is_err());
        let mut level = spec(Encoding::I16, ByteOrder::Abcd);
        (level.scale, level.offset) = (0.1, -40.0);
        assert_eq!(encode(&level, &Value::Float(21.5)), Ok(vec![615]));
    }

    proptest! {
        #[test]
        fn whole_numbers_come_back(
            bits in any::<u64>(),
            encoding in proptest::sample::select(&WHOLE[..]),
            order in proptest::sample::select(&ByteOrder::ALL[..]),
        ) {
            let words: Vec<u16> = bits.to_be_bytes().chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            let spec = spec(encoding, order);
            let words = &words[..usize::from(spec.registers())];
            let Ok(value) = decode(&spec, words) else { return Ok(()) };
            let back = encode(&spec, &value).unwrap();
            prop_assert_eq!(decode(&spec, &back), Ok(value));
            if !matches!(encoding, Encoding::U8 | Encoding::I8) {
                prop_assert_eq!(back, words);
            }
        }

        #[test]
        fn floats_come_back(number in any::<f32>(), order in proptest::sample::select(&ByteOrder::ALL[..])) {
            prop_assume!(number.is_finite());
            for encoding in [Encoding::F32, Encoding::F64] {
                let spec = spec(encoding, order);
                let value = Value::Float(f64::from(number));
                prop_assert_eq!(decode(&spec, &encode(&spec, &value).unwrap()), Ok(value));
            }
        }

        #[test]
        fn texts_come_back(
            text in "[a-zA-Z0-9äé°]{0,12}",
            encoding in proptest::sample::select(&[Encoding::Text, Encoding::TextLow, Encoding::TextHigh][..]),
            order in proptest::sample::select(&[ByteOrder::Abcd, ByteOrder::Badc][..]),
            spare in 0_u16..5,
        ) {
            let mut spec = spec(encoding, order);
            spec.length = u16::try_from(text.len()).unwrap() + spare;
            let words = encode(&spec, &Value::Text(text.clone())).unwrap();
            prop_assert_eq!(words.len(), usize::from(spec.registers()));
            prop_assert_eq!(decode(&spec, &words), Ok(Value::Text(text)));
        }
    }
}
