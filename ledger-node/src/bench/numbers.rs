//! What the system counts for this process, and sums over what was measured.

use std::path::{Path, PathBuf};

/// Cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processor time of this process so far; 0 where the system does not say.
pub(super) fn cpu_seconds() -> f64 {
    stat_seconds(Path::new("/proc/self/stat"))
}

/// The same of its threads that are called `name` (at most 15 bytes) and still run.
pub(super) fn thread_cpu_seconds(name: &str) -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|thread| thread.path());
    let is_named =
        |thread: &PathBuf| std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == name);
    threads.filter(is_named).map(|thread| stat_seconds(&thread.join("stat"))).sum()
}

/// User and system time (`proc_pid_stat(5)`, fields 14 and 15).
fn stat_seconds(file: &Path) -> f64 {
    /// `USER_HZ`: 100 on every Linux architecture Rust knows.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(file).unwrap_or_default();
    // The name in the second field may hold anything, but nothing behind it a parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// Bytes that this process has had the system write to disks (`proc_pid_io(5)`, `write_bytes`); 0 where it does not say.
pub(super) fn written_bytes() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0)
}

/// Mean.
pub(super) fn mean(sizes: &[usize]) -> f64 {
    sizes.iter().sum::<usize>() as f64 / sizes.len().max(1) as f64
}

/// The value below which `share` of the values lie.
pub(super) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
