//! From raw words to values. Pure: no socket, no clock, never panics, whatever the words are.
//!
//! Byte orders (A is the most significant byte): `CDAB` and `DCBA` reverse the words, `BADC` and `DCBA` swap the
//! bytes inside each word; that covers 16, 32 and 64 bits. The eight-letter orders are those in which a 64-bit value
//! is kept as two 32-bit halves. Texts keep their words in order and only swap bytes. An 8-bit value is the low byte of
//! its word. The published vectors are `docs/formats/modbus-vectors.csv`.

use crate::{PlannedPoint, Request};
use std::collections::BTreeMap;
use tally_model::{BitField, ByteOrder, Encoding, NoValue, Outcome, PointSpec, Quality, Sample, Timestamp, Value};

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
    Sample {
        seal: None,
        point: spec.id.clone(),
        outcome,
        unit: spec.unit.clone(),
        quality,
        source_time: now,
        received: now,
    }
}

fn decode_point(point: &PlannedPoint, words: &[u16]) -> Outcome {
    let place = usize::from(point.place);
    let words = words.get(place..place + usize::from(point.width)).ok_or(NoValue::Nonsense)?;
    match (point.bit, words) {
        (Some(bit), [word]) => Ok(Value::Bool(in_order(*word, point.spec.order) >> bit & 1 == 1)),
        _ => decode(&point.spec, words),
    }
}

/// Decodes the words of one point, which are exactly those it occupies.
///
/// # Errors
/// [`NoValue::Nonsense`] for too few or too many words, for texts that are not UTF-8 and for BCD digits above 9,
/// [`NoValue::NotANumber`] for NaN and infinities, also after scaling, [`NoValue::OutOfRange`] outside the point's
/// range and for numbers without a label where there are labels.
pub fn decode(spec: &PointSpec, words: &[u16]) -> Outcome {
    if words.len() != usize::from(spec.registers()) {
        return Err(NoValue::Nonsense);
    }
    if spec.encoding.is_text() {
        return text(spec, words);
    }
    let Some(raw) = raw(spec, words)? else { return Ok(Value::Bool(words.iter().any(|word| *word != 0))) };
    let raw = spec.options.bits.map_or(raw, |bits| raw.part(bits));
    match &spec.options.labels {
        Some(labels) => raw.label(labels),
        None => in_range(spec, scaled(spec, raw)?),
    }
}

/// A number as the device holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Raw {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Raw {
    /// The bits of a field; of a signed number the field's highest bit is the sign. Floats have no fields.
    fn part(self, bits: BitField) -> Self {
        let (unused, width) = (63_u8.saturating_sub(bits.high), bits.width());
        let (left, right) = (u32::from(unused), u32::from(64_u8.saturating_sub(width)));
        match self {
            Self::Unsigned(number) => Self::Unsigned(number.wrapping_shl(left).wrapping_shr(right)),
            Self::Signed(number) => Self::Signed(number.wrapping_shl(left).wrapping_shr(right)),
            float @ Self::Float(_) => float,
        }
    }

    fn label(self, labels: &BTreeMap<i64, String>) -> Outcome {
        let number = match self {
            Self::Unsigned(number) => i64::try_from(number).ok(),
            Self::Signed(number) => Some(number),
            Self::Float(_) => None,
        };
        let label = number.and_then(|number| labels.get(&number)).ok_or(NoValue::OutOfRange)?;
        Ok(Value::Text(label.clone()))
    }
}

