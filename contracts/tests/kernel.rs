//! What the scenarios do not show: views, terms put off, versions of a contract, the genesis file, the overlay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{GENESIS, World, call_body, party, read_pem, trigger_body};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tally_contracts::views::{self, AgreementFilter};
use tally_contracts::{Genesis, Input, Kernel, Overlay, RETIRE_AFTER_USUAL, Refusal, StateRead, genesis_body};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{AnchorBody, Event, KeyId, KeyScheme};
use tally_model::{AgreementId, ContractName, DeviceId, Timestamp, Value};

fn report(world: &mut World, kernel: &Kernel, device: &str, fault: &str) -> Vec<Event> {
    let agent = if device == "press-03" { "agent-02" } else { "agent-01" };
    let number = world.numbers.entry(agent.to_owned()).or_default();
    world.reading += 1;
    let with = BTreeMap::from([("fault".to_owned(), Value::Text(fault.to_owned()))]);
    let body = trigger_body(device, "bearing-worn", *number, world.reading, world.now, with);
    *number += 1;
    world.trigger(kernel, agent, &body).unwrap()
}

fn deploy(world: &mut World, kernel: &Kernel, yaml: &str) -> Result<Vec<Event>, Refusal> {
    let args = BTreeMap::from([("text".to_owned(), text(yaml))]);
    world.call(kernel, "acme", &call_body("registry", "deploy-contract", None, args))
}

fn id(text: &str) -> AgreementId {
    AgreementId::try_new(text).unwrap()
}

#[test]
fn views_say_what_happened() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    report(&mut world, &kernel, "press-01", "one");
    report(&mut world, &kernel, "press-01", "one");
    world.now = world.now.plus(Duration::from_secs(4 * 3600));
    let due = kernel.next_due(&world.state).unwrap();
    assert_eq!(kernel.due_terms(&world.state, world.now.minus(Duration::from_micros(1)), 9), []);
    assert_eq!(kernel.due_terms(&world.state, world.now, 9), [(id("mo-1"), due)]);
    world.run_terms(&kernel);
    report(&mut world, &kernel, "press-03", "two");
    world.call(&kernel, "tom", &call_body("maintenance-order", "accept", Some("mo-1"), BTreeMap::new())).unwrap();

    let view = views::agreement(&world.state, &id("mo-1")).unwrap();
    assert_eq!((view.state.as_str(), view.version, view.ended), ("accepted", 1, false));
    assert_eq!((view.history, view.terms), (vec![1, 4], vec![due]), "entry 2 was a note, entry 3 the other order");
    assert_eq!((view.notes, view.last_note), (1, Some(2)));
    assert_eq!((view.escrow_minor, view.currency.as_str()), (50_000, "EUR"));
    assert_eq!(view.parties["technician"], "tom");
    assert_eq!((view.fields["fault"].as_str(), view.fields["fine"].as_i64()), (Some("one"), Some(5_000)));
    assert_eq!(view.due, Some(world.now.plus(Duration::from_secs(24 * 3600))));

    let ids = |filter: &AgreementFilter, limit| -> Vec<String> {
        views::agreements(&world.state, filter, limit).into_iter().map(|view| view.id).collect()
    };
    assert_eq!(ids(&AgreementFilter::default(), 9), ["mo-2", "mo-1"], "newest first");
    assert_eq!(ids(&AgreementFilter::default(), 1), ["mo-2"]);
    let of = |state: &str| AgreementFilter { state: Some(state.into()), ..AgreementFilter::default() };
    assert_eq!(ids(&of("accepted"), 9), ["mo-1"]);
    let about = AgreementFilter { device: Some("press-03".into()), ..AgreementFilter::default() };
    assert_eq!(ids(&about, 9), ["mo-2"]);

    let accounts = views::accounts(&world.state);
    let acme = accounts.iter().find(|account| account.id == "acme/EUR").unwrap();
    assert_eq!((acme.balance_minor, acme.held_minor), (900_000, 100_000));
    assert!(accounts.iter().any(|account| account.id == "issue:EUR" && account.balance_minor == -1_000_000));
    assert_eq!(views::totals(&world.state), BTreeMap::from([("EUR".to_owned(), 0)]));
}

