//! From raw words to values. Pure: no socket, no clock, never panics, whatever the words are.
//!
//! Byte orders (A is the most significant byte): `CDAB` and `DCBA` reverse the words, `BADC` and `DCBA` swap the
//! bytes inside each word; that covers 16, 32 and 64 bits. Texts keep their words in order and only swap bytes.
//! The published vectors are in `testcases/vectors.csv`.

use crate::{PlannedPoint, Request};
use tally_model::{ByteOrder, Encoding, NoValue, Outcome, PointSpec, Quality, Sample, Timestamp, Value};

/// Decodes the answer to `request` and appends one sample per point, in the request's order. Bits come as one word
/// each, 0 or 1. Words that are missing make [`NoValue::Nonsense`]. `now` is receive time and source time, because
/// Modbus knows no source times.
pub fn decode_response(request: &Request, words: &[u16], now: Timestamp, out: &mut Vec<Sample>) {
    out.reserve(request.points.len());
    for point in &request.points {
        out.push(sample(&point.spec, decode_point(point, words), now));
    }
}

/// The sample of a point that got this outcome now.
pub(crate) fn sample(spec: &PointSpec, outcome: Outcome, now: Timestamp) -> Sample {
    let quality = if outcome.is_ok() { Quality::Good } else { Quality::Bad };
    Sample { point: spec.id.clone(), outcome, unit: spec.unit.clone(), quality, source_time: now, received: now }
}

fn decode_point(point: &PlannedPoint, words: &[u16]) -> Outcome {
    let place = usize::from(point.place);
    let words = words.get(place..place + usize::from(point.width)).ok_or(NoValue::Nonsense)?;
    match (point.bit, words) {
        (Some(bit), [word]) => Ok(Value::Bool(word.in_order(point.spec.order) >> bit & 1 == 1)),
        _ => decode(&point.spec, words),
    }
}

/// Decodes the words of one point, which are exactly those it occupies.
///
/// # Errors
/// [`NoValue::Nonsense`] for too few or too many words and for texts that are not UTF-8, [`NoValue::NotANumber`] for
/// NaN and infinities, also after scaling, [`NoValue::OutOfRange`] outside the point's range.
pub fn decode(spec: &PointSpec, words: &[u16]) -> Outcome {
    let order = spec.order;
    let value = match (spec.encoding, words) {
        (Encoding::Bool, [word]) => return Ok(Value::Bool(*word != 0)),
        (Encoding::Text, _) if words.len() == usize::from(spec.registers()) => return text(spec, words),
        (Encoding::U16, [_]) => Raw::Unsigned(joined(words, order)),
        (Encoding::I16, [word]) => Raw::Signed(i64::from(word.in_order(order).cast_signed())),
        (Encoding::U32, [_, _]) => Raw::Unsigned(joined(words, order)),
        (Encoding::I32, [_, _]) => Raw::Signed(i64::from(low_32(joined(words, order)).cast_signed())),
        (Encoding::F32, [_, _]) => Raw::Float(f64::from(f32::from_bits(low_32(joined(words, order))))),
        (Encoding::U64, [_, _, _, _]) => Raw::Unsigned(joined(words, order)),
        (Encoding::I64, [_, _, _, _]) => Raw::Signed(joined(words, order).cast_signed()),
        (Encoding::F64, [_, _, _, _]) => Raw::Float(f64::from_bits(joined(words, order))),
        _ => return Err(NoValue::Nonsense),
    };
    in_range(spec, scaled(spec, value)?)
}

