//! Points: address, type, scaling, unit, each against the others.

mod address;
mod told;
mod writable;

use super::{Checker, Site};
use crate::written::{DeviceWritten, PointWritten};
pub(super) use address::Protocol;
use std::collections::BTreeMap;
use tally_model::{
    Address, AddressBase, ByteOrder, Encoding, ModbusTable, PointId, PointOptions, PointSpec, PointTemplate, Unit,
    UnitFault, ValueKind,
};

const REGISTER_TYPES: &str =
    "u8, i8, u16, i16, u32, i32, u64, i64, f16, f32, f64, bcd16, bcd32, bcd64, text, text-low, text-high";

/// A point as one file says it.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub written: &'a PointWritten,
    pub site: Site<'a>,
    /// Where register numbers of this file begin.
    pub base: AddressBase,
}

/// A point as the plant file and the data sheet say it together; the plant's word counts.
#[derive(Debug)]
pub(super) struct PointLayers<'a> {
    pub plant: Option<Layer<'a>>,
    pub sheet: Option<Layer<'a>>,
}

/// A key of a point: its value, where it stands, and whether the sheet said it.
pub(super) struct Picked<'a, T> {
    pub value: T,
    pub site: Site<'a>,
    pub base: AddressBase,
    from_sheet: bool,
}

