//! The result of a check: a list of links, each holding or not.

use crate::TimeStamp;
use serde::Serialize;
use std::fmt;
use tally_evidence::TriggerBody;
use tally_evidence::json::Mismatch;
use tally_model::{ClockState, DeviceId, EvidenceQuality, Finding, LinkSecurity, Login, Stretch, Timestamp};

/// The links of the chain, in the words of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The file is an evidence file of a version we read.
    File,
    /// What the JSON form shows is what its bytes say.
    Readable,
    /// The ledger's key.
    LedgerKey,
    /// The statement is well-formed and made for this ledger.
    Statement,
    /// The signer is registered, and speaks for the device.
    DeviceBinding,
    /// The seal holds.
    Seal,
    /// The batch that was sealed holds this trigger.
    Batch,
    /// The statement is in the ledger's tree.
    Inclusion,
    /// The ledger's checkpoint covers that tree.
    Checkpoint,
    /// What the contract made of it is in the checkpoint's outcomes.
    Outcome,
    /// The readings that the trigger says come from somewhere are its own.
    Origin,
    /// The disclosed readings give the root that the trigger sealed.
    Readings,
    /// The device sealed its messages itself, and the seals hold with its registered key.
    DeviceSeal,
    /// The rule is the registered version.
    Rule,
    /// The trigger follows from the readings by the rule.
    Recomputed,
    /// What the checks before the seal found is what they find in the readings shown.
    Truth,
    /// As many independent sources as the contract asks for say the same.
    Attested,
    /// Others saw the tree that the entries are in.
    Witness,
    /// An authority outside the plant put its time to the whole file.
    Timestamp,
    /// The outcomes follow each other without a hole.
    History,
    /// What was asked is what the file answers.
    Question,
    /// The device's anchor follows the one before.
    Anchor,
    /// The ledger's state says what it should.
    State,
    /// No reading of the time asked for is missing.
    Coverage,
    /// What is shown is what the call sealed as a private field.
    Field,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Readable => "readable part",
            Self::LedgerKey => "ledger key",
            Self::Statement => "statement",
            Self::DeviceBinding => "device binding",
            Self::Seal => "seal",
            Self::Batch => "batch",
            Self::Inclusion => "inclusion",
            Self::Checkpoint => "checkpoint",
            Self::Outcome => "outcome",
            Self::Origin => "origin of readings",
            Self::Readings => "readings → root",
            Self::DeviceSeal => "device's own seal",
            Self::Rule => "rule version",
            Self::Recomputed => "trigger recomputed",
            Self::Truth => "evidence quality",
            Self::Attested => "k of n",
            Self::Witness => "witnesses",
            Self::Timestamp => "time-stamp",
            Self::History => "history",
            Self::Question => "question",
            Self::Anchor => "anchor",
            Self::State => "state",
            Self::Coverage => "coverage",
            Self::Field => "private field",
        })
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// What it is about: `entry 7 (trigger bearing-worn)`.
    pub about: String,
    /// Which step of the chain.
    pub step: Step,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub detail: String,
}

/// What a coverage file says, as far as it is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Whose readings.
    pub device: DeviceId,
    /// Asked for, receive times in µs since the epoch, both inclusive.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Anchors proved.
    pub anchors: u64,
    /// Readings they cover.
    pub readings: u64,
    /// Longest time in µs between two readings, by the agent's word.
    pub pause: u64,
    /// What is missing of the time asked for.
    pub gaps: Vec<Hole>,
}

/// A time of which readings are missing, or may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Receive time from which on; the beginning of what was asked when nothing is known.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Why, for people.
    pub reason: String,
    /// Whether the agent declared it itself.
    pub is_declared: bool,
}

/// The times of a trigger, each with the clock it is from: none stands for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Times {
    /// The trigger: as in its links.
    pub about: String,
    /// When the reading that decided it arose, by the device's clock; `None` when that reading is not proved.
    pub source: Option<Timestamp>,
    /// When the agent received it, by the agent's clock; `None` when that reading is not proved.
    pub received: Option<Timestamp>,
    /// How good the agent's clock was, by its own word; `None` when it did not say.
    pub agent_clock: Option<AgentClock>,
    /// When the ledger made the block, by the ledger's clock.
    pub block: Timestamp,
}

/// Who sealed nearest the sensor, by the word of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graded {
    /// The trigger: as in its links.
    pub about: String,
    /// `device-sealed`, `agent-sealed` or `gateway-sealed`.
    pub grade: &'static str,
    /// Fingerprint of the mapping the agent read by, hexadecimal; absent when it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapping: Option<String>,
}

/// Over which link readings came, how that was secured, and what the device at its end called itself: by the word of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadingsOrigin {
    /// The trigger: as in its links.
    pub about: String,
    /// Number of the first reading.
    pub from: u64,
    /// Number of the last.
    pub to: u64,
    /// The protocol: `modbus`, `opc-ua`, `mqtt`, `replay`.
    pub over: &'static str,
    /// What protected the link: `none`, `sign`, `sign-encrypt`, `tls`.
    pub security: &'static str,
    /// URI of the OPC UA security policy, or version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of the other side's certificate, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// How the agent logged in: `anonymous`, `user-name`, `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<&'static str>,
    /// What the device called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The same for people.
    pub text: String,
}

