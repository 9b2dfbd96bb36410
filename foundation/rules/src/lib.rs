//! tally-rules
