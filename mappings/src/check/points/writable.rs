//! `writable` and `write_range`: what the people at the machine let be written, by whoever has a permit.

use super::{Picked, PointLayers, Protocol, is_number};
use crate::check::Checker;
use tally_model::{Address, ModbusTable, PointTemplate, ValueKind, Writable};

impl Checker<'_> {
    /// `None` when nobody may write the point.
    pub(super) fn writable(
        &mut self,
        layers: &PointLayers<'_>,
        protocol: Option<Protocol>,
        address: Option<&Address>,
        kind: Option<ValueKind>,
        range: Option<(f64, f64)>,
    ) -> Option<Writable> {
        let bounds = layers.pick("write_range", |written| written.write_range);
        let writable = layers.pick("writable", |written| written.writable).filter(|writable| writable.value);
        let Some(writable) = writable else {
            if let Some(bounds) = bounds {
                let fault = bounds.site.fault("bounds for writing a point that is not writable");
                self.report(fault.hint("write `writable: true`, or remove `write_range`"));
            }
            return None;
        };
        if let Some((reason, hint)) = hindrance(address, protocol, layers) {
            self.report(writable.site.fault(reason).hint(hint));
            return None;
        }
        let is_alarm = matches!(address, Some(Address::OpcUa { alarm: Some(_), .. }));
        if is_alarm || !is_number(kind) {
            if let Some(bounds) = bounds {
                self.report(bounds.site.fault("only numbers have bounds for writing").hint("remove it"));
            }
            return Some(Writable::default());
        }
        if let Some(bounds) = bounds {
            self.bounds(&bounds);
            return Some(Writable { range: Some(bounds.value) });
        }
        if range.is_none() {
            let fault = writable.site.fault("a number that may be written needs bounds");
            self.report(fault.hint("write for example `write_range: [0, 80]`, or `range`, in the point's unit"));
        }
        Some(Writable { range })
    }

    fn bounds(&mut self, bounds: &Picked<'_, (f64, f64)>) {
        let (lowest, highest) = bounds.value;
        if !(lowest.is_finite() && highest.is_finite() && lowest <= highest) {
            let fault = bounds.site.fault("the bounds for writing are empty").found(format!("`[{lowest}, {highest}]`"));
            self.report(fault.hint("the lower bound comes first, and both are finite numbers"));
        }
    }
}

/// Why the point cannot be written, and what to do instead.
fn hindrance(
    address: Option<&Address>,
    protocol: Option<Protocol>,
    layers: &PointLayers<'_>,
) -> Option<(&'static str, &'static str)> {
    if let Some(reason) = address.and_then(|address| unwritable(address, layers)) {
        return Some(reason);
    }
    if protocol == Some(Protocol::Replay) {
        return Some(("a recording cannot be written", "remove `writable`"));
    }
    let is_topic = matches!(address, Some(Address::Mqtt { .. } | Address::MqttCbor { .. }));
    let is_silent = is_topic && !layers.is_written("write");
    is_silent.then_some((
        "nothing says on which topic the device takes values",
        "write for example `write: {topic: valve/set}`",
    ))
}

/// What no protocol lets be written, and what to do instead.
fn unwritable(address: &Address, layers: &PointLayers<'_>) -> Option<(&'static str, &'static str)> {
    let has_bits = layers.pick("bits", |written| written.bits.as_deref()).is_some();
    match address {
        Address::Modbus { table: ModbusTable::Input | ModbusTable::Discrete, .. } => {
            Some(("inputs of a Modbus device cannot be written", "only `holding:` and `coil:` can; remove `writable`"))
        }
        Address::Modbus { bit: Some(_), .. } => {
            Some(("a bit of a register cannot be written alone", "describe the whole register as a point of its own"))
        }
        Address::OpcUa { pointer: Some(_), .. } => {
            Some(("a part of a structure cannot be written alone", "describe the whole node as a point of its own"))
        }
        Address::Mqtt { topic, .. } | Address::MqttCbor { topic, .. } if PointTemplate::is_template(topic) => Some((
            "a point that is made when its topic speaks cannot be written",
            "describe the topic as a point of its own",
        )),
        _ if has_bits => {
            Some(("some bits of a number cannot be written alone", "describe the whole number as a point of its own"))
        }
        _ => None,
    }
}
