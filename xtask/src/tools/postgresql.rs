//! PostgreSQL for the tests of the projection: the installed one, or Debian's packages unpacked into `.tools/postgresql`. Nothing is
//! installed, so no root is needed and no service starts.

use super::find;
use super::unpack::unpack;
use crate::run::Failure;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Does nothing where there is a server already.
pub(super) fn install(tools: &Path) -> Result<(), Failure> {
    let ours = tools.join("postgresql");
    if has_server(Path::new("/usr/lib/postgresql")) || has_server(&ours.join("usr/lib/postgresql")) {
        return Ok(());
    }
    let typed = "sudo apt-get install -y postgresql";
    if find("apt-get").is_none() || find("dpkg").is_none() {
        return Err(Failure::Machine(format!(
            "PostgreSQL is missing; install it with this system's package manager (on Debian or Ubuntu: {typed})"
        )));
    }
    let server = current().ok_or_else(|| Failure::Machine(format!("apt knows no postgresql; type: {typed}")))?;
    let client = server.replacen("postgresql-", "postgresql-client-", 1);
    unpack(&[&server, &client, "libpq5"], &ours)?;
    if has_server(&ours.join("usr/lib/postgresql")) {
        return Ok(());
    }
    Err(Failure::Machine(format!("{server} was unpacked, but has no initdb; type: {typed}")))
}

/// Whether a folder such as `/usr/lib/postgresql` holds a server of any version.
fn has_server(folder: &Path) -> bool {
    let versions = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    versions
        .map(|entry| entry.path().join("bin"))
        .any(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
}

/// The package behind Debian's `postgresql`, such as `postgresql-15`.
fn current() -> Option<String> {
    let output = Command::new("apt-cache").args(["depends", "postgresql"]).output().ok()?;
    depends(&String::from_utf8_lossy(&output.stdout))
}

fn depends(text: &str) -> Option<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let is_server = |name: &&str| {
        name.strip_prefix("postgresql-").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    names.map(str::trim).find(is_server).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_behind_the_package() {
        let text = "postgresql\n  Depends: postgresql-common\n  Depends: postgresql-15\n  Suggests: postgresql-doc\n";
        assert_eq!(depends(text), Some("postgresql-15".to_owned()));
        assert_eq!(depends("N: no such package"), None);
    }
}
