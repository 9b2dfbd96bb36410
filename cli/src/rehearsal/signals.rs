//! The signals of a simulated device: one for each point, which says plausible things that the point can carry and believes.

use super::{nodes, quoted};
use std::fmt::Write;
use tally_model::{Address, AlarmPart, ByteOrder, DeviceSpec, Encoding, Endpoint, PointId, PointSpec, Unit};

/// What a number is that says nothing about itself.
const RANGE_USUAL: (f64, f64) = (0.0, 100.0);

/// Numbers beyond are no measurement.
const NUMBER_MOST: f64 = 1e9;

/// Words in names of what only counts up.
const COUNTERS: [&str; 8] = ["count", "strokes", "cycles", "energy", "total", "hours", "pieces", "meter"];

/// Words in names of flags that are off while all is well.
const ALARMS: [&str; 12] =
    ["fault", "alarm", "error", "lost", "open", "trip", "warn", "stop", "fail", "leak", "low", "blocked"];

/// The lines of `signals:`, and what could not be done.
pub(super) fn of(device: &DeviceSpec) -> (String, Vec<String>) {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let mut done: Vec<&PointSpec> = Vec::new();
    for (place, point) in device.points.iter().enumerate() {
        if !can_be_simulated(&point.address) {
            notes.push(format!("{}/{} at `{}` cannot be simulated yet", device.id, point.id, point.address));
            continue;
        }
        let line = match rival(point, &done) {
            None => {
                done.push(point);
                let is_base = device.points.iter().any(|other| is_part(other) && is_within(other, point));
                format!("      - {{{}}}\n", signal(point, &device.endpoint, place, is_base))
            }
            Some(rival) => {
                notes.push(format!(
                    "{}/{} shares its place with {}: what it says follows from that",
                    device.id, point.id, rival.id
                ));
                format!("      # {} is what {} says, at {}\n", point.id, rival.id, point.address)
            }
        };
        lines.push((place_of(&point.address, &device.points), line));
    }
    for (number, (address, like)) in nodes::missing(&device.points).into_iter().enumerate() {
        let place = place_of(&address, &device.points);
        let filler = PointSpec { id: unused_id(&device.points, like, number), address, ..like.clone() };
        lines.push((place, format!("      - {{{}}}\n", signal(&filler, &device.endpoint, number, false))));
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    (lines.into_iter().map(|(_, line)| line).collect(), notes)
}

/// Where its line goes: in file order, but all parts of one node together and sorted, so that all elements of an array have
/// their fields in one order.
fn place_of(address: &Address, points: &[PointSpec]) -> (usize, Vec<String>) {
    let own = nodes::apart(address);
    let is_first = |point: &PointSpec| match &own {
        Some((node, _)) => nodes::apart(&point.address).is_some_and(|(other, _)| other == *node),
        None => point.address == *address,
    };
    (points.iter().position(is_first).unwrap_or(points.len()), own.map(|(_, way)| way).unwrap_or_default())
}

/// A name for what the mapping does not name.
fn unused_id(points: &[PointSpec], like: &PointSpec, number: usize) -> PointId {
    let ids = (number..).map(|number| PointId::try_new(format!("beside_{number}")));
    let unused = |id: &PointId| points.iter().all(|point| point.id != *id);
    ids.filter_map(Result::ok).find(unused).unwrap_or_else(|| like.id.clone())
}

/// A point that has the same place already. A part of a register may lie upon a whole number that bears any bits.
fn rival<'d>(point: &PointSpec, done: &[&'d PointSpec]) -> Option<&'d PointSpec> {
    let meets = |other: &&&PointSpec| {
        if !is_modbus(point) {
            return other.address == point.address;
        }
        let parts = (is_part(point), is_part(other));
        match parts {
            (true, true) => mask(point) & mask(other) != 0 && first(point) == first(other),
            (true, false) => is_within(point, other) && !bears_any_bits(other),
            (false, true) => is_within(other, point) && !bears_any_bits(point),
            (false, false) => overlap(point, other),
        }
    };
    done.iter().find(meets).copied()
}

