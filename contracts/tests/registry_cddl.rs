//! The registry's calls against `docs/formats/registry.cddl`, with a validator that is not ours: what the kernel takes is in
//! the format, and what is not in the format the kernel does not take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, World, call_body, genesis, hold_against, record, rule};
use std::collections::BTreeMap;
use tally_contracts::{GenesisAccount, Kernel, LIBRARY, genesis_body};
use tally_evidence::cbor::{Cbor, bytes, int, map, text};
use tally_evidence::{CallBody, KeyId, PartyKind, possession};

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
    assert!(body.args.len() == 11 && empty.is_empty(), "an argument of the genesis is not tried: {empty:?}");
    body
}

fn there(id: &str, agent: &str, owner: &str) -> Cbor {
    map([("id", text(id)), ("agent", text(agent)), ("owner", text(owner)), ("site", text("hall-3"))])
}

fn new_key(party: &str, more: &[(&'static str, Cbor)]) -> Vec<(&'static str, Cbor)> {
    let new = common::key(&format!("{party}-b"));
    let proof = new.sign(&possession(LEDGER, &common::party(party), new.public()));
    let key = bytes(new.public().sec1().to_vec());
    [("party", text(party)), ("key", key), ("proof", bytes(proof))].into_iter().chain(more.iter().cloned()).collect()
}

fn to(parties: &[&str], roles: &[&str]) -> Cbor {
    let list = |items: &[&str]| Cbor::Array(items.iter().copied().map(text).collect());
    map([("parties", list(parties)), ("roles", list(roles))])
}

fn fingerprint(kind: &str) -> [(&'static str, Cbor); 4] {
    [("device", text("press-01")), ("kind", text(kind)), ("digest", bytes([7; 32])), ("version", text("1.2"))]
}

/// One call of each other kind, with its signer, in an order in which the kernel takes them all.
fn right_calls() -> Vec<(&'static str, CallBody)> {
    let later = rule("press-01", "later", Some(("maintenance-order", "report", &["fault"])));
    let newer = LIBRARY[0].1.replace("\nversion: 1\n", "\nversion: 2\n");
    let apprentice = record("anna", PartyKind::Person, Some("fixit"), &["oil"]).to_cbor();
    let device = |agent| map([("id", text("press-01")), ("agent", text(agent)), ("owner", text("acme"))]);
    let newcomer = record("zoe", PartyKind::Person, Some("acme"), &[]).to_cbor();
    let many =
        [("parties", Cbor::Array(vec![newcomer])), ("devices", Cbor::Array(vec![there("d-1", "agent-01", "acme")]))];
    vec![
        ("acme", call("register-party", &[("party", record("newco", PartyKind::Organisation, None, &[]).to_cbor())])),
        ("fixit", call("register-party", &[("party", apprentice)])),
        ("fixit", call("revoke-party", &[("party", text("anna"))])),
        (
            "fixit",
            call(
                "set-visibility",
                &[("of", text("party")), ("id", text("ted")), ("to", to(&["judge", "bank"], &["auditor"]))],
            ),
        ),
        ("ted", call("set-visibility", &[("of", text("party")), ("id", text("ted")), ("to", text("everyone"))])),
        ("acme", call("set-visibility", &[("of", text("device")), ("id", text("press-01")), ("to", to(&[], &[]))])),
        ("acme", call("register-device", &[("device", device("agent-02"))])),
        ("tina", call("rotate-key", &new_key("tina", &[("overlap", int(3_600_000_000_u64))]))),
        (
            "fixit",
            call("set-recovery", &[("admins", Cbor::Array(vec![text("tom")])), ("needed", int(1)), ("delay", int(0))]),
        ),
        ("tom", call("approve-recovery", &new_key("fixit", &[]))),
        ("acme", call("bind-device", &[("device", there("press-01", "agent-01", "acme"))])),
        ("acme", call("offer-transfer", &[("device", text("press-02")), ("to", text("bank"))])),
        ("acme", call("withdraw-offer", &[("device", text("press-02"))])),
        ("acme", call("offer-transfer", &[("device", text("press-02")), ("to", text("bank"))])),
        ("bank", call("accept-transfer", &[("device", there("press-02", "agent-01", "bank"))])),
        ("acme", call("report-fingerprint", &fingerprint("firmware"))),
        ("acme", call("report-fingerprint", &fingerprint("identity"))),
        ("agent-01", call("report-fingerprint", &fingerprint("mapping"))),
        ("acme", call("register-many", &many)),
        ("acme", call("register-rule", &[("rule", later.to_cbor())])),
        ("acme", call("withdraw-rule", &[("device", text("press-01")), ("rule", bytes(later.digest()))])),
        ("acme", call("deploy-contract", &[("text", text(newer))])),
        ("acme", call("set-retirement", &[("after", int(1_u64))])),
        ("acme", call("set-retirement", &[("after", Cbor::Null)])),
        ("acme", call("apply-retirement", &[])),
        ("acme", call("apply-retirement", &[("from", text("mo-1001"))])),
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
        call("rotate-key", &new_key("acme", &[("overlap", int(7_776_000_000_001_u64))])),
        call("rotate-key", &new_key("acme", &[])[..2]),
        call("set-recovery", &[("admins", Cbor::Array(vec![])), ("needed", int(1))]),
        call("set-recovery", &[("admins", Cbor::Array(vec![text("tom")])), ("needed", int(0))]),
        call("set-visibility", &[("of", text("party")), ("id", text("acme")), ("to", text("nobody"))]),
        call("set-visibility", &[("of", text("party")), ("id", text("acme")), ("to", to(&[], &["operator"]))]),
        call("set-visibility", &[("of", text("party")), ("id", text("acme"))]),
        call("set-visibility", &[("id", text("acme")), ("to", text("everyone"))]),
        call("set-visibility", &[("of", text("firm")), ("id", text("acme")), ("to", to(&["bank"], &[]))]),
        call(
            "set-visibility",
            &[("of", text("device")), ("id", text("press-01")), ("to", map([("firms", text("bank"))]))],
        ),
        call("bind-device", &[("device", text("press-01"))]),
        call("offer-transfer", &[("device", text("press-01"))]),
        call("accept-transfer", &[("device", text("press-01"))]),
        call("report-fingerprint", &fingerprint("colour")),
        call("report-fingerprint", &fingerprint("firmware")[..2]),
        call("register-many", &[("devices", Cbor::Array(vec![text("press-01")]))]),
        call("set-retirement", &[]),
        call("set-retirement", &[("after", int(0))]),
        call("set-retirement", &[("after", text("90d"))]),
        call("apply-retirement", &[("from", int(7))]),
        call("apply-retirement", &[("from", text("mo-1")), ("to", text("mo-7"))]),
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
