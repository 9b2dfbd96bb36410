//! `cargo xtask fuzz`: builds the targets of `fuzz/` with LLVM's counters, and lets libFuzzer run over them one after the other.
//!
//! The flags are those of cargo-fuzz which a stable compiler has: the counters, no address sanitizer. They must not reach build
//! scripts, which have no engine to link with; cargo keeps the two apart as soon as a target triple is given. All that is made lies in
//! `target/fuzz`; what is worth keeping goes to `fuzz/corpus`.

use crate::run::{Failure, Report, cargo, root, run};
use clap::Args;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What cargo-fuzz passes as well.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Of a target's corpus, so that a checkout stays small.
const FILES_MAX: usize = 60;
/// See [`FILES_MAX`].
const BYTES_MAX: u64 = 200_000;
/// Longest part of a run; then libFuzzer begins anew with the corpus it has, and the processor time is looked at.
const SLICE_SECONDS: f64 = 120.0;

#[derive(Args)]
pub struct FuzzArguments {
    /// Which targets; all of them, one after the other, when none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Minutes of processor time for each
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Minutes on the clock for each, at most: on a busy machine they are more than those of the processor
    #[arg(long, value_name = "N", default_value_t = 60.0)]
    patience: f64,
    /// Where libFuzzer's dice begin; 0: anywhere
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Show the names and end
    #[arg(long)]
    list: bool,
}

/// Builds, and runs what was asked for. A finding ends its target, is told, and makes the whole command fail.
pub fn fuzz(report: &mut Report, arguments: &FuzzArguments) -> Result<(), Failure> {
    let mut program = PathBuf::new();
    report.step("fuzz build", || build().map(|built| program = built))?;
    let known = names(&program)?;
    if arguments.list {
        known.iter().for_each(|name| println!("{name}"));
        return Ok(());
    }
    if let Some(unknown) = arguments.targets.iter().find(|name| !known.contains(name)) {
        return Err(Failure::Machine(format!("`{unknown}` is no target; --list shows them")));
    }
    let is_chosen = |name: &&String| arguments.targets.is_empty() || arguments.targets.contains(name);
    let mut findings = 0;
    for name in known.iter().filter(is_chosen) {
        let target = Target::prepare(&program, name)?;
        let done = target.run(arguments)?;
        target.keep()?;
        target.write_down(&done)?;
        findings += done.findings;
    }
    if findings == 0 {
        return Ok(());
    }
    Err(Failure::Step { what: format!("libFuzzer, with {findings} findings in fuzz/found"), code: 1 })
}

/// The instrumented program.
fn build() -> Result<PathBuf, Failure> {
    let version = Command::new("rustc").arg("-vV").output().map_err(machine)?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::Machine("`rustc -vV` names no host".to_owned()))?;
    let folder = root().join("target/fuzz");
    let mut command = cargo();
    command.args(["build", "--profile", "fuzz", "-p", "tally-fuzz", "--features", "libfuzzer", "--target", host]);
    command.arg("--target-dir").arg(&folder).env("RUSTFLAGS", FLAGS);
    run(&mut command)?;
    Ok(folder.join(host).join("fuzz/tally-fuzz"))
}

fn names(program: &Path) -> Result<Vec<String>, Failure> {
    let listed = Command::new(program).env_remove("TALLY_FUZZ_TARGET").output().map_err(machine)?;
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(ToOwned::to_owned).collect())
}

fn machine(fault: impl std::fmt::Display) -> Failure {
    Failure::Machine(format!("fuzz: {fault}"))
}

/// What became of a target.
#[derive(Default)]
struct Done {
    /// Of the processor, both of the program and of the system for it.
    seconds: f64,
    executions: u64,
    /// Edges reached by seeds and corpus, and in the end.
    edges: (u64, u64),
    findings: usize,
}

/// A target that runs.
struct Target<'p> {
    program: &'p Path,
    name: &'p str,
    /// Inputs of this and earlier runs, seeds, dictionary, log.
    work: PathBuf,
    corpus: PathBuf,
}

impl<'p> Target<'p> {
    fn prepare(program: &'p Path, name: &'p str) -> Result<Self, Failure> {
        let root = root();
        let work = root.join("target/fuzz/work").join(name);
        let corpus = root.join("fuzz/corpus").join(name);
        for folder in [&work.join("inputs"), &corpus, &root.join("fuzz/found")] {
            fs::create_dir_all(folder).map_err(machine)?;
        }
        Ok(Self { program, name, work, corpus })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.env("TALLY_FUZZ_TARGET", self.name).env("TALLY_FUZZ_PREPARE", &self.work).current_dir(root());
        command
    }

