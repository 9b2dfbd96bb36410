//! Programs we did not write, as child processes, and the simulator that we did.

mod ports;
mod rogue;
mod rogue_opcua;

pub use ports::free_port;
pub use rogue::{Manner, Rogue};
pub use rogue_opcua::{OpcUaManner, RogueOpcUa};

use crate::programs::find;
use crate::{PATIENCE, Process, python, root, tally_command};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use std::path::{Path, PathBuf};
use tokio::net::TcpStream;
use tokio::process::Command;

/// pymodbus; commands in `tests/interop/servers/modbus_server.py`.
pub struct Pymodbus {
    /// Where it listens.
    pub port: u16,
    process: Process,
}

impl Pymodbus {
    /// Starts it with unit 1.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(port: u16) -> Self {
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/servers/modbus_server.py")).arg(port.to_string());
        let mut process = Process::start("pymodbus", command);
        assert_eq!(process.line().await, format!("ready {port}"));
        Self { port, process }
    }

    /// Carries out a command.
    ///
    /// # Panics
    /// When it does not.
    pub async fn tell(&mut self, line: &str) {
        assert_eq!(self.process.tell(line).await, "ok", "{line}");
    }

    /// Sets a 32-bit float, encoded by pymodbus, big-endian (`ABCD`).
    pub async fn set_f32(&mut self, holding: u16, value: f32) {
        self.tell(&format!("put holding {holding} FLOAT32 big {value}")).await;
    }

    /// Kills it, as a power cut would.
    pub async fn kill(mut self) {
        self.process.kill().await;
    }
}

/// asyncua; commands in `tests/interop/servers/opcua_server.py`.
pub struct Asyncua {
    process: Process,
}

impl Asyncua {
    /// Starts it; `security` is `none` or `basic256sha256`, its certificate lives in `pki`.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(port: u16, security: &str, pki: &Path) -> Self {
        Self::start_with(port, security, pki, &[]).await
    }

    /// The same, with more options.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_with(port: u16, security: &str, pki: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/servers/opcua_server.py")).arg(port.to_string()).arg(security).arg(pki);
        command.args(options);
        let mut process = Process::start("asyncua", command);
        assert_eq!(process.line().await, format!("ready {port}"));
        Self { process }
    }

    /// The same library with history, structures and methods: `tests/interop/servers/opcua_rich.py`.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn rich(port: u16, options: &[&str]) -> Self {
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/servers/opcua_rich.py")).arg(port.to_string()).args(options);
        let mut process = Process::start("asyncua", command);
        assert_eq!(process.line().await, format!("ready {port}"));
        Self { process }
    }

    /// Carries out a command.
    ///
    /// # Panics
    /// When it does not.
    pub async fn tell(&mut self, line: &str) {
        assert_eq!(self.process.tell(line).await, "ok", "{line}");
    }

    /// Kills it, as a power cut would.
    pub async fn kill(mut self) {
        self.process.kill().await;
    }
}

/// A mosquitto of our own, without persistence: what it knew is gone with it.
pub struct Mosquitto {
    /// Where it listens.
    pub port: u16,
    config: PathBuf,
    process: Process,
}

impl Mosquitto {
    /// Starts it; its configuration is written to `dir`.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, "").await
    }

    /// The same, with more lines of configuration.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn start_with(dir: &Path, more: &str) -> Self {
        let port = free_port();
        let config = dir.join(format!("mosquitto-{port}.conf"));
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{more}");
        std::fs::write(&config, text).unwrap();
        let process = Self::spawn(&config, port).await;
        Self { port, config, process }
    }

    async fn spawn(config: &Path, port: u16) -> Process {
        let mut command = Command::new(find("mosquitto"));
        command.arg("-c").arg(config);
        let process = Process::start("mosquitto", command);
        listening(port).await;
        process
    }

    /// `mosquitto_sub` on a topic with QoS 1: a line for each payload.
    #[must_use]
    pub fn subscriber(&self, topic: &str) -> Process {
        let mut command = Command::new(find("mosquitto_sub"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic]);
        Process::start("mosquitto_sub", command)
    }

    /// As a mapping or `--broker` has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again on the same port.
    pub async fn restart(&mut self) {
        self.process = Self::spawn(&self.config, self.port).await;
    }
}

/// Publishes with `mosquitto_pub`, as a sensor would.
///
/// # Panics
/// When the broker does not take it.
pub async fn publish(port: u16, topic: &str, payload: &str) {
    let said = try_publish(port, topic, payload).await;
    assert!(said.is_ok(), "mosquitto_pub: {said:?}");
}

/// The same, for a broker that may be away.
///
/// # Errors
/// What `mosquitto_pub` said.
pub async fn try_publish(port: u16, topic: &str, payload: &str) -> Result<(), String> {
    let mut command = Command::new(find("mosquitto_pub"));
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
    let output = Process::run(command, PATIENCE).await;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Publishes bytes of any kind and size with QoS 1, retained or not; returns when the broker has them.
///
/// # Panics
/// When the broker does not take them.
pub async fn publish_bytes(port: u16, topic: &str, payload: Vec<u8>, retain: bool) {
    publish_all(port, topic, vec![payload], retain).await;
}

/// The same with many messages, one right behind the other.
///
/// # Panics
/// When the broker does not take them.
pub async fn publish_all(port: u16, topic: &str, payloads: Vec<Vec<u8>>, retain: bool) {
    let mut options = MqttOptions::new(format!("bytes-{port}-{}", payloads.len()), "127.0.0.1", port);
    options.set_max_packet_size(usize::MAX, usize::MAX);
    let (client, mut events) = AsyncClient::new(options, payloads.len().max(1));
    let mut left = payloads.len();
    for payload in payloads {
        client.publish(topic, QoS::AtLeastOnce, retain, payload).await.unwrap();
    }
    let sent = async {
        while left > 0 {
            left -= usize::from(matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))));
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("the broker takes it");
}

/// `tally sim`; commands in `simulator/README.md`.
pub struct Simulator {
    process: Process,
}

impl Simulator {
    /// Starts it with a plant (YAML), which is written to `dir`.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(dir: &Path, plant: &str) -> Self {
        let file = dir.join("sim.test.yaml");
        std::fs::write(&file, plant).unwrap();
        let mut process = Process::start("tally sim", tally_command(&["sim", &file.display().to_string()]));
        let ready = process.line().await;
        assert!(ready.starts_with("ready"), "{ready}");
        Self { process }
    }

    /// Carries out a command.
    ///
    /// # Panics
    /// When it does not.
    pub async fn tell(&mut self, line: &str) {
        let answer = self.process.tell(line).await;
        assert!(answer.starts_with("ok"), "{line}: {answer}");
    }
}

async fn listening(port: u16) {
    crate::eventually(&format!("somebody who listens on port {port}"), async || {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_bound() {
        let mut ports: Vec<_> = (0..50).map(|_| free_port()).collect();
        assert!(ports.iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
