//! Where a node listens: `unix:/run/tallystick/node.sock` or `tcp:127.0.0.1:7460`.

use std::fmt;
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
}

/// Why a text is not the address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a node address: {reason}; write `unix:/run/tallystick/node.sock` or `tcp:127.0.0.1:7460`")]
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
            Some(("tcp", place)) => parse_tcp(place).map_err(fault),
            _ => Err(fault("it begins with neither `unix:` nor `tcp:`")),
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

fn parse_tcp(place: &str) -> Result<NodeAddress, &'static str> {
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
    Ok(NodeAddress::Tcp { host: host.to_owned(), port })
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["unix:/run/tallystick/node.sock", "tcp:127.0.0.1:7460", "tcp:node.local:1", "tcp:[::1]:7460"] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("", "it begins with neither `unix:` nor `tcp:`"),
            ("http://127.0.0.1:7460", "it begins with neither `unix:` nor `tcp:`"),
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

    proptest! {
        #[test]
        fn any_text_is_an_address_that_round_trips_or_a_fault(text in "(unix:|tcp:)?\\PC{0,40}") {
            if let Ok(address) = text.parse::<NodeAddress>() {
                prop_assert_eq!(address.to_string().parse::<NodeAddress>(), Ok(address));
            }
        }
    }
}
