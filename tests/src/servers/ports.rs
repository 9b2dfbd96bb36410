//! Ports that stay ours while their server is dead.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

/// Below the range from which Linux takes ports for outgoing connections (32768…60999): otherwise, while a server is
/// dead, somebody's connection could take its port, and whoever tries to reach it could end up connected to itself.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Claims, held until this process ends; another test process meets the lock and takes the next port.
static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on which nobody listens and that no other test takes.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free_port() -> u16 {
    // One folder a user: files of another could not be locked.
    let user = tempfile::tempfile().unwrap().metadata().unwrap().uid();
    let dir = std::env::temp_dir().join(format!("tally-test-ports-{user}"));
    std::fs::create_dir_all(&dir).unwrap();
    let mut claims = CLAIMS.lock().unwrap();
    // Different processes begin in different places, so that they seldom meet.
    let span = u32::from(LAST - FIRST) + 1;
    let start = std::process::id().wrapping_mul(97) % span;
    for step in 0..span {
        let port = FIRST + u16::try_from((start + step) % span).unwrap();
        let claim = File::options().create(true).append(true).open(dir.join(port.to_string())).unwrap();
        if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            claims.push(claim);
            return port;
        }
    }
    panic!("no free port from {FIRST} to {LAST}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_bound() {
        let mut ports: Vec<_> = (0..50).map(|_| free_port()).collect();
        assert!(ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
