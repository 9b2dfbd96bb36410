//! A small certificate authority for a plant that has none. A plant that has one goes on with its own: nothing else in this house knows
//! which of the two signed a certificate.
//!
//! [`Authority`]: a folder with its key, its certificate and everything it issued. [`Est`]: enrolment over HTTPS in the shape of RFC 7030.
//! [`Request`]: a key and the request that asks for its certificate. Certificates are for TLS only: no key on a ledger hangs on them.
//!
//! **Trusted with** who gets into the node's interface. **Its thief could** let himself in with any role that node.yaml gives a name; he could
//! seal nothing, for sealing keys are registered on the ledger and not signed by anybody.

mod authority;
mod certs_only;
mod est;
mod fault;
mod files;
mod key;
mod request;

pub use authority::{Authority, CA_DAYS, Issued, LEAF_DAYS};
#[doc(hidden)]
pub use certs_only::{pack, unpack};
pub use est::{Est, InvitePaths, enrol, reenrol, routes};
pub use fault::CaFault;
pub use files::{names_of, pem, replace, request_bytes, write_new};
pub use request::{Asked, Request};
