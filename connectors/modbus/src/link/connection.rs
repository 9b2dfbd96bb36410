//! One TCP connection at a time, and one question at a time on it. Dropped after anything but a clean answer.

use crate::Request;
use crate::error::Failure;
use std::time::Duration;
use tally_model::ModbusTable;
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};
use tokio_modbus::{Request as WireRequest, Response};

pub(super) struct Connection {
    host: String,
    port: u16,
    connect_time_max: Duration,
    /// Gone after every failure that is not an exception. Transaction ids start anew with each one.
    open: Option<Open>,
}

struct Open {
    context: Context,
    /// Whether this connection has carried an answer already.
    has_worked: bool,
}

impl Connection {
    pub(super) fn new(host: String, port: u16, connect_time_max: Duration) -> Self {
        Self { host, port, connect_time_max, open: None }
    }

    /// Connects when there is no connection.
    pub(super) async fn ensure(&mut self) -> Result<(), Failure> {
        if self.open.is_none() {
            let context = self.connect().await?;
            self.open = Some(Open { context, has_worked: false });
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Context, Failure> {
        let place = || format!("{}:{}", self.host, self.port);
        // A URL writes IPv6 addresses in brackets (RFC 3986 §3.2.2), the resolver knows them without.
        let connecting = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port));
        let stream = tokio::time::timeout(self.connect_time_max, connecting)
            .await
            .map_err(|_| {
                Failure::Line(format!("{} did not take the connection within {:?}", place(), self.connect_time_max))
            })?
            .map_err(|fault| Failure::Line(format!("cannot connect to {}: {fault}", place())))?;
        // A question of 12 bytes must not wait for company (TCP §4.3.2).
        if let Err(fault) = stream.set_nodelay(true) {
            tracing::debug!(%fault, "cannot switch off Nagle's algorithm, answers come later");
        }
        Ok(tcp::attach(stream))
    }

    /// Asks, once more on a fresh connection when a connection that had worked turns out to be closed.
    pub(super) async fn ask(&mut self, unit: u8, request: &Request, timeout: Duration) -> Result<Vec<u16>, Failure> {
        let had_worked = self.open.as_ref().is_some_and(|open| open.has_worked);
        match self.ask_once(unit, request, timeout).await {
            Err(Failure::Line(_)) if had_worked => self.ask_once(unit, request, timeout).await,
            result => result,
        }
    }

    async fn ask_once(&mut self, unit: u8, request: &Request, timeout: Duration) -> Result<Vec<u16>, Failure> {
        self.ensure().await?;
        let Some(open) = &mut self.open else { return Err(Failure::Line("not connected".into())) };
        open.context.set_slave(Slave(unit));
        // `Client::call`, not `Reader`: the latter asserts the length of the answer instead of returning a fault.
        let result = match tokio::time::timeout(timeout, open.context.call(wire(request))).await {
            Err(_) => {
                Err(Failure::Timeout(format!("unit {unit} did not answer {} within {timeout:?}", short(request))))
            }
            Ok(Err(fault)) => Err(Failure::from(fault)),
            Ok(Ok(Err(exception))) => Err(Failure::Exception(exception)),
            Ok(Ok(Ok(response))) => words(request, response),
        };
        open.has_worked = true;
        if result.as_ref().is_err_and(Failure::spoils_connection) {
            self.open = None;
        }
        result
    }
}

fn wire(request: &Request) -> WireRequest<'static> {
    match request.table {
        ModbusTable::Coil => WireRequest::ReadCoils(request.start, request.count),
        ModbusTable::Discrete => WireRequest::ReadDiscreteInputs(request.start, request.count),
        ModbusTable::Input => WireRequest::ReadInputRegisters(request.start, request.count),
        ModbusTable::Holding => WireRequest::ReadHoldingRegisters(request.start, request.count),
    }
}

/// The words of an answer that is exactly as long as it was asked for (App §6.1–6.4: N registers, or ⌈N/8⌉ bytes).
fn words(request: &Request, response: Response) -> Result<Vec<u16>, Failure> {
    let count = usize::from(request.count);
    let (found, expected, words) = match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            (bits.len(), count.div_ceil(8) * 8, bits.into_iter().take(count).map(u16::from).collect())
        }
        Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words) => (words.len(), count, words),
        other => return Err(Failure::Nonsense(format!("asked for {}, got {other:?}", short(request)))),
    };
    if found == expected {
        return Ok(words);
    }
    Err(Failure::Nonsense(format!("asked for {}, got {found} instead of {expected}", short(request))))
}

fn short(request: &Request) -> String {
    let what = if request.table.is_bits() { "bits" } else { "registers" };
    format!("{} {what} from {}:{}", request.count, request.table.word(), request.start)
}
