//! Devices that play one recording, checked.

use crate::ReplayError;
use std::path::PathBuf;
use tally_model::{Address, DeviceSpec, Endpoint, PointSpec};

/// The file all devices play.
pub(crate) fn common_file(devices: &[DeviceSpec]) -> Result<PathBuf, ReplayError> {
    let first = devices.first().ok_or(ReplayError::NoDevices)?;
    for device in devices {
        if !matches!(device.endpoint, Endpoint::Replay { .. }) || device.endpoint != first.endpoint {
            return Err(ReplayError::OtherFile {
                device: device.id.clone(),
                found: device.endpoint.to_string(),
                link: first.endpoint.to_string(),
            });
        }
    }
    match &first.endpoint {
        Endpoint::Replay { file } => Ok(file.clone()),
        _ => Err(ReplayError::NoDevices),
    }
}

/// The column a point reads.
pub(crate) fn column(point: &PointSpec) -> Result<&str, ReplayError> {
    match &point.address {
        Address::Column(column) => Ok(column),
        other => Err(ReplayError::Address { point: point.id.clone(), address: other.clone() }),
    }
}
