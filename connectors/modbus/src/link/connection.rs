//! One open line at a time, and one question at a time on it.
//!
//! What happens after an answer that did not come, or made no sense:
//!
//! | line | the next question waits until |
//! |---|---|
//! | TCP, TLS | a new connection is open; transaction ids start anew, the old connection's answers go nowhere |
//! | RTU, ASCII on a serial line | late answers had their time (`late_max` and 3.5 characters) and were thrown away |
//! | RTU, ASCII over TCP | the same, and a new connection is open |
//!
//! Without that a late answer would be taken for the next one: RTU and ASCII answers do not say what they answer.

use crate::error::Failure;
use crate::transport::{Leftover, Port, characters, frame_pause};
use std::time::Duration;
use tally_model::{DeviceSpec, LinkProtocol, LinkSecurity, ModbusLine, ModbusOptions, Tls};
use tokio::time::Instant;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{ExceptionCode, Request, Response};

/// Wait before a busy device is asked again, when its `pause` is shorter.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Connection {
    line: ModbusLine,
    tls: Tls,
    connect_time_max: Duration,
    open: Option<Open>,
    /// How the connection that was opened last is secured.
    security: LinkSecurity,
    /// Connections opened so far.
    opened: u64,
    /// When the last answer (or its absence) was over.
    last: Instant,
    /// Until when answers nobody waits for any more may still come.
    late_until: Option<Instant>,
}

struct Open {
    context: Context,
    port: Port,
    /// Whether this connection has carried an answer already.
    has_worked: bool,
}

/// How one unit wants to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Manners {
    pub(crate) unit: u8,
    /// How long an answer may take, not counting its time on a serial line.
    pub(crate) timeout: Duration,
    pub(crate) options: ModbusOptions,
}

impl Manners {
    pub(crate) fn of(device: &DeviceSpec, unit: u8) -> Self {
        Self { unit, timeout: device.timeout, options: device.modbus.clone() }
    }

    fn late_max(&self) -> Duration {
        self.options.late_max.unwrap_or(self.timeout)
    }
}

impl Connection {
    pub(crate) fn new(line: ModbusLine, tls: Tls, connect_time_max: Duration) -> Self {
        let security = LinkSecurity::none(LinkProtocol::Modbus);
        Self { line, tls, connect_time_max, open: None, security, opened: 0, last: Instant::now(), late_until: None }
    }

    /// How the connection that was opened last is, or was, secured.
    pub(crate) const fn security(&self) -> &LinkSecurity {
        &self.security
    }

    /// Connections opened so far: another number is another connection, and perhaps another device behind it.
    pub(crate) const fn opened(&self) -> u64 {
        self.opened
    }

    /// Connects when there is no connection. Also waits for late answers and throws them away.
    pub(crate) async fn ensure(&mut self, manners: &Manners) -> Result<(), Failure> {
        self.settle_late().await;
        self.forget_stale(manners);
        if self.open.is_none() {
            let port = Port::open(&self.line, &self.tls, self.connect_time_max).await?;
            // Frames that were on their way before we came are nobody's answer.
            if !self.line.has_transaction_ids() {
                port.drain(Instant::now() + self.frame_pause(), self.frame_pause()).await;
            }
            tokio::time::sleep(manners.options.pause_after_connect).await;
            self.security.clone_from(port.security());
            self.opened += 1;
            self.open = Some(Open { context: attach(&self.line, &port), port, has_worked: false });
            self.last = Instant::now();
        }
        Ok(())
    }

