//! tally-edge-agent