#[test]
fn views_of_the_registry_name_the_entry() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let state = &world.state;
    let (tina, entry) = views::party(state, &party("tina")).unwrap();
    assert_eq!((tina.key.id(), entry), (common::key_id("tina"), 0));
    assert_eq!(views::parties(state).len(), 10);
    assert_eq!(views::founders(state), (vec![party("acme")], Some(party("bank"))));
    let press = DeviceId::try_new("press-01").unwrap();
    assert_eq!(views::device(state, &press).unwrap().0.agent, party("agent-01"));
    assert_eq!(views::devices(state).len(), 3);
    let known = common::rules().remove(0);
    let (rule, entry) = views::rule(state, &press, &known.digest()).unwrap();
    assert_eq!((rule.rule.id.as_str(), entry), ("bearing-worn", 0));
    assert!(views::is_rule_in_force(state, &known));
    let name = ContractName::try_new("maintenance-order").unwrap();
    assert_eq!(views::contract_text(state, &name, None).as_deref(), Some(tally_contracts::LIBRARY[0].1));
    assert_eq!(views::standing(state, &name, &press).unwrap().fields["price"].as_i64(), Some(50_000));

    let later = record_rule("press-01", "later");
    let args = BTreeMap::from([("rule".to_owned(), later.to_cbor())]);
    world.call(&kernel, "acme", &call_body("registry", "register-rule", None, args)).unwrap();
    assert_eq!(views::rule(&world.state, &press, &later.digest()).unwrap().1, 1);
    let args = BTreeMap::from([("party".to_owned(), text("tina"))]);
    world.call(&kernel, "fixit", &call_body("registry", "revoke-party", None, args)).unwrap();
    assert!(views::is_revoked(&world.state, &party("tina")) && !views::is_revoked(&world.state, &party("tom")));
}

fn record_rule(device: &str, id: &str) -> tally_evidence::RuleRecord {
    common::rule(device, id, None)
}

/// A contract whose term cannot be carried out: the amount overflows.
const STUCK: &str = "\
contract: stuck
version: 1
prefix: st
parties: {owner: organisation}
fields: {device: device, count: integer}
key: [device]
standing: {}
actions: {begin: {device: device}, calm: {}, stop: {}}
on:
  - {from: new, call: begin, by: owner, to: waiting, do: [{set: {count: 9223372036854775807}}]}
  - {from: waiting, term: 1min, to: over, do: [{set: {count: count + 1}}]}
  - {from: waiting, call: calm, by: owner, do: [{set: {count: 0}}]}
  - {from: waiting, call: stop, by: owner, to: over}
ends: [over]
";

fn stuck_world(kernel: &Kernel) -> World {
    let mut world = World::founded(kernel);
    deploy(&mut world, kernel, STUCK).unwrap();
    let device = ("device".to_owned(), text("press-01"));
    let currency = ("currency".to_owned(), text("EUR"));
    let terms = call_body("stuck", "standing", None, [device.clone(), currency].into());
    world.call(kernel, "acme", &terms).unwrap();
    world.call(kernel, "acme", &call_body("stuck", "begin", None, [device].into())).unwrap();
    world
}

#[test]
fn a_term_that_cannot_be_carried_out_is_put_off_on_record() {
    let kernel = Kernel::new();
    let mut world = stuck_world(&kernel);
    world.now = world.now.plus(Duration::from_secs(60));
    let done = world.run_terms(&kernel);
    let [Ok(events)] = done.as_slice() else { panic!("{done:?}") };
    assert_eq!(events[0].kind, "term.deferred");
    assert_eq!(events[0].data["refusal"], int(181));
    let view = views::agreement(&world.state, &id("st-1")).unwrap();
    assert_eq!((view.state.as_str(), view.due), ("waiting", Some(world.now.plus(Duration::from_secs(3600)))));
    // Once what hindered it is gone, the term runs.
    world.call(&kernel, "acme", &call_body("stuck", "calm", Some("st-1"), BTreeMap::new())).unwrap();
    world.now = world.now.plus(Duration::from_secs(3600));
    world.run_terms(&kernel);
    let view = views::agreement(&world.state, &id("st-1")).unwrap();
    assert_eq!((view.state.as_str(), view.due, view.terms.len()), ("over", None, 1));
}

