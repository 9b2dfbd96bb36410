//! `modbus:` of a device and its data sheet, and the point keys of registers.

use super::points::{PointLayers, Protocol};
use super::{Checker, Site};
use crate::written::ModbusWritten;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{
    Address, AddressBase, BitField, DeviceSpec, Encoding, Endpoint, ModbusOptions, ModbusTable, PointOptions,
};

const PAUSE_MOST: Duration = Duration::from_secs(10);
const IDLE_LEAST: Duration = Duration::from_millis(100);
const IDLE_MOST: Duration = Duration::from_secs(3_600);
const LATE_MOST: Duration = Duration::from_secs(60);
const IDENTIFY_LEAST: Duration = Duration::from_secs(1);
const IDENTIFY_MOST: Duration = Duration::from_secs(86_400);
/// How often a device is asked what it calls itself when its `checks` want to know and nobody says how often: an exchange takes longer.
pub(super) const IDENTIFY: Duration = Duration::from_secs(600);
const EVERY_LEAST: Duration = Duration::from_millis(10);
const EVERY_MOST: Duration = Duration::from_secs(3_600);

/// `modbus:` as one file says it.
#[derive(Clone, Copy)]
pub(super) struct ModbusLayer<'a> {
    pub written: Option<&'a ModbusWritten>,
    pub site: &'a Site<'a>,
}

