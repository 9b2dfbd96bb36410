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
        ..DeviceSpec::new(DeviceId::try_new("cnc-02").unwrap(), Endpoint::parse("opc.tcp://127.0.0.1:4840").unwrap())
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
