//! Standard output that went away or is full: `tally ledger entries | head -1` is nothing to panic about.
//!
//! `println!` panics when it cannot write, and that is the only way in which it says so. Such a panic is let through to `main`
//! without a word about threads and backtraces, so that everything on its way is still put down (a demo's children end).

use std::any::Any;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};

/// How the standard library begins what it says when `print!` and `eprint!` cannot write.
const LOST: &str = "failed printing to std";

/// Runs `main`; `None` when nobody took what it said.
pub fn told<T>(main: impl FnOnce() -> T) -> Option<T> {
    let shown = take_hook();
    set_hook(Box::new(move |panic| match lost(panic.payload()) {
        None => shown(panic),
        // Whoever closed the pipe has read what he wanted to read.
        Some(why) if why.contains("Broken pipe") => {}
        Some(why) => {
            let _ = writeln!(std::io::stderr(), "tally: {why}");
        }
    }));
    match catch_unwind(AssertUnwindSafe(main)) {
        Ok(answer) => Some(answer),
        Err(payload) if lost(payload.as_ref()).is_some() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// What the standard library said, when this is a panic of `print!`.
fn lost(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>().map(String::as_str).filter(|text| text.starts_with(LOST))
}
