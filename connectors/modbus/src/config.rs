//! From device descriptions to what one link needs: all devices on one host and port, each with its unit and plan.

use crate::{Plan, PlanFault, plan};
use tally_model::{DeviceId, DeviceSpec, Endpoint};

/// A checked link.
#[derive(Debug)]
pub(crate) struct LinkConfig {
    pub host: String,
    pub port: u16,
    /// In file order.
    pub units: Vec<(DeviceSpec, Plan)>,
}

impl LinkConfig {
    pub(crate) fn try_new(devices: Vec<DeviceSpec>) -> Result<Self, PlanFault> {
        let first = devices.first().ok_or(PlanFault::NoDevices)?;
        let (host, port, _) = modbus_endpoint(&first.id, &first.endpoint)?;
        let (host, link) = (host.to_owned(), format!("{host}:{port}"));
        let mut units = Vec::with_capacity(devices.len());
        for device in devices {
            let (device_host, device_port, _) = modbus_endpoint(&device.id, &device.endpoint)?;
            if (device_host, device_port) != (host.as_str(), port) {
                return Err(PlanFault::OtherHost {
                    found: format!("{device_host}:{device_port}"),
                    device: device.id,
                    link,
                });
            }
            let plan = plan(&device)?;
            units.push((device, plan));
        }
        Ok(Self { host, port, units })
    }
}

/// Host, port and unit of a Modbus device.
pub(crate) fn modbus_endpoint<'e>(device: &DeviceId, endpoint: &'e Endpoint) -> Result<(&'e str, u16, u8), PlanFault> {
    match endpoint {
        Endpoint::Modbus { line: tally_model::ModbusLine::Tcp { host, port }, unit } => Ok((host, *port, *unit)),
        other => Err(PlanFault::Endpoint { device: device.clone(), endpoint: other.to_string() }),
    }
}
