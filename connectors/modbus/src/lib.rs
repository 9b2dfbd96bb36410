//! Modbus: mapping points to few requests ([`plan`]), raw words to values ([`decode_response`]), and the one task that
//! owns the line ([`link`]): TCP, TLS, RTU and ASCII, serial or over TCP.
//!
//! Standards: *Modbus Application Protocol V1.1b3* (cited as "App"), *Modbus Messaging on TCP/IP V1.0b* ("TCP"), *Modbus
//! over Serial Line V1.02* and *MODBUS/TCP Security V36*.
//!
//! What the link promises:
//! - an exception costs exactly the points it concerns: a refused request is halved until the bad point stands alone;
//! - after any timeout, broken line or senseless answer no late answer can be taken for the next one: connections with
//!   transaction ids are dropped, others are drained for as long as an answer may still come;
//! - a silent unit backs off alone; its neighbours on the line are asked on time;
//! - missed cycles are skipped, not queued, and counted;
//! - nothing is written except by who holds the [`Writer`].

mod config;
mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod link;
mod plan;
mod probe;
mod session;
mod transport;
mod write;

pub use decode::{decode, decode_response};
pub use encode::{EncodeFault, encode};
pub use error::PlanFault;
pub use identity::{Identification, identity};
pub use link::{CONNECT_TIME_MAX, link, link_with_writer};
pub use plan::{
    ANSWER_TIME_TYPICAL, BITS_PER_REQUEST_MAX, Plan, PlannedPoint, REGISTERS_PER_REQUEST_MAX, Request, plan,
};
pub use probe::{Line, Readings, readings, texts};
pub use session::Session;
pub use write::{ORDERS_MAX, READ_WRITE_REGISTERS_MAX, WRITE_BITS_MAX, WRITE_REGISTERS_MAX, Write, WriteFault, Writer};

use plan::read_request;
