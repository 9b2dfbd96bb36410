//! `tally disclose` and `tally purge`: private fields of calls, shown one by one, and erased.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::call::{Wish, show, submit};
use crate::commands::evidence::{in_form, write_whole};
use crate::commands::verify::read_key;
use crate::flags::FileForm;
use crate::flags::{CallerFlags, NodeFlag};
use crate::show::one_line;
use crate::shutdown::runtime;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tally_evidence::cbor::{int, text};
use tally_ledger_client::{Client, RequestError};
use tally_verifier::verify;

/// Arguments of `disclose`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --field it lists the private fields of the call and what became of them, and shows none of them.
With --field it writes one field in clear with everything needed to check offline that it is what was sealed; the call's other private
fields stay closed. Whoever has the file can show it to others.
Examples:
  tally disclose 42
  tally disclose 42 --field remark --output remark.field && tally verify remark.field --ledger-key node.pub.pem
  tally disclose 42 --field remark --format json --output remark.json && less remark.json")]
pub struct DiscloseArgs {
    /// The call: its index, or its statement id (64 hexadecimal digits)
    #[arg(value_name = "ENTRY")]
    entry: String,
    /// The private field to show
    #[arg(long, value_name = "NAME", requires = "output")]
    field: Option<String>,
    /// Where the file goes
    #[arg(short, long, value_name = "FILE", requires = "field")]
    output: Option<PathBuf>,
    /// How the file is written; `tally verify` reads both
    #[arg(long, value_enum, default_value = "cbor", requires = "field")]
    format: FileForm,
    /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken
    #[arg(long, value_name = "FILE")]
    ledger_key: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    node: NodeFlag,
}

pub fn disclose(args: &DiscloseArgs, is_json: bool) -> Result<Answer, Fault> {
    let client = args.node.client()?;
    let (Some(field), Some(output)) = (&args.field, &args.output) else { return list(&client, &args.entry, is_json) };
    let path = format!("/entries/{}/private/{field}", args.entry);
    let bytes = match runtime()?.block_on(client.get_bytes(&path)) {
        Err(RequestError::Refused { status: 404 | 410, text, .. }) => {
            eprintln!("{}", one_line(&text));
            return Ok(Answer::No);
        }
        answer => answer.context("asking the node for the field")?,
    };
    let pinned = args.ledger_key.as_deref().map(read_key).transpose()?;
    let bytes = in_form(bytes, args.format)?;
    let report = verify(&bytes, pinned.as_ref());
    write_whole(output, &bytes)?;
    if is_json {
        print_json(&json!({
            "file": output, "bytes": bytes.len(), "holds": report.all_hold(), "shown": report.story,
            "broken": report.first_broken(),
        }))?;
    } else {
        for line in &report.story {
            println!("{line}");
        }
        match report.first_broken() {
            Some(link) => println!("DOES NOT HOLD: {} of {}: {}", link.step, link.about, link.detail),
            None => println!("{}: {} bytes; check it with `tally verify {0}`", output.display(), bytes.len()),
        }
    }
    Ok(report.all_hold().into())
}

fn list(client: &Client, entry: &str, is_json: bool) -> Result<Answer, Fault> {
    let found = runtime()?.block_on(client.get_json(&format!("/entries/{entry}/private")));
    let found = found.context("asking the node for private fields")?;
    if is_json {
        print_json(&found)?;
        return Ok(Answer::Yes);
    }
    let fields = found["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    if fields.is_empty() {
        println!("entry {} has no private fields (or the contracts refused it)", found["entry"]);
    }
    for field in fields {
        println!("{}", line(field, found["follows"] == true));
    }
    Ok(Answer::Yes)
}

fn line(field: &Value, follows: bool) -> String {
    let word = |value: &Value| one_line(value.as_str().unwrap_or("?"));
    let (name, by) = (word(&field["field"]), word(&field["submitter"]));
    let became = match field["state"].as_str() {
        Some("kept") => "kept; --field shows it".to_owned(),
        Some("purged") => {
            let how = &field["purged"];
            format!("purged by {} (entry {}): {}", word(&how["by"]), how["entry"], word(&how["reason"]))
        }
        _ if follows => {
            "not kept here: this node follows another one, which hands it to nobody that does; ask there".to_owned()
        }
        _ => {
            "not kept here: never sent along, gone with its statement, or left behind by `tally ledger join`".to_owned()
        }
    };
    format!("{name:<20} of {by:<16} {became}")
}

/// Arguments of `purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Who may: whoever submitted the field, or an admin of the ledger. The purge is a call like any other, and stays in the ledger with its
reason: do not repeat there what is purged. When it is done the node has erased the field; receipts, proofs and the state stay as they were.
Copies that were made before (backups, archives, files of `tally disclose`) cannot be recalled: docs/operator/privacy.md.
Example:
  tally purge 42 --field remark --reason 'request of 21 November' --as acme --key keys/acme.key")]
pub struct PurgeArgs {
    /// The call: its index, or its statement id (64 hexadecimal digits)
    #[arg(value_name = "ENTRY")]
    entry: String,
    /// The private field to erase
    #[arg(long, value_name = "NAME")]
    field: String,
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks.
    #[command(flatten)]
    caller: CallerFlags,
}

pub fn purge(args: &PurgeArgs, is_json: bool) -> Result<Answer, Fault> {
    let signer = args.caller.signer()?;
    runtime()?.block_on(async {
        let client = args.caller.client()?;
        let found =
            client.get_json(&format!("/entries/{}/private", args.entry)).await.context("looking for the call")?;
        let entry = found["entry"].as_u64().ok_or("the node does not say which entry it is")?;
        let arguments = [("entry", int(entry)), ("field", text(&*args.field)), ("reason", text(&*args.reason))];
        let arguments: BTreeMap<_, _> = arguments.map(|(name, value)| (name.to_owned(), value)).into();
        let wish = Wish { contract: "privacy", action: "purge", agreement: None, arguments };
        let done = submit(&client, &signer, wish).await?;
        show(&done, is_json)?;
        Ok(done.refusal.is_none().into())
    })
}
