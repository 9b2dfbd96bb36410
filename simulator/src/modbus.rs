//! Modbus server of simulated devices: all units of one line, over TCP, TLS or a serial line, in MBAP, RTU or ASCII frames,
//! with faults on demand. What it answers is in [`answer`].
//!
//! A unit that is not there: over TCP and TLS the line is a gateway and says so (exception 0B), on RTU and ASCII lines nobody
//! answers. Unit 0 of those is a broadcast: everybody carries it out, nobody answers (Modbus over Serial Line V1.02 §2.1).
//! An answer that is delayed holds up no other unit, as on a real line: it comes when it comes, also into the middle of
//! somebody else's turn.

mod answer;
mod encode;
mod frames;
mod line;
mod serial;
mod tls;

use crate::fault::{Trouble, WireFault};
use crate::{PlantState, SimError};
use answer::exception;
use frames::{Framing, Question, Taken};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_modbus::prelude::ExceptionCode;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use answer::Unit;
pub(crate) use line::OpenLine;

/// Connections at a time; more are closed at once, as by a small PLC.
const CONNECTIONS_MAX: usize = 64;

/// Answers of one connection that may be late at a time; more are not given at all.
const LATE_ANSWERS_MAX: usize = 64;

/// Silence after which half an RTU or ASCII frame is forgotten: far more than any operating system pauses in between.
const FRAME_GAP: Duration = Duration::from_millis(100);

/// Sent instead of an answer: the beginning of a TLS alert, as from a device behind the wrong port.
const GARBAGE: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28, 0xff, 0xfe, 0x00, 0x99];

/// Units of one line, like devices behind a gateway.
pub(crate) type Units = BTreeMap<u8, Unit>;

/// Serves until `stop` is cancelled.
pub(crate) async fn serve_modbus(
    line: OpenLine,
    units: Units,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let plc = Arc::new(Plc { units, state });
    match line {
        OpenLine::Tcp { listener, framing } => accept(listener, None, framing, plc, stop).await,
        OpenLine::Tls { listener, pki } => {
            let acceptor = pki.acceptor().map_err(SimError::Modbus)?;
            accept(listener, Some(acceptor), Framing::Mbap, plc, stop).await
        }
        OpenLine::Serial { mut line, framing } => {
            let ended = stop.run_until_cancelled(talk(&mut *line.stream, framing, &plc)).await;
            match ended {
                Some(Err(fault)) => Err(SimError::Modbus(format!("{}: {fault}", line.path.display()))),
                _ => Ok(()),
            }
        }
    }
}

/// Takes connections. One that breaks or sends nonsense ends; it says nothing about the others.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    framing: Framing,
    plc: Arc<Plc>,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, _) = accepted.map_err(|fault| SimError::Modbus(fault.to_string()))?;
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        if plc.all_hang_up() {
            continue;
        }
        let (tls, plc, stop) = (tls.clone(), plc.clone(), stop.clone());
        tokio::spawn(async move {
            let talked = stop.run_until_cancelled(serve_connection(stream, tls, framing, &plc)).await;
            if let Some(Err(fault)) = talked {
                tracing::debug!(%fault, "a Modbus connection ended");
            }
            drop(place);
        });
    }
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    framing: Framing,
    plc: &Arc<Plc>,
) -> io::Result<()> {
    // An answer of some bytes must not wait for company.
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => talk(tls.accept(stream).await?, framing, plc).await,
        None => talk(stream, framing, plc).await,
    }
}

