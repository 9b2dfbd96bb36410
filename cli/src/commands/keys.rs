//! `tally keys new|show`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::{KeysArgs, KeysCommand};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tally_evidence::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub fn run(args: &KeysArgs, json: bool) -> Result<Answer, Fault> {
    let (file, key) = match &args.command {
        KeysCommand::New { file } => (file, create(file)?.public().clone()),
        KeysCommand::Show { file } => (file, read_public(file)?),
    };
    if json {
        print_json(&serde_json::json!({"file": file, "key_id": key.id().to_string(), "public": key.to_pem()?}))?;
    } else {
        println!("key id  {}", key.id());
        print!("{}", key.to_pem()?);
    }
    Ok(Answer::Yes)
}

/// Makes a key and writes both halves; refuses to overwrite.
///
/// # Errors
/// When there is no randomness, a file exists, or the folder cannot be written.
pub fn create(file: &Path) -> Result<SigningKey, Fault> {
    let key = fresh()?;
    let private = key.to_pem()?;
    write_new(file, 0o600, private.as_bytes())?;
    write_new(&public_path(file), 0o644, key.public().to_pem()?.as_bytes())?;
    Ok(key)
}

fn fresh() -> Result<SigningKey, Fault> {
    let mut secret = Zeroizing::new([0; 32]);
    // A random 32-byte string is no scalar of P-256 about once in 2^32: draw again.
    for _ in 0..8 {
        getrandom::fill(&mut secret[..]).map_err(|_| tally_evidence::KeyFault::Randomness)?;
        if let Ok(key) = SigningKey::from_secret(&secret) {
            return Ok(key);
        }
    }
    Err(tally_evidence::KeyFault::Randomness.into())
}

fn write_new(file: &Path, mode: u32, bytes: &[u8]) -> Result<(), Fault> {
    let shown = file.display();
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    match &mut open {
        Ok(handle) => {
            handle.write_all(bytes).context(format_args!("writing {shown}"))?;
            handle.sync_all().context(format_args!("writing {shown}"))
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(format!("{shown} exists; a key is never overwritten: name another file, or move it away").into())
        }
        Err(fault) => Err(format!("writing {shown}: {fault}").into()),
    }
}

/// Where the public half of `file` stands: `agent.key` → `agent.pub.pem`.
#[must_use]
pub fn public_path(file: &Path) -> PathBuf {
    file.with_extension("pub.pem")
}

/// Reads a private key and refuses one that others may read.
///
/// # Errors
/// With the command that mends it.
pub fn read_private(file: &Path) -> Result<SigningKey, Fault> {
    let shown = file.display();
    let mode = std::fs::metadata(file).context(format_args!("reading {shown}"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("{shown} may be read by others (mode {mode:o}); type `chmod 600 {shown}`").into());
    }
    let pem = Zeroizing::new(std::fs::read_to_string(file).context(format_args!("reading {shown}"))?);
    SigningKey::from_pem(&pem).context(shown)
}

fn read_public(file: &Path) -> Result<VerifyingKey, Fault> {
    let shown = file.display();
    let pem = Zeroizing::new(std::fs::read_to_string(file).context(format_args!("reading {shown}"))?);
    if pem.contains("PRIVATE KEY") {
        return Ok(read_private(file)?.public().clone());
    }
    VerifyingKey::from_pem(&pem).context(shown)
}
