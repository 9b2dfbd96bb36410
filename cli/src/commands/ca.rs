//! `tally ca init|issue|renew|invite|serve`: certificates for a plant that has no authority of its own.

use super::token::unix_now;
use crate::answer::{Answer, Context, Fault, print_json};
use crate::shutdown::{on_signal_of_server, runtime};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tally_ca::{Asked, Authority, CA_DAYS, Est, Issued, LEAF_DAYS, routes};
use tally_door::{Bound, Door, DoorLimits, Listen, Secure, Tallies};
use tally_model::{Timestamp, parse_duration};
use tally_tls::{Expiring, ServerTls, Stage};

/// Arguments of `ca`.
#[derive(Debug, Args)]
#[command(after_help = "\
A plant with its own authority needs none of this: give its certificate to node.yaml as `tls.client_ca` and to agents as `tls.ca`.

Examples:
  tally ca init --dir ca --name 'Plant 7 CA'
  tally ca issue node.plant 10.0.0.5 --dir ca -o tls        the node's certificate: tls/node.plant.pem, .key and tls/ca.pem
  tally ca issue --csr agent-01.csr --dir ca -o tls         for a key that stays where it was made
  tally ca invite agent-01 --dir ca                         a code; on the agent's machine then:
  tally enrol agent-01 --at tls:ca.plant:7480 --ca ca.pem --code agent-01.code -o tls
  tally ca serve --dir ca --listen 10.0.0.4:7480 --host ca.plant   enrolment over HTTPS (EST, RFC 7030)
  tally ca renew tls/node.plant.pem --dir ca

Certificates open connections and nothing else: what is registered on the ledger does not end with them.")]
pub struct CaArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// Commands of `ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Begin an authority: its key and its certificate
    Init {
        /// What it is called, in every certificate
        #[arg(long, value_name = "NAME", default_value = "Tallystick plant CA")]
        name: String,
        /// How long its certificate lasts
        #[arg(long, value_name = "DAYS", default_value_t = CA_DAYS, value_parser = clap::value_parser!(u32).range(1..=7300))]
        days: u32,
        /// Its folder.
        #[command(flatten)]
        dir: CaDir,
    },
    /// Issue a certificate with a fresh key, or for a request (PKCS#10)
    Issue {
        /// Names: the first is the common name and names the files; DNS names and addresses are what a server is dialled by
        #[arg(value_name = "NAME", required_unless_present = "csr")]
        names: Vec<String>,
        /// A request, PEM or DER; all its names are granted, so look at it first
        #[arg(long, value_name = "FILE", conflicts_with = "names")]
        csr: Option<PathBuf>,
        /// How long it lasts
        #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// Where the files go; nothing is overwritten
        #[arg(short, long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
        /// The authority.
        #[command(flatten)]
        dir: CaDir,
    },
    /// Renew a certificate that this authority issued, for the same key and names, in its place
    Renew {
        /// The certificate
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How long the new one lasts
        #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The authority.
        #[command(flatten)]
        dir: CaDir,
    },
    /// Make a code with which one name can be enrolled, once; it is shown now and never again
    Invite {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
        /// How long it counts
        #[arg(long = "for", value_name = "TIME", default_value = "7d")]
        lasts: String,
        /// The authority.
        #[command(flatten)]
        dir: CaDir,
    },
    /// Answer enrolments over HTTPS (EST, RFC 7030)
    Serve {
        /// An address and a port
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7480")]
        listen: SocketAddr,
        /// What clients dial it by; names and addresses in its certificate. Repeatable
        #[arg(long = "host", value_name = "NAME", default_value = "localhost")]
        hosts: Vec<String>,
        /// How long certificates last
        #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// The authority.
        #[command(flatten)]
        dir: CaDir,
    },
}

/// Where the authority is.
#[derive(Debug, Args)]
pub struct CaDir {
    /// The authority's folder: key, certificate, everything issued. Keep it off the machines that it vouches for
    #[arg(long = "dir", value_name = "DIR", default_value = "/etc/tallystick/ca")]
    pub path: PathBuf,
}

