//! What a process or a thread has used, from `/proc` (proc(5)).

use crate::answer::{Context, Fault};

/// Clock ticks a second in `/proc/PID/stat`: USER_HZ, which is 100 on every architecture that Linux gives us.
const TICKS: f64 = 100.0;

/// Memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Resident now, in MB (10⁶ bytes).
    pub resident_mb: f64,
    /// Resident at most since its start, in MB.
    pub resident_mb_max: f64,
    /// Of what is resident now, in MB: without the pages of its program file, which the kernel shares and takes back.
    pub own_mb: f64,
}

impl Usage {
    /// Of a process that still runs.
    pub fn of(pid: &str) -> Result<Self, Fault> {
        let file = format!("/proc/{pid}/status");
        let text = std::fs::read_to_string(&file).context(&file)?;
        let megabytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib: f64 = line?.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024.0 / 1e6)
        };
        let found = megabytes("VmRSS").zip(megabytes("VmHWM")).zip(megabytes("RssAnon"));
        let ((resident_mb, resident_mb_max), own_mb) =
            found.ok_or_else(|| format!("{file} says nothing about memory"))?;
        Ok(Self { resident_mb, resident_mb_max, own_mb })
    }
}

/// Seconds of processor time, user and system, of a process (`PID`) or of the calling thread (`thread-self`).
pub fn cpu_seconds(who: &str) -> Result<f64, Fault> {
    let file = format!("/proc/{who}/stat");
    let text = std::fs::read_to_string(&file).context(&file)?;
    ticks(&text).map(|ticks| ticks / TICKS).ok_or_else(|| format!("{file} says nothing about time").into())
}

/// utime + stime: fields 14 and 15, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn this_process_has_memory_and_used_time() {
        let me = Usage::of("self").unwrap();
        assert!(me.resident_mb > 0.1 && me.resident_mb_max >= me.resident_mb && me.own_mb < me.resident_mb);
        let before = cpu_seconds("thread-self").unwrap();
        let began = std::time::Instant::now();
        while cpu_seconds("thread-self").unwrap() - before < 0.05 {
            assert!(began.elapsed().as_secs() < 60, "time does not pass");
        }
    }
}
