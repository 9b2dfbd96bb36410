//! Whether a checkpoint is cosigned: the rules of C2SP tlog-witness, in its order, and what is kept when a log contradicts itself.

use super::config::WatchedLog;
use super::metrics::WitnessMetrics;
use super::record::{RecordError, Records, hash_of};
use super::wire::AddCheckpoint;
use crate::clock::Clock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tally_evidence::{
    Cosigner, CosignerFault, EMPTY_ROOT, LogKey, NoteFault, NoteSigningKey, SignedNote, SplitFile, TreeNote, cosign,
    root_from_consistency_path,
};

/// The answer to a request for a cosignature, with the code of its metric and its problem document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200: signature lines, on the disk.
    Cosigned(String),
    /// 400.
    Malformed(String),
    /// 403: not signed by the log's key.
    NotSigned(NoteFault),
    /// 404: not a log of ours.
    UnknownLog(String),
    /// 409: the size it cosigned last.
    Conflict(u64),
    /// 422.
    Inconsistent(String),
    /// 503: what is on the disk is not certain; only a restart tells.
    Failed(String),
}

impl Answer {
    /// Stable, for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Cosigned(_) => "cosigned",
            Self::Malformed(_) => "malformed",
            Self::NotSigned(_) => "not-signed",
            Self::UnknownLog(_) => "unknown-log",
            Self::Conflict(_) => "conflict",
            Self::Inconsistent(_) => "inconsistent",
            Self::Failed(_) => "failed",
        }
    }
}

/// A witness of some logs.
pub struct Witness {
    name: String,
    key: NoteSigningKey,
    records: Records,
    /// By origin. The lock is held while a request is judged *and* its answer synced: checking and remembering are one step.
    logs: BTreeMap<String, Mutex<Log>>,
    metrics: WitnessMetrics,
    clock: Arc<dyn Clock>,
    /// A write failed: nothing is cosigned any more.
    has_failed: AtomicBool,
}

struct Log {
    key: LogKey,
    last: Option<(TreeNote, SignedNote)>,
    /// Where the proof of two histories stands.
    alarm: Option<PathBuf>,
}

/// How a log stands, for `/status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Which.
    pub origin: String,
    /// Cosigned last: size, root, and the note.
    pub last: Option<(TreeNote, SignedNote)>,
    /// Where the proof of two histories stands.
    pub alarm: Option<PathBuf>,
}

impl Witness {
    /// A witness that goes on where its records end.
    ///
    /// # Errors
    /// [`RecordError`] when what was cosigned before cannot be read: to begin anew could be to cosign a second history.
    pub fn open(
        name: String,
        key: NoteSigningKey,
        records: Records,
        watched: Vec<WatchedLog>,
        metrics: WitnessMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RecordError> {
        let mut logs = BTreeMap::new();
        for WatchedLog { key, .. } in watched {
            let last = records.last(&key)?.and_then(|note| Some((note.tree().ok()?, note)));
            let alarm = records.alarm(key.origin());
            metrics.seen(key.origin(), last.as_ref().map_or(0, |(tree, _)| tree.size), alarm.is_some());
            if let Some(file) = &alarm {
                tracing::error!(log = key.origin(), file = %file.display(), "ALARM of an earlier run: this log has two histories; nothing of it is cosigned until `tally witness settle`");
            }
            logs.insert(key.origin().to_owned(), Mutex::new(Log { key, last, alarm }));
        }
        Ok(Self { name, key, records, logs, metrics, clock, has_failed: AtomicBool::new(false) })
    }

    /// The witness as others know it.
    ///
    /// # Errors
    /// [`CosignerFault::Name`].
    pub fn cosigner(&self) -> Result<Cosigner, CosignerFault> {
        Cosigner::new(self.name.clone(), self.key.public().clone())
    }

    /// Its numbers.
    #[must_use]
    pub const fn metrics(&self) -> &WitnessMetrics {
        &self.metrics
    }

    /// Whether a write failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// How the logs stand.
    #[must_use]
    pub fn status(&self) -> Vec<LogStatus> {
        let status = |(origin, log): (&String, &Mutex<Log>)| {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            LogStatus { origin: origin.clone(), last: log.last.clone(), alarm: log.alarm.clone() }
        };
        self.logs.iter().map(status).collect()
    }

    /// The last note cosigned of the log whose origin has this SHA-256 (hexadecimal).
    #[must_use]
    pub fn checkpoint(&self, hash: &str) -> Option<SignedNote> {
        let (_, log) = self.logs.iter().find(|(origin, _)| hash_of(origin) == hash)?;
        log.lock().unwrap_or_else(PoisonError::into_inner).last.as_ref().map(|(_, note)| note.clone())
    }

    /// Judges a request. Blocks while the answer is synced.
    #[must_use]
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let answer = self.answer(body);
        self.metrics.answered(answer.code());
        answer
    }