#[test]
fn staying_keeps_the_term_and_ending_ends_it() {
    let kernel = Kernel::new();
    let mut world = stuck_world(&kernel);
    let due = kernel.next_due(&world.state);
    world.now = world.now.plus(Duration::from_secs(30));
    world.call(&kernel, "acme", &call_body("stuck", "calm", Some("st-1"), BTreeMap::new())).unwrap();
    assert_eq!(kernel.next_due(&world.state), due);
    world.call(&kernel, "acme", &call_body("stuck", "stop", Some("st-1"), BTreeMap::new())).unwrap();
    let (view, retires) = (views::agreement(&world.state, &id("st-1")).unwrap(), world.now.plus(RETIRE_AFTER_USUAL));
    assert_eq!((view.due, view.retires_at), (None, Some(retires)));
    assert_eq!(kernel.next_due(&world.state), Some(retires), "nothing else is to come");
}

/// The keys of the state that hold something of the agreement.
fn rows_of(world: &World, agreement: &str) -> usize {
    let (prefix, number) = agreement.split_once('-').unwrap();
    let name = [prefix.as_bytes(), &[0], &number.parse::<u64>().unwrap().to_be_bytes()].concat();
    world.state.keys().filter(|key| key.windows(name.len()).any(|window| window == name)).count()
}

#[test]
fn what_is_retired_leaves_nothing_and_its_outcome_says_what_it_was() {
    let kernel = Kernel::new();
    let mut world = stuck_world(&kernel);
    let call = |world: &mut World, action| {
        world.call(&kernel, "acme", &call_body("stuck", action, Some("st-1"), BTreeMap::new())).unwrap();
    };
    call(&mut world, "calm");
    call(&mut world, "stop");
    let before = views::agreement(&world.state, &id("st-1")).unwrap();
    assert!(rows_of(&world, "st-1") > 2 && !views::is_retired(&world.state, &id("st-1")));
    world.now = before.retires_at.unwrap();
    let done: Vec<_> = world.run_terms(&kernel).into_iter().map(Result::unwrap).collect();
    assert_eq!(rows_of(&world, "st-1"), 0, "the agreement, its steps and its term");
    assert_eq!(kernel.next_due(&world.state), None);
    assert!(views::is_retired(&world.state, &id("st-1")) && !views::is_retired(&world.state, &id("st-2")));
    let was = views::retired(&done.concat()).unwrap();
    assert_eq!(was, views::AgreementView { retired: true, ..before });
    // Nobody's number is given again.
    let device = ("device".to_owned(), text("press-01"));
    world.call(&kernel, "acme", &call_body("stuck", "begin", None, [device].into())).unwrap();
    assert!(views::agreement(&world.state, &id("st-2")).is_some());
}

