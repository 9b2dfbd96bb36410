//! Sealed rightly, but not by whom the ledger believes, or not what it allows: these are entries, each with the number of its refusal.

use super::LINE;
use std::collections::BTreeMap;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{
    CallBody, PartyKind, PartyRecord, ReadingsClaim, SignedStatement, StatementKind, Transition, TriggerBody, sign,
};
use tally_model::{DeviceId, PartyId, Priority, Timestamp, TriggerId};
use tally_tests::{Attacks, Party, Site};

fn trigger(party: &Party, device: &str, number: u64, at: Timestamp) -> Vec<u8> {
    let body = TriggerBody {
        trigger: TriggerId::try_new("bearing-worn").unwrap(),
        device: DeviceId::try_new(device).unwrap(),
        rule: [9; 32],
        transition: Transition::Raised,
        priority: Priority::Medium,
        at,
        readings: ReadingsClaim { first: 0, last: 9, root: [1; 32], head: [2; 32], points: BTreeMap::new() },
        number,
        call: None,
        clock: None,
        grade: Default::default(),
        mapping: None,
        origins: Vec::new(),
        quality: None,
    };
    sign(StatementKind::Trigger, &party.key, &party.id, device, &party.ledger, at.as_seconds(), body.encode())
}

fn pay(party: &Party, to: &str, amount: Cbor, currency: &str) -> Vec<u8> {
    party.seal("accounts", "transfer", None, &[("to", text(to)), ("amount", amount), ("currency", text(currency))])
}

fn lies(site: &Site) -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    let [agent, fixit, tina, acme] = ["agent-01", "fixit", "tina", "acme"].map(|name| Party::of(site, name));
    let now = Timestamp::from_micros(1_790_000_000_000_000);
    let future = Timestamp::from_micros(i64::MAX / 2);
    let eve = PartyRecord {
        id: PartyId::try_new("eve").unwrap(),
        kind: PartyKind::Organisation,
        name: "Eve".to_owned(),
        key: tina.key.public().clone(),
        firm: None,
        skills: Vec::new(),
    };
    vec![
        (
            "rule-nobody-registered",
            "a trigger by a rule of the agent's own",
            "133",
            trigger(&agent, "press-01", 0, now),
        ),
        ("unknown-device", "a trigger about a device nobody has", "131", trigger(&agent, "lathe-99", 1, now)),
        (
            "cross-device",
            "a trigger by somebody else than the device's agent",
            "132",
            trigger(&fixit, "press-01", 0, now),
        ),
        ("from-the-future", "a trigger of the year 148,000", "111", trigger(&agent, "press-01", 2, future)),
        ("amount-negative", "a payment of -5", "182", pay(&fixit, "acme", int(-5), "EUR")),
        ("amount-zero", "a payment of 0", "182", pay(&fixit, "acme", int(0), "EUR")),
        ("amount-huge", "a payment of 2^63-1", "183", pay(&acme, "fixit", int(i64::MAX), "EUR")),
        ("amount-above-i64", "a payment of 2^64-1", "142", pay(&acme, "fixit", int(u64::MAX), "EUR")),
        ("amount-float", "a payment of 1.5", "142", pay(&acme, "fixit", Cbor::Float(1.5), "EUR")),
        ("amount-text", "a payment of \"5\"", "142", pay(&acme, "fixit", text("5"), "EUR")),
        ("account-nobody-has", "a payment to nobody", "139|138", pay(&acme, "nobody", int(5), "EUR")),
        ("currency-made-up", "a payment in a currency of one's own", "142", pay(&acme, "fixit", int(5), "XXX")),
        (
            "argument-smuggled",
            "a payment that names who pays",
            "143",
            acme.seal(
                "accounts",
                "transfer",
                None,
                &[("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR")), ("from", text("bank"))],
            ),
        ),
        ("unknown-action", "an action the contract does not have", "136", fixit.seal("accounts", "dance", None, &[])),
        ("unknown-contract", "a contract nobody deployed", "135", fixit.seal("nothing", "at-all", None, &[])),
        (
            "unknown-agreement",
            "an order that is none",
            "137",
            fixit.seal("maintenance-order", "accept", Some("mo-77"), &[]),
        ),
        (
            "money-made",
            "money issued by somebody who is no issuer",
            "151",
            tina.seal(
                "accounts",
                "issue",
                None,
                &[("owner", text("tina")), ("amount", int(5)), ("currency", text("EUR"))],
            ),
        ),
        (
            "registry-by-a-guest",
            "a key registered by who may not",
            "151",
            tina.seal("registry", "register-party", None, &[("party", eve.to_cbor())]),
        ),
        (
            "revoke-by-a-guest",
            "the agent revoked by who may not",
            "151",
            tina.seal("registry", "revoke-party", None, &[("party", text("agent-01"))]),
        ),
        ("genesis-again", "a second genesis", "103", acme.seal("registry", "genesis", None, &[])),
        (
            "permit-without-policy",
            "a permit asked for where no policy stands",
            "153",
            tina.seal(
                "access",
                "request",
                None,
                &[("device", text("press-01")), ("point", text("worn")), ("right", text("read"))],
            ),
        ),
        (
            "contract-faulty",
            "a contract full of faults",
            "144|151",
            tina.seal("registry", "deploy-contract", None, &[("text", text("&a [*a]"))]),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn well_sealed_lies_are_recorded_with_their_refusal_and_change_nothing() {
    let site = Site::new(LINE, None).await;
    let _node = site.start_node().await;
    let accounts = site.node.get_json("/accounts").await.unwrap();
    let parties = site.node.get_json("/parties").await.unwrap();
    let mut attacks = Attacks::on("the contracts");
    for (name, sent, expected, statement) in lies(&site) {
        let submitted = site.node.submit(&statement).await.unwrap();
        let got = submitted.refusal.map_or_else(|| "done".to_owned(), |number| number.to_string());
        let id = SignedStatement::parse(&statement).unwrap().id;
        let outcome = site.node.get_json(&format!("/entries/{id}/outcome")).await.unwrap();
        assert!(outcome["refusal"].as_u64().unwrap_or(0).to_string() == got, "{name}: {outcome}");
        attacks.tried(name, sent, expected, got);
    }
    for (number, count) in attacks.counts() {
        let counted = Site::metric(&site.node, "tally_contract_refused_total", &format!("number=\"{number}\"")).await;
        assert!(
            counted >= f64::from(u32::try_from(count).unwrap()),
            "{number} is counted {counted} times, not {count}"
        );
    }
    assert_eq!(site.node.get_json("/accounts").await.unwrap(), accounts, "no money moved");
    assert_eq!(site.node.get_json("/parties").await.unwrap(), parties, "nobody came or went");
    // A body that is a good call, sealed twice with one nonce, is done once.
    let acme = Party::of(&site, "acme");
    let good = pay(&acme, "fixit", int(5), "EUR");
    let body = CallBody::decode(&SignedStatement::parse(&good).unwrap().payload).unwrap();
    let first = site.node.submit(&good).await.unwrap();
    let again =
        sign(StatementKind::Call, &acme.key, &acme.id, "accounts", "press-line", body.at.as_seconds(), body.encode());
    let second = site.node.submit(&again).await.unwrap();
    attacks.tried(
        "sealed-again",
        "the same call under a fresh signature",
        "the first entry",
        if second.entry == first.entry { "the first entry" } else { "another entry" },
    );
    attacks.finish(20);
}
