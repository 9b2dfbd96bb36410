//! The steps of each command.

use crate::run::{Failure, Report, cargo, is_ci, run};
use crate::tools;
use std::path::PathBuf;

/// Everything that must be green before a change is shared.
pub fn check(report: &mut Report) -> Result<(), Failure> {
    report.step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    report.step("lints", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    })?;
    floors(report)?;
    test(report, &[])
}

/// Compares the floor table with the crates. `--workspace` so that nothing is built twice with other features.
pub fn floors(report: &mut Report) -> Result<(), Failure> {
    report.step("floors", || run(cargo().args(["test", "--quiet", "--workspace", "--test", "floors"])))
}

/// Installs the tools.
pub fn tools(report: &mut Report) -> Result<(), Failure> {
    report.step("tools", tools::install)
}

/// Installs the tools, builds, runs the tests with `extra` handed to `cargo test`.
pub fn test(report: &mut Report, extra: &[String]) -> Result<(), Failure> {
    tools(report)?;
    let whole = !selects_packages(extra);
    let program = match std::env::var_os("TALLY_BIN") {
        Some(program) => PathBuf::from(program),
        None => {
            report.step("build", || build(whole))?;
            built_program()?
        }
    };
    let command = |extra: &[String]| {
        let mut command = cargo();
        command.arg("test").args(whole.then_some("--workspace")).args(is_ci().then_some("--no-fail-fast")).args(extra);
        // Whole-plant tests start the real program as child processes; Debian keeps brokers where only root's PATH looks.
        command.env("TALLY_BIN", &program).env("PATH", tools::search_path());
        command
    };
    let outcome = report.test_step(&mut command(extra));
    let failed = report.failed_tests();
    if outcome.is_ok() || !is_ci() || !extra.is_empty() || failed.is_empty() || failed.len() > UNSTEADY_MAX {
        return outcome;
    }
    eprintln!("xtask: once more and alone, for the machine may have been too busy: {}", failed.join(", "));
    report.test_step(&mut command(&alone(&failed)))?;
    failed
        .iter()
        .for_each(|name| eprintln!("xtask: UNSTEADY {name}: failed first, passed alone; that is a fault to be mended"));
    Ok(())
}

/// Tests that a pipeline runs a second time at most: on a machine that others use, one of hundreds may wait in vain. What is
/// broken fails twice, and whatever failed is in the log.
const UNSTEADY_MAX: usize = 3;

/// Arguments for cargo that run these tests only, one after the other.
fn alone(names: &[String]) -> Vec<String> {
    let words = ["--", "--exact", "--test-threads=1"].map(ToOwned::to_owned);
    words.into_iter().chain(names.iter().cloned()).collect()
}

/// Builds the program and, for a whole run, every test with it: chosen together, they share one set of features,
/// and nothing is compiled twice.
fn build(whole: bool) -> Result<(), Failure> {
    let targets: &[&str] = if whole { &["--lib", "--bins", "--tests", "--examples"] } else { &["--bin", "tally"] };
    run(cargo().args(["build", "--workspace"]).args(targets))
}

/// Where cargo put `tally`: beside ourselves, whatever the target directory is called.
fn built_program() -> Result<PathBuf, Failure> {
    let ourselves = std::env::current_exe().map_err(|fault| Failure::Machine(format!("where am I: {fault}")))?;
    let program = ourselves.with_file_name("tally");
    if program.is_file() {
        return Ok(program);
    }
    Err(Failure::Machine(format!("cargo built no `{}`; set TALLY_BIN to the program to test", program.display())))
}

/// Whether the arguments for cargo (not those after a further `--`, which are for the tests) name packages.
fn selects_packages(extra: &[String]) -> bool {
    let mut own = extra.iter().take_while(|word| *word != "--");
    own.any(|word| word == "-p" || word.starts_with("--package") || word.starts_with("-p") && !word.starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::{alone, selects_packages};

    #[test]
    fn failed_tests_are_run_alone_by_their_whole_names() {
        assert_eq!(alone(&["a::b".to_owned()]), ["--", "--exact", "--test-threads=1", "a::b"]);
    }

    #[test]
    fn packages_are_found_only_before_the_second_dash() {
        let selects = |words: &[&str]| selects_packages(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(selects(&["-p", "tally-model"]) && selects(&["--package=x"]) && selects(&["-ptally-model"]));
        assert!(!selects(&[]) && !selects(&["--test", "floors", "--", "-p"]) && !selects(&["--profile", "x"]));
    }
}
