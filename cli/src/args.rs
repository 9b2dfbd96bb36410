//! The command line, described once: `--help` is made from this.

use crate::flags::{AccessFlags, AgentFlag, CallerFlags, NodeFlag};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// From a PLC register to a paid work order: no unsigned hop in between.
#[derive(Debug, Parser)]
#[command(name = "tally", version, arg_required_else_help = true, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Answer as JSON on standard output instead of text for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// Form of the log on standard error; TALLY_LOG=debug shows more.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log: LogForm,
}

const AFTER_HELP: &str = "\
First steps:
  tally demo                          watch a bearing wear out and its repair being paid
  tally check plants/my-line.yaml     find every mistake in a mapping, without connecting
  tally plan  plants/my-line.yaml     see what would be asked of the devices
  tally sim --mapping plants/my-line.yaml   simulate all its devices on this computer
  tally verify evidence.tally         check an evidence file, offline

Exit codes: 0 yes or done, 1 the answer is no, 2 usage or environment.";

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands, in the order in which one meets them.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the whole path: simulated PLCs, agent and ledger as real processes, from wear to payment
    Demo(DemoArgs),
    /// Check mapping files and report every fault at once, without connecting
    Check(CheckArgs),
    /// Show the requests a mapping leads to, and how often each device can be read
    Plan(PlanArgs),
    /// Look at a live Modbus device: a value as every type in every order side by side, and what the device says it is
    Probe(ProbeArgs),
    /// Walk an OPC UA server and write a mapping of what it has
    Browse(crate::commands::browse::BrowseArgs),
    /// Which OPC UA servers the agent trusts: list, approve, reject
    Trust(crate::commands::trust::TrustArgs),
    /// Make a new site folder: keys, genesis, configuration of node, agent and simulator
    Init(InitArgs),
    /// Run simulated PLCs and sensors from a YAML file
    Sim(SimArgs),
    /// Run the edge agent: read devices, seal triggers, submit them
    Agent(AgentArgs),
    /// Run the ledger node
    Node(NodeArgs),
    /// Be a witness of other people's ledgers: sign their checkpoints as long as they only grow
    Witness(crate::commands::witness::WitnessArgs),
    /// Make and show keys
    Keys(KeysArgs),
    /// A small certificate authority for TLS: begin, issue, renew, and answer enrolments
    Ca(crate::commands::ca::CaArgs),
    /// Get or renew a certificate for TLS from the plant's authority (EST, RFC 7030)
    Enrol(crate::commands::enrol::EnrolArgs),
    /// Who may do what at the node's interface: make, list and revoke tokens
    Token(crate::commands::token::TokenArgs),
    /// Ask a contract for something, sealed with your key
    Call(CallArgs),
    /// Who may have what read, written or called on a device: policies, one-time permits, revocation, quarantine
    Access(crate::commands::access::AccessArgs),
    /// Who is who: look somebody up at a height, rotate and recover keys, bind and hand over devices
    Registry(crate::commands::registry::RegistryArgs),
    /// List work orders and other agreements
    Orders(OrdersArgs),
    /// Show one order with its history
    Order(OrderArgs),
    /// Show accounts and whether the totals are conserved
    Balance(BalanceArgs),
    /// Look around in the ledger: entries, blocks, proofs
    Ledger(LedgerArgs),
    /// Ask about agreements, entries and histories, count and add up, or ask in SQL
    Query(crate::commands::query::QueryArgs),
    /// Copy the ledger while the node works, and check the copy
    Backup(crate::commands::backup::BackupArgs),
    /// Make a ledger from such a copy, checking every byte and executing every block again
    Restore(crate::commands::backup::RestoreArgs),
    /// Write the evidence file of an order
    Evidence(EvidenceArgs),
    /// Prove that no reading of a device is missing between two times, or name the gaps
    Prove(crate::commands::prove::ProveArgs),
    /// Show one private field of a call, in a file that anyone can check; without --field list them
    Disclose(crate::commands::private::DiscloseArgs),
    /// Have a private field of a call erased: a call, sealed and logged, that leaves every proof as it was
    Purge(crate::commands::private::PurgeArgs),
    /// Have an authority put its time to an evidence or coverage file (RFC 3161), over the network or on a stick
    Timestamp(crate::commands::timestamp::TimestampArgs),
    /// Check an evidence, coverage or field file offline, link by link
    Verify(VerifyArgs),
    /// Turn an evidence or coverage file into JSON for people, or back, without losing a byte
    Convert(crate::commands::convert::ConvertArgs),
    /// Show what the agent is doing: links, triggers, outbox
    Status(StatusArgs),
    /// Have the agent read its mapping anew: what did not change goes on, a file with a fault changes nothing
    Reload(StatusArgs),
    /// Measure this machine: field, ledger, and the path between them
    Bench(BenchArgs),
}

