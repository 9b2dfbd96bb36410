//! `tally witness`: run one, set one up, look at one, compare what a log signed.

use super::keys;
use crate::answer::{Answer, Context, Fault, print_json};
use crate::flags::AccessFlags;
use crate::show;
use crate::shutdown::{on_signal_of_server, runtime};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tally_evidence::{Algorithm, Cosigner, LogKey, NoteVerifyingKey, Split, SplitFile, TreeNote};
use tally_ledger_client::{Client, NodeAddress};
use tally_ledger_node::witness::{Records, Watching, WitnessConfig};

/// Arguments of `witness`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
A witness signs the checkpoints of other people's ledgers, as long as they only grow. First steps:
  tally witness new w --name witness.fixit.example/w1 --watch press-line=press-line.pub.pem
  tally witness --config w/witness.yaml
Give w/witness.pub.pem and your address to whoever runs the ledger; he names them in `witnesses:` of his node.yaml.
A node can be a witness of other ledgers besides: `witness_for:` in its node.yaml.")]
pub struct WitnessArgs {
    /// What else than running one.
    #[command(subcommand)]
    pub command: Option<WitnessCommand>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/witness.yaml")]
    pub config: PathBuf,
}

/// Commands of `witness`.
#[derive(Debug, Subcommand)]
pub enum WitnessCommand {
    /// Make a folder with a key and a configuration; nothing in it is overwritten
    New {
        /// The folder; made if need be
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Name in its cosignatures, such as witness.fixit.example/w1
        #[arg(long, value_name = "NAME")]
        name: String,
        /// A ledger to watch and its public key (SPKI PEM). Repeatable
        #[arg(long, value_name = "LEDGER=FILE", required = true)]
        watch: Vec<String>,
        /// Kind of its key; P-256 when your tokens know nothing else
        #[arg(long, value_enum, default_value = "ed25519")]
        algorithm: keys::Kind,
    },
    /// Show what a running witness cosigned last; exit code 1 when it has an alarm
    Status {
        /// The witness, alone or a node: unix:/path/to/socket tcp:host:port, or with TLS tls:host:port
        #[arg(long, value_name = "ADDRESS", env = "TALLY_WITNESS", value_parser = crate::flags::address, default_value = "tcp:127.0.0.1:7470")]
        witness: NodeAddress,
        /// Who we are.
        #[command(flatten)]
        shown: AccessFlags,
    },
    /// Check offline what two signed checkpoints, or a split file, say of a ledger; exit code 1 when it has two histories
    Compare {
        /// A split file, or two signed checkpoints
        #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
        files: Vec<PathBuf>,
        /// The ledger's public key as you know it (SPKI PEM); without it the key in the split file is taken and shown
        #[arg(long, value_name = "FILE")]
        ledger_key: Option<PathBuf>,
    },
    /// Cosign a ledger again after its alarm was looked into; the witness must be stopped
    Settle {
        /// Which
        #[arg(value_name = "LEDGER")]
        origin: String,
        /// Also forget what was cosigned: begin anew with the ledger's next checkpoint, whatever it is
        #[arg(long)]
        forget: bool,
        /// Configuration file: witness.yaml, or node.yaml of a node that is a witness besides
        #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/witness.yaml")]
        config: PathBuf,
    },
}

pub fn run(args: WitnessArgs, json: bool) -> Result<Answer, Fault> {
    match args.command {
        None => serve(&args.config),
        Some(WitnessCommand::New { dir, name, watch, algorithm }) => new(&dir, &name, &watch, algorithm.into(), json),
        Some(WitnessCommand::Status { witness, shown }) => status(&witness, &shown, json),
        Some(WitnessCommand::Compare { files, ledger_key }) => compare(&files, ledger_key.as_deref(), json),
        Some(WitnessCommand::Settle { origin, forget, config }) => settle(&origin, forget, &config, json),
    }
}

fn serve(config: &Path) -> Result<Answer, Fault> {
    let config = WitnessConfig::load(config).context(config.display())?;
    runtime()?.block_on(async {
        tally_ledger_node::witness::run(config, on_signal_of_server()?).await.context("the witness stopped")?;
        Ok(Answer::Yes)
    })
}

fn new(dir: &Path, name: &str, logs: &[String], algorithm: Algorithm, json: bool) -> Result<Answer, Fault> {
    let mut lines = String::new();
    for log in logs {
        let (origin, file) = log.split_once('=').ok_or_else(|| format!("--watch {log}: write LEDGER=FILE"))?;
        let file = std::path::absolute(file)?;
        let pem = std::fs::read_to_string(&file).context(format_args!("reading {}", file.display()))?;
        NoteVerifyingKey::from_pem(&pem).context(file.display())?;
        lines += &format!("  - {{origin: {origin:?}, key: {:?}}}\n", file.display().to_string());
    }
    std::fs::create_dir_all(dir).context(format_args!("making {}", dir.display()))?;
    let config = dir.join("witness.yaml");
    if config.exists() {
        return Err(format!("{} exists; nothing was overwritten: name a new folder", config.display()).into());
    }
    let key = keys::create_note_key(&dir.join("witness.key"), algorithm)?;
    let cosigner = Cosigner::new(name, key.public().clone())?;
    let text = format!(
        "# A witness: tally witness --config {}\nname: {name:?}\nkey: witness.key\ndata: data\n\
         listen: [\"tcp:127.0.0.1:7470\"]\nlogs:\n{lines}",
        config.display()
    );
    WitnessConfig::parse(&text, dir)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    std::fs::write(&config, text).context(format_args!("writing {}", config.display()))?;
    let public = keys::public_path(&dir.join("witness.key"));
    if json {
        print_json(&json!({"config": config, "public": public, "vkey": cosigner.to_string()}))?;
    } else {
        println!("verifier key  {cosigner}");
        println!("Start it:            tally witness --config {}", config.display());
        println!("For the ledger's node.yaml, with {} beside it:", public.display());
        println!("  witnesses: {{need: 1, of: [{{name: {name:?}, key: witness.pub.pem, url: \"http://HOST:7470\"}}]}}");
    }
    Ok(Answer::Yes)
}

