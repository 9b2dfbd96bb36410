//! From the points of a device to subscriptions and monitored items. Pure: nothing connects.

use crate::PlanFault;
use opcua::types::{Identifier, NodeId};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tally_model::{Address, AlarmPart, DeviceId, DeviceSpec, Endpoint, OpcUaLimits, OpcUaPolicy, OpcUaRead, PointId};

/// Most monitored items in one subscription and one request: what common servers allow (async-opcua's own default,
/// and the usual `MaxMonitoredItemsPerCall`, OPC UA Part 5 §6.3.11).
pub(crate) const ITEMS_MAX: usize = 1_000;

/// Values the server keeps per item between two publishes. Sampling and publishing run at the same pace, so two would
/// do; ten ride out a publish that is late by nine periods.
pub(crate) const QUEUE_SIZE: u32 = 10;

/// What a link asks of the server for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which device.
    pub device: DeviceId,
    /// Where it is reached.
    pub endpoint: String,
    /// How the session is to be secured.
    pub policy: OpcUaPolicy,
    /// User name; anonymous without one.
    pub user: Option<String>,
    /// Publishing interval asked for; the period of the cycles when values are polled.
    pub every: Duration,
    /// Subscribe or poll.
    pub read: OpcUaRead,
    /// What the server can bear, as far as the mapping knows.
    pub limits: OpcUaLimits,
    /// Longest hole filled from the server's history.
    pub history: Option<Duration>,
    /// One subscription per thousand points, or as many as the server can bear.
    pub subscriptions: Vec<SubscriptionPlan>,
    /// Points that come from the events of conditions.
    pub alarms: Vec<AlarmPlan>,
}

/// One point that says something about a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmPlan {
    /// Place of the point in the device.
    pub(crate) place: usize,
    /// Which point.
    pub point: PointId,
    /// Its address as written.
    pub address: Address,
    /// What it says.
    pub part: AlarmPart,
    /// Identifier of the condition without namespace.
    identifier: Identifier,
}

impl AlarmPlan {
    /// The condition's node id on a server with these namespaces.
    pub(crate) fn condition(&self, namespaces: &[String]) -> Option<NodeId> {
        Some(NodeId::new(index_of(&self.address, namespaces)?, self.identifier.clone()))
    }
}

/// One subscription; its items are created with one request.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionPlan {
    /// The monitored items, in point order.
    pub items: Vec<ItemPlan>,
}

/// One monitored item: the value attribute of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemPlan {
    /// Place of the point in the device.
    pub(crate) place: usize,
    /// Which point.
    pub point: PointId,
    /// Its address as written.
    pub address: Address,
    /// Sampling interval asked for.
    pub sampling: Duration,
    /// Values the server keeps between two publishes.
    pub queue: u32,
    /// Absolute deadband in the server, in its own raw unit.
    pub deadband: Option<f64>,
    /// Identifier without namespace; the namespace is resolved at every connect.
    identifier: Identifier,
}

impl ItemPlan {
    /// The node id on a server with these namespaces; `None` when the server does not know the namespace.
    pub(crate) fn node_id(&self, namespaces: &[String]) -> Option<NodeId> {
        Some(NodeId::new(index_of(&self.address, namespaces)?, self.identifier.clone()))
    }
}

/// Where the address's namespace is on a server with these. The index of a URI may change whenever the server restarts
/// (OPC UA Part 4 §7.25, NamespaceArray).
fn index_of(address: &Address, namespaces: &[String]) -> Option<u16> {
    match address {
        Address::OpcUa { namespace: Some(uri), .. } => {
            u16::try_from(namespaces.iter().position(|known| known == uri)?).ok()
        }
        Address::OpcUa { namespace: None, index, .. } => Some(*index),
        _ => None,
    }
}

/// The node an address names on a server with these namespaces, for those who come without a plan.
pub(crate) fn node_of(address: &Address, namespaces: &[String]) -> Option<NodeId> {
    let Address::OpcUa { identifier, .. } = address else { return None };
    Some(NodeId::new(index_of(address, namespaces)?, Identifier::from_str(identifier).ok()?))
}

