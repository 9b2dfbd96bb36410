//! `witnesses:` in node.yaml: whom to ask, and how many must have signed before a receipt is final.

use super::config::{key_name, public_key};
use crate::config::Checker;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tally_evidence::Cosigner;
use tally_model::parse_duration;

/// How long a submission waits for the witnesses when nothing is said.
const WAIT: Duration = Duration::from_secs(5);
/// Longest: a submission has 10 s in all, and clients wait no longer.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Most witnesses asked: C2SP asks readers for 16 signatures, and one is the ledger's.
const WITNESSES_MAX: usize = 15;

/// Who must have seen a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPolicy {
    /// Cosignatures that make a receipt final; 0: it is final at once, and cosignatures are only collected.
    pub need: usize,
    /// How long a submission waits for them before it is answered 202.
    pub wait: Duration,
    /// Who is asked.
    pub of: Vec<AskedWitness>,
}

/// A witness that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedWitness {
    /// Its name and key.
    pub cosigner: Cosigner,
    /// Where it answers.
    pub url: WitnessUrl,
}

/// Where a witness answers: `http://HOST:PORT/PREFIX` or `unix:/path/to/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WitnessUrl {
    /// Over TCP, without TLS: what is sent is public and what comes back is signed.
    Http {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Submission prefix, without a slash at its end.
        prefix: String,
    },
    /// Over a local socket.
    Unix(PathBuf),
}

