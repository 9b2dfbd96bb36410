//! The signals of a device: read, and held against their protocol and each other.

use super::check::Checker;
use super::{ModelConfig, SignalConfig, Source, written};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::{Address, AddressBase, BitField, Encoding, Endpoint, PointId, Value};

/// Longest text in bytes: what one Modbus request can carry.
const TEXT_BYTES_MAX: u16 = 250;

impl Checker<'_> {
    pub(super) fn signal(
        &mut self,
        written: written::Signal,
        serve: &Endpoint,
        base: AddressBase,
        models: &BTreeMap<String, ModelConfig>,
    ) -> Option<SignalConfig> {
        let id = self.keep(written.id.referenced, PointId::try_new(&written.id.value));
        let address = self.keep(
            written.at.referenced,
            match serve {
                Endpoint::Modbus { .. } => Address::parse_modbus_from(&written.at.value, base),
                Endpoint::OpcUa { .. } => Address::parse_opcua(&written.at.value),
                Endpoint::Mqtt(_) => Address::parse_mqtt(&written.at.value),
                Endpoint::Replay { .. } => Address::parse_column(&written.at.value),
            },
        );
        let encoding = match &address {
            Some(address) => self.keep(written.at.referenced, encoding_of(address, written.encoding, written.length)),
            None => None,
        };
        let bits = self.bits(written.bits.as_ref(), serve, encoding);
        let labels = self.labels(written.labels.as_ref(), encoding);
        let source = self.source(written.from, models);
        if written.scale == 0.0 || !written.scale.is_finite() || !written.offset.is_finite() {
            self.fault(written.id.referenced, "`scale` must not be 0, and `scale` and `offset` are finite numbers");
        }
        let signal = SignalConfig {
            id: id?,
            address: address?,
            encoding: encoding?,
            order: written.order,
            length: written.length,
            scale: written.scale,
            offset: written.offset,
            bits,
            labels,
            source: source?,
        };
        if signal.order.is_for_64_bits() && matches!(serve, Endpoint::Modbus { .. }) && signal.width() != 4 {
            self.fault(written.at.referenced, format!("the order {} is one of values of 64 bits", signal.order.word()));
        }
        self.labelled(written.id.referenced, &signal);
        Some(signal)
    }

    fn bits(
        &mut self,
        written: Option<&Spanned<String>>,
        serve: &Endpoint,
        encoding: Option<Encoding>,
    ) -> Option<BitField> {
        let (written, encoding) = (written?, encoding?);
        let width = encoding.whole_bits().filter(|_| matches!(serve, Endpoint::Modbus { .. }));
        let Some(width) = width else {
            self.fault(written.referenced, "only whole numbers in Modbus registers have bits; remove `bits`");
            return None;
        };
        let bits = BitField::parse(&written.value).filter(|bits| bits.high < width);
        if bits.is_none() {
            let text = format!("`{}` is no field of bits; write `LOW-HIGH`, 0 to {}", written.value, width - 1);
            self.fault(written.referenced, text);
        }
        bits
    }

    fn labels(
        &mut self,
        written: Option<&Spanned<BTreeMap<String, String>>>,
        encoding: Option<Encoding>,
    ) -> Option<Arc<BTreeMap<i64, String>>> {
        let (written, encoding) = (written?, encoding?);
        if encoding.whole_bits().is_none() && encoding != Encoding::Auto {
            self.fault(written.referenced, "only whole numbers have labels; remove `labels`, or write `type: u16`");
            return None;
        }
        let mut labels = BTreeMap::new();
        for (number, label) in &written.value {
            match number.parse::<i64>() {
                Ok(number) => drop(labels.insert(number, label.clone())),
                Err(_) => self.fault(
                    written.referenced,
                    format!("a label belongs to a whole number, not to `{number}`: `{{0: stopped, 1: running}}`"),
                ),
            }
        }
        Some(Arc::new(labels))
    }

    /// A signal with labels that says something else would be cut to nothing on the wire.
    fn labelled(&mut self, place: Location, signal: &SignalConfig) {
        let Some(labels) = &signal.labels else { return };
        let said: &[Value] = match &signal.source {
            Source::Constant(value) => std::slice::from_ref(value),
            Source::Cycle { of, .. } => of,
            _ => return,
        };
        for value in said {
            let Value::Text(text) = value else { continue };
            if !labels.values().any(|label| label == text) {
                let known: Vec<&str> = labels.values().map(String::as_str).collect();
                self.fault(place, format!("`{text}` is no label of `{}`; there are: {}", signal.id, known.join(", ")));
            }
        }
    }

    /// Two numbers in one register would overwrite each other. A part of a register (a bit, or `bits`) may lie beside other
    /// parts, and upon a whole number, whose bits it then replaces.
    pub(super) fn overlaps(&mut self, place: Location, signals: &[SignalConfig]) {
        let mut owners: BTreeMap<_, Vec<(u16, &SignalConfig)>> = BTreeMap::new();
        for signal in signals {
            let Address::Modbus { table, offset, .. } = signal.address else { continue };
            for (address, mask) in (u32::from(offset)..).zip(signal.masks()) {
                let owners = owners.entry((table, address)).or_default();
                let rival = owners.iter().find(|(other, owner)| {
                    mask & other != 0 && (signal.is_part() == owner.is_part() || !one_in_other(mask, *other))
                });
                if let Some((_, rival)) = rival {
                    let text = format!("`{}` and `{}` overlap at {}:{address}", rival.id, signal.id, table.word());
                    self.fault(place, text);
                    break;
                }
                owners.push((mask, signal));
            }
        }
    }

    fn source(&mut self, written: written::From, models: &BTreeMap<String, ModelConfig>) -> Option<Source> {
        Some(match written {
            written::From::Constant(value) => Source::Constant(value),
            written::From::Ramp(ramp) => {
                Source::Ramp { from: ramp.from, per_second: ramp.per_second, until: ramp.until }
            }
            written::From::Sine(sine) => {
                Source::Sine { mean: sine.mean, amplitude: sine.amplitude, period: sine.period.0 }
            }
            written::From::Noise(noise) => Source::Noise { mean: noise.mean, spread: noise.spread },
            written::From::Cycle(cycle) => {
                let (place, written::Cycle { of, every }) = (cycle.referenced, cycle.value);
                if of.is_empty() || every.0.is_zero() {
                    self.fault(place, "a cycle needs values and a time: `{cycle: {of: [idle, running], every: 10s}}`");
                }
                Source::Cycle { of, every: every.0 }
            }
            written::From::Model(name) => {
                if !models.contains_key(&name.value) {
                    let known = models.keys().cloned().collect::<Vec<_>>().join(", ");
                    let text = format!("there is no usable model `{}`; there are: {known}", name.value);
                    self.fault(name.referenced, text);
                    return None;
                }
                Source::Model(name.value)
            }
            written::From::Replay(replay) => {
                let file = self.beside_file(replay.file.value.as_ref());
                Source::Replay(self.keep(replay.file.referenced, crate::recording::load_column(&file, &replay.column))?)
            }
        })
    }
}

const fn one_in_other(one: u16, other: u16) -> bool {
    one & other == one || one & other == other
}

/// What a Modbus signal is written as. Bits need no type; registers do, because a wrong guess is a wrong number.
fn encoding_of(address: &Address, written: Option<Encoding>, length: u16) -> Result<Encoding, String> {
    let Address::Modbus { table, bit, .. } = address else {
        return Ok(written.unwrap_or(Encoding::Auto));
    };
    let is_bit = table.is_bits() || bit.is_some();
    match written {
        None | Some(Encoding::Bool) if is_bit => Ok(Encoding::Bool),
        None => Err(format!("`{address}` needs a `type`, for example `type: f32`")),
        Some(other) if is_bit => Err(format!("`{address}` is a bit, so its type is `bool`, not `{}`", other.word())),
        Some(Encoding::Auto) => Err("Modbus carries no types, `type: auto` cannot work".into()),
        Some(encoding) if encoding.is_text() && !(1..=TEXT_BYTES_MAX).contains(&length) => {
            Err("a text needs `length: ` 1 to 250 bytes".into())
        }
        Some(encoding) => Ok(encoding),
    }
}
