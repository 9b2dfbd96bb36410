//! What frames travel over: TCP, TLS or a serial line, each as a stream of bytes that two can hold, the protocol
//! library to ask and we to throw away what is late.
//!
//! ASCII frames are translated to RTU frames and back underneath the library ([`ascii`]), which knows no ASCII.

mod ascii;
mod serial;
mod tls;

use crate::error::Failure;
use ascii::Ascii;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tally_model::{LinkProtocol, LinkSecurity, ModbusLine, Tls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use serial::{characters, frame_pause};
pub(crate) use tally_connector_api::tls::{check as check_tls, denied};

/// A stream of bytes, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open line. Clones share it.
#[derive(Clone)]
pub(crate) struct Port {
    /// A std mutex is right: it is held for one poll, never across an await, and nobody else polls meanwhile.
    stream: Arc<Mutex<Box<dyn Stream>>>,
    /// How the line is secured.
    security: LinkSecurity,
}

/// What was found on the line between two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// So many bytes that answer nothing any more; thrown away.
    Bytes(usize),
    /// The other side closed the connection, or the serial line is gone.
    Closed,
}

impl Port {
    /// Opens the line.
    pub(crate) async fn open(line: &ModbusLine, tls: &Tls, time_max: Duration) -> Result<Self, Failure> {
        Ok(match line {
            ModbusLine::Tcp { host, port } | ModbusLine::RtuOverTcp { host, port } => {
                Self::new(connect(host, *port, time_max).await?)
            }
            ModbusLine::AsciiOverTcp { host, port } => Self::ascii(connect(host, *port, time_max).await?),
            ModbusLine::Tls { host, port } => {
                let stream = connect(host, *port, time_max).await?;
                let (stream, security) = tls::handshake(stream, host, *port, tls, time_max).await?;
                Self { security, ..Self::new(stream) }
            }
            ModbusLine::Rtu(serial) => Self::new(serial::open(serial)?),
            ModbusLine::Ascii(serial) => Self::ascii(serial::open(serial)?),
        })
    }

    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        let security = LinkSecurity::none(LinkProtocol::Modbus);
        Self { stream: Arc::new(Mutex::new(Box::new(stream))), security }
    }

    /// How the line is secured.
    pub(crate) const fn security(&self) -> &LinkSecurity {
        &self.security
    }

    /// ASCII frames on `stream`, RTU frames above.
    pub(crate) fn ascii(stream: impl Stream + 'static) -> Self {
        Self::new(Ascii::new(stream))
    }

    /// A poisoned lock means a poll panicked; what is left in the stream is thrown away or fails by itself.
    fn lock(&self) -> MutexGuard<'_, Box<dyn Stream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Throws away what has arrived already, without waiting.
    pub(crate) fn discard_waiting(&self) -> Leftover {
        let mut context = Context::from_waker(Waker::noop());
        let mut count = 0;
        loop {
            match self.poll_discard(&mut context) {
                Poll::Pending => return Leftover::Bytes(count),
                Poll::Ready(Some(found)) => count += found,
                Poll::Ready(None) => return Leftover::Closed,
            }
        }
    }

    /// Throws away everything that arrives until `until`, and longer while the line is not quiet for `quiet`.
    /// Never longer than twice: a line that never falls silent is not drained but broken, and says so by itself.
    pub(crate) async fn drain(&self, until: Instant, quiet: Duration) -> Leftover {
        let latest = until + until.saturating_duration_since(Instant::now()) + quiet;
        let (mut silent_until, mut count) = (until, 0);
        loop {
            let discarded = std::future::poll_fn(|context| self.poll_discard(context));
            match tokio::time::timeout_at(silent_until.min(latest), discarded).await {
                Err(_) => return Leftover::Bytes(count),
                Ok(None) => return Leftover::Closed,
                Ok(Some(found)) => {
                    count += found;
                    silent_until = silent_until.max(Instant::now() + quiet);
                }
            }
        }
    }

    /// How many bytes were thrown away; `None` at the end of the stream.
    fn poll_discard(&self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut bytes = [0; 512];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *self.lock()).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(None),
            Poll::Ready(Ok(())) => Poll::Ready(Some(buffer.filled().len())),
            // A senseless ASCII frame is thrown away like a sensible one.
            Poll::Ready(Err(fault)) if fault.kind() == io::ErrorKind::InvalidData => Poll::Ready(Some(1)),
            Poll::Ready(Err(_)) => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}

impl AsyncRead for Port {
    /// A TLS connection that ends without a farewell is an end like that of a TCP connection: a power cut says no farewell,
    /// and a frame that was cut short is seen by its length.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut *self.lock()).poll_read(cx, buffer) {
            Poll::Ready(Err(fault)) if fault.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}

async fn connect(host: &str, port: u16, time_max: Duration) -> Result<TcpStream, Failure> {
    // A URL writes IPv6 addresses in brackets (RFC 3986 §3.2.2), the resolver knows them without.
    let connecting = TcpStream::connect((host.trim_matches(['[', ']']), port));
    let stream = tokio::time::timeout(time_max, connecting)
        .await
        .map_err(|_| Failure::Line(format!("{host}:{port} did not take the connection within {time_max:?}")))?
        .map_err(|fault| Failure::Line(format!("cannot connect to {host}:{port}: {fault}")))?;
    // A question of 12 bytes must not wait for company (TCP §4.3.2).
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "cannot switch off Nagle's algorithm, answers come later");
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn what_waits_is_thrown_away_and_an_end_is_seen() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let port = Port::new(ours);
        assert_eq!(port.discard_waiting(), Leftover::Bytes(0));
        theirs.write_all(&[1, 2, 3]).await.unwrap();
        assert_eq!(port.discard_waiting(), Leftover::Bytes(3));
        drop(theirs);
        assert_eq!(port.discard_waiting(), Leftover::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_late_bytes_and_for_silence_after_them() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let port = Port::new(ours);
        let start = Instant::now();
        let talker = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            theirs.write_all(&[1, 2, 3]).await.unwrap();
            theirs
        });
        let found = port.drain(start + Duration::from_millis(800), Duration::from_millis(400)).await;
        assert_eq!(found, Leftover::Bytes(3));
        assert!(start.elapsed() >= Duration::from_millis(1_100), "{:?}", start.elapsed());
        drop(talker.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_never_falls_silent_is_not_drained_for_ever() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let port = Port::new(ours);
        let talker = tokio::spawn(async move {
            while theirs.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let start = Instant::now();
        port.drain(start + Duration::from_millis(100), Duration::from_millis(20)).await;
        assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
        drop(port);
        talker.await.unwrap();
    }
}
