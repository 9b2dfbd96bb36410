//! `tally keys new|show`.

use crate::answer::{Answer, Context, Fault, print_json};
use clap::{Args, Subcommand, ValueEnum};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tally_evidence::{Algorithm, Cosigner, NoteSigningKey, NoteVerifyingKey, SealingKey, SigningKey};
use tally_keys::{KeySource, read_secret};
use zeroize::Zeroizing;

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Commands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key: FILE (PKCS#8 PEM, mode 0600) and FILE with `.pub.pem` (public); or in a PKCS#11 token, which keeps it
    New {
        /// Where the private key goes; must not exist. In a token: pkcs11:token=plant;object=agent-01?module-path=…&pin-source=FILE
        #[arg(value_name = "FILE|URI")]
        file: PathBuf,
        /// Write the public half (SPKI PEM) into this file; must not exist
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// Its kind. Everybody but witnesses has P-256
        #[arg(long, value_enum, default_value = "p256")]
        algorithm: Kind,
    },
    /// Show the key id (RFC 9679 thumbprint) of a private or public P-256 key, or the verifier key of a witness
    Show {
        /// A PEM file, or a key in a PKCS#11 token (pkcs11:…)
        #[arg(value_name = "FILE|URI")]
        file: PathBuf,
        /// Write the public half (SPKI PEM) into this file; must not exist
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// The witness's name: show its verifier key (C2SP signed-note)
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

/// Kinds of keys, as in `--algorithm`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// ECDSA on P-256: everything that enters a ledger
    P256,
    /// Ed25519: witnesses
    Ed25519,
}

impl From<Kind> for Algorithm {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::P256,
            Kind::Ed25519 => Self::Ed25519,
        }
    }
}

pub fn run(args: &KeysArgs, json: bool) -> Result<Answer, Fault> {
    let (file, key, name) = match &args.command {
        KeysCommand::New { file, algorithm, .. } => (file, make(file, (*algorithm).into())?, None),
        KeysCommand::Show { file, name, .. } => (file, read_public(file)?, name.as_ref()),
    };
    let (KeysCommand::New { public, .. } | KeysCommand::Show { public, .. }) = &args.command;
    if let Some(public) = public {
        write_new(public, 0o644, key.to_pem()?.as_bytes())?;
    }
    let vkey = name.map(|name| Cosigner::new(name, key.clone())).transpose()?.map(|cosigner| cosigner.to_string());
    // The thumbprint is of COSE keys as statements have them: P-256.
    let id = if let NoteVerifyingKey::P256(key) = &key { Some(key.id().to_string()) } else { None };
    if json {
        let algorithm = key.algorithm().to_string();
        // Of a token's URI what names the key, not where its PIN is.
        let file = source(file)?.to_string();
        print_json(&serde_json::json!({
            "file": file, "algorithm": algorithm, "key_id": id, "vkey": vkey, "public": key.to_pem()?,
        }))?;
        return Ok(Answer::Yes);
    }
    match (vkey, id) {
        (Some(vkey), _) => println!("verifier key  {vkey}"),
        (None, Some(id)) => println!("key id  {id}"),
        (None, None) => println!("{} key of a witness; --name NAME shows its verifier key", key.algorithm()),
    }
    print!("{}", key.to_pem()?);
    Ok(Answer::Yes)
}

/// Makes a key in a file, or in a token, which keeps it.
fn make(place: &Path, algorithm: Algorithm) -> Result<NoteVerifyingKey, Fault> {
    match (source(place)?, algorithm) {
        (KeySource::File(file), _) => Ok(create_note_key(&file, algorithm)?.public().clone()),
        (KeySource::Token(uri), Algorithm::P256) => Ok(tally_keys::generate(&uri)?.public.into()),
        (KeySource::Token(_), Algorithm::Ed25519) => {
            Err("a token makes P-256 keys; an Ed25519 key of a witness lies in a file".into())
        }
    }
}

/// Makes a key and writes both halves; refuses to overwrite.
///
/// # Errors
/// When there is no randomness, a file exists, or the folder cannot be written.
pub fn create(file: &Path) -> Result<SigningKey, Fault> {
    let pem = create_note_key(file, Algorithm::P256)?.to_pem()?;
    Ok(SigningKey::from_pem(&pem)?)
}

/// The same for a key of either kind.
///
/// # Errors
/// As above.
pub fn create_note_key(file: &Path, algorithm: Algorithm) -> Result<NoteSigningKey, Fault> {
    let key = fresh(algorithm)?;
    let private = key.to_pem()?;
    write_new(file, 0o600, private.as_bytes())?;
    write_new(&public_path(file), 0o644, key.public().to_pem()?.as_bytes())?;
    Ok(key)
}

fn fresh(algorithm: Algorithm) -> Result<NoteSigningKey, Fault> {
    let mut secret = Zeroizing::new([0; 32]);
    // A random 32-byte string is no scalar of P-256 about once in 2^32: draw again.
    for _ in 0..8 {
        getrandom::fill(&mut secret[..]).map_err(|_| tally_evidence::KeyFault::Randomness)?;
        if let Ok(key) = NoteSigningKey::from_secret(algorithm, &secret) {
            return Ok(key);
        }
    }
    Err(tally_evidence::KeyFault::Randomness.into())
}

/// Writes a new file with this mode, synced; refuses to overwrite.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write_new(file: &Path, mode: u32, bytes: &[u8]) -> Result<(), Fault> {
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

/// The private key of a person, ready to sign: in a file that nobody else may read, or in a token (`pkcs11:…`).
///
/// # Errors
/// With the command that mends it, or what the token says.
pub fn open_key(place: &Path) -> Result<SealingKey, Fault> {
    Ok(source(place)?.open()?)
}

/// A relative PIN file in a URI is looked for in the working folder, as every path of a command line.
fn source(place: &Path) -> Result<KeySource, Fault> {
    Ok(match place.to_str() {
        Some(text) => KeySource::parse(text, Path::new("."))?,
        None => KeySource::File(place.to_owned()),
    })
}

fn read_public(file: &Path) -> Result<NoteVerifyingKey, Fault> {
    let file = match source(file)? {
        KeySource::File(file) => file,
        token @ KeySource::Token(_) => return Ok(token.open()?.public()?.into()),
    };
    let shown = file.display();
    let read = File::open(&file).and_then(|mut opened| tally_secrets::text(&mut opened));
    let pem = read.context(format_args!("reading {shown}"))?;
    if pem.contains("PRIVATE KEY") {
        return Ok(NoteSigningKey::from_pem(&read_secret(&file)?).context(shown)?.public().clone());
    }
    NoteVerifyingKey::from_pem(&pem).context(shown)
}
