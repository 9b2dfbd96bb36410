//! `witness.yaml`, and `witness_for` of node.yaml: as written, then checked. Reference: `docs/operator/witness.md`.

use crate::config::{Checker, ConfigError, check_yaml, load_private};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
use tally_contracts::Fault;
use tally_door::{Listen, WrittenDoor, WrittenListen, WrittenTls};
use tally_evidence::{LogKey, NoteSigningKey, NoteVerifyingKey, is_key_name};
use tally_tls::ServerTls;

/// Where a witness listens when nothing is said.
const LISTEN: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7470);
const LISTS: &str = "docs/operator/witness.md lists every key";

/// A checked configuration of the separate program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    /// What makes it a witness.
    pub watching: Watching,
    /// Where it listens.
    pub listen: Vec<Listen>,
    /// Certificates of `tls:` places.
    pub tls: Option<ServerTls>,
}

/// What makes a program a witness, whether it is one alone (`witness.yaml`) or a node besides (`witness_for` of node.yaml).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watching {
    /// Name in its cosignatures.
    pub name: String,
    /// Its private key, PKCS#8 PEM, Ed25519 or P-256.
    pub key: PathBuf,
    /// What it remembers; made when missing.
    pub data: PathBuf,
    /// What it watches.
    pub logs: Vec<WatchedLog>,
}

/// A log that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedLog {
    /// Where its key was read from.
    pub file: PathBuf,
    /// Its name and key.
    pub key: LogKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    name: Spanned<String>,
    key: PathBuf,
    data: PathBuf,
    listen: Option<Spanned<WrittenListen>>,
    listen_plain: Option<Spanned<String>>,
    tls: Option<WrittenTls>,
    logs: Spanned<Vec<RawLog>>,
}

/// `witness_for` of node.yaml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWatching {
    name: Spanned<String>,
    key: PathBuf,
    data: Option<PathBuf>,
    logs: Spanned<Vec<RawLog>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    origin: Spanned<String>,
    key: Spanned<PathBuf>,
}

impl WitnessConfig {
    /// Reads and checks a file, and reads the keys of the logs.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::Faults`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = crate::config::read(file)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).map_err(|faults| ConfigError::Faults { file: file.to_owned(), faults })
    }

    /// Checks a text; relative paths count from `folder`.
    ///
    /// # Errors
    /// All mistakes, or the first one when the text is no YAML or has the wrong shape.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        let raw: RawConfig = check_yaml(text, "witness.yaml", LISTS)?;
        let mut checker = Checker { folder, file: None, faults: Vec::new() };
        let watching = RawWatching { name: raw.name, key: raw.key, data: Some(raw.data), logs: raw.logs };
        let watching = watching.check(&mut checker, "", Path::new(""));
        let places = checker.places(&WrittenDoor {
            listen: raw.listen.as_ref(),
            plain: raw.listen_plain.as_ref(),
            tls: raw.tls.as_ref(),
            tls_key: "tls",
            usual: LISTEN,
        });
        let config = Self { watching, listen: places.listen, tls: places.tls };
        if checker.faults.is_empty() { Ok(config) } else { Err(checker.faults) }
    }
}

impl RawWatching {
    /// Checks it; every mistake goes to the checker. `at` stands before the keys' names; `usual` is where it remembers when nothing is said.
    pub(crate) fn check(self, checker: &mut Checker<'_>, at: &str, usual: &Path) -> Watching {
        let why = "a witness signs while a node waits, and its key may be Ed25519";
        checker.in_a_file(&self.name, &format!("{at}key"), &self.key, why);
        Watching {
            name: key_name(checker, &self.name, &format!("{at}name")),
            key: checker.folder.join(self.key),
            data: self.data.map_or_else(|| usual.to_owned(), |data| checker.folder.join(data)),
            logs: logs(checker, &self.logs, at),
        }
    }
}

impl Watching {
    /// Of `file`: a `witness.yaml`, or the `witness_for` of a `node.yaml`, which alone has the key `ledger`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        struct Kind {
            ledger: Option<String>,
        }
        let is_node = check_yaml::<Kind>(&crate::config::read(file)?, "", "").is_ok_and(|kind| kind.ledger.is_some());
        if !is_node {
            return Ok(WitnessConfig::load(file)?.watching);
        }
        crate::NodeConfig::load(file)?.witness_for.ok_or_else(|| ConfigError::Faults {
            file: file.to_owned(),
            faults: vec![Fault {
                line: 1,
                column: 1,
                key: "witness_for".to_owned(),
                found: "this node is no witness of other ledgers".to_owned(),
                hint: LISTS.to_owned(),
            }],
        })
    }

    /// Reads the witness's key; refuses a file that group or others may read.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_key(&self) -> Result<NoteSigningKey, ConfigError> {
        let pem = load_private(&self.key)?;
        NoteSigningKey::from_pem(&pem).map_err(|source| ConfigError::Key { file: self.key.clone(), source })
    }
}

