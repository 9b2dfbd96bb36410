//! `tally token add|list|revoke`: who may do what at the node's interface.

use crate::answer::{Answer, Context, Fault, print_json};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_door::{NewToken, Tokens};
use tally_ledger_node::{NodeConfig, Role};
use tally_model::{Timestamp, parse_duration};

/// Arguments of `token`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tally token add anna --role operator --for 90d        shows the token once; the file keeps its digest only
  tally token add prometheus --role auditor --write /etc/prometheus/tally.token
  tally token list
  tally token revoke anna                               counts at the node's next request

Roles: agent submits and reads what becomes of it; operator may everything; auditor reads everything; regulator reads the
ledger and may call contracts. A seal is checked besides, whatever the role.
Use: tally status --node tls:node.plant:7460 --ca ca.pem --token FILE, or the header `Authorization: Bearer TOKEN`.")]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// Which file.
#[derive(Debug, Args)]
pub struct TokenFile {
    /// The node's configuration, whose `access.tokens` names the file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
    /// The file of tokens itself
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
}

/// Commands of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and show it, once
    Add {
        /// Who gets it: a person or a program; stands in the log when it is refused something. With the id of a party it sees
        /// what that party may see
        #[arg(value_name = "NAME")]
        name: String,
        /// What it opens
        #[arg(long, value_enum)]
        role: RoleWord,
        /// How long it counts, such as 90d; until it is revoked when not said
        #[arg(long = "for", value_name = "TIME")]
        lasts: Option<String>,
        /// Write it there (mode 0600) instead of showing it
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// Which file.
        #[command(flatten)]
        file: TokenFile,
    },
    /// Who has a token, with which role and until when
    List {
        /// Which file.
        #[command(flatten)]
        file: TokenFile,
    },
    /// End a token
    Revoke {
        /// Whose
        #[arg(value_name = "NAME")]
        name: String,
        /// Which file.
        #[command(flatten)]
        file: TokenFile,
    },
}

/// Roles, as in `--role`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleWord {
    /// Submits, and reads what becomes of it
    Agent,
    /// Everything
    Operator,
    /// Reads everything
    Auditor,
    /// Reads the ledger, may call contracts
    Regulator,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Agent => Self::Agent,
            RoleWord::Operator => Self::Operator,
            RoleWord::Auditor => Self::Auditor,
            RoleWord::Regulator => Self::Regulator,
        }
    }
}

impl TokenFile {
    fn path(&self) -> Result<PathBuf, Fault> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let config = NodeConfig::load(&self.config).context(self.config.display())?;
        let hint = "write `access: {tokens: tokens.json}` into it, or name the file with --file";
        config.access.tokens.ok_or_else(|| format!("{} names no token file; {hint}", self.config.display()).into())
    }
}

pub fn run(args: &TokenArgs, json: bool) -> Result<Answer, Fault> {
    match &args.command {
        TokenCommand::Add { name, role, lasts, write, file } => {
            let lasts = lasts.as_deref().map(parse_duration).transpose()?;
            let now = unix_now();
            let role = Role::from(*role).word();
            let new = NewToken { name, role, now, until: lasts.map(|time| now + time.as_secs()), once: false };
            let token = Tokens::add(&file.path()?, &new)?;
            match write {
                Some(to) => super::keys::write_new(to, 0o600, format!("{token}\n").as_bytes())?,
                None if json => print_json(&serde_json::json!({"name": name, "role": role, "token": token}))?,
                None => println!("{token}"),
            }
            eprintln!("This is the only time the token of {name} is seen. It counts from now on.");
            Ok(Answer::Yes)
        }
        TokenCommand::List { file } => list(&file.path()?, json),
        TokenCommand::Revoke { name, file } => {
            Tokens::revoke(&file.path()?, name)?;
            eprintln!("the token of {name} is revoked");
            Ok(Answer::Yes)
        }
    }
}

fn list(file: &std::path::Path, json: bool) -> Result<Answer, Fault> {
    let tokens = if file.exists() { Tokens::list(file)? } else { Vec::new() };
    let time = |seconds: u64| Timestamp::from_micros(i64::try_from(seconds).unwrap_or(0) * 1_000_000).to_string();
    if json {
        let lines = tokens.iter().map(|token| {
            serde_json::json!({
                "name": token.name, "role": token.role, "made": time(token.made), "until": token.until.map(time),
            })
        });
        print_json(&lines.collect::<Vec<_>>())?;
        return Ok(Answer::Yes);
    }
    for token in &tokens {
        let until = token.until.map_or_else(|| "revoked".to_owned(), time);
        println!("{:24} {:10} made {}, until {until}", token.name, token.role, time(token.made));
    }
    Ok(Answer::Yes)
}

/// Seconds since 1970 by this computer's clock.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