    fn answer(&self, body: &[u8]) -> Answer {
        let request = match AddCheckpoint::read(body) {
            Ok(request) => request,
            Err(fault) => return Answer::Malformed(fault.to_string()),
        };
        let origin = request.note.text().split('\n').next().unwrap_or_default();
        let Some(log) = self.logs.get(origin) else { return Answer::UnknownLog(origin.to_owned()) };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let tree = match log.key.check(&request.note) {
            Ok(tree) => tree,
            Err(NoteFault::Shape(what)) => return Answer::Malformed(what.to_owned()),
            Err(fault) => return Answer::NotSigned(fault),
        };
        if self.has_failed() {
            return Answer::Failed("an earlier write failed".to_owned());
        }
        let judged = self.judge(&mut log, &request, tree);
        judged.unwrap_or_else(|error| {
            self.has_failed.store(true, Ordering::Release);
            self.metrics.failed.set(1);
            tracing::error!(%error, "nothing is cosigned any more until the witness is started again");
            Answer::Failed(error.to_string())
        })
    }

    /// A note that the log's key signed.
    fn judge(&self, log: &mut Log, request: &AddCheckpoint, tree: TreeNote) -> Result<Answer, RecordError> {
        let last = log.last.clone();
        let (size, root) = last.as_ref().map_or((0, EMPTY_ROOT), |(last, _)| (last.size, last.root));
        let has_two_roots = last.is_some() && tree.size == size && tree.root != root;
        if has_two_roots {
            self.contradiction(log, request)?;
        }
        if request.old > tree.size {
            return Ok(Answer::Malformed(format!("old size {} is above the checkpoint's {}", request.old, tree.size)));
        }
        if request.old != size || (log.alarm.is_some() && !has_two_roots) {
            return Ok(Answer::Conflict(size));
        }
        let unfit = |why: &str| Ok(Answer::Inconsistent(why.to_owned()));
        if has_two_roots {
            return unfit("another root of this size was cosigned before");
        }
        if tree.size == 0 && tree.root != EMPTY_ROOT {
            return unfit("the root of a tree without entries is another");
        }
        let reached = match size {
            0 => request.path.is_empty().then_some((root, tree.root)),
            _ => root_from_consistency_path(size, tree.size, root, &request.path),
        };
        if reached != Some((root, tree.root)) {
            self.contradiction(log, request)?;
            return unfit("the path does not lead from what was cosigned before to this checkpoint");
        }
        self.cosign(log, request, tree)
    }

    fn cosign(&self, log: &mut Log, request: &AddCheckpoint, tree: TreeNote) -> Result<Answer, RecordError> {
        let seconds = u64::try_from(self.clock.now().as_seconds()).unwrap_or(0).max(1);
        let Ok(line) = cosign(&request.note, &self.name, &self.key, seconds) else {
            return Ok(Answer::Failed("the witness has no name that a note can carry".to_owned()));
        };
        // Signatures of others are not ours to pass on.
        let (origin, key_id) = (log.key.origin(), log.key.key_id());
        let signed = request.note.clone().only(|line| line.name == origin && line.key_id == key_id).with(line.clone());
        // If we die before this returns: it is remembered or not, and nobody has our signature.
        self.records.cosigned(origin, &signed)?;
        self.metrics.seen(origin, tree.size, false);
        log.last = Some((tree, signed));
        Ok(Answer::Cosigned(format!("{line}\n")))
    }

    /// Two notes of a log that do not fit together are kept; when that is proved, the log is cosigned no more.
    fn contradiction(&self, log: &mut Log, request: &AddCheckpoint) -> Result<(), RecordError> {
        let Some((last, note)) = &log.last else { return Ok(()) };
        let is_same_size = request.note.tree().is_ok_and(|tree| tree.size == last.size);
        let path = (!is_same_size).then(|| request.path.clone());
        let split = SplitFile::new(log.key.clone(), note.to_string(), request.note.to_string(), path);
        let is_proved = split.check().is_ok_and(|(split, _)| split.is_proved());
        let origin = log.key.origin();
        let file = self.records.contradiction(&split, is_proved)?;
        if is_proved {
            if log.alarm.is_none() {
                tracing::error!(log = origin, file = %file.display(), "ALARM: this log signed two histories; nothing of it is cosigned until `tally witness settle`");
            }
            self.metrics.seen(origin, last.size, true);
            log.alarm = Some(file);
        } else {
            tracing::warn!(log = origin, file = %file.display(), "a checkpoint came with a path that proves nothing; kept, not cosigned");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
