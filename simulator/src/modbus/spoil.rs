//! A TCP stream that spoils answers on the way out, so that the wire itself can be faulty.

use super::Plc;
use crate::WireFault;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The unit identifier in an answer (Modbus Messaging on TCP/IP V1.0b §3.1.3).
const UNIT_PLACE: usize = 6;

/// Sent instead of an answer: the beginning of a TLS alert, as from a device behind the wrong port.
const GARBAGE: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28, 0xff, 0xfe, 0x00, 0x99];

pub(super) struct Spoiled {
    stream: TcpStream,
    plc: Plc,
    /// Spoiled answers that are not written yet; at most one, because clients wait for answers.
    waiting: Vec<u8>,
}

impl Spoiled {
    pub(super) fn new(stream: TcpStream, plc: Plc) -> Self {
        Self { stream, plc, waiting: Vec::new() }
    }

    fn fault(&self, answer: &[u8]) -> Option<WireFault> {
        let (device, _) = self.plc.units.get(answer.get(UNIT_PLACE)?)?;
        self.plc.state.wire_fault(device.as_str())
    }
}

impl AsyncRead for Spoiled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Spoiled {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, answer: &[u8]) -> Poll<io::Result<usize>> {
        match self.fault(answer) {
            Some(WireFault::Garbage) => self.waiting.extend_from_slice(GARBAGE),
            Some(WireFault::Half) => {
                let half = answer.get(..answer.len() / 2).unwrap_or_default();
                self.waiting.extend_from_slice(half);
            }
            _ => self.waiting.extend_from_slice(answer),
        }
        Poll::Ready(Ok(answer.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.waiting.is_empty() {
            match Pin::new(&mut this.stream).poll_write(cx, &this.waiting) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => drop(this.waiting.drain(..written)),
                Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
