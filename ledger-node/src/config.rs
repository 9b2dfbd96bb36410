//! `node.yaml`: as written, then checked. Nothing is opened or connected here; other files are read only for the
//! public keys of witnesses, by [`NodeConfig::load_key`] and by [`NodeConfig::load_genesis`].
//!
//! Relative paths count from the folder of the file they stand in. Unknown keys are refused. Reference:
//! `docs/operator/node.md`.

mod door;
mod retention;

pub(crate) use door::{RawPlaces, RawTls};

use crate::api::Access;
use crate::engine::{EngineConfig, LedgerKey, Limits};
use crate::order::BlockLimits;
use crate::retain::Retention;
use crate::witness::{RawPolicy, RawWatching, Watching, WitnessPolicy};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_contracts::{Fault, Genesis};
use tally_door::{DoorLimits, Listen};
use tally_evidence::{RuleRecord, SigningKey, VerifyingKey, cbor};
use tally_ledger_client::{AccessFault, NodeAddress, read_token};
use tally_model::{PartyId, Tls, parse_duration};
use tally_projection::Place;
use tally_tls::ServerTls;

/// Where a node listens when nothing is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7460);

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The ledger's name.
    pub ledger: String,
    /// The data folder; made when missing.
    pub data: PathBuf,
    /// The ledger's private key, PKCS#8 PEM; of a node that follows the public one.
    pub key: PathBuf,
    /// The node that orders, when this one follows.
    pub follow: Option<NodeAddress>,
    /// How it shows that one who it is: certificates for a `tls:` address, and a token.
    pub follow_as: FollowAs,
    /// What an empty ledger begins with.
    pub genesis: Option<PathBuf>,
    /// Contracts put into the genesis besides those it names itself.
    pub contracts: Vec<PathBuf>,
    /// Rules put into the genesis.
    pub rules: Vec<PathBuf>,
    /// Where the API listens.
    pub listen: Vec<Listen>,
    /// Certificates of `tls:` places.
    pub tls: Option<ServerTls>,
    /// Who may do what.
    pub access: Access,
    /// How many may come.
    pub door: DoorLimits,
    /// What the node lets others have.
    pub limits: Limits,
    /// How blocks are cut.
    pub block: BlockLimits,
    /// Where the tables for questions are; `None` when there shall be none.
    pub projection: Option<Place>,
    /// What is kept of old blocks.
    pub retention: Retention,
    /// Bytes of a segment of the log.
    pub segment: Option<u64>,
    /// Who must have seen a checkpoint before a receipt is final.
    pub witnesses: Option<WitnessPolicy>,
    /// Other ledgers whose checkpoints this node cosigns.
    pub witness_for: Option<Watching>,
}

/// Files with which a node that follows shows who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowAs {
    /// Whom to trust, and our certificate.
    pub tls: Tls,
    /// A token, mode 0600.
    pub token: Option<PathBuf>,
}

