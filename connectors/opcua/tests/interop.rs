//! The link against a server we did not write: Python asyncua (pinned in `tests/interop/requirements.txt`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Reader, cnc, point, settings, with_user};
use sha2::Digest;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tally_connector_api::LinkFault;
use tally_model::{DeviceSpec, Encoding, LinkProtection, Login, NoValue, OpcUaPolicy, Quality, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The server as a child process; killed when the test ends.
struct Asyncua {
    port: u16,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Asyncua {
    async fn start(port: u16, security: &str, pki: &Path, login: Option<&str>) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let python = root.join(".tools/venv/bin/python");
        assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
        let mut command = Command::new(python);
        command.arg(root.join("tests/interop/servers/opcua_server.py")).arg(port.to_string()).arg(security).arg(pki);
        command.args(login).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(PATIENCE, output.next_line()).await.expect("the server starts");
        let ready = ready.unwrap().expect("the server ended at once; see its errors above");
        let port = ready.strip_prefix("ready ").unwrap().parse().unwrap();
        Self { port, input: child.stdin.take().unwrap(), child, output }
    }

    async fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.output.next_line()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, "ok", "{line}");
    }

    /// As a power cut would: no farewell on any connection.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn device(port: u16, policy: OpcUaPolicy) -> DeviceSpec {
    let at = |name: &str| format!("nsu=urn:tallystick:test;s={name}");
    let mut device = cnc(port, policy);
    device.points = vec![
        point("temperature", &at("Temperature"), Encoding::Auto),
        point("pressure", &at("Pressure"), Encoding::F32),
        point("count", &at("Count"), Encoding::I32),
        point("total", &at("Total"), Encoding::U64),
        point("running", &at("Running"), Encoding::Bool),
        point("program", &at("Program"), Encoding::Text),
        point("curve", &at("Curve"), Encoding::Auto),
        point("ghost", &at("No.Such.Node"), Encoding::Auto),
    ];
    device
}

/// Sets values and reads them back, each in its type.
async fn values_set_are_values_read(server: &mut Asyncua, reader: &mut Reader) {
    let rounds = [("22.25", "3.5", "8", "5000000001"), ("-40.125", "0.25", "-2147483648", "18446744073709551615")];
    for (temperature, pressure, count, total) in rounds {
        server.tell(&format!("set Temperature {temperature}")).await;
        server.tell(&format!("set Pressure {pressure}")).await;
        server.tell(&format!("set Count {count}")).await;
        server.tell(&format!("set Total {total}")).await;
        let sample = reader.value("temperature", Value::Float(temperature.parse().unwrap())).await;
        assert_eq!(sample.quality, Quality::Good);
        assert!(sample.received.since(sample.source_time) < PATIENCE, "{sample:?}");
        reader.value("pressure", Value::Float(pressure.parse().unwrap())).await;
        reader.value("count", Value::Integer(count.parse().unwrap())).await;
        reader.value("total", Value::from_u64(total.parse().unwrap())).await;
    }
    server.tell("set Running false").await;
    reader.value("running", Value::Bool(false)).await;
    server.tell("set Program O4712 rev B").await;
    reader.value("program", Value::Text("O4712 rev B".into())).await;
    server.tell("bad Count").await;
    reader.sample("count", |sample| sample.outcome == Err(NoValue::Refused)).await;
}

async fn reads_and_survives_a_restart(security: &str, policy: OpcUaPolicy) {
    let (pki, server_pki) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Asyncua::start(0, security, server_pki.path(), None).await;
    let port = server.port;
    let mut reader = Reader::start(vec![device(port, policy)], settings(pki.path(), true));
    reader.sample("curve", |sample| sample.outcome == Err(NoValue::Nonsense)).await;
    reader.sample("ghost", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    values_set_are_values_read(&mut server, &mut reader).await;
    server.kill().await;
    reader.down(|fault| matches!(fault, LinkFault::Line(_))).await;
    let mut server = Asyncua::start(port, security, server_pki.path(), None).await;
    reader.sample("ghost", |sample| sample.outcome == Err(NoValue::NoSuchAddress)).await;
    reader.value("temperature", Value::Float(21.5)).await;
    values_set_are_values_read(&mut server, &mut reader).await;
    reader.stop().await;
    server.kill().await;
}

#[tokio::test]
async fn without_security() {
    reads_and_survives_a_restart("none", OpcUaPolicy::None).await;
}

#[tokio::test]
async fn signed_and_encrypted() {
    reads_and_survives_a_restart("basic256sha256", OpcUaPolicy::Basic256Sha256SignAndEncrypt).await;
}

#[tokio::test]
async fn the_password_is_understood_and_checked() {
    let (pki, server_pki) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Asyncua::start(0, "basic256sha256", server_pki.path(), Some("operator:geheim")).await;
    let good = with_user(device(server.port, OpcUaPolicy::Best), "operator", "geheim");
    let mut reader = Reader::start(vec![good], settings(pki.path(), true));
    reader.value("count", Value::Integer(7)).await;
    // The values say over which link they came, and what the server calls itself.
    let origin = reader.origin.clone().unwrap();
    let der = std::fs::read(server_pki.path().join("server.der")).unwrap();
    let link = &origin.link;
    assert_eq!((link.protection, link.login), (LinkProtection::SignEncrypt, Some(Login::UserName)), "{origin}");
    assert_eq!(link.certificate, Some(sha2::Sha256::digest(der).into()), "{origin}");
    let identity = origin.identity.as_deref().unwrap();
    assert!(identity.ends_with("urn:tallystick:test:server"), "{identity}");
    reader.stop().await;
    let bad = with_user(device(server.port, OpcUaPolicy::Best), "operator", "falsch");
    let mut reader = Reader::start(vec![bad], settings(pki.path(), true));
    reader.down(|fault| matches!(fault, LinkFault::Credentials(_))).await;
    reader.stop().await;
    server.kill().await;
}