impl Checker<'_> {
    /// The plant's word, else the sheet's, else the default, key by key. Forbidden ranges add up.
    pub(super) fn modbus(
        &mut self,
        plant: ModbusLayer<'_>,
        sheet: ModbusLayer<'_>,
        protocol: Option<Protocol>,
    ) -> ModbusOptions {
        if plant.written.is_some() && protocol.is_some_and(|protocol| protocol != Protocol::Modbus) {
            self.report(plant.site.fault("`modbus` is for Modbus devices").hint("remove it"));
        }
        let mut options = ModbusOptions::default();
        for layer in [sheet, plant] {
            if let Some(written) = layer.written {
                self.modbus_layer(written, layer.site, &mut options);
            }
        }
        options
    }

    fn modbus_layer(&mut self, written: &ModbusWritten, site: &Site<'_>, options: &mut ModbusOptions) {
        let mut time = |key: &str, text: &Option<String>, least, most| {
            text.as_deref().and_then(|text| self.duration(&site.key(key), text, least, most))
        };
        options.pause = time("pause", &written.pause, Duration::ZERO, PAUSE_MOST).unwrap_or(options.pause);
        options.pause_after_connect =
            time("pause_after_connect", &written.pause_after_connect, Duration::ZERO, PAUSE_MOST)
                .unwrap_or(options.pause_after_connect);
        options.idle_max = time("idle_max", &written.idle_max, IDLE_LEAST, IDLE_MOST).or(options.idle_max);
        options.late_max = time("late_max", &written.late_max, Duration::ZERO, LATE_MOST).or(options.late_max);
        options.identify = time("identify", &written.identify, IDENTIFY_LEAST, IDENTIFY_MOST).or(options.identify);
        options.busy_retries = written.busy_retries.unwrap_or(options.busy_retries);
        options.bits_per_request_max = written.bits_per_request_max.or(options.bits_per_request_max);
        for (index, text) in written.forbidden.iter().enumerate() {
            match forbidden(text, written.base.unwrap_or_default()) {
                Ok(range) => options.forbidden.push(range),
                Err(reason) => {
                    let fault = site.key("forbidden").item(index).fault("not a range of addresses");
                    self.report(fault.found(format!("`{text}`")).hint(reason));
                }
            }
        }
    }

    /// A value that lies where no request may reach could never be read.
    pub(super) fn reachable(&mut self, points: &[(tally_model::PointSpec, Site<'_>)], options: &ModbusOptions) {
        for (point, site) in points {
            let Address::Modbus { table, offset, .. } = point.address else { continue };
            let last = offset.saturating_add(point.registers().max(1) - 1);
            let hit = options
                .forbidden
                .iter()
                .find(|(forbidden, range)| *forbidden == table && *range.start() <= last && offset <= *range.end());
            if let Some((_, range)) = hit {
                let fault = site.key("at").fault("lies in a forbidden range").found(format!("`{}`", point.address));
                let range = format!("{}:{} to {}", table.word(), range.start(), range.end());
                self.report(
                    fault.hint(format!("`modbus: {{forbidden: …}}` of the device or its data sheet says {range}")),
                );
            }
        }
    }

    /// `every`, `bits` and `labels` of a point.
    pub(super) fn point_options(
        &mut self,
        layers: &PointLayers<'_>,
        protocol: Option<Protocol>,
        encoding: Encoding,
    ) -> PointOptions {
        let mut options = PointOptions::default();
        if let Some(every) = layers.pick("every", |written| written.every.as_deref()) {
            options.every = self.duration(&every.site, every.value, EVERY_LEAST, EVERY_MOST);
            if matches!(protocol, Some(Protocol::Mqtt | Protocol::Replay)) {
                let fault = every.site.fault("only Modbus and OPC UA points have a period of their own");
                self.report(fault.hint("set `every` of the device"));
            }
        }
        if let Some(bits) = layers.pick("bits", |written| written.bits.as_deref()) {
            options.bits = self.bits(&bits.site, bits.value, encoding);
        }
        if let Some(labels) = layers.pick("labels", |written| written.labels.as_ref()) {
            options.labels = self.labels(&labels.site, labels.value, encoding);
        }
        options
    }

    fn bits(&mut self, site: &Site<'_>, text: &str, encoding: Encoding) -> Option<BitField> {
        let Some(width) = encoding.whole_bits() else {
            self.report(site.fault("only whole numbers have bits").hint("remove `bits`, or write `type: u16`"));
            return None;
        };
        let bits = BitField::parse(text).filter(|bits| bits.high < width);
        if bits.is_none() {
            let fault = site.fault("not a field of bits").found(format!("`{text}`"));
            let allowed = format!("`LOW-HIGH`, 0 to {} in a {}", width - 1, encoding.word());
            self.report(fault.allowed(allowed).hint("bit 0 is the lowest: `bits: 4-7`"));
        }
        bits
    }

    fn labels(
        &mut self,
        site: &Site<'_>,
        written: &BTreeMap<String, String>,
        encoding: Encoding,
    ) -> Option<Arc<BTreeMap<i64, String>>> {
        if encoding.whole_bits().is_none() {
            self.report(site.fault("only whole numbers have labels").hint("remove `labels`, or write `type: u16`"));
            return None;
        }
        let mut labels = BTreeMap::new();
        for (number, label) in written {
            match number.parse::<i64>() {
                Ok(number) => drop(labels.insert(number, label.clone())),
                Err(_) => {
                    let fault = site.key(number).fault("a label belongs to a whole number");
                    self.report(
                        fault.found(format!("`{number}`")).hint("write for example `{0: stopped, 1: running}`"),
                    );
                }
            }
        }
        if written.is_empty() {
            self.report(site.fault("there are no labels").hint("write for example `{0: stopped, 1: running}`"));
        }
        Some(labels.into())
    }

    /// Two devices on one serial line that set it up differently cannot both be right.
    pub(super) fn shared_lines(&mut self, specs: &[(DeviceSpec, Site<'_>)]) {
        let serial = |spec: &DeviceSpec| match &spec.endpoint {
            Endpoint::Modbus { line, .. } => line.serial().cloned().map(|serial| (line.clone(), serial)),
            _ => None,
        };
        for (index, (spec, site)) in specs.iter().enumerate() {
            let Some((line, own)) = serial(spec) else { continue };
            let other = specs[..index].iter().find_map(|(other, _)| {
                let (other_line, theirs) = serial(other)?;
                (theirs.path == own.path && other_line != line).then(|| (other.id.clone(), other_line))
            });
            if let Some((other, other_line)) = other {
                let fault = site.key("connect").fault(format!("`{other}` sets up the same serial line differently"));
                self.report(fault.found(format!("`{line}`")).hint(format!("`{other}` has `{other_line}`")));
            }
        }
    }
}

/// `holding:100-119`, `HR100-119`, `40101-40120`, `4x101-120`, or one address.
fn forbidden(text: &str, base: AddressBase) -> Result<(ModbusTable, RangeInclusive<u16>), String> {
    const HINT: &str = "write for example `holding:100-119`, the lower address first";
    let place = |text: &str| match Address::parse_modbus_from(text.trim(), base) {
        Ok(Address::Modbus { table, offset, bit: None }) => Ok((table, offset)),
        Ok(_) => Err(HINT.to_owned()),
        Err(fault) => Err(fault.reason),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, ""));
    let (table, start) = place(first)?;
    if last.is_empty() && !text.contains('-') {
        return Ok((table, start..=start));
    }
    // What stands before the first number stands before the second too; entity numbers stand alone.
    let digits = first.bytes().rev().take_while(u8::is_ascii_digit).count();
    let word = first.get(..first.len() - digits).unwrap_or_default();
    let (other, end) = place(&format!("{word}{}", last.trim().trim_start_matches("0x")))?;
    if (other, start <= end) == (table, true) { Ok((table, start..=end)) } else { Err(HINT.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_like_addresses() {
        let range = |text| forbidden(text, AddressBase::Zero).unwrap();
        assert_eq!(range("holding:100-119"), (ModbusTable::Holding, 100..=119));
        assert_eq!(range("HR100-119"), (ModbusTable::Holding, 100..=119));
        assert_eq!(range("40101-40120"), (ModbusTable::Holding, 100..=119));
        assert_eq!(range("4x101-120"), (ModbusTable::Holding, 100..=119));
        assert_eq!(range("holding:0x10-0x1f"), (ModbusTable::Holding, 16..=31));
        assert_eq!(range("coil:7"), (ModbusTable::Coil, 7..=7));
        assert_eq!(forbidden("holding:101-120", AddressBase::One).unwrap(), (ModbusTable::Holding, 100..=119));
        for text in ["holding:9-3", "holding:5-", "40001-30005", "holding:1.2", "x", "", "-"] {
            assert!(forbidden(text, AddressBase::Zero).is_err(), "{text}");
        }
    }
}
