//! `tally verify FILE`.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::show::lines;
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tally_evidence::{Cosigner, VerifyingKey};
use tally_model::{Grade, Timestamp};
use tally_verifier::{Reader, ReadingsOrigin, Report, Step, Times, Witnesses, verify_for};

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Evidence file, coverage file of `tally prove`, or field file of `tally disclose`; CBOR or JSON
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The ledger's public key as you know it (SPKI PEM); without it the key in the file is taken and shown
    #[arg(long, value_name = "FILE")]
    pub ledger_key: Option<PathBuf>,
    /// A witness you know, by its public key (SPKI PEM) or its verifier key. Repeatable; without any, those in the file are shown
    #[arg(long = "witness", value_name = "NAME=FILE | VKEY")]
    pub witnesses: Vec<String>,
    /// How many witnesses must have signed; all that are named when not said
    #[arg(long, value_name = "N")]
    pub need: Option<usize>,
    /// Authorities of time-stamps you trust (PEM): the file must have a time-stamp by one that they vouch for. Without it, one that is
    /// there is shown, but who made it is not checked
    #[arg(long, value_name = "PEM")]
    pub tsa_ca: Option<PathBuf>,
}

/// Largest evidence file read: a careful auditor's program does not swallow a disk image.
const FILE_BYTES_MAX: u64 = 1 << 30;

pub fn run(args: &VerifyArgs, json: bool) -> Result<Answer, Fault> {
    let pinned = args.ledger_key.as_deref().map(read_key).transpose()?;
    let bytes = read_file(&args.file)?;
    let known = args.witnesses.iter().map(|text| read_witness(text)).collect::<Result<Vec<_>, _>>()?;
    let witnesses = Witnesses { need: args.need.unwrap_or(known.len()), known };
    let authorities = super::timestamp::read_authorities(args.tsa_ca.as_deref())?;
    let reader =
        Reader { ledger_key: pinned.as_ref(), witnesses: Some(&witnesses), time_authorities: authorities.as_ref() };
    let report = verify_for(&bytes, &reader);
    if json {
        print_json(&serde_json::json!({"file": args.file, "holds": report.all_hold(), "report": report}))?;
    } else {
        print!("{}", render(&report));
    }
    Ok(report.all_hold().into())
}

/// A witness as on the command line.
fn read_witness(text: &str) -> Result<Cosigner, Fault> {
    match text.split_once('=') {
        // Base64 of a verifier key may end in `=`, but a name has no `+`.
        Some((name, file)) if !name.contains('+') => {
            let key = super::witness::read_key(Path::new(file))?;
            Ok(Cosigner::new(name, key).context(format_args!("--witness {text}"))?)
        }
        _ => text.parse().context(format_args!("--witness {text}")),
    }
}

/// An evidence file, if it is not too large.
///
/// # Errors
/// When it cannot be read or is too large.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Fault> {
    let shown = file.display();
    let size = std::fs::metadata(file).context(format_args!("reading {shown}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{shown} has {size} bytes; an evidence file has at most {FILE_BYTES_MAX}").into());
    }
    std::fs::read(file).context(format_args!("reading {shown}"))
}

/// A public key from a PEM file.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn read_key(path: &Path) -> Result<VerifyingKey, Fault> {
    let pem = std::fs::read_to_string(path).context(format_args!("reading {}", path.display()))?;
    VerifyingKey::from_pem(&pem).context(path.display())
}

/// The report for people: one line a link, the story, the verdict.
pub fn render(report: &Report) -> String {
    let mut text = link_lines(report);
    if !report.story.is_empty() {
        let _ = writeln!(text, "\nWhat happened:");
    }
    for line in &report.story {
        let _ = writeln!(text, "  {line}");
    }
    text += &quality_lines(report);
    for times in &report.times {
        text += &times_lines(times);
    }
    text += &grade_lines(report);
    text += &origin_lines(&report.origins);
    let _ = match report.first_broken() {
        None if report.all_hold() && is_unchecked(report) => {
            writeln!(text, "\nEvery link holds; who made the time-stamp was not checked.")
        }
        None if report.all_hold() => writeln!(text, "\nEvery link holds."),
        None => writeln!(text, "\nNothing in this file could be checked."),
        Some(link) => writeln!(text, "\nDoes not hold: {} of {}: {}", link.step, link.about, link.detail),
    };
    lines(&text) + "\n"
}

