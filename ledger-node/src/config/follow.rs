//! `key` and `follow` of node.yaml: a node that orders has the ledger's key, one that follows has its public half.

use super::Checker;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::path::{Path, PathBuf};
use tally_ledger_client::{AccessFault, NodeAddress, read_token};
use tally_model::Tls;

/// Files with which a node that follows shows who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FollowAs {
    /// Whom to trust, and our certificate.
    pub tls: Tls,
    /// A token, mode 0600.
    pub token: Option<PathBuf>,
}

impl FollowAs {
    /// Reads the token; certificates are read at every connect.
    ///
    /// # Errors
    /// [`AccessFault`].
    pub fn access(&self) -> Result<tally_ledger_client::Access, AccessFault> {
        let token = self.token.as_deref().map(read_token).transpose()?;
        Ok(tally_ledger_client::Access { tls: self.tls.clone(), token })
    }
}

/// Whom this node follows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFollow {
    from: Spanned<String>,
    ledger_key: PathBuf,
    tls: Option<RawClientTls>,
    token: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClientTls {
    ca: Option<PathBuf>,
    pin: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl RawClientTls {
    /// Its files, from the configuration's folder.
    pub(crate) fn files(&self, folder: &Path) -> Tls {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| folder.join(path));
        let (certificate, key) = (file(&self.certificate), file(&self.key));
        Tls { ca: file(&self.ca), pin: self.pin.clone(), certificate, key }
    }
}

pub(super) fn follow_as(raw: Option<&RawFollow>, folder: &Path) -> FollowAs {
    let tls = raw.and_then(|raw| raw.tls.as_ref()).map(|tls| tls.files(folder));
    let token = raw.and_then(|raw| raw.token.as_ref()).map(|token| folder.join(token));
    FollowAs { tls: tls.unwrap_or_default(), token }
}

impl Checker<'_> {
    /// The ledger's key: its own, or the public one beside the address of the node that orders.
    pub(super) fn key(
        &mut self,
        key: Option<PathBuf>,
        follow: Option<&Spanned<RawFollow>>,
        ledger: &Spanned<String>,
        has_witnesses: bool,
    ) -> (PathBuf, Option<NodeAddress>) {
        const HINT: &str =
            "a node that orders has `key`; one that follows has `follow: {from: tcp:HOST:PORT, ledger_key: FILE}`";
        let Some(follow) = follow else {
            if key.is_none() {
                self.fault(ledger, "key", "neither `key` nor `follow`".to_owned(), HINT);
            }
            let key = key.unwrap_or_default();
            let why = "receipts are signed anew whenever they are asked for, thousands a second, and come out the same";
            self.in_a_file(ledger, "key", &key, why);
            return (self.folder.join(key), None);
        };
        if key.is_some() {
            self.fault(follow, "follow", "`key` beside it".to_owned(), HINT);
        }
        if has_witnesses {
            let hint = "only the node that orders has notes for witnesses to sign; remove `witnesses`";
            self.fault(follow, "follow", "`witnesses` beside it".to_owned(), hint);
        }
        let from = &follow.value.from;
        let address = from.value.parse().map_err(|fault| {
            self.fault(from, "follow.from", format!("`{}`: {fault}", from.value), "for example `tls:node.plant:7460`");
        });
        (self.folder.join(&follow.value.ledger_key), address.ok())
    }
}
