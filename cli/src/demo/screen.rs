//! What the demo shows: one line a thing that happened, and a live line for what the press says.

use super::scada::Message;
use crate::commands::call::Done;
use crate::show::word;
use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tally_verifier::Report;

/// Without a terminal the readings are told once in this time instead of continuously.
const READINGS_EVERY: Duration = Duration::from_secs(2);
/// Vibration values in the little graph.
const GRAPH_VALUES: usize = 24;
/// The graph's lowest and highest value in mm/s (ISO 10816: above 7.1 a machine of this class is not to be run).
const GRAPH_MAX: f64 = 9.0;

/// Cheap to clone; all clones write to the same terminal.
#[derive(Clone)]
pub struct Screen {
    state: Arc<Mutex<State>>,
}

struct State {
    began: Instant,
    json: bool,
    live: bool,
    /// device/point → value with unit.
    values: BTreeMap<String, String>,
    vibration: VecDeque<f64>,
    told: Option<Instant>,
    live_line_shown: bool,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        let live = std::io::stdout().is_terminal() && !json;
        let state = State {
            began: Instant::now(),
            json,
            live,
            values: BTreeMap::new(),
            vibration: VecDeque::new(),
            told: None,
            live_line_shown: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// One line: when, who, what.
    pub fn say(&self, who: &str, what: &str) {
        self.lock().say(who, what);
    }

    /// What came of a call.
    pub fn call(&self, who: &str, verb: &str, order: &str, done: &Done) {
        match &done.reason {
            Some(reason) => self.say(who, &format!("{verb} {order}, but is refused: {reason}")),
            None => self.say(who, &format!("{verb} {order} (entry {} of the ledger)", done.entry)),
        }
    }

    /// A message of the agent, as SCADA hears it.
    pub fn show_message(&self, message: &Message) {
        let mut state = self.lock();
        let parts: Vec<_> = message.topic.split('/').skip(2).collect();
        match parts.as_slice() {
            [device, "triggers", trigger] => {
                let transition = word(&message.payload["transition"]);
                let what = format!("{trigger} {transition} on {device}, sealed by the agent");
                state.say("trigger", &what);
            }
            ["ledger", ..] | ["agent", ..] | [_, "status"] => {}
            [device, point] => state.reading(device, point, &message.payload),
            _ => {}
        }
    }

    /// The last word, for people or as JSON.
    pub fn finish(&self, order: &str, conserved: bool, report: &Report, file: &Path, took: Duration) {
        let mut state = self.lock();
        let well = conserved && report.all_hold();
        if state.json {
            let summary = serde_json::json!({
                "order": order, "paid": true, "conserved": conserved, "evidence": file, "holds": report.all_hold(),
                "links": report.links.len(), "seconds": took.as_secs_f64(),
            });
            println!("{summary}");
            return;
        }
        let line = if well { "paid, totals conserved, evidence holds" } else { "something does not hold, see above" };
        state.say("demo", &format!("{order}: {line}"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not silence the screen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn say(&mut self, who: &str, what: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.json {
            println!("{}", serde_json::json!({"seconds": seconds, "who": who, "what": what}));
            return;
        }
        self.clear_live_line();
        println!("{seconds:6.1} s  {who:<9} {what}");
        self.show_live_line();
    }

    fn reading(&mut self, device: &str, point: &str, payload: &serde_json::Value) {
        let unit = payload["u"].as_str().filter(|unit| *unit != "1").unwrap_or_default();
        let value = match payload["v"].as_f64() {
            Some(number) => format!("{number:.2} {unit}"),
            None if payload["v"].is_null() => word(&payload["e"]),
            None => word(&payload["v"]),
        };
        self.values.insert(format!("{device}/{point}"), value.trim_end().to_owned());
        if let ("press-01", "vibration", Some(number)) = (device, point, payload["v"].as_f64()) {
            self.vibration.push_back(number);
            if self.vibration.len() > GRAPH_VALUES {
                self.vibration.pop_front();
            }
        }
        if self.live {
            self.clear_live_line();
            self.show_live_line();
        } else if !self.json && self.told.is_none_or(|told| told.elapsed() >= READINGS_EVERY) {
            self.told = Some(Instant::now());
            let line = self.live_line();
            println!("{:6.1} s  {line}", self.began.elapsed().as_secs_f64());
        }
    }

    fn live_line(&self) -> String {
        let value = |key: &str| self.values.get(key).map_or("…", String::as_str);
        let graph: String = self.vibration.iter().map(|value| bar(*value)).collect();
        format!(
            "press-01  vibration {:<10} {graph}  oil {}  | cnc-02 load {} | hall {}",
            value("press-01/vibration"),
            value("press-01/oil_temp"),
            value("cnc-02/spindle_load"),
            value("hall-climate/temperature"),
        )
    }

    fn clear_live_line(&mut self) {
        if self.live && self.live_line_shown {
            print!("\r\x1b[2K");
            self.live_line_shown = false;
        }
    }

    fn show_live_line(&mut self) {
        if self.live && !self.values.is_empty() {
            // Long lines would wrap and could not be cleared: cut at what every terminal has.
            let line: String = self.live_line().chars().take(118).collect();
            print!("          {line}");
            // A terminal that went away shows in the next println.
            let _ = std::io::stdout().flush();
            self.live_line_shown = true;
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=7 first
fn bar(value: f64) -> char {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[(value / GRAPH_MAX * 7.0).clamp(0.0, 7.0) as usize]
}
