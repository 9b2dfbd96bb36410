//! `tally browse opc.tcp://…`: walks a server and writes a mapping that `tally check` accepts.

mod mapping;

use crate::answer::{Answer, Context, Fault, print_json};
use crate::shutdown::runtime;
use clap::Args;
use mapping::{Head, mapping};
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tally_connector_opcua::{BrowseOptions, Settings, Survey, Visit};
use tally_model::{Address, DeviceId, Endpoint, OpcUaLimits, OpcUaPolicy, Secret, Security};

/// Patience with one request: small PLCs browse slowly.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `browse`.
#[derive(Debug, Args)]
#[command(after_help = "\
A server that is met for the first time is not trusted: look at `tally trust list`, then `tally trust approve`.
Types and units are taken from the server where it tells them; read the mapping before you use it.")]
pub struct BrowseArgs {
    /// The server
    #[arg(value_name = "opc.tcp://HOST:PORT")]
    pub url: String,
    /// Where the mapping goes; standard output without
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name of the device in the mapping
    #[arg(long, value_name = "NAME", default_value = "server-01")]
    pub id: DeviceId,
    /// Begin at this node instead of the Objects folder
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
    /// Steps away from the beginning
    #[arg(long, value_name = "STEPS", default_value_t = 20)]
    pub depth: usize,
    /// Points at most
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub max: usize,
    /// Nodes in one browse request, where the server takes fewer than it says
    #[arg(long, value_name = "COUNT")]
    pub nodes_per_browse: Option<u32>,
    /// Security policy, as in a mapping
    #[arg(long, value_name = "POLICY", default_value = "best")]
    pub policy: String,
    /// User name
    #[arg(long, value_name = "NAME", requires = "password_env")]
    pub user: Option<String>,
    /// Environment variable that holds the password
    #[arg(long, value_name = "VARIABLE", requires = "user")]
    pub password_env: Option<String>,
    /// The agent's pki directory
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pub pki: PathBuf,
    /// The agent whose certificate lies there
    #[arg(long, value_name = "NAME", default_value = "agent-01")]
    pub agent: String,
}

pub fn run(args: &BrowseArgs, as_json: bool) -> Result<Answer, Fault> {
    let Endpoint::OpcUa { url } = Endpoint::parse(&args.url)? else {
        return Err(format!("`{}` is no OPC UA server; write `opc.tcp://host:port`", args.url).into());
    };
    let security = security(args)?;
    let survey = runtime()?.block_on(walk(args, &url, &security))?;
    if survey.is_cut {
        eprintln!("tally: there is more than {} points; raise --max, or begin deeper with --from", args.max);
    }
    if as_json {
        print_json(&json!({
            "nodes": survey.nodes,
            "cut": survey.is_cut,
            "points": survey.points.iter().map(|point| json!({
                "path": point.path, "at": point.address, "type": point.kind, "unit": point.unit,
            })).collect::<Vec<_>>(),
        }))?;
    }
    if survey.points.is_empty() {
        eprintln!("tally: {} nodes looked at, and none of them has a value of its own", survey.nodes);
        return Ok(Answer::No);
    }
    let head = Head { device: &args.id, url: &url, security: &security, password_env: args.password_env.as_deref() };
    let text = mapping(&head, &survey);
    match &args.output {
        Some(file) => {
            std::fs::write(file, &text).context(format_args!("writing {}", file.display()))?;
            eprintln!("tally: {} points of {} nodes written to {}", survey.points.len(), survey.nodes, file.display());
        }
        None if as_json => {}
        None => print!("{text}"),
    }
    Ok(Answer::Yes)
}

async fn walk(args: &BrowseArgs, url: &str, security: &Security) -> Result<Survey, Fault> {
    let settings = Settings {
        pki: args.pki.clone(),
        application_name: format!("Tallystick agent {}", args.agent),
        application_uri: format!("urn:tallystick:agent:{}", args.agent),
        trust_any: false,
    };
    let from = args.from.as_deref().map(Address::parse_opcua).transpose().context("--from")?;
    let options = BrowseOptions { from, depth: args.depth, points_max: args.max };
    let limits = OpcUaLimits { nodes_per_browse: args.nodes_per_browse, ..OpcUaLimits::default() };
    let visit = Visit::open(url, security, &settings, &limits, TIMEOUT).await.context(url)?;
    let survey = visit.browse(&options).await.context(url);
    visit.close().await;
    survey
}

fn security(args: &BrowseArgs) -> Result<Security, Fault> {
    let words = OpcUaPolicy::ALL.map(OpcUaPolicy::word);
    let deserializer = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&args.policy);
    let policy = OpcUaPolicy::deserialize(deserializer)
        .map_err(|_| format!("--policy: `{}` is none; there are: {}", args.policy, words.join(", ")))?;
    let password = match &args.password_env {
        None => None,
        Some(name) => {
            let password = std::env::var(name).map_err(|_| format!("the environment variable `{name}` is not set"))?;
            Some(Secret::new(password))
        }
    };
    Ok(Security { policy, user: args.user.clone(), password, insecure: policy.is_deprecated(), ..Security::default() })
}