impl ReadingsOrigin {
    /// Those of a trigger, each up to the next.
    pub(crate) fn of(about: &str, trigger: &TriggerBody) -> Vec<Self> {
        let ends =
            trigger.origins.iter().skip(1).map(|next| next.from.saturating_sub(1)).chain([trigger.readings.last]);
        let one = |(stretch, to): (&Stretch, u64)| {
            let LinkSecurity { protocol, protection, policy, certificate, login } = &stretch.origin.link;
            Self {
                about: about.to_owned(),
                from: stretch.from,
                to,
                over: protocol.word(),
                security: protection.word(),
                policy: policy.clone(),
                certificate: certificate.map(|digest| digest.iter().map(|byte| format!("{byte:02x}")).collect()),
                login: login.map(Login::word),
                identity: stretch.origin.identity.clone(),
                text: stretch.origin.to_string(),
            }
        };
        trigger.origins.iter().zip(ends).map(one).collect()
    }
}

/// How good the evidence behind a trigger is, after the checks that its rule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// The trigger: as in its links.
    pub about: String,
    /// `sound`, `doubtful` or `contradicted`.
    pub class: &'static str,
    /// The same in one line.
    pub text: String,
    /// What speaks against the readings.
    pub findings: Vec<QualityFinding>,
}

/// One of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QualityFinding {
    /// As in `docs/formats/checks.md`.
    pub code: &'static str,
    /// Which point or relation, and in which readings.
    pub text: String,
    /// For somebody in front of the machine.
    pub means: &'static str,
    /// Whether the readings shown prove it; otherwise it is the agent's word.
    pub is_proved: bool,
}

impl Quality {
    pub(crate) fn new(about: &str, findings: &[Finding], words: &[&Finding]) -> Self {
        let class = EvidenceQuality::of(findings);
        let list = findings.iter().map(|finding| QualityFinding {
            code: finding.code.word(),
            text: finding.to_string(),
            means: finding.code.meaning(),
            is_proved: !words.contains(&finding),
        });
        let findings: Vec<_> = list.collect();
        let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
        let found = if texts.is_empty() { "no check found anything".to_owned() } else { texts.join("; ") };
        Self { about: about.to_owned(), class: class.word(), text: format!("{class}: {found}"), findings }
    }
}

/// How good an agent's clock was when it sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AgentClock {
    /// `synchronised`, `free-running` or `unknown`.
    pub state: &'static str,
    /// Microseconds that it was off at most; only when synchronised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_us: Option<u64>,
    /// The same for people.
    pub text: String,
}

impl From<ClockState> for AgentClock {
    fn from(clock: ClockState) -> Self {
        Self { state: clock.word(), error_us: clock.error_us(), text: clock.to_string() }
    }
}

/// All links of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Report {
    /// The agreement the file is about, when it could be read.
    pub agreement: Option<String>,
    /// The device whose readings the file is about, when it is a coverage file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The ledger it comes from.
    pub ledger: Option<String>,
    /// Thumbprint (RFC 9679) of the ledger key in the file.
    pub ledger_key: Option<String>,
    /// What the file's time-stamp says, when it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<TimeStamp>,
    /// The links, in order of trust.
    pub links: Vec<Link>,
    /// What happened, in order, as far as the outcomes are proved.
    pub story: Vec<String>,
    /// The times of each trigger whose place in the ledger and seal are proved.
    pub times: Vec<Times>,
    /// The grade of each of these triggers.
    pub grades: Vec<Graded>,
    /// Where the readings of each of these triggers come from, as far as their agents said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<ReadingsOrigin>,
    /// The evidence quality of each trigger whose rule asks for checks, as far as it is confirmed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub qualities: Vec<Quality>,
}

impl Report {
    /// Whether every link holds (and there is more than the file itself). A time-stamp proves nothing of what the file says, only
    /// when it was there: it does not count as such.
    #[must_use]
    pub fn all_hold(&self) -> bool {
        let proofs = self.links.iter().filter(|link| ![Step::Readable, Step::Timestamp].contains(&link.step)).count();
        proofs > 2 && self.links.iter().all(|link| link.holds)
    }

    /// The first link that does not hold.
    #[must_use]
    pub fn first_broken(&self) -> Option<&Link> {
        self.links.iter().find(|link| !link.holds)
    }

    pub(crate) fn holds(&mut self, about: &str, step: Step, detail: String) {
        self.links.push(Link { about: about.to_owned(), step, holds: true, detail });
    }

    pub(crate) fn fails(&mut self, about: &str, step: Step, detail: impl fmt::Display) {
        self.links.push(Link { about: about.to_owned(), step, holds: false, detail: detail.to_string() });
    }

    /// Says, behind the file itself, whether what its JSON form shows is what the bytes say.
    pub(crate) fn shows(&mut self, mismatches: &[Mismatch]) {
        if !self.links.first().is_some_and(|link| link.holds) {
            return;
        }
        let detail = match mismatches {
            [] => "shows what the bytes say; only the bytes are checked below".to_owned(),
            [first, others @ ..] => {
                let said = first.said.as_deref().unwrap_or("nothing (or what this program does not know)");
                let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
                format!("{} shows {}, the bytes say {said}{more}", first.path, first.shown)
            }
        };
        let link = Link { about: "the file".to_owned(), step: Step::Readable, holds: mismatches.is_empty(), detail };
        self.links.insert(1, link);
    }

    /// Records a check that gives a value; `None` when it failed.
    pub(crate) fn record<T, E: fmt::Display>(&mut self, about: &str, step: Step, check: Result<T, E>) -> Option<T> {
        match check {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fails(about, step, fault);
                None
            }
        }
    }
}
