//! What the tests talk to and we did not write, pinned, inside the git-ignored `.tools/`:
//! - `.tools/venv`: a Python environment with exactly `tests/interop/requirements.txt`;
//! - `.tools/venv.stamp`: the requirements it was made from; when it differs, pip runs again. Only this module writes it;
//! - `.tools/node`: the npm packages of `tests/interop/node/package.json`, and `.tools/node.stamp`, as above;
//! - `.tools/lock`: held while installing, so that two runs do not install into each other.
//!
//! - `.tools/postgresql`: a PostgreSQL server unpacked from Debian's packages, only where none is installed.
//! - `.tools/softhsm`: SoftHSM2, a PKCS#11 token in software, likewise.
//!
//! Debian's packages have no pinned version, as pip's and npm's have: an archive offers one version of a package, and drops it when the
//! next security update comes, so that a pin would fail on the first machine that is set up after that. Each tool takes what the system has or
//! Debian offers; where the tests know only some versions of it (SoftHSM2), others are refused by name.
//!
//! mosquitto comes from the Debian package. Its service, when Debian starts it, is not ours: tests start their own
//! broker on a free port and leave it alone.

mod postgresql;
mod softhsm;
mod unpack;

use crate::run::{Failure, root, run};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories that hold brokers and are missing in the PATH of ordinary users.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Oldest Python that the pinned packages run on.
const PYTHON_MINOR_MIN: u32 = 10;

/// Installs what is missing; does nothing, in well under a second, when all is there.
pub fn install() -> Result<(), Failure> {
    let tools = root().join(".tools");
    fs::create_dir_all(&tools).map_err(|fault| file_fault("create", &tools, &fault))?;
    let lock_path = tools.join("lock");
    let lock = File::create(&lock_path).map_err(|fault| file_fault("create", &lock_path, &fault))?;
    lock.lock().map_err(|fault| file_fault("lock", &lock_path, &fault))?;
    mosquitto()?;
    postgresql::install(&tools)?;
    softhsm::install(&tools)?;
    python_packages(&tools)?;
    node_packages(&tools)
}

/// `PATH` with the system directories at its end.
pub fn search_path() -> OsString {
    let mut dirs: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    for dir in SYSTEM_DIRS.map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    // Only a directory with a colon in its name cannot be joined, and no directory of ours has one.
    std::env::join_paths(dirs).unwrap_or_default()
}

fn mosquitto() -> Result<(), Failure> {
    if missing_packages().is_empty() {
        return Ok(());
    }
    eprintln!("xtask: mosquitto is missing (Debian may start it as a service on 127.0.0.1:1883; tests do not use it)");
    apt_install(&missing_packages())?;
    match missing_packages()[..] {
        [] => Ok(()),
        _ => Err(Failure::Machine("mosquitto is installed, but its programs are in no directory of PATH".to_owned())),
    }
}

fn missing_packages() -> Vec<&'static str> {
    let packages = [("mosquitto", "mosquitto"), ("mosquitto-clients", "mosquitto_pub")];
    packages.into_iter().filter(|(_, program)| find(program).is_none()).map(|(package, _)| package).collect()
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Makes the Python environment and fills it, unless the stamp says that it is already right.
fn python_packages(tools: &Path) -> Result<(), Failure> {
    let list = root().join("tests/interop/requirements.txt");
    let wanted = fs::read_to_string(&list).map_err(|fault| file_fault("read", &list, &fault))?;
    let (venv, stamp) = (tools.join("venv"), tools.join("venv.stamp"));
    let python = venv.join("bin/python");
    let works = silent(Command::new(&python).args(["-c", "import pip"]));
    if works && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if !works {
        make_venv(&venv)?;
    }
    eprintln!("xtask: installing the Python packages of {}", list.display());
    // Every package is in the list, so pip may add none of its own choice; `check` finds what the list forgot.
    let pip = ["-m", "pip", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(["install", "--quiet", "--no-deps", "--requirement"]).arg(&list))?;
    run(Command::new(&python).args(pip).arg("check").stdout(Stdio::null()))?;
    // Last: if we die before this line, the next run installs again, which changes nothing that is right.
    fs::write(&stamp, wanted).map_err(|fault| file_fault("write", &stamp, &fault))
}

