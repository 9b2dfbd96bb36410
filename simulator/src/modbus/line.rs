//! What a line is before anybody talks on it: a socket that listens, certificates, a serial line.

use super::frames::Framing;
use super::serial::{self, SerialPort};
use super::tls::Pki;
use crate::SimError;
use crate::run::bind;
use std::path::{Path, PathBuf};
use tally_model::ModbusLine;
use tokio::net::TcpListener;

/// An open line.
pub(crate) enum OpenLine {
    Tcp { listener: TcpListener, framing: Framing },
    Tls { listener: TcpListener, pki: Pki },
    Serial { line: SerialPort, framing: Framing },
}

impl OpenLine {
    /// Opens what `line` says, for the devices `names`; port 0 takes a free one, and a serial line that does not exist is
    /// made. Gives the line as it really is.
    pub(crate) async fn open(
        line: &ModbusLine,
        names: &str,
        pki: Option<&Path>,
    ) -> Result<(Self, ModbusLine), SimError> {
        let serial = |path: &Path| {
            serial::open(path).map_err(|reason| SimError::Modbus(format!("{names}: {}: {reason}", path.display())))
        };
        Ok(match line {
            ModbusLine::Tcp { host, port } => {
                let (listener, port) = bind(names, host, *port).await?;
                (Self::Tcp { listener, framing: Framing::Mbap }, ModbusLine::Tcp { host: host.clone(), port })
            }
            ModbusLine::RtuOverTcp { host, port } => {
                let (listener, port) = bind(names, host, *port).await?;
                (Self::Tcp { listener, framing: Framing::Rtu }, ModbusLine::RtuOverTcp { host: host.clone(), port })
            }
            ModbusLine::AsciiOverTcp { host, port } => {
                let (listener, port) = bind(names, host, *port).await?;
                (Self::Tcp { listener, framing: Framing::Ascii }, ModbusLine::AsciiOverTcp { host: host.clone(), port })
            }
            ModbusLine::Tls { host, port } => {
                let pki = Pki::prepare(pki, host).map_err(|reason| SimError::Modbus(format!("{names}: {reason}")))?;
                let (listener, port) = bind(names, host, *port).await?;
                (Self::Tls { listener, pki }, ModbusLine::Tls { host: host.clone(), port })
            }
            ModbusLine::Rtu(at) => (Self::Serial { line: serial(&at.path)?, framing: Framing::Rtu }, line.clone()),
            ModbusLine::Ascii(at) => (Self::Serial { line: serial(&at.path)?, framing: Framing::Ascii }, line.clone()),
        })
    }

    /// Where its certificates are, if it has any.
    pub(crate) fn certificates(&self) -> Option<PathBuf> {
        match self {
            Self::Tls { pki, .. } => Some(pki.folder().to_owned()),
            _ => None,
        }
    }
}
