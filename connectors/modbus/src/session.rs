//! A line held by hand: read what one asks for, without a mapping. For `tally probe` and whoever looks at a device that
//! nobody has described yet.

use crate::link::connection::{Connection, Manners};
use crate::link::desk::words;
use crate::write::{Identification, identify};
use crate::{CONNECT_TIME_MAX, PlanFault, read_request};
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::{DeviceSpec, Endpoint, ModbusTable};

/// A line with one unit on it. Connects with the first question, and again whenever it must.
pub struct Session {
    connection: Connection,
    manners: Manners,
}

impl Session {
    /// A session with `device`; its points do not matter. Connects to nothing yet.
    ///
    /// # Errors
    /// [`PlanFault::Endpoint`] when it is not reached by Modbus.
    pub fn new(device: &DeviceSpec) -> Result<Self, PlanFault> {
        let Endpoint::Modbus { line, unit } = &device.endpoint else {
            let endpoint = device.endpoint.to_string();
            return Err(PlanFault::Endpoint { device: device.id.clone(), endpoint });
        };
        let connect_time_max = device.timeout.clamp(Duration::from_secs(1), CONNECT_TIME_MAX);
        let connection = Connection::new(line.clone(), device.security.tls.clone(), connect_time_max);
        Ok(Self { connection, manners: Manners::of(device, *unit) })
    }

    /// Reads registers, or bits as words of 0 and 1.
    ///
    /// # Errors
    /// [`LinkFault`]; [`LinkFault::Refused`] carries the device's exception.
    pub async fn read(&mut self, table: ModbusTable, start: u16, count: u16) -> Result<Vec<u16>, LinkFault> {
        let answer = self.connection.ask(&self.manners, &read_request(table, start, count)).await;
        Ok(words(answer.map_err(crate::error::Failure::into_link_fault)?, table, count))
    }

    /// What the device says it is (function code 43/14).
    ///
    /// # Errors
    /// [`LinkFault::Refused`] by devices that know no such function, which are many.
    pub async fn identify(&mut self) -> Result<Identification, LinkFault> {
        identify(&mut self.connection, &self.manners).await.map_err(crate::error::Failure::into_link_fault)
    }
}
