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
    let mut command = cargo();
    command.arg("test").args(whole.then_some("--workspace")).args(is_ci().then_some("--no-fail-fast")).args(extra);
    // Whole-plant tests start the real program as child processes; Debian keeps brokers where only root's PATH looks.
    command.env("TALLY_BIN", program).env("PATH", tools::search_path());
    report.test_step(&mut command)
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
    use super::selects_packages;

    #[test]
    fn packages_are_found_only_before_the_second_dash() {
        let selects = |words: &[&str]| selects_packages(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(selects(&["-p", "tally-model"]) && selects(&["--package=x"]) && selects(&["-ptally-model"]));
        assert!(!selects(&[]) && !selects(&["--test", "floors", "--", "-p"]) && !selects(&["--profile", "x"]));
    }
}