/// The number in the words; `None` for a flag, which is none.
#[allow(clippy::cast_possible_truncation)] // the cut is the purpose: two words are 32 bits
fn raw(spec: &PointSpec, words: &[u16]) -> Result<Option<Raw>, NoValue> {
    let bits = joined(words, spec.order);
    Ok(Some(match spec.encoding {
        Encoding::Bool => return Ok(None),
        Encoding::U8 => Raw::Unsigned(bits & 0xff),
        Encoding::I8 => Raw::Signed(i64::from((bits as u8).cast_signed())),
        Encoding::U16 | Encoding::U32 | Encoding::U64 => Raw::Unsigned(bits),
        Encoding::I16 => Raw::Signed(i64::from((bits as u16).cast_signed())),
        Encoding::I32 => Raw::Signed(i64::from((bits as u32).cast_signed())),
        Encoding::I64 => Raw::Signed(bits.cast_signed()),
        Encoding::F16 => Raw::Float(half::f16::from_bits(bits as u16).to_f64()),
        Encoding::F32 => Raw::Float(f64::from(f32::from_bits(bits as u32))),
        Encoding::F64 => Raw::Float(f64::from_bits(bits)),
        Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 => Raw::Unsigned(decimal(bits)?),
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh | Encoding::Auto => return Err(NoValue::Nonsense),
    }))
}

/// The number whose decimal digits are the nibbles. A nibble above 9 is no digit: the register holds something else.
fn decimal(bits: u64) -> Result<u64, NoValue> {
    (0..16).rev().try_fold(0_u64, |number, place| match bits >> (4 * place) & 0xf {
        digit @ 0..=9 => Ok(number * 10 + digit),
        _ => Err(NoValue::Nonsense),
    })
}

/// The word with its bytes the right way round.
const fn in_order(word: u16, order: ByteOrder) -> u16 {
    if order.swaps_bytes() { word.swap_bytes() } else { word }
}