/// There is a time-stamp, and nobody said whose count.
fn is_unchecked(report: &Report) -> bool {
    report.timestamp.as_ref().is_some_and(|stamp| !stamp.is_trusted)
}

fn link_lines(report: &Report) -> String {
    let (mut text, mut about) = (String::new(), "");
    for link in &report.links {
        if link.about != about {
            about = &link.about;
            let _ = writeln!(text, "{about}");
        }
        let verdict = match link.holds {
            true if link.step == Step::Timestamp && is_unchecked(report) => "NOT CHECKED  ",
            true => "holds        ",
            false => "DOES NOT HOLD",
        };
        let _ = writeln!(text, "  {:<18} {verdict}  {}", link.step.to_string(), link.detail);
    }
    text
}

/// What speaks against the readings.
fn quality_lines(report: &Report) -> String {
    let mut text = String::new();
    for quality in report.qualities.iter().filter(|quality| !quality.findings.is_empty()) {
        let _ = writeln!(text, "\nWhat speaks against the readings of {} ({}):", quality.about, quality.class);
        for finding in &quality.findings {
            let proof = if finding.is_proved { "" } else { " (the agent's word: it remembers more than is shown)" };
            let _ = writeln!(text, "  {}{proof}\n    {}", finding.text, finding.means);
        }
    }
    text
}

/// Who sealed nearest the sensor.
fn grade_lines(report: &Report) -> String {
    let mut text = String::new();
    for graded in &report.grades {
        let meaning = match graded.grade.parse().unwrap_or_default() {
            Grade::Device => "the device sealed for itself, and its own seals are in this file",
            Grade::Agent => "the device has no key: the agent read it and sealed for it",
            Grade::Gateway => "the agent had it from a gateway, and never spoke with the sensor",
        };
        let _ = writeln!(text, "\nGrade of {}:\n  {}  {meaning}", graded.about, graded.grade);
        if let Some(mapping) = &graded.mapping {
            let _ = writeln!(text, "  mapping {mapping}");
        }
    }
    text
}

/// Over which links the readings came; by the agent's word.
fn origin_lines(origins: &[ReadingsOrigin]) -> String {
    let mut text = String::new();
    for of_trigger in origins.chunk_by(|one, next| one.about == next.about) {
        let about = of_trigger.first().map_or("", |first| first.about.as_str());
        let _ = writeln!(text, "\nOrigin of the readings of {about}, by the agent's word:");
        for one in of_trigger {
            let _ = writeln!(text, "  {}–{}  {}", one.from, one.to, one.text);
        }
    }
    text
}

/// Each time of a trigger beside the clock it is from, so that nobody takes one for another.
fn times_lines(times: &Times) -> String {
    // A protocol without times of its own, such as Modbus, leaves the receive time in both places.
    let by = if times.source.is_some() && times.source == times.received {
        "as received: none of its own"
    } else {
        "by the device's clock"
    };
    let shown = |time: Option<Timestamp>| time.map_or_else(|| "not proved".to_owned(), |time| time.to_string());
    let state = times.agent_clock.as_ref().map_or("not said by this agent", |clock| clock.text.as_str());
    format!(
        "\nTimes of {}:\n  source time      {}  {by}\n  receive time     {}  by the agent's clock\n  agent's clock    \
         {state}\n  block time       {}  by the ledger's clock\n",
        times.about,
        shown(times.source),
        shown(times.received),
        times.block
    )
}
