//! A device on a line of any kind that answers exactly what a test says, when it says: right, late, wrong or never.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_serial::SerialStream;

/// How frames look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    Rtu,
    Ascii,
}

/// What carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Serial,
    Tcp,
}

/// Every line without transaction ids.
pub const LINES: [(Frames, Over); 4] =
    [(Frames::Rtu, Over::Serial), (Frames::Rtu, Over::Tcp), (Frames::Ascii, Over::Serial), (Frames::Ascii, Over::Tcp)];

/// One thing the device puts on the line after a wait.
pub struct Say {
    pub after: Duration,
    pub bytes: Vec<u8>,
}

impl Frames {
    /// The frame of unit and PDU with its checksum.
    pub fn frame(self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let adu = [&[unit], pdu].concat();
        match self {
            Self::Rtu => [adu.as_slice(), &crc(&adu).to_le_bytes()].concat(),
            Self::Ascii => {
                let lrc = adu.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
                let digits: String = adu.iter().chain([&lrc]).map(|byte| format!("{byte:02X}")).collect();
                format!(":{digits}\r\n").into_bytes()
            }
        }
    }

    async fn question<S: AsyncRead + Unpin>(self, stream: &mut S) -> Option<(u8, Vec<u8>)> {
        match self {
            Self::Rtu => {
                let mut frame = vec![0; 8];
                stream.read_exact(&mut frame).await.ok()?;
                let more = match frame[1] {
                    15 | 16 => 1 + usize::from(frame[6]),
                    22 => 2,
                    23 => {
                        let mut rest = [0; 3];
                        stream.read_exact(&mut rest).await.ok()?;
                        frame.extend_from_slice(&rest);
                        2 + usize::from(frame[10])
                    }
                    _ => 0,
                };
                let mut rest = vec![0; more];
                stream.read_exact(&mut rest).await.ok()?;
                frame.extend_from_slice(&rest);
                let end = frame.len() - 2;
                assert_eq!(
                    frame[end..],
                    crc(&frame[..end]).to_le_bytes(),
                    "a question with a right checksum: {frame:x?}"
                );
                Some((frame[0], frame[1..end].to_vec()))
            }
            Self::Ascii => {
                let mut line = Vec::new();
                while line.last() != Some(&b'\n') {
                    line.push(stream.read_u8().await.ok()?);
                }
                let digits = std::str::from_utf8(&line).unwrap().trim().strip_prefix(':').unwrap().to_owned();
                let byte = |place: usize| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
                let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
                assert_eq!(
                    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
                    0,
                    "a right checksum: {digits}"
                );
                Some((bytes[0], bytes[1..bytes.len() - 1].to_vec()))
            }
        }
    }
}

/// CRC-16/MODBUS, bit by bit (Modbus over Serial Line V1.02 §6.2.2): not the library's.
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 })
    })
}

/// The answer to a read of registers.
pub fn registers(function: u8, words: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    [&[function, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
}

/// A running device and where it is reached, without the unit.
pub struct Slave {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Slave {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Slave {
    /// Answers every question with what `answer` makes of unit and PDU.
    pub async fn start<A>(frames: Frames, over: Over, mut answer: A) -> Self
    where
        A: FnMut(u8, &[u8]) -> Vec<Say> + Send + 'static,
    {
        let kind = if frames == Frames::Rtu { "rtu" } else { "ascii" };
        match over {
            Over::Serial => {
                let (mut master, line) = SerialStream::pair().unwrap();
                let name = tokio_serial::SerialPort::name(&line).unwrap();
                let task = tokio::spawn(async move {
                    // Held open: a line whose last user leaves would end for the device too.
                    let _line = line;
                    talk(frames, &mut master, &mut answer).await;
                });
                Self { url: format!("modbus+{kind}://{name}"), task }
            }
            Over::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = format!("modbus+{kind}+tcp://{}", listener.local_addr().unwrap());
                let task = tokio::spawn(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        talk(frames, &mut stream, &mut answer).await;
                    }
                });
                Self { url, task }
            }
        }
    }
}

async fn talk<S, A>(frames: Frames, stream: &mut S, answer: &mut A)
where
    S: AsyncRead + AsyncWrite + Unpin,
    A: FnMut(u8, &[u8]) -> Vec<Say>,
{
    while let Some((unit, pdu)) = frames.question(stream).await {
        for say in answer(unit, &pdu) {
            tokio::time::sleep(say.after).await;
            if stream.write_all(&say.bytes).await.is_err() {
                return;
            }
        }
    }
}

/// At once.
pub fn now(bytes: Vec<u8>) -> Vec<Say> {
    vec![Say { after: Duration::ZERO, bytes }]
}
