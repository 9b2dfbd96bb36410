//! The native contract `access`: policies, one-time permits, revocation, quarantine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, hold_against, trigger_body};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_contracts::{Kernel, permits, policies, quarantines, state_key};
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{Allowed, Event, Permit, Policy, Right, Who, burnt_state_key, permit_state_key};
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, Value};

struct Plant {
    kernel: Kernel,
    world: World,
}

fn args(args: &[(&str, Cbor)]) -> BTreeMap<String, Cbor> {
    args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn party(id: &str) -> PartyId {
    PartyId::try_new(id).unwrap()
}

/// People of Fixit who know oil may read the setpoint and write 0 to 80; everybody of Fixit may switch the lamp.
fn service() -> Policy {
    let setpoint =
        Allowed { address: "holding:17".into(), rights: vec![Right::Read, Right::Write], range: Some((0.0, 80.0)) };
    Policy {
        id: PolicyId::try_new("service").unwrap(),
        devices: vec![DeviceId::try_new("press-01").unwrap(), DeviceId::try_new("press-02").unwrap()],
        who: vec![Who { firm: Some(party("fixit")), skill: Some("oil".into()), ..Who::default() }],
        points: [(PointId::try_new("setpoint").unwrap(), setpoint)].into(),
        rate: Some((3, Duration::from_secs(3600))),
        hours: None,
        days: None,
        from: None,
        until: None,
        lasts: Duration::from_secs(600),
    }
}

impl Plant {
    fn bare() -> Self {
        let kernel = Kernel::new();
        let world = World::founded(&kernel);
        Self { kernel, world }
    }

    fn with(policy: &Policy) -> Self {
        let mut plant = Self::bare();
        plant.set(policy).unwrap();
        plant
    }

    fn call(&mut self, signer: &str, action: &str, with: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        let body = call_body("access", action, None, args(with));
        self.world.call(&self.kernel, signer, &body).map_err(|refusal| refusal.number())
    }

    fn set(&mut self, policy: &Policy) -> Result<Vec<Event>, u16> {
        self.call("acme", "policy", &[("policy", bytes(policy.encode()))])
    }

    /// A write request; gives the permit's number.
    fn request(&mut self, signer: &str, device: &str, value: Cbor) -> Result<u64, u16> {
        let with = [("device", text(device)), ("point", text("setpoint")), ("right", text("write")), ("value", value)];
        self.call(signer, "request", &with).map(|_| self.world.entry - 1)
    }

    fn open(&self, id: u64) -> Option<Permit> {
        self.world.state.get(&permit_state_key(id)).map(|permit| Permit::decode(permit).unwrap())
    }

    fn is_burnt(&self, id: u64) -> bool {
        self.world.state.contains_key(&burnt_state_key(id))
    }

    fn result(&mut self, agent: &str, id: u64, how: &str) -> Result<Vec<Event>, u16> {
        self.call(agent, "result", &[("permit", int(id)), ("how", text(how)), ("found", int(42))])
    }

    fn wait(&mut self, seconds: u64) {
        self.world.now = self.world.now.plus(Duration::from_secs(seconds));
    }
}

#[test]
fn register_policy_request_result() {
    let mut plant = Plant::with(&service());
    let id = plant.request("tina", "press-01", int(42)).unwrap();
    let permit = plant.open(id).unwrap();
    assert_eq!(
        (permit.agent.as_str(), permit.address.as_str(), permit.value),
        ("agent-01", "holding:17", Some(Value::Integer(42)))
    );
    assert_eq!((permit.from, permit.until), (plant.world.now, plant.world.now.plus(Duration::from_secs(600))));
    assert!(!plant.is_burnt(id));
    let events = plant.result("agent-01", id, "done").unwrap();
    assert_eq!((events[0].kind.as_str(), events[0].subject.as_str()), ("access.permit-used", "press-01"));
    assert_eq!(events[0].data["found"], int(42));
    assert!(plant.open(id).is_none() && plant.is_burnt(id));
    assert_eq!(plant.result("agent-01", id, "done"), Err(106), "once");
    // Nothing is left in the indexes.
    assert!(plant.world.state.keys().all(|key| key[0] != b'i'));
}

#[test]
fn who_may_not_gets_a_number() {
    let mut plant = Plant::with(&service());
    assert_eq!(plant.request("tom", "press-01", int(42)), Err(153), "no such skill");
    assert_eq!(plant.request("olga", "press-01", int(42)), Err(153), "another firm");
    assert_eq!(plant.request("acme", "press-01", int(42)), Err(153), "owners, too, write it down first");
    assert_eq!(plant.request("tina", "press-03", int(42)), Err(153), "another device");
    assert_eq!(plant.request("tina", "press-09", int(42)), Err(131));
    assert_eq!(plant.request("tina", "press-01", int(81)), Err(154));
    assert_eq!(plant.request("tina", "press-01", text("hot")), Err(154));
    assert_eq!(plant.request("tina", "press-01", Cbor::Null), Err(142));
    let point = |point, right| [("device", text("press-01")), ("point", text(point)), ("right", text(right))];
    assert_eq!(plant.call("tina", "request", &point("lamp", "read")), Err(153));
    assert_eq!(plant.call("tina", "request", &point("setpoint", "call")), Err(153));
    assert_eq!(plant.call("tina", "request", &point("setpoint", "write")), Err(141), "what?");
    assert_eq!(plant.call("tina", "request", &point("setpoint", "melt")), Err(142));
    assert!(plant.call("tina", "request", &point("setpoint", "read")).is_ok());
    assert_eq!(plant.call("tina", "open", &[]), Err(136));
}

#[test]
fn only_the_owner_sets_policies() {
    let mut plant = Plant::bare();
    let policy = ("policy", bytes(service().encode()));
    assert_eq!(plant.call("fixit", "policy", std::slice::from_ref(&policy)), Err(151));
    assert_eq!(plant.call("tina", "policy", std::slice::from_ref(&policy)), Err(151));
    assert_eq!(plant.call("acme", "policy", &[("policy", bytes(vec![0xa0]))]), Err(142));
    assert_eq!(plant.call("acme", "policy", &[policy.clone(), ("more", int(1))]), Err(143));
    assert!(plant.call("acme", "policy", &[policy]).is_ok());
    assert_eq!(policies(&plant.world.state, 9)[0].policy, service());
}

#[test]
fn the_rate_holds_and_time_frees_it() {
    let mut plant = Plant::with(&service());
    for _ in 0..3 {
        plant.request("tina", "press-01", int(1)).unwrap();
    }
    assert_eq!(plant.request("tina", "press-02", int(1)), Err(156));
    plant.wait(3600);
    assert!(plant.request("tina", "press-02", int(1)).is_ok());
}

#[test]
fn hours_days_and_dates() {
    // The world begins on Saturday, 2026-11-21, at midnight UTC.
    let start = Timestamp::from_micros(common::START);
    let mut plant = Plant::with(&Policy { hours: Some((6 * 60, 14 * 60)), days: Some(vec![6]), ..service() });
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(155));
    plant.wait(14 * 3600 - 60);
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    assert_eq!(plant.open(id).unwrap().until, start.plus(Duration::from_secs(14 * 3600)), "ends with the shift");
    plant.wait(60);
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(155));
    plant.wait(18 * 3600);
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(155), "Sunday");
    let mut plant = Plant::with(&Policy { until: Some(start.plus(Duration::from_secs(60))), ..service() });
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    assert_eq!(plant.open(id).unwrap().until, start.plus(Duration::from_secs(60)));
    plant.wait(60);
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(155));
}

