//! The registry's calls against `docs/formats/registry.cddl`, with a validator that is not ours: what the kernel takes is in
//! the format, and what is not in the format the kernel does not take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, World, call_body, genesis, hold_against, record, rule};
use std::collections::BTreeMap;
use tally_contracts::{GenesisAccount, Kernel, LIBRARY, genesis_body};
use tally_evidence::cbor::{Cbor, bytes, int, map, text};
use tally_evidence::{CallBody, KeyId, PartyKind};

fn call(action: &str, args: &[(&str, Cbor)]) -> CallBody {
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<BTreeMap<_, _>>();
    call_body("registry", action, None, args)
}

/// A genesis with every argument there is.
fn whole_genesis() -> CallBody {
    let mut genesis = genesis();
    let owner = common::party("fixit");
    genesis.accounts.push(GenesisAccount { owner, currency: "CHF".to_owned() });
    let body = genesis_body(&genesis);
    let empty: Vec<_> = body.args.iter().filter(|(_, value)| value.as_array().is_some_and(Vec::is_empty)).collect();
    assert!(body.args.len() == 9 && empty.is_empty(), "an argument of the genesis is not tried: {empty:?}");
    body
}

/// One call of each other kind, with its signer, in an order in which the kernel takes them all.
fn right_calls() -> Vec<(&'static str, CallBody)> {
    let later = rule("press-01", "later", Some(("maintenance-order", "report", &["fault"])));
    let newer = LIBRARY[0].1.replace("\nversion: 1\n", "\nversion: 2\n");
    let apprentice = record("anna", PartyKind::Person, Some("fixit"), &["oil"]).to_cbor();
    let device = |agent| map([("id", text("press-01")), ("agent", text(agent)), ("owner", text("acme"))]);
    vec![
        ("acme", call("register-party", &[("party", record("newco", PartyKind::Organisation, None, &[]).to_cbor())])),
        ("fixit", call("register-party", &[("party", apprentice)])),
        ("fixit", call("revoke-party", &[("party", text("anna"))])),
        ("acme", call("register-device", &[("device", device("agent-02"))])),
        ("acme", call("register-rule", &[("rule", later.to_cbor())])),
        ("acme", call("withdraw-rule", &[("device", text("press-01")), ("rule", bytes(later.digest()))])),
        ("acme", call("deploy-contract", &[("text", text(newer))])),
    ]
}

#[test]
fn what_the_kernel_takes_is_in_the_format() {
    let kernel = Kernel::new();
    let mut world = World::empty();
    let genesis = whole_genesis();
    world.call_as(&kernel, LEDGER, KeyId([0; 32]), &genesis).unwrap();
    let mut calls = vec![genesis];
    for (signer, call) in right_calls() {
        world.call(&kernel, signer, &call).unwrap_or_else(|refusal| panic!("{}: {refusal}", call.action));
        calls.push(call);
    }
    for top in ["registry-call", "call"] {
        for (call, fault) in calls.iter().zip(hold_against(top, &["registry", "call", "rule"], &calls)) {
            assert_eq!(fault, None, "{} as {top}", call.action);
        }
    }
}

#[test]
fn what_is_not_in_the_format_is_not_taken() {
    let kernel = Kernel::new();
    let mut party = record("anna", PartyKind::Person, Some("fixit"), &["oil"]).to_cbor();
    if let Cbor::Map(fields) = &mut party {
        fields.retain(|(name, _)| *name != text("key"));
    }
    let wrong = [
        call("register-party", &[("party", party)]),
        call("register-party", &[("party", text("anna"))]),
        call("revoke-party", &[("party", int(7))]),
        call("revoke-party", &[("party", text("tina")), ("reason", text("retired"))]),
        call("register-device", &[("device", map([("id", text("press-09")), ("agent", text("agent-01"))]))]),
        call("register-rule", &[("rule", bytes([0xff]))]),
        call("register-rule", &[]),
        call("withdraw-rule", &[("device", text("press-01")), ("rule", bytes([1; 31]))]),
        call("deploy-contract", &[("text", bytes(*b"contract: x"))]),
        call("abdicate", &[]),
    ];
    for (call, fault) in wrong.iter().zip(hold_against("registry-call", &["registry", "call", "rule"], &wrong)) {
        assert!(fault.is_some(), "the format takes {call:?}");
        let mut world = World::founded(&kernel);
        assert!(world.call(&kernel, "acme", call).is_err(), "the kernel takes {call:?}");
    }
    let mut free_money = whole_genesis();
    free_money.args.insert(
        "issue".to_owned(),
        Cbor::Array(vec![map([("owner", text("acme")), ("currency", text("EUR")), ("amount", int(0))])]),
    );
    let mut nameless = whole_genesis();
    nameless.args.insert("standing".to_owned(), Cbor::Array(vec![map([("device", text("press-01"))])]));
    let wrong = [free_money, nameless];
    for (call, fault) in wrong.iter().zip(hold_against("registry-call", &["registry", "call", "rule"], &wrong)) {
        assert!(fault.is_some(), "the format takes {call:?}");
        assert!(World::empty().call_as(&kernel, LEDGER, KeyId([0; 32]), call).is_err(), "the kernel takes {call:?}");
    }
}
