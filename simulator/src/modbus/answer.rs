//! What a simulated device answers: PDU in, PDU out (Modbus Application Protocol V1.1b3 §6).
//!
//! Function codes 1 to 6, 15, 16, 22, 23 and 43/14; everything else gets exception 01. Registers and bits between the signals
//! of a table read as zero, outside them exception 02 answers, as on most PLCs. A signal of bad quality answers
//! exception 04, because Modbus has no other word for it. What is written holds its signal, as the command `set` does, until
//! it is released; words that are no value of their signal (a nibble above 9 in a BCD number) get exception 03, and
//! words written between the signals are lost.

use crate::{Identities, Identity, PlantState, SignalConfig};
use tally_model::{Address, DeviceId, ModbusTable, Quality, Value};
use tokio_modbus::bytes::Bytes;
use tokio_modbus::prelude::{ExceptionCode, ReadCode, Request};

/// Most registers and bits a request may ask for or carry (§6.1, §6.3, §6.11, §6.12, §6.17).
const READ_REGISTERS_MAX: u16 = 125;
const READ_BITS_MAX: u16 = 2_000;
const WRITE_REGISTERS_MAX: u16 = 123;
const WRITE_BITS_MAX: u16 = 1_968;
const READ_WRITE_REGISTERS_MAX: u16 = 121;

/// MEI type of device identification (§6.21).
const MEI_IDENTIFICATION: u8 = 14;

/// Regular identification, as a stream and object by object (§6.21).
const CONFORMITY: u8 = 0x82;

/// One unit of a line.
pub(crate) struct Unit {
    pub(super) device: DeviceId,
    identity: Identities,
    /// Whole registers before parts of them: parts win.
    signals: Vec<SignalConfig>,
}

type Answer = Result<Vec<u8>, ExceptionCode>;

impl Unit {
    pub(crate) fn new(device: DeviceId, mut signals: Vec<SignalConfig>, identity: Identities) -> Self {
        signals.sort_by_key(SignalConfig::is_part);
        Self { device, identity, signals }
    }

    /// The PDU of the answer, an exception's too.
    pub(super) fn answer(&self, pdu: &[u8], state: &PlantState) -> Vec<u8> {
        let function = pdu.first().copied().unwrap_or(0);
        match self.carry_out(pdu, state) {
            Ok(answer) => answer,
            Err(code) => exception(function, code.into()),
        }
    }

    fn carry_out(&self, pdu: &[u8], state: &PlantState) -> Answer {
        checked_counts(pdu)?;
        let request = Request::try_from(Bytes::copy_from_slice(pdu)).map_err(|_| ExceptionCode::IllegalDataValue)?;
        let function = request.function_code().value();
        match request {
            Request::ReadCoils(start, count) => Ok(bits(function, &self.read(state, ModbusTable::Coil, start, count)?)),
            Request::ReadDiscreteInputs(start, count) => {
                Ok(bits(function, &self.read(state, ModbusTable::Discrete, start, count)?))
            }
            Request::ReadInputRegisters(start, count) => {
                Ok(registers(function, &self.read(state, ModbusTable::Input, start, count)?))
            }
            Request::ReadHoldingRegisters(start, count) => {
                Ok(registers(function, &self.read(state, ModbusTable::Holding, start, count)?))
            }
            Request::MaskWriteRegister(to, and, or) => {
                let now = self.read(state, ModbusTable::Holding, to, 1)?.first().copied().unwrap_or(0);
                self.write(state, ModbusTable::Holding, to, &[(now & and) | (or & !and)])?;
                Ok(pdu.to_vec())
            }
            Request::ReadWriteMultipleRegisters(from, count, to, words) => {
                self.write(state, ModbusTable::Holding, to, &words)?;
                Ok(registers(function, &self.read(state, ModbusTable::Holding, from, count)?))
            }
            Request::ReadDeviceIdentification(code, object) => {
                let is_exchanged = state.trouble(self.device.as_str()).is_exchanged;
                let identity = if is_exchanged { &self.identity.spare } else { &self.identity.own };
                identification(identity, function, code, object)
            }
            write => {
                self.carry_out_write(write, state)?;
                // The first four bytes behind the function code, echoed.
                pdu.get(..5).map(<[u8]>::to_vec).ok_or(ExceptionCode::IllegalDataValue)
            }
        }
    }

