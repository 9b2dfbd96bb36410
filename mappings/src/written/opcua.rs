//! `opcua:` of a device.

use schemars::JsonSchema;
use serde::Deserialize;
use tally_model::OpcUaRead;

/// How an OPC UA server is read, beyond endpoint and login.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpcUaWritten {
    /// Make of the server, whose limits are then respected: `s7-1200`, `s7-1500`, `kepware`, `ignition`, `codesys`,
    /// `beckhoff`. The facts and their sources stand in `mappings/profiles`.
    pub profile: Option<String>,
    /// `best` subscribes and polls only where the server knows no subscriptions; `subscribe`; `poll`. Default `best`.
    pub read: Option<OpcUaRead>,
    /// How often the server looks at its values, 1ms to 1h; default is `every`, which then is only how often it sends.
    pub sampling: Option<String>,
    /// Values the server keeps per point between two sends, 1 to 10000; default 10.
    #[schemars(range(min = 1, max = 10_000))]
    pub queue: Option<u32>,
    /// `true`: the `deadband` of a point already filters in the server, so smaller changes never reach the vault. Default
    /// `false`: the vault keeps every change, the deadband only thins out what is published.
    pub server_deadband: Option<bool>,
    /// Longest hole that is filled from the server's history after an outage, 1s to 366d; without it none is.
    pub history: Option<String>,
    /// What this one server can bear, where it is less than its profile says.
    pub limits: Option<LimitsWritten>,
}

/// What a server can bear; what it says itself is respected anyway.
#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsWritten {
    /// Most subscriptions in our session.
    #[schemars(range(min = 1))]
    pub subscriptions: Option<u32>,
    /// Most points in one subscription.
    #[schemars(range(min = 1))]
    pub items_per_subscription: Option<u32>,
    /// Most points in one request that creates them.
    #[schemars(range(min = 1))]
    pub items_per_call: Option<u32>,
    /// Most nodes in one read request.
    #[schemars(range(min = 1))]
    pub nodes_per_read: Option<u32>,
    /// Most nodes in one browse request.
    #[schemars(range(min = 1))]
    pub nodes_per_browse: Option<u32>,
    /// Longest queue of a point.
    #[schemars(range(min = 1))]
    pub queue: Option<u32>,
    /// Shortest time between two looks of the server at a value.
    pub sampling: Option<String>,
    /// Shortest time between two sends.
    pub publishing: Option<String>,
}