impl WitnessUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("the path of a socket is absolute")
            };
        }
        let url: http::Uri = text.parse().map_err(|_| "it is no URL")?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("the node speaks no TLS; put a local TLS proxy before it and name that"),
            _ => return Err("it begins with neither `http://` nor `unix:`"),
        }
        if url.query().is_some() {
            return Err("a prefix has no query");
        }
        let host = url.host().filter(|host| !host.is_empty()).ok_or("the host is missing")?;
        Ok(Self::Http {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_u16().unwrap_or(80),
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// What stands before the paths of the API.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::Http { prefix, .. } => prefix,
            Self::Unix(_) => "",
        }
    }
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port, prefix } if host.contains(':') => write!(f, "http://[{host}]:{port}{prefix}"),
            Self::Http { host, port, prefix } => write!(f, "http://{host}:{port}{prefix}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    need: Spanned<u64>,
    wait: Option<Spanned<String>>,
    of: Spanned<Vec<RawWitness>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWitness {
    name: Spanned<String>,
    key: Spanned<PathBuf>,
    url: Spanned<String>,
}

impl RawPolicy {
    /// Checks it; every mistake goes to the checker.
    pub(crate) fn check(self, checker: &mut Checker<'_>) -> WitnessPolicy {
        let listed = self.of.value.len();
        if listed == 0 || listed > WITNESSES_MAX {
            let hint = format!("1 to {WITNESSES_MAX} of {{name, key, url}}; without witnesses leave `witnesses` out");
            checker.fault(&self.of, "witnesses.of", format!("{listed} witnesses"), &hint);
        }
        if self.need.value > listed as u64 {
            let hint = format!("0 to {listed}; 0 only collects signatures and waits for none");
            checker.fault(&self.need, "witnesses.need", format!("{} of {listed}", self.need.value), &hint);
        }
        let mut of: Vec<AskedWitness> = Vec::new();
        for (number, raw) in self.of.value.iter().enumerate() {
            let Some(witness) = raw.check(checker, number) else { continue };
            if of.iter().any(|other| other.cosigner.key() == witness.cosigner.key()) {
                let hint = "each key counts once; name another witness";
                checker.fault(
                    &raw.key,
                    &format!("witnesses.of[{number}].key"),
                    "the key stands here twice".to_owned(),
                    hint,
                );
            }
            of.push(witness);
        }
        WitnessPolicy {
            need: usize::try_from(self.need.value).unwrap_or(usize::MAX),
            wait: self.wait.map_or(WAIT, |wait| check_wait(&wait, checker)),
            of,
        }
    }
}

impl RawWitness {
    fn check(&self, checker: &mut Checker<'_>, number: usize) -> Option<AskedWitness> {
        let at = |field: &str| format!("witnesses.of[{number}].{field}");
        let name = key_name(checker, &self.name, &at("name"));
        let key = public_key(checker, &self.key, &at("key"));
        let url = WitnessUrl::parse(&self.url.value).map_err(|reason| {
            let hint = "for example `http://10.0.0.7:7470`";
            checker.fault(&self.url, &at("url"), format!("`{}`: {reason}", self.url.value), hint);
        });
        Some(AskedWitness { cosigner: Cosigner::new(name, key?).ok()?, url: url.ok()? })
    }
}

fn check_wait(wait: &Spanned<String>, checker: &mut Checker<'_>) -> Duration {
    let hint = "up to 8s; a submission has 10s in all";
    match parse_duration(&wait.value) {
        Ok(time) if time <= WAIT_MAX => return time,
        Ok(_) => checker.fault(wait, "witnesses.wait", format!("`{}` is longer than 8s", wait.value), hint),
        Err(fault) => checker.fault(wait, "witnesses.wait", fault.to_string(), hint),
    }
    WAIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeConfig;
    use proptest::prelude::*;
    use tally_evidence::{Algorithm, NoteSigningKey};

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, algorithm) in [("w1", Algorithm::Ed25519), ("w2", Algorithm::P256)] {
            let key = NoteSigningKey::from_secret(algorithm, &[3; 32]).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), key.public().to_pem().unwrap()).unwrap();
        }
        dir
    }

    const HEAD: &str = "ledger: press-line\ndata: d\nkey: k\n";

    #[test]
    fn a_whole_policy() {
        let text = "witnesses:\n  need: 1\n  wait: 2s\n  of:\n    - {name: a/w1, key: w1.pem, url: 'http://10.0.0.7:7470/w/'}\n    - {name: b/w2, key: w2.pem, url: 'unix:/run/w2.sock'}\n";
        let policy = NodeConfig::parse(&format!("{HEAD}{text}"), folder().path()).unwrap().witnesses.unwrap();
        assert_eq!((policy.need, policy.wait), (1, Duration::from_secs(2)));
        let urls: Vec<_> = policy.of.iter().map(|witness| witness.url.to_string()).collect();
        assert_eq!(urls, ["http://10.0.0.7:7470/w", "unix:/run/w2.sock"]);
    }

    #[test]
    fn every_mistake_is_named() {
        let dir = folder();
        let one = "{name: a, key: w1.pem, url: 'http://h:1'}";
        for (policy, key, found) in [
            (format!("{{need: 2, of: [{one}]}}"), "witnesses.need", "2 of 1"),
            ("{need: 0, of: []}".to_owned(), "witnesses.of", "0 witnesses"),
            (format!("{{need: 1, wait: 9s, of: [{one}]}}"), "witnesses.wait", "longer than 8s"),
            (format!("{{need: 1, wait: soon, of: [{one}]}}"), "witnesses.wait", "soon"),
            (format!("{{need: 1, of: [{one}, {one}]}}"), "witnesses.of[1].key", "twice"),
            ("{need: 1, of: [{name: a b, key: w1.pem, url: 'http://h:1'}]}".to_owned(), "witnesses.of[0].name", "a b"),
            ("{need: 1, of: [{name: a, key: no.pem, url: 'http://h:1'}]}".to_owned(), "witnesses.of[0].key", "no.pem"),
            ("{need: 1, of: [{name: a, key: w1.pem, url: 'https://h'}]}".to_owned(), "witnesses.of[0].url", "no TLS"),
            ("{need: 1, of: [{name: a, key: w1.pem, url: 'h:1'}]}".to_owned(), "witnesses.of[0].url", "neither"),
            ("{need: -1, of: []}".to_owned(), "node.yaml", "u64"),
            (format!("{{need: 1, off: [{one}]}}"), "node.yaml", "off"),
        ] {
            let faults = NodeConfig::parse(&format!("{HEAD}witnesses: {policy}\n"), dir.path()).unwrap_err();
            let fault = faults.iter().find(|fault| fault.key == key).unwrap_or_else(|| panic!("{policy}: {faults:?}"));
            assert!(fault.found.contains(found) && fault.line == 4 && !fault.hint.is_empty(), "{policy}: {fault:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_that_round_trips_or_a_fault(text in "(http://|unix:)?[ -~]{0,30}") {
            if let Ok(url) = WitnessUrl::parse(&text) {
                prop_assert_eq!(WitnessUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
