//! `tally sim`: simulated devices from a file of their own, or straight from a mapping.

use crate::answer::{Answer, Context, Fault};
use crate::args::SimArgs;
use crate::commands::check::{environment, load};
use crate::mapping_copy::MappingCopy;
use crate::rehearsal::{Options, Rehearsal, moved_mapping, password_as_written, rehearsal};
use crate::shutdown::{on_signal, runtime};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use tally_mappings::Plant;
use tally_model::Secret;
use tally_simulator::SimConfig;
use tokio::io::{BufReader, stdin, stdout};

pub fn run(args: &SimArgs) -> Result<Answer, Fault> {
    let config = match (&args.file, &args.mapping, &args.write) {
        (_, Some(mapping), Some(folder)) => return write(mapping, folder),
        (_, Some(mapping), None) => of_mapping(mapping)?,
        (Some(file), None, _) => SimConfig::load(file)?,
        (None, None, _) => return Err("name a simulation FILE, or a mapping with --mapping FILE".into()),
    };
    let runtime = runtime()?;
    let ran = runtime.block_on(async {
        let stop = on_signal()?;
        let (commands, answers) = (BufReader::new(stdin()), stdout());
        let running = tally_simulator::run_with_socket(config, commands, answers, args.socket.as_deref(), stop);
        running.await.context("the simulator stopped")
    });
    // A thread that waits for the next line of standard input cannot be stopped: do not wait for it.
    runtime.shutdown_background();
    ran.map(|()| Answer::Yes)
}

/// The simulation of a mapping, in memory. What is not as in the mapping is said.
fn of_mapping(mapping: &Path) -> Result<SimConfig, Fault> {
    let plant = load(mapping)?;
    let folder = std::env::current_dir().context("finding the current folder")?;
    let passwords = |password: &Secret| password.reveal().to_owned();
    let rehearsal = rehearsal(&plant, &Options { folder: &folder, keeps_certificates: false, passwords: &passwords });
    for (device, place) in &rehearsal.moved {
        tracing::warn!(%device, "simulated at {place}: with --write DIR there is a copy of the mapping that looks there");
    }
    checked(&rehearsal, mapping, &folder)
}

/// What was made must be right; a fault in it is ours, and said with the mapping's name.
fn checked(rehearsal: &Rehearsal, mapping: &Path, folder: &Path) -> Result<SimConfig, Fault> {
    for note in &rehearsal.notes {
        tracing::warn!("{note}");
    }
    let config = SimConfig::parse(&rehearsal.yaml, &folder.join("sim.yaml"), &environment);
    config.context(format_args!("the simulation of {}", mapping.display()))
}

/// `DIR/sim.yaml`, and beside it the mapping with the places of the simulation.
fn write(mapping: &Path, folder: &Path) -> Result<Answer, Fault> {
    fs::create_dir_all(folder).context(format_args!("making {}", folder.display()))?;
    let folder = folder.canonicalize().context(folder.display())?;
    let copy = MappingCopy::make(mapping, &load)?.put_into(&folder)?;
    let plant = load(&copy)?;
    let text = texts(&plant)?;
    let passwords = |password: &Secret| password_as_written(password, &text, &environment);
    let rehearsal = rehearsal(&plant, &Options { folder: &folder, keeps_certificates: true, passwords: &passwords });
    checked(&rehearsal, mapping, &folder)?;
    move_devices(&copy, &plant, &rehearsal)?;
    let sim = folder.join("sim.yaml");
    // A password may stand in it.
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&sim);
    let written = opened.and_then(|mut file| file.write_all(rehearsal.yaml.as_bytes()));
    written.context(format_args!("writing {}; nothing is overwritten", sim.display()))?;
    println!("A rehearsal of {}:", mapping.display());
    println!("  tally sim   {}", sim.display());
    println!("  tally check {}", copy.display());
    println!("  tally init  SITE --mapping {}", copy.display());
    Ok(Answer::Yes)
}

/// All files of the plant as one text, to see which variables they name.
fn texts(plant: &Plant) -> Result<String, Fault> {
    let read = |file: &std::path::PathBuf| fs::read_to_string(file).context(file.display());
    plant.files.iter().map(read).collect()
}

/// Writes the places of the simulation into the copy, and looks whether that is what it says now.
fn move_devices(copy: &Path, plant: &Plant, rehearsal: &Rehearsal) -> Result<(), Fault> {
    let text = fs::read_to_string(copy).context(copy.display())?;
    fs::write(copy, moved_mapping(&text, plant, &rehearsal.moved)?).context(copy.display())?;
    let moved = load(copy).context("the mapping with the places of the simulation")?;
    for (before, after) in plant.devices.iter().zip(&moved.devices) {
        let place = rehearsal.moved.iter().find(|(id, _)| *id == before.id).map(|(_, place)| place);
        let (wanted, found) = (place.unwrap_or(&before.endpoint), &after.endpoint);
        if before.id != after.id || wanted != found {
            return Err(format!(
                "{}: {} should be at {wanted} now and is at {found}; write its `connect:` by hand",
                copy.display(),
                before.id
            )
            .into());
        }
    }
    Ok(())
}
