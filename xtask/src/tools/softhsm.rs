//! SoftHSM2, a PKCS#11 token in software, for the tests of keys in tokens: the installed one, or Debian's packages unpacked into
//! `.tools/softhsm`. The version is Debian's; what the tests rely on stands in `keys/src/testing.rs`.

use super::find;
use super::unpack::unpack;
use crate::run::Failure;
use std::path::Path;

/// Its program and its library, and what they need that no system has by itself.
const PACKAGES: [&str; 3] = ["softhsm2", "libsofthsm2", "softhsm2-common"];

/// Does nothing where it is there already.
pub(super) fn install(tools: &Path) -> Result<(), Failure> {
    let ours = tools.join("softhsm");
    if find("softhsm2-util").is_some() || is_whole(&ours) {
        return Ok(());
    }
    let typed = "sudo apt-get install -y softhsm2";
    if find("apt-get").is_none() || find("dpkg").is_none() {
        return Err(Failure::Machine(format!(
            "SoftHSM2 is missing; install it with this system's package manager (on Debian or Ubuntu: {typed})"
        )));
    }
    unpack(&PACKAGES, &ours)?;
    if is_whole(&ours) {
        return Ok(());
    }
    Err(Failure::Machine(format!("SoftHSM2 was unpacked, but its program or library is not there; type: {typed}")))
}

fn is_whole(folder: &Path) -> bool {
    folder.join("usr/bin/softhsm2-util").is_file() && folder.join("usr/lib/softhsm/libsofthsm2.so").exists()
}
