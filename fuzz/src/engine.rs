//! The loop.

use crate::mutate::{Dice, mutate};
use crate::{Target, seeds};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One input of at most 8 KiB takes microseconds; a second means that something grows with its square or worse.
pub const SLOW: Duration = Duration::from_secs(1);
/// Inputs mutated further.
const KEPT_MAX: usize = 4_000;
/// Inputs written to the corpus in one run, so that it stays small.
const WRITTEN_MAX: usize = 60;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Inputs tried.
    pub tried: u64,
    /// Different answers seen.
    pub answers: usize,
    /// How long it took.
    pub took: Duration,
    /// Where the input lies that broke something, and how it did.
    pub found: Option<(PathBuf, String)>,
}

/// Inputs of a target on disk, by name.
pub fn corpus(folder: &Path, target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(files) = std::fs::read_dir(folder.join(target.name)) else { return Vec::new() };
    let mut files: Vec<_> = files.filter_map(|file| file.ok().map(|file| file.path())).collect();
    files.sort();
    files.into_iter().filter_map(|file| std::fs::read(&file).ok().map(|bytes| (file, bytes))).collect()
}

/// What becomes of one input; `Err` says what broke.
///
/// # Errors
/// The panic's text, or that it took too long.
pub fn replay(target: &Target, input: &[u8]) -> Result<String, String> {
    let begun = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begun.elapsed();
    match answer {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        }
        Ok(_) if took > SLOW => Err(format!("took {took:?}")),
        Ok(answer) => Ok(answer),
    }
}

/// Mutates for so long, beginning with seeds and corpus; new answers go into the corpus.
///
/// # Panics
/// When the folder cannot be written.
pub fn run(target: &Target, folder: &Path, time: Duration, seed: u64) -> Report {
    let (begun, mut dice) = (Instant::now(), Dice(seed));
    let mut kept: Vec<Vec<u8>> = seeds(target.name);
    kept.extend(corpus(folder, target).into_iter().map(|(_, bytes)| bytes));
    kept.push(Vec::new());
    let mut answers: HashSet<u64> = HashSet::new();
    let mut report = Report { tried: 0, answers: 0, took: Duration::ZERO, found: None };
    let mut written = 0;
    let mut queue: Vec<Vec<u8>> = kept.clone();
    while begun.elapsed() < time {
        let is_new = queue.is_empty();
        let input = queue.pop().unwrap_or_else(|| {
            let (one, other) = (dice.below(kept.len()), dice.below(kept.len()));
            mutate(&kept[one], &kept[other], &mut dice)
        });
        report.tried += 1;
        match replay(target, &input) {
            Err(text) => {
                report.found = Some((write(&folder.join("../found").join(target.name), &input), text));
                break;
            }
            Ok(answer) => {
                if answers.insert(shape(&answer)) && is_new {
                    if kept.len() < KEPT_MAX {
                        kept.push(input.clone());
                    }
                    if written < WRITTEN_MAX {
                        written += 1;
                        write(&folder.join(target.name), &input);
                    }
                }
            }
        }
    }
    report.answers = answers.len();
    report.took = begun.elapsed();
    report
}

fn write(folder: &Path, input: &[u8]) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let file = folder.join(hex::encode(&Sha256::digest(input)[..8]));
    std::fs::write(&file, input).unwrap();
    file
}

/// An answer without its numbers and quoted parts: "line 7" and "line 8" are one answer.
fn shape(answer: &str) -> u64 {
    let mut quoted = false;
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in answer.bytes() {
        if byte == b'`' {
            quoted = !quoted;
        }
        if !quoted && !byte.is_ascii_digit() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
