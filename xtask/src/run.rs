//! Running a step and saying how it went. Everything of our own goes to standard error, so that standard output
//! holds the lines of `cargo test` and nothing else.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Why a command of ours ends early.
#[derive(Debug)]
pub enum Failure {
    /// A step ran and said no.
    Step {
        /// What was run.
        what: String,
        /// Its exit code.
        code: u8,
    },
    /// Something is missing on this machine; the text says what to type.
    Machine(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { what, code } => write!(f, "`{what}` ended with exit code {code}"),
            Self::Machine(text) => f.write_str(text),
        }
    }
}

/// Sums of the `test result:` lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run.
    pub ignored: u64,
    /// Parts that a test left out because this machine cannot do them: lines `SKIPPED what: why`.
    pub skipped: u64,
    /// Names of those that failed.
    pub failed_names: Vec<String>,
}

impl Counts {
    /// Adds a line of `cargo test`: `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines count nothing but
    /// `SKIPPED …`.
    fn add_line(&mut self, line: &str) {
        self.skipped += u64::from(line.starts_with("SKIPPED "));
        let name = line.trim_end().strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let name = name.map(|name| name.strip_suffix(" - should panic").unwrap_or(name));
        self.failed_names.extend(name.map(ToOwned::to_owned));
        let Some(rest) = line.trim_start().strip_prefix("test result: ") else { return };
        let words: Vec<_> = rest.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else { continue };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// What was done so far, and how long it took.
pub struct Report {
    start: Instant,
    done: Vec<(String, Duration)>,
    counts: Option<Counts>,
}

impl Report {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { start: Instant::now(), done: Vec::new(), counts: None }
    }

    /// Runs `work` as the step called `name`, with its time.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        eprintln!("xtask: {name} …");
        let start = Instant::now();
        let outcome = work();
        let took = start.elapsed();
        let word = if outcome.is_ok() { "done" } else { "FAILED" };
        // In CI the log of the tests ends with the lines of `cargo test` itself.
        if !(is_ci() && name == TEST_STEP) {
            eprintln!("xtask: {name}: {word} in {took:.1?}");
        }
        self.done.push((name.to_owned(), took));
        outcome
    }

    /// Runs `command` as the step [`TEST_STEP`], and counts its tests.
    pub fn test_step(&mut self, command: &mut Command) -> Result<(), Failure> {
        let mut counts = Counts::default();
        let outcome = self.step(TEST_STEP, || run_counting(command, &mut counts, &mut std::io::stdout()));
        self.counts = Some(counts);
        outcome
    }

    /// Names of the tests that failed when they were run last.
    pub fn failed_tests(&self) -> Vec<String> {
        self.counts.as_ref().map(|counts| counts.failed_names.clone()).unwrap_or_default()
    }

    /// Prints the summary.
    pub fn finish(&self, failure: Option<&Failure>) {
        if let Some(failure @ Failure::Machine(_)) = failure {
            eprintln!("xtask: {failure}");
        }
        if is_ci() && self.counts.is_some() {
            return;
        }
        if let Some(failure @ Failure::Step { .. }) = failure {
            eprintln!("xtask: {failure}");
        }
        let steps: Vec<_> = self.done.iter().map(|(name, took)| format!("{name} {took:.1?}")).collect();
        eprintln!("xtask: {} (together {:.1?})", steps.join(", "), self.start.elapsed());
        if let Some(Counts { passed, failed, ignored, skipped, .. }) = &self.counts {
            eprintln!("xtask: {passed} tests passed, {failed} failed, {ignored} ignored, {skipped} skipped in part");
        }
    }
}

/// Name of the step that runs the tests.
const TEST_STEP: &str = "tests";

/// Whether a pipeline runs us: then nothing asks, nothing is coloured, and one run shows every failure.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that started us, in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    if is_ci() {
        command.env("CARGO_TERM_PROGRESS_WHEN", "never");
    }
    command
}

/// Runs `command` to its end with our own output and input.
pub fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.status().map_err(|fault| not_started(command, &fault))?;
    judge(command, status.code())
}

/// Runs `command`, passes its standard output on to `onward` line by line and counts the tests in it.
fn run_counting(command: &mut Command, counts: &mut Counts, onward: &mut impl Write) -> Result<(), Failure> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|fault| not_started(command, &fault))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // A test may print anything, also bytes that are not text; an `onward` that is closed ends nothing.
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            counts.add_line(&String::from_utf8_lossy(&line));
            onward.write_all(&line).ok();
            line.clear();
        }
        onward.flush().ok();
    }
    let status = child.wait().map_err(|fault| not_started(command, &fault))?;
    judge(command, status.code())
}

fn judge(command: &Command, code: Option<i32>) -> Result<(), Failure> {
    match code {
        Some(0) => Ok(()),
        // A signal (no code) and codes beyond a byte are failures like any other.
        code => Err(Failure::Step {
            what: words(command),
            code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        }),
    }
}

fn not_started(command: &Command, fault: &std::io::Error) -> Failure {
    Failure::Machine(format!("cannot start `{}`: {fault}", words(command)))
}

fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![program.to_string_lossy()];
    words.extend(command.get_args().map(std::ffi::OsStr::to_string_lossy));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_results_are_summed_and_other_lines_ignored() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.20s",
            "I passed 7 passed things",
            "test room::a_thing ... FAILED\n",
            "test room::another ... ok\n",
            "SKIPPED power cut of a real file system: mount: permission denied",
        ] {
            counts.add_line(line);
        }
        let failed_names = vec!["room::a_thing".to_owned()];
        assert_eq!(counts, Counts { passed: 5, failed: 5, ignored: 1, skipped: 1, failed_names });
    }

    #[test]
    fn the_exit_code_of_a_step_is_kept() {
        let mut counts = Counts::default();
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'test result: ok. 2 passed; 0 failed'; exit 101"]);
        let mut onward = Vec::new();
        let outcome = run_counting(&mut command, &mut counts, &mut onward);
        assert!(matches!(outcome, Err(Failure::Step { code: 101, .. })), "{outcome:?}");
        assert_eq!(counts.passed, 2);
        assert_eq!(onward, b"test result: ok. 2 passed; 0 failed\n");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let Err(Failure::Machine(text)) = run(&mut Command::new("no-such-program-at-all")) else {
            panic!("it started");
        };
        assert!(text.contains("no-such-program-at-all"), "{text}");
    }
}