/// Installs the npm packages, unless the stamp says that they are there.
fn node_packages(tools: &Path) -> Result<(), Failure> {
    let list = root().join("tests/interop/node/package.json");
    let wanted = fs::read_to_string(&list).map_err(|fault| file_fault("read", &list, &fault))?;
    let (node, stamp) = (tools.join("node"), tools.join("node.stamp"));
    let is_there = node.join("node_modules/sparkplug-payload").is_dir();
    if is_there && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let missing: Vec<_> = ["nodejs", "npm"]
        .into_iter()
        .zip(["node", "npm"])
        .filter(|(_, program)| find(program).is_none())
        .map(|(package, _)| package)
        .collect();
    if !missing.is_empty() {
        apt_install(&missing)?;
    }
    eprintln!("xtask: installing the npm packages of {}", list.display());
    fs::create_dir_all(&node).map_err(|fault| file_fault("create", &node, &fault))?;
    let copy = node.join("package.json");
    fs::write(&copy, &wanted).map_err(|fault| file_fault("write", &copy, &fault))?;
    // Versions are pinned in the list, also indirect ones; no script of a package runs.
    let flags = ["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix"];
    run(Command::new("npm").args(flags).arg(&node).current_dir(&node))?;
    // Last, as above.
    fs::write(&stamp, wanted).map_err(|fault| file_fault("write", &stamp, &fault))
}

fn make_venv(venv: &Path) -> Result<(), Failure> {
    if find("python3").is_none() {
        apt_install(&["python3", "python3-venv"])?;
    }
    require_python()?;
    let make = || silent(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv));
    if make() {
        return Ok(());
    }
    // Debian and Ubuntu ship Python without its venv module.
    apt_install(&["python3-venv"])?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))
}

fn require_python() -> Result<(), Failure> {
    let test = format!("import sys; sys.exit(sys.version_info < (3, {PYTHON_MINOR_MIN}))");
    if silent(Command::new("python3").args(["-c", &test])) {
        return Ok(());
    }
    Err(Failure::Machine(format!(
        "the python3 in PATH is older than 3.{PYTHON_MINOR_MIN}, which the pinned packages of \
         tests/interop/requirements.txt need; put a newer python3 first in PATH (Debian 12 and Ubuntu 22.04 have one)"
    )))
}

/// Installs Debian packages as root or with a sudo that does not ask; otherwise says what to type.
fn apt_install(packages: &[&str]) -> Result<(), Failure> {
    let typed = format!("sudo apt-get install -y {}", packages.join(" "));
    if find("apt-get").is_none() {
        return Err(Failure::Machine(format!(
            "missing: {}; install it with this system's package manager (on Debian or Ubuntu: {typed})",
            packages.join(", ")
        )));
    }
    let Some(prefix) = root_prefix() else {
        return Err(Failure::Machine(format!(
            "missing: {}, and installing needs root; type: {typed}",
            packages.join(", ")
        )));
    };
    if run(apt(prefix, &["install"]).args(packages)).is_ok() {
        return Ok(());
    }
    // A fresh image knows no packages yet.
    run(&mut apt(prefix, &["update"]))?;
    run(apt(prefix, &["install"]).args(packages))
        .map_err(|_| Failure::Machine(format!("apt-get could not install {}; type: {typed}", packages.join(", "))))
}

fn apt(prefix: &[&str], verb: &[&str]) -> Command {
    // `env` because sudo drops our environment.
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"], verb].concat();
    let mut command = Command::new(words[0]);
    // What apt says belongs to the log, not to the lines of `cargo test`.
    command.args(&words[1..]).stdin(Stdio::null()).stdout(std::io::stderr());
    command
}

/// What to put before a command to run it as root: nothing, or `sudo -n`; `None` when there is no way.
fn root_prefix() -> Option<&'static [&'static str]> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if is_root {
        return Some(&[]);
    }
    silent(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n"])
}

/// Whether `command` runs and says yes; its output is of no interest.
fn silent(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn file_fault(verb: &str, path: &Path, fault: &std::io::Error) -> Failure {
    Failure::Machine(format!("cannot {verb} {}: {fault}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_holds_the_system_directories() {
        let dirs: Vec<_> = std::env::split_paths(&search_path()).collect();
        for wanted in SYSTEM_DIRS.map(PathBuf::from) {
            assert!(dirs.contains(&wanted), "{}", wanted.display());
        }
    }

    #[test]
    fn every_python_package_is_pinned_exactly() {
        let list = fs::read_to_string(root().join("tests/interop/requirements.txt")).unwrap();
        let packages: Vec<_> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert!(packages.len() > 3);
        for package in packages {
            assert!(package.split(';').next().is_some_and(|pin| pin.contains("==")), "{package} is not pinned");
        }
    }
}
