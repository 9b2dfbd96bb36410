//! TLS from files, the same for every connection of the house: rustls with aws-lc, TLS 1.2 and 1.3.
//!
//! [`client_config`]: whom we trust and who we are. [`server_config`]: who we are and whom we let in. [`denied`] and
//! [`in_words`]: what a refused handshake means, for people. [`CertificateFacts`]: names and dates. Nothing here opens a socket or looks at
//! a clock; files are read when a configuration is made, so whoever makes it anew follows a renewed certificate.
//!
//! The other side is known by its authority (`ca`) or by its very certificate (`pin`), never by nothing.

mod certificate;
mod client;
mod expiry;
mod files;
mod pinned;
mod server;
mod words;

pub use certificate::{CertificateFacts, CertificateFault};
pub use client::{check, client_config};
pub use expiry::{Expiring, Stage};
pub use files::{TlsFault, certificates, private_key};
pub use pinned::sha256;
pub use server::{ServerTls, server_config};
pub use words::{code, denied, in_words, refusal_of};