fn status(address: &NodeAddress, shown: &AccessFlags, json: bool) -> Result<Answer, Fault> {
    let asked = runtime()?.block_on(Client::new(address.clone()).with_access(shown.access()?).get_json("/status"));
    let mut status = asked.context(format_args!("asking the witness at {address}"))?;
    // A node that is a witness besides says so under a key of its own.
    if status["ledger"].is_string() {
        status = status["witness_for"].take();
        if status.is_null() {
            return Err(
                format!("the node at {address} is no witness: `witness_for` in its node.yaml makes it one").into()
            );
        }
    }
    let logs = status["logs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let has_alarm = logs.iter().any(|log| !log["alarm"].is_null());
    if json {
        print_json(&status)?;
    } else {
        println!("{} is {}", text(&status["vkey"]), text(&status["state"]));
        for log in logs {
            let last = match log["size"].as_u64() {
                Some(size) => format!("cosigned {size} entries, last at {}", seconds(&log["time"])),
                None => "nothing cosigned yet".to_owned(),
            };
            println!("  {:<20} {last}", text(&log["origin"]));
            if !log["alarm"].is_null() {
                println!("  ALARM                it has two histories: tally witness compare {}", text(&log["alarm"]));
            }
        }
    }
    Ok((!has_alarm && status["state"] == "running").into())
}

/// Seconds since 1970, as people write a time.
fn seconds(value: &Value) -> String {
    value.as_i64().and_then(|seconds| seconds.checked_mul(1_000_000)).map_or_else(|| show::word(value), show::time)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn compare(files: &[PathBuf], ledger_key: Option<&Path>, json: bool) -> Result<Answer, Fault> {
    let pinned = ledger_key.map(read_key).transpose()?;
    let (split, shown) = match files {
        [one, other] => {
            let key = pinned.clone().ok_or("two checkpoints say nothing without --ledger-key")?;
            let [one, other] = [read(one)?, read(other)?];
            let origin = one.split('\n').next().unwrap_or_default().to_owned();
            (SplitFile::new(LogKey::new(origin, key), one, other, None), "two checkpoints".to_owned())
        }
        [file, ..] => {
            let bytes = std::fs::read(file).context(format_args!("reading {}", file.display()))?;
            (SplitFile::decode(&bytes).context(file.display())?, file.display().to_string())
        }
        [] => return Err("nothing to compare".into()),
    };
    if let Some(key) = pinned.filter(|key| key != split.log.key()) {
        return Err(format!("{shown}: signed with {:?}, you trust {key:?}", split.log.key()).into());
    }
    let (found, notes) = split.check().context(&shown)?;
    tell(&split, found, &notes, json)?;
    Ok((!found.is_proved()).into())
}

fn tell(split: &SplitFile, found: Split, notes: &[TreeNote; 2], json: bool) -> Result<(), Fault> {
    let key = split.log.key().to_pem()?;
    if json {
        let note = |note: &TreeNote| json!({"size": note.size, "root": hex::encode(note.root)});
        return print_json(&json!({
            "ledger": split.log.origin(), "key": key, "notes": notes.iter().map(note).collect::<Vec<_>>(),
            "two_histories": found.is_proved(), "text": found.describe(),
        }));
    }
    println!("ledger {}, both signed with\n{key}", split.log.origin());
    for note in notes {
        println!("  {:>12} entries  {}", note.size, hex::encode(note.root));
    }
    println!("{}", found.describe());
    Ok(())
}

fn settle(origin: &str, forget: bool, config: &Path, json: bool) -> Result<Answer, Fault> {
    let watching = Watching::load(config).context(config.display())?;
    let records = Records::open(&watching.data).context("stop the witness first")?;
    let settled = records.settle(origin, forget)?;
    if json {
        print_json(&json!({"kept": settled.kept, "forgotten": settled.is_forgotten}))?;
        return Ok(Answer::Yes);
    }
    if let Some(kept) = settled.kept {
        println!("{origin} is cosigned again at the next start; the proof stays in {}", kept.display());
    }
    if settled.is_forgotten {
        println!("what was cosigned of {origin} is forgotten: its next checkpoint is taken, whatever it is");
    }
    Ok(Answer::Yes)
}

fn read(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file).context(format_args!("reading {}", file.display()))
}

/// A public key of either kind from a PEM file.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn read_key(file: &Path) -> Result<NoteVerifyingKey, Fault> {
    NoteVerifyingKey::from_pem(&read(file)?).context(file.display())
}
