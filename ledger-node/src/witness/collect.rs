//! The asking: one task makes the rounds, one task a witness asks it. None of them is ever waited for by the ledger.
//!
//! ```text
//!   asking ── cosignature, checked ──▶ signed, waits for the next round
//!     ├── 409 SIZE ──▶ once more from that size
//!     └── no answer, another answer, a signature that does not hold ──▶ back off (250 ms … 30 s), the newest round then
//! ```

use super::ask::{Answered, Line};
use super::finality::{Finality, ROUND_TIME, Round};
use super::policy::AskedWitness;
use super::record::hash_of;
use super::wire::{AddCheckpoint, decimal};
use crate::clock::Clock;
use crate::engine::Engine;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::{SignatureLine, SignedNote, SplitFile, TreeNote};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How far a witness's clock may be from ours, in seconds. Beyond it the signature is an old one, or its clock is wrong.
const CLOCK_APART_MAX: u64 = 600;

/// Starts all tasks; they end when `stop` is cancelled.
pub fn start(
    engine: &Engine,
    finality: &Arc<Finality>,
    clock: Arc<dyn Clock>,
    stop: &CancellationToken,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    let token = stop.clone();
    let (rounds, known) = (engine.clone(), Arc::clone(finality));
    tasks.spawn(async move { token.run_until_cancelled(make_rounds(rounds, known)).await });
    for (number, witness) in finality.policy().of.iter().enumerate() {
        let asker = Asker {
            number,
            line: Line::new(witness),
            witness: witness.clone(),
            engine: engine.clone(),
            finality: Arc::clone(finality),
            clock: Arc::clone(&clock),
            old: 0,
        };
        let token = stop.clone();
        tasks.spawn(async move { token.run_until_cancelled(asker.run()).await });
    }
    tasks.close();
    tasks
}

/// Begins a round whenever the one before is over and the ledger has grown.
async fn make_rounds(engine: Engine, finality: Arc<Finality>) {
    let mut heads = engine.store().watch_head();
    let mut finals = finality.watch_final();
    let mut size = None;
    loop {
        let grown = heads
            .wait_for(|head| head.as_ref().is_some_and(|head| size.is_none_or(|size| head.checkpoint.size > size)));
        let Ok(head) = grown.await.map(|head| head.as_ref().map(|head| (head.checkpoint.size, head.checkpoint.root)))
        else {
            return;
        };
        let Some((reached, root)) = head else { continue };
        size = Some(reached);
        let tree = TreeNote { origin: engine.ledger().to_owned(), size: reached, root };
        // Witnesses are asked only where the ledger's key is.
        let Ok(note) = engine.sign_note(&tree) else { return };
        // A note of our own always parses.
        let Ok(note) = SignedNote::parse(&note) else { return };
        finality.begin(Round { tree, note });
        let _ = tokio::time::timeout(ROUND_TIME, finals.wait_for(|size| *size >= reached)).await;
    }
}

