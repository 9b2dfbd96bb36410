//! A checked plant: what the rest of the house works with.

use crate::Fault;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{DeviceId, DeviceSpec, EvidenceQuality, TriggerId};
use tally_rules::Rule;

/// A plant file that is right, with its data sheets worked in.
#[derive(Debug, Clone)]
pub struct Plant {
    /// Its name.
    pub name: String,
    /// The devices in file order, ids unique.
    pub devices: Vec<DeviceSpec>,
    /// The triggers in file order, ids unique.
    pub rules: Vec<Arc<Rule>>,
    /// The tests in file order.
    pub tests: Vec<TestCase>,
    /// All files read, the plant file first: watch these to notice a change.
    pub files: Vec<PathBuf>,
    /// What is probably not meant, by file and line.
    pub warnings: Vec<Fault>,
}

/// A test written into the file: these readings give these triggers, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCase {
    /// Its name, or the name of the recording.
    pub name: String,
    /// The recording, a CSV file.
    pub readings: PathBuf,
    /// The device the recording is of.
    pub device: DeviceId,
    /// What must happen.
    pub expect: Vec<Expectation>,
    /// The file it is written in.
    pub file: PathBuf,
    /// The line it begins at.
    pub line: u32,
}

/// One thing that must happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Which trigger.
    pub trigger: TriggerId,
    /// When, counted from the first row of the recording.
    pub at: Duration,
    /// How far off it may be.
    pub within: Duration,
    /// Clears, instead of raises.
    pub cleared: bool,
    /// How good its evidence must be found; `None`: it is not looked at.
    pub quality: Option<EvidenceQuality>,
}
