//! Our bytes against the descriptions of their formats, by a program that is not ours.

use crate::{PATIENCE, python, root};
use tokio::process::Command;
use tokio::time::timeout;

/// What `cddl_check.py` says of these bytes as `top` of these files in `docs/formats` (without `.cddl`): `yes`, or what is wrong.
///
/// # Panics
/// When the check cannot be run.
pub async fn in_format(top: &str, files: &[&str], bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines");
    std::fs::write(&lines, hex::encode(bytes) + "\n").unwrap();
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/cddl_check.py")).arg(top);
    command.args(files.iter().map(|file| root().join(format!("docs/formats/{file}.cddl"))));
    command.stdin(std::fs::File::open(lines).unwrap()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}
