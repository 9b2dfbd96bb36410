//! How an OPC UA server is read, and what it can bear. Everything has a default that fits most.

use std::time::Duration;

/// How an OPC UA server is read; other protocols ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpcUaOptions {
    /// Vendor profile the limits were taken from, for people.
    pub profile: Option<String>,
    /// What the server can bear, beyond what it says itself.
    pub limits: OpcUaLimits,
    /// Subscribe or poll.
    pub read: OpcUaRead,
    /// Sampling interval on the server; the device's `every` without (which is then only the publishing interval).
    pub sampling: Option<Duration>,
    /// Values the server keeps per point between two publishes; `None` is 10.
    pub queue: Option<u32>,
    /// Whether points with a `deadband` are filtered in the server already: smaller changes then never reach the
    /// vault.
    pub server_deadband: bool,
    /// Longest hole that is filled from the server's history after an outage; `None` fills nothing.
    pub history: Option<Duration>,
}

/// How values are got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OpcUaRead {
    /// Subscribe; poll when the server knows no subscriptions.
    #[default]
    Best,
    /// Subscribe or say why not.
    Subscribe,
    /// Read in cycles of `every`.
    Poll,
}

/// What a server can bear. `None` means no limit that is known; what the server itself says (OperationLimits, OPC UA
/// Part 5 §6.3.11) is obeyed as well, the smaller number counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpcUaLimits {
    /// Most subscriptions in our session.
    pub subscriptions: Option<u32>,
    /// Most monitored items in one subscription.
    pub items_per_subscription: Option<u32>,
    /// Most items in one CreateMonitoredItems request.
    pub items_per_call: Option<u32>,
    /// Most nodes in one Read request.
    pub nodes_per_read: Option<u32>,
    /// Most nodes in one Browse request.
    pub nodes_per_browse: Option<u32>,
    /// Longest queue of a monitored item.
    pub queue: Option<u32>,
    /// Shortest sampling interval.
    pub sampling: Option<Duration>,
    /// Shortest publishing interval.
    pub publishing: Option<Duration>,
}
