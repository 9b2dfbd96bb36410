//! A site folder: keys, genesis, and the configuration of node, agent and simulator, ready to run.

use crate::answer::{Context, Fault};
use crate::commands::keys;
use crate::mapping_copy::MappingCopy;
use crate::rehearsal::{self, password_as_written, rehearsal};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_evidence::{VerifyingKey, encode_rule};
use tally_ledger_client::NodeAddress;
use tally_mappings::Plant;
use tally_model::{RuleSource, Secret};

/// Files that ship inside the program, so that `tally init` and `tally demo` need nothing beside it.
const PLANT: &str = include_str!("../../mappings/plants/press-line.yaml");
const RECORDING: &str = include_str!("../../mappings/plants/recordings/press-bearing.csv");
const SIM: &str = include_str!("../../simulator/examples/press-line.yaml");
const CONTRACT: &str = include_str!("../../contracts/library/maintenance-order.yaml");

/// A party of a new site: id, kind, name, firm, skills.
type Player = (&'static str, &'static str, &'static str, Option<&'static str>, &'static [&'static str]);

/// Who plays in a new site besides the ledger and its agent.
const PARTIES: &[Player] = &[
    ("bank", "organisation", "Plant bank", None, &[]),
    ("acme", "organisation", "Acme Presses (owner)", None, &[]),
    ("fixit", "organisation", "Fixit Maintenance", None, &[]),
    ("arbiter", "regulator", "Chamber of Arbitration", None, &[]),
    ("tina", "person", "Tina", Some("fixit"), &["bearing", "hydraulics"]),
    ("tom", "person", "Tom", Some("fixit"), &["bearing"]),
    ("theo", "person", "Theo", Some("fixit"), &["electrics"]),
];

/// The agent's party id in a new site.
const AGENT: &str = "agent-01";

/// What a new site is to be.
pub struct Options {
    /// Name of the ledger.
    pub ledger: String,
    /// MQTT broker.
    pub broker: String,
    /// A mapping to copy into the site; the press line that ships with the program otherwise.
    pub mapping: Option<PathBuf>,
    /// Variables for the mapping, before those of the environment.
    pub variables: Vec<(String, String)>,
    /// What the owner begins with, in cents.
    pub money: u64,
}

/// 50,000.00 EUR: enough for fifty orders of the example.
pub const MONEY: u64 = 5_000_000;

impl Options {
    /// The press line of the demo.
    pub fn press_line() -> Self {
        let broker = "mqtt://127.0.0.1:1883".to_owned();
        Self { ledger: "press-line".to_owned(), broker, mapping: None, variables: Vec::new(), money: MONEY }
    }
}

/// A site folder and what stands in it.
pub struct Site {
    /// The folder.
    pub dir: PathBuf,
    /// Configuration of the node.
    pub node: PathBuf,
    /// Configuration of the agent.
    pub agent: PathBuf,
    /// Simulation file.
    pub sim: PathBuf,
    /// The mapping, inside the folder.
    pub mapping: PathBuf,
    /// The agent's OPC UA certificates.
    pub pki: PathBuf,
    /// Where the node listens.
    pub node_address: NodeAddress,
    /// Where the agent listens.
    pub agent_address: NodeAddress,
    /// The ledger's public key.
    pub ledger_key: VerifyingKey,
    /// Passwords that the mapping takes from the environment and that are not set yet.
    pub unset: Vec<String>,
}

