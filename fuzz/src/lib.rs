//! Every parser of outside bytes as a fuzz target, the real inputs to begin with, and the corpus that stays.
//!
//! **The engine** is LLVM's libFuzzer (crate `libfuzzer-sys`) over instrumented code; `cargo xtask fuzz` builds and runs it on the stable
//! compiler (`docs/security/fuzzing.md`). Nothing else needs it: a normal test replays what it found worth keeping.
//!
//! **What is found.** A panic (also an overflow: the build has the checks of tests), an input that takes too long or too much memory, a
//! reader that takes bytes which its own writer would not write (one meaning, one form).
//!
//! `fuzz/corpus/TARGET/` holds small inputs: those that reach something no other reaches, and those that broke something once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it fails by panicking: that is its answer

mod field;
mod golden;
mod node;
mod said;
mod sealed;
mod sensor;
mod shown;
mod site;
mod targets;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use targets::{TARGETS, Target};
pub use words::dictionary;

/// One input of a few kilobytes takes microseconds; so long means that something grows with its square or worse.
pub const SLOW: Duration = Duration::from_secs(10);

/// Inputs of a target on disk, by name.
#[must_use]
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
    replay_within(target, input, SLOW)
}

/// The same with another idea of what is long.
///
/// # Errors
/// As [`replay`].
pub fn replay_within(target: &Target, input: &[u8], slow: Duration) -> Result<String, String> {
    let begun = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begun.elapsed();
    match answer {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("panicked: {}", text.unwrap_or_default()))
        }
        Ok(_) if took > slow => Err(format!("took {took:?}")),
        Ok(answer) => Ok(answer),
    }
}
