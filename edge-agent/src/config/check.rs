//! From the file as written to a configuration that can run.

mod broker;
mod node;

use super::{
    ANCHORS_EVERY, AgentConfig, BrokerConfig, ConfigError, Fault, Limits, PublishMode, SparkplugConfig, written,
};
use crate::gate::{GateSetting, PastAge};
use crate::seal::BatchLimits;
use serde_saphyr::{Location, Spanned};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_evidence::{BATCH_TRIGGERS_MAX, SealingKey, VerifyingKey};
use tally_keys::KeySource;
use tally_model::{PartyId, Tls};
use zeroize::Zeroizing;

/// Below this an outbox holds a handful of triggers and a vault a few minutes: a slip, not a wish.
const BYTES_MIN: u64 = 1 << 20;
/// A permit lives a day at most.
const PROOF_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// More often than every second, and a plant fills the ledger with anchors; less often than once a day, and nobody can ask about
/// yesterday.
const ANCHORS_EVERY_MIN: Duration = Duration::from_secs(1);
const ANCHORS_EVERY_MAX: Duration = Duration::from_secs(86_400);
/// How long readings are gathered for one seal, when nobody says otherwise, and at most: an alarm waits as long.
const BATCH_WITHIN: Duration = Duration::from_millis(50);
const BATCH_WITHIN_MIN: Duration = Duration::from_millis(1);
const BATCH_WITHIN_MAX: Duration = Duration::from_secs(10);

struct Checker<'a> {
    file: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<Fault>,
}