#[test]
fn every_way_to_revoke() {
    type Revoke = fn(&mut Plant, u64) -> Result<Vec<Event>, u16>;
    let ways: [(&str, Revoke); 8] = [
        ("the owner, one permit", |plant, id| plant.call("acme", "revoke", &[("permit", int(id))])),
        ("who requested it", |plant, id| plant.call("tina", "revoke", &[("permit", int(id))])),
        ("the policy", |plant, _| plant.call("acme", "revoke", &[("policy", text("service"))])),
        ("an empty permission set", |plant, _| plant.set(&Policy { who: Vec::new(), ..service() })),
        ("another policy under the name", |plant, _| plant.set(&Policy { lasts: Duration::from_secs(1), ..service() })),
        ("the party", |plant, _| plant.call("acme", "revoke", &[("party", text("tina"))])),
        ("quarantine of the device", |plant, _| plant.call("acme", "quarantine", &[("device", text("press-01"))])),
        ("quarantine of the agent", |plant, _| plant.call("acme", "quarantine", &[("agent", text("agent-01"))])),
    ];
    for (way, revoke) in ways {
        let mut plant = Plant::with(&service());
        let id = plant.request("tina", "press-01", int(1)).unwrap();
        let events = revoke(&mut plant, id).unwrap();
        assert!(events.iter().any(|event| event.kind == "access.permit-revoked"), "{way}: {events:?}");
        assert!(plant.open(id).is_none() && plant.is_burnt(id), "{way}");
        assert!(plant.world.state.keys().all(|key| key[0] != b'i'), "{way}");
        assert_eq!(plant.call("acme", "revoke", &[("permit", int(id))]), Err(106), "{way}");
        // The agent was at it already: what happened is recorded, once.
        assert!(plant.result("agent-01", id, "done").is_ok(), "{way}");
        assert_eq!(plant.result("agent-01", id, "done"), Err(106), "{way}");
    }
}

