//! The projection of a stopped node: made anew from the log, or compared with one made anew.

use super::facts::FactsError;
use super::{FILE, Step, advance, is_ours};
use crate::clock::Clock;
use crate::config::{ConfigError, NodeConfig};
use crate::engine::Engine;
use crate::order::OpenLedgerError;
use crate::store::StoreOpenError;
use std::sync::Arc;
use tally_model::Timestamp;
use tally_projection::{Comparison, Fault, Height, Place, Projection, compare};

/// Why a projection is not made or compared.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A node has the ledger open.
    #[error(
        "a node has this ledger open, and it keeps the projection itself: stop it first, or just remove the file \
         `projection.sqlite`, which the running node then makes anew"
    )]
    InUse,
    /// The ledger does not open.
    #[error(transparent)]
    Open(Box<OpenLedgerError>),
    /// The ledger does not give a block.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The database.
    #[error(transparent)]
    Projection(#[from] Fault),
    /// A file cannot be made.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The node keeps none.
    #[error("node.yaml says `projection: off`; write `projection: sqlite`, or leave it out")]
    Off,
}

impl From<OpenLedgerError> for ProjectError {
    fn from(error: OpenLedgerError) -> Self {
        match error {
            OpenLedgerError::Store(StoreOpenError::Log(tally_journal::OpenError::InUse { .. })) => Self::InUse,
            other => Self::Open(Box::new(other)),
        }
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Where it is.
    pub place: String,
    /// Up to which block.
    pub at: Height,
}

/// What comparing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Where the compared one is.
    pub place: String,
    /// The block of both.
    pub at: Height,
    /// What is equal and what is not.
    pub found: Comparison,
}

/// Makes the projection of a stopped node anew from its log. Opening the ledger holds index and state against the log, and each
/// block's outcomes are held against its checkpoint.
///
/// # Errors
/// [`ProjectError`]; a projection that was there is untouched when the ledger does not open.
pub fn rebuild(config: &NodeConfig) -> Result<Rebuilt, ProjectError> {
    let place = config.projection.clone().ok_or(ProjectError::Off)?;
    let engine = open_ledger(config)?;
    let mut projection = open(&engine, &place)?;
    projection.begin_anew()?;
    catch_up(&engine, &mut projection)?;
    engine.close();
    Ok(Rebuilt { place: projection.database().place(), at: projection.at().clone() })
}

/// Brings the projection of a stopped node up to its last block, as the node would at its start, makes another one anew from the
/// log, and compares all rows.
///
/// # Errors
/// [`ProjectError`].
pub fn check(config: &NodeConfig) -> Result<Checked, ProjectError> {
    let place = config.projection.clone().ok_or(ProjectError::Off)?;
    let engine = open_ledger(config)?;
    let mut projection = open(&engine, &place)?;
    catch_up(&engine, &mut projection)?;
    let fresh = Place::Sqlite(config.data.join(format!("{FILE}.checking")));
    let compared = compare_with(&engine, &mut projection, &fresh);
    remove(&fresh)?;
    engine.close();
    let found = compared?;
    Ok(Checked { place: projection.database().place(), at: projection.at().clone(), found })
}

fn compare_with(engine: &Engine, projection: &mut Projection, fresh: &Place) -> Result<Comparison, ProjectError> {
    remove(fresh)?;
    let mut made = open(engine, fresh)?;
    catch_up(engine, &mut made)?;
    Ok(compare(projection.database(), made.database())?)
}

/// Opens the ledger for reading. Time stands still meanwhile, so that no term runs out and no block is made.
fn open_ledger(config: &NodeConfig) -> Result<Engine, ProjectError> {
    let mut engine = config.engine(None)?;
    engine.clock = Arc::new(StandingStill);
    Ok(Engine::open(engine)?)
}

struct StandingStill;

impl Clock for StandingStill {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0)
    }
}

fn remove(place: &Place) -> Result<(), ProjectError> {
    match place {
        Place::Sqlite(file) => Ok(tally_projection::remove(file)?),
        Place::Postgres(_) => Ok(()),
    }
}

fn open(engine: &Engine, place: &Place) -> Result<Projection, ProjectError> {
    let is_ours = |height: u64, digest: &str| is_ours(engine.store(), height, digest, engine.key());
    Ok(Projection::open(place, engine.ledger(), &is_ours)?)
}

fn catch_up(engine: &Engine, projection: &mut Projection) -> Result<(), ProjectError> {
    while let Step::More | Step::Done = advance(engine.store(), engine.key(), projection)? {}
    Ok(())
}
