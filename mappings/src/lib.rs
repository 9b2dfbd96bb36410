//! tally-mappings
