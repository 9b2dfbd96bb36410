//! What the tests share: a plant, the connector's description of it, and a link that runs.
#![allow(dead_code)] // every test file uses its own part

#[path = "../../../tests/src/patience.rs"]
mod patience;

pub use patience::PATIENCE;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, Link, LinkContext, StatusReporter, SystemClock};
use tally_model::{DeviceSpec, Endpoint, NoValue, Outcome, PointOptions, PointSpec, Unit};
use tally_simulator::{SimConfig, SimHandle};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub fn plant(yaml: &str) -> SimConfig {
    SimConfig::parse(yaml, Path::new("test.yaml"), &|_| None).unwrap()
}

/// The connector's view of the simulated devices, made from the simulator's own description.
pub fn specs(config: &SimConfig, handle: &SimHandle) -> Vec<DeviceSpec> {
    let specs = config.devices.iter().map(|device| DeviceSpec {
        every: Duration::from_millis(30),
        timeout: Duration::from_millis(150),
        gap_max: 16,
        points: device
            .signals
            .iter()
            .map(|signal| PointSpec {
                order: signal.order,
                length: signal.length,
                scale: signal.scale,
                offset: signal.offset,
                options: PointOptions {
                    every: None,
                    bits: signal.bits,
                    labels: signal.labels.clone(),
                    ..Default::default()
                },
                ..PointSpec::new(signal.id.clone(), signal.address.clone(), signal.encoding, Unit::one())
            })
            .collect(),
        ..DeviceSpec::new(device.id.clone(), Endpoint::parse(&handle.addresses()[device.id.as_str()]).unwrap())
    });
    specs.collect()
}

/// A running link.
pub struct Reader {
    batches: mpsc::Receiver<Batch>,
    stop: CancellationToken,
}

impl Reader {
    pub fn start(devices: Vec<DeviceSpec>) -> Self {
        Self::run(tally_connector_modbus::link(devices).unwrap())
    }

    pub fn run(link: Box<dyn Link>) -> Self {
        let (sink, batches) = mpsc::channel(8);
        let (status, _) = StatusReporter::new("plant");
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock::default());
        tokio::spawn(link.run(LinkContext { sink, status, clock, stop: stop.clone(), history: None }));
        Self { batches, stop }
    }

    pub async fn until(&mut self, device: &str, point: &str, wanted: impl Fn(&Outcome) -> bool) {
        self.until_named("", device, point, wanted).await;
    }

    /// Waits until a point says what is wanted; `what` is told when it never does.
    pub async fn until_named(&mut self, what: &str, device: &str, point: &str, wanted: impl Fn(&Outcome) -> bool) {
        let mut last = None;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            let batch = tokio::time::timeout(PATIENCE, self.batches.recv()).await.unwrap().unwrap();
            for sample in batch.samples.into_iter().filter(|sample| sample.point.as_str() == point) {
                if batch.device.as_str() == device && wanted(&sample.outcome) {
                    return;
                }
                last = Some(sample.outcome);
            }
        }
        panic!("{what}: {device}/{point} never said what was waited for; last: {last:?}");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn fails(reason: NoValue) -> impl Fn(&Outcome) -> bool {
    move |outcome: &Outcome| *outcome == Err(reason)
}
