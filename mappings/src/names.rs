//! Names that mean something to SCADA already: what the agent itself says on the broker has topics beside those of devices and
//! points (`docs/formats/topics.md`), and a device or point of the same name would speak on them.
//!
//! They are refused with and without a broker: an id is sealed into every statement and cannot be changed later without
//! starting a new history, so a plant that gets its broker next year must not find out then.

/// `{prefix}/{plant}/ledger/…`, `{prefix}/{plant}/agent/…`.
const DEVICES: [&str; 2] = ["ledger", "agent"];
/// `{prefix}/{plant}/{device}/status`, `{prefix}/{plant}/{device}/triggers/…`, `{prefix}/{plant}/{device}/history`.
const POINTS: [&str; 3] = ["status", "triggers", "history"];

/// A name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedName {
    /// The name.
    pub name: &'static str,
    /// What it is the topic of.
    pub topic: &'static str,
    /// What to write instead.
    pub hint: &'static str,
}

/// Whether no device may have this id, and why.
#[must_use]
pub fn reserved_device(id: &str) -> Option<ReservedName> {
    let name = DEVICES.into_iter().find(|name| *name == id)?;
    let topic = if name == "ledger" { "the ledger's events" } else { "the agent's own state" };
    Some(ReservedName { name, topic, hint: "call it after the machine, for example `press-01`" })
}

/// Whether no point may have this id, and why.
#[must_use]
pub fn reserved_point(id: &str) -> Option<ReservedName> {
    let name = POINTS.into_iter().find(|name| *name == id)?;
    let (topic, hint) = match name {
        "status" => ("the state of the device's link", "call it for example `status_word` or `machine_status`"),
        "history" => ("what SCADA missed of the device", "call it for example `event_log`"),
        _ => ("the device's triggers", "call it for example `trigger_count`"),
    };
    Some(ReservedName { name, topic, hint })
}

impl std::fmt::Display for ReservedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is the MQTT topic of {}", self.name, self.topic)
    }
}