/// Answers questions until the other side ends the connection, or a fault does.
async fn talk<S: AsyncRead + AsyncWrite>(stream: S, framing: Framing, plc: &Arc<Plc>) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (late, mut late_answers) = mpsc::channel::<Vec<u8>>(LATE_ANSWERS_MAX);
    let (mut bytes, mut fresh) = (Vec::new(), [0; 512]);
    loop {
        let gap = if framing.is_bus() && !bytes.is_empty() { FRAME_GAP } else { Duration::MAX };
        let answers = tokio::select! {
            Some(answer) = late_answers.recv() => vec![answer],
            read = reader.read(&mut fresh) => {
                let count = read?;
                if count == 0 {
                    return Ok(());
                }
                bytes.extend_from_slice(fresh.get(..count).unwrap_or_default());
                match plc.answer_all(framing, &mut bytes, &late) {
                    Some(answers) => answers,
                    None => return Ok(()),
                }
            }
            () = tokio::time::sleep(gap) => {
                bytes.clear();
                Vec::new()
            }
        };
        for answer in answers {
            writer.write_all(&answer).await?;
        }
        writer.flush().await?;
    }
}

struct Plc {
    units: BTreeMap<u8, Unit>,
    state: PlantState,
}

/// What becomes of one question.
enum Reaction {
    Answer { frame: Vec<u8>, delay: Duration },
    Silence,
    HangUp,
}

impl Plc {
    fn all_hang_up(&self) -> bool {
        self.units.values().all(|unit| self.state.trouble(unit.device.as_str()).hangs_up)
    }

    /// The answers to all questions in `bytes`; `None` when the connection must be closed. Late ones go their own way.
    fn answer_all(&self, framing: Framing, bytes: &mut Vec<u8>, late: &mpsc::Sender<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        loop {
            let question = match framing.take(bytes) {
                Taken::Question(question) => question,
                Taken::More => return Some(answers),
                Taken::Nonsense => return None,
            };
            match self.react(framing, &question) {
                Reaction::Answer { frame, delay } if delay.is_zero() => answers.push(frame),
                Reaction::Answer { frame, delay } => send_late(late.clone(), frame, delay),
                Reaction::Silence => {}
                Reaction::HangUp => return None,
            }
        }
    }

    fn react(&self, framing: Framing, question: &Question) -> Reaction {
        if framing.is_bus() && question.unit == 0 {
            self.units.values().for_each(|unit| drop(unit.answer(&question.pdu, &self.state)));
            return Reaction::Silence;
        }
        let Some(unit) = self.units.get(&question.unit) else {
            if framing.is_bus() {
                return Reaction::Silence;
            }
            // A gateway says so when it has no such unit (Modbus Application Protocol V1.1b3 §7, code 0B).
            let function = question.pdu.first().copied().unwrap_or(0);
            let pdu = exception(function, ExceptionCode::GatewayTargetDevice.into());
            return Reaction::Answer { frame: framing.frame(question, &pdu, None), delay: Duration::ZERO };
        };
        let trouble = self.state.trouble(unit.device.as_str());
        match trouble {
            Trouble { is_silent: true, .. } => Reaction::Silence,
            // A serial line has nothing to hang up.
            Trouble { hangs_up: true, .. } => Reaction::HangUp,
            Trouble { delay, wire, .. } => Reaction::Answer { frame: self.frame(framing, question, unit, wire), delay },
        }
    }

    fn frame(&self, framing: Framing, question: &Question, unit: &Unit, wire: Option<WireFault>) -> Vec<u8> {
        let right = |wrong| framing.frame(question, &unit.answer(&question.pdu, &self.state), wrong);
        match wire {
            None => right(None),
            Some(WireFault::Wrong(wrong)) => right(Some(wrong)),
            Some(WireFault::Garbage) => GARBAGE.to_vec(),
            Some(WireFault::Half) => {
                let mut frame = right(None);
                frame.truncate(frame.len() / 2);
                frame
            }
            Some(WireFault::Exception(code)) => {
                let function = question.pdu.first().copied().unwrap_or(0);
                framing.frame(question, &exception(function, code), None)
            }
        }
    }
}

/// A connection that ended meanwhile, or has too many late answers already, does without.
fn send_late(late: mpsc::Sender<Vec<u8>>, frame: Vec<u8>, delay: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        drop(late.try_send(frame));
    });
}
