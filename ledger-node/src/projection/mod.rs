//! The projection of a running node: a thread of the lowest importance that follows the committed blocks into tables, and the
//! connections that answer questions from them.
//!
//! **The ledger never waits for it.** Nothing is queued: it reads committed blocks at its own pace from the store, starts behind
//! the height its own tables name, and when the database is slow, broken or deleted, only it stands still; it says so in the log,
//! in `/status` and in `/metrics`, and tries again.
//!
//! **Limits.** Some 5,000 rows a transaction, and at most one transaction in 50 ms; 4 connections for questions, each of which
//! keeps at most 4 MiB of pages.

mod facts;
mod offline;

pub use offline::{Checked, ProjectError, Rebuilt, check, rebuild};

use crate::engine::Engine;
use crate::store::{Head, Store};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tally_evidence::{Checkpoint, VerifyingKey};
use tally_projection::{BlockFacts, Database, Fault, Place, Projection};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The file in the data folder.
pub const FILE: &str = "projection.sqlite";
/// About how many rows go into one transaction.
const ROWS: usize = 5_000;
/// Blocks gather so long before they are written together.
const GATHER: Duration = Duration::from_millis(50);
/// Pause before a broken database is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Connections kept for questions.
const READERS: usize = 4;

/// How the projection of a running node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The last block in it.
    pub height: Option<u64>,
    /// Why it stands still, when it does.
    pub fault: Option<String>,
}

/// The projection of a running node, for questions.
pub struct Questions {
    place: Place,
    status: watch::Sender<Status>,
    readers: Mutex<Vec<Box<dyn Database>>>,
}

impl Questions {
    /// Where the tables are.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Wakes up at each change.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Asks on a connection that only reads. Blocks.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn ask<T>(&self, ask: impl FnOnce(&mut dyn Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut reader = match kept.filter(|reader| reader.is_there()) {
            Some(reader) => reader,
            None => self.place.reader()?,
        };
        let answer = ask(&mut *reader);
        // A connection that failed for another reason than the question is not kept.
        if matches!(answer, Ok(_) | Err(Fault::Question { .. })) {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(reader);
            }
        }
        answer
    }
}

/// The thread that writes.
pub struct Feed {
    thread: JoinHandle<()>,
    /// Also when a node is dropped in the middle the thread ends.
    stop: DropGuard,
    questions: Arc<Questions>,
}

impl Feed {
    /// Starts it. Never fails because of the database: that is tried until it works.
    ///
    /// # Errors
    /// When the system gives no thread. Call it inside a runtime.
    pub fn start(engine: &Engine, place: Place) -> std::io::Result<Self> {
        let (status, _) = watch::channel(Status::default());
        let questions = Arc::new(Questions { place, status, readers: Mutex::default() });
        let stop = CancellationToken::new();
        let writer = Writer {
            ledger: engine.ledger().to_owned(),
            key: engine.key().clone(),
            store: Arc::clone(engine.store()),
            questions: Arc::clone(&questions),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name("tally-project".to_owned()).spawn(move || writer.run())?;
        tokio::spawn(wake(thread.thread().clone(), engine.store().watch_head(), stop.clone()));
        Ok(Self { thread, stop: stop.drop_guard(), questions })
    }

    /// For questions.
    #[must_use]
    pub fn questions(&self) -> Arc<Questions> {
        Arc::clone(&self.questions)
    }

    /// Ends it behind the transaction it is at. Blocks.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the projection's thread died; the projection is made good at the next start");
        }
        // Here, where it may block: a connection to a server says goodbye.
        self.questions.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the thread works with.
struct Writer {
    ledger: String,
    key: VerifyingKey,
    store: Arc<Store>,
    questions: Arc<Questions>,
    stop: CancellationToken,
}

impl Writer {
    fn run(self) {
        // Whoever submits goes first.
        crate::priority::go_last();
        let mut was_told = None;
        while !self.stop.is_cancelled() {
            match self.follow() {
                Ok(()) => {}
                Err(error) => {
                    let text = error.to_string();
                    if was_told.as_ref() != Some(&text) {
                        tracing::error!(place = %self.questions.place, error = %text,
                            "the projection stands still; the ledger goes on, and it is tried again every {RETRY:?}");
                    }
                    self.questions.status.send_modify(|status| status.fault = Some(text.clone()));
                    was_told = Some(text);
                    // News of the ledger do not mend a database.
                    let end = Instant::now() + RETRY;
                    while Instant::now() < end && !self.stop.is_cancelled() {
                        self.wait(end.saturating_duration_since(Instant::now()));
                    }
                }
            }
        }
    }

    /// Opens the database and follows the ledger until it fails or the node stops.
    fn follow(&self) -> Result<(), ProjectError> {
        let is_ours = |height: u64, digest: &str| is_ours(&self.store, height, digest, &self.key);
        let mut projection = Projection::open(&self.questions.place, &self.ledger, &is_ours)?;
        self.publish(&projection);
        while !self.stop.is_cancelled() {
            if !projection.is_there() {
                tracing::warn!(place = %self.questions.place, "the projection was taken away; it is made anew");
                return Ok(());
            }
            match advance(&self.store, &self.key, &mut projection)? {
                Step::More => self.publish(&projection),
                Step::Done => {
                    self.publish(&projection);
                    std::thread::sleep(GATHER);
                }
                Step::Nothing => self.wait(RETRY),
            }
        }
        Ok(())
    }

    fn publish(&self, projection: &Projection) {
        let now = Status { height: projection.at().height, fault: None };
        self.questions.status.send_if_modified(|status| {
            let is_new = *status != now;
            *status = now;
            is_new
        });
    }

    /// Until there is news, or it is time to look whether the database is still there.
    fn wait(&self, time: Duration) {
        if !self.stop.is_cancelled() {
            std::thread::park_timeout(time);
        }
    }
}

/// Wakes the thread up at each block, and when the node stops.
async fn wake(thread: Thread, mut head: watch::Receiver<Option<Arc<Head>>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = head.changed() => if changed.is_err() { break },
        }
        thread.unpark();
    }
    thread.unpark();
}

/// How far a step came.
enum Step {
    /// There is more in the ledger.
    More,
    /// Everything the ledger has is in.
    Done,
    /// There was nothing to do.
    Nothing,
}

/// Writes the next blocks in one transaction.
fn advance(store: &Store, key: &VerifyingKey, projection: &mut Projection) -> Result<Step, ProjectError> {
    let state = store.state().map_err(facts::FactsError::from)?;
    let next = projection.at().next();
    let Some(height) = state.height().filter(|height| *height >= next) else { return Ok(Step::Nothing) };
    let (mut blocks, mut rows) = (Vec::<BlockFacts>::new(), 0);
    for height in next..=height {
        let block = facts::block(store, height, key)?;
        rows += block.weight();
        blocks.push(block);
        if rows >= ROWS {
            break;
        }
    }
    if blocks.last().is_some_and(|block| block.height == height) {
        projection.write(&blocks, Some(&mut |id| facts::agreement(store, &state, id)))?;
        if !projection.at().balanced {
            projection.balance(&facts::accounts(&state)?)?;
        }
        return Ok(Step::Done);
    }
    projection.write(&blocks, None)?;
    Ok(Step::More)
}

/// Whether our block of this height has this digest.
fn is_ours(store: &Store, height: u64, digest: &str, key: &VerifyingKey) -> bool {
    let row = store.block(height).ok().flatten();
    let sealed = row.and_then(|row| Checkpoint::open(&row.checkpoint, key).ok());
    sealed.is_some_and(|sealed| hex::encode(sealed.digest()) == digest)
}