    /// Slices until the processor time is used up, somebody's patience ends or something is found.
    fn run(&self, arguments: &FuzzArguments) -> Result<Done, Failure> {
        let (begun, mut done) = (std::time::Instant::now(), Done::default());
        let before = children_seconds()?;
        loop {
            let left = arguments.minutes * 60.0 - done.seconds;
            let left = left.min(arguments.patience * 60.0 - begun.elapsed().as_secs_f64());
            if left < 1.0 || done.findings > 0 {
                return Ok(done);
            }
            let slice = self.slice(left.min(SLICE_SECONDS), arguments.seed)?;
            done.seconds = children_seconds()? - before;
            done.executions += slice.executions;
            done.edges = (if done.edges.0 == 0 { slice.edges.0 } else { done.edges.0 }, slice.edges.1);
            done.findings += slice.findings;
        }
    }

    fn slice(&self, seconds: f64, seed: u32) -> Result<Done, Failure> {
        let found = root().join("fuzz/found").join(format!("{}-", self.name));
        let mut command = self.command();
        command.args([self.work.join("inputs"), self.corpus.clone(), self.work.join("seeds")]);
        command.arg(format!("-dict={}", self.work.join("words").display()));
        command.arg(format!("-artifact_prefix={}", found.display()));
        command.arg(format!("-max_total_time={}", seconds.ceil()));
        // An input of a few kilobytes takes microseconds; 20 s of an otherwise busy machine mean that something grows.
        command.args([format!("-seed={seed}").as_str(), "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        let output = command.stdin(Stdio::null()).output().map_err(machine)?;
        let log = String::from_utf8_lossy(&output.stderr);
        fs::write(self.work.join("log"), log.as_bytes()).map_err(machine)?;
        let findings = usize::from(!output.status.success());
        if findings > 0 {
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        Ok(Done { seconds: 0.0, executions: executions(&log), edges: edges(&log), findings })
    }

    /// The inputs that together reach most edges, while there is room, and all that once broke something.
    fn keep(&self) -> Result<(), Failure> {
        let (merged, control) = (self.work.join("merged"), self.work.join("control"));
        let _ = (fs::remove_dir_all(&merged), fs::remove_file(&control));
        fs::create_dir_all(&merged).map_err(machine)?;
        let mut command = self.command();
        // Its own choice knows no bounds; what it writes down of each input is what ours is made of.
        command
            .args(["-set_cover_merge=1", "-use_counters=0"])
            .arg(format!("-merge_control_file={}", control.display()));
        command.arg(&merged).args([self.work.join("inputs"), self.corpus.clone(), self.work.join("seeds")]);
        command.stdin(Stdio::null()).output().map_err(machine)?;
        let kept = chosen(inputs(&fs::read_to_string(&control).map_err(machine)?));
        let kept = kept.iter().map(|file| Ok((file, fs::read(file)?))).collect::<std::io::Result<Vec<_>>>();
        let kept = kept.map_err(machine)?;
        for (file, _) in files(&self.corpus)?.into_iter().filter(|(file, _)| !is_finding(file)) {
            fs::remove_file(file).map_err(machine)?;
        }
        for (file, bytes) in kept.into_iter().filter(|(file, _)| !is_finding(file)) {
            fs::write(self.corpus.join(file.file_name().unwrap_or_default()), bytes).map_err(machine)?;
        }
        Ok(())
    }

    /// One line on standard output and in `target/fuzz/runs.tsv`.
    fn write_down(&self, done: &Done) -> Result<(), Failure> {
        let corpus = files(&self.corpus)?;
        let bytes: u64 = corpus.iter().map(|(_, bytes)| bytes).sum();
        let (first, last) = done.edges;
        let line = format!(
            "{}\t{:.0} s\t{} executions\t{first} → {last} edges\t{} files, {bytes} bytes\t{} findings\n",
            self.name,
            done.seconds,
            done.executions,
            corpus.len(),
            done.findings
        );
        print!("{line}");
        let file = root().join("target/fuzz/runs.tsv");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, before + &line).map_err(machine)
    }
}

/// An input, its bytes, the features that it reaches.
#[derive(Clone)]
struct Input {
    file: PathBuf,
    bytes: u64,
    features: BTreeSet<u32>,
}

/// What libFuzzer writes down of a merge: the number of files, how many of them are of the first folder, their names, and of each in turn
/// `STARTED number bytes` and `FT number feature…`.
fn inputs(control: &str) -> Vec<Input> {
    let mut lines = control.lines();
    let count = lines.next().and_then(|line| line.parse().ok()).unwrap_or(0);
    let _of_the_first = lines.next();
    let input = |name: &str| Input { file: PathBuf::from(name), bytes: 0, features: BTreeSet::new() };
    let mut inputs: Vec<_> = lines.by_ref().take(count).map(input).collect();
    for line in lines {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let number = words.next().and_then(|word| word.parse::<usize>().ok());
        let Some(input) = number.and_then(|number| inputs.get_mut(number)) else { continue };
        match kind {
            "STARTED" => input.bytes = words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
            "FT" => input.features.extend(words.filter_map(|word| word.parse::<u32>().ok())),
            _ => {}
        }
    }
    inputs
}

/// Of all inputs the one that adds most, again and again, while there is room; of equals the smallest.
fn chosen(mut inputs: Vec<Input>) -> Vec<PathBuf> {
    let (mut chosen, mut room) = (Vec::new(), BYTES_MAX);
    while chosen.len() < FILES_MAX {
        inputs.retain(|input| input.bytes <= room && !input.features.is_empty());
        let best = |input: &&Input| (input.features.len(), Reverse(input.bytes), input.file.clone());
        let Some(Input { file, bytes, features }) = inputs.iter().max_by_key(best).cloned() else { break };
        room -= bytes;
        inputs.iter_mut().for_each(|input| input.features.retain(|feature| !features.contains(feature)));
        chosen.push(file);
    }
    chosen
}

/// What once broke something is called so by hand, and stays.
fn is_finding(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("found-"))
}

fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let entries = fs::read_dir(folder).map_err(machine)?;
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.path(), entry.metadata()?.len()))
    };
    let mut files = entries.map(file).collect::<std::io::Result<Vec<_>>>().map_err(machine)?;
    files.sort();
    Ok(files)
}

