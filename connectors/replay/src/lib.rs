//! tally-connector-replay