impl FollowAs {
    /// Reads the token; certificates are read at every connect.
    ///
    /// # Errors
    /// [`AccessFault`].
    pub fn access(&self) -> Result<tally_ledger_client::Access, AccessFault> {
        let token = self.token.as_deref().map(read_token).transpose()?;
        Ok(tally_ledger_client::Access { tls: self.tls.clone(), token })
    }
}

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has mistakes; all of them are here.
    #[error("{}", lines(file, faults))]
    Faults {
        /// Which file.
        file: PathBuf,
        /// What is wrong, and where.
        faults: Vec<Fault>,
    },
    /// The private key cannot be read, or others may read it, too.
    #[error(transparent)]
    PrivateKey(#[from] tally_keys::KeyError),
    /// The key file holds no key.
    #[error("{}: {source}", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: tally_evidence::KeyFault,
    },
    /// A rule file holds no rules.
    #[error(
        "{}: {reason}; a rule file holds the canonical bytes of a rule, a CBOR array of such, or one in hexadecimal a line",
        file.display()
    )]
    Rule {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

fn lines(file: &Path, faults: &[Fault]) -> String {
    let lines = faults.iter().map(|fault| format!("{}:{fault}", file.display()));
    lines.collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    ledger: Spanned<String>,
    data: PathBuf,
    key: Option<PathBuf>,
    follow: Option<Spanned<RawFollow>>,
    genesis: Option<PathBuf>,
    #[serde(default)]
    contracts: Vec<PathBuf>,
    #[serde(default)]
    rules: Vec<PathBuf>,
    listen: Option<Spanned<Vec<Spanned<String>>>>,
    listen_plain: Option<Spanned<String>>,
    tls: Option<RawTls>,
    #[serde(default)]
    access: door::RawAccess,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    block: RawBlock,
    witnesses: Option<RawPolicy>,
    witness_for: Option<RawWatching>,
    projection: Option<Spanned<RawProjection>>,
    #[serde(default)]
    retention: retention::RawRetention,
}

/// Whom this node follows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFollow {
    from: Spanned<String>,
    ledger_key: PathBuf,
    tls: Option<RawClientTls>,
    token: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClientTls {
    ca: Option<PathBuf>,
    pin: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl RawClientTls {
    /// Its files, from the configuration's folder.
    pub(crate) fn files(&self, folder: &Path) -> Tls {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let (certificate, key) = (file(&self.certificate), file(&self.key));
        Tls { ca: file(&self.ca), pin: self.pin.clone(), certificate, key }
    }
}

/// A word, or where PostgreSQL is.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawProjection {
    Flag(bool),
    Word(String),
    Database(BTreeMap<String, String>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    body_bytes_max: Option<Spanned<u64>>,
    in_flight_max: Option<Spanned<u64>>,
    per_signer_per_second: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawBlock {
    interval: Option<Spanned<String>>,
    entries_max: Option<Spanned<u64>>,
}

impl NodeConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError::Read`], [`ConfigError::Faults`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read(file)?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::parse(&text, folder).map_err(|faults| ConfigError::Faults { file: file.to_owned(), faults })
    }

    /// Checks a text; relative paths count from `folder`.
    ///
    /// # Errors
    /// All mistakes, or the first one when the text is no YAML or has the wrong shape.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        let raw: RawConfig = check_yaml(text, "node.yaml", "docs/operator/node.md lists every key")?;
        let mut checker = Checker { folder, faults: Vec::new() };
        let data = raw.data;
        let (retention, segment) = checker.retention(&raw.retention, &folder.join(&data));
        let follow_as = follow_as(raw.follow.as_ref().map(|follow| &follow.value), folder);
        let (key, follow) = checker.key(raw.key, raw.follow.as_ref(), &raw.ledger, raw.witnesses.is_some());
        let (access, door) = checker.access(raw.access);
        let places = RawPlaces {
            listen: raw.listen,
            plain: raw.listen_plain.as_ref(),
            has_tls: raw.tls.is_some(),
            usual: LISTEN,
        };
        let config = Self {
            ledger: checker.ledger(&raw.ledger),
            data: folder.join(&data),
            key,
            follow,
            follow_as,
            genesis: raw.genesis.map(|path| folder.join(path)),
            contracts: raw.contracts.into_iter().map(|path| folder.join(path)).collect(),
            rules: raw.rules.into_iter().map(|path| folder.join(path)).collect(),
            listen: checker.listen(places),
            tls: checker.tls(raw.tls),
            access,
            door,
            limits: checker.limits(&raw.limits),
            block: checker.block(&raw.block),
            projection: checker.projection(raw.projection, &folder.join(&data)),
            retention,
            segment,
            witnesses: raw.witnesses.map(|raw| raw.check(&mut checker)),
            witness_for: raw
                .witness_for
                .map(|raw| raw.check(&mut checker, "witness_for.", &folder.join(&data).join("witness_for"))),
        };
        if checker.faults.is_empty() { Ok(config) } else { Err(checker.faults) }
    }

    /// Reads the ledger's key; refuses a file that group or others may read.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_key(&self) -> Result<SigningKey, ConfigError> {
        let pem = load_private(&self.key)?;
        SigningKey::from_pem(&pem).map_err(|source| ConfigError::Key { file: self.key.clone(), source })
    }

    /// Reads the public half of the ledger's key: all that a node which follows has.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_public_key(&self) -> Result<VerifyingKey, ConfigError> {
        Ok(self.load_ledger_key()?.public().clone())
    }

    fn load_ledger_key(&self) -> Result<LedgerKey, ConfigError> {
        if self.follow.is_none() {
            return Ok(self.load_key()?.into());
        }
        let key = VerifyingKey::from_pem(&read(&self.key)?);
        Ok(key.map_err(|source| ConfigError::Key { file: self.key.clone(), source })?.into())
    }

    /// Reads the genesis with the contracts and rules named beside it; `None` when none is named.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_genesis(&self) -> Result<Option<Genesis>, ConfigError> {
        let Some(file) = &self.genesis else { return Ok(None) };
        let folder = file.parent().unwrap_or(Path::new("."));
        let read_file = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let genesis = Genesis::from_yaml(&read(file)?, &read_file);
        let mut genesis = genesis.map_err(|faults| ConfigError::Faults { file: file.clone(), faults })?;
        for contract in &self.contracts {
            genesis.contracts.push(read(contract)?);
        }
        for rules in &self.rules {
            genesis.rules.extend(load_rules(rules)?);
        }
        Ok(Some(genesis))
    }

    /// How to open the ledger: the key (of a node that follows its public half) is read, the genesis is given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn engine(&self, genesis: Option<Genesis>) -> Result<EngineConfig, ConfigError> {
        let mut engine = EngineConfig::new(&self.ledger, &self.data, self.load_ledger_key()?);
        engine.genesis = genesis;
        engine.block = self.block;
        engine.limits = self.limits.clone();
        engine.retention = self.retention.clone();
        engine.segment_bytes = self.segment;
        Ok(engine)
    }
}

fn follow_as(raw: Option<&RawFollow>, folder: &Path) -> FollowAs {
    let tls = raw.and_then(|raw| raw.tls.as_ref()).map(|tls| tls.files(folder));
    let token = raw.and_then(|raw| raw.token.as_ref()).map(|token| folder.join(token));
    FollowAs { tls: tls.unwrap_or_default(), token }
}

pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })
}

/// Reads a private key's file; refuses one that group or others may read.
pub(crate) fn load_private(file: &Path) -> Result<zeroize::Zeroizing<String>, ConfigError> {
    Ok(tally_keys::read_secret(file)?)
}

/// Reads YAML of one shape; `file` and `hint` say where the shape is written down.
pub(crate) fn check_yaml<T: serde::de::DeserializeOwned>(text: &str, file: &str, hint: &str) -> Result<T, Vec<Fault>> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![shape(&error, file, hint)])
}

/// Reads the rules of a file.
///
/// # Errors
/// [`ConfigError::Read`], [`ConfigError::Rule`].
pub fn load_rules(file: &Path) -> Result<Vec<RuleRecord>, ConfigError> {
    let bytes = std::fs::read(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    let record = |bytes: Vec<u8>| RuleRecord::from_cbor(cbor::bytes(bytes)).map_err(|fault| fault.to_string());
    let rules = match cbor::decode(&bytes) {
        Ok(cbor::Cbor::Array(items)) => {
            items.into_iter().map(|item| RuleRecord::from_cbor(item).map_err(|fault| fault.to_string())).collect()
        }
        Ok(_) => record(bytes).map(|rule| vec![rule]),
        Err(_) => hex_lines(&bytes).and_then(|lines| lines.into_iter().map(record).collect()),
    };
    rules.map_err(|reason| ConfigError::Rule { file: file.to_owned(), reason })
}

fn hex_lines(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is neither CBOR nor text".to_owned())?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| hex::decode(line).map_err(|error| format!("`{line:.20}…` is not hexadecimal: {error}"))).collect()
}

fn shape(error: &serde_saphyr::Error, file: &str, hint: &str) -> Fault {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    Fault { line, column, key: file.to_owned(), found: error.without_snippet().to_string(), hint: hint.to_owned() }
}

/// Collects every fault.
pub(crate) struct Checker<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) faults: Vec<Fault>,
}

impl Checker<'_> {
    pub(crate) fn fault<T>(&mut self, at: &Spanned<T>, key: &str, found: String, hint: &str) {
        let (line, column) = (at.referenced.line(), at.referenced.column());
        self.faults.push(Fault { line, column, key: key.to_owned(), found, hint: hint.to_owned() });
    }

    fn ledger(&mut self, name: &Spanned<String>) -> String {
        if let Err(fault) = PartyId::try_new(&name.value) {
            self.fault(name, "ledger", format!("`{}`: {fault}", name.value), "for example `press-line`");
        }
        name.value.clone()
    }

    /// The ledger's key: its own, or the public one beside the address of the node that orders.
    fn key(
        &mut self,
        key: Option<PathBuf>,
        follow: Option<&Spanned<RawFollow>>,
        ledger: &Spanned<String>,
        has_witnesses: bool,
    ) -> (PathBuf, Option<NodeAddress>) {
        const HINT: &str =
            "a node that orders has `key`; one that follows has `follow: {from: tcp:HOST:PORT, ledger_key: FILE}`";
        let Some(follow) = follow else {
            if key.is_none() {
                self.fault(ledger, "key", "neither `key` nor `follow`".to_owned(), HINT);
            }
            let key = key.unwrap_or_default();
            let why = "receipts are signed anew whenever they are asked for, thousands a second, and come out the same";
            self.in_a_file(ledger, "key", &key, why);
            return (self.folder.join(key), None);
        };
        if key.is_some() {
            self.fault(follow, "follow", "`key` beside it".to_owned(), HINT);
        }
        if has_witnesses {
            let hint = "only the node that orders has notes for witnesses to sign; remove `witnesses`";
            self.fault(follow, "follow", "`witnesses` beside it".to_owned(), hint);
        }
        let from = &follow.value.from;
        let address = from.value.parse().map_err(|fault| {
            self.fault(from, "follow.from", format!("`{}`: {fault}", from.value), "for example `tls:node.plant:7460`");
        });
        (self.folder.join(&follow.value.ledger_key), address.ok())
    }

    /// A key in a token is refused: `why` it must lie here.
    pub(crate) fn in_a_file(&mut self, near: &Spanned<String>, at: &str, key: &Path, why: &str) {
        if key.to_str().is_some_and(|key| key.starts_with(tally_keys::SCHEME)) {
            let found = format!("a key in a PKCS#11 token; this one must lie in a file: {why}");
            self.fault(near, at, found, "write the path of a key file (mode 0600); agents and people may have tokens");
        }
    }

    fn limits(&mut self, raw: &RawLimits) -> Limits {
        let usual = Limits::default();
        let bytes = self.number(&raw.body_bytes_max, "limits.body_bytes_max", 1 << 10..=4 << 20);
        let in_flight = self.number(&raw.in_flight_max, "limits.in_flight_max", 1..=1 << 16);
        let rate = self.number(&raw.per_signer_per_second, "limits.per_signer_per_second", 1..=1_000_000);
        Limits {
            body_bytes_max: bytes.map_or(usual.body_bytes_max, to_usize),
            in_flight_max: in_flight.map_or(usual.in_flight_max, to_usize),
            per_signer_per_second: rate
                .map_or(usual.per_signer_per_second, |rate| u32::try_from(rate).unwrap_or(u32::MAX)),
        }
    }

    fn block(&mut self, raw: &RawBlock) -> BlockLimits {
        let usual = BlockLimits::default();
        let entries = self.number(&raw.entries_max, "block.entries_max", 1..=20_000);
        let interval = raw.interval.as_ref().and_then(|text| match parse_duration(&text.value) {
            Ok(interval) if interval <= Duration::from_secs(1) => Some(interval),
            Ok(_) => {
                let found = format!("`{}` is longer than 1s", text.value);
                self.fault(text, "block.interval", found, "it is added to every answer of a busy ledger; 5ms is usual");
                None
            }
            Err(fault) => {
                self.fault(text, "block.interval", fault.to_string(), "5ms is usual");
                None
            }
        });
        BlockLimits {
            interval: interval.unwrap_or(usual.interval),
            entries_max: entries.map_or(usual.entries_max, to_usize),
        }
    }

    fn projection(&mut self, raw: Option<Spanned<RawProjection>>, data: &Path) -> Option<Place> {
        const HINT: &str = "write `sqlite`, `off`, or {postgres: \"host=/run/postgresql dbname=tally\"}";
        let sqlite = Some(Place::Sqlite(data.join(crate::projection::FILE)));
        let Some(raw) = raw else { return sqlite };
        match &raw.value {
            RawProjection::Word(word) if word == "sqlite" => sqlite,
            // YAML 1.1 takes `off` for a boolean, 1.2 for a word.
            RawProjection::Flag(false) => None,
            RawProjection::Word(word) if word == "off" => None,
            RawProjection::Flag(true) => sqlite,
            RawProjection::Word(word) => {
                self.fault(&raw, "projection", format!("`{word}`"), HINT);
                None
            }
            RawProjection::Database(map) => match map.iter().next() {
                Some((name, url)) if name == "postgres" && map.len() == 1 => {
                    let place = Place::Postgres(url.clone());
                    if let Err(fault) = place.check() {
                        self.fault(&raw, "projection.postgres", fault.to_string(), HINT);
                    }
                    Some(place)
                }
                _ => {
                    let keys = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    self.fault(&raw, "projection", format!("keys `{keys}`"), HINT);
                    None
                }
            },
        }
    }

    pub(crate) fn number(
        &mut self,
        raw: &Option<Spanned<u64>>,
        key: &str,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = raw.as_ref()?;
        if !allowed.contains(&number.value) {
            let hint = format!("allowed are {} to {}", allowed.start(), allowed.end());
            self.fault(number, key, format!("{} is out of range", number.value), &hint);
        }
        Some(number.value)
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = "\
ledger: press-line
data: /var/lib/tallystick/node
key: keys/node.key
genesis: genesis.yaml
contracts: [maintenance-order.yaml]
listen: [\"unix:/run/tallystick/node.sock\", \"tcp:[::1]:7460\"]
limits: {body_bytes_max: 65536, in_flight_max: 100, per_signer_per_second: 50}
block: {interval: 2ms, entries_max: 500}
";

    fn parse(text: &str) -> Result<NodeConfig, Vec<Fault>> {
        NodeConfig::parse(text, Path::new("/etc/tallystick"))
    }

    #[test]
    fn a_whole_file() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.key, Path::new("/etc/tallystick/keys/node.key"));
        assert_eq!(config.data, Path::new("/var/lib/tallystick/node"));
        let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["unix:/run/tallystick/node.sock", "tcp:[::1]:7460"]);
        assert_eq!(config.limits, Limits { body_bytes_max: 65_536, in_flight_max: 100, per_signer_per_second: 50 });
        assert_eq!(config.block, BlockLimits { interval: Duration::from_millis(2), entries_max: 500 });
        let short = parse("{ledger: l, data: d, key: k}").unwrap();
        assert_eq!(short.listen[0].to_string(), "tcp:127.0.0.1:7460");
        assert_eq!((short.limits, short.block), (Limits::default(), BlockLimits::default()));
    }

    #[test]
    fn all_faults_at_once_with_their_places() {
        let bad = GOOD
            .replace("press-line", "press line")
            .replace("unix:/run/tallystick/node.sock", "http://here")
            .replace("[::1]:7460", "localhost:7460")
            .replace("65536", "5")
            .replace("2ms", "2 weeks");
        let faults = parse(&bad).unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.key.as_str())).collect();
        let expected =
            [(1, "ledger"), (6, "listen[0]"), (6, "listen[1]"), (7, "limits.body_bytes_max"), (8, "block.interval")];
        assert_eq!(places, expected);
    }

    #[test]
    fn what_others_can_reach_needs_tls_or_somebody_who_says_that_it_does_not() {
        let with = |listen: &str, more: &str| {
            parse(
                &GOOD
                    .replace("[\"unix:/run/tallystick/node.sock\", \"tcp:[::1]:7460\"]", &format!("[{listen}]"))
                    .replace("block:", &format!("{more}\nblock:")),
            )
        };
        let tls = "tls: {certificate: n.pem, key: n.key, client_ca: ca.pem}";
        for (listen, more, found) in [
            ("\"tcp:10.0.0.7:7460\"", "", "without TLS"),
            ("\"tcp:0.0.0.0:7460\"", tls, "without TLS"),
            ("\"tcp:[::]:7460\"", "", "without TLS"),
            ("\"tcp:[::ffff:10.0.0.7]:7460\"", "", "without TLS"),
            ("\"tls:10.0.0.7:7460\"", "", "without certificates"),
            ("\"tls:node.plant:7460\"", tls, "not a name"),
            ("\"tcp:10.0.0.7:7460\"", "listen_plain: yes please", "yes please"),
            ("\"tls:10.0.0.7:1\"", "tls: {certificate: n.pem, key: n.key, clients: required}", "no authority"),
            ("\"tls:10.0.0.7:1\"", "tls: {certificate: n.pem, key: n.key, clients: maybe}", "maybe"),
            ("\"tcp:127.0.0.1:1\"", "access: {local: ajar}", "ajar"),
            ("\"tcp:127.0.0.1:1\"", "access: {agent: [a], auditor: [a]}", "is agent already"),
            ("\"tcp:127.0.0.1:1\"", "access: {connections_per_peer: 0}", "out of range"),
        ] {
            let faults = with(listen, more).unwrap_err();
            assert!(faults.iter().any(|fault| fault.found.contains(found)), "{listen} {more}: {faults:?}");
        }
        let open = with("\"tcp:10.0.0.7:7460\"", "listen_plain: allowed").unwrap();
        assert!(open.listen[0].is_open() && open.access.is_local_open);
        let secure = with("\"tls:10.0.0.7:7460\"", tls).unwrap();
        assert_eq!(secure.listen[0].to_string(), "tls:10.0.0.7:7460");
        assert_eq!(secure.tls.unwrap().client_ca, Some("/etc/tallystick/ca.pem".into()));
        let access =
            with("\"tcp:127.0.0.1:1\"", "access: {local: closed, tokens: t.json, operator: [anna]}").unwrap().access;
        assert_eq!((access.is_local_open, access.names["anna"].word()), (false, "operator"));
    }

    #[test]
    fn where_the_projection_is() {
        let of = |text: &str| parse(&format!("{GOOD}projection: {text}\n"));
        let usual = Some(Place::Sqlite("/var/lib/tallystick/node/projection.sqlite".into()));
        assert_eq!(parse(GOOD).unwrap().projection, usual);
        for (text, place) in [
            ("sqlite", usual.clone()),
            ("off", None),
            ("\"off\"", None),
            (
                "{postgres: \"host=/run/postgresql dbname=tally\"}",
                Some(Place::Postgres("host=/run/postgresql dbname=tally".into())),
            ),
        ] {
            assert_eq!(of(text).unwrap().projection, place, "{text}");
        }
        for (text, word) in [
            ("mysql", "mysql"),
            ("{postgres: \"nonsense\"}", "no address"),
            ("{postgres: \"postgres://u:s3cret@h/d?sslmode=require\"}", "TLS"),
            ("{sqlite: a, postgres: b}", "postgres, sqlite"),
        ] {
            let faults = of(text).unwrap_err();
            assert!(faults[0].line == 9 && faults[0].found.contains(word), "{text}: {}", faults[0]);
            assert!(!faults[0].to_string().contains("s3cret"));
        }
        assert!(of("[1]").is_err());
    }

    #[test]
    fn unknown_and_missing_keys_are_refused_with_their_line() {
        let unknown = parse(&format!("{GOOD}colour: red\n")).unwrap_err();
        assert_eq!(unknown[0].line, 9);
        assert!(unknown[0].found.contains("colour"), "{}", unknown[0]);
        assert!(parse("{ledger: l, data: d}").unwrap_err()[0].found.contains("key"));
        assert!(parse("{ledger: l, data: d, key: k, listen: []}").is_err());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig::parse("{ledger: l, data: d, key: node.key}", dir.path()).unwrap();
        assert!(matches!(config.load_key(), Err(ConfigError::PrivateKey(_))));
        let key = SigningKey::from_secret(&[5; 32]).unwrap();
        std::fs::write(&config.key, key.to_pem().unwrap().as_bytes()).unwrap();
        for (mode, is_fine) in [(0o640, false), (0o604, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&config.key, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(config.load_key().is_ok(), is_fine, "{mode:o}");
        }
        std::fs::set_permissions(&config.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&config.key, "no key").unwrap();
        assert!(matches!(config.load_key(), Err(ConfigError::Key { .. })));
    }

    proptest! {
        #[test]
        fn random_texts_never_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn random_rule_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("rules"), bytes).unwrap();
            let _ = load_rules(&dir.path().join("rules"));
        }
    }
}
