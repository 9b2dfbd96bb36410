//! Two points that claim the same place.
//!
//! The same bytes read the same way twice are a waste (warning); the same bytes read in two ways are a slip (error),
//! except that single bits of a status word may be read beside the word.

use super::{Checker, Site};
use tally_model::{Address, Encoding, PointSpec};

impl Checker<'_> {
    pub(super) fn overlaps(&mut self, points: &[(PointSpec, Site<'_>)]) {
        for (index, (point, site)) in points.iter().enumerate() {
            // The nearest earlier claim is enough: its own clashes are reported with it.
            let Some((other, claim)) =
                points[..index].iter().rev().find_map(|(other, _)| Some((other, claim(other, point)?)))
            else {
                continue;
            };
            let fault = site.key("at").fault(match claim {
                Claim::Same => format!("`{}` already reads `{}`", other.id, other.address),
                Claim::Clash => format!("overlaps `{}`, which reads {}", other.id, extent(other)),
            });
            let fault = fault.found(extent(point));
            self.report(match claim {
                Claim::Same => fault.warning().hint("one point can be used in many triggers"),
                Claim::Clash => fault.hint("check address and type of both against the manual of the device"),
            });
        }
    }
}

enum Claim {
    Same,
    Clash,
}

fn claim(a: &PointSpec, b: &PointSpec) -> Option<Claim> {
    match (&a.address, &b.address) {
        (
            Address::Modbus { table: table_a, offset: offset_a, bit: bit_a },
            Address::Modbus { table: table_b, offset: offset_b, bit: bit_b },
        ) => {
            let (end_a, end_b) = (end(*offset_a, a), end(*offset_b, b));
            if table_a != table_b || end_a <= u32::from(*offset_b) || end_b <= u32::from(*offset_a) {
                return None;
            }
            if are_parts_of_one_word(a, b) {
                return None;
            }
            match (bit_a, bit_b) {
                (Some(bit_a), Some(bit_b)) => (bit_a == bit_b).then_some(Claim::Same),
                (Some(_), None) => (!is_status_word(b)).then_some(Claim::Clash),
                (None, Some(_)) => (!is_status_word(a)).then_some(Claim::Clash),
                (None, None) => Some(same_or_clash(a, b)),
            }
        }
        (address_a, address_b) => (address_a == address_b).then(|| same_or_clash(a, b)),
    }
}

fn same_or_clash(a: &PointSpec, b: &PointSpec) -> Claim {
    let alike = a.address == b.address
        && a.encoding == b.encoding
        && a.options.bits == b.options.bits
        && a.length == b.length
        && a.order == b.order;
    if alike { Claim::Same } else { Claim::Clash }
}

/// First address behind the point.
fn end(offset: u16, point: &PointSpec) -> u32 {
    u32::from(offset) + u32::from(point.registers().max(1))
}

/// Fields of the same number that share no bit, or a field beside the whole number. A signed field may lie beside an
/// unsigned one.
fn are_parts_of_one_word(a: &PointSpec, b: &PointSpec) -> bool {
    let same_width = a.encoding.whole_bits().is_some() && a.encoding.whole_bits() == b.encoding.whole_bits();
    let same_number = a.address == b.address && same_width && a.order == b.order;
    same_number
        && match (a.options.bits, b.options.bits) {
            (Some(a), Some(b)) => a.high < b.low || b.high < a.low,
            (one, other) => one.is_some() != other.is_some(),
        }
}

const fn is_status_word(point: &PointSpec) -> bool {
    matches!(point.encoding, Encoding::U16 | Encoding::I16 | Encoding::U32 | Encoding::I32)
}

/// `holding:16 to 17 (f32)`.
fn extent(point: &PointSpec) -> String {
    let kind = point.encoding.word();
    match &point.address {
        Address::Modbus { offset, .. } if point.registers() > 1 => {
            format!("`{}` to {} ({kind})", point.address, end(*offset, point) - 1)
        }
        address => format!("`{address}` ({kind})"),
    }
}
