//! `witnesses:` in node.yaml: whom to ask, and how many must have signed before a receipt is final.

use super::config::{key_name, public_key};
use crate::config::{Checker, RawClientTls};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tally_evidence::Cosigner;
use tally_ledger_client::NodeAddress;
use tally_model::{Tls, parse_duration};

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
    /// Whom to trust there, and our certificate if it wants one; read at every connect.
    pub tls: Tls,
}

/// Where a witness answers: `http://HOST:PORT/PREFIX`, `https://…` or `unix:/path/to/socket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessUrl {
    /// Where to connect.
    pub address: NodeAddress,
    /// What stands before the paths of the API, without a slash at its end.
    pub prefix: String,
}

impl WitnessUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self { address: NodeAddress::Unix(path.into()), prefix: String::new() })
            } else {
                Err("the path of a socket is absolute")
            };
        }
        let url: http::Uri = text.parse().map_err(|_| "it is no URL")?;
        let is_tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("it begins with none of `http://`, `https://` and `unix:`"),
        };
        if url.query().is_some() {
            return Err("a prefix has no query");
        }
        let host = url.host().filter(|host| !host.is_empty()).ok_or("the host is missing")?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let address = if is_tls { NodeAddress::Tls { host, port } } else { NodeAddress::Tcp { host, port } };
        Ok(Self { address, prefix: url.path().trim_end_matches('/').to_owned() })
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.address, NodeAddress::Tls { .. })
    }
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.address.to_string();
        match text.split_once(':') {
            Some(("tcp", place)) => write!(f, "http://{place}{}", self.prefix),
            Some(("tls", place)) => write!(f, "https://{place}{}", self.prefix),
            _ => f.write_str(&text),
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
    tls: Option<RawClientTls>,
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
            let hint = "for example `https://10.0.0.7:7470`";
            checker.fault(&self.url, &at("url"), format!("`{}`: {reason}", self.url.value), hint);
        });
        let (url, tls) = (url.ok()?, self.tls.as_ref().map(|tls| tls.files(checker.folder)));
        match &tls {
            None if url.is_tls() => {
                let hint = "write `tls: {ca: FILE}` beside it, or `pin`; `certificate` and `key` when it wants ours";
                checker.fault(&self.url, &at("url"), "nothing says whom to trust there".to_owned(), hint);
            }
            Some(_) if !url.is_tls() => {
                let found = format!("`tls` beside `{}`", self.url.value);
                checker.fault(&self.url, &at("url"), found, "write `https://`, or remove `tls`");
            }
            _ => {}
        }
        Some(AskedWitness { cosigner: Cosigner::new(name, key?).ok()?, url, tls: tls.unwrap_or_default() })
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
        for (name, algorithm, secret) in
            [("w1", Algorithm::Ed25519, 3), ("w2", Algorithm::P256, 3), ("w3", Algorithm::P256, 4)]
        {
            let key = NoteSigningKey::from_secret(algorithm, &[secret; 32]).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), key.public().to_pem().unwrap()).unwrap();
        }
        dir
    }

    const HEAD: &str = "ledger: press-line\ndata: d\nkey: k\n";

    #[test]
    fn a_whole_policy() {
        let text = "witnesses:\n  need: 1\n  wait: 2s\n  of:\n    - {name: a/w1, key: w1.pem, url: 'http://10.0.0.7:7470/w/'}\n    - {name: b/w2, key: w2.pem, url: 'unix:/run/w2.sock'}\n    - {name: c/w3, key: w3.pem, url: 'https://h/w', tls: {ca: ca.pem}}\n";
        let policy = NodeConfig::parse(&format!("{HEAD}{text}"), folder().path()).unwrap().witnesses.unwrap();
        assert_eq!((policy.need, policy.wait), (1, Duration::from_secs(2)));
        let urls: Vec<_> = policy.of.iter().map(|witness| witness.url.to_string()).collect();
        assert_eq!(urls, ["http://10.0.0.7:7470/w", "unix:/run/w2.sock", "https://h:443/w"]);
        assert!(policy.of[2].tls.ca.as_ref().unwrap().ends_with("ca.pem") && policy.of[0].tls.ca.is_none());
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
            (
                "{need: 1, of: [{name: a, key: w1.pem, url: 'https://h'}]}".to_owned(),
                "witnesses.of[0].url",
                "whom to trust",
            ),
            (
                "{need: 1, of: [{name: a, key: w1.pem, url: 'http://h:1', tls: {ca: c}}]}".to_owned(),
                "witnesses.of[0].url",
                "`tls` beside",
            ),
            ("{need: 1, of: [{name: a, key: w1.pem, url: 'h:1'}]}".to_owned(), "witnesses.of[0].url", "none of"),
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
        fn any_text_is_a_url_that_round_trips_or_a_fault(text in "(https?://|unix:)?[ -~]{0,30}") {
            if let Ok(url) = WitnessUrl::parse(&text) {
                prop_assert_eq!(WitnessUrl::parse(&url.to_string()), Ok(url));
            }
        }
    }
}
