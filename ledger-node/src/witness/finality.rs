//! Which receipts are final: what all askers know together.
//!
//! A **round** is one note that all witnesses are asked for: signatures on different notes would not add up. It ends when enough have
//! signed; if they do not, a newer note takes its place after [`ROUND_TIME`], so that whoever comes back signs the newest.
//! `DATA/witness/final.note` holds the last note that enough signed, synced before anybody is told.

use super::policy::WitnessPolicy;
use super::tallies::Tallies;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tally_evidence::{LogKey, SignatureLine, SignedNote, SplitFile, TreeNote, WitnessedNote, witnessed};
use tally_journal::files;
use tokio::sync::watch;

/// How long a note waits for its signatures before a newer one takes its place.
pub const ROUND_TIME: Duration = Duration::from_secs(5);

const FINAL: &str = "final.note";
const SPLIT: &str = "alarm.split";

/// A note that witnesses are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Size and root.
    pub tree: TreeNote,
    /// The ledger's signature alone.
    pub note: SignedNote,
}

/// How an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Covered by as many cosignatures as are needed.
    Final,
    /// Durable; so many of the needed signatures are there.
    Durable {
        /// Signed the note that covers it.
        have: usize,
        /// Must sign it.
        need: usize,
    },
}

/// What became of the last question to a witness, for `/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Size it signed last.
    pub size: Option<u64>,
    /// Why it did not, when it did not.
    pub fault: Option<String>,
}

/// What is known of the witnesses' signatures.
pub struct Finality {
    policy: WitnessPolicy,
    log: LogKey,
    folder: PathBuf,
    known: Mutex<Known>,
    /// The lock orders the writes of `final.note`; it is held over a sync, so by blocking threads only.
    writing: Mutex<()>,
    final_size: watch::Sender<u64>,
    round: watch::Sender<Option<Arc<Round>>>,
    tallies: Tallies,
}

/// The lock is never held over a sync or an await.
struct Known {
    /// The round's note with the signatures so far.
    collected: Option<SignedNote>,
    /// The last note that enough signed.
    last: Option<(TreeNote, SignedNote)>,
    /// Since when entries wait for their signatures.
    behind_since: Option<Instant>,
    asked: Vec<Asked>,
    alarm: Option<String>,
    /// Whether enough have signed since the start.
    has_signed: bool,
}

