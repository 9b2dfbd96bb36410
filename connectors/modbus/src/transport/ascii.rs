//! Modbus ASCII (Modbus over Serial Line V1.02 §2.5.2) as a translation: above are RTU frames, below are ASCII frames.
//!
//! ```text
//! ASCII   ':'  unit  PDU  LRC  CR LF      each byte as two hexadecimal digits, most significant first
//! RTU          unit  PDU  CRC             CRC-16/MODBUS, low byte first
//! ```
//!
//! A `:` always begins a frame, also in the middle of another one. Longest frame: 513 characters (§2.5.2.1).

use crc::{CRC_16_MODBUS, Crc};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const RTU_CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// `:`, 2 × 255 digits for unit, PDU and LRC, CR LF.
const FRAME_CHARACTERS_MAX: usize = 513;

/// Why characters are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AsciiFault {
    #[error("an ASCII frame of more than {FRAME_CHARACTERS_MAX} characters")]
    TooLong,
    #[error("an ASCII frame with something else than hexadecimal digits")]
    Digits,
    #[error("an ASCII frame without unit, function and checksum")]
    TooShort,
    #[error("an ASCII frame with checksum {found:#04x} instead of {expected:#04x}")]
    Checksum { found: u8, expected: u8 },
}

/// The ASCII frame of unit and PDU.
pub(super) fn encoded(adu: &[u8]) -> Vec<u8> {
    let mut digits = hex::encode_upper(adu);
    digits.push_str(&hex::encode_upper([lrc(adu)]));
    format!(":{digits}\r\n").into_bytes()
}

/// Takes the first whole frame out of `characters` and gives unit and PDU; `None` when there is no whole one yet. What
/// lies before a frame is noise and goes.
pub(super) fn take_frame(characters: &mut Vec<u8>) -> Option<Result<Vec<u8>, AsciiFault>> {
    let Some(end) = characters.iter().position(|character| *character == b'\n') else {
        // Only what can still become a frame is kept.
        match characters.iter().rposition(|character| *character == b':') {
            Some(start) => drop(characters.drain(..start)),
            None => characters.clear(),
        }
        if characters.len() >= FRAME_CHARACTERS_MAX {
            characters.clear();
            return Some(Err(AsciiFault::TooLong));
        }
        return None;
    };
    let line: Vec<u8> = characters.drain(..=end).collect();
    let Some(start) = line.iter().rposition(|character| *character == b':') else {
        return take_frame(characters);
    };
    Some(decoded(line.get(start..).unwrap_or_default()))
}

/// Unit and PDU of one frame, from `:` to LF.
fn decoded(frame: &[u8]) -> Result<Vec<u8>, AsciiFault> {
    if frame.len() > FRAME_CHARACTERS_MAX {
        return Err(AsciiFault::TooLong);
    }
    let digits = frame.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\n")).unwrap_or_default();
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    let mut adu = hex::decode(digits).map_err(|_| AsciiFault::Digits)?;
    let found = adu.pop().ok_or(AsciiFault::TooShort)?;
    if adu.len() < 2 {
        return Err(AsciiFault::TooShort);
    }
    let expected = lrc(&adu);
    if found != expected {
        return Err(AsciiFault::Checksum { found, expected });
    }
    Ok(adu)
}

/// Longitudinal redundancy check: the two's complement of the sum of all bytes (§6.2.1).
fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// The translation on a stream.
pub(super) struct Ascii<S> {
    stream: S,
    /// Characters read and not yet a frame.
    characters: Vec<u8>,
    /// Translated answers not yet fetched.
    answers: Vec<u8>,
    /// Translated questions not yet on the line.
    questions: Vec<u8>,
}