#[test]
fn nobody_else_revokes_or_reports() {
    let mut plant = Plant::with(&service());
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    for other in ["tom", "fixit", "olga", "agent-02"] {
        assert_eq!(plant.call(other, "revoke", &[("permit", int(id))]), Err(151), "{other}");
        assert_eq!(plant.call(other, "quarantine", &[("device", text("press-01"))]), Err(151), "{other}");
        assert_eq!(plant.call(other, "quarantine", &[("agent", text("agent-01"))]), Err(151), "{other}");
        assert_eq!(plant.result(other, id, "done"), Err(132), "{other}");
        assert_eq!(plant.call(other, "revoke", &[("policy", text("service"))]), Err(140), "{other}");
    }
    assert_eq!(plant.call("tom", "revoke", &[("party", text("tina"))]), Err(151));
    assert_eq!(plant.call("acme", "revoke", &[("permit", int(999))]), Err(140));
    assert_eq!(plant.call("acme", "revoke", &[]), Err(141));
    assert!(plant.open(id).is_some());
    assert_eq!(permits(&plant.world.state, 9).len(), 1);
}

#[test]
fn a_barred_party_gets_nothing_until_it_is_lifted() {
    let mut plant = Plant::with(&service());
    plant.call("acme", "revoke", &[("party", text("tina"))]).unwrap();
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(125));
    assert_eq!(plant.call("fixit", "lift", &[("party", text("tina"))]), Err(140));
    let barred = quarantines(&plant.world.state, 9);
    let shown = (barred[0].kind.as_str(), barred[0].name.as_str(), barred[0].by.as_str());
    assert_eq!((barred.len(), shown), (1, ("party", "tina", "acme")));
    plant.call("acme", "lift", &[("party", text("tina"))]).unwrap();
    assert!(quarantines(&plant.world.state, 9).is_empty());
    assert!(plant.request("tina", "press-01", int(1)).is_ok());
}

