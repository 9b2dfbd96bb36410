//! The beginning of a connection: TCP, TLS, CONNECT, CONNACK.

use super::codec::{self, In, Out, Welcome};
use super::socket::{self, Socket, io_fault};
use super::{Broken, Setup};
use bytes::BytesMut;
use tally_connector_api::LinkFault;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Connects and says CONNECT. What comes behind the CONNACK stays in `inbox`.
pub(super) async fn hello(setup: &Setup, inbox: &mut BytesMut) -> Result<(Socket, Welcome), Broken> {
    let version = setup.login.version;
    let mut socket = socket::connect(&setup.login).await?;
    let mut connect = BytesMut::new();
    codec::write(version, &Out::Connect(setup), &mut connect, u32::MAX)?;
    // Why the CONNECT could not be sent says less than what comes back.
    if let (Err(fault), _) | (_, Err(fault)) =
        (socket.write.write_all_buf(&mut connect).await, socket.write.flush().await)
    {
        tracing::debug!(%fault, "CONNECT was not sent");
    }
    inbox.clear();
    loop {
        match codec::read(version, inbox, setup.incoming_bytes_max)? {
            Some(In::ConnAck(welcome)) => return Ok((socket, welcome)),
            Some(In::Refused(fault) | In::Leaving(fault)) => return Err(fault.into()),
            Some(other) => return Err(LinkFault::Nonsense(format!("CONNACK was expected, came {other:?}")).into()),
            None => {}
        }
        match socket.read.read_buf(inbox).await {
            Ok(1..) => {}
            Ok(_) if !inbox.is_empty() => {
                return Err(LinkFault::Nonsense("the answer is not MQTT: it ends inside a packet".into()).into());
            }
            Ok(_) => {
                return Err(LinkFault::Line("the broker closed the connection before it let us in".into()).into());
            }
            Err(fault) => return Err(io_fault(&fault).into()),
        }
    }
}
