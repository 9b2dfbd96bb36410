//! Certificates that end soon, or have ended: an alarm, and what SCADA is told of them.

use super::{Alarm, Status, lock};
use serde_json::{Value, json};
use tally_model::Timestamp;
use tally_tls::{Expiring, Stage};

/// One that ends within 90 days, as it was when last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    certificate: Expiring,
    /// When it was looked at, Unix seconds.
    seen: u64,
}

impl Ending {
    /// What makes it news.
    #[must_use]
    pub fn key(&self) -> (&Expiring, Stage) {
        (&self.certificate, self.stage())
    }

    /// How near its end is.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.certificate.stage(self.seen)
    }

    fn text(&self) -> String {
        self.certificate.warning(self.seen).unwrap_or_default()
    }

    /// For SCADA (`docs/formats/topics.md`).
    #[must_use]
    pub fn as_json(&self) -> Value {
        let Expiring { file, subject, ends } = &self.certificate;
        let ends = i64::try_from(*ends).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let ends = Timestamp::from_micros(ends).to_string();
        json!({"file": file, "subject": subject, "ends": ends, "stage": self.stage().word(), "text": self.text()})
    }
}

impl Status {
    /// Those that end within 90 days of `seen` (Unix seconds), or have ended. An alarm while there is any.
    pub fn certificates(&self, ending: Vec<Expiring>, seen: u64) {
        let ending: Vec<_> = ending.into_iter().map(|certificate| Ending { certificate, seen }).collect();
        if ending.is_empty() {
            self.clear(Alarm::Certificate);
        } else {
            self.raise(Alarm::Certificate, ending.iter().map(Ending::text).collect::<Vec<_>>().join("; "));
        }
        lock(&self.state).ending = Some(ending);
    }

    /// The same, as they were when last looked at; `None` before the first look.
    #[must_use]
    pub fn ending(&self) -> Option<Vec<Ending>> {
        lock(&self.state).ending.clone()
    }
}
