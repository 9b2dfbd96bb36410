//! `tally plan FILE`: what would be asked of the devices, and which rules would be sealed under which version.

use crate::answer::{Answer, Context, Fault, print_json};
use crate::commands::check::load;
use clap::Args;
use std::path::{Path, PathBuf};
use tally_evidence::{encode_rule, rule_digest};
use tally_mappings::Plant;
use tally_model::{DeviceSpec, Endpoint, RuleSource};

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

pub fn run(args: &PlanArgs, json: bool) -> Result<Answer, Fault> {
    let plant = load(&args.file)?;
    if let Some(folder) = &args.rules {
        write_rules(&plant, folder)?;
    }
    let devices = plant.devices.iter().map(describe).collect::<Result<Vec<_>, Fault>>()?;
    if json {
        print_json(&serde_json::json!({
            "plant": plant.name,
            "devices": plant.devices.iter().zip(&devices).map(|(device, plan)| serde_json::json!({
                "id": device.id, "endpoint": device.endpoint.to_string(), "plan": plan,
            })).collect::<Vec<_>>(),
            "rules": plant.rules.iter().map(|rule| rule_json(rule.source())).collect::<Vec<_>>(),
        }))?;
    } else {
        println!("{}", plant.name);
        devices.iter().for_each(|plan| println!("\n{plan}"));
        println!("\nrules");
        for rule in &plant.rules {
            let source = rule.source();
            println!("  {}/{}  version {}", source.device, source.id, hex::encode(rule_digest(source)));
        }
    }
    Ok(Answer::Yes)
}

fn describe(device: &DeviceSpec) -> Result<String, Fault> {
    let at = || format!("{} at {}", device.id, device.endpoint);
    Ok(match &device.endpoint {
        Endpoint::Modbus { .. } => tally_connector_modbus::plan(device).context(at())?.to_string(),
        Endpoint::OpcUa { .. } => tally_connector_opcua::plan(device).context(at())?.to_string(),
        Endpoint::Mqtt(_) => tally_connector_mqtt::plan(device).context(at())?.to_string(),
        Endpoint::Replay { file } => format!("{} replays {}", device.id, file.display()),
    })
}

fn rule_json(rule: &RuleSource) -> serde_json::Value {
    serde_json::json!({"device": rule.device, "trigger": rule.id, "version": hex::encode(rule_digest(rule)), "when": rule.when})
}

/// One file a rule, `DEVICE.TRIGGER.rule`, holding the canonical bytes that the registry takes.
fn write_rules(plant: &Plant, folder: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).context(format_args!("making {}", folder.display()))?;
    for rule in &plant.rules {
        let source = rule.source();
        let file = folder.join(format!("{}.{}.rule", source.device, source.id));
        std::fs::write(&file, encode_rule(source)).context(format_args!("writing {}", file.display()))?;
    }
    Ok(())
}
