//! tally
fn main() {}