impl Finality {
    /// Goes on from what was kept. A kept note that is not signed as the policy now asks counts for nothing; one of a tree that is not
    /// `is_ours` is an alarm, and counts for nothing either.
    ///
    /// # Errors
    /// The folder cannot be read, or a name clashes among the metrics.
    pub fn open(
        policy: WitnessPolicy,
        log: LogKey,
        data: &Path,
        is_ours: impl Fn(&TreeNote) -> bool,
    ) -> Result<Self, io::Error> {
        let folder = data.join("witness");
        std::fs::create_dir_all(&folder)?;
        let tallies =
            Tallies::new(policy.of.iter().map(|witness| witness.cosigner.name())).map_err(io::Error::other)?;
        let asked = vec![Asked::default(); policy.of.len()];
        let alarm = folder.join(SPLIT).exists().then(|| describe_split(&folder.join(SPLIT)));
        let known = Known { collected: None, last: None, behind_since: None, asked, alarm, has_signed: false };
        let finality = Self {
            known: Mutex::new(known),
            writing: Mutex::default(),
            final_size: watch::Sender::new(0),
            round: watch::Sender::new(None),
            policy,
            log,
            folder,
            tallies,
        };
        let kept = files::read(&finality.folder.join(FINAL))?;
        if let Some(note) = kept.and_then(|note| SignedNote::parse(&note).ok()) {
            finality.take_up(note, is_ours);
        }
        if let Some(alarm) = finality.lock().alarm.as_ref() {
            tracing::error!("ALARM: {alarm}");
            finality.tallies.alarm.set(1);
        }
        Ok(finality)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_up(&self, note: SignedNote, is_ours: impl Fn(&TreeNote) -> bool) {
        let count = self.count(&note);
        let Ok(tree) = self.log.check(&note) else { return };
        if !is_ours(&tree) {
            let text = format!(
                "witnesses signed {} entries of this ledger that are not those of the log here: it was restored from an older copy, or \
                 another node runs with the same key. Nothing more becomes final until the witnesses have settled it",
                tree.size
            );
            self.lock().alarm = Some(text);
        } else if count >= self.enough() {
            self.final_size.send_replace(tree.size);
            self.tallies.size.set(i64::try_from(tree.size).unwrap_or(i64::MAX));
            self.lock().last = Some((tree, note));
        }
    }

    /// How many witnesses of the policy signed a note.
    fn count(&self, note: &SignedNote) -> usize {
        let cosigners: Vec<_> = self.policy.of.iter().map(|witness| witness.cosigner.clone()).collect();
        witnessed(note, &self.log, &cosigners).map_or(0, |witnessed| witnessed.by.len())
    }

    /// Signatures that end a round. Where none are needed one is: there is something new to show then.
    fn enough(&self) -> usize {
        self.policy.need.max(1)
    }

    /// Who is asked, and how many are needed.
    #[must_use]
    pub const fn policy(&self) -> &WitnessPolicy {
        &self.policy
    }

    /// The ledger's own key, as it signs notes.
    #[must_use]
    pub const fn log(&self) -> &LogKey {
        &self.log
    }

    /// Its numbers.
    #[must_use]
    pub const fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Wakes up at each new round.
    #[must_use]
    pub fn watch_round(&self) -> watch::Receiver<Option<Arc<Round>>> {
        self.round.subscribe()
    }

    /// Wakes up when more is final.
    #[must_use]
    pub fn watch_final(&self) -> watch::Receiver<u64> {
        self.final_size.subscribe()
    }

    /// A new note to be signed.
    pub fn begin(&self, round: Round) {
        {
            let mut known = self.lock();
            known.collected = Some(round.note.clone());
            known.behind_since.get_or_insert_with(Instant::now);
        }
        self.round.send_replace(Some(Arc::new(round)));
    }

    /// A signature that holds, on this round's note. Blocks while it is synced.
    ///
    /// # Errors
    /// When it cannot be kept; it does not count then.
    pub fn signed(&self, witness: usize, round: &Round, line: SignatureLine) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (note, is_current) = {
            let mut known = self.lock();
            if let Some(asked) = known.asked.get_mut(witness) {
                *asked = Asked { size: Some(round.tree.size), fault: None };
            }
            let is_current = known.collected.as_ref().is_some_and(|note| note.text() == round.note.text());
            if is_current {
                let collected = known.collected.take().map(|note| note.with(line));
                known.collected.clone_from(&collected);
                (collected, true)
            } else {
                // Late, but it may still stand under what is shown.
                let last = known.last.as_ref().filter(|(_, note)| note.text() == round.note.text());
                (last.map(|(_, note)| note.clone().with(line)), false)
            }
        };
        let Some(note) = note.filter(|note| self.count(note) >= self.enough()) else { return Ok(()) };
        // If we die before this returns: the old or the new note is found, and nobody was told that anything is final.
        files::replace(&self.folder.join(FINAL), note.to_string().as_bytes())?;
        {
            let mut known = self.lock();
            known.last = Some((round.tree.clone(), note));
            known.has_signed = true;
            if is_current {
                known.behind_since = None;
            }
        }
        self.tallies.size.set(i64::try_from(round.tree.size).unwrap_or(i64::MAX));
        self.final_size.send_replace(round.tree.size);
        Ok(())
    }

    /// A witness did not sign.
    pub fn failed(&self, witness: usize, fault: String) {
        if let Some(asked) = self.lock().asked.get_mut(witness) {
            asked.fault = Some(fault);
        }
    }

