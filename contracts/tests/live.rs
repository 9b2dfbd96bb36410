//! What a node that forgets must not forget: the calls behind everything in force, and of that nothing that is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body};
use std::collections::BTreeMap;
use tally_contracts::{Kernel, live::live};
use tally_evidence::Policy;
use tally_evidence::cbor::{Cbor, bytes, int, text};

fn policy(id: &str) -> Policy {
    common::policy(id, &["press-01"])
}

/// Calls `access`; gives the entry.
fn call(world: &mut World, kernel: &Kernel, signer: &str, action: &str, with: &[(&str, Cbor)]) -> u64 {
    let args: BTreeMap<_, _> = with.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    world.call(kernel, signer, &call_body("access", action, None, args)).unwrap();
    world.entry - 1
}

#[test]
fn what_access_rests_on_is_live_while_it_is_in_force() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let mut call = |signer, action, with: &[(&str, Cbor)]| call(&mut world, &kernel, signer, action, with);
    let set = |id| [("policy", bytes(policy(id).encode()))];
    let ask = [("device", text("press-01")), ("point", text("setpoint")), ("right", text("write")), ("value", int(42))];
    let mut wanted = vec![];
    let over = [call("acme", "policy", &set("old")), call("acme", "policy", &set("service"))];
    call("acme", "revoke", &[("policy", text("old"))]);
    wanted.push(call("acme", "policy", &set("service")));
    let used = call("tina", "request", &ask);
    call("agent-01", "result", &[("permit", int(used)), ("how", text("done"))]);
    wanted.push(call("tina", "request", &ask));
    let lifted = call("acme", "quarantine", &[("device", text("press-02"))]);
    call("acme", "lift", &[("device", text("press-02"))]);
    wanted.push(call("acme", "quarantine", &[("device", text("press-03")), ("reason", text("it lies"))]));
    wanted.push(call("acme", "quarantine", &[("agent", text("agent-02"))]));
    wanted.push(call("acme", "revoke", &[("party", text("ted"))]));
    let allowed = call("acme", "revoke", &[("party", text("tom"))]);
    call("acme", "lift", &[("party", text("tom"))]);

    let entries = 0..world.entry;
    let found = live(&world.state, entries.clone(), world.now).unwrap();
    let terms: Vec<_> = found.entries.iter().copied().filter(|entry| !wanted.contains(entry)).collect();
    assert_eq!(terms, [0], "the standing terms of the genesis, and nothing of what is over");
    assert!(wanted.iter().all(|entry| found.entries.contains(entry)), "{wanted:?} {found:?}");
    assert!(over.iter().chain([&used, &lifted, &allowed]).all(|entry| !found.entries.contains(entry)));
    // Asked about a range, it says nothing of others; and a record that cannot be read is never passed over.
    assert_eq!(live(&world.state, wanted[1]..wanted[1] + 1, world.now).unwrap().entries, [wanted[1]].into());
    for prefix in [b'A', b'Q', b'B'] {
        let mut broken = world.state.clone();
        let row = broken.iter_mut().find(|(key, _)| key[0] == prefix).unwrap();
        row.1.push(0);
        assert_eq!(live(&broken, entries.clone(), world.now).unwrap_err().number(), 191);
    }
}
