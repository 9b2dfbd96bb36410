//! How long a certificate still lasts, and how loudly that is said. An expired certificate stops new connections and nothing else: no
//! key on a ledger hangs on it.

use crate::{CertificateFacts, TlsFault, certificates};
use std::path::{Path, PathBuf};

const DAY: u64 = 86_400;

/// How near the end is. Each is told once, when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// More than 90 days.
    Far,
    /// At most 90 days.
    Quarter,
    /// At most 30 days.
    Month,
    /// At most 7 days.
    Week,
    /// Over.
    Over,
}

impl Stage {
    /// Of what ends at `ends` (the last valid second, Unix time) at `now`.
    #[must_use]
    pub const fn of(ends: u64, now: u64) -> Self {
        match ends.saturating_sub(now) {
            _ if now > ends => Self::Over,
            left if left <= 7 * DAY => Self::Week,
            left if left <= 30 * DAY => Self::Month,
            left if left <= 90 * DAY => Self::Quarter,
            _ => Self::Far,
        }
    }

    /// The word in messages and for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Far => "far",
            Self::Quarter => "90-days",
            Self::Month => "30-days",
            Self::Week => "7-days",
            Self::Over => "over",
        }
    }
}

/// A file with certificates, and the first end among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiring {
    /// Which file.
    pub file: PathBuf,
    /// Whose certificate ends first in it.
    pub subject: String,
    /// Last second in which it is valid, Unix time.
    pub ends: u64,
}

impl Expiring {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`TlsFault::File`].
    pub fn read(file: &Path) -> Result<Self, TlsFault> {
        let what = "the certificate";
        let facts = certificates(what, file)?
            .into_iter()
            .map(|der| CertificateFacts::of(&der).map_err(|fault| crate::files::file_fault(what, file, &fault)));
        let facts = facts.collect::<Result<Vec<_>, _>>()?;
        let first = facts.into_iter().min_by_key(|facts| facts.ends);
        let first = first.ok_or_else(|| crate::files::file_fault(what, file, &"holds none"))?;
        Ok(Self { file: file.to_owned(), subject: first.subject, ends: first.ends })
    }

    /// How near its end is.
    #[must_use]
    pub const fn stage(&self, now: u64) -> Stage {
        Stage::of(self.ends, now)
    }

    /// Seconds left at `now`, negative when it is over.
    #[must_use]
    pub fn left(&self, now: u64) -> i64 {
        let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        seconds(self.ends) - seconds(now)
    }

    /// For people, at `now`; `None` while the end is far.
    #[must_use]
    pub fn warning(&self, now: u64) -> Option<String> {
        let days = self.ends.abs_diff(now) / DAY;
        let (file, subject) = (self.file.display(), &self.subject);
        match self.stage(now) {
            Stage::Far => None,
            Stage::Over => Some(format!(
                "the certificate of `{subject}` in {file} expired {days} days ago: new connections with it are refused. What is \
                 registered on the ledger stays valid. Renew it (`tally ca renew`)"
            )),
            _ => Some(format!(
                "the certificate of `{subject}` in {file} ends in {days} days: renew it (`tally ca renew`)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_begins_to_the_second() {
        let ends = 1_000 * DAY;
        for (now, stage) in [
            (ends - 90 * DAY - 1, Stage::Far),
            (ends - 90 * DAY, Stage::Quarter),
            (ends - 30 * DAY - 1, Stage::Quarter),
            (ends - 30 * DAY, Stage::Month),
            (ends - 7 * DAY, Stage::Week),
            (ends, Stage::Week),
            (ends + 1, Stage::Over),
        ] {
            assert_eq!(Stage::of(ends, now), stage, "{now}");
        }
        let one = Expiring { file: "a.pem".into(), subject: "CN=a".to_owned(), ends };
        assert_eq!(one.warning(ends - 91 * DAY), None);
        assert!(one.warning(ends - 29 * DAY).unwrap().contains("ends in 29 days"));
        assert!(one.warning(ends + 3 * DAY).unwrap().contains("expired 3 days ago"));
        assert_eq!((one.left(ends - 5), one.left(ends + 5)), (5, -5));
    }
}