    fn carry_out_write(&self, request: Request<'_>, state: &PlantState) -> Result<(), ExceptionCode> {
        match request {
            Request::WriteSingleCoil(to, on) => self.write(state, ModbusTable::Coil, to, &[u16::from(on)]),
            Request::WriteSingleRegister(to, word) => self.write(state, ModbusTable::Holding, to, &[word]),
            Request::WriteMultipleCoils(to, coils) => {
                let words: Vec<u16> = coils.iter().map(|coil| u16::from(*coil)).collect();
                self.write(state, ModbusTable::Coil, to, &words)
            }
            Request::WriteMultipleRegisters(to, words) => self.write(state, ModbusTable::Holding, to, &words),
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    /// The words from `start`; a bit is a word of 0 or 1.
    fn read(&self, state: &PlantState, table: ModbusTable, start: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        if count == 0 || count > if table.is_bits() { READ_BITS_MAX } else { READ_REGISTERS_MAX } {
            return Err(ExceptionCode::IllegalDataValue);
        }
        let touched = self.touched(table, start, count)?;
        let views = state.views(self.device.as_str(), touched.iter().map(|signal| signal.id.as_str()));
        let mut words = vec![0; usize::from(count)];
        for (signal, view) in touched.into_iter().zip(views) {
            let view = view.filter(|view| view.quality != Quality::Bad).ok_or(ExceptionCode::ServerDeviceFailure)?;
            put(&mut words, start, signal, &signal.encoded(&view.value));
        }
        Ok(words)
    }

    /// The signals with a register in the range. The range must lie within the table: from its first signal to its last.
    fn touched(&self, table: ModbusTable, start: u16, count: u16) -> Result<Vec<&SignalConfig>, ExceptionCode> {
        let asked = u32::from(start)..u32::from(start) + u32::from(count);
        let (mut lowest, mut end) = (u32::MAX, 0);
        let mut touched = Vec::new();
        for signal in &self.signals {
            let Address::Modbus { table: of_signal, offset, .. } = signal.address else { continue };
            if of_signal != table {
                continue;
            }
            let place = u32::from(offset)..u32::from(offset) + u32::from(signal.width());
            (lowest, end) = (lowest.min(place.start), end.max(place.end));
            if place.start < asked.end && asked.start < place.end {
                touched.push(signal);
            }
        }
        if asked.start < lowest || asked.end > end {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        Ok(touched)
    }

    /// Nothing is written when anything cannot be.
    fn write(&self, state: &PlantState, table: ModbusTable, start: u16, words: &[u16]) -> Result<(), ExceptionCode> {
        let count = u16::try_from(words.len()).map_err(|_| ExceptionCode::IllegalDataValue)?;
        let touched = self.touched(table, start, count)?;
        let views = state.views(self.device.as_str(), touched.iter().map(|signal| signal.id.as_str()));
        let mut changed: Vec<(&SignalConfig, Value)> = Vec::new();
        for (signal, view) in touched.into_iter().zip(views) {
            let Address::Modbus { offset, .. } = signal.address else { continue };
            let view = view.ok_or(ExceptionCode::ServerDeviceFailure)?;
            let mut image = signal.encoded(&view.value);
            for (address, word) in (u32::from(start)..).zip(words) {
                let place = address.checked_sub(u32::from(offset)).and_then(|place| usize::try_from(place).ok());
                if let Some(cell) = place.and_then(|place| image.get_mut(place)) {
                    *cell = *word;
                }
            }
            let value = signal.decoded(&image).ok_or(ExceptionCode::IllegalDataValue)?;
            changed.push((signal, value));
        }
        for (signal, value) in changed {
            state.set(self.device.as_str(), signal.id.as_str(), value);
        }
        Ok(())
    }
}

fn identification(identity: &Identity, function: u8, code: ReadCode, object: u8) -> Answer {
    let all = identity.objects();
    let chosen: Vec<(u8, &str)> = match code {
        ReadCode::Basic => all.into_iter().filter(|(id, _)| *id <= 2 && *id >= object).collect(),
        ReadCode::Regular | ReadCode::Extended => all.into_iter().filter(|(id, _)| *id >= object).collect(),
        ReadCode::Specific => all.into_iter().filter(|(id, _)| *id == object).collect(),
    };
    if chosen.is_empty() {
        return Err(ExceptionCode::IllegalDataAddress);
    }
    let count = u8::try_from(chosen.len()).unwrap_or(u8::MAX);
    // More follows: no; next object: 0.
    let mut pdu = vec![function, MEI_IDENTIFICATION, code.value(), CONFORMITY, 0, 0, count];
    for (id, text) in chosen {
        // At most `TEXT_BYTES_MAX` bytes.
        pdu.extend_from_slice(&[id, u8::try_from(text.len()).unwrap_or(u8::MAX)]);
        pdu.extend_from_slice(text.as_bytes());
    }
    Ok(pdu)
}

/// The PDU of an exception (§7).
pub(super) fn exception(function: u8, code: u8) -> Vec<u8> {
    vec![function | 0x80, code]
}

/// Counts of writes against the bytes that come: the library's decoder panics at some that do not fit.
fn checked_counts(pdu: &[u8]) -> Result<(), ExceptionCode> {
    let (count, most, bytes_each_8, bytes) = match *pdu {
        [15, _, _, high, low, bytes, ..] => (u16::from_be_bytes([high, low]), WRITE_BITS_MAX, 1, bytes),
        [16, _, _, high, low, bytes, ..] => (u16::from_be_bytes([high, low]), WRITE_REGISTERS_MAX, 16, bytes),
        [23, _, _, _, _, _, _, high, low, bytes, ..] => {
            (u16::from_be_bytes([high, low]), READ_WRITE_REGISTERS_MAX, 16, bytes)
        }
        [15 | 16 | 23, ..] => return Err(ExceptionCode::IllegalDataValue),
        [0 | 0x80.., ..] | [] => return Err(ExceptionCode::IllegalFunction),
        _ => return Ok(()),
    };
    let is_right = (1..=most).contains(&count) && (count * bytes_each_8).div_ceil(8) == u16::from(bytes);
    if is_right { Ok(()) } else { Err(ExceptionCode::IllegalDataValue) }
}

/// Puts the signal's bits where they belong in words that start at address `start`; what lies outside is cut.
fn put(words: &mut [u16], start: u16, signal: &SignalConfig, encoded: &[u16]) {
    let Address::Modbus { offset, .. } = signal.address else { return };
    // Most signals own their registers: tens of thousands of these are read ten times a second.
    let masks = if signal.owns_registers() { Vec::new() } else { signal.masks() };
    for (place_in_signal, word) in encoded.iter().enumerate() {
        let mask = masks.get(place_in_signal).copied().unwrap_or(u16::MAX);
        let place = (usize::from(offset) + place_in_signal).checked_sub(usize::from(start));
        if let Some(cell) = place.and_then(|place| words.get_mut(place)) {
            *cell = (*cell & !mask) | (word & mask);
        }
    }
}

/// Bytes of the coils, the first in the lowest bit (§6.1).
fn bits(function: u8, words: &[u16]) -> Vec<u8> {
    let bytes = words
        .chunks(8)
        .map(|eight| eight.iter().enumerate().fold(0_u8, |byte, (place, bit)| byte | u8::from(*bit != 0) << place));
    counted(function, bytes.collect())
}

fn registers(function: u8, words: &[u16]) -> Vec<u8> {
    counted(function, words.iter().flat_map(|word| word.to_be_bytes()).collect())
}

fn counted(function: u8, bytes: Vec<u8>) -> Vec<u8> {
    // At most 250 bytes: the limits of the questions see to it.
    [vec![function, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use proptest::prelude::*;
    use std::path::Path;

    const PRESS: &str = r#"
devices:
  - id: press
    serve: "modbus+tcp://127.0.0.1:0"
    signals:
      - {id: word, at: holding:10, type: u16, from: {constant: 0}}
      - {id: ready, at: holding:10.0, from: {constant: true}}
      - {id: mode, at: holding:10, type: u16, bits: 4-6, labels: {0: idle, 5: run}, from: {constant: run}}
      - {id: level, at: holding:11, type: f32, order: CDAB, scale: 0.5, offset: 1, from: {constant: 3}}
      - {id: count, at: holding:13, type: bcd32, order: BADC, from: {constant: 12345678}}
      - {id: name, at: holding:15, type: text-high, length: 3, from: {constant: abc}}
      - {id: low, at: holding:18, type: u8, from: {constant: 7}}
      - {id: high, at: holding:18, type: i8, order: BADC, from: {constant: -2}}
      - {id: limit, at: holding:20, type: i16, from: {constant: -5}}
      - {id: on, at: coil:3, from: {constant: true}}
      - {id: off, at: coil:4, from: {constant: false}}
"#;

    fn press() -> (Unit, PlantState) {
        let device = SimConfig::parse(PRESS, Path::new("t.yaml"), &|_| None).unwrap().devices.remove(0);
        let state = PlantState::default();
        for signal in &device.signals {
            let crate::config::Source::Constant(value) = &signal.source else { panic!() };
            state.drive("press", signal.id.as_str(), value.clone());
        }
        (Unit::new(device.id, device.signals, device.identity), state)
    }

    #[test]
    fn registers_hold_what_signals_say_and_parts_win() {
        let (press, state) = press();
        let answer = press.answer(&[3, 0, 10, 0, 11], &state);
        // 12345678 in BCD, its bytes swapped; 3 = 4 × 0.5 + 1, low word first.
        let words = [0x0051, 0x0000, 0x4080, 0x3412, 0x7856, 0x6100, 0x6200, 0x6300, 0xfe07, 0, 0xfffb_u16];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!(answer, [vec![3, 22], bytes].concat());
        assert_eq!(press.answer(&[1, 0, 3, 0, 2], &state), [1, 1, 1]);
        for outside in [[3, 0, 9, 0, 1], [3, 0, 20, 0, 2], [4, 0, 10, 0, 1], [1, 0, 5, 0, 1]] {
            assert_eq!(press.answer(&outside, &state), [outside[0] | 0x80, 2]);
        }
        assert_eq!(press.answer(&[3, 0, 10, 0, 126], &state), [0x83, 3]);
        assert_eq!(press.answer(&[7], &state), [0x87, 1]);
        assert!(state.set_quality("press", "low", Quality::Bad));
        assert_eq!(press.answer(&[3, 0, 18, 0, 1], &state), [0x83, 4]);
        assert_eq!(press.answer(&[3, 0, 20, 0, 1], &state), [3, 2, 0xff, 0xfb]);
    }

    #[test]
    fn what_is_written_holds_its_signal() {
        let (press, state) = press();
        let get = |name: &str| state.get("press", name).unwrap();
        assert_eq!(press.answer(&[6, 0, 20, 0, 9], &state), [6, 0, 20, 0, 9]);
        assert_eq!(get("limit"), Value::Integer(9));
        state.drive("press", "limit", Value::Integer(1));
        assert_eq!(get("limit"), Value::Integer(9), "held");
        assert_eq!(press.answer(&[16, 0, 11, 0, 2, 4, 0, 0, 0x41, 0x20], &state), [16, 0, 11, 0, 2]);
        assert_eq!(get("level"), Value::Float(6.0));
        // Half a value: the other half stays.
        assert_eq!(press.answer(&[6, 0, 12, 0x40, 0x80], &state), [6, 0, 12, 0x40, 0x80]);
        assert_eq!(get("level"), Value::Float(3.0));
        assert_eq!(press.answer(&[22, 0, 10, 0, 0x0f, 0, 0], &state), [22, 0, 10, 0, 0x0f, 0, 0]);
        assert_eq!((get("mode"), get("ready")), (Value::Text("idle".into()), Value::Bool(true)));
        assert_eq!(press.answer(&[5, 0, 4, 0xff, 0], &state), [5, 0, 4, 0xff, 0]);
        assert_eq!(press.answer(&[15, 0, 3, 0, 2, 1, 0b10], &state), [15, 0, 3, 0, 2]);
        assert_eq!((get("on"), get("off")), (Value::Bool(false), Value::Bool(true)));
        let both = press.answer(&[23, 0, 20, 0, 1, 0, 20, 0, 1, 2, 0, 44], &state);
        assert_eq!(both, [23, 2, 0, 44], "written first, then read");
        assert_eq!(press.answer(&[16, 0, 13, 0, 2, 4, 0, 0x0a, 0, 0], &state), [0x90, 3], "no decimal digit");
        assert_eq!(get("count"), Value::Integer(12_345_678));
    }

    #[test]
    fn it_says_what_it_is() {
        let (press, state) = press();
        let answer = press.answer(&[43, 14, 1, 0], &state);
        assert_eq!(answer[..9], [43, 14, 1, 0x82, 0, 0, 3, 0, 10]);
        assert_eq!(press.answer(&[43, 14, 4, 4], &state)[7..], [4, 5, b'p', b'r', b'e', b's', b's']);
        assert_eq!(press.answer(&[43, 14, 4, 99], &state), [0xab, 2]);
        assert_eq!(press.answer(&[43, 13, 0, 0], &state), [0xab, 3]);
    }

    /// Why counts are checked before the library sees them. If this ever fails, the library has learnt it.
    #[test]
    fn the_library_alone_panics_at_counts_that_do_not_fit() {
        // 8 coils announced beside no byte of them; 32,768 registers, whose bytes overflow 16 bits.
        for pdu in [vec![15, 0, 0, 0, 8, 0], vec![16, 0, 0, 0x80, 0, 0]] {
            let asked = Bytes::from(pdu.clone());
            assert!(std::panic::catch_unwind(|| Request::try_from(asked)).is_err(), "{pdu:?}");
            let (press, state) = press();
            assert_eq!(press.answer(&pdu, &state), [pdu[0] | 0x80, 3]);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_asked_there_is_an_answer(
            function in proptest::sample::select(&[1_u8, 3, 5, 6, 15, 16, 22, 23, 43, 8, 100, 200][..]),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (press, state) = press();
            let answer = press.answer(&[vec![function], rest].concat(), &state);
            prop_assert!(answer[0] & 0x7f == function & 0x7f && answer.len() <= 253);
        }

        #[test]
        fn what_is_written_is_what_the_signal_says(words in proptest::collection::vec(any::<u16>(), 2)) {
            let (press, state) = press();
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let written = press.answer(&[vec![16, 0, 11, 0, 2, 4], bytes.clone()].concat(), &state);
            prop_assert_eq!(written[0], 16);
            let read = press.answer(&[3, 0, 11, 0, 2], &state);
            let float = f32::from_bits(u32::from(words[1]) << 16 | u32::from(words[0]));
            if float.is_finite() && float.is_normal() && float.abs() < 1e30 {
                let back = f32::from_bits(u32::from(u16::from_be_bytes([read[4], read[5]])) << 16 | u32::from(u16::from_be_bytes([read[2], read[3]])));
                prop_assert!(((back - float) / float).abs() < 1e-5 || (back - float).abs() < 1e-6, "{} {}", back, float);
            }
        }
    }
}
