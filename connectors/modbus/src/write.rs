//! The writing half: whoever holds a [`Writer`] can change a device. It is a type of its own so that it can be given to
//! one place only; a link made with [`crate::link`] cannot write at all.
//!
//! Orders jump the queue: the line carries them out before its next poll. They are sent at most once: a write whose
//! answer did not come may or may not have happened, and [`WriteFault::Unknown`] says so instead of trying again.

use crate::error::Failure;
use crate::identity::{Identification, identify};
use crate::link::connection::{Connection, Manners};
use crate::link::desk::words;
use crate::plan::BITS_PER_REQUEST_MAX;
use crate::read_request;
use tally_model::{DeviceId, ModbusTable};
use tokio::sync::{mpsc, oneshot};
use tokio_modbus::{Request, Response};

/// Orders that may wait for the line; more are refused, a control that is seconds late is worse than none.
pub const ORDERS_MAX: usize = 16;

/// Most bits written at once (App §6.11).
pub const WRITE_BITS_MAX: usize = 1_968;

/// Most registers written at once (App §6.12).
pub const WRITE_REGISTERS_MAX: usize = 123;

/// Most registers written at once while reading (App §6.17).
pub const READ_WRITE_REGISTERS_MAX: usize = 121;

/// What to write. Addresses are zero-based, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Function code 5: one coil.
    Coil {
        /// Which.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// Function code 6: one register.
    Register {
        /// Which.
        address: u16,
        /// What.
        word: u16,
    },
    /// Function code 15: neighbouring coils, 1 to 1,968.
    Coils {
        /// The first.
        address: u16,
        /// On or off, in address order.
        bits: Vec<bool>,
    },
    /// Function code 16: neighbouring registers, 1 to 123.
    Registers {
        /// The first.
        address: u16,
        /// What, in address order.
        words: Vec<u16>,
    },
    /// Function code 22: `word = (word & and) | (or & !and)`, in the device, in one go.
    Mask {
        /// Which register.
        address: u16,
        /// Bits that stay as they are.
        and: u16,
        /// Values of the others.
        or: u16,
    },
    /// Function code 23: writes 1 to 121 registers, then reads 1 to 125, in one go.
    ReadWrite {
        /// First register read.
        read_from: u16,
        /// How many are read.
        read_count: u16,
        /// First register written.
        address: u16,
        /// What, in address order.
        words: Vec<u16>,
    },
}

/// Why a write is not known to have happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    /// The link carries no such device.
    #[error("this line has no device `{0}`")]
    NoSuchDevice(DeviceId),
    /// It cannot be written like this. Nothing was sent.
    #[error("cannot be written: {0}")]
    Invalid(String),
    /// Too many orders wait, or the link has stopped. Nothing was sent.
    #[error("the line takes no order: {0}")]
    NotTaken(String),
    /// There is no connection. Nothing was sent.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The device answered that it does not do it.
    #[error("the device refused, exception {code:#04x}: {reason}")]
    Refused {
        /// Exception code (App §7).
        code: u8,
        /// Its meaning.
        reason: String,
    },
    /// It was sent, and nobody knows what became of it: read before trying again.
    #[error("sent, and nobody knows whether it was done: {0}")]
    Unknown(String),
}

/// The right to write to the devices of one line. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer {
    pub(crate) orders: mpsc::Sender<Order>,
}

/// One order and where its outcome goes.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) device: DeviceId,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Write(Write, oneshot::Sender<Result<Vec<u16>, WriteFault>>),
    Read(ModbusTable, u16, u16, oneshot::Sender<Result<Vec<u16>, WriteFault>>),
    Identify(oneshot::Sender<Result<Identification, WriteFault>>),
}

impl Writer {
    /// Writes, before the line's next poll. Gives the registers read by [`Write::ReadWrite`], else none.
    ///
    /// # Errors
    /// [`WriteFault`]; only [`WriteFault::Unknown`] leaves open whether the device did it.
    pub async fn write(&self, device: &DeviceId, write: Write) -> Result<Vec<u16>, WriteFault> {
        write.check().map_err(WriteFault::Invalid)?;
        self.order(device, |reply| Task::Write(write, reply)).await
    }

    /// Reads registers, or bits as words of 0 and 1, before the line's next poll: what a device holds after it was written.
    ///
    /// # Errors
    /// [`WriteFault`]; nothing is written in any case.
    pub async fn read(
        &self,
        device: &DeviceId,
        table: ModbusTable,
        start: u16,
        count: u16,
    ) -> Result<Vec<u16>, WriteFault> {
        self.order(device, |reply| Task::Read(table, start, count, reply)).await
    }

    /// Asks a device what it is (function code 43/14).
    ///
    /// # Errors
    /// [`WriteFault::Refused`] by devices that know no such function, which are many.
    pub async fn identify(&self, device: &DeviceId) -> Result<Identification, WriteFault> {
        self.order(device, Task::Identify).await
    }