impl Plan {
    /// The item of the point at `place`.
    pub(crate) fn item(&self, place: usize) -> Option<&ItemPlan> {
        // Items lie in point order, with gaps where alarms are.
        let last_of = |subscription: &SubscriptionPlan| subscription.items.last().map_or(0, |item| item.place);
        let at = self.subscriptions.partition_point(|subscription| last_of(subscription) < place);
        let items = &self.subscriptions.get(at)?.items;
        items.get(items.binary_search_by_key(&place, |item| item.place).ok()?)
    }

    /// All items, in point order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &ItemPlan> {
        self.subscriptions.iter().flat_map(|subscription| &subscription.items)
    }

    /// Whether a value has to be taken apart by the server's type information.
    pub(crate) fn needs_types(&self) -> bool {
        self.items().any(|item| matches!(&item.address, Address::OpcUa { pointer: Some(_), .. }))
    }
}

/// Plans the requests for one device.
///
/// # Errors
/// [`PlanFault`] with what was found and what is allowed.
pub fn plan(device: &DeviceSpec) -> Result<Plan, PlanFault> {
    let Endpoint::OpcUa { url } = &device.endpoint else {
        return Err(PlanFault::NotOpcUa { device: device.id.clone(), found: device.endpoint.to_string() });
    };
    if device.every.is_zero() {
        return Err(PlanFault::Every { device: device.id.clone() });
    }
    login_fits(device)?;
    let is_alarm = |place: &usize| matches!(device.points[*place].address, Address::OpcUa { alarm: Some(_), .. });
    let (alarms, values): (Vec<_>, Vec<_>) = (0..device.points.len()).partition(is_alarm);
    let alarms = alarms.into_iter().map(|place| alarm(device, place)).collect::<Result<Vec<_>, _>>()?;
    let items = values.into_iter().map(|place| item(device, place)).collect::<Result<Vec<_>, _>>()?;
    let limits = device.opcua.limits.clone();
    let subscriptions: Vec<_> =
        items.chunks(items_per_subscription(&limits)).map(|items| SubscriptionPlan { items: items.to_vec() }).collect();
    if let Some(most) = limits.subscriptions
        && subscriptions.len() > usize::try_from(most).unwrap_or(usize::MAX)
        && device.opcua.read != OpcUaRead::Poll
    {
        return Err(PlanFault::Subscriptions { device: device.id.clone(), needed: subscriptions.len(), most });
    }
    Ok(Plan {
        device: device.id.clone(),
        endpoint: url.clone(),
        policy: device.security.policy,
        user: device.security.user.clone(),
        every: device.every.max(limits.publishing.unwrap_or_default()),
        read: device.opcua.read,
        limits,
        history: device.opcua.history,
        subscriptions,
        alarms,
    })
}

/// Halves of a login, two logins at once, and policies nobody should use without knowing.
fn login_fits(device: &DeviceSpec) -> Result<(), PlanFault> {
    let (security, id) = (&device.security, || device.id.clone());
    match (&security.user, &security.password) {
        (Some(_), None) => return Err(PlanFault::Credentials { device: id(), found: "user" }),
        (None, Some(_)) => return Err(PlanFault::Credentials { device: id(), found: "password" }),
        _ => {}
    }
    let reason = match (&security.user_certificate, &security.user_key) {
        (Some(_), None) => Some("`user_certificate` needs its `user_key`"),
        (None, Some(_)) => Some("`user_key` needs its `user_certificate`"),
        (Some(_), Some(_)) if security.user.is_some() => Some("`user` and `user_certificate` are two logins; keep one"),
        (Some(_), Some(_)) if security.policy == OpcUaPolicy::None => {
            Some("a user certificate proves nothing with `policy: none`; write `policy: best`")
        }
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(PlanFault::UserCertificate { device: id(), reason });
    }
    if security.policy.is_deprecated() && !security.insecure {
        return Err(PlanFault::Deprecated { device: id(), found: security.policy.word() });
    }
    Ok(())
}

fn address_fault(device: &DeviceSpec, place: usize, reason: &'static str) -> PlanFault {
    let point = &device.points[place];
    let (point, found) = (point.id.to_string(), point.address.to_string());
    PlanFault::Address { device: device.id.clone(), point, found, reason }
}

