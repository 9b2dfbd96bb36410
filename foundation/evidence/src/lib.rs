//! tally-evidence
