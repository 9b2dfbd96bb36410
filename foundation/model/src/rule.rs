//! A trigger rule as written in a mapping: data, not yet compiled. Its digest is the rule's version.

use crate::{ActionName, Checks, ContractName, DeviceId, PointId, TriggerId, Unit, ValueKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// Priority of a trigger in the words of ISA-18.2; `critical` triggers have their own small queue and go first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Needs attention when convenient.
    Low,
    /// The usual.
    Medium,
    /// Act soon.
    High,
    /// Safety-relevant: overtakes everything else.
    Critical,
}

/// What the trigger asks a contract to do.
#[derive(Debug, Clone, PartialEq)]
pub struct CallTemplate {
    /// Which contract.
    pub contract: ContractName,
    /// Which action of it.
    pub action: ActionName,
    /// Argument name to CEL expression, evaluated at the instant of firing.
    pub with: BTreeMap<String, String>,
}

/// A rule with everything that decides its result; same rule, same readings, same trigger.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSource {
    /// Name of the trigger.
    pub id: TriggerId,
    /// Whose readings it watches.
    pub device: DeviceId,
    /// CEL condition that raises it.
    pub when: String,
    /// On-delay: `when` must hold this long (ISA-18.2 on-delay); zero fires at once.
    pub on_delay: Duration,
    /// CEL condition that clears it; without one it clears when `when` no longer holds.
    pub until: Option<String>,
    /// ISA-18.2 priority.
    pub priority: Priority,
    /// Points disclosed in evidence beyond those the rule reads (these are always disclosed,
    /// or nobody could recompute the trigger).
    pub disclose: Vec<PointId>,
    /// The contract call the raised trigger carries, if any.
    pub call: Option<CallTemplate>,
    /// Kind (where the mapping knows it) and unit of every point the rule reads or its checks look at: a changed unit is a changed rule.
    pub points: BTreeMap<PointId, (Option<ValueKind>, Unit)>,
    /// What is checked of the readings before its triggers are sealed; `None`: nothing.
    pub checks: Option<Checks>,
}
