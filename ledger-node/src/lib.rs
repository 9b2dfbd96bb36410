//! tally-ledger-node
