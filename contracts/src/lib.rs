//! tally-contracts
