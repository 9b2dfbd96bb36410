//! `tally trust list|approve|reject`: which OPC UA servers the agent trusts. A running agent sees it at its next attempt.

use crate::answer::{Answer, Context, Fault, print_json};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use tally_connector_opcua::{KnownCertificate, approve, list, reject};

/// Arguments of `trust`.
#[derive(Debug, Args)]
pub struct TrustArgs {
    #[command(subcommand)]
    pub what: Trust,
    /// The agent's pki directory
    #[arg(long, value_name = "DIR", default_value = "pki", global = true)]
    pub pki: PathBuf,
}

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Show all certificates: ours, trusted ones, issuers, and those that wait for a decision
    List,
    /// Trust a certificate that waits in `rejected`
    Approve {
        /// Beginning of its fingerprint (SHA-1 or SHA-256, four digits or more), or its file name
        #[arg(value_name = "FINGERPRINT")]
        certificate: String,
    },
    /// Trust a certificate no longer
    Reject {
        /// Beginning of its fingerprint (SHA-1 or SHA-256, four digits or more), or its file name
        #[arg(value_name = "FINGERPRINT")]
        certificate: String,
    },
}

pub fn run(args: &TrustArgs, as_json: bool) -> Result<Answer, Fault> {
    let pki = &args.pki;
    match &args.what {
        Trust::List => {
            if !pki.is_dir() {
                return Err(format!("{} is no directory; name the agent's with --pki DIR", pki.display()).into());
            }
            show(&list(pki)?, as_json)
        }
        Trust::Approve { certificate } => {
            one("approved", approve(pki, certificate).context("nothing approved")?, as_json)
        }
        Trust::Reject { certificate } => {
            one("rejected", reject(pki, certificate).context("nothing rejected")?, as_json)
        }
    }
}

fn show(known: &[KnownCertificate], as_json: bool) -> Result<Answer, Fault> {
    if as_json {
        print_json(&json!({ "certificates": known.iter().map(described).collect::<Vec<_>>() }))?;
        return Ok(Answer::Yes);
    }
    if known.is_empty() {
        println!("no certificates yet: a secured OPC UA link makes ours and meets theirs");
    }
    for certificate in known {
        println!("{:<9} {}", certificate.list.to_string(), certificate.subject);
        println!("          SHA-1   {}", certificate.sha1);
        println!("          SHA-256 {}", certificate.sha256);
        println!("          valid {} to {}", certificate.not_before, certificate.not_after);
        println!("          {}", certificate.file.display());
    }
    Ok(Answer::Yes)
}

fn one(done: &str, certificate: KnownCertificate, as_json: bool) -> Result<Answer, Fault> {
    if as_json {
        print_json(&described(&certificate))?;
    } else {
        println!("{done}: {} (SHA-1 {})", certificate.subject, certificate.sha1);
        println!("now {}", certificate.file.display());
    }
    Ok(Answer::Yes)
}

fn described(certificate: &KnownCertificate) -> Value {
    json!({
        "list": certificate.list.word(),
        "subject": certificate.subject,
        "sha1": certificate.sha1,
        "sha256": certificate.sha256,
        "not_before": certificate.not_before.to_string(),
        "not_after": certificate.not_after.to_string(),
        "file": certificate.file.display().to_string(),
    })
}
