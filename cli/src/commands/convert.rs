//! `tally convert FILE -o FILE`: CBOR to JSON, or JSON to CBOR. Nothing is lost on the way: there and back gives the same bytes.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::evidence::{in_form, write_whole};
use crate::commands::verify::read_file;
use crate::flags::FileForm;
use std::path::PathBuf;
use tally_evidence::json;

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0: converted. 1: converted to CBOR, but the JSON showed something else than its bytes say; the place is named.
This checks no seal: `tally verify` does, of both forms.
Example:
  tally convert mo-1.tally -o mo-1.json && less mo-1.json && tally verify mo-1.json")]
pub struct ConvertArgs {
    /// Evidence file, coverage file of `tally prove`, or field file of `tally disclose`; CBOR becomes JSON, JSON becomes CBOR
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the other form goes
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub fn run(args: &ConvertArgs, is_json: bool) -> Result<Answer, Fault> {
    let file = read_file(&args.file)?;
    let shown = args.file.display();
    let (bytes, mismatches) = if json::is_json(&file) {
        let read = json::from_json(&file).context(shown)?;
        (read.cbor, read.mismatches)
    } else {
        (in_form(file, FileForm::Json).context(shown)?, Vec::new())
    };
    write_whole(&args.output, &bytes)?;
    let places: Vec<_> = mismatches.iter().map(|mismatch| mismatch.path.as_str()).collect();
    if is_json {
        print_json(&serde_json::json!({"file": args.output, "bytes": bytes.len(), "mismatches": places}))?;
    } else {
        println!("{}: {} bytes", args.output.display(), bytes.len());
        places.iter().for_each(|place| println!("  shown, but not what the bytes say: {place}"));
    }
    Ok(places.is_empty().into())
}
