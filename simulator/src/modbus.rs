//! Modbus TCP server of simulated devices: all units on one host and port, with faults on demand.
//!
//! Read-only: function codes 1 to 4; everything else gets exception 01. Registers and bits between the signals of a
//! table read as zero, outside them exception 02 answers, as on most PLCs. A signal of bad quality answers
//! exception 04, because Modbus has no other word for it. A silenced device does not answer; its TCP connection stays.

mod encode;
mod spoil;

use crate::{PlantState, SignalConfig, SimError, WireFault};
use encode::write_signal;
use spoil::Spoiled;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tally_model::{Address, DeviceId, ModbusTable, Quality};
use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_util::sync::CancellationToken;

/// Several devices behind one socket, like a gateway.
pub(crate) struct ModbusServerConfig {
    pub listener: TcpListener,
    /// Unit identifier to device.
    pub units: BTreeMap<u8, (DeviceId, Vec<SignalConfig>)>,
}

/// Serves until `stop` is cancelled.
pub(crate) async fn serve_modbus(
    config: ModbusServerConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let plc = Plc { units: Arc::new(config.units), state };
    let on_connected = |stream: TcpStream, _| {
        let transport = Spoiled::new(stream, plc.clone());
        let service = plc.clone();
        async move { Ok(Some((service, transport))) }
    };
    // A connection that breaks or sends nonsense ends; it says nothing about the others.
    let on_fault = |fault| tracing::debug!(%fault, "a Modbus connection ended");
    let server = Server::new(config.listener);
    match stop.run_until_cancelled(server.serve(&on_connected, on_fault)).await {
        Some(Err(fault)) => Err(SimError::Modbus(fault.to_string())),
        _ => Ok(()),
    }
}

#[derive(Clone)]
struct Plc {
    units: Arc<BTreeMap<u8, (DeviceId, Vec<SignalConfig>)>>,
    state: PlantState,
}

type Answer = Result<Option<Response>, ExceptionCode>;

impl Service for Plc {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let plc = self.clone();
        Box::pin(async move { plc.answer(request.slave, &request.request).await })
    }
}

impl Plc {
    async fn answer(&self, unit: u8, request: &Request<'static>) -> Answer {
        // A gateway says so when it has no such unit (Modbus Application Protocol V1.1b3 §7, code 0B).
        let (device, signals) = self.units.get(&unit).ok_or(ExceptionCode::GatewayTargetDevice)?;
        match self.state.wire_fault(device.as_str()) {
            Some(WireFault::Exception(code)) => return Err(ExceptionCode::new(code)),
            Some(WireFault::Delay(time)) => tokio::time::sleep(time).await,
            Some(WireFault::Garbage | WireFault::Half) | None => {}
        }
        if self.state.is_silent(device.as_str()) {
            return Ok(None);
        }
        let read = |table, start, count| self.read(device, signals, table, start, count);
        let bits = |table, start, count| -> Result<Vec<bool>, ExceptionCode> {
            Ok(read(table, start, count)?.into_iter().map(|word| word != 0).collect())
        };
        let response = match *request {
            Request::ReadCoils(start, count) => Response::ReadCoils(bits(ModbusTable::Coil, start, count)?),
            Request::ReadDiscreteInputs(start, count) => {
                Response::ReadDiscreteInputs(bits(ModbusTable::Discrete, start, count)?)
            }
            Request::ReadInputRegisters(start, count) => {
                Response::ReadInputRegisters(read(ModbusTable::Input, start, count)?)
            }
            Request::ReadHoldingRegisters(start, count) => {
                Response::ReadHoldingRegisters(read(ModbusTable::Holding, start, count)?)
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        };
        Ok(Some(response))
    }

    /// The words from `start`; a bit is a word of 0 or 1.
    fn read(
        &self,
        device: &DeviceId,
        signals: &[SignalConfig],
        table: ModbusTable,
        start: u16,
        count: u16,
    ) -> Result<Vec<u16>, ExceptionCode> {
        let count_max = if table.is_bits() { 2000 } else { 125 };
        if count == 0 || count > count_max {
            return Err(ExceptionCode::IllegalDataValue);
        }
        let asked = u32::from(start)..u32::from(start) + u32::from(count);
        let mut words = vec![0; usize::from(count)];
        let (mut lowest, mut end) = (u32::MAX, 0);
        for signal in signals {
            let Address::Modbus { table: of_signal, offset, .. } = signal.address else { continue };
            if of_signal != table {
                continue;
            }
            let place = u32::from(offset)..u32::from(offset) + u32::from(signal.width());
            (lowest, end) = (lowest.min(place.start), end.max(place.end));
            if place.start < asked.end && asked.start < place.end {
                let view = self.state.view(device.as_str(), signal.id.as_str());
                let view =
                    view.filter(|view| view.quality != Quality::Bad).ok_or(ExceptionCode::ServerDeviceFailure)?;
                write_signal(signal, &view.value, start, &mut words);
            }
        }
        if asked.start < lowest || asked.end > end {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        Ok(words)
    }
}