#[test]
fn in_quarantine_triggers_and_requests_are_refused() {
    for what in [("device", "press-01"), ("agent", "agent-01")] {
        let mut plant = Plant::with(&service());
        let quarantine = [(what.0, text(what.1)), ("reason", text("moves by itself"))];
        plant.call("acme", "quarantine", &quarantine).unwrap();
        assert_eq!(plant.call("acme", "quarantine", &quarantine), Err(161));
        assert_eq!(quarantines(&plant.world.state, 9)[0].name, what.1);
        assert_eq!(plant.request("tina", "press-01", int(1)), Err(124));
        let trigger = trigger_body("press-01", "door-open", 0, 1, plant.world.now, BTreeMap::new());
        let refused = plant.world.trigger(&plant.kernel, "agent-01", &trigger).unwrap_err();
        assert_eq!(refused.number(), 124);
        assert!(refused.to_string().contains("moves by itself"), "{refused}");
        plant.call("acme", "lift", &[(what.0, text(what.1))]).unwrap();
        assert!(plant.world.trigger(&plant.kernel, "agent-01", &trigger).is_ok());
        assert!(plant.request("tina", "press-01", int(1)).is_ok());
        assert_eq!(plant.call("acme", "lift", &[(what.0, text(what.1))]), Err(140));
    }
}

#[test]
fn a_revoked_party_loses_its_permits() {
    let mut plant = Plant::with(&service());
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    let body = call_body("registry", "revoke-party", None, args(&[("party", text("tina"))]));
    plant.world.call(&plant.kernel, "fixit", &body).unwrap();
    assert!(plant.open(id).is_none() && plant.is_burnt(id));
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(122));
}

#[test]
fn who_is_revoked_neither_allows_nor_carries_out() {
    let mut plant = Plant::with(&service());
    let body = call_body("registry", "revoke-party", None, args(&[("party", text("agent-01"))]));
    plant.world.call(&plant.kernel, "acme", &body).unwrap();
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(138), "its agent is revoked");
    let mut plant = Plant::with(&service());
    // The last admin cannot be revoked by a call: the flag at the end of its record is set here.
    let owner = plant.world.state.get_mut(b"pacme".as_slice()).unwrap();
    *owner.last_mut().unwrap() = 0xf5;
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(138), "its owner is revoked");
}

#[test]
fn a_broken_state_is_the_answer_even_when_another_policy_would_allow_it() {
    let other = Policy { id: PolicyId::try_new("zz-other").unwrap(), rate: None, ..service() };
    let mut plant = Plant::with(&service());
    plant.set(&other).unwrap();
    plant.world.state.insert(b"jacme\0service\0tina".to_vec(), vec![0xff]);
    assert_eq!(plant.request("tina", "press-01", int(1)), Err(191));
    plant.world.state.remove(b"jacme\0service\0tina".as_slice());
    assert!(plant.request("tina", "press-01", int(1)).is_ok());
}

#[test]
fn what_ran_out_is_swept_away_by_the_next_request() {
    let mut plant = Plant::with(&service());
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    plant.wait(601);
    let next = plant.request("tina", "press-01", int(1)).unwrap();
    assert!(plant.is_burnt(id) && plant.open(next).is_some());
}

#[test]
fn attempts_are_recorded_and_change_nothing() {
    let mut plant = Plant::with(&service());
    let id = plant.request("tina", "press-01", int(1)).unwrap();
    let before = plant.world.state.clone();
    let attempt =
        [("permit", int(id)), ("code", text("too-early")), ("reason", text("not before six")), ("count", int(2))];
    let events = plant.call("agent-01", "attempt", &attempt).unwrap();
    assert_eq!((events[0].kind.as_str(), &events[0].data["count"]), ("access.attempt-refused", &int(2)));
    assert_eq!(plant.world.state, before);
    assert_eq!(plant.call("tina", "attempt", &attempt), Err(151));
    assert_eq!(plant.call("agent-01", "attempt", &attempt[..3]), Err(141));
}