/// Ledgers that were founded before there was retiring say nothing of it, and execute to the bytes they always did.
#[test]
fn a_ledger_that_was_not_founded_so_keeps_everything() {
    let kernel = Kernel::new();
    let mut genesis = common::genesis();
    assert_eq!(genesis.retire_after, Some(RETIRE_AFTER_USUAL), "unless the genesis file says otherwise");
    genesis.keys = KeyScheme::Scattered;
    let with = World::founded_as(&kernel, &genesis);
    genesis.retire_after = None;
    let mut world = World::founded_as(&kernel, &genesis);
    assert!(!genesis_body(&genesis).args.contains_key("retire-after"));
    // The record of the genesis: two items, as ever; with the setting a third one.
    assert_eq!((world.state[&b"g"[..]][0], with.state[&b"g"[..]][0]), (0x82, 0x83));
    report(&mut world, &kernel, "press-01", "one");
    world.call(&kernel, "olga", &call_body("maintenance-order", "cancel", Some("mo-1"), BTreeMap::new())).unwrap();
    let view = views::agreement(&world.state, &id("mo-1")).unwrap();
    assert_eq!((view.ended, view.due, view.retires_at), (true, None, None));
    assert_eq!(kernel.next_due(&world.state), None);
    let files = ["never", "30d", "0s", "soon"]
        .map(|after| Genesis::from_yaml(&format!("{}retire_after: {after}\n", common::GENESIS), &common::read_pem));
    let [never, month, zero, soon] = files;
    assert_eq!(
        (never.unwrap().retire_after, month.unwrap().retire_after.map(|after| after.as_secs())),
        (None, Some(2_592_000))
    );
    for (faults, found) in [(zero.unwrap_err(), "0s"), (soon.unwrap_err(), "soon")] {
        assert_eq!((faults.len(), faults[0].key.as_str()), (1, "retire_after"), "{found}");
        assert!(faults[0].hint.contains("never"), "{}", faults[0]);
    }
}

/// How keys are hashed is a word of the genesis, in one form; ledgers that were founded before it have the first scheme.
#[test]
fn the_genesis_says_how_the_state_is_hashed() {
    let kernel = Kernel::new();
    let mut genesis = common::genesis();
    assert_eq!(genesis.keys, KeyScheme::Grouped, "of every genesis file");
    for (retire_after, keys, first, said) in [
        (None, KeyScheme::Scattered, 0x82, false),
        (Some(RETIRE_AFTER_USUAL), KeyScheme::Scattered, 0x83, false),
        (None, KeyScheme::Grouped, 0x84, true),
        (Some(RETIRE_AFTER_USUAL), KeyScheme::Grouped, 0x84, true),
    ] {
        (genesis.retire_after, genesis.keys) = (retire_after, keys);
        assert_eq!(genesis_body(&genesis).args.contains_key("state-keys"), said);
        let mut world = World::founded_as(&kernel, &genesis);
        assert_eq!((world.state[&b"g"[..]][0], views::key_scheme(&world.state)), (first, Some(keys)));
        assert_eq!(views::founders(&world.state).0, genesis.admins);
        // Behind it the retirements are as said.
        report(&mut world, &kernel, "press-01", "one");
        world.call(&kernel, "olga", &call_body("maintenance-order", "cancel", Some("mo-1"), BTreeMap::new())).unwrap();
        assert_eq!(kernel.next_due(&world.state).is_some(), retire_after.is_some());
    }
    assert_eq!(views::key_scheme(&World::empty().state), Some(KeyScheme::Scattered));
    assert_eq!(views::key_scheme(&BTreeMap::from([(b"g".to_vec(), vec![0x85])])), None);
    for wrong in [int(0), int(1), int(3), text("2")] {
        let mut body = genesis_body(&common::genesis());
        body.args.insert("state-keys".to_owned(), wrong);
        let refused = World::empty().call_as(&kernel, common::LEDGER, KeyId([0; 32]), &body).unwrap_err();
        assert!(refused.to_string().contains("state-keys"), "{refused}");
    }
}

#[test]
fn a_running_agreement_keeps_its_version() {
    let kernel = Kernel::new();
    let mut world = stuck_world(&kernel);
    let newer =
        STUCK.replace("version: 1", "version: 2").replace("stop: {}", "halt: {}").replace("call: stop", "call: halt");
    deploy(&mut world, &kernel, &newer).unwrap();
    let refused = world.call(&kernel, "acme", &call_body("stuck", "halt", Some("st-1"), BTreeMap::new()));
    assert_eq!(refused.unwrap_err().number(), 136);
    world.call(&kernel, "acme", &call_body("stuck", "stop", Some("st-1"), BTreeMap::new())).unwrap();
    let device = BTreeMap::from([("device".to_owned(), text("press-01"))]);
    world.call(&kernel, "acme", &call_body("stuck", "begin", None, device)).unwrap();
    assert_eq!(views::agreement(&world.state, &id("st-2")).unwrap().version, 2);
    world.call(&kernel, "acme", &call_body("stuck", "halt", Some("st-2"), BTreeMap::new())).unwrap();
}