    /// Reads: once more on a fresh connection when a connection that had worked turns out to be closed, and again
    /// after a pause when the device says that it is busy.
    pub(crate) async fn ask(&mut self, manners: &Manners, request: &Request<'_>) -> Result<Response, Failure> {
        let mut busy_left = manners.options.busy_retries;
        loop {
            let had_worked = self.open.as_ref().is_some_and(|open| open.has_worked);
            let answer = match self.ask_once(manners, request).await {
                Err(Failure::Line(_)) if had_worked => self.ask_once(manners, request).await,
                answer => answer,
            };
            match answer {
                Err(failure) if busy_left > 0 && failure.is_busy() => {
                    busy_left -= 1;
                    tokio::time::sleep(manners.options.pause.max(BUSY_PAUSE)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Asks once. Whatever goes wrong, the next question finds a line on which no answer to this one can come.
    pub(crate) async fn ask_once(&mut self, manners: &Manners, request: &Request<'_>) -> Result<Response, Failure> {
        self.ensure(manners).await?;
        tokio::time::sleep_until(self.pause_end(manners)).await;
        let time_on_line = self.time_on_line(bytes_both_ways(request));
        let patience = manners.timeout + time_on_line;
        let late_max = manners.late_max() + time_on_line + self.frame_pause();
        let Some(open) = &mut self.open else { return Err(Failure::Line("not connected".into())) };
        open.context.set_slave(Slave(manners.unit));
        // From here to the answer the line is spoiled, also when the caller drops us half-way.
        self.late_until = Some(Instant::now() + patience + late_max);
        // `Client::call`, not `Reader`: the latter asserts the length of the answer instead of returning a fault.
        let answer = match tokio::time::timeout(patience, open.context.call(clone(request))).await {
            Err(_) => {
                let unit = manners.unit;
                Err(Failure::Timeout(format!("unit {unit} did not answer {} within {patience:?}", short(request))))
            }
            Ok(Err(fault)) => Err(Failure::from(fault)),
            Ok(Ok(Err(exception))) => Err(Failure::Exception(exception)),
            Ok(Ok(Ok(response))) => fits(request, response),
        };
        self.last = Instant::now();
        open.has_worked = true;
        match &answer {
            Err(Failure::Line(_)) => self.close(),
            Err(failure) if failure.spoils_connection() => self.spoil(late_max),
            _ => self.late_until = None,
        }
        answer
    }

    /// The unit may still answer what nobody waits for any more.
    fn spoil(&mut self, late_max: Duration) {
        if self.line.has_transaction_ids() {
            self.close();
            return;
        }
        self.late_until = Some(Instant::now() + late_max);
        if let Some(open) = &mut self.open {
            // The library's reader does not survive a frame that makes no sense.
            open.context = attach(&self.line, &open.port);
        }
    }

    /// Throws away late answers until none can come any more.
    async fn settle_late(&mut self) {
        let Some(until) = self.late_until else { return };
        if self.line.has_transaction_ids() {
            self.close();
            return;
        }
        if let Some(open) = &self.open {
            let found = open.port.drain(until, self.frame_pause()).await;
            if found != Leftover::Bytes(0) {
                tracing::debug!(line = %self.line, ?found, "threw away what came late");
            }
            // A dead connection through a gateway looks like a silent unit: start anew.
            if self.line.serial().is_none() || found == Leftover::Closed {
                self.open = None;
            }
        } else {
            tokio::time::sleep_until(until).await;
        }
        self.late_until = None;
    }

    /// Closes a connection that rested longer than the device likes, or that the other side closed meanwhile.
    fn forget_stale(&mut self, manners: &Manners) {
        let Some(open) = &self.open else { return };
        let is_too_old = manners.options.idle_max.is_some_and(|idle_max| self.last.elapsed() > idle_max);
        if is_too_old || open.port.discard_waiting() == Leftover::Closed {
            self.close();
        }
    }

    /// The end of the silence before the next question: between frames on the line, and as long as the device wants.
    fn pause_end(&self, manners: &Manners) -> Instant {
        self.last + self.frame_pause().max(manners.options.pause)
    }

    fn close(&mut self) {
        self.open = None;
        if self.line.has_transaction_ids() {
            self.late_until = None;
        }
    }

    fn frame_pause(&self) -> Duration {
        self.line.serial().map_or(Duration::ZERO, frame_pause)
    }

    /// How long so many bytes take on a serial line; ASCII writes each as two characters.
    fn time_on_line(&self, bytes: u32) -> Duration {
        let per_byte = if matches!(self.line, ModbusLine::Ascii(_)) { 2 } else { 1 };
        self.line.serial().map_or(Duration::ZERO, |serial| characters(serial, bytes * per_byte))
    }
}

fn attach(line: &ModbusLine, port: &Port) -> Context {
    if line.has_transaction_ids() { tcp::attach(port.clone()) } else { rtu::attach(port.clone()) }
}

/// A request borrows what it carries; the library wants its own.
fn clone<'r>(request: &'r Request<'_>) -> Request<'r> {
    use std::borrow::Cow;
    match request {
        Request::WriteMultipleCoils(address, bits) => Request::WriteMultipleCoils(*address, Cow::Borrowed(bits)),
        Request::WriteMultipleRegisters(address, words) => {
            Request::WriteMultipleRegisters(*address, Cow::Borrowed(words))
        }
        Request::ReadWriteMultipleRegisters(from, count, to, words) => {
            Request::ReadWriteMultipleRegisters(*from, *count, *to, Cow::Borrowed(words))
        }
        other => other.clone(),
    }
}

/// Bytes of question and answer with their frames, at most.
fn bytes_both_ways(request: &Request<'_>) -> u32 {
    match request {
        Request::ReadCoils(_, count) | Request::ReadDiscreteInputs(_, count) => 16 + u32::from(*count).div_ceil(8),
        Request::ReadInputRegisters(_, count) | Request::ReadHoldingRegisters(_, count) => 16 + u32::from(*count) * 2,
        _ => 2 * 256,
    }
}

/// Holds the answer against the question: as many values as were asked for (App §6.1–6.4: N registers, or ⌈N/8⌉ bytes),
/// and the echo of exactly what was written (§6.5, 6.6, 6.11, 6.12, 6.16).
pub(crate) fn fits(request: &Request<'_>, response: Response) -> Result<Response, Failure> {
    let whole_bytes = |count: u16| usize::from(count.div_ceil(8)) * 8;
    let fits = match (request, &response) {
        (Request::ReadCoils(_, count), Response::ReadCoils(bits))
        | (Request::ReadDiscreteInputs(_, count), Response::ReadDiscreteInputs(bits)) => {
            bits.len() == whole_bytes(*count)
        }
        (Request::ReadInputRegisters(_, count), Response::ReadInputRegisters(words))
        | (Request::ReadHoldingRegisters(_, count), Response::ReadHoldingRegisters(words))
        | (Request::ReadWriteMultipleRegisters(_, count, ..), Response::ReadWriteMultipleRegisters(words)) => {
            words.len() == usize::from(*count)
        }
        (Request::WriteSingleCoil(to, on), Response::WriteSingleCoil(echo, echoed)) => (to, on) == (echo, echoed),
        (Request::WriteSingleRegister(to, word), Response::WriteSingleRegister(echo, echoed)) => {
            (to, word) == (echo, echoed)
        }
        (Request::WriteMultipleCoils(to, bits), Response::WriteMultipleCoils(echo, count)) => {
            to == echo && bits.len() == usize::from(*count)
        }
        (Request::WriteMultipleRegisters(to, words), Response::WriteMultipleRegisters(echo, count)) => {
            to == echo && words.len() == usize::from(*count)
        }
        (Request::MaskWriteRegister(to, and, or), Response::MaskWriteRegister(echo, and_echo, or_echo)) => {
            (to, and, or) == (echo, and_echo, or_echo)
        }
        (Request::ReadDeviceIdentification(..), Response::ReadDeviceIdentification(_)) => true,
        _ => false,
    };
    if fits {
        Ok(response)
    } else {
        Err(Failure::Nonsense(format!("asked for {}, got {}", short(request), got(&response))))
    }
}

fn got(response: &Response) -> String {
    match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => format!("{} bits", bits.len()),
        Response::ReadInputRegisters(words)
        | Response::ReadHoldingRegisters(words)
        | Response::ReadWriteMultipleRegisters(words) => format!("{} registers", words.len()),
        other => format!("{other:?}"),
    }
}

/// What was asked, for people.
pub(crate) fn short(request: &Request<'_>) -> String {
    match request {
        Request::ReadCoils(start, count) => format!("{count} bits from coil:{start}"),
        Request::ReadDiscreteInputs(start, count) => format!("{count} bits from discrete:{start}"),
        Request::ReadInputRegisters(start, count) => format!("{count} registers from input:{start}"),
        Request::ReadHoldingRegisters(start, count) => format!("{count} registers from holding:{start}"),
        Request::WriteSingleCoil(to, on) => format!("write {on} to coil:{to}"),
        Request::WriteSingleRegister(to, word) => format!("write {word} to holding:{to}"),
        Request::WriteMultipleCoils(to, bits) => format!("write {} bits from coil:{to}", bits.len()),
        Request::WriteMultipleRegisters(to, words) => format!("write {} registers from holding:{to}", words.len()),
        Request::MaskWriteRegister(to, and, or) => format!("write bits ({and:#06x}, {or:#06x}) of holding:{to}"),
        Request::ReadWriteMultipleRegisters(from, count, to, words) => {
            format!("write {} registers from holding:{to} and {count} registers from holding:{from}", words.len())
        }
        Request::ReadDeviceIdentification(..) => "its identification".to_owned(),
        other => format!("function {}", other.function_code()),
    }
}

impl Failure {
    /// App §7: 05 "accepted, still working on it", 06 "busy, ask again later".
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Exception(ExceptionCode::Acknowledge | ExceptionCode::ServerDeviceBusy))
    }
}