/// Up to four words as one number, most significant first. Orders of 64 bits leave shorter values as they are, except
/// for the bytes inside a word.
fn joined(words: &[u16], order: ByteOrder) -> u64 {
    let join = |number: u64, word: &u16| number << 16 | u64::from(in_order(*word, order));
    match (order, words) {
        (ByteOrder::Cdab | ByteOrder::Dcba, _) => words.iter().rev().fold(0, join),
        (ByteOrder::Cdabghef | ByteOrder::Dcbahgfe, [a, b, c, d]) => [b, a, d, c].into_iter().fold(0, join),
        (ByteOrder::Efghabcd | ByteOrder::Fehgbadc, [a, b, c, d]) => [c, d, a, b].into_iter().fold(0, join),
        _ => words.iter().fold(0, join),
    }
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
    let bytes = words.iter().map(|word| in_order(*word, spec.order).to_be_bytes());
    let mut bytes: Vec<u8> = match spec.encoding {
        Encoding::TextLow => bytes.map(|[_, low]| low).collect(),
        Encoding::TextHigh => bytes.map(|[high, _]| high).collect(),
        _ => bytes.flatten().collect(),
    };
    bytes.truncate(usize::from(spec.length));
    // A device that writes a shorter text over a longer one ends it with a NUL and leaves the rest.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    let text = String::from_utf8(bytes).map_err(|_| NoValue::Nonsense)?;
    Ok(Value::Text(text.trim_end_matches(' ').to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::{Address, PointId, Unit};

    pub(crate) fn spec(encoding: Encoding, order: ByteOrder) -> PointSpec {
        PointSpec {
            order,
            ..PointSpec::new(
                PointId::try_new("p").unwrap(),
                Address::parse_modbus("holding:0").unwrap(),
                encoding,
                Unit::one(),
            )
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
            (ByteOrder::Cdabghef, "CDABGHEF"),
            (ByteOrder::Dcbahgfe, "DCBAHGFE"),
            (ByteOrder::Efghabcd, "EFGHABCD"),
            (ByteOrder::Fehgbadc, "FEHGBADC"),
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
    fn fields_are_cut_out_and_signed_like_their_number() {
        let mut point = spec(Encoding::U16, ByteOrder::Abcd);
        let mut field = |encoding, low, high, words: &[u16]| {
            point.encoding = encoding;
            point.options.bits = Some(BitField { low, high });
            decode(&point, words)
        };
        assert_eq!(field(Encoding::U16, 4, 7, &[0x12a5]), Ok(Value::Integer(10)));
        assert_eq!(field(Encoding::I16, 4, 7, &[0x12a5]), Ok(Value::Integer(-6)));
        assert_eq!(field(Encoding::U32, 12, 19, &[0x0001, 0x2000]), Ok(Value::Integer(0x12)));
        assert_eq!(field(Encoding::U64, 0, 63, &[u16::MAX; 4]), Ok(Value::Unsigned(u64::MAX)));
        assert_eq!(field(Encoding::U64, 63, 63, &[0x8000, 0, 0, 0]), Ok(Value::Integer(1)));
    }

    #[test]
    fn numbers_with_names_are_texts_and_others_are_no_value() {
        let mut point = spec(Encoding::U16, ByteOrder::Abcd);
        point.options.bits = BitField::parse("0-1");
        point.options.labels = Some(BTreeMap::from([(0, "stopped".to_owned()), (2, "running".to_owned())]).into());
        assert_eq!(decode(&point, &[0xff02]), Ok(Value::Text("running".to_owned())));
        assert_eq!(decode(&point, &[0xff00]), Ok(Value::Text("stopped".to_owned())));
        assert_eq!(decode(&point, &[0xff01]), Err(NoValue::OutOfRange));
    }

    #[test]
    fn too_few_words_make_no_sense() {
        assert_eq!(decode(&spec(Encoding::F32, ByteOrder::Abcd), &[1]), Err(NoValue::Nonsense));
        assert_eq!(decode(&spec(Encoding::Auto, ByteOrder::Abcd), &[]), Err(NoValue::Nonsense));
    }

    proptest! {
        #[test]
        fn whatever_the_words_no_panic_and_no_unbelievable_value(
            words in proptest::collection::vec(any::<u16>(), 0..130),
            encoding in proptest::sample::select(&crate::fuzzing::ENCODINGS[..]),
            order in proptest::sample::select(&ByteOrder::ALL[..]),
            scale in any::<f64>(),
            length in any::<u16>(),
            place in any::<u16>(),
            width in 0_u16..130,
            bit in proptest::option::of(0_u8..16),
            field in proptest::option::of((0_u8..64, 0_u8..64)),
        ) {
            let mut point = spec(encoding, order);
            point.options.bits = field.map(|(a, b)| BitField { low: a.min(b), high: a.max(b) });
            point.scale = scale;
            point.length = length;
            point.range = Some((-1e6, 1e6));
            if let Ok(Value::Float(number)) = decode(&point, &words) {
                prop_assert!((-1e6..=1e6).contains(&number));
            }
            let planned = PlannedPoint { spec: point, place, width, bit };
            let request =
                Request { table: tally_model::ModbusTable::Holding, start: 0, count: 125, every: std::time::Duration::from_secs(1), points: vec![planned] };
            let mut samples = Vec::new();
            decode_response(&request, &words, Timestamp::from_micros(1), &mut samples);
            prop_assert_eq!(samples.len(), 1);
            prop_assert_eq!(samples[0].quality == Quality::Bad, samples[0].outcome.is_err());
        }

        #[test]
        fn what_is_written_in_an_order_is_read_in_it(
            number in any::<u64>(),
            order in proptest::sample::select(&ByteOrder::ALL[..]),
        ) {
            let place = |letter: char| number.to_be_bytes()[letter as usize - 'A' as usize];
            let letters = match order {
                ByteOrder::Abcd => "ABCDEFGH",
                ByteOrder::Cdab => "GHEFCDAB",
                ByteOrder::Badc => "BADCFEHG",
                ByteOrder::Dcba => "HGFEDCBA",
                long => long.word(),
            };
            let bytes: Vec<u8> = letters.chars().map(place).collect();
            let words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            prop_assert_eq!(decode(&spec(Encoding::U64, order), &words), Ok(Value::from_u64(number)));
            prop_assert_eq!(decode(&spec(Encoding::I64, order), &words), Ok(Value::Integer(number.cast_signed())));
        }
    }
}