/// Whoever may press a button at the HMI may have the setpoint written, 0 to 50, twice an hour.
fn standing() -> Policy {
    let mut policy = service();
    policy.id = PolicyId::try_new("hmi").unwrap();
    policy.who = vec![Who { sender: Some("mqtt:hmi-3".into()), ..Who::default() }];
    policy.points.values_mut().for_each(|allowed| allowed.range = Some((0.0, 50.0)));
    policy.rate = Some((2, Duration::from_secs(3600)));
    policy
}

#[test]
fn a_standing_policy_is_for_one_sender_by_the_devices_own_agent() {
    let mut plant = Plant::with(&service());
    let ask = |plant: &mut Plant, signer: &str, sender: &str, value: i64| {
        let with = [("device", text("press-01")), ("point", text("setpoint")), ("right", text("write"))];
        let how = [("sender", text(sender)), ("said", text("mqtt://broker:1883, id 7")), ("carried", Cbor::Bool(true))];
        let done = plant.call(signer, "request", &[&with[..], &[("value", int(value))], &how].concat());
        done.map(|events| (plant.world.entry - 1, events))
    };
    assert_eq!(ask(&mut plant, "agent-01", "mqtt:hmi-3", 1).unwrap_err(), 153, "nothing written down: nothing allowed");
    plant.set(&standing()).unwrap();
    let (id, events) = ask(&mut plant, "agent-01", "mqtt:hmi-3", 41).unwrap();
    assert_eq!(events[0].data["sender"], text("mqtt:hmi-3"));
    let permit = plant.open(id).unwrap();
    assert_eq!((permit.sender.as_deref(), permit.requester.as_str()), (Some("mqtt:hmi-3"), "agent-01"));
    assert_eq!(plant.result("agent-01", id, "done").unwrap()[0].data["sender"], text("mqtt:hmi-3"));
    assert_eq!(ask(&mut plant, "agent-01", "mqtt:hmi-3", 51).unwrap_err(), 154, "its own bounds");
    assert_eq!(ask(&mut plant, "agent-01", "mqtt:hmi-4", 1).unwrap_err(), 153, "another sender");
    assert_eq!(ask(&mut plant, "tina", "mqtt:hmi-3", 1).unwrap_err(), 132, "hearsay");
    assert_eq!(plant.request("agent-01", "press-01", int(1)), Err(153), "not for the agent itself");
    plant.request("tina", "press-01", int(1)).unwrap();
    ask(&mut plant, "agent-01", "mqtt:hmi-3", 1).unwrap();
    assert_eq!(ask(&mut plant, "agent-01", "mqtt:hmi-3", 1).unwrap_err(), 156, "its own rate");
    plant.call("acme", "revoke", &[("policy", text("hmi"))]).unwrap();
    assert_eq!(ask(&mut plant, "agent-01", "mqtt:hmi-3", 1).unwrap_err(), 153);
    let said =
        [("device", text("press-01")), ("point", text("setpoint")), ("right", text("read")), ("said", text("x"))];
    assert_eq!(plant.call("tina", "request", &said), Err(141), "an account of nobody's command");
}

#[test]
fn keys_as_people_write_them() {
    assert_eq!(state_key("permit:7").unwrap(), permit_state_key(7));
    assert_eq!(state_key("burnt:7").unwrap(), burnt_state_key(7));
    assert_eq!(state_key("policy:acme/service").unwrap(), b"Aacme\0service");
    assert_eq!(state_key("barred:acme/tina").unwrap(), b"Bacme\0tina");
    assert_eq!(state_key("quarantine:device/press-01").unwrap(), b"Qdpress-01");
    assert!(state_key("permit:seven").is_err() && state_key("quarantine:line/x").is_err());
}

