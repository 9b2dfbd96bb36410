//! Plays the recorded dialogues of `testcases/*.case` as a device on a real socket and compares every sample.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{PATIENCE, Running, device, point, word};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_model::{PointSpec, parse_duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug)]
enum Step {
    Accept,
    Expect(Vec<u8>),
    Answer(Vec<u8>),
    Close,
    Dropped,
    Wait(Duration),
}

#[derive(Default)]
struct Case {
    units: Vec<(u8, String, Vec<PointSpec>)>,
    steps: Vec<(usize, Step)>,
    /// Per device, `point outcome quality` in order.
    samples: BTreeMap<String, Vec<String>>,
}

fn parse(file: &Path) -> Case {
    let mut case = Case::default();
    for (number, line) in std::fs::read_to_string(file).unwrap().lines().enumerate() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let step = match verb {
            "unit" => {
                let (unit, name) = rest.split_once(' ').unwrap();
                case.units.push((unit.parse().unwrap(), name.to_owned(), Vec::new()));
                continue;
            }
            "point" => {
                case.units.last_mut().unwrap().2.push(point(rest));
                continue;
            }
            "=" => {
                let (name, sample) = rest.split_once(' ').unwrap();
                case.samples.entry(name.to_owned()).or_default().push(sample.to_owned());
                continue;
            }
            "accept" => Step::Accept,
            ">" => Step::Expect(bytes(rest)),
            "<" => Step::Answer(bytes(rest)),
            "close" => Step::Close,
            "dropped" => Step::Dropped,
            "wait" => Step::Wait(parse_duration(rest).unwrap()),
            "#" | "" => continue,
            other => panic!("{}:{}: `{other}` is no step", file.display(), number + 1),
        };
        case.steps.push((number + 1, step));
    }
    case
}

fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap()).collect()
}

/// The device's side. Ends with the last step; the listener stays open, so later questions just find silence.
async fn play(listener: TcpListener, steps: Vec<(usize, Step)>) -> (TcpListener, Option<TcpStream>) {
    let mut stream = None;
    for (line, step) in steps {
        let what = format!("line {line}: {step:?}");
        tokio::time::timeout(PATIENCE, play_step(&listener, &mut stream, step, &what))
            .await
            .unwrap_or_else(|_| panic!("{what} did not happen"));
    }
    (listener, stream)
}

async fn play_step(listener: &TcpListener, stream: &mut Option<TcpStream>, step: Step, what: &str) {
    match step {
        Step::Accept => *stream = Some(listener.accept().await.unwrap().0),
        Step::Expect(expected) => {
            let mut found = vec![0; expected.len()];
            stream.as_mut().unwrap().read_exact(&mut found).await.unwrap_or_else(|fault| panic!("{what}: {fault}"));
            assert_eq!(found, expected, "{what}");
        }
        // The link may have hung up already, as it should after a timeout.
        Step::Answer(answer) => drop(stream.as_mut().unwrap().write_all(&answer).await),
        Step::Close => drop(stream.take()),
        Step::Dropped => {
            let left = stream.take().unwrap().read(&mut [0; 64]).await;
            assert!(matches!(left, Ok(0) | Err(_)), "{what}: the link goes on on a connection it must not trust");
        }
        Step::Wait(time) => tokio::time::sleep(time).await,
    }
}

async fn run(file: &Path) {
    let case = parse(file);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut devices: Vec<_> =
        case.units.into_iter().map(|(unit, name, points)| device(&name, port, unit, points)).collect();
    // Several units: the first is asked first because it is due first, the others follow.
    devices.iter_mut().for_each(|device| device.gap_max = 8);
    let server = tokio::spawn(play(listener, case.steps));
    let mut link = Running::start(devices);
    let mut missing = case.samples;
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while missing.iter().any(|(device, wanted)| seen.get(device).map_or(0, Vec::len) < wanted.len()) {
        let batch = link.next().await;
        let samples = batch.samples.iter().map(|sample| {
            let quality = format!("{:?}", sample.quality).to_lowercase();
            format!("{} {} {quality}", sample.point, word(&sample.outcome))
        });
        seen.entry(batch.device.to_string()).or_default().extend(samples);
    }
    for (device, wanted) in &mut missing {
        let found = &seen[device][..wanted.len()];
        assert_eq!(found, &wanted[..], "{name}: samples of {device}");
    }
    // The device's side must have seen everything it expected too.
    let open = server.await.unwrap_or_else(|fault| panic!("{name}: {fault}"));
    link.stop().await;
    drop(open);
}

#[tokio::test]
async fn every_recorded_dialogue_gives_its_samples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    assert!(files.len() >= 20, "the cases are there: {files:?}");
    let mut cases = tokio::task::JoinSet::new();
    for file in files {
        cases.spawn(async move { run(&file).await });
    }
    while let Some(result) = cases.join_next().await {
        result.unwrap();
    }
}
