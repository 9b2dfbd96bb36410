//! What registers could mean: every type in every order, side by side, for an engineer with a manual that does not say.

use crate::decode;
use tally_model::{Address, ByteOrder, Encoding, ModbusTable, Outcome, PointId, PointSpec, Unit};

/// Types of one width, in the order in which they are shown.
const TYPES: [(usize, &[Encoding]); 3] = [
    (1, &[Encoding::U16, Encoding::I16, Encoding::U8, Encoding::I8, Encoding::F16, Encoding::Bcd16]),
    (2, &[Encoding::U32, Encoding::I32, Encoding::F32, Encoding::Bcd32]),
    (4, &[Encoding::U64, Encoding::I64, Encoding::F64, Encoding::Bcd64]),
];

/// Registers read as one width.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// The registers read, one, two or four.
    pub registers: Vec<u16>,
    /// The types, in the order of [`Line::values`].
    pub types: Vec<Encoding>,
    /// One for each order.
    pub lines: Vec<Line>,
}

/// One order.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Which.
    pub order: ByteOrder,
    /// What each type says.
    pub values: Vec<Outcome>,
}

/// What the first one, two and four of `registers` mean as numbers, in every order that differs.
#[must_use]
pub fn readings(registers: &[u16]) -> Vec<Readings> {
    let widths = TYPES.iter().filter_map(|(width, types)| Some((registers.get(..*width)?, *types)));
    widths.map(|(registers, types)| readings_of(registers, types)).collect()
}

fn readings_of(registers: &[u16], types: &[Encoding]) -> Readings {
    let orders: &[ByteOrder] = match registers.len() {
        1 => &[ByteOrder::Abcd, ByteOrder::Badc],
        2 => &[ByteOrder::Abcd, ByteOrder::Cdab, ByteOrder::Badc, ByteOrder::Dcba],
        _ => &ByteOrder::ALL,
    };
    let line = |order: &ByteOrder| Line {
        order: *order,
        values: types.iter().map(|encoding| decode_as(*encoding, *order, 0, registers)).collect(),
    };
    Readings { registers: registers.to_vec(), types: types.to_vec(), lines: orders.iter().map(line).collect() }
}

/// What the registers say as a text, in each placement that gives one: type, order, text.
#[must_use]
pub fn texts(registers: &[u16]) -> Vec<(Encoding, ByteOrder, String)> {
    let mut found = Vec::new();
    for encoding in [Encoding::Text, Encoding::TextLow, Encoding::TextHigh] {
        for order in [ByteOrder::Abcd, ByteOrder::Badc] {
            let bytes = registers.len() * if encoding == Encoding::Text { 2 } else { 1 };
            let length = u16::try_from(bytes).unwrap_or(u16::MAX);
            if !is_placed_so(encoding, order, registers) {
                continue;
            }
            let Ok(value) = decode_as(encoding, order, length, registers) else { continue };
            let text = value.to_string();
            let is_readable = text.chars().count() > 1 && !text.chars().any(char::is_control);
            // A byte in the low half is a byte in the high half of swapped registers: one of the two is enough.
            if is_readable && !found.iter().any(|(_, _, known)| *known == text) {
                found.push((encoding, order, text));
            }
        }
    }
    found
}

/// Whether the halves that a text with one byte a register does not use are empty, as devices leave them.
fn is_placed_so(encoding: Encoding, order: ByteOrder, registers: &[u16]) -> bool {
    let unused = match (encoding, order == ByteOrder::Badc) {
        (Encoding::TextLow, false) | (Encoding::TextHigh, true) => 0xff00,
        (Encoding::TextLow | Encoding::TextHigh, _) => 0x00ff,
        _ => 0,
    };
    registers.iter().all(|register| register & unused == 0)
}

fn decode_as(encoding: Encoding, order: ByteOrder, length: u16, registers: &[u16]) -> Outcome {
    let id = PointId::try_new("probe").map_err(|_| tally_model::NoValue::Nonsense)?;
    let spec = PointSpec {
        order,
        length,
        ..PointSpec::new(
            id,
            Address::Modbus { table: ModbusTable::Holding, offset: 0, bit: None },
            encoding,
            Unit::one(),
        )
    };
    decode(&spec, registers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_model::{NoValue, Value};

    #[test]
    fn a_float_is_found_in_its_order() {
        let found = readings(&[0x999a, 0x40f9]);
        assert_eq!(found.len(), 2, "two registers have no 64 bits");
        let float = found[1].types.iter().position(|encoding| *encoding == Encoding::F32).unwrap();
        let with = |order| found[1].lines.iter().find(|line| line.order == order).unwrap().values[float].clone();
        assert_eq!(with(ByteOrder::Cdab), Ok(Value::Float(f64::from(7.8_f32))));
        assert_ne!(with(ByteOrder::Abcd), with(ByteOrder::Cdab));
        assert_eq!(readings(&[1, 2, 3, 4])[2].lines.len(), 8);
        assert_eq!(readings(&[0x00a0])[0].lines[0].values.last(), Some(&Err(NoValue::Nonsense)), "no BCD digit");
        assert!(readings(&[]).is_empty());
    }

    #[test]
    fn texts_are_found_however_they_are_placed() {
        assert_eq!(
            texts(&[0x5052, 0x4553]),
            [
                (Encoding::Text, ByteOrder::Abcd, "PRES".to_owned()),
                (Encoding::Text, ByteOrder::Badc, "RPSE".to_owned())
            ]
        );
        assert!(texts(&[0x004f, 0x004b]).contains(&(Encoding::TextLow, ByteOrder::Abcd, "OK".to_owned())));
        assert!(texts(&[0, 0]).is_empty());
    }

    proptest! {
        #[test]
        fn whatever_the_registers_no_panic(registers in proptest::collection::vec(any::<u16>(), 0..20)) {
            let _ = readings(&registers);
            let _ = texts(&registers);
        }
    }
}
