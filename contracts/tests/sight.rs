//! Who may see a key: who says so, what a rule means for whom, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, key, party, record};
use std::collections::BTreeMap;
use tally_contracts::sight::{self, Reader, Subject};
use tally_contracts::{Kernel, resolve, state_key};
use tally_evidence::cbor::{Cbor, bytes, map, text};
use tally_evidence::{DeviceRecord, Event, PartyKind, SignedStatement, StatementKind, possession, sign};
use tally_model::DeviceId;

struct Plant {
    kernel: Kernel,
    world: World,
}

type Args<'a> = &'a [(&'a str, Cbor)];

impl Plant {
    fn new() -> Self {
        let kernel = Kernel::new();
        let world = World::founded(&kernel);
        Self { kernel, world }
    }

    fn call_with(&mut self, signer: &str, key: &str, action: &str, args: Args<'_>) -> Result<Vec<Event>, u16> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let body = call_body("registry", action, None, args);
        let done = self.world.call_as(&self.kernel, signer, common::key_id(key), &body);
        done.map_err(|refusal| refusal.number())
    }

    fn call(&mut self, signer: &str, action: &str, args: Args<'_>) -> Result<Vec<Event>, u16> {
        self.call_with(signer, signer, action, args)
    }

    fn show(&mut self, signer: &str, (of, id): (&str, &str), to: Cbor) -> Result<Vec<Event>, u16> {
        self.call(signer, "set-visibility", &[("of", text(of)), ("id", text(id)), ("to", to)])
    }

    fn sees(&self, reader: &Reader, of: (&str, &str)) -> bool {
        let subject = match of.0 {
            "party" => Subject::Party(party(of.1)),
            _ => Subject::Device(DeviceId::try_new(of.1).unwrap()),
        };
        sight::of(&self.world.state, reader, &subject).is_ok()
    }

    fn at(&self, kind: u8, name: &str, size: u64) -> (bool, Option<u64>) {
        let view = resolve::visibility(&self.world.state, (kind, name), size);
        (view.everyone, view.entry)
    }
}

fn only(parties: &[&str], roles: &[&str]) -> Cbor {
    let list = |items: &[&str]| Cbor::Array(items.iter().copied().map(text).collect());
    map([("parties", list(parties)), ("roles", list(roles))])
}

fn known(name: &str, role: &'static str) -> Reader {
    Reader { party: Some(party(name)), role: Some(role) }
}

fn press(agent: &str, owner: &str) -> Cbor {
    let (agent, owner) = (party(agent), party(owner));
    DeviceRecord { id: "press-01".parse().unwrap(), agent, owner, site: Some("yard".parse().unwrap()) }.to_cbor()
}

#[test]
fn who_decides_about_whom() {
    let mut plant = Plant::new();
    for (signer, of, done) in [
        ("acme", ("party", "acme"), Ok(())),
        ("bank", ("party", "acme"), Err(151)),
        ("judge", ("party", "judge"), Ok(())),
        ("tina", ("party", "tina"), Ok(())),
        ("fixit", ("party", "tom"), Ok(())),
        // The genesis' admin registers and revokes; what others show is not his.
        ("acme", ("party", "ted"), Err(151)),
        ("tom", ("party", "tina"), Err(151)),
        ("acme", ("party", "agent-01"), Ok(())),
        ("agent-02", ("party", "agent-02"), Err(151)),
        ("acme", ("device", "press-01"), Ok(())),
        ("agent-01", ("device", "press-02"), Err(151)),
        ("fixit", ("device", "press-02"), Err(151)),
        ("acme", ("party", "nobody"), Err(138)),
        ("acme", ("device", "press-99"), Err(131)),
    ] {
        let found = plant.show(signer, of, only(&["bank"], &[])).map(|_| ());
        assert_eq!(found, done, "{signer} about {of:?}");
    }
    assert_eq!(plant.show("acme", ("party", "acme"), only(&["nobody"], &[])), Err(138), "no such reader");
    assert_eq!(plant.show("acme", ("party", "acme"), only(&[], &["operator"])), Err(142), "he sees everything");
    assert_eq!(plant.show("acme", ("party", "acme"), only(&["bank"], &[])), Err(161), "as it is");
    assert_eq!(plant.show("fixit", ("party", "fixit"), text("everyone")), Err(161), "as it is");
    let many: Vec<Cbor> = (0..65).map(|number| text(format!("p-{number}"))).collect();
    for number in 0..65 {
        let record = record(&format!("p-{number}"), PartyKind::Organisation, None, &[]);
        plant.call("acme", "register-party", &[("party", record.to_cbor())]).unwrap();
    }
    assert_eq!(
        plant.show(
            "acme",
            ("party", "acme"),
            map([("parties", Cbor::Array(many)), ("roles", Cbor::Array(Vec::new()))])
        ),
        Err(156)
    );
    plant.world.check();
}

#[test]
fn a_rule_means_what_it_says_and_is_told_at_a_height() {
    let mut plant = Plant::new();
    let of = ("party", "tina");
    assert!(!sight::hides_anything(&plant.world.state));
    let (anna, auditor) = (known("olga", "auditor"), Reader { party: None, role: Some("auditor") });
    assert!(plant.sees(&Reader::default(), of), "as ever, when nobody says anything");
    let first = plant.world.entry;
    let events = plant.show("fixit", of, only(&["olga"], &[])).unwrap();
    assert_eq!((events[0].kind.as_str(), &events[0].data["by"]), ("registry.visibility-set", &text("fixit")));
    assert!(plant.sees(&anna, of) && !plant.sees(&auditor, of) && !plant.sees(&Reader::default(), of));
    for always in [known("tina", "agent"), known("fixit", "regulator"), Reader::operator()] {
        assert!(plant.sees(&always, of), "{always:?}");
    }
    assert!(!plant.sees(&known("tom", "auditor"), of), "a colleague");
    assert_eq!(sight::everything(&plant.world.state, &auditor).unwrap_err().entry, first);
    assert_eq!(sight::everything(&plant.world.state, &anna), Ok(()));
    let second = plant.world.entry;
    plant.show("tina", of, only(&[], &["auditor"])).unwrap();
    assert!(plant.sees(&auditor, of) && !plant.sees(&known("olga", "regulator"), of), "each call is the whole rule");
    let third = plant.world.entry;
    plant.show("tina", of, text("everyone")).unwrap();
    assert!(plant.sees(&Reader::default(), of) && !sight::hides_anything(&plant.world.state));
    let told: Vec<_> =
        [0, first, first + 1, second + 1, third + 1, u64::MAX].map(|size| plant.at(b'p', "tina", size)).into();
    assert_eq!(
        told,
        [
            (true, None),
            (true, None),
            (false, Some(first)),
            (false, Some(second)),
            (true, Some(third)),
            (true, Some(third))
        ]
    );
    assert!(plant.world.state.contains_key(&state_key("visibility:party/tina").unwrap()));
}

#[test]
fn rotation_revocation_and_recovery_keep_it_and_a_revoked_reader_sees_nothing() {
    let mut plant = Plant::new();
    let of = ("party", "fixit");
    plant.show("fixit", of, only(&["olga"], &[])).unwrap();
    let olga = known("olga", "auditor");
    let anna = known("judge", "auditor");
    let new_key = |name: &str| {
        let new = key(name);
        let proof = new.sign(&possession(common::LEDGER, &party("fixit"), new.public()));
        [("party", text("fixit")), ("key", bytes(new.public().sec1().to_vec())), ("proof", bytes(proof))]
    };
    plant.call("fixit", "rotate-key", &new_key("fixit-b")).unwrap();
    assert!(plant.sees(&olga, of) && !plant.sees(&anna, of), "another key, the same rule");
    // The key of before says nothing any more.
    assert!(plant.show("fixit", of, text("everyone")).is_err());
    let quorum = [("admins", Cbor::Array(vec![text("tom")])), ("needed", tally_evidence::cbor::int(1))];
    plant.call_with("fixit", "fixit-b", "set-recovery", &quorum).unwrap();
    plant.call("tom", "approve-recovery", &new_key("fixit-c")).unwrap();
    assert!(plant.sees(&olga, of) && !plant.sees(&anna, of), "recovered, the same rule");
    // What it sealed and its versions show its keys, too.
    let past = state_key("past:party/fixit/1").unwrap();
    assert!(sight::state_key(&plant.world.state, &anna, &past).is_err());
    assert!(sight::state_key(&plant.world.state, &olga, &past).is_ok());
    assert!(sight::state_key(&plant.world.state, &anna, &state_key("revoked:fixit").unwrap()).is_ok());
    plant.call("acme", "revoke-party", &[("party", text("fixit"))]).unwrap();
    assert!(plant.sees(&olga, of) && !plant.sees(&anna, of) && !plant.sees(&known("fixit", "auditor"), of));
    plant.call("acme", "revoke-party", &[("party", text("olga"))]).unwrap();
    assert!(!plant.sees(&olga, of), "nobody any more");
}

#[test]
fn a_device_is_its_owners_who_may_change_and_so_is_the_key_under_its_name() {
    let mut plant = Plant::new();
    let (device, own_key) = (("device", "press-01"), ("party", "press-01"));
    let sealing = record("press-01", PartyKind::Device, Some("acme"), &[]);
    plant.call("acme", "register-party", &[("party", sealing.to_cbor())]).unwrap();
    plant.show("acme", device, only(&["judge"], &[])).unwrap();
    let (judge, tom) = (known("judge", "regulator"), known("tom", "auditor"));
    for of in [device, own_key] {
        assert!(plant.sees(&judge, of) && !plant.sees(&tom, of) && plant.sees(&known("acme", "auditor"), of), "{of:?}");
    }
    // Its agent reads it, and says nothing about who else does.
    assert!(!plant.sees(&known("agent-01", "agent"), device));
    let agent = record("agent-f", PartyKind::Agent, Some("fixit"), &[]);
    plant.call("fixit", "register-party", &[("party", agent.to_cbor())]).unwrap();
    plant.call("acme", "offer-transfer", &[("device", text("press-01")), ("to", text("fixit"))]).unwrap();
    plant.call("fixit", "accept-transfer", &[("device", press("agent-f", "fixit"))]).unwrap();
    // What was hidden stays hidden until the new owner, who sees it now and alone decides, says otherwise.
    assert!(plant.sees(&known("fixit", "auditor"), device) && !plant.sees(&known("acme", "auditor"), device));
    assert!(plant.sees(&judge, device) && !plant.sees(&tom, device));
    assert_eq!(plant.show("acme", device, text("everyone")), Err(151));
    plant.show("fixit", device, text("everyone")).unwrap();
    assert!(plant.sees(&tom, device) && plant.sees(&tom, own_key));
    plant.world.check();
}

fn sealed(signer: &str, contract: &str, action: &str, args: Args<'_>) -> SignedStatement {
    let args: BTreeMap<_, _> = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let body = call_body(contract, action, None, args).encode();
    let statement = sign(StatementKind::Call, &key(signer), &party(signer), contract, common::LEDGER, 0, body);
    SignedStatement::parse(&statement).unwrap()
}

#[test]
fn a_statement_is_hidden_with_its_signer_and_with_whom_it_registers() {
    let mut plant = Plant::new();
    let tom = known("tom", "auditor");
    plant.show("fixit", ("party", "tina"), only(&["judge"], &[])).unwrap();
    plant.show("acme", ("device", "press-01"), only(&["judge"], &[])).unwrap();
    let tina = || record("tina", PartyKind::Person, Some("fixit"), &[]).to_cbor();
    let ted = || record("ted", PartyKind::Person, Some("fixit"), &[]).to_cbor();
    let nameless = map([("key", bytes(key("tina").public().sec1().to_vec()))]);
    for (statement, is_shown) in [
        (sealed("tina", "maintenance-order", "accept", &[]), false),
        (sealed("ted", "maintenance-order", "accept", &[]), true),
        (sealed("fixit", "registry", "register-party", &[("party", tina())]), false),
        (sealed("fixit", "registry", "register-party", &[("party", ted())]), true),
        (sealed("fixit", "registry", "rotate-key", &[("party", text("tina"))]), false),
        (sealed("fixit", "registry", "register-many", &[("parties", Cbor::Array(vec![ted(), tina()]))]), false),
        (sealed("fixit", "registry", "register-many", &[("parties", Cbor::Array(vec![ted()]))]), true),
        (sealed("acme", "registry", "bind-device", &[("device", press("agent-01", "acme"))]), false),
        (
            sealed("acme", "registry", "register-many", &[("devices", Cbor::Array(vec![press("agent-01", "acme")]))]),
            false,
        ),
        (sealed("acme", "registry", "deploy-contract", &[("text", text("contract: x"))]), true),
        // Nobody can tell whose it is.
        (sealed("fixit", "registry", "register-party", &[("party", nameless.clone())]), false),
        (sealed("fixit", "registry", "register-many", &[("parties", nameless)]), false),
        // Another contract's `party` is a name and no record.
        (sealed("fixit", "access", "bar", &[("party", text("tina"))]), true),
    ] {
        let found = sight::statement(&plant.world.state, &tom, &statement);
        assert_eq!(found.is_ok(), is_shown, "{statement:?}");
        assert_eq!(sight::statement(&plant.world.state, &known("judge", "auditor"), &statement), Ok(()));
        assert_eq!(sight::statement(&plant.world.state, &Reader::operator(), &statement), Ok(()));
    }
}

proptest::proptest! {
    #[test]
    fn any_state_key_and_any_rule_in_the_state_is_read(
        name in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        value in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        kind in proptest::sample::select(b"PdfHELpx".to_vec()),
    ) {
        let hidden = [vec![b'L'], name.clone()].concat();
        let rule = [vec![b'E'], name.clone()].concat();
        let state = BTreeMap::from([(hidden, b"\x01".to_vec()), (rule, value)]);
        let reader = known("tom", "auditor");
        let _ = sight::state_key(&state, &reader, &[vec![kind], name].concat());
        let _ = sight::everything(&state, &reader);
        proptest::prop_assert!(sight::everything(&state, &Reader::operator()).is_ok());
    }
}
