//! How the node is reached, and who may reach us.

use super::{Checker, written};
use serde_saphyr::{Location, Spanned};
use std::net::Ipv4Addr;
use tally_door::{Listen, Place, Places, WrittenDoor};
use tally_ledger_client::{Access, NodeAddress, read_token};
use tally_model::Tls;
use tally_tls::ServerTls;

impl Checker<'_> {
    /// Certificates for a `tls:` node, a token for any that others cannot listen in on.
    pub(super) fn access(&mut self, written: &written::Written, node: Option<&NodeAddress>) -> Access {
        let tls = match (&written.tls, node) {
            (Some(tls), Some(NodeAddress::Tls { .. })) => self.node_tls(tls, &written.node),
            (Some(_), Some(_)) => {
                let text = "`tls` is for a node that is reached over TLS: write `node: tls:HOST:PORT`";
                self.fault(written.node.referenced, text);
                Tls::default()
            }
            (None, Some(NodeAddress::Tls { .. })) => {
                self.fault(
                    written.node.referenced,
                    "nothing says which node to trust: write `tls: {ca: FILE, certificate: FILE, key: FILE}` too",
                );
                Tls::default()
            }
            _ => Tls::default(),
        };
        let token = written.token.as_ref().and_then(|file| {
            if node.is_some_and(|node| !node.is_private()) {
                self.fault(file.referenced, "others could read the token on the way: write `node: tls:HOST:PORT`");
                return None;
            }
            let path = self.path(&file.value);
            self.keep(file, read_token(&path))
        });
        Access { tls, token }
    }

    fn node_tls(&mut self, written: &written::NodeTls, node: &Spanned<String>) -> Tls {
        let tls = self.tls_files(&written.ca, &written.pin, &written.certificate, &written.key);
        if let Err(fault) = tally_tls::check(&tls) {
            let text = fault.to_string().replace("security: {ca: FILE}", "tls: {ca: FILE}");
            self.fault(node.referenced, text.replace("security: {pin: SHA-256}", "tls: {pin: SHA-256}"));
        }
        tls
    }

    /// Where our own interface listens. It has no login: over TLS, beyond this machine, the certificate of the client is one.
    pub(super) fn listen(&mut self, written: &written::Written) -> Option<Places> {
        let tls = written.listen_tls.as_ref();
        let door = WrittenDoor {
            listen: Some(&written.listen),
            plain: written.listen_plain.as_ref(),
            tls: tls.map(|tls| &tls.value),
            tls_key: "listen_tls",
            // Not used: `listen` is always there.
            usual: (Ipv4Addr::LOCALHOST, 7461).into(),
        };
        let folder = self.path("");
        let checked = door.check(&folder).map_err(|faults| {
            for fault in faults {
                self.fault(fault.at, format!("`{}`: {}; {}", fault.key, fault.found, fault.hint));
            }
        });
        let places = checked.ok()?;
        if let (Some(written), Some(files)) = (tls, &places.tls) {
            self.listen_tls(written.referenced, files, &places.listen);
        }
        Some(places)
    }

    /// Files that cannot be used, and readers whom nobody looks at, are told before anything runs.
    fn listen_tls(&mut self, at: Location, files: &ServerTls, listen: &[Listen]) {
        if let Err(fault) = tally_tls::server_config(files) {
            self.fault(at, format!("`listen_tls`: {fault}"));
        }
        let is_reached = |place: &Listen| matches!(place, Listen::Tls(address) if !Place::Tcp(*address).is_local());
        if files.client_ca.is_none() && !files.is_optional && listen.iter().any(is_reached) {
            let text = "`listen_tls`: the agent's interface has no login, so whoever reaches the port could read it; write \
                `client_ca: FILE`, so that only clients with a certificate get in, or `clients: optional` when everybody may read";
            self.fault(at, text);
        }
    }
}
