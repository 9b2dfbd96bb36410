//! `tally timestamp FILE`: an authority outside the plant puts its time to an evidence or coverage file (RFC 3161), over the
//! network or on a stick.

mod http;

pub use http::AuthorityUrl;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::evidence::{in_form, write_whole};
use crate::commands::verify::read_file;
use crate::flags::FileForm;
use crate::shutdown::runtime;
use std::path::{Path, PathBuf};
use tally_evidence::{Stamped, TimeStampToken, json};
use tally_verifier::timestamp::{NONCE_BYTES, TimestampFault, TimestampRequest, check_token, token_of_response};
use tally_verifier::{TimeAuthorities, TimeStamp};

/// Largest answer and list of authorities read from a file, in bytes.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `timestamp`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the authority signs is the SHA-256 of the file as it is before (of its CBOR form), and nothing else leaves the plant.
Exit code 0: done. 1: the authority did not give its time, or what it gave does not hold; the file stays as it was.
Examples:
  tally timestamp mo-1.tally --tsa http://tsa.example.org/tsr --tsa-ca tsa-ca.pem
In a plant without a way out, with any RFC 3161 client outside:
  tally timestamp mo-1.tally --request mo-1.tsq
  curl -H 'Content-Type: application/timestamp-query' --data-binary @mo-1.tsq http://tsa.example.org/tsr -o mo-1.tsr
  tally timestamp mo-1.tally --response mo-1.tsr
  tally verify mo-1.tally --tsa-ca tsa-ca.pem")]
pub struct TimestampArgs {
    /// Evidence file, or coverage file of `tally prove`; CBOR or JSON. The time-stamp is put into it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to do.
    #[command(flatten)]
    way: Way,
    /// Leave FILE as it is and write here
    #[arg(short, long, value_name = "FILE", conflicts_with = "request")]
    output: Option<PathBuf>,
    /// Put it in the place of the time-stamp that the file has already
    #[arg(long)]
    replace: bool,
    /// Whom to trust.
    #[command(flatten)]
    authority: AuthorityFlags,
}

/// How the question gets to the authority.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// Ask this authority
    #[arg(long, value_name = "URL")]
    tsa: Option<AuthorityUrl>,
    /// Only write the question (TimeStampReq) there, for an authority that this computer does not reach
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Take the authority's answer (TimeStampResp) from there
    #[arg(long, value_name = "FILE")]
    response: Option<PathBuf>,
}

/// Which authorities count; the same in every command that asks one.
#[derive(Debug, Clone, clap::Args)]
pub struct AuthorityFlags {
    /// Take the time only from an authority that one of these certificates (PEM) vouches for
    #[arg(long, value_name = "PEM")]
    pub tsa_ca: Option<PathBuf>,
    /// For https://: authorities of web servers. The time-stamp itself is checked by --tsa-ca
    #[arg(long = "tsa-https-ca", value_name = "PEM", default_value = "/etc/ssl/certs/ca-certificates.crt")]
    pub https_ca: PathBuf,
}

pub fn run(args: &TimestampArgs, is_json: bool) -> Result<Answer, Fault> {
    let shown = args.file.display();
    let (file, form) = as_cbor(read_file(&args.file)?).context(&shown)?;
    let mut stamped = Stamped::split(&file).context(&shown)?;
    if let Some(request) = &args.way.request {
        let bytes = question(&stamped)?.to_der().context("the question")?;
        write_whole(request, &bytes)?;
        return written(request, bytes.len(), None, is_json);
    }
    if stamped.token.is_some() && !args.replace {
        return Err(format!("{shown} has a time-stamp already; put another in its place with --replace").into());
    }
    let stamp = match (&args.way.tsa, &args.way.response) {
        (Some(url), _) => from_authority(&mut stamped, url, &args.authority)?,
        (None, Some(response)) => from_file(&mut stamped, response, &args.authority)?,
        (None, None) => return Err("name --tsa, --request or --response".into()),
    };
    let Some(stamp) = stamp else { return Ok(Answer::No) };
    let bytes = in_form(stamped.encode().context(&shown)?, form)?;
    let output = args.output.as_ref().unwrap_or(&args.file);
    write_whole(output, &bytes)?;
    written(output, bytes.len(), Some(&stamp), is_json)
}

