//! Debian's packages without installing them: no root is needed, and no service starts.

use super::file_fault;
use crate::run::{Failure, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Downloads packages (what apt trusts, by its signatures) and unpacks them below `folder`.
pub(super) fn unpack(names: &[&str], folder: &Path) -> Result<(), Failure> {
    eprintln!("xtask: unpacking {} into {}", names.join(", "), folder.display());
    let packages = folder.join("packages");
    fs::create_dir_all(&packages).map_err(|fault| file_fault("create", &packages, &fault))?;
    let mut download = Command::new("apt-get");
    download.args(["-q", "download"]).args(names).current_dir(&packages).stdout(std::io::stderr());
    run(&mut download)?;
    let listed = fs::read_dir(&packages).map_err(|fault| file_fault("read", &packages, &fault))?;
    for package in listed.filter_map(Result::ok).map(|entry| entry.path()) {
        if package.extension().is_some_and(|end| end == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&package).arg(folder))?;
        }
    }
    Ok(())
}
