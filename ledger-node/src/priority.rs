//! Who goes first on a busy processor: what orders blocks and keeps them, before what checks seals and makes receipts.
//!
//! Everybody who waits, waits for the threads that order and keep blocks: when they lose a slice of some milliseconds to a thread that checks
//! further seals, all waiting statements lose it. Those threads work ahead of need: what they checked waits in the queue. Last of all goes what nobody waits for.

use std::cell::Cell;

/// How much nicer (`sched(7)`) threads become that let others go first: they get a third of the weight.
const NICER: i32 = 5;
/// The nicest there is.
const NICEST: i32 = 19;

thread_local! {
    static HAS_GIVEN_WAY: Cell<bool> = const { Cell::new(false) };
}

/// From now on the calling thread, and those it starts, let others go first. Where the system refuses, only times change.
pub fn give_way() {
    if !HAS_GIVEN_WAY.replace(true) {
        become_nicer(NICER);
    }
}

/// From now on the calling thread, and those it starts, let everybody go first.
pub fn go_last() {
    become_nicer(NICEST);
}

/// Of the calling thread alone: Linux counts niceness by thread (`nice(2)`, "C library/kernel differences"), and goes no higher than
/// [`NICEST`].
fn become_nicer(by: i32) {
    if let Err(fault) = rustix::process::nice(by) {
        tracing::debug!(%fault, "this thread cannot give way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nice` of the calling thread (`proc_pid_stat(5)`, field 19).
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn one_thread_gives_way_once_and_no_other_does() {
        let before = niceness();
        let nicer = std::thread::spawn(|| {
            give_way();
            give_way();
            niceness()
        });
        assert_eq!(nicer.join().unwrap(), (before + NICER).min(NICEST));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn who_goes_last_is_as_nice_as_can_be() {
        let last = std::thread::spawn(|| {
            go_last();
            niceness()
        });
        assert_eq!(last.join().unwrap(), NICEST);
    }
}
