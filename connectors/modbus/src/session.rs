//! A line held by hand: read what one asks for, without a mapping. For `tally probe` and whoever looks at a device that
//! nobody has described yet. It cannot write.

use crate::error::Failure;
use crate::identity::{Identification, identify};
use crate::link::connection::{Connection, Manners};
use crate::link::desk::words;
use crate::transport::check_tls;
use crate::{CONNECT_TIME_MAX, read_request};
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::{ModbusLine, ModbusOptions, ModbusTable, Tls};

/// A line with one unit on it. Connects with the first question, and again whenever it must.
pub struct Session {
    connection: Connection,
    manners: Manners,
}

impl Session {
    /// A session with one unit. Connects to nothing yet.
    ///
    /// # Errors
    /// [`LinkFault::Untrusted`] when the line is TLS and its certificates cannot be used.
    pub fn new(line: &ModbusLine, unit: u8, tls: &Tls, timeout: Duration) -> Result<Self, LinkFault> {
        if matches!(line, ModbusLine::Tls { .. }) {
            check_tls(tls).map_err(|fault| LinkFault::Untrusted(fault.to_string()))?;
        }
        let connection = Connection::new(line.clone(), tls.clone(), timeout.min(CONNECT_TIME_MAX));
        Ok(Self { connection, manners: Manners { unit, timeout, options: ModbusOptions::default() } })
    }

    /// Reads registers, or bits as words of 0 and 1.
    ///
    /// # Errors
    /// [`LinkFault`]; [`LinkFault::Refused`] carries the device's exception.
    pub async fn read(&mut self, table: ModbusTable, start: u16, count: u16) -> Result<Vec<u16>, LinkFault> {
        let answer = self.connection.ask(&self.manners, &read_request(table, start, count)).await;
        Ok(words(answer.map_err(Failure::into_link_fault)?, table, count))
    }

    /// What the device says it is (function code 43/14).
    ///
    /// # Errors
    /// [`LinkFault::Refused`] by devices that know no such function, which are many.
    pub async fn identify(&mut self) -> Result<Identification, LinkFault> {
        identify(&mut self.connection, &self.manners).await.map_err(Failure::into_link_fault)
    }
}
