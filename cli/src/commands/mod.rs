//! One file a command; each reads its arguments, asks the crates below, and shows the answer.

pub mod access;
pub mod agent;
pub mod backup;
pub mod balance;
pub mod bench;
pub mod browse;
pub mod call;
pub mod check;
pub mod convert;
pub mod evidence;
pub mod init;
pub mod keys;
pub mod ledger;
pub mod node;
pub mod order;
pub mod plan;
pub mod probe;
pub mod prove;
pub mod query;
pub mod reload;
pub mod sim;
pub mod status;
pub mod timestamp;
pub mod trust;
pub mod verify;
pub mod witness;
