//! Devices: id, endpoint, data sheet, timing, login.

use super::checks::DeviceChecks;
use super::modbus::IDENTIFY;
use super::modbus::ModbusLayer;
use super::points::{Layer, PointLayers, Protocol};
use super::{Checker, Outlines, SheetState, Site};
use crate::load::sheet_candidates;
use crate::written::{DeviceWritten, PlantFile, PointWritten, SecurityWritten};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_model::{
    AddressBase, DeviceId, DeviceSpec, Endpoint, EndpointFault, OpcUaPolicy, PointId, PointSpec, Security, Unit,
    ValueKind,
};
use tally_rules::nearest_name;

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

/// Timing and request sizes of a device.
struct Frame {
    every: Duration,
    timeout: Duration,
    registers_per_request_max: u16,
    gap_max: u16,
}

impl Frame {
    fn device(self, id: DeviceId, endpoint: Endpoint, security: Security, points: Vec<PointSpec>) -> DeviceSpec {
        let Self { every, timeout, registers_per_request_max, gap_max } = self;
        let device = DeviceSpec::new(id, endpoint);
        DeviceSpec { security, every, timeout, registers_per_request_max, gap_max, points, ..device }
    }
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

    fn endpoint(&mut self, site: &Site<'_>, text: &str) -> Option<Endpoint> {
        let text = self.substitute(site, text)?;
        match Endpoint::parse(&text) {
            Ok(Endpoint::Replay { file }) => self.recording(site, &file),
            Ok(endpoint) => Some(endpoint),
            Err(fault) => {
                self.report(endpoint_fault(site, &text, &fault));
                None
            }
        }
    }

    fn recording(&mut self, site: &Site<'_>, file: &std::path::Path) -> Option<Endpoint> {
        let file = self.base.join(file);
        if !file.is_file() {
            let fault = site.fault("the recording is not there").found(format!("`{}`", file.display()));
            self.report(fault.hint("the path starts at the folder of the mapping file"));
            return None;
        }
        Some(Endpoint::Replay { file })
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

    /// Timing and request sizes: the plant's word, else the sheet's, else the default.
    fn frame(
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

    fn security(&mut self, written: Option<&SecurityWritten>, site: &Site<'_>, protocol: Option<Protocol>) -> Security {
        let Some(written) = written else { return Security::default() };
        let has_login = written.user.is_some() || written.password.is_some() || written.policy.is_some();
        let is_tls = [&written.ca, &written.pin, &written.certificate, &written.key].into_iter().any(Option::is_some);
        match protocol {
            Some(Protocol::Modbus) if is_tls && !has_login => {}
            Some(Protocol::Modbus | Protocol::Replay) => {
                let fault = site.fault("this protocol knows no login and no encryption");
                self.report(fault.hint(
                    "remove `security:`; protect the network instead, or reach a Modbus device by `modbus+tls://`",
                ));
            }
            Some(Protocol::Mqtt) if written.policy.is_some() => {
                let fault = site.key("policy").fault("`policy` is for OPC UA");
                self.report(fault.hint("remove it; a broker is reached over TLS by `mqtts://`"));
            }
            _ => {}
        }
        let password_site = site.key("password");
        let password = written.password.as_deref().and_then(|text| self.secret(&password_site, text));
        if written.user.is_none() && written.password.is_some() {
            self.report(password_site.fault("a password without a user").hint("add `user:`"));
        }
        let policy = written.policy.unwrap_or_default();
        if policy == OpcUaPolicy::None && written.password.is_some() {
            let fault = site.key("policy").fault("the password goes over the wire without encryption").warning();
            self.report(fault.hint("write `policy: best`"));
        }
        let mut security = Security { policy, user: written.user.clone(), password, ..Security::default() };
        self.opcua_login(written, site, protocol, &mut security);
        security
    }

    /// Two devices that are the same unit behind the same address are probably a copied line.
    fn shared_units(&mut self, specs: &[(DeviceSpec, Site<'_>)]) {
        for (index, (spec, site)) in specs.iter().enumerate() {
            let twin = specs[..index].iter().find(|(other, _)| other.endpoint == spec.endpoint);
            if let (Some((twin, _)), Endpoint::Modbus { .. }) = (twin, &spec.endpoint) {
                let fault =
                    site.key("connect").fault(format!("`{}` is the same Modbus unit as `{}`", spec.id, twin.id));
                self.report(fault.warning().hint("give one of them another `unit=`, or make them one device"));
            }
        }
    }
}

fn endpoint_fault(site: &Site<'_>, text: &str, fault: &EndpointFault) -> crate::Fault {
    let shown = site.fault(match fault {
        EndpointFault::NotAUrl(_, reason) => format!("not an address: {reason}"),
        EndpointFault::Scheme(_) => "no connector speaks this protocol".to_owned(),
        EndpointFault::NoHost(_) => "the address names no host".to_owned(),
        EndpointFault::NoSerialLine(_) => "the address names no serial line".to_owned(),
        EndpointFault::Parameter { found, .. } => format!("unknown parameter `{found}`"),
        EndpointFault::ParameterValue { key, expected, .. } => format!("`{key}` must be {expected}"),
    });
    let shown = shown.found(format!("`{text}`"));
    match fault {
        EndpointFault::Scheme(scheme) => {
            let near = nearest_name(&format!("{scheme}://"), Endpoint::SCHEMES.iter().copied());
            let hint = near.map_or_else(
                || "write for example `modbus+tcp://10.0.0.7:502?unit=1`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            shown.allowed(Endpoint::SCHEMES.join(", ")).hint(hint)
        }
        EndpointFault::Parameter { allowed, .. } => shown.allowed(*allowed),
        EndpointFault::NoSerialLine(_) => shown.hint("write for example `modbus+rtu:///dev/ttyUSB0?baud=19200&unit=3`"),
        _ => shown
            .hint("write for example `modbus+tcp://10.0.0.7:502?unit=1`, `opc.tcp://host:4840`, `mqtt://broker:1883`"),
    }
}
