//! Commands that change the plant while it runs: one line each, answered by one line `ok …` or `error …`, on standard input
//! and on a Unix socket.

use crate::fault::{Defect, Flaw};
use crate::stepper::Stepper;
use crate::{DeviceConfig, PlantState, SimError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_model::{Endpoint, Quality, Value, parse_duration};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// What may be said, shown by `help` and when a command is not understood.
const HELP: &str = "devices | signals DEVICE | get DEVICE SIGNAL | set DEVICE SIGNAL VALUE | freeze DEVICE SIGNAL | \
                    release DEVICE SIGNAL | repair DEVICE | fault DEVICE SIGNAL good|uncertain|bad | drop DEVICE TIME | \
                    wire DEVICE fine|garbage|half|exception CODE|delay TIME | \
                    break DEVICE FAULT [OF] [for TIME] [on SIGNAL…] | heal DEVICE | faults DEVICE";

/// Longest command in bytes; more is no command but a mistake.
const LINE_BYTES_MAX: usize = 4_096;

/// What commands act upon; clones act upon the same plant.
#[derive(Clone)]
pub(crate) struct Controls {
    pub state: PlantState,
    stepper: Arc<Mutex<Stepper>>,
    devices: Arc<BTreeMap<String, Endpoint>>,
}

impl Controls {
    pub(crate) fn new(state: PlantState, stepper: Arc<Mutex<Stepper>>, devices: &[DeviceConfig]) -> Self {
        let devices = devices.iter().map(|device| (device.id.to_string(), device.serve.clone())).collect();
        Self { state, stepper, devices: Arc::new(devices) }
    }

    pub(crate) fn repair(&self, device: &str) -> Result<String, String> {
        let repaired = self.stepper.lock().unwrap_or_else(PoisonError::into_inner).repair(device);
        if repaired.is_empty() {
            return Err(format!("nothing of `{device}` wears out"));
        }
        Ok(repaired.into_iter().collect::<Vec<_>>().join(", "))
    }

    fn endpoint(&self, device: &str) -> Result<&Endpoint, String> {
        self.devices.get(device).ok_or_else(|| {
            let known: Vec<_> = self.devices.keys().cloned().collect();
            format!("there is no device `{device}`; there are: {}", known.join(", "))
        })
    }

    fn break_(&self, device: &str, words: &[&str]) -> Result<String, String> {
        let Broken { defect, lasts, signals } = broken(words)?;
        defect.check_for(self.endpoint(device)?)?;
        for signal in &signals {
            if self.state.get(device, signal).is_none() {
                return Err(no_signal(&self.state, device, signal));
            }
        }
        let flaw = Flaw { defect, signals };
        let shown = format!("{device}: {flaw}");
        self.state.afflict(device, flaw, lasts);
        Ok(shown)
    }
}

/// What `break` is to do.
struct Broken {
    defect: Defect,
    lasts: Option<Duration>,
    signals: Vec<String>,
}

/// `delay 2s for 10s`, `bad on vibration oil_temp`.
fn broken(words: &[&str]) -> Result<Broken, String> {
    let until = |word: &str| words.iter().position(|found| *found == word);
    let end = until("for").into_iter().chain(until("on")).min().unwrap_or(words.len());
    let defect = match words.get(..end) {
        Some([what]) => Defect::parse(what, None)?,
        Some([what, of]) => Defect::parse(what, Some(of))?,
        _ => {
            return Err(format!(
                "write `break DEVICE FAULT [OF] [for TIME] [on SIGNAL…]`; faults are: {}",
                Defect::WORDS
            ));
        }
    };
    let (on_end, signals) = match until("on") {
        Some(on) => (on, words.get(on + 1..).unwrap_or_default()),
        None => (words.len(), &[][..]),
    };
    let lasts = match until("for").filter(|place| *place < on_end).map(|place| words.get(place + 1..on_end)) {
        None => None,
        Some(Some([time])) => Some(parse_duration(time).map_err(|fault| fault.to_string())?),
        Some(_) => return Err("behind `for` comes one time: `for 10s`".to_owned()),
    };
    if until("on").is_some() && (signals.is_empty() || !defect.is_of_signals()) {
        return Err(format!(
            "`{defect}` {}",
            if signals.is_empty() { "on which signals?" } else { "concerns the whole device" }
        ));
    }
    Ok(Broken { defect, lasts, signals: signals.iter().map(|signal| (*signal).to_owned()).collect() })
}

/// Carries out one line.
pub(crate) fn obey(line: &str, controls: &Controls) -> String {
    match carry_out(line, controls) {
        Ok(done) if done.is_empty() => "ok".to_owned(),
        Ok(done) => format!("ok {done}"),
        Err(fault) => format!("error {fault}"),
    }
}

fn carry_out(line: &str, controls: &Controls) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let plant = &controls.state;
    if let [_, device, ..] = words.as_slice() {
        controls.endpoint(device)?;
    }
    match words.as_slice() {
        ["help"] => Ok(HELP.to_owned()),
        ["devices"] => Ok(controls.devices.keys().cloned().collect::<Vec<_>>().join(" ")),
        ["signals", device] => {
            Ok(plant.signals(device).into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "))
        }
        ["repair", device] => controls.repair(device).map(|models| format!("repaired {models}")),
        ["get", device, signal] => {
            plant.get(device, signal).map(|value| value.to_string()).ok_or_else(|| no_signal(plant, device, signal))
        }
        ["set", device, signal, text @ ..] => set(plant, device, signal, &text.join(" ")),
        ["freeze", device, signal] => known(plant.freeze(device, signal), plant, device, signal),
        ["release", device, signal] => known(plant.release(device, signal), plant, device, signal),
        ["fault", device, signal, quality] => {
            known(plant.set_quality(device, signal, parsed_quality(quality)?), plant, device, signal)
        }
        ["drop", device, time] => {
            let time = parse_duration(time).map_err(|fault| fault.to_string())?;
            plant.silence(device, time);
            Ok(format!("{device} is silent for {time:?}"))
        }
        ["wire", device, "fine"] => {
            plant.set_wire_fault(device, None);
            Ok(format!("{device} fine"))
        }
        ["wire", device, fault @ ("garbage" | "half" | "exception" | "delay"), of @ ..] if of.len() < 2 => {
            controls.break_(device, &[&[*fault], of].concat())
        }
        ["wire", ..] => Err("write `wire DEVICE fine|garbage|half|exception CODE|delay TIME`".to_owned()),
        ["break", device, fault @ ..] => controls.break_(device, fault),
        ["heal", device] => Ok(format!("{device}: {} faults ended", plant.heal(device))),
        ["faults", device] => {
            let shown: Vec<String> = plant.flaws(device).iter().map(ToString::to_string).collect();
            Ok(if shown.is_empty() { "none".to_owned() } else { shown.join(", ") })
        }
        _ => Err(format!("`{}` is no command; there are: {HELP}", line.trim())),
    }
}

/// The new value is of the kind the signal has now, so that a typing error cannot turn a number into a text.
fn set(plant: &PlantState, device: &str, signal: &str, text: &str) -> Result<String, String> {
    let now = plant.get(device, signal).ok_or_else(|| no_signal(plant, device, signal))?;
    let value = match now {
        Value::Bool(_) => text.parse().ok().map(Value::Bool),
        Value::Integer(_) | Value::Unsigned(_) => {
            text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::from_u64)).ok()
        }
        // NaN is allowed: a sensor may break that way.
        Value::Float(_) => text.parse().ok().map(Value::Float),
        Value::Text(_) => Some(Value::Text(text.to_owned())),
    };
    let value = value.ok_or_else(|| format!("`{text}` is not a {:?} as {device}/{signal} is", now.kind()))?;
    plant.set(device, signal, value);
    Ok(format!("{device}/{signal} is held at {text}"))
}

