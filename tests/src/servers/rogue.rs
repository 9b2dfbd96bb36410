//! A Modbus server that misbehaves in one chosen way, or not at all.

use super::free_port;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Every register holds this number.
    Good(u8),
    /// Exception with this code (Modbus Application Protocol V1.1b3 §7).
    Exception(u8),
    /// Bytes that are no frame.
    Garbage,
    /// The first half of a right answer, and then nothing, with the line open.
    Half,
    /// The first half of a right answer, and then the line is closed.
    Cut,
    /// Nothing, ever.
    Never,
    /// A right answer to another question (transaction number).
    Foreign,
    /// An answer that says it is longer than a frame may be.
    Endless,
    /// A right answer of another unit.
    ForeignUnit,
    /// A right answer to another function.
    ForeignFunction,
    /// A frame of another protocol (MBAP, TCP §3.1.3).
    Protocol,
    /// A byte count larger than the frame.
    CountLie,
    /// One register more than was asked for.
    TooMany,
    /// A frame with a length of nothing.
    NoLength,
    /// An exception code that nobody knows.
    StrangeException,
    /// The right answer with other numbers a thousand times before it.
    Flood,
}

/// The server; it may change its manner at any time.
pub struct Rogue {
    /// Where it listens.
    pub port: u16,
    manner: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Rogue {
    /// Starts it.
    ///
    /// # Panics
    /// When its port is taken.
    pub async fn start(manner: Manner) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let manner = Arc::new(AtomicU16::new(number(manner)));
        let shared = Arc::clone(&manner);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, manner, task }
    }

    /// From now on it behaves like this.
    pub fn behave(&self, manner: Manner) {
        self.manner.store(number(manner), Ordering::SeqCst);
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A manner as one number, so that it can be changed without a lock.
fn number(manner: Manner) -> u16 {
    let (kind, detail) = match manner {
        Manner::Good(value) => (0, value),
        Manner::Exception(code) => (1, code),
        Manner::Garbage => (2, 0),
        Manner::Half => (3, 0),
        Manner::Cut => (4, 0),
        Manner::Never => (5, 0),
        Manner::Foreign => (6, 0),
        Manner::Endless => (7, 0),
        Manner::ForeignUnit => (8, 0),
        Manner::ForeignFunction => (9, 0),
        Manner::Protocol => (10, 0),
        Manner::CountLie => (11, 0),
        Manner::TooMany => (12, 0),
        Manner::NoLength => (13, 0),
        Manner::StrangeException => (1, 0xee),
        Manner::Flood => (14, 0),
    };
    kind << 8 | u16::from(detail)
}

async fn serve(mut stream: TcpStream, manner: Arc<AtomicU16>) {
    // MBAP header (7 bytes) and a read request (5 bytes); V1.1b3 §6.1 to 6.4.
    let mut request = [0; 12];
    while stream.read_exact(&mut request).await.is_ok() {
        let now = manner.load(Ordering::SeqCst);
        let (answer, goes_on) = answer(&request, now >> 8, now.to_le_bytes()[0]);
        if stream.write_all(&answer).await.is_err() || !goes_on {
            return;
        }
    }
}

/// What is answered, and whether the line stays open.
fn answer(request: &[u8; 12], kind: u16, detail: u8) -> (Vec<u8>, bool) {
    let right = right_answer(request, detail);
    let half = right[..right.len() / 2].to_vec();
    match kind {
        1 => (frame(request, &[request[7] | 0x80, detail]), true),
        2 => (vec![0xfe; 40], true),
        3 => (half, true),
        4 => (half, false),
        5 => (Vec::new(), true),
        6 => {
            let mut foreign = right;
            foreign[0] ^= 0xff;
            (foreign, true)
        }
        7 => (vec![request[0], request[1], 0, 0, 0xff, 0xff, request[6], request[7], 0xff], true),
        8 => (changed(right, 6, request[6].wrapping_add(1)), true),
        9 => (changed(right, 7, 0x2b), true),
        10 => (changed(right, 3, 1), true),
        11 => (changed(right, 8, 250), true),
        12 => (frame(request, &[&[request[7], right[8] + 2][..], &right[9..], &[0, 9]].concat()), true),
        13 => (changed(right, 5, 0), true),
        14 => ([changed(right.clone(), 0, request[0] ^ 0xff).repeat(1_000), right].concat(), true),
        _ => (right, true),
    }
}

fn changed(mut frame: Vec<u8>, place: usize, byte: u8) -> Vec<u8> {
    frame[place] = byte;
    frame
}

fn right_answer(request: &[u8; 12], value: u8) -> Vec<u8> {
    let count = usize::from(u16::from_be_bytes([request[10], request[11]]));
    let is_bits = request[7] <= 2;
    let data = if is_bits { vec![value; count.div_ceil(8)] } else { [0, value].repeat(count) };
    let mut pdu = vec![request[7], u8::try_from(data.len()).unwrap_or(u8::MAX)];
    pdu.extend(data);
    frame(request, &pdu)
}

fn frame(request: &[u8; 12], pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![request[0], request[1], 0, 0, length[0], length[1], request[6]];
    frame.extend(pdu);
    frame
}
