//! Modbus TCP: mapping points to few requests ([`plan`]), raw words to values ([`decode_response`]), and the one task
//! that owns the socket ([`link`]).
//!
//! Standards: *Modbus Application Protocol V1.1b3* (cited as "App") and *Modbus Messaging on TCP/IP V1.0b* ("TCP").
//!
//! What the link promises:
//! - an exception costs exactly the points it concerns: a refused request is halved until the bad point stands alone;
//! - after any timeout, broken line or senseless answer the TCP connection is dropped and never reused, so a late
//!   answer cannot be taken for the next one;
//! - a silent unit behind a gateway backs off alone; its neighbours are asked on time;
//! - missed cycles are skipped, not queued.

mod config;
mod decode;
mod error;
mod link;
mod plan;

pub use decode::{decode, decode_response};
pub use error::PlanFault;
pub use link::link;
pub use plan::{
    ANSWER_TIME_TYPICAL, BITS_PER_REQUEST_MAX, Plan, PlannedPoint, REGISTERS_PER_REQUEST_MAX, Request, plan,
};
