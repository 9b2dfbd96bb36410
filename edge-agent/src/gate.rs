//! The gate: the only part of the agent, and of the whole system, that can write to a device. It does so for a permit of the
//! ledger, once, and tells the ledger what came of it.
//!
//! ```text
//! permit (brought, or heard of) ──▶ check ──▶ intention, synced ──▶ write ──▶ read back ──▶ report, synced ──▶ answer
//!                                     │                                                       │
//!                                     └─ no: words for whoever asked, an attempt on record    └─▶ submit ─▶ node
//! ```
//! **Once.** A permit whose intention is on disk is never carried out again, whatever happens and whatever the ledger says. Killed
//! between intention and report: the next start reads the point and reports `unknown`, with what it found.
//!
//! **Closed.** Whatever cannot be checked is refused. The reasons stand in `docs/operator/access.md`, the design in
//! `docs/decisions/022-access.md`.
//!
//! One permit at a time; at most [`WAITING_MAX`] wait, more are told *not now*.

mod book;
mod check;
mod command;
mod follow;
mod hands;
mod kept;
mod order;
mod record;
mod refusal;
mod report;
#[cfg(test)]
mod samples;
mod setting;
mod submit;

use crate::error::StoreError;
use crate::seal::Sealer;
use crate::status::Status;
use crate::submit::LedgerKey;
use book::Book;
use kept::Kept;
use order::{Order, order};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tally_connector_api::Clock;
use tally_evidence::{Permit, PermitFile, ProvenPermit, SealFault};
use tally_journal::{DirStorage, Storage};
use tally_ledger_client::Client;
use tally_model::{DeviceId, DeviceSpec, PointId, PointSpec, Value};
use tokio::sync::{Notify, Semaphore, watch};

pub use command::Command;
pub use hands::{Hand, Hands, modbus_link};
pub use refusal::Refusal;
pub use report::{How, Report};
pub use setting::{GateSetting, PastAge};

/// Permits that may wait for the one before.
pub const WAITING_MAX: usize = 16;
/// How long the node may take to say whether a permit is still open.
const ASK_TIME: Duration = Duration::from_secs(1);

/// The gate.
pub struct Gate<S: Storage> {
    book: Arc<Mutex<Book<S>>>,
    hands: Arc<Hands>,
    sealer: Sealer,
    client: Client,
    key: LedgerKey,
    devices: watch::Receiver<Arc<Vec<DeviceSpec>>>,
    clock: Arc<dyn Clock>,
    status: Arc<Status>,
    setting: GateSetting,
    /// One permit at a time.
    turn: tokio::sync::Mutex<()>,
    /// One permit that was heard of at a time.
    heard: tokio::sync::Mutex<()>,
    waiting: Semaphore,
    attempts: Mutex<report::Attempts>,
    shown: Mutex<VecDeque<Report>>,
    /// What the ledger said last of our permits, and the file it stands in.
    kept: Mutex<Option<Kept>>,
    kept_file: PathBuf,
    /// Reports that wait for the key: at most one for each permit whose turn it was when the key went away.
    unsealed: Mutex<VecDeque<Report>>,
    /// Something is to be submitted.
    sealed: Notify,
}

/// What the gate needs of the agent.
pub struct Parts {
    /// Can write.
    pub hands: Arc<Hands>,
    /// Seals the reports.
    pub sealer: Sealer,
    /// The node.
    pub client: Client,
    /// Whose permits count.
    pub key: LedgerKey,
    /// The mapping in force.
    pub devices: watch::Receiver<Arc<Vec<DeviceSpec>>>,
    /// The agent's clock.
    pub clock: Arc<dyn Clock>,
    /// Where things are counted.
    pub status: Arc<Status>,
    /// What to do when the node is away.
    pub setting: GateSetting,
    /// The agent's data folder.
    pub data: PathBuf,
}

/// Opens the gate's book below `data`.
///
/// # Errors
/// [`StoreError`].
pub fn open_book(data: &Path) -> Result<Book<DirStorage>, StoreError> {
    book::open(data)
}

