//! `tally prove`: is any reading of a device missing between two times? The answer is a file that anyone can check offline.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::{FileForm, NodeFlag};
use crate::commands::evidence::{in_form, write_whole};
use crate::commands::verify::read_key;
use crate::show;
use crate::shutdown::runtime;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_evidence::{CoverageFile, Question};
use tally_ledger_client::{Client, RequestError, Timeouts};
use tally_model::{DeviceId, Timestamp, parse_duration};
use tally_verifier::{Report, verify};

/// A file of weeks has thousands of proofs to make.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Arguments of `prove`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: nothing is missing. 1: something is, or may be; what is named.
Times are when the agent received the readings: 2026-11-21T14:00:00Z, `now`, or `now-2h`. The last readings are covered when
the agent seals its next anchor (`anchors: {every: 60s}` in agent.yaml), so ask about a time that is over.
Example:
  tally prove --device press-01 --from now-1h --to now-5min --out press-01.coverage && tally verify press-01.coverage")]
pub struct ProveArgs {
    /// Whose readings
    #[arg(long, value_name = "ID", value_parser = device)]
    device: DeviceId,
    /// From when, inclusive
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Timestamp,
    /// Until when, inclusive
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Timestamp,
    /// Write the proof into this file, for `tally verify`
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How the file is written; `tally verify` reads both
    #[arg(long, value_enum, default_value = "cbor", requires = "out")]
    format: FileForm,
    /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
    #[arg(long, value_name = "FILE")]
    ledger_key: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    node: NodeFlag,
}

pub fn run(args: &ProveArgs, json: bool) -> Result<Answer, Fault> {
    if args.from > args.to {
        return Err(format!("--from {} is behind --to {}; swap them", args.from, args.to).into());
    }
    let pinned = args.ledger_key.as_deref().map(read_key).transpose()?;
    let client = Client::with_timeouts(args.node.node.clone(), Timeouts { answer: ANSWER_TIME, ..Timeouts::default() });
    let (device, from, to) = (&args.device, args.from.as_micros(), args.to.as_micros());
    let path = format!("/devices/{device}/coverage?from={from}&to={to}");
    let bytes = match runtime()?.block_on(client.get_bytes(&path)) {
        Err(RequestError::Refused { status: 404, text, .. }) => {
            eprintln!("{text}");
            return Ok(Answer::No);
        }
        answer => answer.context("asking the node for the anchors of the device")?,
    };
    let file = CoverageFile::decode(&bytes).context("the node's answer")?;
    if file.question != (Question { device: device.clone(), from: args.from, to: args.to }) {
        return Err("the node answered another question than the one that was asked".into());
    }
    let report = verify(&bytes, pinned.as_ref());
    if let Some(out) = &args.out {
        write_whole(out, &in_form(bytes.clone(), args.format)?)?;
    }
    if json {
        print_json(&serde_json::json!({
            "complete": report.all_hold(), "coverage": report.coverage, "broken": report.first_broken(),
            "ledger": report.ledger, "ledger_key": report.ledger_key, "file": args.out, "bytes": bytes.len(),
        }))?;
    } else {
        print!("{}", render(args, &report, bytes.len()));
    }
    Ok(report.all_hold().into())
}

/// The answer for people.
fn render(args: &ProveArgs, report: &Report, bytes: usize) -> String {
    let mut text = String::new();
    let gaps = report.coverage.as_ref().map(|coverage| coverage.gaps.as_slice()).unwrap_or_default();
    let _ = match (&report.coverage, report.first_broken()) {
        (Some(coverage), None) => writeln!(
            text,
            "{}: nothing is missing from {} to {}\n  {} readings in {} anchors; longest pause between two {}",
            coverage.device,
            coverage.from,
            coverage.to,
            coverage.readings,
            coverage.anchors,
            show::duration(i64::try_from(coverage.pause).unwrap_or(i64::MAX)),
        ),
        (Some(coverage), Some(_)) if !gaps.is_empty() => {
            writeln!(text, "{}: NOT COMPLETE from {} to {}", coverage.device, coverage.from, coverage.to)
        }
        (_, Some(link)) => writeln!(text, "DOES NOT HOLD: {} of {}: {}", link.step, link.about, link.detail),
        (None, None) => writeln!(text, "nothing could be checked"),
    };
    for gap in gaps {
        let declared = if gap.is_declared { " (declared by the agent)" } else { "" };
        let _ = writeln!(text, "  missing from {} to {}: {}{declared}", gap.from, gap.to, gap.reason);
    }
    // A forged seal beside a gap must not hide behind it.
    let forged = report.links.iter().find(|link| !link.holds && link.step != tally_verifier::Step::Coverage);
    if let Some(link) = forged.filter(|_| !gaps.is_empty()) {
        let _ = writeln!(text, "  DOES NOT HOLD: {} of {}: {}", link.step, link.about, link.detail);
    }
    if args.ledger_key.is_none() {
        let key = report.ledger_key.as_deref().unwrap_or("-");
        let _ = writeln!(text, "  ledger key {key} (the node's own word; name yours with --ledger-key)");
    }
    if let Some(out) = &args.out {
        let _ = writeln!(text, "{}: {bytes} bytes; check it with `tally verify {0}`", out.display());
    }
    text
}

fn device(text: &str) -> Result<DeviceId, String> {
    DeviceId::try_new(text).map_err(|fault| fault.to_string())
}

/// RFC 3339, `now`, or `now-2h`.
fn time(text: &str) -> Result<Timestamp, String> {
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    };
    let hint = "write for example 2026-11-21T14:00:00Z, now, or now-2h";
    match text.strip_prefix("now") {
        Some("") => Ok(now()),
        Some(back) => {
            let back = back.strip_prefix('-').ok_or_else(|| format!("`{text}` is no time; {hint}"))?;
            Ok(now().minus(parse_duration(back).map_err(|fault| fault.to_string())?))
        }
        None => Timestamp::parse_rfc3339(text).ok_or_else(|| format!("`{text}` is no time; {hint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let day = time("2026-11-21T14:00:00Z").unwrap();
        assert_eq!(day, time("2026-11-21T15:00:00+01:00").unwrap());
        let (now, before) = (time("now").unwrap(), time("now-2h").unwrap());
        let apart = now.since(before).as_secs();
        assert!((7_190..=7_200).contains(&apart), "{apart}");
        for wrong in ["", "yesterday", "now+1h", "now-", "nowhere"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
