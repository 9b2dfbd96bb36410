//! Certificates that end: told in the log when a stage begins, shown as a metric always. Nothing stops because of it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tally_tls::{Expiring, Stage};

/// Files that are watched. Cloning shares what was told.
#[derive(Debug, Clone, Default)]
pub struct Expiry {
    files: Arc<Vec<PathBuf>>,
    told: Arc<Mutex<BTreeMap<PathBuf, Stage>>>,
}

impl Expiry {
    /// Watches these files with certificates (PEM).
    #[must_use]
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: Arc::new(files.into_iter().collect()), told: Arc::default() }
    }

    /// What stands in the files now; one that cannot be read is left out, whoever uses it says so.
    fn read(&self) -> Vec<Expiring> {
        self.files.iter().filter_map(|file| Expiring::read(file).ok()).collect()
    }

    /// Those that end within 90 days of `now` (Unix seconds), or have ended; each stage of a file also goes into the log, once.
    #[must_use]
    pub fn look(&self, now: u64) -> Vec<Expiring> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ending = Vec::new();
        for found in self.read() {
            let stage = found.stage(now);
            let is_new = told.insert(found.file.clone(), stage) != Some(stage);
            let Some(warning) = found.warning(now) else { continue };
            match stage {
                Stage::Over | Stage::Week if is_new => tracing::error!("{warning}"),
                _ if is_new => tracing::warn!("{warning}"),
                _ => {}
            }
            ending.push(found);
        }
        ending
    }

    /// Seconds left of each file, negative when it is over, in Prometheus' text format; the name has this prefix.
    #[must_use]
    pub fn text(&self, prefix: &str, now: u64) -> String {
        let found = self.read();
        if found.is_empty() {
            return String::new();
        }
        let name = format!("{prefix}_certificate_expires_seconds");
        let mut text =
            format!("# HELP {name} seconds until the first certificate of a file ends\n# TYPE {name} gauge\n");
        for one in found {
            let file = one.file.display().to_string().replace(['\\', '"', '\n'], "_");
            let _ = writeln!(text, "{name}{{file=\"{file}\"}} {}", one.left(now));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    /// 2030-01-01, when the certificate ends.
    const ENDS: u64 = 1_893_456_000;
    const DAY: u64 = 86_400;

    fn warning(expiry: &Expiry, now: u64) -> String {
        expiry.look(now)[0].warning(now).unwrap()
    }

    #[test]
    fn each_stage_is_told_once_and_a_renewed_file_is_quiet_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.pem");
        let write = |year| {
            let mut params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            std::fs::write(&file, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
        };
        write(2030);
        let expiry = Expiry::of([file.clone(), dir.path().join("gone.pem")]);
        assert!(expiry.look(ENDS - 91 * DAY).is_empty());
        for (left, word) in [(89, "in 89 days"), (29, "in 29 days"), (6, "in 6 days")] {
            assert!(warning(&expiry, ENDS - left * DAY).contains(word));
            assert_eq!(expiry.told.lock().unwrap().len(), 1);
        }
        assert!(warning(&expiry, ENDS + 400 * DAY).contains("expired 400 days ago"));
        assert!(expiry.text("tally", ENDS + 60).contains("} -60\n"), "{}", expiry.text("tally", ENDS + 60));
        write(2040);
        assert!(expiry.look(ENDS).is_empty());
    }
}
