//! What machine the figures are of.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// The machine.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_mib: Option<u64>,
    data_dir: PathBuf,
    file_system: String,
}

impl Machine {
    pub fn look(dir: &Path) -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory.and_then(|text| text.strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok()));
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: memory_kib.map(|kib| kib / 1024),
            data_dir: dir.to_owned(),
            file_system: file_system(dir, &read("/proc/self/mounts")),
        }
    }
}

/// Type of the file system with the longest mount point above `dir`.
fn file_system(dir: &Path, mounts: &str) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(point, _)| dir.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory_mib.map_or_else(|| "?".to_owned(), |mib| mib.to_string());
        writeln!(f, "machine  {} × {}, {memory} MiB, Linux {}", self.cores, self.cpu, self.kernel)?;
        write!(
            f,
            "disk     {} ({}); \"synced\" means fdatasync returned: what the host below does is not known",
            self.data_dir.display(),
            self.file_system
        )
    }
}
