//! `tally prove`: is any reading of a device missing between two times? Or: what was one reading? The answer is a file that
//! anyone can check offline.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::evidence::{in_form, write_whole};
use crate::commands::verify::read_key;
use crate::flags::FileForm;
use crate::flags::{AgentFlag, NodeFlag};
use crate::show;
use crate::shutdown::runtime;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_evidence::{AnchorBody, CoverageFile, Disclosure, EvidenceEntry, Question, SignedStatement, StatementKind};
use tally_ledger_client::{RequestError, Timeouts};
use tally_model::{DeviceId, PointId, Timestamp, parse_duration};
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
  tally prove --device press-01 --from now-1h --to now-5min --out press-01.coverage && tally verify press-01.coverage
With --reading the agent shows one reading, by its number in the device's chain (`n` in the MQTT messages), under the root of the anchor that
covers it; the file also says that nothing is missing around it, so the newest readings are proved when the next anchor is in the ledger.
  tally prove --reading press-01/vibration/4711 --out 4711.coverage")]
pub struct ProveArgs {
    /// Whose readings
    #[arg(long, value_name = "ID", value_parser = device, required_unless_present = "reading", conflicts_with = "reading")]
    device: Option<DeviceId>,
    /// From when, inclusive
    #[arg(long, value_name = "TIME", value_parser = time, required_unless_present = "reading", conflicts_with = "reading")]
    from: Option<Timestamp>,
    /// Until when, inclusive
    #[arg(long, value_name = "TIME", value_parser = time, required_unless_present = "reading", conflicts_with = "reading")]
    to: Option<Timestamp>,
    /// Show one reading instead
    #[arg(long, value_name = "DEVICE/POINT/NUMBER")]
    reading: Option<ReadingName>,
    /// The agent, which keeps the readings.
    #[command(flatten)]
    agent: AgentFlag,
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
    let pinned = args.ledger_key.as_deref().map(read_key).transpose()?;
    let asked = runtime()?.block_on(async {
        let Some(reading) = &args.reading else { return Ok(Some((question(args)?, None))) };
        Ok::<_, Fault>(shown(args, reading).await?.map(|(question, disclosure)| (question, Some(disclosure))))
    })?;
    let Some((question, disclosure)) = asked else { return Ok(Answer::No) };
    let Some(mut bytes) = coverage(args, &question)? else { return Ok(Answer::No) };
    if let Some(disclosure) = disclosure {
        let mut file = CoverageFile::decode(&bytes).context("the node's answer")?;
        if !attach(&mut file, &disclosure) {
            eprintln!("no anchor over this reading is in the ledger yet; `tally status` says what waits");
            return Ok(Answer::No);
        }
        bytes = file.encode();
    }
    let report = verify(&bytes, pinned.as_ref());
    if let Some(out) = &args.out {
        write_whole(out, &in_form(bytes.clone(), args.format)?)?;
    }
    if json {
        print_json(&serde_json::json!({
            "complete": report.all_hold(), "coverage": report.coverage, "shown": report.story, "broken": report.first_broken(),
            "ledger": report.ledger, "ledger_key": report.ledger_key, "file": args.out, "bytes": bytes.len(),
        }))?;
    } else {
        print!("{}", render(args, &report, bytes.len()));
    }
    Ok(report.all_hold().into())
}

/// The question that the arguments ask.
fn question(args: &ProveArgs) -> Result<Question, Fault> {
    let (Some(device), Some(from), Some(to)) = (args.device.clone(), args.from, args.to) else {
        return Err("name --device, --from and --to, or --reading".into());
    };
    if from > to {
        return Err(format!("--from {from} is behind --to {to}; swap them").into());
    }
    Ok(Question { device, from, to })
}

/// What the node's anchors say; `None` when it knows no such device, which is then said.
fn coverage(args: &ProveArgs, question: &Question) -> Result<Option<Vec<u8>>, Fault> {
    let client = args.node.client_with(Timeouts { answer: ANSWER_TIME, ..Timeouts::default() })?;
    let Question { device, from, to } = question;
    let path = format!("/devices/{device}/coverage?from={}&to={}", from.as_micros(), to.as_micros());
    let bytes = match runtime()?.block_on(client.get_bytes(&path)) {
        Err(RequestError::Refused { status: 404, text, .. }) => {
            eprintln!("{text}");
            return Ok(None);
        }
        answer => answer.context("asking the node for the anchors of the device")?,
    };
    let file = CoverageFile::decode(&bytes).context("the node's answer")?;
    if file.question == *question {
        Ok(Some(bytes))
    } else {
        Err("the node answered another question than the one that was asked".into())
    }
}

