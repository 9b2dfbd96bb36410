//! An OPC UA server that misbehaves in one chosen way on the wire (OPC 10000-6 §6.7 and §7.1): it says HEL and OPN as far as its manner
//! lets it, without security, and then what no server says.

use super::free_port;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Its secure channel and token.
const CHANNEL: u32 = 7;
const TOKEN: u32 = 1;
/// Negotiated: no chunk may be larger.
const BUFFER: u32 = 65_536;
/// What comes without end comes at this pace, so that only the client can end it.
const PAUSE: Duration = Duration::from_millis(1);

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpcUaManner {
    /// Bytes that are no message for an answer to HEL.
    HelloGarbage,
    /// An ACK that says to have 4 GB.
    HelloHuge,
    /// An ACK shorter than its own header.
    HelloTiny,
    /// An ACK with buffers of no bytes.
    NoBuffers,
    /// An ERR with a reason of 2 GB.
    LongError,
    /// Nothing, ever.
    Silent,
    /// An answer to HEL that belongs to a channel.
    MessageForHello,
    /// Garbage in an OPN.
    OpenGarbage,
    /// An OPN under a security policy that nobody knows.
    OpenPolicy,
    /// An OPN whose policy has a name of 2 GB.
    OpenLongPolicy,
    /// An OPN that answers another request.
    OpenForeign,
    /// A message of chunks of 8 KiB that never ends.
    Endless,
    /// A message of chunks without a body that never ends.
    EndlessEmpty,
    /// A chunk larger than was negotiated.
    LargeChunk,
    /// A chunk that says to have 4 GB.
    SizeLie,
    /// Chunks whose numbers fall.
    Reordered,
    /// A chunk twice.
    Repeated,
    /// A chunk of another channel.
    ForeignChannel,
    /// A chunk under another token.
    ForeignToken,
    /// An answer to a request that nobody made.
    ForeignRequest,
    /// Half a message, then its abort, again and again.
    Aborts,
    /// An answer that is no service.
    BodyGarbage,
    /// A list of endpoints of 2^31-1 members.
    ArrayLie,
    /// An answer of 20,000 nested diagnostics.
    Nested,
}