/// With a validator that is not ours.
#[test]
fn calls_are_in_the_format_and_what_is_not_is_refused() {
    let request = [("device", text("press-01")), ("point", text("setpoint")), ("right", text("write"))];
    let full =
        Policy { hours: Some((60, 0)), days: Some(vec![1, 7]), from: Some(Timestamp::from_micros(-1)), ..service() };
    let bare = Policy { who: Vec::new(), rate: None, points: BTreeMap::new(), ..service() };
    let calls = [
        ("policy", vec![("policy", bytes(full.encode()))]),
        ("policy", vec![("policy", bytes(bare.encode()))]),
        (
            "request",
            [&request[..], &[("value", Cbor::Float(0.1)), ("lasts", int(1)), ("carried", Cbor::Bool(true))]].concat(),
        ),
        ("policy", vec![("policy", bytes(standing().encode()))]),
        (
            "request",
            [&request[..], &[("value", int(1)), ("sender", text("mqtt:hmi-3")), ("said", text("id 7"))]].concat(),
        ),
        ("revoke", vec![("permit", int(1))]),
        ("revoke", vec![("party", text("tina"))]),
        ("result", vec![("permit", int(1)), ("how", text("done")), ("found", Cbor::Bool(true))]),
        ("attempt", vec![("count", int(1)), ("code", text("forged"))]),
        ("quarantine", vec![("device", text("press-01")), ("reason", text("why"))]),
        ("lift", vec![("agent", text("agent-01"))]),
        ("lift", vec![("party", text("tina"))]),
    ];
    let calls = calls.map(|(action, with)| call_body("access", action, None, args(&with)));
    for (call, fault) in calls.iter().zip(hold_against("access-call", &["permit"], &calls)) {
        assert_eq!(fault, None, "{}", call.action);
    }
    let wrong = [
        ("policy", vec![("policy", bytes(vec![0xa0]))]),
        ("request", [&request[..], &[("value", Cbor::Null)]].concat()),
        ("request", [&request[..], &[("value", int(1)), ("tip", int(1))]].concat()),
        ("request", [&request[..], &[("value", int(1)), ("sender", text(""))]].concat()),
        ("result", vec![("permit", int(1)), ("how", text("perhaps"))]),
        ("attempt", vec![("count", int(0))]),
        ("lift", vec![]),
    ];
    let wrong = wrong.map(|(action, with)| call_body("access", action, None, args(&with)));
    let mut plant = Plant::with(&service());
    for (call, fault) in wrong.iter().zip(hold_against("access-call", &["permit"], &wrong)) {
        assert!(fault.is_some(), "{}", call.action);
        let signer = if matches!(call.action.as_str(), "result" | "attempt") { "agent-01" } else { "acme" };
        let signer = if call.action.as_str() == "request" { "tina" } else { signer };
        let refused = plant.world.call(&plant.kernel, signer, call).unwrap_err().number();
        assert!((140..=143).contains(&refused), "{}: {refused}", call.action);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// Whatever is asked in whatever order: a permit is open or burnt, never both, and never open again.
    #[test]
    fn a_permit_is_used_at_most_once(steps in proptest::collection::vec((0u8..7, 0u64..6), 1..40)) {
        let mut plant = Plant::with(&Policy { rate: None, ..service() });
        let (mut granted, mut done) = (Vec::new(), BTreeMap::<u64, u32>::new());
        for (step, which) in steps {
            let id = granted.get(usize::try_from(which).unwrap()).copied().unwrap_or(0);
            match step {
                0 | 1 => granted.extend(plant.request("tina", "press-01", int(which))),
                2 => { if plant.result("agent-01", id, "done").is_ok() { *done.entry(id).or_default() += 1; } }
                3 => { let _ = plant.call("acme", "revoke", &[("permit", int(id))]); }
                4 => { let _ = plant.set(&Policy { rate: None, ..service() }); }
                5 => { let _ = plant.call("acme", "quarantine", &[("device", text("press-01"))]); }
                _ => { let _ = plant.call("acme", "lift", &[("device", text("press-01"))]); plant.wait(100 * which); }
            }
            for id in &granted {
                prop_assert!(plant.open(*id).is_some() != plant.is_burnt(*id));
            }
        }
        prop_assert!(done.values().all(|count| *count == 1));
    }
}
