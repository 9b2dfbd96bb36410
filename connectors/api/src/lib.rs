//! What every connector is: one task that owns one connection, hands out [`Batch`]es of samples, and
//! always says how its link is doing ([`LinkState`]).
//!
//! Rules for connectors (checked in review and by their testcases):
//! - a bad point, a silent device or a refusing server never stops a neighbour: what did not come is a
//!   [`tally_model::Sample`] with a reason, and the link goes on;
//! - every link reconnects by itself with [`Backoff`]; when it goes down, one `LinkDown` sample per point says so;
//! - the first failure and the recovery are logged, the rest is counted in [`LinkStatus::faults`];
//! - the sink is bounded: a full sink slows the connector down, and nothing is dropped inside a connector;
//! - stopping is a parameter: when [`LinkContext::stop`] is cancelled, `run` returns within a second.

mod backoff;
mod clock;
mod link;
mod seals;
pub mod tls;

pub use backoff::{Backoff, BackoffFault};
pub use clock::{Clock, ClockHealth, LEAP, ReadClockState, SystemClock};
pub use link::{
    Batch, HistoricalBatch, Link, LinkContext, LinkFault, LinkState, LinkStatus, SINK_BATCHES_MAX, StatusReporter,
    down_batch, down_sample,
};
pub use seals::OpenSeal;