/// Whether the simulator serves such places.
const fn can_be_simulated(address: &Address) -> bool {
    match address {
        Address::Column(_) => false,
        Address::OpcUa { .. }
        | Address::Modbus { .. }
        | Address::Mqtt { .. }
        | Address::MqttCbor { .. }
        | Address::Sparkplug { .. } => true,
    }
}

const fn is_modbus(point: &PointSpec) -> bool {
    matches!(point.address, Address::Modbus { .. })
}

fn is_part(point: &PointSpec) -> bool {
    matches!(point.address, Address::Modbus { bit: Some(_), .. }) || point.options.bits.is_some()
}

fn first(point: &PointSpec) -> Option<(tally_model::ModbusTable, u32)> {
    match point.address {
        Address::Modbus { table, offset, .. } => Some((table, u32::from(offset))),
        _ => None,
    }
}

fn overlap(one: &PointSpec, other: &PointSpec) -> bool {
    let (Some((table, start)), Some((other_table, other_start))) = (first(one), first(other)) else { return false };
    let (end, other_end) =
        (start + u32::from(one.registers().max(1)), other_start + u32::from(other.registers().max(1)));
    table == other_table && start < other_end && other_start < end
}

fn is_within(part: &PointSpec, whole: &PointSpec) -> bool {
    !is_part(whole) && overlap(part, whole)
}

/// The bits a part takes of its number. A part of several registers is taken for all of them.
fn mask(point: &PointSpec) -> u64 {
    match (&point.address, point.options.bits) {
        (Address::Modbus { bit: Some(bit), .. }, _) => 1 << bit,
        (_, Some(bits)) if point.registers() == 1 && point.order == ByteOrder::Abcd => {
            (u64::MAX >> (64 - u32::from(bits.width()))) << bits.low
        }
        _ => u64::MAX,
    }
}

/// Whether parts may put any bits into it, and it is still a value.
fn bears_any_bits(point: &PointSpec) -> bool {
    let is_plain = matches!(
        point.encoding,
        Encoding::U16 | Encoding::I16 | Encoding::U32 | Encoding::I32 | Encoding::U64 | Encoding::I64
    );
    is_plain && point.range.is_none() && point.options.labels.is_none()
}

fn signal(point: &PointSpec, endpoint: &Endpoint, place: usize, is_base: bool) -> String {
    let mut text = format!("id: {}, at: {}", point.id, quoted(&point.address.to_string()));
    let is_bit = matches!(&point.address, Address::Modbus { table, bit, .. } if table.is_bits() || bit.is_some());
    if !is_bit && point.encoding != Encoding::Auto {
        let _ = write!(text, ", type: {}", point.encoding.word());
    }
    if point.order != ByteOrder::Abcd && matches!(endpoint, Endpoint::Modbus { .. }) {
        let _ = write!(text, ", order: {}", point.order.word());
    }
    if point.length > 0 {
        let _ = write!(text, ", length: {}", point.length);
    }
    if point.is_scaled() {
        let _ = write!(text, ", scale: {:?}, offset: {:?}", point.scale, point.offset);
    }
    if let Some(bits) = point.options.bits {
        let _ = write!(text, ", bits: \"{}-{}\"", bits.low, bits.high);
    }
    if let Some(labels) = &point.options.labels {
        let labels: Vec<String> =
            labels.iter().map(|(number, label)| format!("\"{number}\": {}", quoted(label))).collect();
        let _ = write!(text, ", labels: {{{}}}", labels.join(", "));
    }
    let _ = write!(text, ", from: {}", source(point, place, is_base));
    text
}

/// All is well with an alarm until somebody says otherwise (`set DEVICE POINT true`).
fn alarm(part: AlarmPart, point: &PointSpec) -> String {
    match part {
        AlarmPart::Active => "{constant: false}".to_owned(),
        AlarmPart::Acked | AlarmPart::Confirmed | AlarmPart::Enabled => "{constant: true}".to_owned(),
        AlarmPart::Severity => "{constant: 500}".to_owned(),
        AlarmPart::Message => format!("{{constant: {}}}", quoted(&point.id.as_str().to_uppercase())),
    }
}