#[test]
fn terms_of_an_earlier_version_hold_while_they_say_enough() {
    let kernel = Kernel::new();
    let mut world = stuck_world(&kernel);
    world.call(&kernel, "acme", &call_body("stuck", "stop", Some("st-1"), BTreeMap::new())).unwrap();
    let asks_more = STUCK.replace("version: 1", "version: 2").replace("standing: {}", "standing: {required: [count]}");
    deploy(&mut world, &kernel, &asks_more).unwrap();
    let device = BTreeMap::from([("device".to_owned(), text("press-01"))]);
    let refused = world.call(&kernel, "acme", &call_body("stuck", "begin", None, device));
    assert_eq!(refused.unwrap_err().number(), 174);
}

#[test]
fn an_input_that_breaks_off_leaves_no_trace_in_the_overlay() {
    let kernel = Kernel::new();
    let world = World::founded(&kernel);
    let mut overlay = Overlay::new(&world.state);
    let poor = |amount: i64| {
        let args = [("to", text("fixit")), ("currency", text("EUR")), ("amount", int(amount))];
        call_body("accounts", "transfer", None, args.map(|(name, value)| (name.to_owned(), value)).into())
    };
    let (signer, key) = (party("acme"), common::key_id("acme"));
    let run = |overlay: &mut Overlay<'_>, amount| {
        let body = poor(amount);
        kernel.execute(overlay, &world.block(), &Input::Call { entry: 1, signer: &signer, key, body: &body })
    };
    run(&mut overlay, 7).unwrap();
    let after = overlay.changes();
    assert_eq!(run(&mut overlay, 1_000_000).unwrap_err().number(), 183);
    assert_eq!(overlay.changes(), after);
    run(&mut overlay, 5).unwrap();
    assert_ne!(overlay.changes(), after);
}

#[test]
fn an_overlay_reads_as_if_it_were_written() {
    let base: common::State = (0..20u8).map(|byte| (vec![b'k', byte], vec![byte])).collect();
    let mut overlay = Overlay::new(&base);
    let mut plain = base.clone();
    for byte in [3u8, 4, 0, 19] {
        overlay.delete(vec![b'k', byte]);
        plain.remove(&vec![b'k', byte]);
    }
    for byte in [4u8, 30, 7] {
        overlay.put(vec![b'k', byte], vec![99]);
        plain.insert(vec![b'k', byte], vec![99]);
    }
    for limit in 0..25 {
        assert_eq!(overlay.scan(b"k", limit), plain.scan(b"k", limit), "limit {limit}");
    }
    assert_eq!(overlay.get(b"k\x03"), None);
    overlay.savepoint();
    overlay.put(vec![b'k', 7], vec![1]);
    overlay.put(vec![b'k', 7], vec![2]);
    overlay.delete(vec![b'k', 8]);
    overlay.roll_back();
    assert_eq!(overlay.scan(b"", 99), plain.scan(b"", 99));
}