    async fn order<T>(
        &self,
        device: &DeviceId,
        task: impl FnOnce(oneshot::Sender<Result<T, WriteFault>>) -> Task,
    ) -> Result<T, WriteFault> {
        let (reply, outcome) = oneshot::channel();
        let order = Order { device: device.clone(), task: task(reply) };
        self.orders.try_send(order).map_err(|fault| match fault {
            mpsc::error::TrySendError::Full(_) => WriteFault::NotTaken(format!("{ORDERS_MAX} orders wait already")),
            mpsc::error::TrySendError::Closed(_) => WriteFault::NotTaken("the link has stopped".to_owned()),
        })?;
        outcome.await.unwrap_or_else(|_| Err(WriteFault::Unknown("the link stopped meanwhile".to_owned())))
    }
}

impl Write {
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, count: usize, most: usize| match count {
            _ if (1..=most).contains(&count) => Ok(()),
            _ => Err(format!("{count} {what}, allowed are 1 to {most}")),
        };
        let ends = |address: u16, count: usize| match usize::from(address) + count {
            end if end <= 65_536 => Ok(()),
            _ => Err(format!("{count} from {address} reach beyond 65535")),
        };
        match self {
            Self::Coil { .. } | Self::Register { .. } | Self::Mask { .. } => Ok(()),
            Self::Coils { address, bits } => {
                within("bits", bits.len(), WRITE_BITS_MAX)?;
                ends(*address, bits.len())
            }
            Self::Registers { address, words } => {
                within("registers", words.len(), WRITE_REGISTERS_MAX)?;
                ends(*address, words.len())
            }
            Self::ReadWrite { read_from, read_count, address, words } => {
                within("registers to write", words.len(), READ_WRITE_REGISTERS_MAX)?;
                within("registers to read", usize::from(*read_count), 125)?;
                ends(*read_from, usize::from(*read_count))?;
                ends(*address, words.len())
            }
        }
    }

    fn request(self) -> Request<'static> {
        match self {
            Self::Coil { address, on } => Request::WriteSingleCoil(address, on),
            Self::Register { address, word } => Request::WriteSingleRegister(address, word),
            Self::Coils { address, bits } => Request::WriteMultipleCoils(address, bits.into()),
            Self::Registers { address, words } => Request::WriteMultipleRegisters(address, words.into()),
            Self::Mask { address, and, or } => Request::MaskWriteRegister(address, and, or),
            Self::ReadWrite { read_from, read_count, address, words } => {
                Request::ReadWriteMultipleRegisters(read_from, read_count, address, words.into())
            }
        }
    }
}

const _: () = assert!(WRITE_BITS_MAX < BITS_PER_REQUEST_MAX as usize, "writes carry their values in the question");

/// Carries out an order. A caller that went away gets nothing, and the order is not sent.
pub(crate) async fn carry_out(connection: &mut Connection, manners: Option<&Manners>, order: Order) {
    let Order { device, task } = order;
    match (task, manners) {
        (Task::Write(_, reply), None) => drop(reply.send(Err(WriteFault::NoSuchDevice(device)))),
        (Task::Identify(reply), None) => drop(reply.send(Err(WriteFault::NoSuchDevice(device)))),
        (Task::Read(.., reply), None) => drop(reply.send(Err(WriteFault::NoSuchDevice(device)))),
        (Task::Read(table, start, count, reply), Some(manners)) if !reply.is_closed() => {
            let answer = connection.ask(manners, &read_request(table, start, count)).await;
            drop(reply.send(answer.map(|answer| words(answer, table, count)).map_err(WriteFault::after_sending)));
        }
        (Task::Write(write, reply), Some(manners)) if !reply.is_closed() => {
            drop(reply.send(send(connection, manners, write).await));
        }
        (Task::Identify(reply), Some(manners)) if !reply.is_closed() => {
            drop(reply.send(identify(connection, manners).await.map_err(WriteFault::after_sending)));
        }
        (Task::Write(..) | Task::Read(..) | Task::Identify(_), Some(_)) => {}
    }
}

async fn send(connection: &mut Connection, manners: &Manners, write: Write) -> Result<Vec<u16>, WriteFault> {
    connection.ensure(manners).await.map_err(|failure| WriteFault::NotSent(failure.into_link_fault().to_string()))?;
    match connection.ask_once(manners, &write.request()).await.map_err(WriteFault::after_sending)? {
        Response::ReadWriteMultipleRegisters(words) => Ok(words),
        _ => Ok(Vec::new()),
    }
}

impl WriteFault {
    fn after_sending(failure: Failure) -> Self {
        match failure {
            Failure::Exception(code) => Self::Refused { code: code.into(), reason: code.to_string() },
            other => Self::Unknown(other.into_link_fault().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_standard() {
        let registers = |count: usize, address| Write::Registers { address, words: vec![0; count] }.check();
        assert!(registers(0, 0).is_err() && registers(124, 0).is_err());
        assert!(registers(123, 65_413).is_ok() && registers(123, 65_414).is_err());
        assert!(Write::Coils { address: 0, bits: vec![true; 1_968] }.check().is_ok());
        assert!(Write::Coils { address: 0, bits: vec![true; 1_969] }.check().is_err());
        let both = |write: usize, read_count| {
            Write::ReadWrite { read_from: 0, read_count, address: 0, words: vec![0; write] }.check()
        };
        assert!(both(121, 125).is_ok() && both(122, 1).is_err() && both(1, 126).is_err() && both(1, 0).is_err());
    }
}
