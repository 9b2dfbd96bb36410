//! What stands between a socket and an HTTP interface, the same for node, witness and agent: sockets, TLS, limits on connections, and
//! who is there.
//!
//! [`Bound`] holds sockets and serves a router on them. Each request carries a [`Peer`] in its extensions: where it came from and the names
//! in its certificate. [`Tokens`] is the file of bearer tokens, [`RateLimiter`] a bucket for each name. What somebody may do is the
//! interface's own business: nothing here knows a path. [`WrittenDoor`] is what a settings file says of all this, the same keys everywhere.
//!
//! **Limits.** 256 connections over all sockets, further ones wait in the kernel's backlog; so many of one peer as [`DoorLimits`] says, further
//! ones are closed at once; a TLS handshake has 5 s, a request's head 10 s.

mod connection;
mod expiry;
mod listen;
mod peer;
mod rate;
mod secure;
mod settings;
mod tallies;
mod tokens;

pub use expiry::Expiry;
pub use listen::{BindError, Bound, Door, DoorLimits, Listen};
pub use peer::{Peer, Place};
pub use rate::RateLimiter;
pub use secure::Secure;
pub use settings::{Places, SettingFault, WrittenDoor, WrittenListen, WrittenTls};
pub use tallies::Tallies;
pub use tokens::{NewToken, Token, TokenFault, Tokens};
