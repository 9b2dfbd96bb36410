//! Frames of a Modbus server: questions out of the bytes that arrived, answers into the bytes that leave.
//!
//! ```text
//! MBAP    transaction (2)  protocol 0 (2)  length (2)  unit (1)  PDU      Modbus Messaging on TCP/IP V1.0b §3.1.3
//! RTU                                                  unit (1)  PDU  CRC-16/MODBUS, low byte first
//! ASCII   ':'                                          unit      PDU  LRC  CR LF      two hexadecimal digits a byte
//! ```
//!
//! RTU frames do not say how long they are: it follows from the function code (Modbus Application Protocol V1.1b3 §6), and
//! for functions we do not know from the checksum. Why not the library's: `docs/decisions/014`.

use crate::fault::Wrong;
use crc::{CRC_16_MODBUS, Crc};

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Longest RTU frame (Modbus over Serial Line V1.02 §2.5.1).
const RTU_BYTES_MAX: usize = 256;

/// Longest ASCII frame (§2.5.2.1).
const ASCII_CHARACTERS_MAX: usize = 513;

/// Longest MBAP length field: unit and a PDU of 253 (Modbus Application Protocol V1.1b3 §4.1).
const MBAP_LENGTH_MAX: u16 = 254;

/// How frames look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Mbap,
    Rtu,
    Ascii,
}

/// Unit and PDU of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// 0 where frames carry none.
    pub transaction: u16,
    pub unit: u8,
    pub pdu: Vec<u8>,
}

/// What the bytes so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Question(Question),
    /// No whole frame yet.
    More,
    /// No Modbus at all: the connection must be closed, because nobody knows where the next frame begins.
    Nonsense,
}

impl Framing {
    /// Takes the first whole frame out of `bytes`; noise before it is thrown away.
    pub(super) fn take(self, bytes: &mut Vec<u8>) -> Taken {
        match self {
            Self::Mbap => take_mbap(bytes),
            Self::Rtu => take_rtu(bytes),
            Self::Ascii => take_ascii(bytes),
        }
    }

    /// Whether all units hear all frames, so that only the one that is meant may answer.
    pub(super) const fn is_bus(self) -> bool {
        !matches!(self, Self::Mbap)
    }

    /// The answer `pdu` to `question`, with one thing wrong in it if need be.
    pub(super) fn frame(self, question: &Question, pdu: &[u8], wrong: Option<Wrong>) -> Vec<u8> {
        let is = |what| wrong == Some(what);
        let mut pdu = pdu.to_vec();
        if is(Wrong::Function)
            && let Some(function) = pdu.first_mut()
        {
            // Another function that exists: 3 becomes 4, 4 becomes 3.
            *function = if *function == 4 { 3 } else { function.wrapping_add(1) };
        }
        if is(Wrong::Length) {
            lengthen(&mut pdu);
        }
        let unit = if is(Wrong::Unit) { question.unit.wrapping_add(1) } else { question.unit };
        let spoil = u8::from(is(Wrong::Checksum));
        let adu = [&[unit], pdu.as_slice()].concat();
        match self {
            Self::Mbap => {
                let transaction = question.transaction.wrapping_add(u16::from(is(Wrong::Transaction)));
                let protocol = u16::from(is(Wrong::Protocol));
                let length = u16::try_from(adu.len()).unwrap_or(u16::MAX);
                let head = [transaction, protocol, length].map(u16::to_be_bytes).concat();
                [head, adu].concat()
            }
            Self::Rtu => {
                let [low, high] = CRC.checksum(&adu).to_le_bytes();
                [adu.as_slice(), &[low ^ spoil, high]].concat()
            }
            Self::Ascii => {
                let digits = hex::encode_upper(&adu) + &hex::encode_upper([lrc(&adu) ^ spoil]);
                format!(":{digits}\r\n").into_bytes()
            }
        }
    }
}