#[test]
fn the_log_alone_rebuilds_the_state() {
    let (kernel, body) = (Kernel::new(), genesis_body(&common::genesis()));
    let mut twice = Vec::new();
    for _ in 0..2 {
        let mut world = World::empty();
        let decoded = tally_evidence::CallBody::decode(&body.encode()).unwrap();
        world.call_as(&kernel, common::LEDGER, tally_evidence::KeyId([0; 32]), &decoded).unwrap();
        report(&mut world, &kernel, "press-01", "one");
        twice.push(world.state);
    }
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn every_mistake_of_a_genesis_file_at_once() {
    let cases = [
        (
            "agent: agent-01, owner: acme}\n  - {id: press-02",
            "agent: tina, owner: acme}\n  - {id: press-02",
            "16:27: devices[0].agent: `tina` is of kind person",
        ),
        ("key: acme.pem", "key: acme.txt", "parties[0].key: acme.txt: no such file"),
        ("kind: regulator", "kind: judge", "`judge` is no kind of party"),
        ("id: tom, kind", "id: tina, kind", "party `tina` is written twice"),
        ("firm: fixit, skills: [paint]", "firm: nobody, skills: [paint]", "`ted` works for `nobody`"),
        ("currency: EUR, amount", "currency: EURO, amount", "`EURO` is no currency"),
        ("amount: \"10000.00\"", "amount: 10000.00", "`10000.0` is no amount of EUR"),
        ("amount: \"10000.00\"", "amount: ten", "`ten` is no amount of EUR"),
        ("[maintenance-order]", "[upkeep]", "contracts[0]: `upkeep`: no such file; the library has: maintenance-order"),
        (
            "maintainer: fixit, arbiter",
            "mantainer: fixit, arbiter",
            "standing[0].mantainer: is unknown; allowed here: contract, currency, arbiter",
        ),
        ("maintainer: fixit, arbiter", "mantainer: fixit, arbiter", "standing[0].maintainer: is missing"),
        ("respond: 30s", "respond: soon", "standing[1].respond: is `soon`"),
        ("issuer: bank", "issuer: blank", "`blank` is no party"),
        ("issuer: bank", "isuer: bank", "isuer: is unknown; allowed here: parties"),
        // Only the kernel sees these: the text is right, the deed is not.
        ("penalty: 30000", "penalty: 60000", "penalty <= price"),
        ("device: press-03, maintainer", "device: press-04, maintainer", "refusal 131"),
    ];
    for (from, to, expected) in cases {
        assert!(GENESIS.contains(from), "{from}");
        let faults = Genesis::from_yaml(&GENESIS.replace(from, to), &read_pem).unwrap_err();
        let found = faults.iter().map(|fault| format!("{fault}\n")).collect::<String>();
        assert!(found.contains(expected), "`{from}` → `{to}`: expected `{expected}`, found:\n{found}");
    }
    let both = GENESIS.replace("key: acme.pem", "key: acme.txt").replace("issuer: bank", "issuer: blank");
    assert_eq!(Genesis::from_yaml(&both, &read_pem).unwrap_err().len(), 2);
    let inline = common::key("acme").public().to_pem().unwrap().replace('\n', "\n      ");
    let inline = format!("parties:\n  - id: acme\n    kind: organisation\n    key: |\n      {inline}\n");
    assert_eq!(Genesis::from_yaml(&inline, &read_pem).unwrap().parties[0].key.id(), common::key_id("acme"));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(100))]

    #[test]
    fn damaged_genesis_files_never_panic(start in 0usize..2000, length in 1usize..60, text in "\\PC{0,20}") {
        let whole: Vec<char> = GENESIS.chars().collect();
        let start = start.min(whole.len());
        let end = (start + length).min(whole.len());
        let damaged: String = whole[..start].iter().copied().chain(text.chars()).chain(whole[end..].iter().copied()).collect();
        let _ = Genesis::from_yaml(&damaged, &read_pem);
    }
}

