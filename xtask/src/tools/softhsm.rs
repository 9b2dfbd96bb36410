//! SoftHSM2, a PKCS#11 token in software, for the tests of keys in tokens: the installed one, or Debian's packages unpacked into
//! `.tools/softhsm`. The version is Debian's current one, told in the log and refused when it is none that the tests were written for; what
//! they rely on stands in `keys/src/testing.rs`.

use super::find;
use super::unpack::unpack;
use crate::run::Failure;
use std::path::Path;
use std::process::Command;

/// Its program and its library, and what they need that no system has by itself.
const PACKAGES: [&str; 3] = ["softhsm2", "libsofthsm2", "softhsm2-common"];

/// As `keys/src/testing.rs` has it.
const MAJOR: &str = "2.";

/// Installs nothing where it is there already.
pub(super) fn install(tools: &Path) -> Result<(), Failure> {
    let ours = tools.join("softhsm");
    fetch(&ours)?;
    let program = find("softhsm2-util").unwrap_or_else(|| ours.join("usr/bin/softhsm2-util"));
    let told = Command::new(&program).arg("--version").output();
    let told = told.map_err(|fault| Failure::Machine(format!("{} does not run: {fault}", program.display())))?;
    let version = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    eprintln!("xtask: SoftHSM2 {version} ({})", program.display());
    if version.starts_with(MAJOR) {
        return Ok(());
    }
    Err(Failure::Machine(format!(
        "{} is SoftHSM2 `{version}`; the tests know {MAJOR}x: install that one, or see keys/src/testing.rs",
        program.display()
    )))
}

fn fetch(ours: &Path) -> Result<(), Failure> {
    if find("softhsm2-util").is_some() || is_whole(ours) {
        return Ok(());
    }
    let typed = "sudo apt-get install -y softhsm2";
    if find("apt-get").is_none() || find("dpkg").is_none() {
        return Err(Failure::Machine(format!(
            "SoftHSM2 is missing; install it with this system's package manager (on Debian or Ubuntu: {typed})"
        )));
    }
    unpack(&PACKAGES, ours)?;
    if is_whole(ours) {
        return Ok(());
    }
    Err(Failure::Machine(format!("SoftHSM2 was unpacked, but its program or library is not there; type: {typed}")))
}

fn is_whole(folder: &Path) -> bool {
    folder.join("usr/bin/softhsm2-util").is_file() && folder.join("usr/lib/softhsm/libsofthsm2.so").exists()
}