/// One reading, shown by the agent, and the question of the moment in which it was received; `None` when the agent cannot show
/// it, which is then said.
async fn shown(args: &ProveArgs, name: &ReadingName) -> Result<Option<(Question, Disclosure)>, Fault> {
    let ReadingName { device, point, number } = name;
    let agent = args.agent.client_with(&args.node.shown, Timeouts { answer: ANSWER_TIME, ..Timeouts::default() })?;
    let bytes = match agent.get_bytes(&format!("/readings/{device}/{number}")).await {
        Err(RequestError::Refused { status: 404 | 410, text, .. }) => {
            eprintln!("{text}");
            return Ok(None);
        }
        answer => answer.context("asking the agent for the reading")?,
    };
    let disclosure = Disclosure::decode(&bytes).context("the agent's answer")?;
    let readings = disclosure.readings(&BTreeMap::new()).context("the agent's answer")?;
    let reading = readings.into_iter().find(|reading| reading.number == *number);
    let reading = reading.ok_or("the agent showed another reading than the one that was asked for")?;
    if reading.sample.point != *point {
        let found = reading.sample.point;
        return Err(format!("reading {number} of {device} is of point `{found}`, not of `{point}`").into());
    }
    let received = reading.sample.received;
    Ok(Some((Question { device: device.clone(), from: received, to: received }, disclosure)))
}

/// Puts the disclosure beside the anchor that it belongs to, if the file has it.
fn attach(file: &mut CoverageFile, disclosure: &Disclosure) -> bool {
    let is_its = |entry: &&mut EvidenceEntry| {
        let statement = SignedStatement::parse(&entry.statement).ok();
        let anchor = statement.filter(|statement| statement.kind == StatementKind::Anchor);
        let anchor = anchor.and_then(|statement| AnchorBody::decode(&statement.payload).ok());
        anchor.is_some_and(|anchor| anchor.shows(disclosure))
    };
    let found = file.entries.iter_mut().find(is_its);
    found.map(|entry| entry.disclosure = Some(disclosure.encode())).is_some()
}

/// A reading as people name it: `press-01/vibration/4711`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReadingName {
    device: DeviceId,
    point: PointId,
    number: u64,
}

impl FromStr for ReadingName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = "write DEVICE/POINT/NUMBER, for example press-01/vibration/4711";
        let parts: Vec<_> = text.split('/').collect();
        let [device, point, number] = parts.as_slice() else {
            return Err(format!("`{text}` names no reading; {hint}"));
        };
        Ok(Self {
            device: DeviceId::try_new(*device).map_err(|fault| format!("{fault}; {hint}"))?,
            point: PointId::try_new(*point).map_err(|fault| format!("{fault}; {hint}"))?,
            number: number.parse().map_err(|_| format!("`{number}` is no number; {hint}"))?,
        })
    }
}

/// The answer for people.
fn render(args: &ProveArgs, report: &Report, bytes: usize) -> String {
    let mut text = String::new();
    let gaps = report.coverage.as_ref().map(|coverage| coverage.gaps.as_slice()).unwrap_or_default();
    let _ = match (&report.coverage, report.first_broken()) {
        (Some(coverage), None) => writeln!(
            text,
            "{}: nothing is missing from {} to {} (receive times, by the agent's clock)\n  {} readings in {} anchors; longest pause between two {}",
            coverage.device,
            coverage.from,
            coverage.to,
            coverage.readings,
            coverage.anchors,
            show::duration(i64::try_from(coverage.pause).unwrap_or(i64::MAX)),
        ),
        (Some(coverage), Some(_)) if !gaps.is_empty() => {
            writeln!(
                text,
                "{}: NOT COMPLETE from {} to {} (receive times, by the agent's clock)",
                coverage.device, coverage.from, coverage.to
            )
        }
        (_, Some(link)) => writeln!(text, "DOES NOT HOLD: {} of {}: {}", link.step, link.about, link.detail),
        (None, None) => writeln!(text, "nothing could be checked"),
    };
    for line in &report.story {
        let _ = writeln!(text, "  {line}");
    }
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
pub fn time(text: &str) -> Result<Timestamp, String> {
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
    fn times_and_readings_as_people_write_them() {
        let day = time("2026-11-21T14:00:00Z").unwrap();
        assert_eq!(day, time("2026-11-21T15:00:00+01:00").unwrap());
        let (now, before) = (time("now").unwrap(), time("now-2h").unwrap());
        let apart = now.since(before).as_secs();
        assert!((7_190..=7_200).contains(&apart), "{apart}");
        let name: ReadingName = "press-01/vibration/4711".parse().unwrap();
        assert_eq!((name.device.as_str(), name.point.as_str(), name.number), ("press-01", "vibration", 4711));
        for wrong in ["", "press-01", "press-01/vibration", "press-01/vibration/x", "press-01/a-b/1", "a/b/1/2"] {
            assert!(wrong.parse::<ReadingName>().is_err_and(|fault| fault.contains("DEVICE/POINT/NUMBER")), "{wrong}");
        }
        for wrong in ["", "yesterday", "now+1h", "now-", "nowhere"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
