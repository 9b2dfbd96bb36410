//! The way of an answer from bytes to words without a line, for whoever tries the reader with bytes of any kind.

use crate::error::Failure;
use crate::link::connection::fits;
use crate::transport::Port;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tally_model::Encoding;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_modbus::client::{Client, rtu, tcp};
use tokio_modbus::prelude::ReadCode;
use tokio_modbus::slave::Slave;
use tokio_modbus::{Request, Response};

/// How frames lie on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// MBAP header and PDU (TCP §4.1); transaction 0.
    Tcp,
    /// Unit, PDU, CRC.
    Rtu,
    /// `:`, unit, PDU, LRC as hexadecimal digits.
    Ascii,
}

/// Every encoding a mapping may name.
pub const ENCODINGS: [Encoding; 19] = [
    Encoding::Bool,
    Encoding::U8,
    Encoding::I8,
    Encoding::U16,
    Encoding::I16,
    Encoding::U32,
    Encoding::I32,
    Encoding::U64,
    Encoding::I64,
    Encoding::F16,
    Encoding::F32,
    Encoding::F64,
    Encoding::Bcd16,
    Encoding::Bcd32,
    Encoding::Bcd64,
    Encoding::Text,
    Encoding::TextLow,
    Encoding::TextHigh,
    Encoding::Auto,
];

/// Questions that [`answer`] knows.
pub const QUESTIONS: u8 = 11;

/// What the link makes of `bytes` that come as the answer of unit 1 to a question, at most `piece` of them at once, the end of
/// the line behind them. Registers as they are, bits as words of 0 and 1; nothing for an echo.
///
/// # Errors
/// What the link says of it.
pub fn answer(framing: Framing, question: u8, bytes: &[u8], piece: usize) -> Result<Vec<u16>, String> {
    let line = tokio::io::join(Said { bytes: bytes.to_vec(), told: 0, piece: piece.max(1) }, tokio::io::sink());
    let mut context = match framing {
        Framing::Tcp => tcp::attach_slave(Port::new(line), Slave(1)),
        Framing::Rtu => rtu::attach_slave(Port::new(line), Slave(1)),
        Framing::Ascii => rtu::attach_slave(Port::ascii(line), Slave(1)),
    };
    let call = pin!(context.call(request(question)));
    let answer = match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => return Err("waits, although all was said".to_owned()),
        Poll::Ready(Ok(Ok(response))) => fits(&request(question), response),
        Poll::Ready(Ok(Err(exception))) => Err(Failure::Exception(exception)),
        Poll::Ready(Err(fault)) => Err(Failure::from(fault)),
    };
    match answer.map_err(|failure| failure.into_link_fault().to_string())? {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => Ok(bits.into_iter().map(u16::from).collect()),
        Response::ReadInputRegisters(words)
        | Response::ReadHoldingRegisters(words)
        | Response::ReadWriteMultipleRegisters(words) => Ok(words),
        _ => Ok(Vec::new()),
    }
}

/// One of each kind that the link asks (App §6).
fn request(question: u8) -> Request<'static> {
    match question % QUESTIONS {
        0 => Request::ReadHoldingRegisters(107, 3),
        1 => Request::ReadInputRegisters(8, 1),
        2 => Request::ReadCoils(19, 19),
        3 => Request::ReadDiscreteInputs(196, 22),
        4 => Request::WriteSingleCoil(172, true),
        5 => Request::WriteSingleRegister(1, 3),
        6 => Request::WriteMultipleCoils(19, vec![true; 10].into()),
        7 => Request::WriteMultipleRegisters(1, vec![10, 258].into()),
        8 => Request::MaskWriteRegister(4, 0xf2, 0x25),
        9 => Request::ReadWriteMultipleRegisters(3, 6, 14, vec![255; 3].into()),
        _ => Request::ReadDeviceIdentification(ReadCode::Basic, 0),
    }
}

/// A line on which all was said already.
struct Said {
    bytes: Vec<u8>,
    told: usize,
    piece: usize,
}

impl AsyncRead for Said {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let end = self.bytes.len().min(self.told + self.piece.min(buffer.remaining()));
        buffer.put_slice(self.bytes.get(self.told..end).unwrap_or_default());
        self.told = end;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read holding registers 107 to 109: an answer found in the standard (App §6.3), in its three forms.
    #[test]
    fn the_answer_of_the_standard_is_read_in_every_framing_whole_or_in_pieces() {
        let pdu = [3, 6, 0x02, 0x2b, 0, 0, 0, 0x64];
        let tcp = [&[0, 0, 0, 0, 0, 9, 1][..], &pdu].concat();
        let unit = [&[1][..], &pdu].concat();
        let crc = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS).checksum(&unit).to_le_bytes();
        let rtu = [&unit[..], &crc].concat();
        let sum = unit.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        let ascii = format!(":{}{sum:02X}\r\n", hex::encode_upper(&unit)).into_bytes();
        for (framing, bytes) in [(Framing::Tcp, tcp), (Framing::Rtu, rtu), (Framing::Ascii, ascii)] {
            for piece in [1, 4, 1_000] {
                assert_eq!(answer(framing, 0, &bytes, piece), Ok(vec![0x022b, 0, 0x64]), "{framing:?} {piece}");
            }
            assert!(answer(framing, 1, &bytes, 1_000).is_err(), "an answer to another question");
            for end in 0..bytes.len() - usize::from(framing == Framing::Ascii) {
                assert!(answer(framing, 0, &bytes[..end], 1_000).is_err(), "{framing:?} cut at {end}");
            }
        }
    }
}
