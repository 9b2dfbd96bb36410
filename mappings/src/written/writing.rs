//! How a point is told a value, where that is elsewhere than where it is read.

use schemars::JsonSchema;
use serde::Deserialize;

/// How an MQTT device is told a value.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WriteWritten {
    /// Topic on which the device takes values.
    #[schemars(required)]
    pub topic: Option<String>,
    /// What is published there; `{value}` stands for the value, inside JSON as JSON. Default is the value alone.
    pub payload: Option<String>,
}

/// A method of an OPC UA server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MethodWritten {
    /// Node id of the object whose method it is.
    #[schemars(required)]
    pub object: Option<String>,
    /// Node id of the method.
    #[schemars(required)]
    pub node: Option<String>,
    /// What it is called with, in order; none when absent.
    #[serde(default)]
    pub arguments: Vec<ArgumentWritten>,
}

/// An argument of a method.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArgumentWritten {
    /// What people call it.
    #[schemars(required)]
    pub name: Option<String>,
    /// What it takes; default `number`.
    #[serde(rename = "type")]
    pub kind: Option<ArgumentWord>,
    /// Lowest and highest number; a number needs it.
    pub range: Option<(f64, f64)>,
}

/// What an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ArgumentWord {
    /// A number within `range`.
    Number,
    /// `true` or `false`.
    Flag,
    /// A text.
    Text,
}