fn known(found: bool, plant: &PlantState, device: &str, signal: &str) -> Result<String, String> {
    if found { Ok(String::new()) } else { Err(no_signal(plant, device, signal)) }
}

fn no_signal(plant: &PlantState, device: &str, signal: &str) -> String {
    let names: Vec<_> = plant.signals(device).into_iter().map(|(name, _)| name).collect();
    format!("{device} has no signal `{signal}`; it has: {}", names.join(", "))
}

fn parsed_quality(word: &str) -> Result<Quality, String> {
    match word {
        "good" => Ok(Quality::Good),
        "uncertain" => Ok(Quality::Uncertain),
        "bad" => Ok(Quality::Bad),
        _ => Err(format!("`{word}` is no quality; there are: good, uncertain, bad")),
    }
}

/// Listens at `path`, whose old socket is replaced, and answers everybody who connects until `stop` is cancelled.
pub(crate) fn answer_on_socket(
    path: &Path,
    controls: Controls,
    stop: CancellationToken,
) -> Result<impl Future<Output = Result<(), SimError>> + Send + use<>, SimError> {
    use std::os::unix::fs::FileTypeExt;
    let fault = |source| SimError::Bind { what: "commands".to_owned(), address: path.display().to_string(), source };
    // A socket that nobody listens on any more is left behind by kill -9; anything else is not ours to remove.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path).map_err(fault)?;
    }
    let listener = UnixListener::bind(path).map_err(fault)?;
    let socket = Socket(path.to_owned());
    Ok(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let (controls, stop) = (controls.clone(), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(answer_lines(stream, &controls)).await });
        }
        drop(socket);
        Ok(())
    })
}

/// A socket file that goes with its listener.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(fault) = std::fs::remove_file(&self.0) {
            tracing::debug!(socket = %self.0.display(), %fault, "a socket stays behind");
        }
    }
}

/// A connection that breaks, or sends something endless, ends.
async fn answer_lines(stream: UnixStream, controls: &Controls) {
    use tokio::io::AsyncReadExt;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let longest = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match (&mut reader).take(longest).read_line(&mut line).await {
            Ok(1..) if line.ends_with('\n') => {}
            _ => return,
        }
        let answer = obey(&line, controls) + "\n";
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
