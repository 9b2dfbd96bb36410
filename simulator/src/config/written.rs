//! The simulator's YAML as written, before it is checked. Unknown keys are refused here.

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tally_model::{AddressBase, ByteOrder, Encoding, Secret, Value, parse_duration};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plant {
    #[serde(default = "first_seed")]
    pub seed: u64,
    #[serde(default)]
    pub models: BTreeMap<String, Spanned<Model>>,
    pub broker: Option<u16>,
    pub devices: Vec<Device>,
}

fn first_seed() -> u64 {
    1
}

/// One flat form for all kinds, because tagged enums lose line numbers; which keys belong to which kind is checked later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub kind: Kind,
    pub healthy: Option<f64>,
    pub worn: Option<f64>,
    pub wears_out_in: Option<Span>,
    pub noise: Option<f64>,
    pub ambient: Option<f64>,
    pub hot: Option<f64>,
    pub follows: Option<String>,
    pub time_constant: Option<Span>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Wear,
    Heating,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub id: Spanned<String>,
    pub serve: Spanned<String>,
    pub every: Option<Span>,
    /// Where the numbers behind table words begin (Modbus).
    #[serde(default)]
    pub base: AddressBase,
    pub pki: Option<PathBuf>,
    pub opcua: Option<Spanned<OpcUa>>,
    pub identity: Option<Spanned<Identity>>,
    #[serde(default)]
    pub faults: Vec<Fault>,
    #[serde(default)]
    pub users: BTreeMap<String, Spanned<Secret>>,
    pub signals: Vec<Signal>,
}

/// What a Modbus device calls itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub maker: Option<Spanned<String>>,
    pub product: Option<Spanned<String>>,
    pub revision: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    /// What the one says that is put in for it.
    #[serde(default)]
    pub spare: Spare,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spare {
    pub maker: Option<Spanned<String>>,
    pub product: Option<Spanned<String>>,
    pub revision: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
}

/// What an OPC UA server offers and remembers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpcUa {
    pub policies: Option<Vec<Spanned<String>>>,
    pub sessions: Option<usize>,
    pub history: Option<Span>,
    pub trust_any: Option<bool>,
    #[serde(default)]
    pub user_certificates: BTreeMap<String, PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signal {
    pub id: Spanned<String>,
    pub at: Spanned<String>,
    #[serde(rename = "type")]
    pub encoding: Option<Encoding>,
    #[serde(default)]
    pub order: ByteOrder,
    #[serde(default)]
    pub length: u16,
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default)]
    pub offset: f64,
    pub bits: Option<Spanned<String>>,
    pub labels: Option<Spanned<BTreeMap<String, String>>>,
    pub from: From,
}

/// One line of `faults:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub at: Option<Span>,
    #[serde(rename = "for")]
    pub lasts: Option<Spanned<Span>>,
    pub every: Option<Spanned<Span>>,
    pub what: Spanned<String>,
    /// A number or a text: `6`, `2s`, `transaction`.
    pub of: Option<Spanned<Value>>,
    #[serde(default)]
    pub signals: Vec<Spanned<String>>,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    Constant(Value),
    Ramp(Ramp),
    Sine(Sine),
    Noise(Noise),
    Cycle(Spanned<Cycle>),
    Replay(Replay),
    Model(Spanned<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ramp {
    #[serde(default)]
    pub from: f64,
    pub per_second: f64,
    pub until: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sine {
    pub mean: f64,
    pub amplitude: f64,
    pub period: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Noise {
    pub mean: f64,
    pub spread: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cycle {
    pub of: Vec<Value>,
    pub every: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    pub file: Spanned<String>,
    pub column: String,
}

/// A duration as people write it (`500ms`, `12s`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}
