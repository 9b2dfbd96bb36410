//! The command line as a whole: the commands in their order, and what holds for all of them. What one of them takes stands in its
//! own file; `--help` is made from both.

use clap::{Parser, Subcommand, ValueEnum};

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
    Demo(crate::demo::DemoArgs),
    /// Check mapping files and report every fault at once, without connecting
    Check(crate::commands::check::CheckArgs),
    /// Show the requests a mapping leads to, and how often each device can be read
    Plan(crate::commands::plan::PlanArgs),
    /// Look at a live Modbus device: a value as every type in every order side by side, and what the device says it is
    Probe(crate::commands::probe::ProbeArgs),
    /// Walk an OPC UA server and write a mapping of what it has
    Browse(crate::commands::browse::BrowseArgs),
    /// Which OPC UA servers the agent trusts: list, approve, reject
    Trust(crate::commands::trust::TrustArgs),
    /// Make a new site folder: keys, genesis, configuration of node, agent and simulator
    Init(crate::commands::init::InitArgs),
    /// Run simulated PLCs and sensors from a YAML file
    Sim(crate::commands::sim::SimArgs),
    /// Run the edge agent: read devices, seal triggers, submit them
    Agent(crate::commands::agent::AgentArgs),
    /// Run the ledger node
    Node(crate::commands::node::NodeArgs),
    /// Be a witness of other people's ledgers: sign their checkpoints as long as they only grow
    Witness(crate::commands::witness::WitnessArgs),
    /// Make and show keys
    Keys(crate::commands::keys::KeysArgs),
    /// A small certificate authority for TLS: begin, issue, renew, and answer enrolments
    Ca(crate::commands::ca::CaArgs),
    /// Get or renew a certificate for TLS from the plant's authority (EST, RFC 7030)
    Enrol(crate::commands::enrol::EnrolArgs),
    /// Who may do what at the node's interface: make, list and revoke tokens
    Token(crate::commands::token::TokenArgs),
    /// Ask a contract for something, sealed with your key
    Call(crate::commands::call::CallArgs),
    /// Who may have what read, written or called on a device: policies, one-time permits, revocation, quarantine
    Access(crate::commands::access::AccessArgs),
    /// Who is who: look somebody up at a height, rotate and recover keys, bind and hand over devices
    Registry(crate::commands::registry::RegistryArgs),
    /// List work orders and other agreements
    Orders(crate::commands::order::OrdersArgs),
    /// Show one order with its history
    Order(crate::commands::order::OrderArgs),
    /// Show accounts and whether the totals are conserved
    Balance(crate::commands::balance::BalanceArgs),
    /// Look around in the ledger: entries, blocks, proofs
    Ledger(crate::commands::ledger::LedgerArgs),
    /// Ask about agreements, entries and histories, count and add up, or ask in SQL
    Query(crate::commands::query::QueryArgs),
    /// Copy the ledger while the node works, and check the copy
    Backup(crate::commands::backup::BackupArgs),
    /// Make a ledger from such a copy, checking every byte and executing every block again
    Restore(crate::commands::backup::RestoreArgs),
    /// Write the evidence file of an order
    Evidence(crate::commands::evidence::EvidenceArgs),
    /// Prove that no reading of a device is missing between two times, or name the gaps
    Prove(crate::commands::prove::ProveArgs),
    /// Show one private field of a call, in a file that anyone can check; without --field list them
    Disclose(crate::commands::private::DiscloseArgs),
    /// Have a private field of a call erased: a call, sealed and logged, that leaves every proof as it was
    Purge(crate::commands::private::PurgeArgs),
    /// Have an authority put its time to an evidence or coverage file (RFC 3161), over the network or on a stick
    Timestamp(crate::commands::timestamp::TimestampArgs),
    /// Check an evidence, coverage or field file offline, link by link
    Verify(crate::commands::verify::VerifyArgs),
    /// Turn an evidence, coverage or field file into JSON for people, or back, without losing a byte
    Convert(crate::commands::convert::ConvertArgs),
    /// Show what the agent is doing: links, triggers, outbox
    Status(crate::commands::status::StatusArgs),
    /// Have the agent read its mapping anew: what did not change goes on, a file with a fault changes nothing
    Reload(crate::commands::status::StatusArgs),
    /// Measure this machine: field, ledger, and the path between them
    Bench(crate::commands::bench::BenchArgs),
}

impl Command {
    /// Whether keys may come into its memory: all but the simulator and the bench, whose keys are toys.
    pub const fn holds_keys(&self) -> bool {
        !matches!(self, Self::Sim(_) | Self::Bench(_))
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
