//! A foreign server with history, structures, methods and alarms.

use super::{PATIENCE, cnc, point};
use std::path::PathBuf;
use std::process::Stdio;
use tally_model::{DeviceSpec, Encoding, OpcUaPolicy, PointSpec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// asyncua; commands in `tests/interop/servers/opcua_rich.py`.
pub struct Rich {
    pub port: u16,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Rich {
    pub async fn start(port: u16, options: &[&str]) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".tools/venv/bin/python");
        assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
        let mut command = Command::new(python);
        command.arg(root.join("tests/interop/servers/opcua_rich.py")).arg(port.to_string()).args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("the server starts");
        let ready = ready.unwrap().expect("the server ended at once; see its errors above");
        let port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        Self { port, input: child.stdin.take().unwrap(), child, output }
    }

    pub async fn tell(&mut self, line: &str) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.output.next_line()).await.unwrap().unwrap().unwrap();
        let rest = answer.strip_prefix("ok").unwrap_or_else(|| panic!("{line}: {answer}"));
        rest.trim().to_owned()
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A point at a node of its namespace.
pub fn at(id: &str, place: &str) -> PointSpec {
    point(id, &format!("nsu=urn:tallystick:rich;s={place}"), Encoding::Auto)
}

/// The machine, without security.
pub fn device(port: u16, points: Vec<PointSpec>) -> DeviceSpec {
    let mut device = cnc(port, OpcUaPolicy::None);
    device.points = points;
    device
}
