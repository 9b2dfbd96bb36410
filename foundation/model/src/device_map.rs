//! The address map of a device as one text: where each value is and how its bytes become a number. Its SHA-256 is the
//! *mapping fingerprint* that triggers carry: who moves a register or changes a scale changes it.

use crate::{DeviceSpec, PointSpec};
use std::fmt::Write;

impl DeviceSpec {
    /// One line a point, in order of id, LF at the end of each: id, address, type, byte order, length, scale, offset, unit, bits (`4-7`) and labels
    /// (`0=stopped`, commas between), a tab between two, `-` for none. Not in it: where the device is reached, how often it is asked, what is believed,
    /// published or written.
    #[must_use]
    pub fn address_map(&self) -> String {
        let templates = self.templates.iter().map(|template| &template.point);
        let mut lines: Vec<String> = self.points.iter().chain(templates).map(line).collect();
        lines.sort_unstable();
        lines.concat()
    }
}

fn line(point: &PointSpec) -> String {
    let PointSpec { id, address, encoding, order, length, scale, offset, unit, options, .. } = point;
    let mut line = format!("{id}\t{address}\t{}\t{}\t{length}", encoding.word(), order.word());
    let bits = options.bits.map_or_else(|| "-".to_owned(), |bits| format!("{}-{}", bits.low, bits.high));
    // Writing into a String cannot fail. Doubles in the shortest form that reads back the same.
    let _ = write!(line, "\t{scale:?}\t{offset:?}\t{unit}\t{bits}\t");
    match &options.labels {
        None => line.push('-'),
        Some(labels) => {
            let labels: Vec<_> = labels.iter().map(|(number, label)| format!("{number}={label}")).collect();
            line.push_str(&labels.join(","));
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, DeviceId, Encoding, Endpoint, PointId, Unit};

    fn device() -> DeviceSpec {
        let point = |id: &str, address: &str, encoding| {
            let address = Address::parse_column(address).unwrap();
            PointSpec::new(PointId::try_new(id).unwrap(), address, encoding, Unit::one())
        };
        let endpoint = Endpoint::parse("modbus+tcp://127.0.0.1:502").unwrap();
        let mut device = DeviceSpec::new(DeviceId::try_new("press-01").unwrap(), endpoint);
        device.points = vec![point("b", "column:b", Encoding::F32), point("a", "column:a", Encoding::U16)];
        device
    }

    #[test]
    fn a_moved_or_rescaled_point_changes_it_and_nothing_else_does() {
        let map = device().address_map();
        assert_eq!(map, "a\tcolumn:a\tu16\tABCD\t0\t1.0\t0.0\t1\t-\t-\nb\tcolumn:b\tf32\tABCD\t0\t1.0\t0.0\t1\t-\t-\n");
        let changed = |change: &dyn Fn(&mut DeviceSpec)| {
            let mut other = device();
            change(&mut other);
            other.address_map() != map
        };
        assert!(changed(&|device| device.points[0].scale = 0.1));
        assert!(changed(&|device| device.points[1].address = Address::parse_column("column:c").unwrap()));
        assert!(changed(&|device| drop(device.points.pop())));
        assert!(!changed(&|device| device.points.reverse()));
        assert!(!changed(&|device| device.every = std::time::Duration::from_secs(9)));
        assert!(!changed(&|device| device.points[0].deadband = Some(1.0)));
    }
}
