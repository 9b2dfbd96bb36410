//! Ids that are topics of the agent.

use super::{Checker, SheetState, Site};
use crate::names::{ReservedName, reserved_device, reserved_point};
use crate::written::{PlantFile, PointWritten};

impl Checker<'_> {
    /// No device and no point, in the plant or in a data sheet, has a name that is taken.
    pub(super) fn names(&mut self, written: &PlantFile, root: &Site<'_>, sheets: &[SheetState<'_>]) {
        for (index, device) in written.devices.iter().flatten().enumerate() {
            let site = root.key("devices").item(index);
            self.name(&site.key("id"), device.id.as_deref().and_then(reserved_device));
            self.point_names(&site.key("points"), &device.points);
        }
        for sheet in sheets {
            if let SheetState::Read(sheet) = sheet {
                let points = sheet.written.points.as_deref().unwrap_or_default();
                self.point_names(&Site::root(sheet.document).key("points"), points);
            }
        }
    }

    fn point_names(&mut self, site: &Site<'_>, points: &[PointWritten]) {
        for (index, point) in points.iter().enumerate() {
            self.name(&site.item(index).key("id"), point.id.as_deref().and_then(reserved_point));
        }
    }

    fn name(&mut self, site: &Site<'_>, reserved: Option<ReservedName>) {
        if let Some(reserved) = reserved {
            let fault = site.fault(format!("this name is taken: {reserved}")).found(format!("`{}`", reserved.name));
            self.report(fault.hint(reserved.hint));
        }
    }
}