/// One register more than was asked for; a byte more where there are none.
fn lengthen(pdu: &mut Vec<u8>) {
    match pdu.as_mut_slice() {
        [3 | 4 | 23, count, ..] => {
            *count = count.wrapping_add(2);
            pdu.extend_from_slice(&[0xde, 0xad]);
        }
        [1 | 2, count, ..] => {
            *count = count.wrapping_add(1);
            pdu.push(0xff);
        }
        _ => pdu.push(0),
    }
}

fn take_mbap(bytes: &mut Vec<u8>) -> Taken {
    let &[t1, t0, p1, p0, l1, l0, ..] = bytes.as_slice() else { return Taken::More };
    let length = u16::from_be_bytes([l1, l0]);
    if (p1, p0) != (0, 0) || !(2..=MBAP_LENGTH_MAX).contains(&length) {
        return Taken::Nonsense;
    }
    let end = 6 + usize::from(length);
    if bytes.len() < end {
        return Taken::More;
    }
    let frame: Vec<u8> = bytes.drain(..end).collect();
    question(u16::from_be_bytes([t1, t0]), frame.get(6..).unwrap_or_default())
}

/// The first whole frame, wherever it begins: what lies before is noise, or the end of a frame that we missed.
fn take_rtu(bytes: &mut Vec<u8>) -> Taken {
    for start in 0..bytes.len() {
        let rest = bytes.get(start..).unwrap_or_default();
        let Some(frame) =
            rtu_end(rest, start == 0).and_then(|end| rest.get(..end)).filter(|frame| has_right_crc(frame))
        else {
            continue;
        };
        let (frame, end) = (frame.to_vec(), start + frame.len());
        bytes.drain(..end);
        return question(0, frame.get(..frame.len() - 2).unwrap_or_default());
    }
    let too_many = bytes.len().saturating_sub(RTU_BYTES_MAX);
    bytes.drain(..too_many);
    Taken::More
}

/// Where the question that begins the bytes ends; `None` when that is not known (yet).
fn rtu_end(bytes: &[u8], any_function: bool) -> Option<usize> {
    let counted = |place: usize| bytes.get(place).map(|count| place + 1 + usize::from(*count) + 2);
    match bytes.get(1)? {
        1..=6 | 8 => Some(8),
        7 | 11 | 12 | 17 => Some(4),
        15 | 16 => counted(6),
        22 => Some(10),
        23 => counted(10),
        43 => Some(7),
        _ if any_function => {
            (4..=bytes.len().min(RTU_BYTES_MAX)).find(|end| has_right_crc(bytes.get(..*end).unwrap_or_default()))
        }
        _ => None,
    }
}

fn has_right_crc(frame: &[u8]) -> bool {
    match frame {
        [adu @ .., low, high] => CRC.checksum(adu).to_le_bytes() == [*low, *high],
        _ => false,
    }
}

fn take_ascii(bytes: &mut Vec<u8>) -> Taken {
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = bytes.drain(..=end).collect();
        // A `:` always begins a frame, also in the middle of another one.
        let start = line.iter().rposition(|byte| *byte == b':').map(|colon| colon + 1);
        let digits = start.and_then(|start| line.get(start..)).unwrap_or_default().trim_ascii_end();
        let Ok(mut adu) = hex::decode(digits) else { continue };
        let found = adu.pop();
        if found.is_some_and(|found| found == lrc(&adu))
            && let taken @ Taken::Question(_) = question(0, &adu)
        {
            return taken;
        }
    }
    if bytes.len() > ASCII_CHARACTERS_MAX {
        bytes.clear();
    }
    Taken::More
}

/// Longitudinal redundancy check: the two's complement of the sum of all bytes (Modbus over Serial Line V1.02 §6.2.1).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