pub(super) fn check(
    written: written::Written,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<AgentConfig, ConfigError> {
    let mut checker = Checker { file, environment, faults: Vec::new() };
    let name = checker.keep(&written.name, PartyId::try_new(&written.name.value));
    let ledger = checker.keep(&written.ledger, PartyId::try_new(&written.ledger.value));
    let key = checker.signing_key(&written.key);
    let node = checker.keep(&written.node, written.node.value.parse());
    let access = checker.access(&written, node.as_ref());
    let ledger_key = written.ledger_key.as_ref().map(|key| checker.public_key(key));
    let places = checker.listen(&written);
    let broker = written.broker.map(|broker| checker.broker(broker, &written.name.value));
    let limits = checker.limits(&written.limits);
    let anchors = checker.anchors(&written.anchors);
    let gate = checker.gate(&written.gate);
    let batch = written.batch.as_ref().map(|batch| checker.batch(batch));
    let pki = written.pki.map_or_else(|| checker.path("pki"), |pki| checker.path(&pki.value));
    let (mapping, data) = (checker.path(&written.mapping.value), checker.path(&written.data.value));
    if let (Some(name), Some(ledger), Some(key), Some(node), Some(places), true) =
        (name, ledger, key, node, places, checker.faults.is_empty())
    {
        let (ledger, ledger_key, broker) = (ledger.to_string(), ledger_key.flatten(), broker.flatten());
        return Ok(AgentConfig {
            name,
            ledger,
            mapping,
            data,
            key,
            pki,
            node,
            access,
            ledger_key,
            broker,
            listen: places.listen,
            listen_tls: places.tls,
            anchors,
            gate,
            batch,
            limits,
        });
    }
    Err(ConfigError { file: file.to_owned(), faults: checker.faults })
}

impl Checker<'_> {
    fn fault(&mut self, place: Location, text: impl Into<String>) {
        self.faults.push(Fault { line: place.line(), column: place.column(), text: text.into() });
    }

    fn keep<T, E: Display>(&mut self, written: &Spanned<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|fault| self.fault(written.referenced, fault.to_string())).ok()
    }

    fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new(".")).join(written)
    }

    fn read(&mut self, written: &Spanned<String>) -> Option<Zeroizing<String>> {
        let path = self.path(&written.value);
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        self.keep(written, text.map_err(|fault| format!("{} cannot be read: {fault}", path.display())))
    }

    /// The agent's key. A token need not be in: the agent reads and keeps until it is.
    fn signing_key(&mut self, written: &Spanned<String>) -> Option<SealingKey> {
        let folder = self.file.parent().unwrap_or_else(|| Path::new("."));
        let source = KeySource::parse(&written.value, folder);
        let source = self.keep(written, source)?;
        self.keep(written, source.open_later())
    }

    fn public_key(&mut self, written: &Spanned<String>) -> Option<VerifyingKey> {
        let pem = self.read(written)?;
        let shown = self.path(&written.value);
        self.keep(written, VerifyingKey::from_pem(&pem).map_err(|fault| format!("{}: {fault}", shown.display())))
    }

    /// Paths begin beside this file.
    fn tls_files(
        &self,
        ca: &Option<Spanned<String>>,
        pin: &Option<Spanned<String>>,
        certificate: &Option<Spanned<String>>,
        key: &Option<Spanned<String>>,
    ) -> Tls {
        let file = |written: &Option<Spanned<String>>| written.as_ref().map(|file| self.path(&file.value));
        let pin = pin.as_ref().map(|pin| pin.value.clone());
        Tls { ca: file(ca), pin, certificate: file(certificate), key: file(key) }
    }

    /// `off` is the only way to have none: a slip must not end them.
    fn anchors(&mut self, written: &written::Anchors) -> Option<Duration> {
        let Some(every) = &written.every else { return Some(ANCHORS_EVERY) };
        if every.value.trim() == "off" {
            return None;
        }
        let read = tally_model::parse_duration(&every.value).map_err(|fault| fault.to_string());
        let fits = read.and_then(|read| {
            let fits = (ANCHORS_EVERY_MIN..=ANCHORS_EVERY_MAX).contains(&read);
            fits.then_some(read)
                .ok_or_else(|| format!("`{}` is not from 1s to 1d; `off` seals no anchors", every.value))
        });
        self.keep(every, fits)
    }

    /// A slip here must not open the gate.
    fn gate(&mut self, written: &written::Gate) -> GateSetting {
        let default = GateSetting::default();
        let age = written.proof_age.as_ref().and_then(|age| {
            let read = tally_model::parse_duration(&age.value).map_err(|fault| fault.to_string());
            let fits = |read: Duration| (!read.is_zero() && read <= PROOF_AGE_MAX).then_some(read);
            let read = read.and_then(|read| fits(read).ok_or_else(|| format!("`{}` is not from 1us to 1d", age.value)));
            self.keep(age, read)
        });
        let past_age = written.past_age.as_ref().and_then(|word| {
            let read = match word.value.as_str() {
                "refuse" => Ok(PastAge::Refuse),
                "allow-read" => Ok(PastAge::AllowRead),
                "allow" => Ok(PastAge::Allow),
                other => Err(format!("`{other}` is none of `refuse`, `allow-read`, `allow`")),
            };
            self.keep(word, read)
        });
        let (proof_age, past_age) = (age.unwrap_or(default.proof_age), past_age.unwrap_or(default.past_age));
        GateSetting { proof_age, past_age }
    }

    fn batch(&mut self, written: &written::Batch) -> BatchLimits {
        let triggers = written.triggers.as_ref().map_or(BATCH_TRIGGERS_MAX, |triggers| triggers.value);
        if let (Some(place), false) = (&written.triggers, (2..=BATCH_TRIGGERS_MAX).contains(&triggers)) {
            let text = format!(
                "{triggers} triggers under one seal; allowed are 2 to {BATCH_TRIGGERS_MAX}. Without `batch` each has its own"
            );
            self.fault(place.referenced, text);
        }
        let within = written.within.as_ref().and_then(|within| {
            let read = tally_model::parse_duration(&within.value).map_err(|fault| fault.to_string());
            let fits = read.and_then(|read| {
                let fits = (BATCH_WITHIN_MIN..=BATCH_WITHIN_MAX).contains(&read);
                fits.then_some(read).ok_or_else(|| format!("`{}` is not from 1ms to 10s", within.value))
            });
            self.keep(within, fits)
        });
        BatchLimits { triggers, within: within.unwrap_or(BATCH_WITHIN) }
    }

    fn limits(&mut self, written: &written::Limits) -> Limits {
        let default = Limits::default();
        let vault_days = written.vault_days.as_ref().map_or(default.vault_days, |days| days.value);
        if let (0, Some(days)) = (vault_days, &written.vault_days) {
            self.fault(days.referenced, "0 days keep no evidence; the least is 1");
        }
        let mut size = |written: &Option<Spanned<String>>, default| match written {
            Some(written) => self.keep(written, parse_bytes(&written.value)).unwrap_or(default),
            None => default,
        };
        Limits {
            outbox_bytes_max: size(&written.outbox_bytes_max, default.outbox_bytes_max),
            vault_days,
            vault_bytes_max: size(&written.vault_bytes_max, default.vault_bytes_max),
        }
    }
}

/// `64MiB`, `10GiB`, `1GB`, `5000000`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("", 1),
    ];
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text[digits.len()..].trim();
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    match bytes {
        Some(bytes) if bytes >= BYTES_MIN => Ok(bytes),
        Some(bytes) => Err(format!("{bytes} bytes are too few; the least is 1MiB")),
        None => Err(format!("`{text}` is not a size; write for example `64MiB` or `10GiB`")),
    }
}
