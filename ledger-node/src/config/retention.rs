//! The key `retention` of `node.yaml`.

use super::Checker;
use crate::retain::Retention;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_model::parse_duration;

/// The shortest time that statements stay: below it, somebody's agreement ends before its evidence file was fetched.
const PAYLOADS_MIN: Duration = Duration::from_secs(3600);
/// The smallest data folder that can be kept to.
const DISK_MIN: u64 = 1_000_000;
/// Segments of the log.
const SEGMENT: std::ops::RangeInclusive<u64> = 64_000..=(1 << 30);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRetention {
    payloads: Option<Spanned<String>>,
    disk: Option<Spanned<String>>,
    archive: Option<Spanned<PathBuf>>,
    segment: Option<Spanned<String>>,
}

impl Checker<'_> {
    pub(super) fn retention(&mut self, raw: &RawRetention, data: &Path) -> (Retention, Option<u64>) {
        let payloads = raw.payloads.as_ref().and_then(|text| match parse_duration(&text.value) {
            Ok(time) if time >= PAYLOADS_MIN => Some(time),
            Ok(_) => {
                let found = format!("`{}` is shorter than 1h", text.value);
                self.fault(text, "retention.payloads", found, "400d keeps a year's evidence at hand");
                None
            }
            Err(fault) => {
                self.fault(text, "retention.payloads", fault.to_string(), "for example 400d");
                None
            }
        });
        let disk = self.bytes(&raw.disk, "retention.disk", DISK_MIN..=u64::MAX);
        let segment = self.bytes(&raw.segment, "retention.segment", SEGMENT);
        let archive = raw.archive.as_ref().map(|path| self.folder.join(&path.value));
        if let (Some(raw), Some(path)) = (&raw.archive, &archive) {
            if path.starts_with(data) {
                let hint = "it would count as part of what is to be kept small; name a folder elsewhere";
                self.fault(raw, "retention.archive", format!("{} is inside `data`", path.display()), hint);
            }
            if payloads.is_none() && disk.is_none() {
                let hint = "name `payloads` or `disk`, or archive by hand: tally ledger archive --to DIR";
                self.fault(raw, "retention.archive", "nothing is ever pruned".to_owned(), hint);
            }
        }
        (Retention { payloads, disk, archive }, segment)
    }

    fn bytes(
        &mut self,
        raw: &Option<Spanned<String>>,
        key: &str,
        allowed: std::ops::RangeInclusive<u64>,
    ) -> Option<u64> {
        let text = raw.as_ref()?;
        match parse_bytes(&text.value) {
            Some(bytes) if allowed.contains(&bytes) => Some(bytes),
            Some(bytes) => {
                let hint = format!("allowed are {} to {} bytes", allowed.start(), allowed.end());
                self.fault(text, key, format!("`{}` is {bytes} bytes", text.value), &hint);
                None
            }
            None => {
                let hint = "a whole number with kB, MB, GB, TB or KiB, MiB, GiB, TiB, for example 20GB";
                self.fault(text, key, format!("`{}` is no number of bytes", text.value), hint);
                None
            }
        }
    }
}

/// `20GB` is 20·10⁹, `20GiB` 20·2³⁰ (IEC 80000-13).
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::super::NodeConfig;
    use super::*;
    use proptest::prelude::*;

    fn parse(retention: &str) -> Result<NodeConfig, String> {
        let text = format!("{{ledger: l, data: d, key: k, retention: {retention}}}");
        let faults = NodeConfig::parse(&text, Path::new("/etc/t"));
        faults.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn days_and_bytes() {
        let config = parse("{payloads: 400d, disk: 20GB, archive: old, segment: 1MiB}").unwrap();
        let expected = Retention {
            payloads: Some(Duration::from_secs(400 * 86_400)),
            disk: Some(20_000_000_000),
            archive: Some("/etc/t/old".into()),
        };
        assert_eq!((config.retention, config.segment), (expected, Some(1 << 20)));
        assert!(!parse("{}").unwrap().retention.is_on());
        for (wrong, word) in [
            ("{payloads: 5min}", "shorter than 1h"),
            ("{payloads: soon}", "400d"),
            ("{disk: 20}", "no number of bytes"),
            ("{disk: -1GB}", "no number of bytes"),
            ("{disk: 10kB}", "allowed are"),
            ("{disk: 99999999999TB}", "no number of bytes"),
            ("{archive: old}", "nothing is ever pruned"),
            ("{payloads: 400d, archive: d/old}", "inside `data`"),
            ("{segment: 2GiB}", "allowed are"),
            ("{days: 4}", "days"),
        ] {
            let faults = parse(wrong).unwrap_err();
            assert!(faults.contains(word), "{wrong}: {faults}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
            let _ = parse_bytes(&text);
        }
    }
}
