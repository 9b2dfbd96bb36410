//! `agent.yaml` as written. Unknown keys are refused here, everything else is checked one step later.

use serde::Deserialize;
use serde_saphyr::Spanned;
use tally_door::{WrittenListen, WrittenTls};
use tally_model::Secret;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub name: Spanned<String>,
    pub ledger: Spanned<String>,
    pub mapping: Spanned<String>,
    pub data: Spanned<String>,
    pub key: Spanned<String>,
    pub pki: Option<Spanned<String>>,
    pub node: Spanned<String>,
    pub tls: Option<NodeTls>,
    pub token: Option<Spanned<String>>,
    pub ledger_key: Option<Spanned<String>>,
    pub broker: Option<Broker>,
    pub listen: Spanned<WrittenListen>,
    pub listen_plain: Option<Spanned<String>>,
    pub listen_tls: Option<Spanned<WrittenTls>>,
    #[serde(default)]
    pub anchors: Anchors,
    pub batch: Option<Batch>,
    #[serde(default)]
    pub gate: Gate,
    #[serde(default)]
    pub limits: Limits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeTls {
    pub ca: Option<Spanned<String>>,
    pub pin: Option<Spanned<String>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anchors {
    pub every: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    pub proof_age: Option<Spanned<String>>,
    pub past_age: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    pub triggers: Option<Spanned<u32>>,
    pub within: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    pub url: Spanned<String>,
    pub mode: Option<Spanned<String>>,
    pub prefix: Option<Spanned<String>>,
    pub user: Option<String>,
    pub password: Option<Spanned<Secret>>,
    pub ca: Option<Spanned<String>>,
    pub pin: Option<Spanned<String>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub history: History,
    pub sparkplug: Option<Sparkplug>,
    pub commands: Option<Commands>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commands {
    pub age: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sparkplug {
    pub group: Spanned<String>,
    pub edge_node: Option<Spanned<String>>,
    pub primary_host: Option<Spanned<String>>,
    #[serde(default)]
    pub servers: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    pub bytes_max: Option<Spanned<String>>,
    pub hours: Option<Spanned<u16>>,
    pub values_per_second: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub outbox_bytes_max: Option<Spanned<String>>,
    pub vault_days: Option<Spanned<u16>>,
    pub vault_bytes_max: Option<Spanned<String>>,
}
