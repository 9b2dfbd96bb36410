//! What the tests share: device descriptions in one line, and a link that runs and can be listened to.
#![allow(dead_code)] // every test file uses its own part

#[path = "../../../../tests/src/patience.rs"]
mod patience;
#[path = "../../../../tests/src/servers/ports.rs"]
pub mod ports;
pub mod slave;

pub use patience::PATIENCE;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, LinkContext, LinkStatus, SINK_BATCHES_MAX, StatusReporter, SystemClock};
use tally_model::{
    Address, ByteOrder, DeviceId, DeviceSpec, Encoding, Endpoint, Outcome, PointId, PointSpec, Quality, Unit,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// `id address [type [order]]`, as in a mapping.
pub fn point(text: &str) -> PointSpec {
    let mut words = text.split_whitespace();
    let (id, at) = (words.next().unwrap(), words.next().unwrap());
    let encoding = words.next().map_or(Encoding::Bool, encoding);
    let order = words.next().map_or(ByteOrder::Abcd, order);
    let (id, address) = (PointId::try_new(id).unwrap(), Address::parse_modbus(at).unwrap());
    PointSpec { order, ..PointSpec::new(id, address, encoding, Unit::one()) }
}

pub fn encoding(word: &str) -> Encoding {
    serde_json::from_value(word.into()).unwrap_or_else(|_| panic!("no encoding `{word}`"))
}

pub fn order(word: &str) -> ByteOrder {
    ByteOrder::ALL.into_iter().find(|order| order.word() == word).unwrap_or_else(|| panic!("no order `{word}`"))
}

/// How long a device may take to answer: long, because a busy machine answers late. Who tests silence waits it out.
const TIMEOUT: Duration = Duration::from_secs(1);

pub fn device(id: &str, port: u16, unit: u8, points: Vec<PointSpec>) -> DeviceSpec {
    DeviceSpec {
        every: Duration::from_millis(50),
        timeout: TIMEOUT,
        points,
        ..DeviceSpec::new(
            DeviceId::try_new(id).unwrap(),
            Endpoint::parse(&format!("modbus+tcp://127.0.0.1:{port}?unit={unit}")).unwrap(),
        )
    }
}

/// A device on any line; `url` without the unit.
pub fn device_at(id: &str, url: &str, unit: u8, points: Vec<PointSpec>) -> DeviceSpec {
    DeviceSpec { endpoint: Endpoint::parse(&format!("{url}?unit={unit}")).unwrap(), ..device(id, 0, unit, points) }
}

/// One line of the published vectors.
pub struct Vector {
    pub spec: PointSpec,
    pub registers: Vec<u16>,
    pub value: String,
}

pub fn vectors() -> Vec<Vector> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/modbus-vectors.csv");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_path(file).unwrap();
    let rows = reader.records().enumerate().map(|(number, row)| {
        let row = row.unwrap();
        let mut spec = point(&format!("v{number} holding:0 {} {}", &row[0], &row[1]));
        spec.length = row[2].parse().unwrap();
        spec.options.bits = tally_model::BitField::parse(&row[3]);
        spec.scale = row[4].parse().unwrap();
        spec.offset = row[5].parse().unwrap();
        let registers = row[6].split(' ').map(|word| u16::from_str_radix(word, 16).unwrap()).collect();
        Vector { spec, registers, value: row[7].to_owned() }
    });
    rows.collect()
}

/// An outcome in the words of the vectors.
pub fn word(outcome: &Outcome) -> String {
    match outcome {
        Ok(tally_model::Value::Float(number)) => format!("{number:?}"),
        Ok(value) => value.to_string(),
        Err(reason) => format!("{reason:?}").chars().fold(String::new(), |text, c| match c {
            c if c.is_uppercase() && !text.is_empty() => text + "-" + &c.to_lowercase().to_string(),
            c => text + &c.to_lowercase().to_string(),
        }),
    }
}

/// A running link.
pub struct Running {
    pub batches: mpsc::Receiver<Batch>,
    pub status: watch::Receiver<LinkStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(devices: Vec<DeviceSpec>) -> Self {
        Self::run(tally_connector_modbus::link(devices).unwrap())
    }

    pub fn run(link: Box<dyn tally_connector_api::Link>) -> Self {
        let (sink, batches) = mpsc::channel(SINK_BATCHES_MAX);
        let (reporter, status) = StatusReporter::new(&link.name());
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock::default());
        let context = LinkContext { sink, status: reporter, clock, stop: stop.clone(), history: None };
        Self { batches, status, stop, task: tokio::spawn(link.run(context)) }
    }

    pub async fn next(&mut self) -> Batch {
        tokio::time::timeout(PATIENCE, self.batches.recv()).await.expect("a batch in time").expect("the link runs")
    }

    /// Batches until one of `device` says for its `point` what `wanted` says; gives how many batches that took.
    pub async fn until(&mut self, device: &str, point: &str, wanted: impl Fn(&Outcome, Quality) -> bool) -> usize {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut count = 0;
        let mut last = None;
        while tokio::time::Instant::now() < deadline {
            let batch = self.next().await;
            count += 1;
            if batch.device.as_str() != device {
                continue;
            }
            let sample = batch.samples.iter().find(|sample| sample.point.as_str() == point);
            if sample.is_some_and(|sample| wanted(&sample.outcome, sample.quality)) {
                return count;
            }
            last = sample.cloned().or(last);
        }
        panic!("{device}/{point} never said what was waited for; its last word was {last:?}");
    }

    /// Stops the link. A second is promised; the rest is for a busy machine.
    pub async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("stops").unwrap();
        assert_eq!(self.status.borrow().state, tally_connector_api::LinkState::Stopped);
    }
}
