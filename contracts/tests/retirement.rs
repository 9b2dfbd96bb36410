//! The time after which ended agreements leave the state, changed for a ledger that runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, key_id, party, trigger_body};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_contracts::{Genesis, Input, Kernel, Overlay, Refusal, StateRead, views};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{CallBody, Event};
use tally_model::{AgreementId, Timestamp, Value};

const DAY: i64 = 86_400_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

fn registry(action: &str, args: &[(&str, Cbor)]) -> CallBody {
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    call_body("registry", action, None, args)
}

fn set(after: Cbor) -> CallBody {
    registry("set-retirement", &[("after", after)])
}

/// An order about `fault` that its owner calls off at once.
fn order(world: &mut World, kernel: &Kernel, fault: &str) {
    let number = world.numbers.entry("agent-01".to_owned()).or_default();
    world.reading += 1;
    let with = BTreeMap::from([("fault".to_owned(), Value::Text(fault.to_owned()))]);
    let trigger = trigger_body("press-01", "bearing-worn", *number, world.reading, world.now, with);
    *number += 1;
    let opened = world.trigger(kernel, "agent-01", &trigger).unwrap();
    let cancel = call_body("maintenance-order", "cancel", Some(&opened[0].subject), BTreeMap::new());
    world.call(kernel, "acme", &cancel).unwrap();
}

fn retires(world: &World, id: &str) -> Option<Timestamp> {
    views::agreement(&world.state, &AgreementId::try_new(id).unwrap()).unwrap().retires_at
}

/// How many were dated, and where to go on.
fn applied(events: &[Event]) -> (i128, Option<String>) {
    let [Event { kind, data, .. }] = events else { panic!("{events:?}") };
    assert_eq!(kind, "registry.retirement-applied");
    (data["dated"].as_integer().unwrap().into(), data.get("next").map(|next| next.as_text().unwrap().to_owned()))
}

fn number(done: Result<Vec<Event>, Refusal>) -> u16 {
    done.unwrap_err().number()
}

#[test]
fn a_ledger_that_kept_everything_retires_from_then_on_and_can_stop_again() {
    let kernel = Kernel::new();
    let mut world = World::founded_as(&kernel, &Genesis { retire_after: None, ..common::genesis() });
    order(&mut world, &kernel, "one");
    let ended = world.now;
    world.now = world.now.plus(HOUR);

    let founding = world.state[&b"g"[..]].clone();

    // Who may, and with what.
    assert_eq!(number(world.call(&kernel, "fixit", &set(int(10 * DAY)))), 151);
    assert_eq!(number(world.call(&kernel, "fixit", &registry("apply-retirement", &[]))), 151);
    for wrong in [int(0), int(-1), text("10d"), Cbor::Bool(false)] {
        assert_eq!(number(world.call(&kernel, "acme", &set(wrong))), 142);
    }
    assert_eq!(number(world.call(&kernel, "acme", &registry("set-retirement", &[]))), 141);
    let too_much = registry("set-retirement", &[("after", int(DAY)), ("from", text("mo-1"))]);
    assert_eq!(number(world.call(&kernel, "acme", &too_much)), 143);
    assert_eq!(number(world.call(&kernel, "acme", &registry("apply-retirement", &[("from", text("mo-01"))]))), 142);
    assert_eq!(number(world.call(&kernel, "acme", &set(Cbor::Null))), 161, "it keeps everything already");

    // What ends from then on goes; what ended before stays until somebody asks for it.
    let done = world.call(&kernel, "acme", &set(int(10 * DAY))).unwrap();
    assert_eq!((done[0].kind.as_str(), done[0].subject.as_str()), ("registry.retirement-set", common::LEDGER));
    assert_eq!((&done[0].data["after"], &done[0].data["before"]), (&int(10 * DAY), &Cbor::Null));
    assert_eq!(views::retire_after(&world.state), Some(10 * 24 * HOUR));
    order(&mut world, &kernel, "two");
    assert_eq!((retires(&world, "mo-1"), retires(&world, "mo-2")), (None, Some(world.now.plus(10 * 24 * HOUR))));
    let done = world.call(&kernel, "acme", &registry("apply-retirement", &[])).unwrap();
    assert_eq!(applied(&done), (1, None));
    assert_eq!(retires(&world, "mo-1"), Some(ended.plus(10 * 24 * HOUR)));

    // Shorter: never behind block time, from which retention counts.
    world.call(&kernel, "acme", &set(int(DAY / 48))).unwrap();
    let done = world.call(&kernel, "acme", &registry("apply-retirement", &[("from", text("mo-1"))])).unwrap();
    assert_eq!(applied(&done), (2, None));
    assert_eq!(retires(&world, "mo-1"), Some(world.now));
    assert_eq!(retires(&world, "mo-2"), Some(world.now.plus(HOUR / 2)));
    world.run_terms(&kernel);
    assert!(views::is_retired(&world.state, &AgreementId::try_new("mo-1").unwrap()));

    // Never: the one that is left loses its date, the record of the genesis is the one of a ledger that never had any.
    world.call(&kernel, "acme", &set(Cbor::Null)).unwrap();
    assert_eq!(applied(&world.call(&kernel, "acme", &registry("apply-retirement", &[])).unwrap()), (1, None));
    assert_eq!((retires(&world, "mo-2"), kernel.next_due(&world.state)), (None, None));
    assert_eq!((views::retire_after(&world.state), &world.state[&b"g"[..]]), (None, &founding));
    order(&mut world, &kernel, "three");
    assert_eq!(retires(&world, "mo-3"), None);
    world.check();
}