/// `stat::number_of_executed_units: 12345`.
fn executions(log: &str) -> u64 {
    let number = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// The first and the last `cov:` of lines like `#42 INITED cov: 917 ft: 1204 corp: 30/2Kb …`.
fn edges(log: &str) -> (u64, u64) {
    let edge = |line: &str| line.split_once("cov: ")?.1.split(' ').next()?.parse().ok();
    let from = |kind: &str| log.lines().filter(|line| line.contains(kind)).find_map(edge);
    (from("INITED").unwrap_or(0), log.lines().rev().find_map(edge).unwrap_or(0))
}

/// Processor seconds of all children that have ended (proc_pid_stat(5), fields 16 and 17, in hundredths).
fn children_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat").map_err(machine)?;
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok());
    let both = ticks(13).zip(ticks(14)).map(|(user, system)| (user + system) / 100.0);
    both.ok_or_else(|| Failure::Machine("/proc/self/stat tells no times".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
INFO: seed corpus: files: 31 min: 1b max: 34295b
#32\tINITED cov: 917 ft: 1204 corp: 30/45Kb exec/s: 0 rss: 52Mb
#4096\tpulse  cov: 950 ft: 1300 corp: 33/45Kb lim: 4 exec/s: 2048 rss: 60Mb
#9000\tDONE   cov: 961 ft: 1320 corp: 40/46Kb lim: 4 exec/s: 3000 rss: 61Mb
stat::number_of_executed_units: 9000
stat::average_exec_per_sec:     3000
";

    #[test]
    fn what_libfuzzer_says_is_read() {
        assert_eq!((edges(LOG), executions(LOG)), ((917, 961), 9_000));
        assert_eq!((edges(""), executions("")), ((0, 0), 0));
    }

    #[test]
    fn what_reaches_most_is_kept_first_and_nothing_for_the_same_again() {
        let control = "4\n0\nlarge\nsmall\nsame\nother\nSTARTED 0 900\nFT 0 1 2 3 \nCOV 0 7\nSTARTED 1 3\nFT 1 1 2\n\
                       STARTED 2 2\nFT 2 1 2\nSTARTED 3 5\nFT 3 4\nDONE 3\n";
        let names =
            |control: &str| chosen(inputs(control)).iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names(control), ["large", "other"]);
        assert_eq!(names(&control.replace("STARTED 0 900", "STARTED 0 200001")), ["same", "other"], "no room for it");
        assert!(names("").is_empty());
    }

    #[test]
    fn processor_time_of_children_grows_with_their_work() {
        let before = children_seconds().unwrap();
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", work]).status().unwrap().success());
        assert!(children_seconds().unwrap() > before);
    }

    #[test]
    fn what_broke_something_once_stays() {
        assert!(is_finding(Path::new("fuzz/corpus/permit/found-overflow")) && !is_finding(Path::new("corpus/ab12")));
    }
}
