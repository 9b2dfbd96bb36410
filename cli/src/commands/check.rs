//! `tally check FILE…`: every fault at once, nothing connected.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::args::CheckArgs;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use tally_evidence::sha256;
use tally_mappings::{Plant, TestReport};
use tally_model::DeviceSpec;

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
