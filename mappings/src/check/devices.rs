//! Devices: id, data sheet, points, and what other rooms say of timing, endpoint and login.

use super::checks::DeviceChecks;
use super::modbus::IDENTIFY;
use super::modbus::ModbusLayer;
use super::points::{Layer, PointLayers, Protocol};
use super::{Checker, Outlines, SheetState, Site};
use crate::load::sheet_candidates;
use crate::written::{DeviceWritten, PlantFile, PointWritten};
use std::collections::{BTreeMap, BTreeSet};
use tally_model::{AddressBase, DeviceId, DeviceSpec, PointId, PointSpec, Unit, ValueKind};

/// What triggers and tests need to know of a device.
#[derive(Debug)]
pub(crate) struct Outline {
    pub id: DeviceId,
    pub points: BTreeMap<PointId, (Option<ValueKind>, Unit)>,
    /// Whether all its points could be read; otherwise nobody is told that a point is unknown.
    pub complete: bool,
    /// What is checked before a trigger over its readings is sealed.
    pub checks: DeviceChecks,
}

impl Checker<'_> {
    pub(super) fn devices(
        &mut self,
        written: &PlantFile,
        root: &Site<'_>,
        sheets: &[SheetState<'_>],
    ) -> (Vec<DeviceSpec>, Outlines) {
        let list = root.key("devices");
        let devices = written.devices.as_deref().unwrap_or_default();
        if written.devices.is_some() && devices.is_empty() {
            self.report(list.fault("a plant has at least one device"));
        }
        let (mut specs, mut outlines): (Vec<(DeviceSpec, Site<'_>)>, _) = (Vec::new(), Outlines::new());
        for (index, device) in devices.iter().enumerate() {
            let sheet = sheets.get(index).copied().unwrap_or(SheetState::Unused);
            let site = list.item(index);
            let (spec, outline) = self.device(device, &site, sheet);
            self.all_devices_named &= outline.is_some();
            if let Some(outline) = outline {
                if outlines.contains_key(outline.id.as_str()) {
                    let fault = site.key("id").fault("another device has this id").found(format!("`{}`", outline.id));
                    self.report(fault.hint("ids are unique in the plant"));
                }
                outlines.entry(outline.id.to_string()).or_insert(outline);
            }
            specs.extend(spec.map(|spec| (spec, site)));
        }
        self.shared_units(&specs);
        self.shared_lines(&specs);
        (specs.into_iter().map(|(spec, _)| spec).collect(), outlines)
    }

    fn device(
        &mut self,
        written: &DeviceWritten,
        site: &Site<'_>,
        sheet: SheetState<'_>,
    ) -> (Option<DeviceSpec>, Option<Outline>) {
        let id = written.id.as_deref().and_then(|id| self.id(&site.key("id"), id));
        let endpoint = written.connect.as_deref().and_then(|text| self.endpoint(&site.key("connect"), text));
        let protocol = match &endpoint {
            Some(endpoint) => Some(Protocol::of(endpoint)),
            None => written.connect.as_deref().and_then(Protocol::guess),
        };
        self.sheet_use(written, site, sheet, protocol);
        let layers = self.layers(written, site, sheet);
        let (points, kinds, templates) = self.points(&layers, protocol, written);
        self.overlaps(&points);
        let frame = self.frame(written, site, sheet, protocol);
        let mut security = self.security(written.security.as_ref(), &site.key("security"), protocol);
        security.tls = self.tls(written.security.as_ref(), &site.key("security"), endpoint.as_ref());
        let mut modbus = self.modbus_options(written, site, sheet, protocol);
        self.reachable(&points, &modbus);
        let opcua = self.opcua(written.opcua.as_ref(), &site.key("opcua"), protocol);
        let from_sheet = match sheet {
            SheetState::Read(sheet) => sheet.written.mqtt.as_ref(),
            _ => None,
        };
        let mqtt = self.mqtt(written.mqtt.as_ref(), &site.key("mqtt"), from_sheet, protocol);
        let complete = layers.len() == kinds.len() + templates.len() && self.points_readable(site, sheet);
        let points: Vec<PointSpec> = points.into_iter().map(|(point, _)| point).collect();
        self.points_of_sealed(&mqtt, &points, &site.key("mqtt"));
        let mut checks = self.device_checks(written, site, &layers, &points, &kinds, (complete, frame.every));
        if self.identity(written.checks.as_ref(), &site.key("checks"), protocol, &mut checks)
            && protocol == Some(Protocol::Modbus)
        {
            modbus.identify = modbus.identify.or(Some(IDENTIFY));
        }
        let outline = id.clone().map(|id| Outline { id, points: kinds, complete, checks });
        let spec = id.zip(endpoint).map(|(id, endpoint)| DeviceSpec {
            opcua,
            modbus,
            mqtt,
            templates,
            ..frame.device(id, endpoint, security, points)
        });
        (spec, outline)
    }

    fn modbus_options(
        &mut self,
        written: &DeviceWritten,
        site: &Site<'_>,
        sheet: SheetState<'_>,
        protocol: Option<Protocol>,
    ) -> tally_model::ModbusOptions {
        let plant = ModbusLayer { written: written.modbus.as_ref(), site: &site.key("modbus") };
        let (from_sheet, sheet_site) = match sheet {
            SheetState::Read(sheet) => (sheet.written.modbus.as_ref(), Site::root(sheet.document).key("modbus")),
            _ => (None, site.key("modbus")),
        };
        self.modbus(plant, ModbusLayer { written: from_sheet, site: &sheet_site }, protocol)
    }

    /// Whether the lists of points themselves could be read.
    fn points_readable(&self, site: &Site<'_>, sheet: SheetState<'_>) -> bool {
        let readable =
            |site: Site<'_>| !self.known.iter().any(|known| known.key == site.path && known.file == site.document.file);
        match sheet {
            SheetState::Unreadable => false,
            SheetState::Unused => readable(site.key("points")),
            SheetState::Read(sheet) => {
                readable(site.key("points")) && readable(Site::root(sheet.document).key("points"))
            }
        }
    }

    fn id(&mut self, site: &Site<'_>, text: &str) -> Option<DeviceId> {
        DeviceId::try_new(text)
            .map_err(|fault| self.report(site.fault(fault.to_string()).found(format!("`{text}`"))))
            .ok()
    }

    /// `use`, `prefix` and `offset` fit together and fit the protocol.
    fn sheet_use(
        &mut self,
        written: &DeviceWritten,
        site: &Site<'_>,
        sheet: SheetState<'_>,
        protocol: Option<Protocol>,
    ) {
        if let (Some(name), SheetState::Unreadable) = (&written.sheet, sheet) {
            let looked = sheet_candidates(self.plant, name);
            if !looked.iter().any(|path| path.is_file()) {
                let looked: Vec<_> = looked.iter().map(|path| path.display().to_string()).collect();
                let fault = site.key("use").fault("there is no such data sheet").found(format!("`{name}`"));
                self.report(fault.hint(format!("looked for {}", looked.join(", "))));
            }
        }
        for (key, written_key) in [("prefix", written.prefix.is_some()), ("offset", written.offset.is_some())] {
            if written_key && written.sheet.is_none() {
                let fault =
                    site.key(key).fault(format!("`{key}` changes the addresses of a data sheet, and there is none"));
                self.report(fault.hint("write the addresses themselves, or name a data sheet under `use:`"));
            }
        }
        if let (Some(protocol), Some(_)) = (protocol, &written.sheet) {
            if written.prefix.is_some() && !matches!(protocol, Protocol::OpcUa | Protocol::Mqtt) {
                let fault = site.key("prefix").fault("a prefix belongs to node ids and topics");
                self.report(fault.hint("register addresses are moved with `offset:`"));
            }
            if written.offset.is_some() && protocol != Protocol::Modbus {
                let fault = site.key("offset").fault("an offset belongs to register addresses");
                self.report(fault.hint("node ids and topics are moved with `prefix:`"));
            }
        }
    }

    /// The points with what the plant and what the sheet says of each; the sheet's order first.
    fn layers<'s>(
        &mut self,
        written: &'s DeviceWritten,
        site: &Site<'s>,
        sheet: SheetState<'s>,
    ) -> Vec<PointLayers<'s>> {
        let mut layers: Vec<PointLayers<'s>> = Vec::new();
        if let SheetState::Read(sheet) = sheet {
            let root = Site::root(sheet.document);
            let points = sheet.written.points.as_deref().unwrap_or_default();
            let base = sheet.written.modbus.as_ref().and_then(|modbus| modbus.base).unwrap_or_default();
            for layer in self.layer(points, &root.key("points"), base) {
                layers.push(PointLayers { plant: None, sheet: Some(layer) });
            }
        }
        let base = written.modbus.as_ref().and_then(|modbus| modbus.base).unwrap_or_default();
        for layer in self.layer(&written.points, &site.key("points"), base) {
            let same =
                layers.iter_mut().find(|known| known.id().is_some() && known.id() == layer.written.id.as_deref());
            match same {
                Some(known) => known.plant = Some(layer),
                None => layers.push(PointLayers { plant: Some(layer), sheet: None }),
            }
        }
        if layers.is_empty() && matches!(sheet, SheetState::Unused | SheetState::Read(_)) {
            self.report(site.key("points").fault("a device has at least one point"));
        }
        layers
    }

    /// The points of one file; a repeated id is reported and left out.
    fn layer<'s>(&mut self, points: &'s [PointWritten], site: &Site<'s>, base: AddressBase) -> Vec<Layer<'s>> {
        let mut seen = BTreeSet::new();
        let mut layer = Vec::new();
        for (index, written) in points.iter().enumerate() {
            let site = site.item(index);
            match &written.id {
                Some(id) if !seen.insert(id.as_str()) => {
                    let fault =
                        site.key("id").fault("another point of the device has this id").found(format!("`{id}`"));
                    self.report(fault.hint("ids are unique in a device"));
                }
                _ => layer.push(Layer { written, site, base }),
            }
        }
        layer
    }
}