impl<S> Ascii<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, characters: Vec::new(), answers: Vec::new(), questions: Vec::new() }
    }

    /// Hands out translated bytes, as many as fit.
    fn hand_out(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.answers.len().min(buffer.remaining());
        let out: Vec<u8> = self.answers.drain(..count).collect();
        buffer.put_slice(&out);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ascii<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match take_frame(&mut this.characters) {
                Some(Ok(adu)) => {
                    this.answers.extend_from_slice(&adu);
                    this.answers.extend_from_slice(&RTU_CRC.checksum(&adu).to_le_bytes());
                }
                Some(Err(fault)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault))),
                None => {}
            }
            if !this.answers.is_empty() {
                this.hand_out(buffer);
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 512];
            let mut fresh = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut fresh))?;
            if fresh.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.characters.extend_from_slice(fresh.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ascii<S> {
    /// Takes one whole RTU frame: the library writes each question at once.
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        let adu = frame.len().checked_sub(2).and_then(|end| frame.get(..end)).unwrap_or_default();
        self.questions.extend_from_slice(&encoded(adu));
        Poll::Ready(Ok(frame.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.questions.is_empty() {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &this.questions))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(this.questions.drain(..written)),
            }
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(mut characters: Vec<u8>) -> Vec<Result<Vec<u8>, AsciiFault>> {
        std::iter::from_fn(|| take_frame(&mut characters)).collect()
    }

    #[test]
    fn the_frame_is_that_of_the_standard() {
        // Read holding registers 0x006B…0x006D of unit 17, a frame found in many manuals.
        let adu = [0x11, 0x03, 0x00, 0x6b, 0x00, 0x03];
        assert_eq!(encoded(&adu), b":1103006B00037E\r\n");
        assert_eq!(frames(b":1103006B00037E\r\n".to_vec()), [Ok(adu.to_vec())]);
        assert_eq!(
            frames(b":1103006b00037e\n".to_vec()),
            [Ok(adu.to_vec())],
            "lower case and a lone LF are understood"
        );
    }

    #[test]
    fn noise_broken_frames_and_wrong_checksums() {
        assert_eq!(frames(b"\xff\x00:11\xff:1103006B00037E\r\n".to_vec()).len(), 1, "a colon begins anew");
        assert_eq!(frames(b"noise\r\n:1103006B00037E\r\n".to_vec()).len(), 1);
        let checksum = AsciiFault::Checksum { found: 0x7f, expected: 0x7e };
        assert_eq!(frames(b":1103006B00037F\r\n".to_vec()), [Err(checksum)]);
        assert_eq!(frames(b":110G\r\n".to_vec()), [Err(AsciiFault::Digits)]);
        assert_eq!(frames(b":110\r\n".to_vec()), [Err(AsciiFault::Digits)]);
        assert_eq!(frames(b":11EF\r\n".to_vec()), [Err(AsciiFault::TooShort)]);
        assert_eq!(frames(b":\r\n".to_vec()), [Err(AsciiFault::TooShort)]);
        let mut endless = vec![b':'];
        endless.resize(600, b'0');
        assert_eq!(frames(endless), [Err(AsciiFault::TooLong)]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            adu in proptest::collection::vec(any::<u8>(), 2..254),
            cut in any::<prop::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>().prop_filter("no frame", |byte| !b":\n".contains(byte)), 0..20),
        ) {
            let wire = [noise, encoded(&adu)].concat();
            let (first, second) = wire.split_at(cut.index(wire.len()));
            let mut characters = first.to_vec();
            prop_assert_eq!(take_frame(&mut characters), None);
            characters.extend_from_slice(second);
            prop_assert_eq!(take_frame(&mut characters), Some(Ok(adu)));
            prop_assert!(characters.is_empty());
        }

        #[test]
        fn one_changed_digit_is_noticed(
            adu in proptest::collection::vec(any::<u8>(), 2..254),
            place in any::<prop::sample::Index>(),
            digit in 0_usize..16,
        ) {
            let mut wire = encoded(&adu);
            let place = 1 + place.index(wire.len() - 3);
            let digit = b"0123456789ABCDEF"[digit];
            prop_assume!(wire[place] != digit);
            wire[place] = digit;
            let fault = matches!(take_frame(&mut wire), Some(Err(AsciiFault::Checksum { .. })));
            prop_assert!(fault);
        }

        #[test]
        fn whatever_comes_no_panic_and_no_endless_memory(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let mut characters = Vec::new();
            for byte in bytes {
                characters.push(byte);
                if let Some(Ok(adu)) = take_frame(&mut characters) {
                    prop_assert!(adu.len() >= 2);
                }
                prop_assert!(characters.len() < FRAME_CHARACTERS_MAX);
            }
        }
    }
}