impl Command {
    /// Whether keys may come into its memory: all but the simulator and the bench, whose keys are toys.
    pub const fn holds_keys(&self) -> bool {
        !matches!(self, Self::Sim(_) | Self::Bench(_))
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
The demo starts three child processes (sim, node, agent) and a broker on loopback, and needs no network beyond that.
Its files stay in --dir: look at the mapping, the logs and the evidence file afterwards.")]
pub struct DemoArgs {
    /// Stop after the first paid order; exit code 0 only if it was paid, totals are conserved and the evidence holds
    #[arg(long)]
    pub once: bool,
    /// Use this MQTT broker instead of an embedded one
    #[arg(long, value_name = "mqtt://HOST:PORT")]
    pub broker: Option<String>,
    /// Where its files go; made new, must not hold an earlier demo
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Mapping files; agent.yaml, node.yaml and witness.yaml are checked too
    #[arg(required_unless_present = "schema", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also run the tests inside the files
    #[arg(long)]
    pub test: bool,
    /// Print the JSON Schema of mapping files, for editors
    #[arg(long)]
    pub schema: bool,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Mapping file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Also write each rule's canonical bytes to DIR/DEVICE.TRIGGER.rule, for the genesis file or `call registry register-rule`
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
}

/// Arguments of `probe`.
#[derive(Debug, Args)]
#[command(after_help = "\
It reads only. Examples:
  tally probe modbus+tcp://10.0.0.7?unit=1 holding:16
  tally probe 'modbus+rtu:///dev/ttyUSB0?baud=9600&parity=none&unit=3' 40017 30001 coil:0
  tally probe modbus+tls://10.0.0.7 holding:16 --ca plant-ca.pem --certificate us.pem --key us.key")]
pub struct ProbeArgs {
    /// Where it is, as `connect:` in a mapping
    #[arg(value_name = "URL")]
    pub url: String,
    /// What to read, as `at:` in a mapping: `holding:16`, `HR16`, `40017`, `4x17`, `coil:0`
    #[arg(value_name = "AT")]
    pub at: Vec<String>,
    /// Registers or bits to read from each; fewer where the device has no more
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=125))]
    pub count: u16,
    /// Numbers behind `holding:` and `HR` begin with 1, not with 0
    #[arg(long)]
    pub from_one: bool,
    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub timeout: String,
    /// TLS: certificates of the authorities that may have signed the device's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// TLS: SHA-256 of the device's own certificate
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    pub pin: Option<String>,
    /// TLS: our certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// TLS: the key of our certificate
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The folder; made if need be, nothing in it is overwritten
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// A mapping to copy into the folder, with its data sheets and recordings; the press line of the demo otherwise
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Name of the ledger; every statement names it as its audience
    #[arg(long, value_name = "NAME", default_value = "press-line")]
    pub ledger: String,
    /// The MQTT broker that SCADA listens to
    #[arg(long, value_name = "mqtt://HOST:PORT", default_value = "mqtt://127.0.0.1:1883")]
    pub broker: String,
}

/// Arguments of `sim`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tally sim plant-sim.yaml                            what the file says: devices, signals, faults at their times
  tally sim --mapping plants/my-line.yaml             every point of a mapping, with plausible values
  tally sim --mapping plants/my-line.yaml --write DIR the same as files to change: DIR/sim.yaml, and the mapping with the
                                                      addresses of the simulation where the real ones are elsewhere

It prints `ready DEVICE=URL ...` when everything listens. Then commands, one a line, on standard input or --socket:
  get press-01 vibration              what a signal says
  set press-01 vibration 9.5          hold it there; `release` lets it go, `freeze` holds it where it is
  repair press-01                     what wears out is new again
  break press-01 delay 2s for 10s     make something go wrong; `heal` ends it, `faults` shows it. There are:
                                      drop, hang-up, delay TIME, exception CODE, garbage, half, frozen, uncertain, bad,
                                      wrong unit|function|transaction|protocol|length|checksum, clock +-TIME, exchanged
  break press-01 bad on vibration     the same for single signals (frozen, uncertain, bad)
  help                                all of them

A simulation file in short (the manual is docs/operator/simulator.md):
  models:
    bearing: {kind: wear, healthy: 2.1, worn: 9, wears_out_in: 60s, noise: 0.1}
  devices:
    - id: press-01
      serve: modbus+tcp://127.0.0.1:5020?unit=1      # also +tls, +rtu, +ascii, +rtu+tcp, +ascii+tcp, opc.tcp, mqtt
      faults:
        - {at: 30s, for: 5s, what: exception, of: 6}
      signals:
        - {id: vibration, at: HR18, type: f32, from: {model: bearing}}
        - {id: load, at: HR20, type: u16, scale: 0.1, from: {sine: {mean: 40, amplitude: 15, period: 20s}}}")]