#[test]
fn anchors_are_found_by_time_with_the_one_before() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let device = DeviceId::try_new("press-01").unwrap();
    let at = |second: u64| Timestamp::from_micros(common::START).plus(Duration::from_secs(second));
    let found = |world: &World, from, to| -> Vec<u64> {
        views::anchors(&world.state, &device, (at(from), at(to)), 99).unwrap().iter().map(|view| view.entry).collect()
    };
    assert_eq!(found(&world, 0, 9), [0; 0]);
    let mut before: Option<AnchorBody> = None;
    for number in 1..=6_u64 {
        let body = AnchorBody {
            device: device.clone(),
            number,
            previous: before.as_ref().map_or([0; 32], AnchorBody::digest),
            first: number * 10 - 10,
            last: number * 10 - 1,
            root: [1; 32],
            head: [2; 32],
            received: (at(number * 10 - 10), at(number * 10 - 1)),
            source: (at(0), at(0)),
            pause: 0,
            gaps: Vec::new(),
        };
        let signer = party("agent-01");
        let key = common::key_id("agent-01");
        world.execute(&kernel, &Input::Anchor { entry: 100 + number, signer: &signer, key, body: &body }).unwrap();
        before = Some(body);
    }
    assert_eq!(found(&world, 0, 9), [101, 102], "one that reaches behind the end");
    assert_eq!(found(&world, 15, 35), [101, 102, 103, 104], "and the one before the beginning");
    assert_eq!(found(&world, 19, 19), [101, 102, 103]);
    assert_eq!(found(&world, 58, 900), [105, 106]);
    assert_eq!(found(&world, 800, 900), [106]);
    assert_eq!(views::anchors(&world.state, &device, (at(0), at(99)), 5), None, "more than asked for");
    let other = DeviceId::try_new("press-02").unwrap();
    assert_eq!(views::anchors(&world.state, &other, (at(0), at(99)), 5), Some(Vec::new()));
}

#[test]
fn a_trigger_asks_for_no_more_than_its_rule() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let at = Timestamp::from_micros(common::START);
    let mut cleared = trigger_body("press-01", "bearing-worn", 0, 1, at, BTreeMap::new());
    cleared.transition = tally_evidence::Transition::Cleared;
    assert_eq!(world.trigger(&kernel, "agent-01", &cleared).unwrap_err().number(), 134, "cleared triggers ask nothing");
    let mut silent = trigger_body("press-01", "bearing-worn", 0, 1, at, BTreeMap::new());
    silent.call = None;
    assert_eq!(world.trigger(&kernel, "agent-01", &silent).unwrap()[0].kind, "trigger.noted");
}

#[test]
fn the_page_of_refusals_is_current() {
    let mut page = String::from(
        "# Refusals\n\nThe numbers a contract can answer with; they stand in the outcome of an entry, and 0 means done. Numbers never\n\
         change their meaning. They are checked in rising order: what was already done first, a broken ledger last, because\n\
         a retry must never do anything twice. A refused input changes nothing but the log.\n\n\
         Of 191 and 192 the fault is not the caller's: the node should stop and rebuild its state from the log.\n\n\
         | number | name | meaning |\n|---|---|---|\n",
    );
    for number in Refusal::ALL {
        page += &format!("| {number} | {} | {} |\n", Refusal::name(*number), Refusal::describe(*number));
    }
    page += "\nThis page is written by `TALLY_UPDATE=1 cargo test -p tally-contracts --test kernel`, and a test fails when it is stale.\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/refusals.md");
    if std::env::var_os("TALLY_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page, "stale; run with TALLY_UPDATE=1");
}

/// Everything the registry keeps is CBOR that others can read.
#[test]
fn events_carry_what_a_reader_needs() {
    let kernel = Kernel::new();
    let mut world = World::founded(&kernel);
    let events = report(&mut world, &kernel, "press-01", "one");
    let kinds: Vec<_> = events.iter().map(|event| (event.kind.as_str(), event.subject.as_str())).collect();
    assert_eq!(kinds, [("agreement.opened", "mo-1"), ("escrow.held", "mo-1"), ("agreement.dispatched", "mo-1")]);
    assert_eq!(events[0].data["state"], text("reported"));
    assert_eq!(events[0].data["device"], text("press-01"));
    assert_eq!((&events[1].data["from"], &events[1].data["amount"]), (&text("acme"), &int(50_000)));
    assert_eq!(events[2].data["technician"], text("tina"));
    assert!(matches!(events[0].data["line"], Cbor::Integer(_)));
}