impl Site {
    /// Writes a new site into `dir`, which is made if need be. Nothing is overwritten.
    ///
    /// # Errors
    /// When the mapping has faults or a file cannot be written.
    pub fn create(dir: &Path, options: &Options) -> Result<Self, Fault> {
        // A given mapping is looked at before anything is made: a fault in it leaves no half-made site behind.
        let load = |file: &Path| load_plant(file, &options.variables);
        let given = options.mapping.as_deref().map(|file| MappingCopy::make(file, &load)).transpose()?;
        for folder in ["keys", "rules", "contracts", "pki", "node", "agent"] {
            make_folder(&dir.join(folder))?;
        }
        let mapping = match given {
            Some(copy) => copy.put_into(dir)?,
            None => {
                make_folder(&dir.join("recordings"))?;
                write_new(dir, "recordings/press-bearing.csv", RECORDING)?;
                write_new(dir, "plant.yaml", PLANT)?
            }
        };
        let plant = load(&mapping)?;
        let ledger_key = keys::create(&dir.join("keys/node.key"))?.public().clone();
        keys::create(&dir.join("keys").join(format!("{AGENT}.key")))?;
        for (id, ..) in PARTIES {
            keys::create(&dir.join("keys").join(format!("{id}.key")))?;
        }
        for rule in &plant.rules {
            let name = rule_file(rule.source());
            std::fs::write(dir.join(&name), encode_rule(rule.source())).context(format_args!("writing {name}"))?;
        }
        write_new(dir, "contracts/maintenance-order.yaml", CONTRACT)?;
        write_new(dir, "genesis.yaml", &genesis_yaml(&plant, options.money))?;
        let shown = dir.canonicalize().context(dir.display())?;
        Ok(Self {
            node: write_new(dir, "node.yaml", &node_yaml(&options.ledger, &shown, &plant))?,
            agent: write_new(dir, "agent.yaml", &agent_yaml(options, &shown, &mapping))?,
            sim: write_sim(dir, &shown, &plant, options)?,
            pki: shown.join("pki"),
            node_address: address(&shown, "node.sock")?,
            agent_address: address(&shown, "agent.sock")?,
            ledger_key,
            unset: unset_passwords(&mapping, &options.variables),
            mapping,
            dir: shown,
        })
    }

    /// Where the private key of a party stands.
    pub fn key_of(&self, party: &str) -> PathBuf {
        self.dir.join("keys").join(format!("{party}.key"))
    }
}

/// `20261121-040500` now, for names of folders.
pub fn utc_stamp() -> String {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
    let text = tally_model::Timestamp::from_micros(micros).to_string();
    let digits: String = text.chars().take(19).filter(|c| c.is_ascii_digit() || *c == 'T').collect();
    digits.replace('T', "-")
}

fn load_plant(mapping: &Path, variables: &[(String, String)]) -> Result<Plant, Fault> {
    let lookup = |name: &str| variable(name, variables);
    tally_mappings::load(mapping, &lookup).map_err(|faults| faults.render(false).into())
}

/// Making a site needs names and rules, not passwords: a secret that is not set yet is no fault here.
fn variable(name: &str, variables: &[(String, String)]) -> Option<String> {
    let later = || is_password(name).then(|| format!("set {name} before the start"));
    set_variable(name, variables).or_else(later)
}

fn set_variable(name: &str, variables: &[(String, String)]) -> Option<String> {
    let given = variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    given.or_else(|| std::env::var(name).ok())
}

fn is_password(name: &str) -> bool {
    name.ends_with("PASSWORD")
}

/// The passwords that whoever starts the agent must set, each once.
fn unset_passwords(mapping: &Path, variables: &[(String, String)]) -> Vec<String> {
    let missing = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        if is_password(name) && set_variable(name, variables).is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        variable(name, variables)
    };
    // Its faults were told when it was loaded for the site.
    drop(tally_mappings::load(mapping, &lookup));
    missing.into_inner().into_iter().collect()
}

/// The simulation of a given mapping, or the one that ships with the press line.
fn write_sim(dir: &Path, shown: &Path, plant: &Plant, options: &Options) -> Result<PathBuf, Fault> {
    if options.mapping.is_none() {
        return write_new(dir, "sim.yaml", SIM);
    }
    let read = |file: &PathBuf| std::fs::read_to_string(file).context(file.display());
    let text = plant.files.iter().map(read).collect::<Result<String, Fault>>()?;
    let lookup = |name: &str| variable(name, &options.variables);
    let passwords = |password: &Secret| password_as_written(password, &text, &lookup);
    let rehearsal =
        rehearsal(plant, &rehearsal::Options { folder: shown, keeps_certificates: true, passwords: &passwords });
    let file = write_new(dir, "sim.yaml", &rehearsal.yaml)?;
    // A password may stand in it.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).context(file.display())?;
    Ok(file)
}

fn make_folder(folder: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).context(format_args!("making {}", folder.display()))
}

