//! Ports that stay ours while their server is dead. Other crates' tests include this file too: there is one way to a port.

use std::fs::File;
use std::net::TcpStream;
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
        // Asked, not tried with a listener of ours: a child that is just being started has a copy of all our sockets until it
        // runs its program, and would go on listening for a moment after we stopped.
        if claim.try_lock().is_ok() && TcpStream::connect(("127.0.0.1", port)).is_err() {
            claims.push(claim);
            return port;
        }
    }
    panic!("no free port from {FIRST} to {LAST}");
}
