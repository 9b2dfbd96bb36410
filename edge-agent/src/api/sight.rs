//! Who sees what shows a key at the agent's own interface. Whoever has a signature and what is under it computes the public key (SEC 1
//! v2, section 4.1.6), so what the agent sealed shows the agent's, and readings that a device sealed itself show the device's. Owners may hide
//! these keys (`docs/decisions/039`).
//!
//! **Who.** This machine (the local socket, loopback without a certificate) sees everything: it has the vault. Others are the party
//! whose id is the name in their certificate, or nobody. This interface knows no roles, so roles that a rule names open nothing here.
//!
//! **By what.** The rules stand on the ledger, and the node says what they mean, at each question anew: nothing is remembered, so nothing
//! is shown by a rule of yesterday. Where the node does not answer, others are not answered either.

use super::Api;
use super::problem::Problem;
use serde_json::Value;
use std::sync::Arc;
use tally_door::Peer;
use tally_journal::Storage;
use tally_ledger_client::RequestError;
use tally_model::PartyId;

/// What an answer may show of keys that their owners may hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// None of them, whoever asks.
    Nothing,
    /// What the agent sealed.
    AgentSeals,
    /// What a device sealed itself.
    DeviceSeals,
}

/// More names than anybody needs in a certificate: each is a question to the node.
const NAMES_MAX: usize = 8;

/// Refuses whoever may not see the key of this party: the agent, or a device that seals itself.
///
/// # Errors
/// 403 `withheld` with the rule; 503 `sight` when the node does not say.
pub(super) async fn needs<S: Storage>(api: &Arc<Api<S>>, peer: &Peer, of: &str) -> Result<(), Problem> {
    if peer.names.is_empty() && peer.place.is_local() {
        return Ok(());
    }
    let names = peer.names.iter().filter_map(|name| PartyId::try_new(name.as_str()).ok());
    let mut readers: Vec<_> = names.take(NAMES_MAX).map(|name| format!("?reader={name}")).collect();
    if readers.is_empty() {
        // Nobody the ledger could know.
        readers.push(String::new());
    }
    let mut withheld = Value::Null;
    for reader in readers {
        let asked = api.node.get_json(&format!("/registry/parties/{of}/sight{reader}")).await;
        withheld = asked.map_err(|fault| unknown(of, &fault))?["withheld"].take();
        if withheld.is_null() {
            return Ok(());
        }
    }
    let (by, entry) = (withheld["by"].as_str().unwrap_or("?"), withheld["entry"].as_u64().unwrap_or_default());
    let text = format!("what shows the key of `{of}` is withheld by the policy of `{by}`, entry {entry}");
    Err(Problem::forbidden("withheld", text, "ask at the agent's own socket, or whoever made the policy"))
}

fn unknown(of: &str, fault: &RequestError) -> Problem {
    Problem::not_now("sight", format!("the node does not say who may see what shows the key of `{of}`: {fault}"))
}
