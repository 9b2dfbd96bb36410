//! Who is at the other end of a connection, and how many connections he has.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a connection came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A local socket: the file's mode says who may.
    Unix,
    /// A port.
    Tcp(SocketAddr),
}

impl Place {
    /// Whether it is this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix => true,
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
        }
    }

    /// Whose connections are counted together.
    pub(crate) fn counted_as(&self) -> Option<IpAddr> {
        match self {
            Self::Unix => None,
            Self::Tcp(address) => Some(address.ip().to_canonical()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("the local socket"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Who sends a request, as far as the connection tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where he is.
    pub place: Place,
    /// Whether the connection is TLS.
    pub is_secure: bool,
    /// The names in his certificate, which one of our authorities signed; empty without one.
    pub names: Vec<String>,
}

/// How many connections each peer has. One entry for each peer that has any.
#[derive(Debug, Default, Clone)]
pub(crate) struct Crowd(Arc<Mutex<HashMap<Option<IpAddr>, usize>>>);

/// One connection of a peer; counted until it is dropped.
pub(crate) struct Entered {
    crowd: Crowd,
    whose: Option<IpAddr>,
}

impl Crowd {
    /// One more, unless he has `most` already.
    pub(crate) fn enter(&self, whose: Option<IpAddr>, most: usize) -> Option<Entered> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(whose).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Entered { crowd: self.clone(), whose })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_so_many_places_and_they_come_back() {
        let crowd = Crowd::default();
        let anna = Some(IpAddr::from([10, 0, 0, 1]));
        let held: Vec<_> = (0..3).filter_map(|_| crowd.enter(anna, 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(crowd.enter(anna, 3).is_none());
        assert!(crowd.enter(None, 3).is_some() && crowd.enter(Some(IpAddr::from([10, 0, 0, 2])), 3).is_some());
        drop(held);
        assert!(crowd.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv4_loopback_address_in_ipv6_is_this_machine() {
        let place = |text: &str| Place::Tcp(text.parse().unwrap());
        for (text, is_local) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(place(text).is_local(), is_local, "{text}");
        }
        assert!(Place::Unix.is_local());
    }
}
