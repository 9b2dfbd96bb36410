//! How often and in which portions a device is read: the plant's word, else the sheet's, else the default.

use super::points::Protocol;
use super::{Checker, SheetState, Site};
use crate::written::DeviceWritten;
use std::time::Duration;
use tally_model::{DeviceId, DeviceSpec, Endpoint, PointSpec, Security};

const EVERY_DEFAULT: Duration = Duration::from_secs(1);
/// A device that is read more often than this is a case for its own high-speed acquisition, not for polling.
const EVERY_LEAST: Duration = Duration::from_millis(10);
/// A device that is read less often than this cannot be told from one that is dead.
const EVERY_MOST: Duration = Duration::from_secs(3600);
const TIMEOUT_LEAST: Duration = Duration::from_millis(10);
const TIMEOUT_MOST: Duration = Duration::from_secs(60);
const TIMEOUT_DEFAULT_LEAST: Duration = Duration::from_secs(1);
const TIMEOUT_DEFAULT_MOST: Duration = Duration::from_secs(5);
/// Modbus Application Protocol V1.1b3 §6.3: quantity of registers 1 to 125.
const REGISTERS_MOST: u16 = 125;
const GAP_DEFAULT: u16 = 8;

/// Timing and request sizes of a device.
pub(super) struct Frame {
    pub every: Duration,
    timeout: Duration,
    registers_per_request_max: u16,
    gap_max: u16,
}

impl Frame {
    pub fn device(self, id: DeviceId, endpoint: Endpoint, security: Security, points: Vec<PointSpec>) -> DeviceSpec {
        let Self { every, timeout, registers_per_request_max, gap_max } = self;
        let device = DeviceSpec::new(id, endpoint);
        DeviceSpec { security, every, timeout, registers_per_request_max, gap_max, points, ..device }
    }
}

impl Checker<'_> {
    /// Timing and request sizes: the plant's word, else the sheet's, else the default.
    pub(super) fn frame(
        &mut self,
        written: &DeviceWritten,
        site: &Site<'_>,
        sheet: SheetState<'_>,
        protocol: Option<Protocol>,
    ) -> Frame {
        let (sheet, sheet_site) = match sheet {
            SheetState::Read(sheet) => (Some(sheet.written), Site::root(sheet.document)),
            _ => (None, site.clone()),
        };
        let text = |plant: &Option<String>, from_sheet: Option<&Option<String>>, key: &str| match (plant, from_sheet) {
            (Some(text), _) => Some((text.clone(), site.key(key))),
            (None, Some(Some(text))) => Some((text.clone(), sheet_site.key(key))),
            _ => None,
        };
        let every = text(&written.every, sheet.map(|sheet| &sheet.every), "every")
            .and_then(|(text, site)| self.duration(&site, &text, EVERY_LEAST, EVERY_MOST))
            .unwrap_or(EVERY_DEFAULT);
        let timeout = text(&written.timeout, sheet.map(|sheet| &sheet.timeout), "timeout")
            .and_then(|(text, site)| self.duration(&site, &text, TIMEOUT_LEAST, TIMEOUT_MOST))
            .unwrap_or(every.clamp(TIMEOUT_DEFAULT_LEAST, TIMEOUT_DEFAULT_MOST));
        for (key, written) in
            [("registers_per_request_max", written.registers_per_request_max), ("gap_max", written.gap_max)]
        {
            if written.is_some() && protocol.is_some_and(|protocol| protocol != Protocol::Modbus) {
                self.report(site.key(key).fault(format!("`{key}` is for Modbus devices")).hint("remove it"));
            }
        }
        let registers = sheet.and_then(|sheet| sheet.registers_per_request_max);
        let registers_per_request_max = written.registers_per_request_max.or(registers).unwrap_or(REGISTERS_MOST);
        let gap_max = written.gap_max.or(sheet.and_then(|sheet| sheet.gap_max)).unwrap_or(GAP_DEFAULT);
        Frame { every, timeout, registers_per_request_max, gap_max }
    }
}
