//! Recordings played through the link, and recordings that cannot be played.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../../../tests/src/patience.rs"]
mod patience;

use patience::PATIENCE;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::{Batch, LinkContext, StatusReporter, SystemClock};
use tally_connector_replay::{AtEnd, ReplayError, link, load};
use tally_model::{
    Address, DeviceId, DeviceSpec, Encoding, Endpoint, NoValue, PointId, PointSpec, Timestamp, Unit, Value,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn point(id: &str, column: &str, encoding: Encoding) -> PointSpec {
    PointSpec::new(
        PointId::try_new(id).unwrap(),
        Address::Column(column.into()),
        encoding,
        Unit::try_new("mm/s").unwrap(),
    )
}

fn device(id: &str, file: &Path, points: Vec<PointSpec>) -> DeviceSpec {
    DeviceSpec {
        every: Duration::from_secs(3600),
        points,
        ..DeviceSpec::new(DeviceId::try_new(id).unwrap(), Endpoint::Replay { file: file.to_owned() })
    }
}

fn press() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/press.csv")
}

/// The first `count` batches.
async fn play(devices: Vec<DeviceSpec>, at_end: AtEnd, count: usize) -> Vec<Batch> {
    let link = link(devices, at_end).unwrap();
    let (sink, mut batches) = mpsc::channel(4);
    let (status, _listener) = StatusReporter::new(&link.name());
    let stop = CancellationToken::new();
    let clock = Arc::new(SystemClock::default());
    let task = tokio::spawn(link.run(LinkContext { sink, status, clock, stop: stop.clone(), history: None }));
    let mut heard = Vec::new();
    while heard.len() < count {
        let batch = tokio::time::timeout(PATIENCE, batches.recv()).await.expect("a batch in time");
        heard.push(batch.unwrap());
    }
    if at_end == AtEnd::Stop {
        let more = tokio::time::timeout(Duration::from_millis(300), batches.recv()).await;
        assert!(more.is_err(), "after the end nothing is said, and the link runs on: {more:?}");
    }
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("stops").unwrap();
    heard
}

#[tokio::test]
async fn a_recording_is_played_at_its_pace_to_its_devices() {
    let file = press();
    let vibration = point("vibration", "vibration", Encoding::F32);
    let one = device("press-01", &file, vec![vibration, point("running", "running", Encoding::Bool)]);
    let two = device("press-02", &file, vec![point("strokes", "strokes", Encoding::U32)]);
    let batches = play(vec![one, two], AtEnd::Stop, 8).await;
    let said: Vec<String> = batches
        .iter()
        .map(|batch| {
            let samples = batch.samples.iter().map(|sample| format!(" {}={:?}", sample.point, sample.outcome));
            format!("{}{}", batch.device, samples.collect::<String>())
        })
        .collect();
    assert_eq!(
        said,
        [
            "press-01 vibration=Ok(Float(2.1)) running=Ok(Bool(true))",
            "press-02 strokes=Ok(Integer(100))",
            "press-01 running=Ok(Bool(true))",
            "press-02 strokes=Ok(Integer(101))",
            "press-01 vibration=Err(NotANumber) running=Ok(Bool(false))",
            "press-02 strokes=Ok(Integer(102))",
            "press-01 vibration=Ok(Float(9.5)) running=Ok(Bool(false))",
            "press-02 strokes=Ok(Integer(103))",
        ]
    );
    let spread = batches[7].samples[0].received.since(batches[0].samples[0].received);
    assert!(spread >= Duration::from_millis(149), "150 ms of recording were played in {spread:?}");
    assert!(batches.iter().flat_map(|batch| &batch.samples).all(|sample| sample.unit.as_str() == "mm/s"));
}

#[tokio::test]
async fn a_recording_can_play_round_and_round() {
    let strokes = device("press-01", &press(), vec![point("strokes", "strokes", Encoding::Auto)]);
    let batches = play(vec![strokes], AtEnd::Repeat, 9).await;
    let said: Vec<_> = batches.iter().map(|batch| batch.samples[0].outcome.clone().unwrap()).collect();
    assert_eq!(said, [100, 101, 102, 103, 100, 101, 102, 103, 100].map(Value::Integer));
}

#[tokio::test]
async fn instants_become_source_times_and_ranges_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instants.csv");
    std::fs::write(&file, "time,t\n2026-01-01T00:00:00Z,20\n2026-01-01T01:00:00.02+01:00,2000\n").unwrap();
    let mut point = point("t", "t", Encoding::I16);
    point.range = Some((0.0, 100.0));
    let batches = play(vec![device("hall", &file, vec![point])], AtEnd::Stop, 2).await;
    let sample = &batches[0].samples[0];
    assert_eq!(Some(sample.source_time), Timestamp::parse_rfc3339("2026-01-01T00:00:00Z"));
    assert!(sample.received > sample.source_time);
    assert_eq!(batches[1].samples[0].outcome, Err(NoValue::OutOfRange));
}

#[test]
fn cells_come_with_time_line_and_column() {
    let cells = load(&press()).unwrap();
    assert_eq!(cells.len(), 4 * 4 - 1 - 2);
    let worn = cells.iter().find(|cell| cell.text == "worn").unwrap();
    assert_eq!((worn.offset, worn.line, worn.column.as_str()), (Duration::from_millis(100), 4, "note"));
}

#[test]
fn what_cannot_be_played_is_said_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |content: &str, column: &str, encoding| -> ReplayError {
        let file = folder.path().join("bad.csv");
        std::fs::write(&file, content).unwrap();
        link(vec![device("press-01", &file, vec![point("p", column, encoding)])], AtEnd::Stop).err().unwrap()
    };
    let says = |fault: ReplayError, wanted: &str| {
        assert!(fault.to_string().contains(wanted), "`{fault}` does not say `{wanted}`");
    };
    says(fault("a,b\n1,2\n", "a", Encoding::Auto), "has no column `time`; there are: a, b");
    says(fault("time,b\n1,2\n", "a", Encoding::Auto), "has no column `a`");
    says(fault("time,b\n1,2\n", "time", Encoding::Auto), "has no column `time`");
    says(fault("time,a\n", "a", Encoding::Auto), "has no rows");
    says(fault("time,a\n0,1\nsoon,2\n", "a", Encoding::Auto), "bad.csv:3: column `time`: `soon` is not a time");
    says(fault("time,a\n2,1\n1,2\n", "a", Encoding::Auto), "bad.csv:3: column `time`: `1`");
    says(
        fault("time,a\n0,1\n5,2\n3,2\n", "a", Encoding::Auto),
        "bad.csv:4: column `time`: `3` is not a time at or after",
    );
    says(fault("time,a\n0,1\n1,70000\n", "a", Encoding::U16), "bad.csv:3: column `a`: `70000` is not a whole number");
    says(fault("time,a\n0,maybe\n", "a", Encoding::Bool), "`maybe` is not a flag");
    says(fault("time,a\n0,1\n1\n", "a", Encoding::Auto), "line: 3");
    let nowhere = device("press-01", Path::new("/no/such/file.csv"), vec![point("p", "a", Encoding::Auto)]);
    says(link(vec![nowhere], AtEnd::Stop).err().unwrap(), "/no/such/file.csv: cannot be read");
    let mut wrong = point("p", "a", Encoding::Auto);
    wrong.address = Address::parse_modbus("coil:1").unwrap();
    says(link(vec![device("press-01", &press(), vec![wrong])], AtEnd::Stop).err().unwrap(), "`coil:1` is no column");
    assert!(matches!(link(Vec::new(), AtEnd::Stop), Err(ReplayError::NoDevices)));
}
