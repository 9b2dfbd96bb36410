//! Commands that change the plant while it runs: one line each, answered by one line `ok …` or `error …`.

use crate::{PlantState, SimHandle, WireFault};
use tally_model::{Quality, Value, parse_duration};

/// What may be said, shown by `help` and when a command is not understood.
const HELP: &str = "repair DEVICE | get DEVICE SIGNAL | set DEVICE SIGNAL VALUE | freeze DEVICE SIGNAL | \
                    release DEVICE SIGNAL | fault DEVICE SIGNAL good|uncertain|bad | drop DEVICE TIME | \
                    wire DEVICE fine|garbage|half|exception CODE|delay TIME";

/// Carries out one line.
pub(crate) fn obey(line: &str, handle: &SimHandle) -> String {
    match carry_out(line, handle) {
        Ok(done) if done.is_empty() => "ok".to_owned(),
        Ok(done) => format!("ok {done}"),
        Err(fault) => format!("error {fault}"),
    }
}

fn carry_out(line: &str, handle: &SimHandle) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let plant = handle.state();
    if let [_, device, ..] = words.as_slice() {
        handle.check_device(device)?;
    }
    match words.as_slice() {
        ["help"] => Ok(HELP.to_owned()),
        ["repair", device] => handle.repair(device).map(|models| format!("repaired {models}")),
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
        ["wire", device, fault @ ..] => {
            let fault = parsed_wire_fault(fault)?;
            plant.set_wire_fault(device, fault);
            Ok(format!("{device} {fault:?}"))
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

fn parsed_wire_fault(words: &[&str]) -> Result<Option<WireFault>, String> {
    Ok(match words {
        ["fine"] => None,
        ["garbage"] => Some(WireFault::Garbage),
        ["half"] => Some(WireFault::Half),
        ["exception", code] => {
            let code = code.parse().map_err(|_| format!("`{code}` is no exception code from 1 to 255"))?;
            Some(WireFault::Exception(code))
        }
        ["delay", time] => Some(WireFault::Delay(parse_duration(time).map_err(|fault| fault.to_string())?)),
        _ => return Err("write `wire DEVICE fine|garbage|half|exception CODE|delay TIME`".to_owned()),
    })
}