/// A name that a note can carry.
pub(crate) fn key_name(checker: &mut Checker<'_>, name: &Spanned<String>, key: &str) -> String {
    if !is_key_name(&name.value) {
        let hint = "neither spaces nor `+`; `witness.example/w1` is usual";
        checker.fault(name, key, format!("`{}` cannot stand in a note", name.value), hint);
    }
    name.value.clone()
}

/// The public key in the file of `key`, found from the configuration's folder.
pub(crate) fn public_key(checker: &mut Checker<'_>, file: &Spanned<PathBuf>, key: &str) -> Option<NoteVerifyingKey> {
    let path = checker.folder.join(&file.value);
    let hint = "SPKI PEM, Ed25519 or P-256, as `tally keys` writes it beside a private key (`.pub.pem`)";
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|pem| NoteVerifyingKey::from_pem(&pem).map_err(|fault| fault.to_string()));
    parsed.map_err(|reason| checker.fault(file, key, format!("{}: {reason}", path.display()), hint)).ok()
}

fn logs(checker: &mut Checker<'_>, raw: &Spanned<Vec<RawLog>>, at: &str) -> Vec<WatchedLog> {
    if raw.value.is_empty() {
        let hint = "for example [{origin: press-line, key: keys/press-line.pub.pem}]";
        checker.fault(raw, &format!("{at}logs"), "nothing to watch".to_owned(), hint);
    }
    let mut logs: Vec<WatchedLog> = Vec::new();
    for (number, log) in raw.value.iter().enumerate() {
        let origin = &log.origin.value;
        if origin.is_empty() || origin.contains(char::is_control) {
            let hint = "the first line of its checkpoints; of our ledgers, the ledger's name";
            checker.fault(&log.origin, &format!("{at}logs[{number}].origin"), format!("`{origin}`"), hint);
        }
        if logs.iter().any(|other| other.key.origin() == origin) {
            let found = format!("`{origin}` stands here twice");
            checker.fault(&log.origin, &format!("{at}logs[{number}].origin"), found, "remove one");
        }
        let key = public_key(checker, &log.key, &format!("{at}logs[{number}].key"));
        logs.extend(key.map(|key| WatchedLog {
            file: checker.folder.join(&log.key.value),
            key: LogKey::new(origin.clone(), key),
        }));
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_evidence::Algorithm;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let key = NoteSigningKey::from_secret(Algorithm::P256, &[3; 32]).unwrap();
        std::fs::write(dir.path().join("node.pub.pem"), key.public().to_pem().unwrap()).unwrap();
        dir
    }

    #[test]
    fn a_whole_file() {
        let dir = folder();
        let text =
            "name: witness.fixit.example/w1\nkey: w.key\ndata: w\nlogs: [{origin: press-line, key: node.pub.pem}]\n";
        let config = WitnessConfig::parse(text, dir.path()).unwrap();
        assert_eq!(config.listen, [Listen::Tcp(LISTEN)]);
        assert_eq!(
            (config.watching.logs[0].key.origin(), config.watching.key),
            ("press-line", dir.path().join("w.key"))
        );
    }

    #[test]
    fn every_mistake_is_named() {
        let dir = folder();
        let head = "key: w.key\ndata: w\n";
        for (text, line, key, found) in [
            ("name: a b\nlogs: [{origin: l, key: node.pub.pem}]\n", 3, "name", "cannot stand in a note"),
            ("name: w\nlogs: []\n", 4, "logs", "nothing to watch"),
            ("name: w\nlogs: [{origin: '', key: node.pub.pem}]\n", 4, "logs[0].origin", "``"),
            ("name: w\nlogs: [{origin: l, key: gone.pem}]\n", 4, "logs[0].key", "gone.pem: No such file"),
            (
                "name: w\nlogs: [{origin: l, key: node.pub.pem}, {origin: l, key: node.pub.pem}]\n",
                4,
                "logs[1].origin",
                "twice",
            ),
            (
                "name: w\nlogs: [{origin: l, key: node.pub.pem}]\nlisten: [tcp:here]\n",
                5,
                "listen[0]",
                "an address and a port",
            ),
            ("name: w\nlogs: [{origin: l, key: node.pub.pem, url: x}]\n", 4, "witness.yaml", "url"),
        ] {
            let faults = WitnessConfig::parse(&format!("{head}{text}"), dir.path()).unwrap_err();
            let fault = &faults[0];
            assert_eq!((fault.line, fault.key.as_str()), (line, key), "{text}: {faults:?}");
            assert!(fault.found.contains(found) && !fault.hint.is_empty(), "{fault:?}");
        }
    }
}