/// A number as the device holds it.
#[derive(Clone, Copy)]
enum Raw {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

trait Word {
    fn in_order(self, order: ByteOrder) -> u16;
}

impl Word for u16 {
    /// The word with its bytes the right way round.
    fn in_order(self, order: ByteOrder) -> u16 {
        match order {
            ByteOrder::Abcd | ByteOrder::Cdab => self,
            ByteOrder::Badc | ByteOrder::Dcba => self.swap_bytes(),
        }
    }
}

/// Up to four words as one number, most significant first.
fn joined(words: &[u16], order: ByteOrder) -> u64 {
    let join = |number: u64, word: &u16| number << 16 | u64::from(word.in_order(order));
    match order {
        ByteOrder::Abcd | ByteOrder::Badc => words.iter().fold(0, join),
        ByteOrder::Cdab | ByteOrder::Dcba => words.iter().rev().fold(0, join),
    }
}

#[allow(clippy::cast_possible_truncation)] // the cut is the purpose: two words are 32 bits
const fn low_32(number: u64) -> u32 {
    number as u32
}

/// Integers stay integers unless scaled; scaling happens in doubles.
#[allow(clippy::cast_precision_loss)] // above 2^53 a scaled counter loses its last digits, an unscaled one does not
fn scaled(spec: &PointSpec, raw: Raw) -> Outcome {
    let scale = |number: f64| Value::from_f64(number * spec.scale + spec.offset);
    match (raw, spec.is_scaled()) {
        (Raw::Unsigned(number), false) => Ok(Value::from_u64(number)),
        (Raw::Signed(number), false) => Ok(Value::Integer(number)),
        (Raw::Float(number), false) => Value::from_f64(number),
        (Raw::Unsigned(number), true) => scale(number as f64),
        (Raw::Signed(number), true) => scale(number as f64),
        (Raw::Float(number), true) => scale(number),
    }
}

fn in_range(spec: &PointSpec, value: Value) -> Outcome {
    match (spec.range, value.as_f64()) {
        (Some((lowest, highest)), Some(number)) if number < lowest || number > highest => Err(NoValue::OutOfRange),
        _ => Ok(value),
    }
}

fn text(spec: &PointSpec, words: &[u16]) -> Outcome {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.in_order(spec.order).to_be_bytes()).collect();
    bytes.truncate(usize::from(spec.length));
    let text = String::from_utf8(bytes).map_err(|_| NoValue::Nonsense)?;
    Ok(Value::Text(text.trim_end_matches(['\0', ' ']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::{Address, PointId, Unit};

    pub(super) fn spec(encoding: Encoding, order: ByteOrder) -> PointSpec {
        PointSpec {
            id: PointId::try_new("p").unwrap(),
            address: Address::parse_modbus("holding:0").unwrap(),
            encoding,
            order,
            length: 0,
            scale: 1.0,
            offset: 0.0,
            unit: Unit::one(),
            deadband: None,
            range: None,
        }
    }

    #[test]
    fn the_order_letters_mean_what_they_say() {
        let words = |text: &str| -> Vec<u16> {
            text.as_bytes().chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
        };
        let letters = u64::from_be_bytes(*b"ABCDEFGH");
        for (order, wire) in [
            (ByteOrder::Abcd, "ABCDEFGH"),
            (ByteOrder::Cdab, "GHEFCDAB"),
            (ByteOrder::Badc, "BADCFEHG"),
            (ByteOrder::Dcba, "HGFEDCBA"),
        ] {
            assert_eq!(joined(&words(wire), order), letters, "{order:?}");
        }
    }

    #[test]
    fn integers_stay_integers_unless_scaled() {
        let mut point = spec(Encoding::U16, ByteOrder::Abcd);
        assert_eq!(decode(&point, &[215]), Ok(Value::Integer(215)));
        point.scale = 0.1;
        assert_eq!(decode(&point, &[215]), Ok(Value::Float(215.0 * 0.1)));
        point.offset = -40.0;
        assert_eq!(decode(&point, &[0]), Ok(Value::Float(-40.0)));
        let wide = spec(Encoding::U64, ByteOrder::Abcd);
        assert_eq!(decode(&wide, &[u16::MAX; 4]), Ok(Value::Unsigned(u64::MAX)));
    }

    #[test]
    fn numbers_nobody_can_believe_are_no_values() {
        let mut point = spec(Encoding::F32, ByteOrder::Abcd);
        point.range = Some((0.0, 100.0));
        assert_eq!(decode(&point, &[0x7fc0, 0]), Err(NoValue::NotANumber));
        assert_eq!(decode(&point, &[0x7f80, 0]), Err(NoValue::NotANumber));
        assert_eq!(decode(&point, &[0x42ca, 0]), Err(NoValue::OutOfRange)); // 101
        assert_eq!(decode(&point, &[0x42c8, 0]), Ok(Value::Float(100.0)));
        let mut huge = spec(Encoding::F64, ByteOrder::Abcd);
        huge.scale = 1e300;
        assert_eq!(decode(&huge, &[0x7e37, 0, 0, 0]), Err(NoValue::NotANumber));
    }

    #[test]
    fn too_few_words_make_no_sense() {
        assert_eq!(decode(&spec(Encoding::F32, ByteOrder::Abcd), &[1]), Err(NoValue::Nonsense));
        assert_eq!(decode(&spec(Encoding::Auto, ByteOrder::Abcd), &[]), Err(NoValue::Nonsense));
    }

    const ENCODINGS: [Encoding; 11] = [
        Encoding::Bool,
        Encoding::U16,
        Encoding::I16,
        Encoding::U32,
        Encoding::I32,
        Encoding::U64,
        Encoding::I64,
        Encoding::F32,
        Encoding::F64,
        Encoding::Text,
        Encoding::Auto,
    ];
    const ORDERS: [ByteOrder; 4] = [ByteOrder::Abcd, ByteOrder::Cdab, ByteOrder::Badc, ByteOrder::Dcba];

    proptest! {
        #[test]
        fn whatever_the_words_no_panic_and_no_unbelievable_value(
            words in proptest::collection::vec(any::<u16>(), 0..130),
            encoding in proptest::sample::select(&ENCODINGS[..]),
            order in proptest::sample::select(&ORDERS[..]),
            scale in any::<f64>(),
            length in any::<u16>(),
            place in any::<u16>(),
            width in 0_u16..130,
            bit in proptest::option::of(0_u8..16),
        ) {
            let mut point = spec(encoding, order);
            point.scale = scale;
            point.length = length;
            point.range = Some((-1e6, 1e6));
            if let Ok(Value::Float(number)) = decode(&point, &words) {
                prop_assert!((-1e6..=1e6).contains(&number));
            }
            let planned = PlannedPoint { spec: point, place, width, bit };
            let request =
                Request { table: tally_model::ModbusTable::Holding, start: 0, count: 125, points: vec![planned] };
            let mut samples = Vec::new();
            decode_response(&request, &words, Timestamp::from_micros(1), &mut samples);
            prop_assert_eq!(samples.len(), 1);
            prop_assert_eq!(samples[0].quality == Quality::Bad, samples[0].outcome.is_err());
        }

        #[test]
        fn what_is_written_in_an_order_is_read_in_it(
            number in any::<u64>(),
            order in proptest::sample::select(&ORDERS[..]),
        ) {
            let mut bytes = number.to_be_bytes();
            match order {
                ByteOrder::Abcd => {}
                ByteOrder::Dcba => bytes.reverse(),
                ByteOrder::Badc => bytes.chunks_mut(2).for_each(<[u8]>::reverse),
                ByteOrder::Cdab => {
                    bytes.reverse();
                    bytes.chunks_mut(2).for_each(<[u8]>::reverse);
                }
            }
            let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            prop_assert_eq!(decode(&spec(Encoding::U64, order), &words), Ok(Value::from_u64(number)));
            prop_assert_eq!(decode(&spec(Encoding::I64, order), &words), Ok(Value::Integer(number.cast_signed())));
        }
    }
}
