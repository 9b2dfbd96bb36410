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
pub(crate) mod tests {
    use super::*;
    use tally_model::{Encoding, PointSpec, Secret, Unit};

    /// A point as a mapping without extras would make it.
    pub(crate) fn point(id: &str, at: &str, encoding: Encoding) -> PointSpec {
        PointSpec::new(PointId::try_new(id).unwrap(), Address::parse_opcua(at).unwrap(), encoding, Unit::one())
    }

    /// A device with these points and defaults.
    pub(crate) fn device(points: Vec<PointSpec>) -> DeviceSpec {
        DeviceSpec {
            every: Duration::from_millis(500),
            points,
            ..DeviceSpec::new(
                DeviceId::try_new("cnc-02").unwrap(),
                Endpoint::parse("opc.tcp://127.0.0.1:4840").unwrap(),
            )
        }
    }

    #[test]
    fn a_thousand_points_a_subscription() {
        let points = (0..2_500).map(|n| point(&format!("p{n}"), &format!("ns=2;i={n}"), Encoding::Auto));
        let plan = plan(&device(points.collect())).unwrap();
        let sizes: Vec<_> = plan.subscriptions.iter().map(|subscription| subscription.items.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        assert_eq!(plan.subscriptions[2].items[499].place, 2_499);
        assert_eq!(plan.item(1_234).unwrap().place, 1_234);
        assert_eq!(plan.item(2_500), None);
    }

    #[test]
    fn alarms_are_no_items_and_leave_gaps_between_them() {
        let points = (0..2_500).map(|n| match n % 3 {
            0 => point(&format!("p{n}"), &format!("alarm:ns=2;i={n}#/active"), Encoding::Auto),
            _ => point(&format!("p{n}"), &format!("ns=2;i={n}"), Encoding::Auto),
        });
        let mut device = device(points.collect());
        let made = plan(&device).unwrap();
        assert_eq!((made.alarms.len(), made.items().count()), (834, 1_666));
        for place in [1, 2, 1_499, 1_501, 2_498] {
            assert_eq!(made.item(place).map(|item| item.place), (place % 3 != 0).then_some(place));
        }
        assert_eq!((made.item(0), made.item(1_500), made.item(2_499)), (None, None, None));
        assert_eq!(made.alarms[1].condition(&[]).unwrap().to_string(), "ns=2;i=3");
        assert!(made.to_string().contains("834 point(s)") && made.to_string().contains("p3 <- alarm:ns=2;i=3#/active"));
        device.opcua.read = OpcUaRead::Poll;
        assert!(plan(&device).unwrap_err().to_string().contains("remove `read: poll`"));
    }

    #[test]
    fn what_the_server_can_bear_is_respected() {
        let points = (0..250).map(|n| point(&format!("p{n}"), &format!("ns=2;i={n}"), Encoding::Auto));
        let mut device = device(points.collect());
        (device.points[0].deadband, device.points[0].scale) = (Some(1.0), -0.5);
        device.points[1].options.every = Some(Duration::from_millis(20));
        device.opcua.server_deadband = true;
        device.opcua.queue = Some(500);
        device.opcua.sampling = Some(Duration::from_millis(10));
        device.opcua.limits = OpcUaLimits {
            items_per_subscription: Some(100),
            queue: Some(50),
            sampling: Some(Duration::from_millis(50)),
            publishing: Some(Duration::from_secs(2)),
            ..OpcUaLimits::default()
        };
        let made = plan(&device).unwrap();
        assert_eq!(made.subscriptions.len(), 3);
        assert_eq!(made.item(205).unwrap().place, 205);
        assert_eq!(made.every, Duration::from_secs(2));
        let item = made.item(0).unwrap();
        assert_eq!((item.sampling, item.queue, item.deadband), (Duration::from_millis(50), 50, Some(2.0)));
        assert_eq!(made.item(1).unwrap().deadband, None);
        device.opcua.limits.subscriptions = Some(2);
        let text = plan(&device).unwrap_err().to_string();
        assert!(text.contains("3 subscriptions") && text.contains("`subscriptions: 2`"), "{text}");
    }

    #[test]
    fn the_plan_reads_like_a_list() {
        let plan = plan(&device(vec![point("load", "nsu=urn:factory:cnc;s=Spindle.Load", Encoding::Auto)])).unwrap();
        let text = plan.to_string();
        assert!(text.contains("cnc-02: opc.tcp://127.0.0.1:4840 as anonymous, policy best"), "{text}");
        assert!(text.contains("publishing every 500ms, 1 monitored item(s)"), "{text}");
        assert!(text.contains("load <- nsu=urn:factory:cnc;s=Spindle.Load"), "{text}");
    }

    #[test]
    fn namespaces_are_found_by_uri_wherever_the_server_put_them() {
        let plan = plan(&device(vec![point("load", "nsu=urn:cnc;s=Load", Encoding::Auto)])).unwrap();
        let item = &plan.subscriptions[0].items[0];
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(item.node_id(&names(&["ua", "server", "urn:cnc"])).unwrap().to_string(), "ns=2;s=Load");
        assert_eq!(item.node_id(&names(&["ua", "urn:cnc"])).unwrap().to_string(), "ns=1;s=Load");
        assert_eq!(item.node_id(&names(&["ua"])), None);
    }

    #[test]
    fn mistakes_are_named_before_anything_connects() {
        let bad = device(vec![point("load", "ns=2;g=no-guid", Encoding::Auto)]);
        let text = plan(&bad).unwrap_err().to_string();
        assert!(text.contains("cnc-02") && text.contains("load") && text.contains("ns=2;g=no-guid"), "{text}");
        let mut modbus = device(vec![point("load", "i=1", Encoding::Auto)]);
        modbus.points[0].address = Address::parse_modbus("holding:1").unwrap();
        assert!(matches!(plan(&modbus), Err(PlanFault::Address { .. })));
        modbus.endpoint = Endpoint::parse("modbus+tcp://127.0.0.1").unwrap();
        assert!(matches!(plan(&modbus), Err(PlanFault::NotOpcUa { .. })));
        let mut secret = device(vec![]);
        secret.security.password = Some(Secret::new("x".into()));
        assert!(matches!(plan(&secret), Err(PlanFault::Credentials { found: "password", .. })));
        let mut still = device(vec![]);
        still.every = Duration::ZERO;
        assert!(matches!(plan(&still), Err(PlanFault::Every { .. })));
    }
}
