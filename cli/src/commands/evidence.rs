//! `tally evidence ID -o FILE`: the node's proofs and the agent's readings, in one file.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::timestamp::{AuthorityFlags, AuthorityUrl};
use crate::commands::timestamp::{from_authority, in_words};
use crate::flags::{AgentFlag, FileForm, NodeFlag};
use crate::shutdown::runtime;
use clap::Args;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_evidence::{EvidenceFile, SignedStatement, Stamped, StatementKind, StatementName, json};
use tally_ledger_client::{Client, RequestError};
use tally_verifier::verify;

/// Arguments of `evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// The order, such as mo-1
    #[arg(value_name = "ID")]
    pub id: String,
    /// Where the evidence file goes
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How the file is written; `tally verify` reads both
    #[arg(long, value_enum, default_value = "cbor")]
    pub format: FileForm,
    /// Have this authority put its time to the file (RFC 3161); `tally timestamp` does it later, or without a network
    #[arg(long, value_name = "URL")]
    pub timestamp: Option<AuthorityUrl>,
    /// Whose time-stamps count.
    #[command(flatten)]
    pub authority: AuthorityFlags,
    /// The agent, which keeps the readings.
    #[command(flatten)]
    pub agent: AgentFlag,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

pub fn run(args: &EvidenceArgs, is_json: bool) -> Result<Answer, Fault> {
    let (node, agent) = (args.node.client()?, args.agent.client(&args.node.shown)?);
    let runtime = runtime()?;
    if let Err(RequestError::Refused { status: 404, .. }) =
        runtime.block_on(node.get_json(&format!("/agreements/{}", args.id)))
    {
        eprintln!("there is no order {}; `tally orders` lists them", args.id);
        return Ok(Answer::No);
    }
    let mut bytes = runtime.block_on(collect(&args.id, &node, &agent))?;
    drop(runtime);
    if let Some(url) = &args.timestamp {
        let mut stamped = Stamped::split(&bytes).context("the evidence file")?;
        let Some(stamp) = from_authority(&mut stamped, url, &args.authority)? else { return Ok(Answer::No) };
        if !is_json {
            println!("{}", in_words(&stamp));
        }
        bytes = stamped.encode().context("the evidence file")?;
    }
    let bytes = in_form(bytes, args.format)?;
    write_whole(&args.output, &bytes)?;
    let report = verify(&bytes, None);
    if is_json {
        print_json(&serde_json::json!({"file": args.output, "bytes": bytes.len(), "holds": report.all_hold()}))?;
    } else {
        println!("{}: {} bytes; check it with `tally verify {0}`", args.output.display(), bytes.len());
    }
    Ok(report.all_hold().into())
}

/// Puts the evidence of an agreement together.
///
/// # Errors
/// When node or agent do not answer, or the agent no longer has the readings.
pub async fn collect(id: &str, node: &Client, agent: &Client) -> Result<Vec<u8>, Fault> {
    let bytes =
        node.get_bytes(&format!("/agreements/{id}/evidence")).await.context("asking the node for its proofs")?;
    let mut file = EvidenceFile::decode(&bytes).context("the node's proofs")?;
    for entry in &mut file.entries {
        let statement = SignedStatement::parse(&entry.statement).context("a statement in the node's proofs")?;
        if matches!(statement.kind, StatementKind::Trigger | StatementKind::Batch) {
            let item = entry.batched.as_ref().map(|batched| batched.item);
            let path = format!("/disclosures/{}", StatementName { statement: statement.id, item });
            let disclosure = agent.get_bytes(&path).await.context("asking the agent for the readings of a trigger")?;
            entry.disclosure = Some(disclosure);
        }
    }
    Ok(file.encode())
}

/// `file` (CBOR) in the form asked for.
///
/// # Errors
/// When it is no file of ours.
pub fn in_form(file: Vec<u8>, form: FileForm) -> Result<Vec<u8>, Fault> {
    match form {
        FileForm::Cbor => Ok(file),
        FileForm::Json => Ok(json::to_json(&file).context("writing the file as JSON")?.into_bytes()),
    }
}

/// Writes a file so that it is there whole or not at all.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let shown = file.display();
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder).context(format_args!("writing {shown}"))?;
    std::io::Write::write_all(&mut temporary, bytes).context(format_args!("writing {shown}"))?;
    // Evidence is for others to read; a temporary file begins as readable for its owner only.
    let readable = std::fs::Permissions::from_mode(0o644);
    temporary.as_file().set_permissions(readable).context(format_args!("writing {shown}"))?;
    temporary.as_file().sync_all().context(format_args!("writing {shown}"))?;
    temporary.persist(file).context(format_args!("writing {shown}"))?;
    Ok(())
}
