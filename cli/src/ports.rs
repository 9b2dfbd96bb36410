//! Free TCP ports on loopback.

use crate::answer::{Context, Fault};

/// A port nobody listens on at this moment; somebody else could take it before we do, which then shows as a clear error.
pub fn free() -> Result<u16, Fault> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr().context("looking for a free port")?.port())
}
