//! tally-verifier