fn question(transaction: u16, adu: &[u8]) -> Taken {
    match adu {
        [unit, pdu @ ..] if !pdu.is_empty() => {
            Taken::Question(Question { transaction, unit: *unit, pdu: pdu.to_vec() })
        }
        _ => Taken::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Framing; 3] = [Framing::Mbap, Framing::Rtu, Framing::Ascii];

    fn read(unit: u8) -> Question {
        Question { transaction: 0, unit, pdu: vec![3, 0, 1, 0, 2] }
    }

    #[test]
    fn frames_are_those_of_the_standards() {
        let frame = |framing: Framing| framing.frame(&read(17), &[3, 0, 0x6b, 0, 3], None);
        assert_eq!(frame(Framing::Mbap), [0, 0, 0, 0, 0, 6, 17, 3, 0, 0x6b, 0, 3]);
        assert_eq!(frame(Framing::Rtu), [17, 3, 0, 0x6b, 0, 3, 0x76, 0x87]);
        assert_eq!(frame(Framing::Ascii), b":1103006B00037E\r\n");
    }

    #[test]
    fn questions_come_in_pieces_and_after_noise() {
        for framing in ALL {
            let frame = framing.frame(&read(9), &read(9).pdu, None);
            let mut bytes = Vec::new();
            for byte in &frame[..frame.len() - 1] {
                bytes.push(*byte);
                assert_eq!(framing.take(&mut bytes), Taken::More, "{framing:?}");
            }
            bytes.push(frame[frame.len() - 1]);
            bytes.extend_from_slice(&frame);
            for _ in 0..2 {
                assert_eq!(framing.take(&mut bytes), Taken::Question(read(9)), "{framing:?}");
            }
            assert!(bytes.is_empty());
        }
        let mut noisy = [vec![0xff, 3, 7], Framing::Rtu.frame(&read(9), &read(9).pdu, None)].concat();
        assert_eq!(Framing::Rtu.take(&mut noisy), Taken::Question(read(9)));
        let mut noisy = [b"xx:1103".to_vec(), Framing::Ascii.frame(&read(9), &read(9).pdu, None)].concat();
        assert_eq!(Framing::Ascii.take(&mut noisy), Taken::Question(read(9)));
        assert_eq!(Framing::Mbap.take(&mut b"GET / HTTP/1.1\r\n".to_vec()), Taken::Nonsense);
    }

    #[test]
    fn every_function_has_its_length_in_rtu() {
        for pdu in [
            vec![5, 0, 1, 0xff, 0],
            vec![15, 0, 0, 0, 9, 2, 0xff, 1],
            vec![16, 0, 0, 0, 1, 2, 0, 7],
            vec![22, 0, 4, 0, 0xf2, 0, 0x25],
            vec![23, 0, 3, 0, 6, 0, 14, 0, 1, 2, 0, 0xff],
            vec![43, 14, 1, 0],
            vec![17],
            vec![100, 1, 2, 3],
        ] {
            let question = Question { transaction: 0, unit: 1, pdu };
            let mut bytes = Framing::Rtu.frame(&question, &question.pdu, None);
            assert_eq!(Framing::Rtu.take(&mut bytes), Taken::Question(question));
            assert!(bytes.is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_arrives_nothing_panics_and_the_buffer_stays_small(
            bytes in proptest::collection::vec(any::<u8>(), 0..1_200),
            framing in proptest::sample::select(&ALL[..]),
        ) {
            let mut buffer = bytes.clone();
            for _ in 0..1_300 {
                if !matches!(framing.take(&mut buffer), Taken::Question(_)) {
                    break;
                }
            }
            if framing.is_bus() {
                prop_assert!(buffer.len() <= ASCII_CHARACTERS_MAX, "{}", buffer.len());
            }
        }

        #[test]
        fn what_is_framed_is_taken(
            unit in any::<u8>(),
            address in any::<u16>(),
            words in proptest::collection::vec(any::<u16>(), 1..100),
            framing in proptest::sample::select(&ALL[..]),
        ) {
            let count = u16::try_from(words.len()).unwrap();
            let head = [&[16], &address.to_be_bytes()[..], &count.to_be_bytes(), &[u8::try_from(2 * count).unwrap()]].concat();
            let pdu = [head, words.iter().flat_map(|word| word.to_be_bytes()).collect()].concat();
            let question = Question { transaction: 0, unit, pdu };
            let mut bytes = framing.frame(&question, &question.pdu, None);
            prop_assert_eq!(framing.take(&mut bytes), Taken::Question(question));
        }
    }
}