fn write_new(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Fault> {
    let file = dir.join(name);
    if file.exists() {
        return Err(format!("{} exists; nothing was overwritten: name a new folder", file.display()).into());
    }
    std::fs::write(&file, text).context(format_args!("writing {}", file.display()))?;
    file.canonicalize().context(file.display())
}

/// Unix socket paths are limited to 107 bytes (`sockaddr_un`); deep folders get a socket in the runtime folder instead.
fn address(dir: &Path, name: &str) -> Result<NodeAddress, Fault> {
    Ok(format!("unix:{}", socket_path(dir, name).display()).parse::<NodeAddress>()?)
}

fn socket_path(dir: &Path, name: &str) -> PathBuf {
    let inside = dir.join(name);
    if inside.as_os_str().len() <= 100 {
        return inside;
    }
    let digest = hex::encode(&tally_evidence::sha256(dir.as_os_str().as_encoded_bytes())[..6]);
    std::env::temp_dir().join(format!("tally-{digest}-{name}"))
}

fn node_yaml(ledger: &str, dir: &Path, plant: &Plant) -> String {
    let rules: Vec<_> = plant.rules.iter().map(|rule| rule_file(rule.source())).collect();
    let socket = socket_path(dir, "node.sock");
    format!(
        "# Configuration of the ledger node: tally node --config {here}/node.yaml\n\
         ledger: {ledger}\n\
         data: node\n\
         key: keys/node.key\n\
         genesis: genesis.yaml          # read once, when the ledger is empty\n\
         rules: [{rules}]\n\
         listen: [\"unix:{socket}\"]\n",
        here = dir.display(),
        rules = rules.join(", "),
        socket = socket.display(),
    )
}

fn agent_yaml(options: &Options, dir: &Path, mapping: &Path) -> String {
    format!(
        "# Configuration of the edge agent: tally agent --config {here}/agent.yaml\n\
         name: {AGENT}\n\
         ledger: {ledger}\n\
         mapping: {mapping}\n\
         data: agent\n\
         key: keys/{AGENT}.key\n\
         pki: pki\n\
         ledger_key: keys/node.pub.pem\n\
         node: unix:{node}\n\
         broker: {{url: \"{broker}\", mode: point, prefix: tallystick}}\n\
         listen: unix:{agent}\n\
         # Read from other machines over TLS (`tally ca` makes certificates):\n\
         # listen: [\"unix:{agent}\", \"tls:0.0.0.0:7461\"]\n\
         # listen_tls: {{certificate: tls/{AGENT}.pem, key: tls/{AGENT}.key, client_ca: tls/ca.pem}}\n",
        here = dir.display(),
        ledger = options.ledger,
        // Relative, so that the folder can be moved.
        mapping = mapping.strip_prefix(dir).unwrap_or(mapping).display(),
        node = socket_path(dir, "node.sock").display(),
        agent = socket_path(dir, "agent.sock").display(),
        broker = options.broker,
    )
}

fn rule_file(rule: &RuleSource) -> String {
    format!("rules/{}.{}.rule", rule.device, rule.id)
}

fn genesis_yaml(plant: &Plant, money: u64) -> String {
    let mut text = String::from(
        "# What the ledger begins with. Read once; afterwards everything changes by sealed calls (`tally call`).\n\
         # Amounts are minor units: 90000 EUR are 900.00 EUR.\n\
         issuer: bank\nadmins: [acme]\nparties:\n",
    );
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    line(format!("  - {{id: {AGENT}, kind: agent, name: Edge agent, key: keys/{AGENT}.pub.pem}}"));
    for (id, kind, name, firm, skills) in PARTIES {
        let firm = firm.map_or(String::new(), |firm| format!(", firm: {firm}"));
        let skills = if skills.is_empty() { String::new() } else { format!(", skills: [{}]", skills.join(", ")) };
        line(format!("  - {{id: {id}, kind: {kind}, name: {name}{firm}{skills}, key: keys/{id}.pub.pem}}"));
    }
    line("devices:".to_owned());
    for device in &plant.devices {
        line(format!("  - {{id: {}, agent: {AGENT}, owner: acme}}", device.id));
    }
    line("accounts:".to_owned());
    for owner in ["acme", "fixit"] {
        line(format!("  - {{owner: {owner}, currency: EUR}}"));
    }
    line(format!("issue:\n  - {{owner: acme, currency: EUR, amount: {money}}}"));
    line("contracts: [contracts/maintenance-order.yaml]\nstanding:".to_owned());
    for device in &plant.devices {
        let terms = "maintainer: fixit, arbiter: arbiter, skill: bearing, currency: EUR, price: 90000, penalty: 10000";
        line(format!("  - {{contract: maintenance-order, device: {}, {terms}}}", device.id));
    }
    text
}
