//! `tally sim`: simulated devices from a file of their own, or straight from a mapping.

use crate::answer::{Answer, Context, Fault};
use crate::commands::check::{environment, load};
use crate::mapping_copy::MappingCopy;
use crate::rehearsal::{Options, Rehearsal, moved_mapping, password_as_written, rehearsal};
use crate::shutdown::{on_signal, runtime};
use clap::Args;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tally_mappings::Plant;
use tally_model::Secret;
use tally_simulator::SimConfig;
use tokio::io::{BufReader, stdin, stdout};

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
