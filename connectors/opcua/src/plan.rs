//! From the points of a device to subscriptions and monitored items. Pure: nothing connects.

use crate::PlanFault;
use opcua::types::{Identifier, NodeId};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tally_model::{Address, DeviceId, DeviceSpec, Endpoint, OpcUaPolicy, PointId};

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
    /// Sampling and publishing interval asked for.
    pub every: Duration,
    /// One subscription per thousand points.
    pub subscriptions: Vec<SubscriptionPlan>,
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
    /// Identifier without namespace; the namespace is resolved at every connect.
    identifier: Identifier,
}

impl ItemPlan {
    /// The node id on a server with these namespaces; `None` when the server does not know the namespace.
    pub(crate) fn node_id(&self, namespaces: &[String]) -> Option<NodeId> {
        let Address::OpcUa { namespace, index, .. } = &self.address else { return None };
        let index = match namespace {
            // The index of a URI may change whenever the server restarts (OPC UA Part 4 §7.25, NamespaceArray).
            Some(uri) => u16::try_from(namespaces.iter().position(|known| known == uri)?).ok()?,
            None => *index,
        };
        Some(NodeId::new(index, self.identifier.clone()))
    }
}

impl Plan {
    /// The item of the point at `place`.
    pub(crate) fn item(&self, place: usize) -> Option<&ItemPlan> {
        self.subscriptions.get(place / ITEMS_MAX)?.items.get(place % ITEMS_MAX)
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
    let items = (0..device.points.len()).map(|place| item(device, place)).collect::<Result<Vec<_>, _>>()?;
    let subscriptions = items.chunks(ITEMS_MAX).map(|items| SubscriptionPlan { items: items.to_vec() });
    Ok(Plan {
        device: device.id.clone(),
        endpoint: url.clone(),
        policy: device.security.policy,
        user: device.security.user.clone(),
        every: device.every,
        subscriptions: subscriptions.collect(),
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

fn item(device: &DeviceSpec, place: usize) -> Result<ItemPlan, PlanFault> {
    let point = &device.points[place];
    let fault = |reason| PlanFault::Address {
        device: device.id.clone(),
        point: point.id.to_string(),
        found: point.address.to_string(),
        reason,
    };
    let Address::OpcUa { identifier, .. } = &point.address else {
        return Err(fault("it belongs to another protocol"));
    };
    // Part 6 §5.3.1.10: `i=` number, `s=` text, `g=` GUID, `b=` base64.
    let identifier = Identifier::from_str(identifier)
        .map_err(|_| fault("the part after `i=`, `s=`, `g=` or `b=` is no number, text, GUID or base64"))?;
    Ok(ItemPlan { place, point: point.id.clone(), address: point.address.clone(), identifier })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: usize = self.subscriptions.iter().map(|subscription| subscription.items.len()).sum();
        let user = self.user.as_deref().unwrap_or("anonymous");
        writeln!(f, "{}: {} as {user}, policy {}", self.device, self.endpoint, self.policy.word())?;
        writeln!(
            f,
            "  {} subscription(s), publishing every {:?}, {items} monitored item(s), sampling every {:?}, queue {QUEUE_SIZE}",
            self.subscriptions.len(),
            self.every,
            self.every
        )?;
        for (number, subscription) in self.subscriptions.iter().enumerate() {
            writeln!(f, "  CreateMonitoredItems {}: {} item(s)", number + 1, subscription.items.len())?;
            for item in &subscription.items {
                writeln!(f, "    {} <- {}", item.point, item.address)?;
            }
        }
        write!(f, "  reachable period: the server may revise {:?} upwards; the link logs it when it does", self.every)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tally_model::{ByteOrder, Encoding, PointSpec, Secret, Security, Unit};

    /// A point as a mapping without extras would make it.
    pub(crate) fn point(id: &str, at: &str, encoding: Encoding) -> PointSpec {
        PointSpec {
            id: PointId::try_new(id).unwrap(),
            address: Address::parse_opcua(at).unwrap(),
            encoding,
            order: ByteOrder::default(),
            length: 0,
            scale: 1.0,
            offset: 0.0,
            unit: Unit::one(),
            deadband: None,
            range: None,
            options: Default::default(),
        }
    }

    /// A device with these points and defaults.
    pub(crate) fn device(points: Vec<PointSpec>) -> DeviceSpec {
        DeviceSpec {
            id: DeviceId::try_new("cnc-02").unwrap(),
            endpoint: Endpoint::parse("opc.tcp://127.0.0.1:4840").unwrap(),
            security: Security::default(),
            every: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            registers_per_request_max: 125,
            gap_max: 8,
            modbus: Default::default(),
            opcua: Default::default(),
            points,
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
