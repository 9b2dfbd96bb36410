//! tally-simulator