/// What the point says. Whole words that carry parts stand still: the parts are what moves.
fn source(point: &PointSpec, place: usize, is_base: bool) -> String {
    if is_base {
        return "{constant: 0}".to_owned();
    }
    if let Address::OpcUa { alarm: Some(part), .. } = &point.address {
        return alarm(*part, point);
    }
    if let Some(labels) = &point.options.labels {
        let labels: Vec<String> = labels.values().map(|label| quoted(label)).collect();
        return format!("{{cycle: {{of: [{}], every: 7s}}}}", labels.join(", "));
    }
    let name = point.id.as_str().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if point.encoding == Encoding::Bool {
        return format!("{{constant: {}}}", !has(&ALARMS));
    }
    if point.encoding.is_text() {
        let text: String = point.id.as_str().to_uppercase().chars().take(usize::from(point.length.max(1))).collect();
        return format!("{{constant: {}}}", quoted(&text));
    }
    let (least, most) = believable(point);
    // Different points of a device do not move in step.
    let period = 20 + place * 7 % 41;
    if has(&COUNTERS) && most > least {
        let speed = rounded((most - least).min(3_600.0) / 3_600.0);
        return format!("{{ramp: {{from: {:?}, per_second: {speed:?}, until: {:?}}}}}", rounded(least), rounded(most));
    }
    let (mean, amplitude) = (f64::midpoint(least, most), (most - least) * 0.35);
    format!("{{sine: {{mean: {:?}, amplitude: {:?}, period: {period}s}}}}", rounded(mean), rounded(amplitude))
}

/// What the point believes and its registers can carry.
fn believable(point: &PointSpec) -> (f64, f64) {
    let (least, most) = carried(point);
    let (wanted_least, wanted_most) = point.range.unwrap_or_else(|| usual(&point.unit));
    let (both_least, both_most) = (wanted_least.max(least), wanted_most.min(most));
    if both_least < both_most { (both_least, both_most) } else { (least, most) }
}

/// Usual ranges of some units (UCUM codes), so that a rehearsal looks like a plant.
fn usual(unit: &Unit) -> (f64, f64) {
    match unit.as_str() {
        "Cel" => (15.0, 65.0),
        "bar" => (0.0, 10.0),
        "mm/s" => (0.5, 4.5),
        "V" => (225.0, 235.0),
        "Hz" => (49.9, 50.1),
        "/min" => (800.0, 3_000.0),
        _ => RANGE_USUAL,
    }
}

/// What the registers can carry, scaled.
fn carried(point: &PointSpec) -> (f64, f64) {
    let bits = point.options.bits.map(|bits| bits.width()).or_else(|| point.encoding.whole_bits());
    let (least, most) = match (point.encoding, bits) {
        (Encoding::Bcd16 | Encoding::Bcd32 | Encoding::Bcd64, Some(bits)) if point.options.bits.is_none() => {
            (0.0, 10_f64.powi(i32::from(bits) / 4) - 1.0)
        }
        (Encoding::I8 | Encoding::I16 | Encoding::I32 | Encoding::I64, Some(bits)) => {
            (-(2_f64.powi(i32::from(bits) - 1)), 2_f64.powi(i32::from(bits) - 1) - 1.0)
        }
        (Encoding::F16, _) => (-60_000.0, 60_000.0),
        (_, Some(bits)) => (0.0, 2_f64.powi(i32::from(bits)) - 1.0),
        (_, None) => (-NUMBER_MOST, NUMBER_MOST),
    };
    let (one, other) = (least * point.scale + point.offset, most * point.scale + point.offset);
    (one.min(other).max(-NUMBER_MOST), one.max(other).min(NUMBER_MOST))
}

/// Four digits are enough for a simulation, and people can read them.
fn rounded(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}
