//! What became of a permit that the agent carries out by itself.

use crate::answer::{Context, Fault};
use serde_json::Value;
use std::time::Duration;
use tally_evidence::burnt_state_key;
use tally_evidence::cbor::{self, Fields};
use tally_ledger_client::Client;
use tokio::time::Instant;

/// How long the agent's report is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How often the node is asked.
const EVERY: Duration = Duration::from_millis(100);

/// What the ledger says of the permit's end: `how`, `found`, `code`, `reason` as the agent reported them, or `how: revoked`.
/// `None` when nothing ended it within [`PATIENCE`].
///
/// # Errors
/// When the node cannot be asked.
pub(super) async fn of(client: &Client, permit: u64) -> Result<Option<Value>, Fault> {
    let path = format!("/state/{}", hex::encode(burnt_state_key(permit)));
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let answer = client.get_bytes(&path).await.context("asking the node what became of the permit")?;
        if let Some(entry) = burnt_by(&answer) {
            let outcome = client.get_json(&format!("/entries/{entry}/outcome")).await.context("reading the outcome")?;
            return Ok(outcome["events"].as_array().into_iter().flatten().find_map(|event| end(event, permit)));
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(None)
}

/// The entry in the second place of a burnt permit's row (docs/formats/state.md).
fn burnt_by(answer: &[u8]) -> Option<u64> {
    let row = Fields::decode(answer).ok()?.take("value")?.into_bytes().ok()?;
    let row = cbor::decode(&row).ok()?.into_array().ok()?;
    row.get(1)?.as_integer()?.try_into().ok()
}

fn end(event: &Value, permit: u64) -> Option<Value> {
    let mut data = event["data"].as_object().filter(|data| data.get("permit").is_some_and(|id| *id == permit))?.clone();
    data.insert("device".to_owned(), event["subject"].clone());
    if event["kind"] != "access.permit-used" {
        data.insert("how".to_owned(), "revoked".into());
    }
    Some(Value::Object(data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_end_is_of_this_permit() {
        let event = |kind: &str| json!({"kind": kind, "subject": "press-01", "data": {"permit": 7, "how": "done"}});
        let used = end(&event("access.permit-used"), 7).unwrap();
        assert_eq!((&used["how"], &used["device"]), (&json!("done"), &json!("press-01")));
        assert_eq!(end(&event("access.permit-revoked"), 7).unwrap()["how"], "revoked");
        assert_eq!(end(&event("access.permit-used"), 8), None);
        assert_eq!(end(&json!({"kind": "access.policy-set", "data": {}}), 7), None);
    }
}
