//! The looking: a task beside the ledger, which never waits for it.

use super::anchors::{Twice, contradiction};
use super::list::{Alarm, AlarmKind, Alarms, News};
use crate::api::Cosigning;
use crate::engine::{Engine, ReadError, SECOND_HISTORY};
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::Refusal;
use tally_evidence::{OutcomeRecord, Place};
use tokio_util::sync::CancellationToken;

/// Time between two looks: an alarm is for people.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks until stopped.
pub(crate) async fn watch(engine: Engine, alarms: Arc<Alarms>, cosigning: Cosigning, stop: CancellationToken) {
    loop {
        let is_last = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let (engine, alarms, cosigning, stop) = (engine.clone(), Arc::clone(&alarms), cosigning.clone(), stop.clone());
        let looked = tokio::task::spawn_blocking(move || {
            alarms.standing(standing(&engine, &cosigning), |alarm| is_gone(alarm, &cosigning));
            if let Err(fault) = look_at_refusals(&engine, &alarms, &stop) {
                tracing::warn!(%fault, "refused anchors cannot be looked at");
            }
            if is_last {
                alarms.keep();
            }
        });
        if looked.await.is_err() || is_last {
            return;
        }
    }
}

/// Every alarm that stands now.
fn standing(engine: &Engine, cosigning: &Cosigning) -> Vec<News> {
    let news = |kind, subject: &str, text: String, proof| News {
        kind,
        subject: subject.to_owned(),
        text,
        proof,
        entries: Vec::new(),
    };
    let mut found = Vec::new();
    if let Some((text, proof)) = cosigning.witnesses.as_ref().and_then(|witnesses| witnesses.alarm()) {
        found.push(news(AlarmKind::OwnHistory, engine.ledger(), text, proof));
    }
    let second = engine.store().folder().map(|folder| folder.join(SECOND_HISTORY)).filter(|file| file.exists());
    if let Some(file) = second.filter(|_| found.is_empty()) {
        let text =
            "this node was shown a block that the ledger's key sealed and that contradicts the log here".to_owned();
        found.push(news(AlarmKind::OwnHistory, engine.ledger(), text, Some(file)));
    }
    for log in cosigning.witness.iter().flat_map(|witness| witness.status()) {
        if let Some(proof) = log.alarm {
            let text = format!(
                "ledger `{}` signed two histories; nothing of it is cosigned here until it is settled",
                log.origin
            );
            found.push(news(AlarmKind::WatchedHistory, &log.origin, text, Some(proof)));
        }
    }
    found
}

/// Whether an alarm that does not stand is over. What a witness said of this ledger is forgotten by a restart: only when enough have
/// signed since is it gone.
fn is_gone(alarm: &Alarm, cosigning: &Cosigning) -> bool {
    let is_quiet = || cosigning.witnesses.as_ref().is_none_or(|witnesses| witnesses.has_signed());
    alarm.kind != AlarmKind::OwnHistory || is_quiet()
}

/// Looks at the anchors that were refused since the last look because their number was given before, or their readings.
fn look_at_refusals(engine: &Engine, alarms: &Alarms, stop: &CancellationToken) -> Result<(), ReadError> {
    let Some(head) = engine.store().head().map(|head| head.checkpoint.height) else { return Ok(()) };
    let number = Refusal::AnchorReplayed { device: String::new(), number: 0, last: 0 }.number();
    let readings = Refusal::ReadingsCovered { device: String::new(), first: 0, covered: 0 }.number();
    let told = [(number, Twice::Number), (readings, Twice::Readings)];
    let mut from = alarms.looked();
    while let Some(height) = engine.store().next_refusal(from)?.filter(|height| *height <= head) {
        // Pruned: nobody has the statements any more.
        for outcome in engine.store().outcomes(height)?.unwrap_or_default() {
            let Ok(outcome) = OutcomeRecord::decode(&outcome) else { continue };
            if let Place::Entry { index, .. } = outcome.place
                && let Some((_, twice)) = told.iter().find(|(number, _)| *number == outcome.refusal)
                && let Some(news) = contradiction(engine, index, *twice)?
            {
                alarms.happened(news);
            }
        }
        from = height + 1;
        alarms.look_on(from);
        if stop.is_cancelled() {
            return Ok(());
        }
    }
    alarms.look_on(from.max(head + 1));
    Ok(())
}
