//! The simulated devices and the mapping of a load, as YAML.

use std::fmt::Write;
use std::time::Duration;

/// Points of one device: 1,000 registers, nine requests.
const DEVICE_POINTS: usize = 500;
/// Devices behind one gateway: one connection, requests one after another.
const GATEWAY_DEVICES: usize = 5;
/// Registers in one request; 125 is the most Modbus allows, and floats take two.
const REQUEST_REGISTERS: u16 = 124;

/// What the agent reads.
pub struct Load {
    /// Name of the plant; a topic of its own, so that nothing retained of another load is heard.
    pub plant: &'static str,
    /// Modbus, or else OPC UA.
    pub is_modbus: bool,
    points: usize,
    every: Duration,
}

impl Load {
    /// Float registers.
    pub const fn modbus(plant: &'static str, points: usize, every: Duration) -> Self {
        Self { plant, is_modbus: true, points, every }
    }

    /// Variables of one server.
    pub const fn opcua(plant: &'static str, points: usize, every: Duration) -> Self {
        Self { plant, is_modbus: false, points, every }
    }

    pub fn title(&self) -> String {
        let what = if self.is_modbus { "Modbus float points" } else { "OPC UA variables" };
        format!("{} {what} every {} ms, from the device to the broker", self.points(), self.every.as_millis())
    }

    /// What the latency counts.
    pub const fn latency_is(&self) -> &'static str {
        if self.is_modbus {
            "latency from the arrival of a cycle's first answer at the agent to its message at a subscriber, same clock"
        } else {
            "latency from the source timestamp that the server gave a cycle's first value (so with the server's sampling and \
             publishing intervals) to its message at a subscriber, same clock; the server's values change every 100 ms, and where that \
             and its sampling beat, a cycle brings nothing new"
        }
    }

    #[allow(clippy::cast_precision_loss)] // some ten thousand
    pub fn values_per_second(&self) -> f64 {
        self.points() as f64 / self.every.as_secs_f64()
    }

    /// As asked for, in whole devices of equal size, at least one point each.
    fn points(&self) -> usize {
        self.devices() * self.device_points()
    }

    fn devices(&self) -> usize {
        if self.is_modbus { self.points.div_ceil(DEVICE_POINTS).max(1) } else { 1 }
    }

    fn device_points(&self) -> usize {
        self.points.div_ceil(self.devices()).max(1)
    }

    fn device(number: usize) -> String {
        format!("d{number:03}")
    }

    /// One file a process: the simulator reads at most a megabyte.
    pub fn simulations(&self) -> Vec<String> {
        let devices: Vec<usize> = (0..self.devices()).collect();
        devices.chunks(GATEWAY_DEVICES).map(|chunk| self.simulation(chunk)).collect()
    }

    fn simulation(&self, devices: &[usize]) -> String {
        let mut text = String::from("devices:\n");
        for (place, device) in devices.iter().enumerate() {
            let unit = place + 1;
            let serve = if self.is_modbus {
                format!("modbus+tcp://127.0.0.1:0?unit={unit}")
            } else {
                "opc.tcp://127.0.0.1:0".to_owned()
            };
            let _ = writeln!(text, "  - id: {}\n    serve: \"{serve}\"\n    signals:", Self::device(*device));
            for point in 0..self.device_points() {
                let at = self.address(point);
                // Every value is another one each time: nothing is spared by not changing.
                let from = "{noise: {mean: 50, spread: 40}}";
                let _ = writeln!(text, "      - {{id: p{point:05}, at: \"{at}\", type: f32, from: {from}}}");
            }
        }
        text
    }

    fn address(&self, point: usize) -> String {
        if self.is_modbus {
            format!("holding:{}", point * 2)
        } else {
            format!("nsu=urn:tallystick:bench;s=p{point:05}")
        }
    }

    /// Modbus devices are all alike; a plant file of all points would be above its megabyte.
    pub fn sheet(&self) -> Option<String> {
        self.is_modbus.then(|| format!("sheet: bench\nevery: {}ms\n{}", self.every.as_millis(), self.point_list("")))
    }

    pub fn mapping(&self, urls: &[String]) -> String {
        let mut text = format!("plant: {}\ndevices:\n", self.plant);
        for (number, url) in urls.iter().enumerate() {
            let _ = writeln!(text, "  - id: {}\n    connect: \"{url}\"", Self::device(number));
            if self.is_modbus {
                let _ = writeln!(text, "    use: points.yaml");
            } else {
                let every = self.every.as_millis();
                let _ =
                    write!(text, "    every: {every}ms\n    security: {{policy: none}}\n{}", self.point_list("    "));
            }
        }
        text
    }

    fn point_list(&self, indent: &str) -> String {
        let mut text = format!("{indent}points:\n");
        for point in 0..self.device_points() {
            let at = self.address(point);
            let kind = if self.is_modbus { ", type: f32" } else { "" };
            let _ = writeln!(text, "{indent}  - {{id: p{point:05}, at: \"{at}\"{kind}, unit: \"1\"}}");
        }
        text
    }

    /// Start and count of the requests that read one device.
    pub fn requests(&self) -> Vec<(u16, u16)> {
        let registers = u16::try_from(self.device_points() * 2).unwrap_or(u16::MAX);
        let starts = (0..registers).step_by(usize::from(REQUEST_REGISTERS));
        starts.map(|start| (start, REQUEST_REGISTERS.min(registers - start))).collect()
    }

    pub const fn every(&self) -> Duration {
        self.every
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_simulator::SimConfig;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn every_load_is_a_plant_that_can_be_read() {
        for load in [
            Load::modbus("m", 20_000, EVERY),
            Load::modbus("m", 7, EVERY),
            Load::modbus("m", 1_201, EVERY),
            Load::opcua("o", 5_000, EVERY),
            Load::opcua("o", 1, EVERY),
        ] {
            let mut urls = Vec::new();
            for (gateway, yaml) in load.simulations().iter().enumerate() {
                let config = SimConfig::parse(yaml, std::path::Path::new("sim.yaml"), &|_| None).unwrap();
                for (place, device) in config.devices.iter().enumerate() {
                    assert_eq!(device.signals.len(), load.device_points());
                    let port = 5_020 + gateway;
                    urls.push(match load.is_modbus {
                        true => format!("modbus+tcp://127.0.0.1:{port}?unit={}", place + 1),
                        false => format!("opc.tcp://127.0.0.1:{port}"),
                    });
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("plant.yaml");
            std::fs::write(&file, load.mapping(&urls)).unwrap();
            if let Some(sheet) = load.sheet() {
                std::fs::write(folder.path().join("points.yaml"), sheet).unwrap();
            }
            let plant = tally_mappings::load(&file, &|_| None).unwrap_or_else(|faults| panic!("{faults}"));
            let points: usize = plant.devices.iter().map(|device| device.points.len()).sum();
            assert_eq!(points, load.points());
            assert!(points >= load.points && points < load.points + load.devices());
            let read: u32 = load.requests().iter().map(|(_, count)| u32::from(*count)).sum();
            assert_eq!(read as usize, load.device_points() * 2);
        }
    }
}
