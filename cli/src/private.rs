//! What a program that holds keys does so that its memory stays its own.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core file, and no other program of the same user may look into the memory (prctl(2), PR_SET_DUMPABLE; setrlimit(2),
/// RLIMIT_CORE): a crash must not write a key to disk, nor hand it to a crash reporter. Programs started from here inherit the limit.
///
/// A kernel that refuses, as under some sandboxes, is a warning: the keys are as safe as the sandbox.
pub fn keep_out() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    for (what, done) in [
        ("no core files", setrlimit(Resource::Core, none)),
        ("no looking into memory", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
    ] {
        if let Err(fault) = done {
            tracing::warn!(what, %fault, "the kernel refuses a protection of the keys in memory");
        }
    }
}
