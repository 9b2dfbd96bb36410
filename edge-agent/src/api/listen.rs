//! Where the interface listens.

use crate::config::AgentConfig;
use tally_door::{BindError, Bound, Door, Secure};
use tally_tls::TlsFault;

/// Why the interface cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificates cannot be used.
    #[error("`listen_tls`: {0}")]
    Tls(#[from] TlsFault),
}

/// Opens the sockets. A file left behind by a dead agent is replaced; one that answers is not.
///
/// # Errors
/// [`ListenError`].
pub async fn open(config: &AgentConfig) -> Result<Bound, ListenError> {
    let secure = config.listen_tls.clone().map(Secure::open).transpose()?;
    Ok(Bound::bind(&config.listen, Door { secure, ..Door::default() }).await?)
}
