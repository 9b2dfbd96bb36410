//! Where the devices of a mapping are simulated: where they are, if that can be on this computer, else on 127.0.0.1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tally_model::{Endpoint, ModbusLine, MqttBroker, SerialLine};

/// The first port for what cannot have its own: below 1024 only root may listen, and two hosts may have the same.
const FIRST_PORT: u16 = 15_020;

pub(super) struct Places<'f> {
    folder: &'f Path,
    /// Host and port in the mapping to port here.
    ports: BTreeMap<(String, u16), u16>,
}

impl<'f> Places<'f> {
    pub(super) const fn new(folder: &'f Path) -> Self {
        Self { folder, ports: BTreeMap::new() }
    }

    /// Where a device is simulated; `None` for recordings.
    pub(super) fn of(&mut self, endpoint: &Endpoint) -> Option<Endpoint> {
        Some(match endpoint {
            Endpoint::Modbus { line, unit } => Endpoint::Modbus { line: self.line(line), unit: *unit },
            Endpoint::OpcUa { url } => Endpoint::OpcUa { url: self.url(url) },
            // Sensors are simulated without TLS, in the version that every broker speaks.
            Endpoint::Mqtt(broker) => {
                let (host, port) = self.here(&broker.host, broker.port);
                Endpoint::Mqtt(MqttBroker::plain(&host, port))
            }
            Endpoint::Replay { .. } => return None,
        })
    }

    fn line(&mut self, line: &ModbusLine) -> ModbusLine {
        let mut here = |host: &str, port: &u16| self.here(host, *port);
        match line {
            ModbusLine::Tcp { host, port } => {
                let (host, port) = here(host, port);
                ModbusLine::Tcp { host, port }
            }
            ModbusLine::Tls { host, port } => {
                let (host, port) = here(host, port);
                ModbusLine::Tls { host, port }
            }
            ModbusLine::RtuOverTcp { host, port } => {
                let (host, port) = here(host, port);
                ModbusLine::RtuOverTcp { host, port }
            }
            ModbusLine::AsciiOverTcp { host, port } => {
                let (host, port) = here(host, port);
                ModbusLine::AsciiOverTcp { host, port }
            }
            ModbusLine::Rtu(serial) => ModbusLine::Rtu(self.serial(serial)),
            ModbusLine::Ascii(serial) => ModbusLine::Ascii(self.serial(serial)),
        }
    }

    /// `/dev` is the system's; a line there becomes one of its name in our folder.
    fn serial(&self, serial: &SerialLine) -> SerialLine {
        let path = match serial.path.strip_prefix("/dev") {
            Ok(inside) => self.folder.join(inside.to_string_lossy().replace('/', "-")),
            Err(_) => PathBuf::from(&serial.path),
        };
        SerialLine { path, ..serial.clone() }
    }

    /// Without its path: simulated servers have none.
    fn url(&mut self, url: &str) -> String {
        let rest = url.strip_prefix("opc.tcp://").unwrap_or(url);
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        // An IPv6 address has colons of its own, inside brackets.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(4840)),
            _ => (place, 4840),
        };
        let (here, served) = self.here(host, port);
        let has_stayed = (here.as_str(), served) == (host, port) && path.is_empty();
        if has_stayed { url.to_owned() } else { format!("opc.tcp://{here}:{served}") }
    }

    fn here(&mut self, host: &str, port: u16) -> (String, u16) {
        if is_here(host) && port >= 1_024 {
            self.ports.insert((host.to_owned(), port), port);
            return (host.to_owned(), port);
        }
        if let Some(known) = self.ports.get(&(host.to_owned(), port)) {
            return ("127.0.0.1".to_owned(), *known);
        }
        let is_free = |port: &u16| *port >= 1_024 && !self.ports.values().any(|taken| taken == port);
        let free = std::iter::once(port).chain(FIRST_PORT..u16::MAX).find(is_free).unwrap_or(port);
        self.ports.insert((host.to_owned(), port), free);
        ("127.0.0.1".to_owned(), free)
    }
}

fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_stays_and_the_rest_comes_here() {
        let mut places = Places::new(Path::new("/tmp/site"));
        let mut place = |text: &str| places.of(&Endpoint::parse(text).unwrap()).unwrap().to_string();
        for (written, served) in [
            ("modbus+tcp://127.0.0.1:5020?unit=1", "modbus+tcp://127.0.0.1:5020?unit=1"),
            ("modbus+tcp://10.0.0.7:502?unit=1", "modbus+tcp://127.0.0.1:15020?unit=1"),
            ("modbus+tcp://10.0.0.7:502?unit=2", "modbus+tcp://127.0.0.1:15020?unit=2"),
            ("modbus+tcp://10.0.0.8:502?unit=1", "modbus+tcp://127.0.0.1:15021?unit=1"),
            ("modbus+rtu+tcp://gateway:4001?unit=1", "modbus+rtu+tcp://127.0.0.1:4001?unit=1"),
            ("opc.tcp://cnc:4840/path", "opc.tcp://127.0.0.1:4840"),
            ("opc.tcp://localhost:4850/path", "opc.tcp://localhost:4850"),
            ("opc.tcp://localhost:4851/", "opc.tcp://localhost:4851/"),
            ("opc.tcp://[::1]:4841", "opc.tcp://[::1]:4841"),
            ("opc.tcp://other", "opc.tcp://127.0.0.1:15022"),
            ("mqtt://broker", "mqtt://127.0.0.1:1883"),
            ("mqtt://localhost:1884", "mqtt://localhost:1884"),
        ] {
            assert_eq!(place(written), served, "{written}");
        }
        assert!(place("modbus+rtu:///dev/serial/by-id/x?unit=3").starts_with("modbus+rtu:///tmp/site/serial-by-id-x?"));
        assert!(place("modbus+rtu:///tmp/own.tty?unit=3").starts_with("modbus+rtu:///tmp/own.tty?"));
        assert!(places.of(&Endpoint::parse("replay:x.csv").unwrap()).is_none());
    }
}