/// Has an authority put its time to the file; `None` when it did not, which is then said.
///
/// # Errors
/// When the authority does not answer or its certificates cannot be read.
pub fn from_authority(
    stamped: &mut Stamped,
    url: &AuthorityUrl,
    flags: &AuthorityFlags,
) -> Result<Option<TimeStamp>, Fault> {
    let trusted = read_authorities(flags.tsa_ca.as_deref())?;
    let question = question(stamped)?;
    let request = question.to_der().context("the question")?;
    let response = runtime()?.block_on(http::ask(url, flags, request))?;
    Ok(take(stamped, question.token(&response), trusted.as_ref()))
}

fn from_file(stamped: &mut Stamped, response: &Path, flags: &AuthorityFlags) -> Result<Option<TimeStamp>, Fault> {
    let trusted = read_authorities(flags.tsa_ca.as_deref())?;
    let token = token_of_response(&read_small(response)?, &stamped.digest());
    Ok(take(stamped, token, trusted.as_ref()))
}

/// Puts the token into the file if it holds; says it when it does not.
fn take(
    stamped: &mut Stamped,
    token: Result<Vec<u8>, TimestampFault>,
    trusted: Option<&TimeAuthorities>,
) -> Option<TimeStamp> {
    let digest = stamped.digest();
    let checked = token.and_then(|token| Ok((check_token(&token, &digest, trusted)?, token)));
    match checked {
        Ok((stamp, token)) => {
            stamped.token = Some(TimeStampToken::new(token));
            Some(stamp)
        }
        Err(fault) => {
            eprintln!("no time-stamp: {fault}");
            None
        }
    }
}

fn question(stamped: &Stamped) -> Result<TimestampRequest, Fault> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|fault| format!("no random numbers from the operating system: {fault}"))?;
    Ok(TimestampRequest::new(stamped.digest(), nonce))
}

/// The file's CBOR, and the form it was in.
fn as_cbor(file: Vec<u8>) -> Result<(Vec<u8>, FileForm), Fault> {
    if !json::is_json(&file) {
        return Ok((file, FileForm::Cbor));
    }
    let read = json::from_json(&file)?;
    match read.mismatches.first() {
        None => Ok((read.cbor, FileForm::Json)),
        Some(mismatch) => Err(format!("{} shows something else than its bytes say", mismatch.path).into()),
    }
}

/// The authorities in a PEM file, when one is named.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn read_authorities(file: Option<&Path>) -> Result<Option<TimeAuthorities>, Fault> {
    let read = |file: &Path| {
        TimeAuthorities::from_pem(&read_small(file)?).context(format_args!("--tsa-ca {}", file.display()))
    };
    file.map(read).transpose()
}

fn read_small(file: &Path) -> Result<Vec<u8>, Fault> {
    let shown = file.display();
    let size = std::fs::metadata(file).context(format_args!("reading {shown}"))?.len();
    if size > INPUT_BYTES_MAX {
        return Err(format!("{shown} has {size} bytes; at most {INPUT_BYTES_MAX} are read").into());
    }
    std::fs::read(file).context(format_args!("reading {shown}"))
}

/// What was done.
fn written(file: &Path, bytes: usize, stamp: Option<&TimeStamp>, is_json: bool) -> Result<Answer, Fault> {
    if is_json {
        print_json(&serde_json::json!({"file": file, "bytes": bytes, "timestamp": stamp}))?;
        return Ok(Answer::Yes);
    }
    println!("{}: {bytes} bytes", file.display());
    if let Some(stamp) = stamp {
        println!("{}", in_words(stamp));
    }
    Ok(Answer::Yes)
}

/// A time-stamp for people.
pub fn in_words(stamp: &TimeStamp) -> String {
    let note = if stamp.is_trusted { "" } else { " (its authority was not checked: give --tsa-ca)" };
    format!("  time-stamp of {} by {}{note}", stamp.at, stamp.authority)
}
