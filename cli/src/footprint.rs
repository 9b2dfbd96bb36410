//! Gives back the pages of the program and its libraries that only its start needed.
//!
//! A start runs through most of the program: options, YAML, schemas, rules. The kernel maps 64 KiB of the program file at
//! each page that is touched, and counts them as resident from then on: 22 MB, of which a small agent
//! uses a third once it runs.
//! Nothing is read from disk for it again: the pages stay in the kernel's cache, from which it maps them anew.

use std::io;
use std::time::Duration;

/// By then an agent has connected to everything that is there.
const AFTER_START: Duration = Duration::from_secs(5);
/// Later on a changed mapping or a reconnect has mapped a part of it again.
const EVERY: Duration = Duration::from_secs(600);

/// Gives back, again and again; never ends.
pub async fn keep_small() {
    tokio::time::sleep(AFTER_START).await;
    loop {
        match give_back() {
            Ok(bytes) => tracing::debug!(bytes, "pages of the program were given back"),
            Err(fault) => tracing::debug!(%fault, "pages of the program are not given back"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Gives back every page of a file that this process has mapped and never written. Says how many bytes were resident of
/// them.
///
/// # Errors
/// When `/proc` is not there, or the kernel refuses.
fn give_back() -> io::Result<u64> {
    let mappings = std::fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for mapping in untouched(&mappings) {
        discard(&mapping)?;
        bytes += mapping.resident;
    }
    Ok(bytes)
}

/// A part of the address space that only repeats what stands in a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    bytes: usize,
    resident: u64,
}

/// The mappings of files in `smaps` (proc(5)) that cannot be written and hold no page of their own: discarding them loses
/// nothing. What the loader has relocated holds such pages, and stays.
fn untouched(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut open: Option<Mapping> = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(kib)) => {
                if let Some(mapping) = &mut open {
                    mapping.resident = kib.parse::<u64>().unwrap_or(0) * 1_024;
                }
            }
            (Some("Anonymous:"), Some(kib)) => found.extend(open.take().filter(|_| kib == "0")),
            (Some(range), Some(rights)) if range.contains('-') => {
                let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
                let is_it = is_file && rights.starts_with('r') && !rights.contains('w');
                open = if is_it { parse(range) } else { None };
            }
            _ => {}
        }
    }
    found
}

fn parse(range: &str) -> Option<Mapping> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let bytes = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    Some(Mapping { start, bytes, resident: 0 })
}

fn discard(mapping: &Mapping) -> io::Result<()> {
    let start = std::ptr::without_provenance_mut(mapping.start);
    // SAFETY: the range is a whole mapping of this process that is read-only and has no page of its own, so that whoever
    // reads there afterwards reads the same bytes of the same file. Should it be gone by now, the kernel says so.
    #[allow(unsafe_code)]
    let done = unsafe { rustix::mm::madvise(start, mapping.bytes, rustix::mm::Advice::LinuxDontNeed) };
    done.map_err(io::Error::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_repeats_a_file_is_given_back() {
        let smaps = "\
55c2e8d47000-55c2e9b90000 r--p 00000000 fe:00 1 /usr/bin/tally
Rss:                4672 kB
Anonymous:             0 kB
55c2e9b90000-55c2ec1bb000 r-xp 00e49000 fe:00 1 /usr/bin/tally
Rss:               15660 kB
Anonymous:             0 kB
55c2ec1bb000-55c2ec38b000 r--p 03473000 fe:00 1 /usr/bin/tally
Rss:                1856 kB
Anonymous:          1848 kB
55c2ec38b000-55c2ec39c000 rw-p 03642000 fe:00 1 /usr/bin/tally
Rss:                  60 kB
Anonymous:             0 kB
7f8c0df7d000-7f8c0e0d3000 r-xp 00026000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6
Rss:                1036 kB
Anonymous:             0 kB
7f8c0e200000-7f8c0e300000 rw-p 00000000 00:00 0
Rss:                1000 kB
Anonymous:          1000 kB
";
        let found = untouched(smaps);
        let expected = [
            (0x55c2_e8d4_7000, 0xe4_9000, 4_672),
            (0x55c2_e9b9_0000, 0x262_b000, 15_660),
            (0x7f8c_0df7_d000, 0x15_6000, 1_036),
        ];
        let expected = expected.map(|(start, bytes, kib)| Mapping { start, bytes, resident: kib * 1_024 });
        assert_eq!(found, expected);
        assert_eq!(untouched(""), []);
        assert_eq!(untouched("x-y r-xp 0 0 0 /usr/bin/tally\nRss: many\nAnonymous: 0 kB"), []);
    }

    #[test]
    fn the_program_goes_on_with_fewer_pages() {
        let resident = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            untouched(&smaps).iter().map(|mapping| mapping.resident).sum::<u64>()
        };
        let before = resident();
        assert!(give_back().unwrap() > 0);
        let after = resident();
        assert!(after < before, "{before} bytes before, {after} after");
    }
}
