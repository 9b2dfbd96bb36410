//! Certificates for tests, made by the authority that `tally ca` is.

use std::time::{SystemTime, UNIX_EPOCH};
use tally_ca::Authority;
use tally_model::Tls;
use tally_tls::ServerTls;

pub const DAY: u64 = 86_400;

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A plant's authority, and one of somebody else.
pub struct Pki {
    dir: tempfile::TempDir,
    pub ours: Authority,
    pub theirs: Authority,
}

impl Pki {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let long_ago = now() - 100 * DAY;
        let of = |name: &str| Authority::init(&dir.path().join(name), name, 3_650, long_ago).unwrap();
        let (ours, theirs) = (of("ours"), of("theirs"));
        Self { ours, theirs, dir }
    }

    /// What the agent shows, good for so many days from `begins`.
    pub fn server(&self, days: u32, begins: u64) -> ServerTls {
        let folder = self.dir.path().join("agent");
        self.ours.issue_into(&folder, &["localhost".to_owned()], days, begins).unwrap();
        ServerTls {
            certificate: folder.join("localhost.pem"),
            key: folder.join("localhost.key"),
            client_ca: Some(self.ours.dir().join("ca.pem")),
            is_optional: false,
            crl: None,
        }
    }

    /// A client that trusts one authority and shows a certificate of another, or none.
    pub fn client(&self, trusts: &Authority, shown: Option<&Authority>) -> Tls {
        let files = shown.map(|authority| {
            let folder = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
            authority.issue_into(&folder, &["prometheus".to_owned()], 30, now()).unwrap();
            (folder.join("prometheus.pem"), folder.join("prometheus.key"))
        });
        let (certificate, key) = files.unzip();
        Tls { ca: Some(trusts.dir().join("ca.pem")), pin: None, certificate, key }
    }
}
