//! Where the programs are that the tests start.

use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap()
}

/// The program under test: `TALLY_BIN` when set (by `cargo xtask test`), else the one beside this test's folder.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn tally() -> PathBuf {
    if let Some(program) = std::env::var_os("TALLY_BIN") {
        return PathBuf::from(program);
    }
    // target/debug/deps/kill-0123456789abcdef → target/debug/tally
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("tally");
    assert!(
        program.is_file(),
        "{} was not built; run `cargo xtask test`, or `cargo build -p tally-cli` before `cargo test -p tally-tests`",
        program.display()
    );
    program
}

/// `tally` with arguments, without what the environment of the developer might add.
#[must_use]
pub fn tally_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(tally());
    command.args(arguments).env_remove("TALLY_NODE").env_remove("TALLY_AGENT").env_remove("NOTIFY_SOCKET");
    command
}

/// The Python that has the pinned packages.
///
/// # Panics
/// When it was not installed.
#[must_use]
pub fn python() -> PathBuf {
    let python = root().join(".tools/venv/bin/python");
    assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
    python
}

/// `node` with the pinned npm packages: what follows is a script of `tests/interop/node`.
///
/// # Panics
/// When they were not installed.
#[must_use]
pub fn node() -> Command {
    let packages = root().join(".tools/node/node_modules");
    assert!(packages.exists(), "{} is missing; run `cargo xtask tools`", packages.display());
    let mut command = Command::new(find("node"));
    command.env("NODE_PATH", packages);
    command
}

/// A program of the system, also where only root's `PATH` looks.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system).map(|dir| dir.join(name));
    places.find(|file| file.is_file()).unwrap_or_else(|| panic!("{name} is missing; run `cargo xtask tools`"))
}
