//! A link under test, and a simulated CNC machine it reads.
#![allow(dead_code)] // each test file uses its part

#[path = "../../../../tests/src/patience.rs"]
mod patience;
#[path = "../../../../tests/src/servers/ports.rs"]
pub mod ports;
pub mod rich;

use opcua::crypto::{CertificateStore, X509Data};
pub use patience::PATIENCE;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{
    Batch, HistoricalBatch, LinkContext, LinkFault, LinkState, LinkStatus, StatusReporter, SystemClock,
};
use tally_connector_opcua::{Settings, link};
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, OpcUaPolicy, Origin, PointId, PointSpec, Sample, Secret,
    Security, Unit, Value,
};
use tally_simulator::{OpcUaOptions, OpcUaServerConfig, PlantState, SimConfig, serve_opcua_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The simulated machine. `users` is a YAML map such as `{operator: secret}`.
const PLANT: &str = "
devices:
  - id: cnc
    serve: opc.tcp://127.0.0.1:0
    users: USERS
    signals:
      - {id: load, at: 'nsu=urn:factory:cnc;s=Spindle.Load', from: {constant: 1.5}}
      - {id: parts, at: 'nsu=urn:factory:cnc;i=1001', type: u32, from: {constant: 7}}
      - {id: running, at: 'nsu=urn:factory:cnc;s=Running', from: {constant: true}}
      - {id: program, at: 'nsu=urn:factory:cnc;s=Program', from: {constant: 'O4711'}}
";

pub struct Plant {
    pub state: PlantState,
    pub port: u16,
    stop: CancellationToken,
    task: JoinHandle<Result<(), tally_simulator::SimError>>,
}

impl Plant {
    pub async fn start(options: OpcUaOptions, users: &str) -> Self {
        Self::start_at(0, options, users).await
    }

    pub async fn start_at(port: u16, options: OpcUaOptions, users: &str) -> Self {
        Self::start_yaml(port, options, &PLANT.replace("USERS", users)).await
    }

    /// A machine with `count` more signals `p0`, `p1`, … at `ns=2`-style numbers of its namespace.
    pub async fn start_large(count: usize) -> Self {
        let mut yaml = PLANT.replace("USERS", "{}");
        for number in 0..count {
            let at = format!("nsu=urn:factory:cnc;i={}", 10_000 + number);
            yaml.push_str(&format!("      - {{id: p{number}, at: '{at}', from: {{constant: 0}}}}\n"));
        }
        let plant = Self::start_yaml(0, OpcUaOptions::default(), &yaml).await;
        for number in 0..count {
            plant.state.set("cnc", &format!("p{number}"), Value::Integer(i64::try_from(number).unwrap()));
        }
        plant
    }

    pub async fn start_yaml(port: u16, options: OpcUaOptions, yaml: &str) -> Self {
        let config = SimConfig::parse(yaml, Path::new("plant.yaml"), &|_| None).unwrap();
        let device = config.devices.into_iter().next().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = OpcUaServerConfig { device: device.id, listener, users: device.users, signals: device.signals };
        let state = PlantState::default();
        state.set("cnc", "load", Value::Float(1.5));
        state.set("cnc", "parts", Value::Integer(7));
        state.set("cnc", "running", Value::Bool(true));
        state.set("cnc", "program", Value::Text("O4711".into()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve_opcua_with(server, options, state.clone(), stop.clone()));
        Self { state, port, stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A TCP line to a server that can be cut without anybody being told, as by a pulled cable behind a switch.
pub struct Line {
    pub port: u16,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pump(near_in, far_out, is_cut.clone()));
                tokio::spawn(pump(far_in, near_out, is_cut.clone()));
            }
        });
        Self { port, cut, task }
    }

    pub fn cut(&self) {
        self.cut.send(true).unwrap();
    }

    pub fn mend(&self) {
        self.cut.send(false).unwrap();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries bytes one way; once cut, this connection stays silent for ever but open.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 65_536];
    let carry = async {
        while let Ok(length) = from.read(&mut buffer).await {
            if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    };
    let cut = async { is_cut.wait_for(|cut| *cut).await.is_ok() };
    let is_cut = tokio::select! { biased; cut = cut => cut, () = carry => false };
    if is_cut {
        // Holds both halves: neither side sees an end.
        std::future::pending::<()>().await;
    }
    drop((from, to));
}

/// The server's own certificate is kept here, so that a restarted server is the same server.
pub fn with_pki(directory: &Path) -> OpcUaOptions {
    OpcUaOptions { pki: Some(directory.to_owned()), ..OpcUaOptions::default() }
}

pub fn point(id: &str, at: &str, encoding: Encoding) -> PointSpec {
    PointSpec::new(PointId::try_new(id).unwrap(), Address::parse_opcua(at).unwrap(), encoding, Unit::one())
}

/// The machine as a mapping would describe it.
pub fn cnc(port: u16, policy: OpcUaPolicy) -> DeviceSpec {
    DeviceSpec {
        security: Security { policy, ..Security::default() },
        every: Duration::from_millis(50),
        // A busy machine answers late, and a link that was down in between tells more than a test of values expects.
        timeout: Duration::from_secs(5),
        points: vec![
            point("load", "nsu=urn:factory:cnc;s=Spindle.Load", Encoding::Auto),
            point("parts", "nsu=urn:factory:cnc;i=1001", Encoding::U32),
            point("running", "nsu=urn:factory:cnc;s=Running", Encoding::Bool),
            point("program", "nsu=urn:factory:cnc;s=Program", Encoding::Text),
        ],
        ..DeviceSpec::new(
            DeviceId::try_new("cnc-02").unwrap(),
            Endpoint::parse(&format!("opc.tcp://127.0.0.1:{port}")).unwrap(),
        )
    }
}

pub fn with_user(mut device: DeviceSpec, user: &str, password: &str) -> DeviceSpec {
    device.security.user = Some(user.into());
    device.security.password = Some(Secret::new(password.into()));
    device
}

/// Certificate (DER) and key (PEM) of a person, made in `directory`.
pub fn user_certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join(format!("{name}.der")), directory.join(format!("{name}.pem")));
    let data = X509Data { common_name: name.into(), ..X509Data::sample_cert() };
    CertificateStore::create_certificate_and_key(&data, true, &certificate, &key).unwrap();
    // The library writes it readable for all.
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    (certificate, key)
}

