//! A link under test, and a simulated CNC machine it reads.
#![allow(dead_code)] // each test file uses its part

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, LinkContext, LinkFault, LinkState, LinkStatus, StatusReporter, SystemClock};
use tally_connector_opcua::{Settings, link};
use tally_model::{
    Address, ByteOrder, DeviceId, DeviceSpec, Encoding, Endpoint, OpcUaPolicy, PointId, PointSpec, Sample, Secret,
    Security, Unit, Value,
};
use tally_simulator::{OpcUaOptions, OpcUaServerConfig, PlantState, SimConfig, serve_opcua_with};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Generous: a shared build machine may be slow. Nothing waits this long when it works.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
        let yaml = PLANT.replace("USERS", users);
        let config = SimConfig::parse(&yaml, Path::new("plant.yaml"), &|_| None).unwrap();
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

/// The server's own certificate is kept here, so that a restarted server is the same server.
pub fn with_pki(directory: &Path) -> OpcUaOptions {
    OpcUaOptions { pki: Some(directory.to_owned()), ..OpcUaOptions::default() }
}

pub fn point(id: &str, at: &str, encoding: Encoding) -> PointSpec {
    PointSpec {
        id: PointId::try_new(id).unwrap(),
        address: Address::parse_opcua(at).unwrap(),
        encoding,
        order: ByteOrder::default(),
        length: 0,
        scale: 1.0,
        offset: 0.0,
        unit: Unit::one(),
        deadband: None,
        range: None,
    }
}

/// The machine as a mapping would describe it.
pub fn cnc(port: u16, policy: OpcUaPolicy) -> DeviceSpec {
    DeviceSpec {
        id: DeviceId::try_new("cnc-02").unwrap(),
        endpoint: Endpoint::parse(&format!("opc.tcp://127.0.0.1:{port}")).unwrap(),
        security: Security { policy, user: None, password: None },
        every: Duration::from_millis(50),
        timeout: Duration::from_secs(1),
        registers_per_request_max: 125,
        gap_max: 0,
        points: vec![
            point("load", "nsu=urn:factory:cnc;s=Spindle.Load", Encoding::Auto),
            point("parts", "nsu=urn:factory:cnc;i=1001", Encoding::U32),
            point("running", "nsu=urn:factory:cnc;s=Running", Encoding::Bool),
            point("program", "nsu=urn:factory:cnc;s=Program", Encoding::Text),
        ],
    }
}

pub fn with_user(mut device: DeviceSpec, user: &str, password: &str) -> DeviceSpec {
    device.security.user = Some(user.into());
    device.security.password = Some(Secret::new(password.into()));
    device
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
    pub status: watch::Receiver<LinkStatus>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
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
        let (reporter, status) = StatusReporter::new(&link.name());
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock::default());
        let context = LinkContext { sink, status: reporter, clock, stop: stop.clone() };
        Self { batches, status, stop, task: tokio::spawn(link.run(context)), seen: Vec::new() }
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
                self.seen.extend(self.batches.recv().await.expect("the link ended").samples);
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
        tokio::time::timeout(Duration::from_secs(1), self.task).await.expect("stops within a second").unwrap();
    }
}