impl<'a> PointLayers<'a> {
    fn top(&self) -> Option<&Layer<'a>> {
        self.plant.as_ref().or(self.sheet.as_ref())
    }

    pub(super) fn id(&self) -> Option<&'a str> {
        self.top().and_then(|layer| layer.written.id.as_deref())
    }

    pub(super) fn pick<T>(&self, key: &str, get: impl Fn(&'a PointWritten) -> Option<T>) -> Option<Picked<'a, T>> {
        let layers = [(&self.plant, false), (&self.sheet, true)];
        layers.into_iter().find_map(|(layer, from_sheet)| {
            let layer = layer.as_ref()?;
            Some(Picked { value: get(layer.written)?, site: layer.site.key(key), base: layer.base, from_sheet })
        })
    }

    /// Whether the key is there, be it right or wrong.
    fn is_written(&self, key: &str) -> bool {
        [&self.plant, &self.sheet].into_iter().flatten().any(|layer| layer.site.key(key).node.is_some())
    }
}

pub(super) type Kinds = BTreeMap<PointId, (Option<ValueKind>, Unit)>;

impl Checker<'_> {
    /// The points that are right, each with its place, and what rules may know of all that have an id.
    pub(super) fn points<'s>(
        &mut self,
        layers: &[PointLayers<'s>],
        protocol: Option<Protocol>,
        device: &DeviceWritten,
    ) -> (Vec<(PointSpec, Site<'s>)>, Kinds, Vec<PointTemplate>) {
        let (mut points, mut kinds, mut templates) = (Vec::new(), Kinds::new(), Vec::new());
        for layers in layers {
            let (Some(top), Some(text)) = (layers.top(), layers.id()) else { continue };
            let site = top.site.clone();
            if PointTemplate::is_template(text) {
                templates.extend(self.template(layers, text, &site, protocol, device));
                continue;
            }
            let id = match PointId::try_new(text) {
                Ok(id) => id,
                Err(fault) => {
                    self.report(site.key("id").fault(fault.to_string()).found(format!("`{text}`")));
                    continue;
                }
            };
            let (point, kind, unit) = self.point(&id, layers, &site, protocol, device);
            if let Some(point) = &point {
                self.no_braces(&id, point, &site);
            }
            kinds.insert(id, (kind, unit));
            points.extend(point.map(|point| (point, site)));
        }
        (points, kinds, templates)
    }

    pub(super) fn point(
        &mut self,
        id: &PointId,
        layers: &PointLayers<'_>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        device: &DeviceWritten,
    ) -> (Option<PointSpec>, Option<ValueKind>, Unit) {
        let address = self.address(layers, site, protocol, device);
        let encoding = self.encoding(layers, site, protocol, address.as_ref());
        let kind = |encoding, scale, offset| spec(id, None, encoding, scale, offset).kind();
        let Some(encoding) = encoding else { return (None, None, self.unit(layers, site, None)) };
        let order = self.order(layers, protocol, encoding);
        let length = self.length(layers, site, encoding, protocol);
        let (scale, offset) = self.scaling(layers, encoding);
        let options = self.point_options(layers, protocol, encoding);
        let kind = if options.labels.is_some() { Some(ValueKind::Text) } else { kind(encoding, scale, offset) };
        let unit = self.unit(layers, site, kind);
        let deadband = self.deadband(layers, kind);
        let range = self.range(layers, kind);
        let writable = self.writable(layers, protocol, address.as_ref(), kind, range);
        let command = self.command(layers, protocol, device, writable.is_some());
        let method = self.method(layers, protocol, device, address.as_ref());
        let options = PointOptions { writable, command, method, ..options };
        let point = address.map(|address| PointSpec {
            order,
            length,
            unit: unit.clone(),
            deadband,
            range,
            options,
            ..spec(id, Some(address), encoding, scale, offset)
        });
        if let Some(point) = &point {
            self.fits_registers(point, site);
        }
        (point, kind, unit)
    }

    /// The type, written or following from the address; `None` when it is wrong or cannot be known.
    fn encoding(
        &mut self,
        layers: &PointLayers<'_>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        address: Option<&Address>,
    ) -> Option<Encoding> {
        let picked = layers.pick("type", |written| written.encoding);
        if picked.is_none() && layers.is_written("type") {
            return None;
        }
        let written = picked.as_ref().map(|picked| picked.value);
        let type_site = picked.map_or_else(|| site.key("type"), |picked| picked.site);
        match (address, written) {
            (Some(Address::Modbus { table, bit, .. }), written) => {
                self.modbus_encoding(&type_site, *table, *bit, written)
            }
            (None, written) if protocol == Some(Protocol::Modbus) => written,
            (_, written) => Some(written.unwrap_or(Encoding::Auto)),
        }
    }

    fn modbus_encoding(
        &mut self,
        site: &Site<'_>,
        table: ModbusTable,
        bit: Option<u8>,
        written: Option<Encoding>,
    ) -> Option<Encoding> {
        let one_bit = table.is_bits() || bit.is_some();
        let fault = match (one_bit, written) {
            (true, None | Some(Encoding::Bool)) => return Some(Encoding::Bool),
            (true, Some(_)) if bit.is_some() => {
                site.fault("a single bit is a bool").allowed("bool").hint("remove `type`, or the bit")
            }
            (true, Some(_)) => site
                .fault(format!("a {} is a bool", table.word()))
                .allowed("bool")
                .hint("remove `type`, or name a register"),
            (false, None) => site
                .fault("a register needs a type")
                .allowed(REGISTER_TYPES)
                .hint("the manual of the device says how many registers the value has"),
            (false, Some(Encoding::Bool)) => {
                site.fault("a register is no bool").hint("name one of its bits: `at: holding:17.3`")
            }
            (false, Some(Encoding::Auto)) => {
                site.fault("Modbus does not say what a register holds").allowed(REGISTER_TYPES)
            }
            (false, Some(encoding)) => return Some(encoding),
        };
        self.report(fault);
        None
    }

    fn order(&mut self, layers: &PointLayers<'_>, protocol: Option<Protocol>, encoding: Encoding) -> ByteOrder {
        let Some(order) = layers.pick("order", |written| written.order) else { return ByteOrder::default() };
        let fault = match encoding {
            _ if protocol.is_some_and(|protocol| protocol != Protocol::Modbus) => {
                order.site.fault("only Modbus registers have a byte order").hint("remove `order`")
            }
            Encoding::Bool => order.site.fault("a bit has no byte order").hint("remove `order`"),
            one if spec_registers(one) == 1 && order.value == ByteOrder::Cdab => {
                let fault = order.site.fault("one register has no word order").found("`CDAB`");
                fault.allowed("ABCD, BADC").hint("BADC swaps the two bytes of the register")
            }
            text if text.is_text() && !matches!(order.value, ByteOrder::Abcd | ByteOrder::Badc) => order
                .site
                .fault("a text has no word order")
                .allowed("ABCD, BADC")
                .hint("BADC swaps the two bytes of each register"),
            number if order.value.is_for_64_bits() && spec_registers(number) != 4 => order
                .site
                .fault("this order is one of values of 64 bits")
                .found(format!("`{}`", order.value.word()))
                .allowed("ABCD, CDAB, BADC, DCBA"),
            _ => return order.value,
        };
        self.report(fault);
        order.value
    }

    fn length(
        &mut self,
        layers: &PointLayers<'_>,
        site: &Site<'_>,
        encoding: Encoding,
        protocol: Option<Protocol>,
    ) -> u16 {
        let length = layers.pick("length", |written| written.length);
        match (encoding, length) {
            // Only registers do not say themselves where a text ends.
            (_, None) if protocol.is_some_and(|protocol| protocol != Protocol::Modbus) => 0,
            (text, None) if text.is_text() => {
                if !layers.is_written("length") {
                    let fault = site.key("length").fault("a text needs a length");
                    self.report(fault.allowed("1 to 250").hint("in bytes, two a register"));
                }
                1
            }
            (Encoding::TextLow | Encoding::TextHigh, Some(length)) if length.value > 125 => {
                let fault = length.site.fault("one byte a register makes at most 125").allowed("1 to 125");
                self.report(fault.hint("a longer text is read as several points"));
                125
            }
            (text, Some(length)) if text.is_text() => length.value,
            (_, Some(length)) => {
                self.report(
                    length.site.fault("only a text has a length").hint("remove `length`, or write `type: text`"),
                );
                0
            }
            (_, None) => 0,
        }
    }

    fn scaling(&mut self, layers: &PointLayers<'_>, encoding: Encoding) -> (f64, f64) {
        let (scale, offset) =
            (layers.pick("scale", |written| written.scale), layers.pick("offset", |written| written.offset));
        if let Some(scale) = scale.as_ref().filter(|scale| scale.value == 0.0) {
            self.report(
                scale.site.fault("a scale of zero makes every value zero").hint("remove it, or write the factor"),
            );
        }
        for picked in [&scale, &offset].into_iter().flatten() {
            if encoding == Encoding::Bool || encoding.is_text() || layers.is_written("labels") {
                self.report(picked.site.fault("only numbers are scaled").hint("remove it"));
            }
        }
        (scale.map_or(1.0, |scale| scale.value), offset.map_or(0.0, |offset| offset.value))
    }

    fn unit(&mut self, layers: &PointLayers<'_>, site: &Site<'_>, kind: Option<ValueKind>) -> Unit {
        let Some(unit) = layers.pick("unit", |written| written.unit.as_deref()) else {
            let number = matches!(kind, Some(ValueKind::Integer | ValueKind::Float));
            if number && !layers.is_written("unit") {
                let fault = site.key("unit").fault("a number without a unit is taken as a plain number").warning();
                self.report(fault.hint("write the UCUM code (`Cel`, `mm/s`, `kW.h`, `%`), or `unit: 1` for a count"));
            }
            return Unit::one();
        };
        match Unit::try_new(unit.value) {
            Ok(unit) => unit,
            Err(fault) => {
                let shown = unit.site.fault(match &fault {
                    UnitFault::Spelling { .. } => "not a UCUM code".to_owned(),
                    other => other.to_string(),
                });
                let shown = shown.found(format!("`{}`", unit.value));
                self.report(match fault {
                    UnitFault::Spelling { instead, .. } => shown.hint(format!("write `{instead}`")),
                    _ => shown.hint("UCUM codes are `Cel`, `mm/s`, `kW.h`, `%`, `1`; see ucum.org"),
                });
                Unit::one()
            }
        }
    }

    fn deadband(&mut self, layers: &PointLayers<'_>, kind: Option<ValueKind>) -> Option<f64> {
        let deadband = layers.pick("deadband", |written| written.deadband)?;
        if !is_number(kind) {
            self.report(deadband.site.fault("only numbers have a deadband").hint("remove it"));
        } else if deadband.value <= 0.0 {
            let fault = deadband.site.fault("a deadband is larger than 0").found(format!("`{}`", deadband.value));
            self.report(fault.hint("remove it to publish every change"));
        }
        Some(deadband.value)
    }

    fn range(&mut self, layers: &PointLayers<'_>, kind: Option<ValueKind>) -> Option<(f64, f64)> {
        let range = layers.pick("range", |written| written.range)?;
        let (lowest, highest) = range.value;
        if !is_number(kind) {
            self.report(range.site.fault("only numbers have a range").hint("remove it"));
        } else if lowest >= highest {
            let fault = range.site.fault("the range is empty").found(format!("`[{lowest}, {highest}]`"));
            self.report(fault.hint(format!("the lower bound comes first: `[{highest}, {lowest}]`")));
        }
        Some(range.value)
    }
}

fn spec_registers(encoding: Encoding) -> u16 {
    match encoding {
        Encoding::F64 => 4,
        Encoding::F32 => 2,
        other => u16::from(other.whole_bits().unwrap_or(16).div_ceil(16)),
    }
}

fn spec(id: &PointId, address: Option<Address>, encoding: Encoding, scale: f64, offset: f64) -> PointSpec {
    PointSpec {
        scale,
        offset,
        ..PointSpec::new(id.clone(), address.unwrap_or(Address::Column(String::new())), encoding, Unit::one())
    }
}

/// A number, or something of which only the device knows what it is.
const fn is_number(kind: Option<ValueKind>) -> bool {
    !matches!(kind, Some(ValueKind::Bool | ValueKind::Text))
}