pub struct SimArgs {
    /// Simulation file
    #[arg(value_name = "FILE", required_unless_present = "mapping", conflicts_with = "mapping")]
    pub file: Option<PathBuf>,
    /// Simulate everything in this mapping instead
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Write the simulation of the mapping into this folder, and run nothing
    #[arg(long, value_name = "DIR", requires = "mapping")]
    pub write: Option<PathBuf>,
    /// Take commands on this Unix socket too
    #[arg(long, value_name = "PATH", conflicts_with = "write")]
    pub socket: Option<PathBuf>,
}

/// Arguments of `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/agent.yaml")]
    pub config: PathBuf,
}

/// Arguments of `node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tallystick/node.yaml")]
    pub config: PathBuf,
}

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Commands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key: FILE (PKCS#8 PEM, mode 0600) and FILE with `.pub.pem` (public); or in a PKCS#11 token, which keeps it
    New {
        /// Where the private key goes; must not exist. In a token: pkcs11:token=plant;object=agent-01?module-path=…&pin-source=FILE
        #[arg(value_name = "FILE|URI")]
        file: PathBuf,
        /// Write the public half (SPKI PEM) into this file; must not exist
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// Its kind. Everybody but witnesses has P-256
        #[arg(long, value_enum, default_value = "p256")]
        algorithm: crate::commands::keys::Kind,
    },
    /// Show the key id (RFC 9679 thumbprint) of a private or public P-256 key, or the verifier key of a witness
    Show {
        /// A PEM file, or a key in a PKCS#11 token (pkcs11:…)
        #[arg(value_name = "FILE|URI")]
        file: PathBuf,
        /// Write the public half (SPKI PEM) into this file; must not exist
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// The witness's name: show its verifier key (C2SP signed-note)
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

/// Arguments of `call`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tally call maintenance-order accept --agreement mo-1 --as tina --key keys/tina.key
  tally call accounts transfer --as acme --key keys/acme.key --arg to=fixit --arg amount=5000 --arg currency=EUR \
      --private remark='wage of T. Muster'")]
pub struct CallArgs {
    /// Contract: native (registry, accounts, access, privacy) or from the library
    #[arg(value_name = "CONTRACT")]
    pub contract: String,
    /// What to ask for
    #[arg(value_name = "ACTION")]
    pub action: String,
    /// The agreement it concerns, such as mo-1
    #[arg(long, value_name = "ID")]
    pub agreement: Option<String>,
    /// An argument; whole numbers and true/false are taken as such, @FILE as the bytes of a file, everything else as text.
    /// Repeatable
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub args: Vec<String>,
    /// A private argument: sealed as a salted digest, its text kept beside the ledger until `tally purge` erases it. For arguments
    /// that are texts to the contract; values as in --arg, at most 64 KiB. Repeatable
    #[arg(long = "private", value_name = "NAME=VALUE")]
    pub private: Vec<String>,
    /// Who asks.
    #[command(flatten)]
    pub caller: CallerFlags,
}

/// Arguments of `orders`.
#[derive(Debug, Args)]
pub struct OrdersArgs {
    /// Only in this state
    #[arg(long)]
    pub state: Option<String>,
    /// Only about this device
    #[arg(long)]
    pub device: Option<String>,
    /// Only of this contract
    #[arg(long)]
    pub contract: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Arguments of `order`.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// The order, such as mo-1
    #[arg(value_name = "ID")]
    pub id: String,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Arguments of `balance`.
#[derive(Debug, Args)]
pub struct BalanceArgs {
    /// Only of this party
    #[arg(value_name = "PARTY")]
    pub party: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Arguments of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to look at.
    #[command(subcommand)]
    pub command: LedgerCommand,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// Commands of `ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Name, key, size and roots
    Show,
    /// List entries, newest first
    Entries {
        /// The newest entry to show; the last one when not said
        #[arg(long, value_name = "ENTRY")]
        from: Option<u64>,
        /// How many
        #[arg(long, value_name = "COUNT", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Explain every byte of the node's data folder
    Du,
    /// What somebody has to look at: two histories, readings told twice. Without a word more: the list
    Alarms(crate::commands::ledger::alarms::AlarmsArgs),
    /// Forget now what `retention` in node.yaml no longer wants kept; the node does it by itself every 30 s
    Prune {
        /// Only show what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Copy all complete files of the log into an archive, with manifests, and compare; the node may go on
    Archive(crate::commands::ledger::archive::ArchiveArgs),
    /// Bring files of the log back from an archive; node stopped. Everything is checked, and executed again from block 0
    Import(crate::commands::ledger::archive::ImportArgs),
    /// Check an archive with nothing but the ledger's public key; exit code 0 only if all of it holds
    CheckArchive(crate::commands::ledger::archive::CheckArchiveArgs),
    /// Make a second node's data folder from a node, over the network, checking all of it; broken off, it goes on where it stopped
    Join(crate::commands::ledger::join::JoinArgs),
    /// Let a folder that followed another node order from now on, when that node is gone for ever; node stopped
    Promote(crate::commands::ledger::join::PromoteArgs),
    /// Check a whole ledger from its bytes, offline: log, chain, snapshots, state executed again, index; exit code 0 only if all holds
    Check(crate::commands::ledger::check::CheckArgs),
    /// Make the tables for questions anew from the log, or compare them with ones made anew; the node must be stopped
    Project(crate::commands::ledger::project::ProjectArgs),
    /// Show a block: its roots, its entries, the terms that ran out in it
    Block {
        /// Its height
        #[arg(value_name = "HEIGHT")]
        height: u64,
    },
    /// Show an entry: who sealed what, and what the contracts made of it
    Entry {
        /// Its index, or its statement id (64 hexadecimal digits)
        #[arg(value_name = "ENTRY")]
        id: String,
    },
    /// Show what the ledger's state says of a key, or that it is not there; exit code 0 only if it is proved and as asked
    State(crate::commands::ledger::state::StateArgs),
    /// Check that an entry is in the ledger; exit code 0 only if the proof holds
    Proof {
        /// Its index, or its statement id (64 hexadecimal digits)
        #[arg(value_name = "ENTRY")]
        id: String,
        /// The ledger's public key as you know it (SPKI PEM); without it the node's word is taken and shown
        #[arg(long, value_name = "FILE")]
        ledger_key: Option<PathBuf>,
        /// Also write statement.cose and receipt.cose there, for other people's tools
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

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
    pub timestamp: Option<crate::commands::timestamp::AuthorityUrl>,
    /// Whose time-stamps count.
    #[command(flatten)]
    pub authority: crate::commands::timestamp::AuthorityFlags,
    /// The agent, which keeps the readings.
    #[command(flatten)]
    pub agent: AgentFlag,
    /// The node.
    #[command(flatten)]
    pub node: NodeFlag,
}

/// How an evidence, coverage or field file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileForm {
    /// The small one, which all programs read
    Cbor,
    /// The same bytes in JSON, with what they say beside them (docs/formats/evidence-json.md)
    Json,
}

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

/// Arguments of `status` and `reload`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The agent.
    #[command(flatten)]
    pub agent: AgentFlag,
    /// Who we are.
    #[command(flatten)]
    pub shown: AccessFlags,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every figure is printed with the machine, the durability mode, the method, p50/p99 where there is a latency, and its
ratio to a baseline measured in the same run. Build with --release, or the figures mean nothing.")]
pub struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    pub what: BenchWhat,
    /// Where test data is written (durable figures depend on this disk)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Seconds per figure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Modbus points of the field side, a quarter of them as OPC UA variables; 20000 when not said, which is what is promised
    #[arg(long, value_name = "POINTS", value_parser = points)]
    pub points: Option<usize>,
    /// Entries that `scale` fills the ledger with; 1000000 when not said. 2 to 3 GB of disk a million
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u64).range(10..=100_000_000))]
    pub entries: Option<u64>,
    /// Devices that `registry` registers; 1000000 when not said. About 1 GB of disk a million
    #[arg(long, value_name = "DEVICES", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub devices: Option<u64>,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// All of it
    All,
    /// The vault; then devices, agent and broker as processes: processor time, memory and delay at 20,000 points
    Field,
    /// Triggers admitted, executed and synced by the node; readings covered by anchors
    Ledger,
    /// Register change → executed order, through real processes' code on loopback
    Path,
    /// Resident memory of the agent at 1,000 points
    Memory,
    /// A ledger filled with `--entries` orders: throughput, latency and memory on the way, bytes on disk, opening it again. Minutes;
    /// not part of `all`
    Scale,
    /// `--devices` registered in bulk, and one looked up among all of them. Not part of `all`
    Registry,
}

/// As many as fit the gateways of the bench.
fn points(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(points @ 1..=100_000) => Ok(points),
        _ => Err("a number from 1 to 100000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    /// Two arguments under one name, a group of what is not there: clap looks at a subcommand only when it is called.
    #[test]
    fn every_subcommand_is_sound() {
        Cli::command().debug_assert();
    }
}