/// The server.
pub struct RogueOpcUa {
    /// Where it listens.
    pub port: u16,
    asked: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl RogueOpcUa {
    /// Starts it.
    ///
    /// # Panics
    /// When its port is taken.
    pub async fn start(manner: OpcUaManner) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // It ends when the client has had enough.
                let mut line = Line { stream, number: 1, asked: Arc::clone(&shared) };
                tokio::spawn(async move { line.talk(manner).await });
            }
        });
        Self { port, asked, task }
    }

    /// How often a client came so far that it asked for something on an open channel.
    #[must_use]
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for RogueOpcUa {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Line {
    stream: TcpStream,
    /// Next sequence number of ours.
    number: u32,
    asked: Arc<AtomicU32>,
}

impl Line {
    async fn talk(&mut self, manner: OpcUaManner) -> io::Result<()> {
        self.read().await?;
        if let Some(bytes) = instead_of_hello(manner) {
            self.stream.write_all(&bytes).await?;
            return self.listen().await;
        }
        let ack: Vec<u8> = [0, BUFFER, BUFFER, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
        self.stream.write_all(&message(b"ACKF", &ack)).await?;
        let open = self.read().await?;
        let (request, handle) = opened(&open);
        let answer = self.open_answer(manner, request, handle);
        self.stream.write_all(&answer).await?;
        // GetEndpoints, or whatever is asked for.
        let asked = self.read().await?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        let request = asked.get(12..16).map_or(0, number);
        self.answer(manner, request).await
    }

    /// One whole message without its header of eight bytes.
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).await?;
        let mut body = vec![0; (number(&header[4..]) as usize).saturating_sub(8).min(1 << 20)];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    /// Until the client goes.
    async fn listen(&mut self) -> io::Result<()> {
        while self.stream.read(&mut [0; 512]).await? > 0 {}
        Ok(())
    }

    fn open_answer(&mut self, manner: OpcUaManner, request: u32, handle: u32) -> Vec<u8> {
        const NONE: &[u8] = b"http://opcfoundation.org/UA/SecurityPolicy#None";
        let body = match manner {
            OpcUaManner::OpenGarbage => vec![0xfe; 200],
            _ => open_response(handle),
        };
        let policy = match manner {
            OpcUaManner::OpenPolicy => string(b"http://example.org/SecurityPolicy#Mine"),
            OpcUaManner::OpenLongPolicy => i32::MAX.to_le_bytes().to_vec(),
            _ => string(NONE),
        };
        let request = if manner == OpcUaManner::OpenForeign { request + 1_000 } else { request };
        let nobody = (-1_i32).to_le_bytes();
        let head = [&CHANNEL.to_le_bytes()[..], &policy, &nobody, &nobody].concat();
        let numbers = [self.next().to_le_bytes(), request.to_le_bytes()].concat();
        message(b"OPNF", &[head, numbers, body].concat())
    }

    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number - 1
    }

    fn chunk(&mut self, kind: u8, request: u32, body: &[u8]) -> Vec<u8> {
        let number = self.next();
        chunk(kind, CHANNEL, TOKEN, number, request, body)
    }

    async fn answer(&mut self, manner: OpcUaManner, request: u32) -> io::Result<()> {
        let mut say = Vec::new();
        match manner {
            OpcUaManner::Endless => return self.without_end(request, &[0; 8_192]).await,
            OpcUaManner::EndlessEmpty => return self.without_end(request, &[]).await,
            OpcUaManner::Aborts => loop {
                let half = [self.chunk(b'C', request, &[0; 100]), self.chunk(b'A', request, &[0; 8])].concat();
                self.stream.write_all(&half).await?;
                tokio::time::sleep(PAUSE).await;
            },
            OpcUaManner::LargeChunk => say = self.chunk(b'F', request, &vec![0; 4 * BUFFER as usize]),
            OpcUaManner::SizeLie => {
                say = self.chunk(b'F', request, &[0; 64]);
                say[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
            }
            OpcUaManner::Reordered => {
                for number in [900, 899, 5] {
                    say.extend(chunk(b'C', CHANNEL, TOKEN, number, request, &[0; 64]));
                }
            }
            OpcUaManner::Repeated => {
                let once = self.chunk(b'C', request, &[0; 64]);
                say = [&once[..], &once, &once].concat();
            }
            OpcUaManner::ForeignChannel => say = chunk(b'F', CHANNEL + 1, TOKEN, self.next(), request, &fault()),
            OpcUaManner::ForeignToken => say = chunk(b'F', CHANNEL, TOKEN + 9, self.next(), request, &[0xfe; 64]),
            OpcUaManner::ForeignRequest => say = self.chunk(b'F', request + 1_000, &fault()),
            OpcUaManner::BodyGarbage => say = self.chunk(b'F', request, &[0xfe; 500]),
            OpcUaManner::ArrayLie => say = self.chunk(b'F', request, &endpoints(i32::MAX)),
            OpcUaManner::Nested => say = self.chunk(b'F', request, &nested()),
            _ => {}
        }
        self.stream.write_all(&say).await?;
        self.listen().await
    }

    async fn without_end(&mut self, request: u32, body: &[u8]) -> io::Result<()> {
        loop {
            let chunk = self.chunk(b'C', request, body);
            self.stream.write_all(&chunk).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn instead_of_hello(manner: OpcUaManner) -> Option<Vec<u8>> {
    let no_buffers: Vec<u8> = [0_u32; 5].into_iter().flat_map(u32::to_le_bytes).collect();
    Some(match manner {
        OpcUaManner::HelloGarbage => vec![0xfe; 64],
        OpcUaManner::HelloHuge => [&b"ACKF"[..], &u32::MAX.to_le_bytes(), &[0; 40]].concat(),
        OpcUaManner::HelloTiny => [&b"ACKF"[..], &4_u32.to_le_bytes()].concat(),
        OpcUaManner::NoBuffers => message(b"ACKF", &no_buffers),
        OpcUaManner::LongError => {
            message(b"ERRF", &[&0x8000_0000_u32.to_le_bytes()[..], &i32::MAX.to_le_bytes(), b"because"].concat())
        }
        OpcUaManner::Silent => Vec::new(),
        OpcUaManner::MessageForHello => chunk(b'F', CHANNEL, TOKEN, 1, 1, &fault()),
        _ => return None,
    })
}

fn message(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap();
    [&kind[..], &size.to_le_bytes(), body].concat()
}

fn chunk(kind: u8, channel: u32, token: u32, number: u32, request: u32, body: &[u8]) -> Vec<u8> {
    let numbers = [channel, token, number, request].map(u32::to_le_bytes).concat();
    message(&[b'M', b'S', b'G', kind], &[&numbers[..], body].concat())
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat()
}

/// Request id and request handle of an OPN: channel, policy, certificate, thumbprint, numbers, type, authentication token (null), time.
fn opened(open: &[u8]) -> (u32, u32) {
    let mut at = 4;
    for _ in 0..3 {
        let length = number(open.get(at..).unwrap_or_default());
        at += 4 + if length == u32::MAX { 0 } else { length as usize };
    }
    let word = |place: usize| number(open.get(place..).unwrap_or_default());
    (word(at + 4), word(at + 8 + 4 + 2 + 8))
}

/// The type of a service (four-byte node id), and a good response header.
fn response(service: u16, handle: u32, result: u32) -> Vec<u8> {
    let kind = [&[1, 0][..], &service.to_le_bytes()].concat();
    let header = [&[0; 8][..], &handle.to_le_bytes(), &result.to_le_bytes(), &[0], &(-1_i32).to_le_bytes(), &[0, 0, 0]];
    [kind, header.concat()].concat()
}

/// OpenSecureChannelResponse: version, channel, token, time, lifetime, nonce.
fn open_response(handle: u32) -> Vec<u8> {
    let token = [&CHANNEL.to_le_bytes()[..], &TOKEN.to_le_bytes(), &[0; 8], &3_600_000_u32.to_le_bytes()].concat();
    [response(449, handle, 0), 0_u32.to_le_bytes().to_vec(), token, (-1_i32).to_le_bytes().to_vec()].concat()
}

/// ServiceFault: a bad one.
fn fault() -> Vec<u8> {
    response(397, 1, 0x8000_0000)
}

/// GetEndpointsResponse with so many endpoints, of which none follows.
fn endpoints(count: i32) -> Vec<u8> {
    [response(431, 1, 0), count.to_le_bytes().to_vec()].concat()
}

/// A fault whose diagnostics have inner diagnostics (mask 0x40), and so on.
fn nested() -> Vec<u8> {
    let mut body = [&[1, 0][..], &397_u16.to_le_bytes(), &[0; 8], &1_u32.to_le_bytes(), &0_u32.to_le_bytes()].concat();
    body.extend([0x40].repeat(20_000));
    body
}