fn identifier(device: &DeviceSpec, place: usize) -> Result<Identifier, PlanFault> {
    let fault = |reason| address_fault(device, place, reason);
    let Address::OpcUa { identifier, .. } = &device.points[place].address else {
        return Err(fault("it belongs to another protocol"));
    };
    // Part 6 §5.3.1.10: `i=` number, `s=` text, `g=` GUID, `b=` base64.
    Identifier::from_str(identifier)
        .map_err(|_| fault("the part after `i=`, `s=`, `g=` or `b=` is no number, text, GUID or base64"))
}

fn alarm(device: &DeviceSpec, place: usize) -> Result<AlarmPlan, PlanFault> {
    let point = &device.points[place];
    let Address::OpcUa { alarm: Some(part), .. } = &point.address else {
        return Err(address_fault(device, place, "it is no alarm"));
    };
    if device.opcua.read == OpcUaRead::Poll {
        return Err(address_fault(device, place, "alarms come by subscription; remove `read: poll`"));
    }
    let identifier = identifier(device, place)?;
    Ok(AlarmPlan { place, point: point.id.clone(), address: point.address.clone(), part: *part, identifier })
}

fn item(device: &DeviceSpec, place: usize) -> Result<ItemPlan, PlanFault> {
    let point = &device.points[place];
    let identifier = identifier(device, place)?;
    let limits = &device.opcua.limits;
    let sampling = point.options.every.or(device.opcua.sampling).unwrap_or(device.every);
    Ok(ItemPlan {
        place,
        point: point.id.clone(),
        address: point.address.clone(),
        sampling: sampling.max(limits.sampling.unwrap_or_default()),
        queue: device.opcua.queue.unwrap_or(QUEUE_SIZE).min(limits.queue.unwrap_or(u32::MAX)).max(1),
        deadband: server_deadband(device, place),
        identifier,
    })
}

/// The point's deadband in the raw unit of the server, when the server is to apply it. A part of a structure or an array
/// cannot be filtered there.
fn server_deadband(device: &DeviceSpec, place: usize) -> Option<f64> {
    let point = &device.points[place];
    if !device.opcua.server_deadband || matches!(&point.address, Address::OpcUa { pointer: Some(_), .. }) {
        return None;
    }
    point.deadband.map(|deadband| (deadband / point.scale).abs()).filter(|raw| raw.is_finite() && *raw > 0.0)
}

fn items_per_subscription(limits: &OpcUaLimits) -> usize {
    limits.items_per_subscription.and_then(|most| usize::try_from(most).ok()).unwrap_or(ITEMS_MAX).max(1)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: usize = self.subscriptions.iter().map(|subscription| subscription.items.len()).sum();
        let user = self.user.as_deref().unwrap_or("anonymous");
        writeln!(f, "{}: {} as {user}, policy {}", self.device, self.endpoint, self.policy.word())?;
        if self.read == OpcUaRead::Poll {
            writeln!(f, "  {items} node(s) read every {:?}", self.every)?;
        } else {
            let fastest = self.items().map(|item| item.sampling).min().unwrap_or(self.every);
            let queue = self.items().map(|item| item.queue).max().unwrap_or(QUEUE_SIZE);
            writeln!(
                f,
                "  {} subscription(s), publishing every {:?}, {items} monitored item(s), sampling every {fastest:?}, queue {queue}",
                self.subscriptions.len(),
                self.every,
            )?;
        }
        for (number, subscription) in self.subscriptions.iter().enumerate() {
            writeln!(f, "  CreateMonitoredItems {}: {} item(s)", number + 1, subscription.items.len())?;
            for item in &subscription.items {
                writeln!(f, "    {} <- {}", item.point, item.address)?;
            }
        }
        if !self.alarms.is_empty() {
            writeln!(f, "  events of conditions: {} point(s)", self.alarms.len())?;
            for alarm in &self.alarms {
                writeln!(f, "    {} <- {}", alarm.point, alarm.address)?;
            }
        }
        write!(f, "  reachable period: the server may revise {:?} upwards; the link logs it when it does", self.every)
    }
}

#[cfg(test)]
pub(crate) mod tests;
