//! Between values and registers: what a PLC holds for a signal, and what it makes of words that are written to it. Numbers
//! that do not fit are cut to the nearest that does.

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

    /// Whether it is some bits of registers rather than whole ones.
    pub(crate) fn is_part(&self) -> bool {
        self.bits.is_some() || self.bit().is_some()
    }

    /// Whether all bits of its registers are its own.
    pub(super) fn owns_registers(&self) -> bool {
        let is_half = matches!(self.encoding, Encoding::U8 | Encoding::I8 | Encoding::TextLow | Encoding::TextHigh);
        !(self.is_part() || is_half)
    }

    /// The bits it occupies in each of its registers; 1 for a coil.
    pub(crate) fn masks(&self) -> Vec<u16> {
        if let Address::Modbus { table, .. } = self.address
            && table.is_bits()
        {
            return vec![1];
        }
        if let Some(bit) = self.bit() {
            return vec![in_order(1 << bit, self.order)];
        }
        match self.encoding {
            _ if self.bits.is_some() => self.split(self.field_mask()),
            Encoding::U8 | Encoding::I8 => self.split(0xff),
            Encoding::TextLow => vec![0x00ff; usize::from(self.width())],
            Encoding::TextHigh => vec![0xff00; usize::from(self.width())],
            _ => vec![u16::MAX; usize::from(self.width())],
        }
    }

    fn bit(&self) -> Option<u8> {
        match self.address {
            Address::Modbus { bit, .. } => bit,
            _ => None,
        }
    }

    /// The bits of its field, in its number.
    fn field_mask(&self) -> u64 {
        self.bits.map_or(u64::MAX, |bits| (u64::MAX >> (64 - u32::from(bits.width()).min(64))) << bits.low)
    }

    /// Whether the value differs from the raw number.
    pub(crate) const fn is_scaled(&self) -> bool {
        self.scale.to_bits() != 1.0_f64.to_bits() || !matches!(self.offset.to_bits(), 0 | 0x8000_0000_0000_0000)
    }

    /// The words it occupies, with nothing where it occupies nothing.
    pub(super) fn encoded(&self, value: &Value) -> Vec<u16> {
        if self.encoding.is_text() && self.labels.is_none() {
            return self.text(value);
        }
        let number = self.raw_number(value);
        if self.encoding == Encoding::Bool {
            let flag = u16::from(number >= 0.5);
            return vec![self.bit().map_or(flag, |bit| in_order(flag << bit, self.order))];
        }
        self.split(self.raw_bits(number, self.raw_whole(value, number)))
    }

    /// The number on the wire: the one behind the label, or raw = (value − offset) ÷ scale.
    #[allow(clippy::cast_precision_loss)] // labels are small numbers
    fn raw_number(&self, value: &Value) -> f64 {
        let labelled = match (&self.labels, value) {
            (Some(labels), Value::Text(text)) => labels.iter().find(|(_, label)| *label == text),
            _ => None,
        };
        match labelled {
            Some((number, _)) => *number as f64,
            None => (value.as_f64().unwrap_or(0.0) - self.offset) / self.scale,
        }
    }

    /// Whole numbers take the exact way, so that a 64-bit counter keeps its last digits.
    #[allow(clippy::cast_possible_truncation)] // `as` saturates
    fn raw_whole(&self, value: &Value, number: f64) -> i128 {
        match value {
            Value::Integer(whole) if !self.is_scaled() => i128::from(*whole),
            Value::Unsigned(whole) if !self.is_scaled() => i128::from(*whole),
            _ => number.round() as i128,
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped before, and cuts are the purpose
    fn raw_bits(&self, number: f64, whole: i128) -> u64 {
        let is_signed = matches!(self.encoding, Encoding::I8 | Encoding::I16 | Encoding::I32 | Encoding::I64);
        let width = self.bits.map_or(self.encoding.whole_bits().unwrap_or(64), |bits| bits.width());
        let (least, most) = match is_signed {
            true => (-(1_i128 << (width - 1)), (1_i128 << (width - 1)) - 1),
            false => (0, (1_i128 << width) - 1),
        };
        match self.encoding {
            Encoding::F16 => u64::from(half::f16::from_f64(number).to_bits()),
            Encoding::F32 => u64::from((number as f32).to_bits()),
            Encoding::F64 => number.to_bits(),
            Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 if self.bits.is_none() => {
                bcd(whole, u32::from(width) / 4)
            }
            _ => {
                let bits = whole.clamp(least, most) as u64;
                // A negative number has ones above its width; they belong to nobody here.
                let bits = bits & (u64::MAX >> (64 - u32::from(width)));
                bits << self.bits.map_or(0, |bits| bits.low)
            }
        }
    }

    /// A number as registers, in the signal's order.
    #[allow(clippy::cast_possible_truncation)] // a word is cut out on purpose
    fn split(&self, bits: u64) -> Vec<u16> {
        let places = (0..self.width()).rev();
        let mut words: Vec<u16> = places.map(|place| in_order((bits >> (16 * place)) as u16, self.order)).collect();
        order_words(&mut words, self.order);
        words
    }

    fn text(&self, value: &Value) -> Vec<u16> {
        let mut bytes = value.to_string().into_bytes();
        bytes.resize(usize::from(self.length), 0);
        let word = |high: u8, low: u8| in_order(u16::from_be_bytes([high, low]), self.order);
        match self.encoding {
            Encoding::TextLow => bytes.into_iter().map(|byte| word(0, byte)).collect(),
            Encoding::TextHigh => bytes.into_iter().map(|byte| word(byte, 0)).collect(),
            _ => {
                let pairs = bytes.chunks(2);
                pairs.map(|pair| word(pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0))).collect()
            }
        }
    }

    /// What its registers say; `None` for what it cannot be: no BCD digit, no text.
    pub(super) fn decoded(&self, words: &[u16]) -> Option<Value> {
        if self.encoding.is_text() && self.labels.is_none() {
            return self.decoded_text(words);
        }
        if self.encoding == Encoding::Bool {
            let word = words.first().copied()?;
            return Some(Value::Bool(match self.bit() {
                Some(bit) => in_order(word, self.order) >> bit & 1 == 1,
                None => word != 0,
            }));
        }
        self.decoded_number(self.joined(words))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // cuts are the purpose; scaling is in doubles
    fn decoded_number(&self, bits: u64) -> Option<Value> {
        let whole = match self.encoding {
            Encoding::F16 => return self.scaled(half::f16::from_bits(bits as u16).to_f64()),
            Encoding::F32 => return self.scaled(f64::from(f32::from_bits(bits as u32))),
            Encoding::F64 => return self.scaled(f64::from_bits(bits)),
            Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64 => i128::from(decimal(bits)?),
            _ => {
                let low = self.bits.map_or(0, |bits| bits.low);
                let width = u32::from(self.bits.map_or(self.encoding.whole_bits()?, |bits| bits.width()));
                let field = i128::from(bits >> low & (u64::MAX >> (64 - width)));
                let is_signed = matches!(self.encoding, Encoding::I8 | Encoding::I16 | Encoding::I32 | Encoding::I64);
                let is_negative = is_signed && field >> (width - 1) & 1 == 1;
                if is_negative { field - (1_i128 << width) } else { field }
            }
        };
        if let Some(labels) = &self.labels {
            let number = i64::try_from(whole).ok()?;
            return Some(labels.get(&number).map_or(Value::Integer(number), |label| Value::Text(label.clone())));
        }
        if self.is_scaled() {
            return self.scaled(whole as f64);
        }
        i64::try_from(whole).map(Value::Integer).ok().or_else(|| u64::try_from(whole).map(Value::from_u64).ok())
    }

    fn scaled(&self, number: f64) -> Option<Value> {
        let number = if self.is_scaled() { number * self.scale + self.offset } else { number };
        Some(Value::Float(number))
    }

    fn decoded_text(&self, words: &[u16]) -> Option<Value> {
        let bytes = words.iter().map(|word| in_order(*word, self.order).to_be_bytes());
        let mut bytes: Vec<u8> = match self.encoding {
            Encoding::TextLow => bytes.map(|[_, low]| low).collect(),
            Encoding::TextHigh => bytes.map(|[high, _]| high).collect(),
            _ => bytes.flatten().collect(),
        };
        bytes.truncate(usize::from(self.length));
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        String::from_utf8(bytes).ok().map(Value::Text)
    }

    fn joined(&self, words: &[u16]) -> u64 {
        let mut words = words.to_vec();
        order_words(&mut words, self.order);
        words.iter().fold(0, |bits, word| bits << 16 | u64::from(in_order(*word, self.order)))
    }
}

/// The words, most significant first, as they lie in the device. Twice is not at all, so it is the way back too.
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

/// The number of decimal digits; `None` when a nibble is none.
fn decimal(bits: u64) -> Option<u64> {
    (0..16).rev().try_fold(0_u64, |number, place| match bits >> (4 * place) & 0xf {
        digit @ 0..=9 => Some(number * 10 + digit),
        _ => None,
    })
}

fn in_order(word: u16, order: ByteOrder) -> u16 {
    if order.swaps_bytes() { word.swap_bytes() } else { word }
}