impl<S: Storage + Send + 'static> Gate<S> {
    /// The gate; it does nothing until somebody brings a permit or [`Gate::follow`] hears of one.
    #[must_use]
    pub fn new(book: Book<S>, parts: Parts) -> Self {
        let Parts { hands, sealer, client, key, devices, clock, status, setting, data } = parts;
        let kept_file = kept::path(&data);
        Self {
            book: Arc::new(Mutex::new(book)),
            hands,
            sealer,
            client,
            key,
            devices,
            clock,
            status,
            setting,
            turn: tokio::sync::Mutex::new(()),
            heard: tokio::sync::Mutex::new(()),
            waiting: Semaphore::new(WAITING_MAX),
            attempts: Mutex::default(),
            shown: Mutex::default(),
            kept: Mutex::new(kept::read(&kept_file)),
            kept_file,
            unsealed: Mutex::default(),
            sealed: Notify::new(),
        }
    }

    /// Carries out a permit, or says why not. What became of it is on disk before this returns.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn use_permit(&self, file: &[u8]) -> Result<Report, Refusal> {
        let _place = self.waiting.try_acquire().map_err(|_| Refusal::busy(WAITING_MAX))?;
        let _turn = self.turn.lock().await;
        let file = PermitFile::decode(file).map_err(|fault| Refusal::new("forged", fault.to_string()));
        let done = match file {
            Ok(file) => self.prove_and_do(&file).await,
            Err(refusal) => Err((None, refusal)),
        };
        done.map_err(|(permit, refusal)| self.turned_away(permit, refusal))
    }

    async fn prove_and_do(&self, file: &PermitFile) -> Result<Report, (Option<u64>, Refusal)> {
        let claimed = Permit::decode(&file.permit).ok().map(|permit| permit.id);
        let key = self.key.known(&self.client).await;
        let key = key.map_err(|fault| (claimed, Refusal::new("no-ledger-key", fault.to_string())))?;
        let proven = file.check(&self.sealer.ledger, &key);
        let proven = proven.map_err(|fault| (claimed, Refusal::new("forged", fault.to_string())))?;
        let id = proven.permit.id;
        let away = |refusal| (Some(id), refusal);
        self.check_time_and_place(&proven).map_err(away)?;
        // What cannot be told to the ledger is not done.
        self.with_key(|sealer| sealer.key.look()).await.map_err(|fault| away(key_away(&fault)))?;
        self.check_open(file, &proven, &key).await.map_err(away)?;
        // The node took its time to answer: the permit's may be over.
        self.check_time_and_place(&proven).map_err(away)?;
        let order = order(&proven.permit, &self.devices.borrow());
        match order {
            Ok(order) => self.carry_out(&proven.permit, order).await,
            // It is for us, and can never be done here: burnt.
            Err(refusal) => self.refuse_for_good(&proven.permit, refusal).await,
        }
        .map_err(away)
    }

    /// What the agent knows by itself.
    fn check_time_and_place(&self, proven: &ProvenPermit) -> Result<(), Refusal> {
        check::is_for(&proven.permit, &self.sealer.agent)?;
        let known = self.book().known(proven.permit.id);
        check::is_unused(proven.permit.id, known)?;
        check::is_time(proven, self.clock.now(), self.clock.health())
    }

    /// What only the ledger knows: whether it was revoked since.
    async fn check_open(
        &self,
        file: &PermitFile,
        proven: &ProvenPermit,
        key: &tally_evidence::VerifyingKey,
    ) -> Result<(), Refusal> {
        let path = format!("/state/{}", report::hex(&tally_evidence::permit_state_key(proven.permit.id)));
        match tokio::time::timeout(ASK_TIME, self.client.get_bytes(&path)).await {
            Ok(Ok(answer)) => check::is_still_open(file, &answer, &self.sealer.ledger, key),
            _ => {
                let kept = self.kept().clone();
                let open_at = kept.map_or(Ok(proven.open_at), |kept| kept.judge(proven, &self.sealer.ledger, key))?;
                check::is_fresh(proven, open_at, self.clock.now(), self.setting)
            }
        }
    }

    /// Of when it is what the gate knows of its permits while it is cut off, for people; null when it knows nothing yet.
    pub async fn known_of(&self) -> serde_json::Value {
        let Some(kept) = self.kept().clone() else { return serde_json::Value::Null };
        let Some(key) = self.key.in_memory().await else { return serde_json::Value::Null };
        match kept.as_of(&self.sealer.ledger, &key) {
            Ok(as_of) => {
                let age = self.clock.now().since(as_of.time).as_secs_f64();
                let (height, open) = (as_of.height, kept.open.len());
                serde_json::json!({"as_of": as_of.time.to_string(), "height": height, "age_seconds": age, "open": open})
            }
            Err(fault) => serde_json::json!({"fault": fault.to_string()}),
        }
    }

    async fn carry_out(&self, permit: &Permit, order: Order) -> Result<Report, Refusal> {
        self.in_book({
            let (permit, now) = (permit.clone(), self.clock.now());
            move |book| book.intend(&permit, now)
        })
        .await?;
        let done = self.hands.carry_out(&order).await;
        self.keep(Report::of(permit, self.clock.now(), &order, done)).await
    }

    async fn refuse_for_good(&self, permit: &Permit, refusal: Refusal) -> Result<Report, Refusal> {
        self.in_book({
            let (permit, now) = (permit.clone(), self.clock.now());
            move |book| book.intend(&permit, now)
        })
        .await?;
        self.keep(Report::refused(permit, self.clock.now(), &refusal)).await?;
        Err(refusal.burnt())
    }

    /// A permit with an intention and no report: killed in between. Nobody knows whether it was done, so it is looked at, and
    /// never done again.
    ///
    /// # Errors
    /// None today: what cannot be kept is in the log.
    pub async fn recover(&self) -> Result<(), StoreError> {
        // A permit that is being carried out right now has no report yet, either.
        let _turn = self.turn.lock().await;
        let unfinished = self.book().unfinished();
        for permit in unfinished {
            let order = order(&permit, &self.devices.borrow());
            let found = match order {
                Ok(order) => self.hands.look(&order).await.ok(),
                Err(_) => None,
            };
            let report = Report::after_a_crash(&permit, self.clock.now(), found);
            if let Err(refusal) = self.keep(report).await {
                tracing::error!(permit = permit.id, "{}", refusal.text);
            }
        }
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book<S>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, report::Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent cannot say what it did, so it does nothing.
fn key_away(fault: &SealFault) -> Refusal {
    Refusal::new("key-away", format!("the agent cannot seal what comes of it, so nothing was done: {fault}"))
}

/// A point of the mapping.
fn mapped<'d>(devices: &'d [DeviceSpec], device: &DeviceId, point: &PointId) -> Option<&'d PointSpec> {
    devices.iter().find(|known| known.id == *device)?.points.iter().find(|known| known.id == *point)
}

/// What a device said after an order, or when it was looked at.
type Found = Option<Value>;
