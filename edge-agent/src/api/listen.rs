//! Where the interface listens.

use std::io;
use tally_door::{BindError, Bound, Door, Listen};
use tally_ledger_client::NodeAddress;
use tokio::net::lookup_host;

/// Why the interface cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A name without an address, or what cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Name {
        /// Where.
        address: NodeAddress,
        /// Why.
        source: io::Error,
    },
}

/// Opens the socket. A file left behind by a dead agent is replaced; one that answers is not.
///
/// # Errors
/// [`ListenError`].
pub async fn open(address: &NodeAddress) -> Result<Bound, ListenError> {
    let fault = |source| ListenError::Name { address: address.clone(), source };
    let place = match address {
        NodeAddress::Unix(path) => Listen::Unix(path.clone()),
        NodeAddress::Tcp { host, port } => {
            let found = lookup_host((host.as_str(), *port)).await.map_err(fault)?.next();
            Listen::Tcp(found.ok_or_else(|| fault(io::Error::other("the name has no address")))?)
        }
        // Refused by the configuration already.
        NodeAddress::Tls { .. } => return Err(fault(io::Error::other("the agent's interface has no TLS"))),
    };
    Ok(Bound::bind(&[place], Door::default()).await?)
}
