//! From device descriptions to what one link needs: all devices on one line, each with its unit and plan.

use crate::transport::check_tls;
use crate::{Plan, PlanFault, plan};
use tally_model::{DeviceId, DeviceSpec, Endpoint, ModbusLine, Tls};

/// A checked link.
#[derive(Debug)]
pub(crate) struct LinkConfig {
    pub line: ModbusLine,
    pub tls: Tls,
    /// In file order.
    pub units: Vec<(DeviceSpec, Plan)>,
}

impl LinkConfig {
    pub(crate) fn try_new(devices: Vec<DeviceSpec>) -> Result<Self, PlanFault> {
        let first = devices.first().ok_or(PlanFault::NoDevices)?;
        let (line, _) = modbus_endpoint(&first.id, &first.endpoint)?;
        let (line, tls) = (line.clone(), first.security.tls.clone());
        if matches!(line, ModbusLine::Tls { .. }) {
            check_tls(&tls).map_err(|fault| PlanFault::Tls { device: first.id.clone(), reason: fault.to_string() })?;
        }
        let mut units = Vec::with_capacity(devices.len());
        for device in devices {
            let (found, _) = modbus_endpoint(&device.id, &device.endpoint)?;
            if *found != line {
                let (found, link) = (found.to_string(), line.to_string());
                return Err(PlanFault::OtherLine { device: device.id, found, link });
            }
            let plan = plan(&device)?;
            units.push((device, plan));
        }
        Ok(Self { line, tls, units })
    }
}

/// Line and unit of a Modbus device.
pub(crate) fn modbus_endpoint<'e>(
    device: &DeviceId,
    endpoint: &'e Endpoint,
) -> Result<(&'e ModbusLine, u8), PlanFault> {
    match endpoint {
        Endpoint::Modbus { line, unit } => Ok((line, *unit)),
        other => Err(PlanFault::Endpoint { device: device.clone(), endpoint: other.to_string() }),
    }
}
