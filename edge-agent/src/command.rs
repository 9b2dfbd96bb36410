//! Commands of SCADA over its broker, as JSON and as Sparkplug B (`docs/formats/topics.md`): read here, decided by the gate
//! ([`crate::gate`]), answered here.
//!
//! One at a time and at most [`PER_SECOND`] a second ([`BURST`] at once): each costs the ledger an entry.

mod json;
mod sparkplug;

pub(crate) use json::value_of;

use crate::gate::{Command, Gate, Refusal, Report};
use crate::publish::Topics;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_mqtt::sparkplug::Commanded;
use tally_connector_mqtt::{Heard, Publisher};
use tally_door::RateLimiter;
use tally_journal::Storage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Commands looked at in a second, in the long run.
const PER_SECOND: u32 = 10;
/// Commands looked at one behind the other after a silence.
const BURST: u32 = 50;

/// How commands are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// An older command is refused: it was for then.
    pub age_max: Duration,
}

/// Where commands come from.
pub(crate) struct Sources {
    /// JSON.
    pub json: mpsc::Receiver<Heard>,
    /// Sparkplug, with the sender's name for all of them; none when the agent is no edge node.
    pub sparkplug: Option<(String, mpsc::Receiver<Commanded>)>,
}

/// Takes commands until it is stopped.
pub(crate) struct Commands<S: Storage, P> {
    pub gate: Arc<Gate<S>>,
    pub topics: Topics,
    pub publisher: P,
    pub limits: CommandLimits,
    /// The broker, as the ledger is told.
    pub broker: String,
    pub agent: String,
}

/// A command as read, or why it cannot be; and where its answer goes.
struct Read {
    sender: String,
    /// Client, device and point, as they stand in the answer's topic.
    answer: [String; 3],
    id: Option<String>,
    command: Result<Command, Refusal>,
}

impl<S: Storage + Send + 'static, P: Publisher> Commands<S, P> {
    pub(crate) async fn run(self, mut sources: Sources, quit: CancellationToken) {
        let pace = RateLimiter::<()>::new(PER_SECOND).with_burst(BURST);
        let work = async {
            loop {
                let read = tokio::select! {
                    Some(heard) = sources.json.recv() => json::read(&heard, &self.topics, &self.agent, &self.broker),
                    Some((sender, command)) = hear(&mut sources.sparkplug) => {
                        Some(sparkplug::read(command, &sender, &self.broker))
                    }
                    else => return,
                };
                if let Some(read) = read {
                    let is_too_fast = !pace.takes(&(), Instant::now());
                    self.answer(read, is_too_fast).await;
                }
            }
        };
        quit.run_until_cancelled(work).await;
    }

    async fn answer(&self, read: Read, is_too_fast: bool) {
        let Read { sender, answer, id, command } = read;
        let done = match command {
            _ if is_too_fast => {
                let text = format!("commands come faster than {PER_SECOND} a second; nothing was done");
                Err(self.gate.turn_command_away(&sender, Refusal::new("too-fast", text)))
            }
            Err(refusal) => Err(self.gate.turn_command_away(&sender, refusal)),
            Ok(command) => self.gate.obey(&command, self.limits.age_max).await,
        };
        let message = self.topics.answer(&self.agent, &answer, &payload(id.as_deref(), done));
        // Only fails when we are being stopped; whoever hears no answer looks at the machine.
        let _ = self.publisher.publish(message).await;
    }
}

/// What a JSON command on a topic of the agent `agent-01` of the plant `line` would be, without a gate: for whoever tries the reader
/// with bytes of any kind. `None` when the topic is none of ours.
#[doc(hidden)]
#[must_use]
pub fn read_json(topic: &str, payload: &[u8]) -> Option<Result<String, String>> {
    let heard = Heard { topic: topic.to_owned(), payload: payload.to_vec(), is_retained: false };
    let read = json::read(&heard, &Topics::new("tallystick", "line"), "agent-01", "mqtt://broker:1883")?;
    Some(read.command.map(|command| command.said).map_err(|refusal| refusal.text))
}

/// Waits for ever where there is none.
async fn hear(source: &mut Option<(String, mpsc::Receiver<Commanded>)>) -> Option<(String, Commanded)> {
    match source {
        Some((sender, commands)) => Some((sender.clone(), commands.recv().await?)),
        None => std::future::pending().await,
    }
}

fn payload(id: Option<&str>, done: Result<Report, Refusal>) -> Json {
    match done {
        Ok(report) => {
            let mut answer = json!({"id": id, "how": report.how, "permit": report.permit, "at": report.at.to_string()});
            let found = report.found.map(|found| ("found", json!(found)));
            let code = report.code.map(|code| ("code", json!(code)));
            let reason = report.reason.map(|reason| ("reason", json!(reason)));
            for (name, value) in [found, code, reason].into_iter().flatten() {
                answer[name] = value;
            }
            answer
        }
        Err(Refusal { code, text, hint, .. }) => {
            json!({"id": id, "how": "refused", "code": code, "reason": text, "hint": hint})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let answer = payload(Some("7"), Err(Refusal::new("retained", "the broker had kept it".into())));
        assert_eq!(
            (&answer["id"], &answer["how"], &answer["code"]),
            (&json!("7"), &json!("refused"), &json!("retained"))
        );
        assert!(answer["hint"].as_str().unwrap().contains("retain flag"));
    }
}