/// Why a witness did not sign: a code for the counter and words for people.
type NotSigned = (&'static str, String);

struct Asker {
    number: usize,
    witness: AskedWitness,
    line: Line,
    engine: Engine,
    finality: Arc<Finality>,
    clock: Arc<dyn Clock>,
    /// What the witness signed last, as far as we know.
    old: u64,
}

impl Asker {
    async fn run(mut self) {
        let mut rounds = self.finality.watch_round();
        let (mut signed, mut pause, mut is_away) = (None, PAUSE.0, false);
        loop {
            let next = rounds.wait_for(|round| round.as_ref().is_some_and(|round| signed != Some(round.tree.size)));
            let Ok(round) = next.await.map(|round| round.clone()) else { return };
            let Some(round) = round else { continue };
            let name = self.witness.cosigner.name().to_owned();
            match self.ask(&round).await {
                Ok(()) => {
                    if is_away {
                        tracing::info!(witness = name, "the witness signs again");
                    }
                    self.finality.tallies().signed(&name);
                    (signed, pause, is_away) = (Some(round.tree.size), PAUSE.0, false);
                }
                Err((code, fault)) => {
                    if !is_away {
                        tracing::warn!(witness = name, code, "the witness does not sign: {fault}");
                    }
                    is_away = true;
                    self.finality.tallies().failed(&name, code);
                    self.finality.failed(self.number, fault);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Asks for a signature; a second time when the witness is elsewhere than we thought.
    async fn ask(&mut self, round: &Round) -> Result<(), NotSigned> {
        let answer = self.post(round).await?;
        let answer = match (answer.status, answer.text.strip_suffix('\n').and_then(decimal)) {
            (StatusCode::CONFLICT, Some(size)) if size > round.tree.size => {
                return Err(self.is_ahead(size).await);
            }
            (StatusCode::CONFLICT, Some(size)) if size != self.old => {
                self.old = size;
                self.post(round).await?
            }
            _ => answer,
        };
        match answer.status {
            StatusCode::OK => self.keep(round, &answer.text).await,
            StatusCode::CONFLICT => {
                Err(("conflict", "it keeps to another size; it may have an alarm about this ledger".to_owned()))
            }
            StatusCode::UNPROCESSABLE_ENTITY => Err(self.is_apart(round).await),
            status => Err(("refused", format!("HTTP status {status}: {:.200}", answer.text))),
        }
    }

    async fn post(&mut self, round: &Round) -> Result<Answered, NotSigned> {
        let old = self.old.min(round.tree.size);
        let path = match old {
            0 => None,
            _ => {
                let proof = self.engine.store().consistency(old, round.tree.size);
                proof.map_err(|fault| ("damaged", fault.to_string()))?.map(|(path, _)| path)
            }
        };
        let request = AddCheckpoint { old, path: path.unwrap_or_default(), note: round.note.clone() };
        self.line.ask(Method::POST, "/add-checkpoint", request.write()).await.map_err(|fault| ("away", fault))
    }

    /// Checks the signature among these lines and keeps it.
    async fn keep(&mut self, round: &Round, lines: &str) -> Result<(), NotSigned> {
        let cosigner = &self.witness.cosigner;
        let lines = lines.split_terminator('\n').filter_map(SignatureLine::parse);
        let line = lines.into_iter().find(|line| cosigner.is_of(line));
        let line = line.ok_or_else(|| ("bad-signature", "no signature of its key in its answer".to_owned()))?;
        let time = cosigner.time_of(&round.note.clone().with(line.clone()));
        let time = time.map_err(|fault| ("bad-signature", fault.to_string()))?;
        let now = u64::try_from(self.clock.now().as_seconds()).unwrap_or(0);
        if now.abs_diff(time) > CLOCK_APART_MAX {
            let fault = format!(
                "its signature is of {time}, here it is {now} (seconds since 1970): an old one, or a wrong clock"
            );
            return Err(("wrong-time", fault));
        }
        self.old = round.tree.size;
        let (finality, round, number) = (Arc::clone(&self.finality), round.clone(), self.number);
        let kept = tokio::task::spawn_blocking(move || finality.signed(number, &round, line)).await;
        let kept = kept.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        kept.map_err(|error| ("refused", format!("its signature cannot be kept here: {error}")))
    }

    /// What the witness signed last of this ledger, if it shows it and the ledger's own signature under it holds.
    async fn shown(&mut self) -> Option<(TreeNote, String)> {
        let path = format!("/{}/checkpoint", hash_of(self.finality.log().origin()));
        let answer = self.line.ask(Method::GET, &path, String::new()).await.ok()?;
        let tree = TreeNote::open(&answer.text, self.finality.log()).ok()?;
        (answer.status == StatusCode::OK).then_some((tree, answer.text))
    }

    /// It says that it signed a larger tree than ours. Only a note that our key signed makes that an alarm.
    async fn is_ahead(&mut self, size: u64) -> NotSigned {
        let name = self.witness.cosigner.name().to_owned();
        let words = format!("it says that it signed {size} entries of this ledger");
        let Some((tree, _)) = self.shown().await else { return ("conflict", words) };
        let ours = self.engine.store().head().map_or(0, |head| head.checkpoint.size);
        if tree.size > ours {
            let text = format!(
                "witness {name} has a checkpoint of this ledger with {} entries, signed by its key, but the log here ends at {ours}: \
                 it was restored from an older copy, or another node runs with the same key",
                tree.size
            );
            self.finality.contradicted(text, None);
        }
        ("conflict", words)
    }

    /// It does not take our path. When what it signed is our key's and not our tree, that is an alarm with a proof.
    async fn is_apart(&mut self, round: &Round) -> NotSigned {
        let words = "it has other hashes of this ledger".to_owned();
        let Some((tree, note)) = self.shown().await else { return ("conflict", words) };
        // A tree of our own that is damaged is no second history.
        let ours = match self.engine.store().root_at(tree.size) {
            Ok(root) => root.filter(|_| tree.size <= round.tree.size),
            Err(fault) => return ("damaged", fault.to_string()),
        };
        if let Some(root) = ours.filter(|root| *root != tree.root) {
            // Our note of the same size: two roots of one size prove it without any path.
            let own = TreeNote { origin: tree.origin.clone(), size: tree.size, root };
            let Ok(own) = self.engine.sign_note(&own) else { return ("conflict", words) };
            let split = SplitFile::new(self.finality.log().clone(), note, own, None);
            let text = format!(
                "witness {} has a checkpoint of this ledger with {} entries, signed by its key, that is not the beginning of the log \
                 here: the key signed two histories",
                self.witness.cosigner.name(),
                tree.size
            );
            self.finality.contradicted(text, Some(&split));
        }
        ("conflict", words)
    }
}