pub fn settings(pki: &Path, trust_any: bool) -> Settings {
    Settings {
        pki: pki.to_owned(),
        application_name: "Tallystick test agent".into(),
        application_uri: "urn:tallystick:agent:test".into(),
        trust_any,
    }
}

pub struct Reader {
    pub batches: mpsc::Receiver<Batch>,
    /// What came from the server's history.
    pub history: mpsc::Receiver<HistoricalBatch>,
    pub status: watch::Receiver<LinkStatus>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
    /// Where the latest batch says that it comes from.
    pub origin: Option<Arc<Origin>>,
    /// Received, but not asked for yet.
    seen: Vec<Sample>,
}

impl Reader {
    pub fn start(devices: Vec<DeviceSpec>, settings: Settings) -> Self {
        Self::start_with_sink(devices, settings, 1_000)
    }

    pub fn start_with_sink(devices: Vec<DeviceSpec>, settings: Settings, room: usize) -> Self {
        let link = link(devices, settings).unwrap();
        let (sink, batches) = mpsc::channel(room);
        let (past, history) = mpsc::channel(1);
        let (reporter, status) = StatusReporter::new(&link.name());
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock::default());
        let context = LinkContext { sink, status: reporter, clock, stop: stop.clone(), history: Some(past) };
        let task = tokio::spawn(link.run(context));
        Self { batches, history, status, stop, task, origin: None, seen: Vec::new() }
    }

    /// The next sample of `point` that satisfies `wanted`; forgets those of `point` before it, keeps the other points'.
    pub async fn sample(&mut self, point: &str, wanted: impl Fn(&Sample) -> bool) -> Sample {
        let search = async {
            loop {
                let is_it = |sample: &Sample| sample.point.as_str() == point && wanted(sample);
                if let Some(place) = self.seen.iter().position(is_it) {
                    let sample = self.seen.remove(place);
                    let mut earlier = place;
                    self.seen.retain(|other| {
                        let keep = earlier == 0 || other.point != sample.point;
                        earlier = earlier.saturating_sub(1);
                        keep
                    });
                    return sample;
                }
                let batch = self.batches.recv().await.expect("the link ended");
                self.origin = batch.origin;
                self.seen.extend(batch.samples);
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(sample) => sample,
            Err(_) => {
                panic!("no such sample of {point}; the link is {}; seen {:?}", self.status.borrow().state, self.seen)
            }
        }
    }

    pub async fn value(&mut self, point: &str, value: Value) -> Sample {
        self.sample(point, |sample| sample.outcome.as_ref() == Ok(&value)).await
    }

    /// Waits until the link is down for a reason that satisfies `wanted`.
    pub async fn down(&mut self, wanted: impl Fn(&LinkFault) -> bool) -> LinkFault {
        let is_down = |status: &LinkStatus| matches!(&status.state, LinkState::Down { fault, .. } if wanted(fault));
        let mut status = self.status.clone();
        let waited =
            tokio::time::timeout(PATIENCE, status.wait_for(is_down)).await.map(|state| state.unwrap().state.clone());
        match waited {
            Ok(LinkState::Down { fault, .. }) => fault,
            _ => panic!("not down like that; the link is {}", self.status.borrow().state),
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        // A second is promised; the rest is for a busy machine.
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("stops").unwrap();
    }
}