pub fn run(args: &CaArgs, json: bool) -> Result<Answer, Fault> {
    match &args.command {
        CaCommand::Init { name, days, dir } => {
            Authority::init(&dir.path, name, *days, unix_now())?;
            let file = dir.path.join("ca.pem");
            eprintln!(
                "begun; give {} to nodes and agents, and keep {} to yourself",
                file.display(),
                dir.path.display()
            );
        }
        CaCommand::Issue { names, csr, days, output, dir } => {
            let authority = Authority::open(&dir.path)?;
            let issued = match csr {
                None => authority.issue_into(output, names, *days, unix_now())?,
                Some(file) => for_request(&authority, file, output, *days)?,
            };
            tell(&issued, json)?;
        }
        CaCommand::Renew { file, days, dir } => {
            tell(&Authority::open(&dir.path)?.renew(file, *days, unix_now())?, json)?;
        }
        CaCommand::Invite { name, lasts, dir } => {
            let until = unix_now() + parse_duration(lasts)?.as_secs();
            let code = Est::invite(&Authority::open(&dir.path)?, name, unix_now(), until)?;
            println!("{code}");
            eprintln!("This is the only time the code for {name} is seen. It counts once, until {}.", time(until));
        }
        CaCommand::Serve { listen, hosts, days, dir } => serve(&dir.path, *listen, hosts, *days)?,
    }
    Ok(Answer::Yes)
}

fn for_request(authority: &Authority, file: &Path, output: &Path, days: u32) -> Result<Issued, Fault> {
    let bytes = std::fs::read(file).context(file.display())?;
    let asked = Asked::read(&tally_ca::request_bytes(&bytes)?)?;
    let issued = authority.issue(&asked, days, unix_now())?;
    std::fs::create_dir_all(output).context(output.display())?;
    tally_ca::write_new(&output.join(format!("{}.pem", issued.names[0])), 0o644, &issued.pem)?;
    Ok(issued)
}

fn tell(issued: &Issued, json: bool) -> Result<(), Fault> {
    if json {
        return print_json(&serde_json::json!({
            "names": issued.names, "serial": issued.serial, "until": time(issued.ends), "certificate": issued.pem,
        }));
    }
    println!("{}: serial {}, until {}", issued.names.join(", "), issued.serial, time(issued.ends));
    Ok(())
}

fn time(seconds: u64) -> String {
    Timestamp::from_micros(i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000)).to_string()
}

fn serve(dir: &Path, listen: SocketAddr, hosts: &[String], days: u32) -> Result<(), Fault> {
    let authority = Authority::open(dir)?;
    let files = own_certificate(&authority, hosts, days)?;
    let door = Door { secure: Some(Secure::open(files)?), limits: DoorLimits::default(), tallies: Tallies::default() };
    let est = Arc::new(Est::new(authority, days)?);
    runtime()?.block_on(async {
        let bound = Bound::bind(&[Listen::Tls(listen)], door).await?;
        tracing::info!(places = ?bound, "enrolment listens");
        // For scripts and tests: the port may have been 0.
        println!("ready {}", bound.places().first().map(ToString::to_string).unwrap_or_default());
        bound.serve(routes(est), on_signal_of_server()?).await;
        Ok(())
    })
}

/// The server's own certificate, from its own authority; a new one when it ends within a month or names other hosts.
fn own_certificate(authority: &Authority, hosts: &[String], days: u32) -> Result<ServerTls, Fault> {
    let [certificate, key] = ["pem", "key"].map(|ending| authority.dir().join(format!("server.{ending}")));
    let is_good = Expiring::read(&certificate).is_ok_and(|found| found.stage(unix_now()) < Stage::Month)
        && tally_ca::names_of(&certificate).is_ok_and(|names| hosts.iter().all(|host| names.contains(host)));
    if !is_good {
        for old in [&certificate, &key].into_iter().filter(|file| file.exists()) {
            std::fs::remove_file(old).context(old.display())?;
        }
        let names: Vec<String> = [&["server".to_owned()][..], hosts].concat();
        authority.issue_into(authority.dir(), &names, days, unix_now())?;
    }
    let client_ca = Some(authority.dir().join("ca.pem"));
    Ok(ServerTls { certificate, key, client_ca, is_optional: true, crl: None })
}
