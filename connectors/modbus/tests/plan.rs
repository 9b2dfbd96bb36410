//! Points to requests: what travels together, and what cannot work at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{device, point};
use proptest::prelude::*;
use std::time::Duration;
use tally_connector_modbus::{PlanFault, plan};
use tally_model::{Address, DeviceSpec, Endpoint};

/// The requests as `table:start+count`.
fn requests(device: &DeviceSpec) -> Vec<String> {
    let plan = plan(device).unwrap();
    let short = |request: &tally_connector_modbus::Request| {
        format!("{}:{}+{}", request.table.word(), request.start, request.count)
    };
    plan.requests.iter().map(short).collect()
}

fn with(points: &[&str]) -> DeviceSpec {
    device("press-01", 502, 1, points.iter().map(|text| point(text)).collect())
}

#[test]
fn neighbours_travel_together_over_small_gaps() {
    let mut press =
        with(&["b holding:18 f32", "a holding:16 f32 CDAB", "far holding:28 u16", "run coil:1", "x input:0 u16"]);
    assert_eq!(requests(&press), ["coil:1+1", "input:0+1", "holding:16+13"]);
    press.gap_max = 7;
    assert_eq!(requests(&press), ["coil:1+1", "input:0+1", "holding:16+4", "holding:28+1"]);
}

#[test]
fn values_are_never_cut_and_limits_are_kept() {
    let mut press = with(&["a holding:0 u64", "b holding:4 u64", "c holding:8 u64"]);
    press.registers_per_request_max = 9;
    assert_eq!(requests(&press), ["holding:0+8", "holding:8+4"]);
    press.registers_per_request_max = 3;
    assert!(matches!(plan(&press), Err(PlanFault::TooLong { registers: 4, registers_max: 3, .. })));
}

#[test]
fn points_may_share_registers() {
    let press = with(&["word holding:5 u16", "flag holding:5.3", "wide holding:4 u64"]);
    assert_eq!(requests(&press), ["holding:4+4"]);
}

#[test]
fn bits_have_their_own_limit() {
    let press = with(&["a coil:0", "b coil:129", "c coil:258"]);
    // 8 registers of gap are 128 bits.
    assert_eq!(requests(&press), ["coil:0+259"]);
    let mut wide = with(&["a coil:0", "b coil:1999", "c coil:2000"]);
    wide.gap_max = 1000;
    assert_eq!(requests(&wide), ["coil:0+2000", "coil:2000+1"]);
}

#[test]
fn what_cannot_work_is_said_before_connecting() {
    let fault = |change: &dyn Fn(&mut DeviceSpec)| {
        let mut press = with(&["a holding:0 u16"]);
        change(&mut press);
        plan(&press).unwrap_err()
    };
    assert!(matches!(fault(&|d| d.registers_per_request_max = 126), PlanFault::Limit { .. }));
    assert!(matches!(fault(&|d| d.registers_per_request_max = 0), PlanFault::Limit { .. }));
    assert!(matches!(fault(&|d| d.every = Duration::ZERO), PlanFault::Limit { .. }));
    assert!(matches!(fault(&|d| d.timeout = Duration::ZERO), PlanFault::Limit { .. }));
    assert!(matches!(fault(&|d| d.points[0] = point("a holding:65535 u32")), PlanFault::BeyondEnd { .. }));
    assert!(matches!(fault(&|d| d.points[0] = point("a coil:1 u16")), PlanFault::Encoding { .. }));
    assert!(matches!(fault(&|d| d.points[0] = point("a holding:1 text")), PlanFault::Encoding { .. }));
    assert!(matches!(
        fault(&|d| d.points[0].address = Address::parse_column("column:a").unwrap()),
        PlanFault::Address { .. }
    ));
    let other = fault(&|d| d.endpoint = Endpoint::Mqtt(tally_model::MqttBroker::plain("broker", 1883)));
    assert!(other.to_string().contains("mqtt://broker:1883"), "{other}");
}

#[test]
fn one_link_is_one_host_and_port() {
    assert!(matches!(tally_connector_modbus::link(Vec::new()), Err(PlanFault::NoDevices)));
    let (one, mut two) = (with(&["a coil:1"]), with(&["a coil:1"]));
    two.endpoint = Endpoint::parse("modbus+tcp://127.0.0.1:503?unit=1").unwrap();
    let fault = tally_connector_modbus::link(vec![one, two]).err().unwrap();
    assert!(matches!(fault, PlanFault::OtherLine { .. }), "{fault}");
}

#[test]
fn the_plan_is_readable() {
    let text = plan(&with(&["oil_temp holding:16 f32", "vibration holding:18 f32", "running coil:1"])).unwrap();
    let expected = "press-01 (unit 1): 3 points in 2 requests every 50ms; reachable period about 40ms at 20ms an answer\n  \
                    coil:1..1 (1 bit): running\n  \
                    holding:16..19 (4 registers): oil_temp vibration";
    assert_eq!(text.to_string(), expected);
}

proptest! {
    #[test]
    fn every_point_is_in_exactly_one_request_at_its_place(
        places in proptest::collection::vec((0_u16..400, 0_usize..4), 1..60),
        registers_max in 4_u16..=125,
        gap_max in 0_u16..40,
    ) {
        let encodings = ["u16", "f32", "u64", "i32"];
        let points = places.iter().enumerate()
            .map(|(number, (start, kind))| point(&format!("p{number} holding:{start} {}", encodings[*kind])));
        let mut press = device("press-01", 502, 1, points.collect());
        press.registers_per_request_max = registers_max;
        press.gap_max = gap_max;
        let plan = plan(&press).unwrap();
        prop_assert_eq!(plan.points(), press.points.len());
        for request in &plan.requests {
            prop_assert!(request.count <= registers_max);
            for planned in &request.points {
                let Address::Modbus { offset, .. } = planned.spec.address else { panic!() };
                prop_assert_eq!(request.start + planned.place, offset);
                prop_assert_eq!(planned.width, planned.spec.registers());
                prop_assert!(planned.place + planned.width <= request.count);
            }
        }
    }
}