    /// A witness has seen another history of this ledger. Kept, and said until an operator takes the file away.
    pub fn contradicted(&self, text: String, proof: Option<&SplitFile>) {
        if let Some(proof) = proof
            && let Err(error) = files::replace(&self.folder.join(SPLIT), &proof.encode())
        {
            tracing::error!(%error, "the proof of two histories cannot be kept");
        }
        let mut known = self.lock();
        if known.alarm.as_ref() != Some(&text) {
            tracing::error!("ALARM: {text}");
        }
        known.alarm = Some(text);
        drop(known);
        self.tallies.alarm.set(1);
    }

    /// What a witness saw of another history of this ledger, and the file that proves it, if one does.
    #[must_use]
    pub fn alarm(&self) -> Option<(String, Option<PathBuf>)> {
        let text = self.lock().alarm.clone()?;
        Some((text, Some(self.folder.join(SPLIT)).filter(|file| file.exists())))
    }

    /// Whether enough have signed something since the start.
    #[must_use]
    pub fn has_signed(&self) -> bool {
        self.lock().has_signed
    }

    /// How entries of a tree of `size` stand.
    #[must_use]
    pub fn standing(&self, size: u64) -> Standing {
        let need = self.policy.need;
        if need == 0 || *self.final_size.borrow() >= size {
            return Standing::Final;
        }
        let collected = self.lock().collected.clone();
        let covering = collected.filter(|note| note.tree().is_ok_and(|tree| tree.size >= size));
        Standing::Durable { have: covering.map_or(0, |note| self.count(&note)), need }
    }

    /// Waits for the signatures on a tree of `size`, as long as the policy says. When the witnesses have been away for so long
    /// already, nobody waits: the ledger is not slower than without them.
    pub async fn settle(&self, size: u64) -> Standing {
        let wait = self.policy.wait;
        if self.standing(size) == Standing::Final || self.lag() > wait {
            return self.standing(size);
        }
        let mut watched = self.final_size.subscribe();
        let _ = tokio::time::timeout(wait, watched.wait_for(|reached| *reached >= size)).await;
        self.standing(size)
    }

    /// How long entries have been waiting for their signatures.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.lock().behind_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The last note that enough signed.
    #[must_use]
    pub fn note(&self) -> Option<(TreeNote, SignedNote)> {
        self.lock().last.clone()
    }

    /// The same for evidence files: only signatures that hold, and who made them.
    #[must_use]
    pub fn shown(&self) -> Option<(TreeNote, WitnessedNote)> {
        let (tree, note) = self.note()?;
        let signed = self.policy.of.iter().map(|witness| &witness.cosigner);
        let witnesses: Vec<_> = signed.filter(|cosigner| cosigner.time_of(&note).is_ok()).cloned().collect();
        let (origin, key_id) = (self.log.origin(), self.log.key_id());
        let note = note.only(|line| {
            (line.name == origin && line.key_id == key_id) || witnesses.iter().any(|witness| witness.is_of(line))
        });
        Some((tree, WitnessedNote { note: note.to_string(), witnesses, paths: Vec::new() }))
    }

    /// For `/status`.
    #[must_use]
    pub fn status(&self, head: u64) -> serde_json::Value {
        let (lag, known) = (self.lag(), self.lock());
        let of = self.policy.of.iter().zip(&known.asked).map(|(witness, asked)| {
            serde_json::json!({
                "name": witness.cosigner.name(), "url": witness.url.to_string(),
                "size": asked.size, "fault": asked.fault,
            })
        });
        let size = known.last.as_ref().map_or(0, |(tree, _)| tree.size);
        serde_json::json!({
            "need": self.policy.need, "size": size, "entries_behind": head.saturating_sub(size),
            "seconds_behind": lag.as_secs(), "of": of.collect::<Vec<_>>(), "alarm": known.alarm,
        })
    }
}

fn describe_split(file: &Path) -> String {
    format!(
        "this ledger's key signed two histories; the proof is {}. Take the file away when that is settled",
        file.display()
    )
}
