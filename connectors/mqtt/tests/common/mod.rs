//! A real mosquitto in a directory of its own, and what the tests share.

#![allow(dead_code)]

#[path = "../../../../tests/src/patience.rs"]
mod patience;
#[path = "../../../../tests/src/servers/ports.rs"]
mod ports;
pub mod recorder;

pub use patience::PATIENCE;
pub use ports::free_port;

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Batch, LinkContext, LinkState, LinkStatus, StatusReporter, SystemClock};
use tally_connector_mqtt::link;
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, Outcome, PointId, PointSpec, Sample, Secret, Unit,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a stop may take: a second is promised, the rest is for a busy machine.
pub const STOP_MAX: Duration = Duration::from_secs(10);

/// A mosquitto child, killed by its pid when dropped.
pub struct Mosquitto {
    pub port: u16,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts with `allow_anonymous true`.
    pub fn start() -> Self {
        Self::start_with("allow_anonymous true\n")
    }

    /// Starts with these lines besides the listener; `DIR` in them is the broker's directory.
    pub fn start_with(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let lines = lines.replace("DIR", dir.path().to_str().unwrap());
        // Run as whoever runs the test, or a test started by root could not read its own directory.
        let user = if is_root() { "user root\n" } else { "" };
        let config = format!("listener {port} 127.0.0.1\n{user}{lines}");
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut new = Self { port, dir, child: None };
        new.run();
        new
    }

    /// Runs (again) on the same port.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "already running");
        let child = Command::new(program("mosquitto"))
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen on {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`: no farewell to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, upon which it writes down what it knows.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, "TERM");
            child.wait().unwrap();
        }
    }

    /// Such as `STOP` and `CONT`.
    pub fn signal(&self, signal_name: &str) {
        signal(self.child.as_ref().expect("it runs"), signal_name);
    }

    /// Publishes from another process, QoS 1, and waits for its end.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        self.publish_with(topic, payload, &[]);
    }

    /// Each line is a message.
    pub fn publish_lines(&self, topic: &str, lines: &str) {
        self.run_publisher(topic, lines.as_bytes(), &["-l"]);
    }

    /// With more arguments of `mosquitto_pub`.
    pub fn publish_with(&self, topic: &str, payload: &[u8], arguments: &[&str]) {
        let mut all = vec![if payload.is_empty() { "-n" } else { "-s" }];
        all.extend(arguments);
        self.run_publisher(topic, payload, &all);
    }

    fn run_publisher(&self, topic: &str, payload: &[u8], arguments: &[&str]) {
        let mut child = Command::new(program("mosquitto_pub"))
            .args(["-h", "127.0.0.1", "-q", "1", "-t", topic, "-p", &self.port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(payload).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }

    /// Makes a password file with one user; returns the configuration lines for it.
    pub fn password_lines(dir: &std::path::Path, user: &str, password: &str) -> String {
        let file = dir.join("passwords");
        let done =
            Command::new(program("mosquitto_passwd")).args(["-b", "-c"]).arg(&file).args([user, password]).status();
        assert!(done.unwrap().success());
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    }
}

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(done.unwrap().success());
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program, from PATH or from where Debian puts daemons.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    places
        .find_map(|place| Some(place.join(name)).filter(|file| file.is_file()))
        .unwrap_or_else(|| panic!("`{name}` is not installed; run `cargo xtask tools`"))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

pub fn point(id: &str, at: &str, encoding: Encoding) -> PointSpec {
    PointSpec::new(
        PointId::try_new(id).unwrap(),
        Address::parse_mqtt(at).unwrap(),
        encoding,
        Unit::try_new("Cel").unwrap(),
    )
}

pub fn device(port: u16, points: Vec<PointSpec>) -> DeviceSpec {
    DeviceSpec {
        every: Duration::from_millis(500),
        points,
        ..DeviceSpec::new(
            DeviceId::try_new("hall").unwrap(),
            Endpoint::parse(&format!("mqtt://127.0.0.1:{port}")).unwrap(),
        )
    }
}

pub fn login(mut device: DeviceSpec, user: &str, password: &str) -> DeviceSpec {
    device.security.user = Some(user.into());
    device.security.password = Some(Secret::new(password.into()));
    device
}

/// A running link.
pub struct Running {
    pub batches: mpsc::Receiver<Batch>,
    pub status: watch::Receiver<LinkStatus>,
    pub stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(devices: Vec<DeviceSpec>, client_id: &str, sink_batches_max: usize) -> Self {
        let link = link(devices, client_id).unwrap();
        let (sink, batches) = mpsc::channel(sink_batches_max);
        let (reporter, status) = StatusReporter::new(&link.name());
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock::default());
        let context = LinkContext { sink, status: reporter, clock, stop: stop.clone(), history: None };
        let task = tokio::spawn(link.run(context));
        Self { batches, status, stop, task }
    }

    pub async fn until(&mut self, expected: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
        wait_for(&mut self.status, expected).await
    }

    pub async fn until_up(&mut self) {
        self.until(|status| matches!(status.state, LinkState::Up { .. })).await;
    }

    /// The samples of the next batch.
    pub async fn next(&mut self) -> Vec<Sample> {
        let batch = tokio::time::timeout(PATIENCE, self.batches.recv()).await.expect("a batch in time");
        batch.expect("the link lives").samples
    }

    /// Point names and outcomes of the next batch.
    pub async fn outcomes(&mut self) -> Vec<(String, Outcome)> {
        self.next().await.into_iter().map(|sample| (sample.point.to_string(), sample.outcome)).collect()
    }

    /// The outcome of the next batch, which has one sample.
    pub async fn outcome(&mut self) -> Outcome {
        let mut samples = self.next().await;
        assert_eq!(samples.len(), 1, "{samples:?}");
        samples.remove(0).outcome
    }

    /// Stops, and gives how long that took.
    pub async fn stop(self) -> Duration {
        let start = Instant::now();
        self.stop.cancel();
        self.task.await.unwrap();
        assert_eq!(self.status.borrow().state, LinkState::Stopped);
        start.elapsed()
    }
}

pub async fn wait_for(
    status: &mut watch::Receiver<LinkStatus>,
    expected: impl FnMut(&LinkStatus) -> bool,
) -> LinkStatus {
    let listener = status.clone();
    match tokio::time::timeout(PATIENCE, status.wait_for(expected)).await {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("the status never came; it is {:?}", listener.borrow()),
    }
}
