//! What the ledger grants to this agent, and what it revokes: heard in its events. Now and then, and whenever the stream began
//! anew, the open permits are asked for as well, so that none that was granted meanwhile is missed.

use super::Gate;
use super::kept::Kept;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::Backoff;
use tally_evidence::{PermitFile, permit_state_key};
use tally_journal::Storage;
use tally_ledger_client::LedgerEvent;
use tally_model::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often the open permits are asked for.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// The stream is open by then: what was granted before it is asked for.
const FIRST_ASK: Duration = Duration::from_millis(300);
/// The node lists no more open permits (`docs/formats/api.md`).
const LISTED_MAX: usize = 1_000;
/// A permit whose time comes within this is waited for, to begin on time.
const EARLY_MAX: Duration = Duration::from_secs(3600);

impl<S: Storage + Send + 'static> Gate<S> {
    /// Follows until `quit`. Begins with what an earlier run left unfinished.
    pub async fn follow(self: Arc<Self>, quit: CancellationToken) {
        let work = async {
            // Links need a moment to connect; looking waits for them, up to its own limit.
            if let Err(fault) = self.recover().await {
                tracing::error!(%fault, "what was left unfinished cannot be looked at");
            }
            let mut backoff = Backoff::for_links();
            loop {
                let fault = self.follow_once(&mut backoff).await;
                tracing::debug!(%fault, "the gate's event stream ended, it is followed again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        };
        quit.run_until_cancelled(work).await;
    }

    async fn follow_once(self: &Arc<Self>, backoff: &mut Backoff) -> String {
        let mut events = self.client.events(None);
        let mut ask = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_ASK, ASK_EVERY);
        let mut asking: Option<JoinHandle<()>> = None;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        backoff.reset();
                        self.hear(&event);
                    }
                    Some(Err(fault)) => return fault.to_string(),
                    None => return "the node ended the stream".to_owned(),
                },
                _ = ask.tick() => {
                    self.seal_waiting().await;
                    self.sum_up();
                    // A slow device must not make them pile up.
                    if asking.as_ref().is_none_or(JoinHandle::is_finished) {
                        let gate = Arc::clone(self);
                        asking = Some(tokio::spawn(async move { gate.ask_for_open().await }));
                    }
                }
            }
        }
    }

    fn hear(self: &Arc<Self>, event: &LedgerEvent) {
        let (kind, data) = (kind_of(&event.json), &event.json["data"]);
        let is_ours = data["agent"] == self.sealer.agent.as_str();
        let Some(permit) = data["permit"].as_u64().filter(|_| is_ours) else { return };
        match kind {
            "access.permit-revoked" => self.heard_revoked(permit),
            "access.permit-granted" if data["carried"] == false => {
                let from = Timestamp::from_micros(data["from"].as_i64().unwrap_or_default());
                let early = from.since(self.clock.now());
                // What is for later than that is found by asking, when its time has come.
                if early <= EARLY_MAX {
                    // Aside: a revocation must be heard while a device is slow.
                    let gate = Arc::clone(self);
                    tokio::spawn(async move {
                        tokio::time::sleep(early).await;
                        gate.fetch_and_use(permit).await;
                    });
                }
            }
            _ => {}
        }
    }

    /// What the node says is not believed: the proof is, which the gate checks like one that somebody brought.
    async fn fetch_and_use(&self, permit: u64) {
        // An event and a look at what is open may name the same permit: whoever comes second must not look like a replay.
        let _heard = self.heard.lock().await;
        if self.book().known(permit) != super::check::Known::Nothing {
            return;
        }
        let path = format!("/state/{}", super::report::hex(&permit_state_key(permit)));
        let Ok(answer) = self.client.get_bytes(&path).await else { return };
        if let Ok(Some(file)) = PermitFile::from_state_answer(&answer) {
            // What came of it is on disk, in the log and on the ledger.
            let _ = self.use_permit(&file.encode()).await;
        }
    }

    /// The checkpoint first: what is in the list was open then or was granted since, and what is not in it was open no more.
    async fn ask_for_open(&self) {
        let Ok(checkpoint) = self.client.get_bytes("/checkpoint").await else { return };
        let Ok(open) = self.client.get_json("/access/permits").await else { return };
        if let Err(fault) = self.keep_open(checkpoint, &open).await {
            tracing::warn!(%fault, "what the node says of open permits is not kept for when it is away");
        }
        let now = self.clock.now().as_micros();
        for permit in open.as_array().into_iter().flatten() {
            let is_ours = permit["agent"] == self.sealer.agent.as_str() && permit["carried"] == false;
            let is_time = permit["from"].as_i64().is_some_and(|from| from <= now)
                && permit["until"].as_i64().is_some_and(|until| now <= until);
            if let Some(id) = permit["permit"].as_u64().filter(|_| is_ours && is_time) {
                self.fetch_and_use(id).await;
            }
        }
    }

    /// What counts while the ledger cannot be asked: on disk before it counts.
    async fn keep_open(&self, checkpoint: Vec<u8>, open: &serde_json::Value) -> Result<(), String> {
        let mut kept = Kept { checkpoint, open: Vec::new() };
        let open = open.as_array().ok_or("`/access/permits` is no list")?;
        if open.len() >= LISTED_MAX {
            // What is behind the end of the list would look as if it had been taken back. What was kept before still holds.
            return Err(format!("{LISTED_MAX} permits or more are open, the node lists no more"));
        }
        for permit in open {
            let Some(id) = permit["permit"].as_u64().filter(|_| permit["agent"] == self.sealer.agent.as_str()) else {
                continue;
            };
            let path = format!("/state/{}", super::report::hex(&permit_state_key(id)));
            let answer = self.client.get_bytes(&path).await.map_err(|fault| fault.to_string())?;
            // Not there any more: used or revoked since the list was made.
            kept.open.extend(PermitFile::from_state_answer(&answer).map_err(|fault| fault.to_string())?);
        }
        let key = self.key.known(&self.client).await.map_err(|fault| fault.to_string())?;
        let ledger = &self.sealer.ledger;
        let before = self.kept().as_ref().and_then(|kept| kept.as_of(ledger, &key).ok());
        kept.check(before, ledger, &key).map_err(|fault| fault.to_string())?;
        if self.kept().as_ref() == Some(&kept) {
            return Ok(());
        }
        let (file, bytes) = (self.kept_file.clone(), kept.encode());
        let written = tokio::task::spawn_blocking(move || tally_journal::files::replace(&file, &bytes)).await;
        written.map_err(|fault| fault.to_string())?.map_err(|fault| fault.to_string())?;
        *self.kept() = Some(kept);
        Ok(())
    }

    fn sum_up(&self) {
        let due = self.attempts().due(self.clock.now());
        due.iter().for_each(|attempt| self.record(attempt));
    }
}

/// A CloudEvent's type, without the prefix of the ledger's.
fn kind_of(json: &serde_json::Value) -> &str {
    let kind = json["type"].as_str().unwrap_or_default();
    kind.strip_prefix("tallystick.").unwrap_or(kind)
}
