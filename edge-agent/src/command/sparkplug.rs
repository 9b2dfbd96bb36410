//! Commands of Sparkplug hosts: DCMD, and NCMD other than a rebirth.

use super::Read;
use crate::gate::{Command, Refusal};
use std::fmt::Write;
use tally_connector_mqtt::sparkplug::Commanded;
use tally_evidence::{Right, sha256};
use tally_model::Timestamp;

/// Whose answers stand under this client: a Sparkplug topic names nobody.
const CLIENT: &str = "sparkplug";
/// Bytes of the digest that names a command: it has no id of its own.
const ID_BYTES: usize = 8;

/// Sparkplug knows no id of a command: its message and the metric's place in it are the id. The same message again is a replay.
pub(super) fn read(commanded: Commanded, sender: &str, broker: &str) -> Read {
    let Commanded { topic, device, metric, value, sent_ms, payload, place, is_retained } = commanded;
    let mut whole = format!("{topic}\0{place}\0").into_bytes();
    whole.extend_from_slice(&payload);
    let id = sha256(&whole)[..ID_BYTES].iter().fold(String::new(), |mut id, byte| {
        // Writing into a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    });
    let shown = device.clone().unwrap_or_else(|| "edge-node".to_owned());
    let at = sent_ms.and_then(|ms| i64::try_from(ms).ok()?.checked_mul(1_000)).map(Timestamp::from_micros);
    let command = match (device, value) {
        (None, _) => {
            let text =
                format!("`{metric}` is no metric of the edge node that can be written; devices have their own topics");
            Err(Refusal::new("unknown-point", text))
        }
        (_, Err(why)) => Err(Refusal::new("malformed", format!("`{metric}` cannot be read: {why}"))),
        (Some(device), Ok(value)) => Ok(Command {
            sender: sender.to_owned(),
            device,
            point: metric.clone(),
            right: Right::Write,
            value: Some(value),
            said: format!("{broker}, topic {topic}, message {id}"),
            id: id.clone(),
            at,
            is_retained,
        }),
    };
    Read { sender: sender.to_owned(), answer: [CLIENT.to_owned(), shown, metric], id: Some(id), command }
}
