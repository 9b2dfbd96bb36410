//! From values to registers: what a PLC holds for a signal. Numbers that do not fit are cut to the nearest that does.

use crate::SignalConfig;
use tally_model::{Address, ByteOrder, Encoding, Value};

impl SignalConfig {
    /// Registers or bits the signal occupies.
    pub(crate) fn width(&self) -> u16 {
        match self.encoding {
            Encoding::Text => self.length.div_ceil(2),
            Encoding::TextLow | Encoding::TextHigh => self.length,
            Encoding::F64 => 4,
            Encoding::F32 => 2,
            encoding => u16::from(encoding.whole_bits().unwrap_or(16).div_ceil(16)),
        }
    }
}

/// Puts the signal's words where they belong in the answer that starts at address `start`; what lies outside is cut.
pub(super) fn write_signal(signal: &SignalConfig, value: &Value, start: u16, words: &mut [u16]) {
    let Address::Modbus { offset, bit, .. } = signal.address else { return };
    for (address, word) in (u32::from(offset)..).zip(encoded(signal, value, bit)) {
        let place = address.checked_sub(u32::from(start)).and_then(|place| usize::try_from(place).ok());
        if let Some(cell) = place.and_then(|place| words.get_mut(place)) {
            // Flags share their register; everything else has it alone.
            *cell = if bit.is_some() { *cell | word } else { word };
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates on floats, and cuts are the purpose
fn encoded(signal: &SignalConfig, value: &Value, bit: Option<u8>) -> Vec<u16> {
    let number = (value.as_f64().unwrap_or(0.0) - signal.offset) / signal.scale;
    let is_plain = signal.offset.abs() <= 0.0 && (signal.scale - 1.0).abs() <= 0.0;
    // Whole numbers take the exact way, so that a 64-bit counter keeps its last digits.
    let whole = match value {
        Value::Integer(whole) if is_plain => i128::from(*whole),
        Value::Unsigned(whole) if is_plain => i128::from(*whole),
        _ => number.round() as i128,
    };
    let bits = match signal.encoding {
        Encoding::Bool => return vec![in_order(u16::from(number >= 0.5) << bit.unwrap_or(0), signal.order)],
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh => return text(signal, value),
        Encoding::U8 => whole.clamp(0, i128::from(u8::MAX)) as u64,
        Encoding::I8 => u64::from((whole.clamp(i128::from(i8::MIN), i128::from(i8::MAX)) as i8).cast_unsigned()),
        Encoding::Bcd16 => bcd(whole, 4),
        Encoding::Bcd32 => bcd(whole, 8),
        Encoding::Bcd64 => bcd(whole, 16),
        Encoding::F16 => u64::from(half::f16::from_f64(number).to_bits()),
        Encoding::U16 => whole.clamp(0, i128::from(u16::MAX)) as u64,
        Encoding::U32 => whole.clamp(0, i128::from(u32::MAX)) as u64,
        Encoding::U64 => whole.clamp(0, i128::from(u64::MAX)) as u64,
        Encoding::I16 => whole.clamp(i128::from(i16::MIN), i128::from(i16::MAX)) as u64,
        Encoding::I32 => whole.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as u64,
        Encoding::I64 | Encoding::Auto => whole.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as u64,
        Encoding::F32 => u64::from((number as f32).to_bits()),
        Encoding::F64 => number.to_bits(),
    };
    let mut words: Vec<u16> =
        (0..signal.width()).rev().map(|place| in_order((bits >> (16 * place)) as u16, signal.order)).collect();
    order_words(&mut words, signal.order);
    words
}

/// The words, most significant first, as they lie in the device.
fn order_words(words: &mut [u16], order: ByteOrder) {
    match order {
        ByteOrder::Abcd | ByteOrder::Badc => {}
        ByteOrder::Cdab | ByteOrder::Dcba => words.reverse(),
        ByteOrder::Cdabghef | ByteOrder::Dcbahgfe => words.chunks_mut(2).for_each(<[u16]>::reverse),
        ByteOrder::Efghabcd | ByteOrder::Fehgbadc => words.rotate_left(words.len() / 2),
    }
}

/// Decimal digits, one a nibble.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to what fits
fn bcd(whole: i128, digits: u32) -> u64 {
    let mut left = whole.clamp(0, 10_i128.pow(digits) - 1) as u64;
    let mut bits = 0;
    for digit in 0..digits {
        bits |= (left % 10) << (4 * digit);
        left /= 10;
    }
    bits
}

fn text(signal: &SignalConfig, value: &Value) -> Vec<u16> {
    let mut bytes = value.to_string().into_bytes();
    bytes.resize(usize::from(signal.length), 0);
    match signal.encoding {
        Encoding::TextLow => return bytes.into_iter().map(u16::from).collect(),
        Encoding::TextHigh => return bytes.into_iter().map(|byte| u16::from(byte) << 8).collect(),
        _ => {}
    }
    let pairs = bytes.chunks(2);
    pairs
        .map(|pair| {
            let word = u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]);
            in_order(word, signal.order)
        })
        .collect()
}

fn in_order(word: u16, order: ByteOrder) -> u16 {
    if order.swaps_bytes() { word.swap_bytes() } else { word }
}