/// Orders opened and called off in one block, without a copy of the state for each.
fn many(kernel: &Kernel, world: &mut World, count: u64) {
    let before = world.state.clone();
    let (mut overlay, block) = (Overlay::new(&before), world.block());
    for nth in 0..count {
        let with = BTreeMap::from([("fault".to_owned(), Value::Text(format!("fault {nth}")))]);
        let body = trigger_body("press-01", "bearing-worn", nth, nth + 1, world.now, with);
        let trigger =
            Input::Trigger { entry: 2 * nth, signer: &party("agent-01"), key: key_id("agent-01"), body: &body };
        let opened = kernel.execute(&mut overlay, &block, &trigger).unwrap();
        let body = call_body("maintenance-order", "cancel", Some(&opened[0].subject), BTreeMap::new());
        let call = Input::Call { entry: 2 * nth + 1, signer: &party("acme"), key: key_id("acme"), body: &body };
        kernel.execute(&mut overlay, &block, &call).unwrap();
    }
    for (key, value) in overlay.into_changes() {
        match value {
            Some(value) => world.state.insert(key, value),
            None => world.state.remove(&key),
        };
    }
}

#[test]
fn a_thousand_are_dated_at_a_time() {
    let kernel = Kernel::new();
    let mut world = World::founded_as(&kernel, &Genesis { retire_after: None, ..common::genesis() });
    many(&kernel, &mut world, 1_002);
    world.call(&kernel, "acme", &set(int(DAY))).unwrap();
    let apply = |world: &mut World, from: &[(&str, Cbor)]| {
        applied(&world.call(&kernel, "acme", &registry("apply-retirement", from)).unwrap())
    };
    let (dated, next) = apply(&mut world, &[]);
    assert_eq!((dated, next.as_deref()), (1_000, Some("mo-1001")));
    assert_eq!((retires(&world, "mo-1000").is_some(), retires(&world, "mo-1001")), (true, None));
    assert_eq!(apply(&mut world, &[("from", text("mo-1001"))]), (2, None));
    assert_eq!(apply(&mut world, &[]), (0, Some("mo-1001".to_owned())), "a second time changes nothing");
    assert_eq!(apply(&mut world, &[("from", text("zz-1"))]), (0, None));
    assert_eq!(world.state.scan(b"t", usize::MAX).len(), 1_002);
    world.now = world.now.plus(24 * HOUR);
    world.run_terms(&kernel);
    assert!(world.state.scan(b"m", 1).is_empty() && world.state.scan(b"t", 1).is_empty());
    assert_eq!(apply(&mut world, &[]), (0, None));
}
