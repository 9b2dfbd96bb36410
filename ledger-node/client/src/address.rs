//! Where a node listens: `unix:/run/tallystick/node.sock`, `tcp:127.0.0.1:7460`, or with TLS `tls:node.plant:7460`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest socket path Linux takes, without the closing zero (`sun_path`, unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Address of a node's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddress {
    /// A local socket.
    Unix(PathBuf),
    /// A host and a port.
    Tcp {
        /// Name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// The same with TLS.
    Tls {
        /// Name or address, as the node's certificate has it; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

impl NodeAddress {
    /// Whether nobody on the way can read what is said: TLS, or this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tls { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
        }
    }
}

/// Why a text is not the address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a node address: {reason}; write `unix:/run/tallystick/node.sock`, `tcp:127.0.0.1:7460` or `tls:HOST:7460`"
)]
pub struct AddressFault {
    /// What was written.
    pub found: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for NodeAddress {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let fault = |reason| AddressFault { found: text.to_owned(), reason };
        match text.split_once(':') {
            Some(("unix", path)) => parse_unix(path).map_err(fault),
            Some(("tcp", place)) => {
                parse_place(place).map(|(host, port)| NodeAddress::Tcp { host, port }).map_err(fault)
            }
            Some(("tls", place)) => {
                parse_place(place).map(|(host, port)| NodeAddress::Tls { host, port }).map_err(fault)
            }
            _ => Err(fault("it begins with none of `unix:`, `tcp:` and `tls:`")),
        }
    }
}

fn parse_unix(path: &str) -> Result<NodeAddress, &'static str> {
    if !path.starts_with('/') {
        return Err("the path of a socket is absolute");
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err("the path of a socket has at most 107 bytes");
    }
    Ok(NodeAddress::Unix(PathBuf::from(path)))
}

fn parse_place(place: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = place.rsplit_once(':').ok_or("the port is missing")?;
    let port = port.parse().map_err(|_| "a port is a number from 0 to 65535")?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("an IPv6 address stands in brackets");
    }
    let host = bare.unwrap_or(host);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(allowed) {
        return Err("the host is missing or holds a character that no host has");
    }
    Ok((host.to_owned(), port))
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => write_place(f, "tcp", host, *port),
            Self::Tls { host, port } => write_place(f, "tls", host, *port),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, scheme: &str, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "{scheme}:[{host}]:{port}") } else { write!(f, "{scheme}:{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "unix:/run/tallystick/node.sock",
            "tcp:127.0.0.1:7460",
            "tcp:node.local:1",
            "tcp:[::1]:7460",
            "tls:n.plant:7460",
            "tls:[fe80::1]:1",
        ] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("", "it begins with none of `unix:`, `tcp:` and `tls:`"),
            ("http://127.0.0.1:7460", "it begins with none of `unix:`, `tcp:` and `tls:`"),
            ("unix:node.sock", "the path of a socket is absolute"),
            ("tcp:localhost", "the port is missing"),
            ("tcp:localhost:70000", "a port is a number from 0 to 65535"),
            ("tcp:::1:7460", "an IPv6 address stands in brackets"),
            ("tcp::7460", "the host is missing or holds a character that no host has"),
            ("tcp:a b:7460", "the host is missing or holds a character that no host has"),
        ] {
            assert_eq!(text.parse::<NodeAddress>().unwrap_err().reason, reason, "{text}");
        }
        assert!(format!("unix:/{}", "x".repeat(107)).parse::<NodeAddress>().is_err());
    }

    #[test]
    fn what_others_can_read_is_known() {
        for (text, is_private) in [
            ("unix:/n.sock", true),
            ("tcp:127.0.0.1:1", true),
            ("tcp:[::1]:1", true),
            ("tcp:localhost:1", true),
            ("tls:10.0.0.5:1", true),
            ("tcp:10.0.0.5:1", false),
            ("tcp:node.plant:1", false),
        ] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().is_private(), is_private, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_that_round_trips_or_a_fault(text in "(unix:|tcp:|tls:)?\\PC{0,40}") {
            if let Ok(address) = text.parse::<NodeAddress>() {
                prop_assert_eq!(address.to_string().parse::<NodeAddress>(), Ok(address));
            }
        }
    }
}
