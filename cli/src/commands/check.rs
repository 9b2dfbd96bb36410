//! `tally check FILE…`: every fault at once, nothing connected. Mappings, and the settings of agent, node and witness.

use crate::answer::{Answer, Context, Fault, print_json};
use clap::Args;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use tally_edge_agent::AgentConfig;
use tally_evidence::sha256;
use tally_ledger_node::NodeConfig;
use tally_ledger_node::witness::WitnessConfig;
use tally_mappings::{Plant, TestReport};
use tally_model::DeviceSpec;

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

pub fn run(args: &CheckArgs, json: bool) -> Result<Answer, Fault> {
    if args.schema {
        print_json(&tally_mappings::json_schema())?;
        return Ok(Answer::Yes);
    }
    let mut all_well = true;
    let mut results = Vec::new();
    for file in &args.files {
        // A file that cannot be read is no answer about it: exit code 2, as in every command.
        std::fs::File::open(file).context(format_args!("reading {}", file.display()))?;
        let result = check(file, args.test);
        all_well &= result.well;
        if json {
            results.push(result.json);
        } else {
            print!("{}", result.text);
        }
    }
    if json {
        print_json(&results)?;
    }
    Ok(all_well.into())
}

/// Reads an environment variable, for secrets and `${NAME}` in mappings.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Loads a mapping; a fault is rendered with the lines it concerns.
///
/// # Errors
/// All faults of the file as one text.
pub fn load(file: &Path) -> Result<Plant, Fault> {
    let color = std::io::stderr().is_terminal();
    tally_mappings::load(file, &environment).map_err(|faults| faults.render(color).into())
}

struct Checked {
    well: bool,
    text: String,
    json: serde_json::Value,
}

fn check(file: &Path, test: bool) -> Checked {
    match Settings::of(file) {
        Some(settings) => settings.check(file),
        None => check_mapping(file, test),
    }
}

/// A file of settings, known by the keys that only it has.
#[derive(Debug, Clone, Copy)]
enum Settings {
    Agent,
    Node,
    Witness,
}

impl Settings {
    fn of(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_saphyr::from_str(&text).ok()?;
        let has = |key: &str| keys.contains_key(key);
        match () {
            () if has("ledger") && has("mapping") => Some(Self::Agent),
            () if has("ledger") && has("data") => Some(Self::Node),
            () if has("logs") && has("data") => Some(Self::Witness),
            () => None,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Node => "node",
            Self::Witness => "witness",
        }
    }

    /// As the program does when it starts; keys and certificates that the file names are looked at.
    fn check(self, file: &Path) -> Checked {
        let (word, faults) = (self.word(), self.faults(file));
        let (well, mut text) = (faults.is_empty(), faults.join("\n"));
        if well {
            text = format!("{}: the settings of the {word} are fine", file.display());
        }
        let json = serde_json::json!({"file": file, "ok": well, "settings": word, "faults": faults});
        Checked { well, text: text + "\n", json }
    }

    fn faults(self, file: &Path) -> Vec<String> {
        let lines = |fault: String| fault.lines().map(ToOwned::to_owned).collect();
        let tls = match self {
            Self::Agent => match AgentConfig::load(file) {
                Err(fault) => return lines(fault.to_string()),
                // Looked at with everything else.
                Ok(_) => None,
            },
            Self::Node => match NodeConfig::load(file) {
                Err(fault) => return lines(fault.to_string()),
                Ok(config) => config.tls,
            },
            Self::Witness => match WitnessConfig::load(file) {
                Err(fault) => return lines(fault.to_string()),
                Ok(config) => config.tls,
            },
        };
        let unusable = tls.and_then(|tls| tally_tls::server_config(&tls).err());
        unusable.map(|fault| format!("{}: tls: {fault}", file.display())).into_iter().collect()
    }
}

fn check_mapping(file: &Path, test: bool) -> Checked {
    let plant = match tally_mappings::load(file, &environment) {
        Ok(plant) => plant,
        Err(faults) => {
            let text = faults.render(std::io::stdout().is_terminal());
            let json = serde_json::json!({"file": file, "ok": false, "faults": faults.iter().collect::<Vec<_>>()});
            return Checked { well: false, text, json };
        }
    };
    let tests = if test { tally_mappings::run_tests(&plant) } else { Vec::new() };
    let well = tests.iter().all(TestReport::passed);
    let mut text = summary(file, &plant);
    tests.iter().for_each(|report| text.push_str(&format!("  {report}\n")));
    let fingerprint = |device: &DeviceSpec| {
        let digest = sha256(device.address_map().as_bytes());
        (device.id.to_string(), digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    };
    let mappings: BTreeMap<_, _> = plant.devices.iter().map(fingerprint).collect();
    let json = serde_json::json!({
        "mappings": mappings, "file": file, "ok": well, "plant": plant.name, "devices": plant.devices.len(),
        "points": points(&plant), "triggers": plant.rules.len(), "warnings": plant.warnings, "tests": tests,
    });
    Checked { well, text, json }
}

fn points(plant: &Plant) -> usize {
    plant.devices.iter().map(|device| device.points.len()).sum()
}

fn summary(file: &Path, plant: &Plant) -> String {
    let (devices, points, rules) = (plant.devices.len(), points(plant), plant.rules.len());
    let mut text =
        format!("{}: {} is fine: {devices} devices, {points} points, {rules} triggers\n", file.display(), plant.name);
    plant.warnings.iter().for_each(|warning| text.push_str(&format!("  {warning}\n")));
    text
}
