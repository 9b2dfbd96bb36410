//! tally-ledger-client
