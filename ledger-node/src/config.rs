//! `node.yaml`: as written, then checked. Nothing is opened or connected here; other files are read only for the
//! public keys of witnesses, by [`NodeConfig::load_key`] and by [`NodeConfig::load_genesis`].
//!
//! Relative paths count from the folder of the file they stand in. Unknown keys are refused. Reference:
//! `docs/operator/node.md`.

mod door;
mod fault;
mod follow;
mod projection;
mod retention;
mod rules;
#[cfg(test)]
mod tests;

pub use fault::ConfigError;
pub use follow::FollowAs;
pub use rules::load_rules;

pub(crate) use fault::{Checker, check_yaml};
pub(crate) use follow::RawClientTls;

use crate::api::Access;
use crate::engine::{EngineConfig, LedgerKey, Limits};
use crate::order::BlockLimits;
use crate::retain::Retention;
use crate::witness::{RawPolicy, RawWatching, Watching, WitnessPolicy};
use fault::to_usize;
use follow::{RawFollow, follow_as};
use projection::RawProjection;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_contracts::{Fault, Genesis};
use tally_door::{DoorLimits, Listen, WrittenDoor, WrittenListen, WrittenTls};
use tally_evidence::{SigningKey, VerifyingKey};
use tally_ledger_client::NodeAddress;
use tally_model::{PartyId, parse_duration};
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
    listen: Option<Spanned<WrittenListen>>,
    listen_plain: Option<Spanned<String>>,
    tls: Option<WrittenTls>,
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
        // It may hold the password of the projection's database.
        let text = zeroize::Zeroizing::new(read(file)?);
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::check(&text, folder, Some(file)).map_err(|faults| ConfigError::Faults { file: file.to_owned(), faults })
    }

    /// Checks a text; relative paths count from `folder`.
    ///
    /// # Errors
    /// All mistakes, or the first one when the text is no YAML or has the wrong shape.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        Self::check(text, folder, None)
    }

    /// `file` is where the text stands.
    fn check(text: &str, folder: &Path, file: Option<&Path>) -> Result<Self, Vec<Fault>> {
        let raw: RawConfig = check_yaml(text, "node.yaml", "docs/operator/node.md lists every key")?;
        let mut checker = Checker { folder, file, faults: Vec::new() };
        let data = raw.data;
        let (retention, segment) = checker.retention(&raw.retention, &folder.join(&data));
        let follow_as = follow_as(raw.follow.as_ref().map(|follow| &follow.value), folder);
        let (key, follow) = checker.key(raw.key, raw.follow.as_ref(), &raw.ledger, raw.witnesses.is_some());
        let (access, door) = checker.access(raw.access);
        let ledger = checker.ledger(&raw.ledger);
        let places = checker.places(&WrittenDoor {
            listen: raw.listen.as_ref(),
            plain: raw.listen_plain.as_ref(),
            tls: raw.tls.as_ref(),
            tls_key: "tls",
            usual: LISTEN,
        });
        let config = Self {
            ledger,
            data: folder.join(&data),
            key,
            follow,
            follow_as,
            genesis: raw.genesis.map(|path| folder.join(path)),
            contracts: raw.contracts.into_iter().map(|path| folder.join(path)).collect(),
            rules: raw.rules.into_iter().map(|path| folder.join(path)).collect(),
            listen: places.listen,
            tls: places.tls,
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

pub(crate) fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_owned(), source })
}

/// Reads a private key's file; refuses one that group or others may read.
pub(crate) fn load_private(file: &Path) -> Result<zeroize::Zeroizing<String>, ConfigError> {
    Ok(tally_keys::read_secret(file)?)
}

impl Checker<'_> {
    fn ledger(&mut self, name: &Spanned<String>) -> String {
        if let Err(fault) = PartyId::try_new(&name.value) {
            self.fault(name, "ledger", format!("`{}`: {fault}", name.value), "for example `press-line`");
        }
        name.value.clone()
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
}
