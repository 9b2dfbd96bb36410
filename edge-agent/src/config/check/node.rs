//! How the node is reached, and who may reach us.

use super::{Checker, written};
use serde_saphyr::Spanned;
use tally_ledger_client::{Access, NodeAddress, read_token};
use tally_model::Tls;

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
        let file = |key: &Option<Spanned<String>>| key.as_ref().map(|file| self.path(&file.value));
        let tls = Tls {
            ca: file(&written.ca),
            pin: written.pin.as_ref().map(|pin| pin.value.clone()),
            certificate: file(&written.certificate),
            key: file(&written.key),
        };
        let key = tls.key.as_ref().map_or(Ok(()), |key| tally_tls::private_key(key).map(drop));
        if let Err(fault) = key.and_then(|()| tally_tls::check(&tls)) {
            let text = fault.to_string().replace("security: {ca: FILE}", "tls: {ca: FILE}");
            self.fault(node.referenced, text.replace("security: {pin: SHA-256}", "tls: {pin: SHA-256}"));
        }
        tls
    }

    /// Our own interface has neither TLS nor login: it is for this machine, unless somebody says otherwise.
    pub(super) fn listen(&mut self, written: &Spanned<String>, plain: Option<&Spanned<String>>) -> Option<NodeAddress> {
        let plain_is_allowed = plain.is_some_and(|word| word.value == "allowed");
        if let Some(word) = plain.filter(|_| !plain_is_allowed) {
            let text = format!("`{}`: the only word is `allowed`; without it the interface is local", word.value);
            self.fault(word.referenced, text);
        }
        let address: NodeAddress = self.keep(written, written.value.parse())?;
        let text = match &address {
            NodeAddress::Tls { .. } => "the agent's own interface has no TLS; listen at a local socket (`unix:…`)",
            open if !open.is_private() && !plain_is_allowed => {
                "the agent's own interface has neither TLS nor login, and other machines could reach it; listen at a local socket \
                 (`unix:…`) or on loopback, or write `listen_plain: allowed` when a firewall or a proxy stands before it"
            }
            _ => return Some(address),
        };
        self.fault(written.referenced, text);
        None
    }
}
