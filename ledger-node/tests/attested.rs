//! The evidence of an order that several had to report: both verifiers count again from the triggers and the contract's text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{config, plant};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tally_contracts::LIBRARY;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{
    CallBody, ChainHead, Disclosure, EvidenceFile, ReadingsClaim, RuleRecord, Salt, SignedStatement, StatementKind,
    Transition, TriggerBody, TriggerCall, encode_reading, reading_leaf, root_of, sign,
};
use tally_ledger_client::Client;
use tally_ledger_node::testing::{Plant, key_of};
use tally_ledger_node::{Engine, Listen, Node};
use tally_model::{
    CallTemplate, DeviceId, PointId, Priority, Quality, Reading, RuleSource, Sample, Timestamp, Unit, Value, ValueKind,
};
use tally_rules::{Rule, Watch};
use tally_verifier::Step;
use tokio_util::sync::CancellationToken;

const AT: i64 = 1_760_000_000_000_000;
const SALT: Salt = [3; 16];
const FLIPS: usize = 60;

/// The library's contract, which now wants the word of two agents.
fn contract() -> String {
    let attest = "\nversion: 2\nattest:\n  report: {k: 2, of: sensors, within: 30s, tolerance: {peak: 0.5}}\n";
    let whole = LIBRARY[0].1.replacen("\nversion: 1\n", attest, 1);
    let whole = whole.replacen("\n  device: device\n", "\n  device: device\n  sensors: list\n", 1);
    let whole = whole.replacen("required: [maintainer,", "required: [sensors, maintainer,", 1);
    whole.replacen("fault: text, skill: \"text?\"}", "fault: text, skill: \"text?\", peak: number}", 1)
}

fn rule(device: &str) -> RuleRecord {
    let with = [("fault", "'bearing'"), ("peak", "vibration")].map(|(name, term)| (name.to_owned(), term.to_owned()));
    RuleRecord::new(RuleSource {
        id: "worn".parse().unwrap(),
        device: device.parse().unwrap(),
        when: "vibration > 7.1".to_owned(),
        on_delay: Duration::ZERO,
        until: None,
        priority: Priority::High,
        disclose: Vec::new(),
        call: Some(CallTemplate {
            contract: "maintenance-order".parse().unwrap(),
            action: "report".parse().unwrap(),
            with: with.into(),
        }),
        checks: None,
        points: [(PointId::try_new("vibration").unwrap(), (Some(ValueKind::Float), Unit::try_new("mm/s").unwrap()))]
            .into(),
    })
}

/// A sealed trigger of `agent` about its device, whose vibration rose to `peak`, and the readings behind it.
fn trigger(plant: &Plant, agent: &str, device: &str, at: i64, peak: f64) -> (Vec<u8>, Vec<u8>) {
    let (rule, point) = (rule(device), PointId::try_new("vibration").unwrap());
    let id: DeviceId = device.parse().unwrap();
    let reading = |number: u64, value: f64| {
        let received = Timestamp::from_micros(at + i64::try_from(number).unwrap() * 200_000);
        let sample = Sample {
            seal: None,
            point: point.clone(),
            outcome: Ok(Value::Float(value)),
            unit: Unit::try_new("mm/s").unwrap(),
            quality: Quality::Good,
            source_time: received,
            received,
        };
        Reading { device: id.clone(), number, sample }
    };
    let readings = [reading(0, 2.0), reading(1, 2.5), reading(2, peak)];
    let mut watch = Watch::new(Arc::new(Rule::compile(&rule.rule).unwrap()));
    let firing = readings.iter().find_map(|reading| watch.observe(reading)).unwrap();
    let bytes: Vec<_> = (0..).zip(&readings).map(|(number, reading)| encode_reading(reading, number)).collect();
    let leaves: Vec<_> = bytes.iter().map(|bytes| reading_leaf(&SALT, bytes)).collect();
    let (first, last) = (usize::try_from(firing.first).unwrap(), usize::try_from(firing.last).unwrap());
    let call = rule.rule.call.clone().unwrap();
    let body = TriggerBody {
        trigger: rule.rule.id.clone(),
        device: id.clone(),
        rule: rule.digest(),
        transition: Transition::Raised,
        priority: Priority::High,
        at: firing.at,
        readings: ReadingsClaim {
            first: firing.first,
            last: firing.last,
            root: root_of(&leaves[first..=last]),
            head: leaves[..=last].iter().fold(ChainHead::start(&id), ChainHead::extend).0,
            points: BTreeMap::from([(point, firing.last)]),
        },
        number: 0,
        call: Some(TriggerCall { contract: call.contract, action: call.action, with: firing.with }),
        clock: None,
        grade: Default::default(),
        mapping: None,
        origins: Vec::new(),
        quality: None,
    };
    let open = |number: u64| Some((SALT, bytes[usize::try_from(number).unwrap()].clone()));
    let disclosure = Disclosure::build(id, firing.first, &leaves[first..=last], &open).encode();
    let (key, party) = (key_of(agent).unwrap(), agent.parse().unwrap());
    let seconds = firing.at.as_seconds();
    (sign(StatementKind::Trigger, &key, &party, device, &plant.ledger, seconds, body.encode()), disclosure)
}

/// The owner's terms for device 0: the sensors of the others speak about it too.
fn standing(plant: &Plant) -> Vec<u8> {
    let terms = [
        ("device", text("press-000")),
        ("currency", text("EUR")),
        ("maintainer", text("fixit")),
        ("price", int(50_000)),
        ("penalty", int(5_000)),
        ("skill", text("bearing")),
        ("sensors", Cbor::Array(vec![text("press-001"), text("press-003")])),
    ];
    let body = CallBody {
        contract: "maintenance-order".parse().unwrap(),
        action: "standing".parse().unwrap(),
        agreement: None,
        args: terms.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        nonce: [7; 16],
        at: Timestamp::from_micros(AT),
    };
    let (key, acme) = (key_of("acme").unwrap(), "acme".parse().unwrap());
    sign(StatementKind::Call, &key, &acme, "maintenance-order", &plant.ledger, 0, body.encode())
}

/// What the verifier that has nothing of ours says of the file and of copies with one wrong bit each.
fn theirs(file: &[u8], flips: &[(usize, u8)]) -> Vec<Json> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("attested.tally");
    fs::write(&path, file).unwrap();
    let flips: Vec<_> = flips.iter().map(|(at, mask)| format!("{at}:{mask}")).collect();
    let mut command = Command::new(python);
    command.arg(root.join("tests/interop/verify.py")).arg(&path).args(["--flips", &flips.join(",")]);
    let said = command.output().unwrap();
    serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&said.stderr)))
}

/// About and step of the first link that does not hold.
fn broken(said: &Json) -> Option<(String, Json)> {
    let link = said["links"].as_array().unwrap().iter().find(|link| link["holds"] == false)?;
    Some((link["about"].as_str().unwrap().to_owned(), link["step"].clone()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_verifiers_count_again_and_neither_takes_a_flipped_bit() {
    let (dir, plant) = (tempfile::tempdir().unwrap(), plant());
    let engine = Engine::open(config(&plant, dir.path())).unwrap();
    let submit = async |statement: Vec<u8>| assert_eq!(engine.submit(statement).await.unwrap().refusal, 0);
    submit(plant.registry("admin", "deploy-contract", ("text", text(contract()))).unwrap()).await;
    for device in ["press-000", "press-001"] {
        submit(plant.registry("acme", "register-rule", ("rule", rule(device).to_cbor())).unwrap()).await;
    }
    submit(standing(&plant)).await;
    let (first, shown_first) = trigger(&plant, "agent-01", "press-001", AT, 9.0);
    let (second, shown_second) = trigger(&plant, "agent-00", "press-000", AT + 7_000_000, 9.4);
    submit(first.clone()).await;
    submit(second.clone()).await;

    let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
    let client = Client::new(node.places()[0].to_string().parse().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(node.serve(stop.clone()));
    let file = client.get_bytes("/agreements/mo-1/evidence").await.unwrap();
    stop.cancel();
    serving.await.unwrap().unwrap();
    let mut file = EvidenceFile::decode(&file).unwrap();
    for entry in &mut file.entries {
        entry.disclosure = [(&first, &shown_first), (&second, &shown_second)]
            .into_iter()
            .find(|(statement, _)| entry.statement == **statement)
            .map(|(_, shown)| shown.clone());
    }
    let bytes = file.encode();
    let ours = tally_verifier::verify(&bytes, None);
    assert!(ours.all_hold(), "{:?}", ours.first_broken());
    let counted = ours.links.iter().find(|link| link.step == Step::Attested).unwrap();
    assert_eq!(counted.detail, "2 independent agents agree within 30s, 2 are needed: press-000, press-001");

    // One wrong bit anywhere: both refuse, and name the same link.
    let mut seed = 20_261_122_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap()
    };
    let flips: Vec<_> = (0..FLIPS).map(|_| (next() % bytes.len(), 1_u8 << (next() % 8))).collect();
    let said = theirs(&bytes, &flips);
    assert_eq!((broken(&said[0]), said.len()), (None, FLIPS + 1));
    let link = said[0]["links"].as_array().unwrap().iter().find(|link| link["step"] == "attested").unwrap();
    assert_eq!(link["detail"], counted.detail);
    for ((at, mask), theirs) in flips.into_iter().zip(&said[1..]) {
        let mut forged = bytes.clone();
        forged[at] ^= mask;
        let ours = tally_verifier::verify(&forged, None);
        let ours = ours.first_broken().unwrap_or_else(|| panic!("byte {at} is taken"));
        let named = (ours.about.clone(), serde_json::to_value(ours.step).unwrap());
        assert_eq!(broken(theirs), Some(named), "byte {at} ^ {mask}: {}", ours.detail);
    }

    // Without the word of one of them, nobody can say that two agreed; without the contract's text, only the ledger does.
    let without = |is_it: &dyn Fn(&SignedStatement, &[u8]) -> bool| {
        let mut less = file.clone();
        less.entries.retain(|entry| !is_it(&SignedStatement::parse(&entry.statement).unwrap(), &entry.statement));
        assert_eq!(less.entries.len() + 1, file.entries.len());
        less.encode()
    };
    let less = without(&|_, bytes| bytes == first);
    let ours = tally_verifier::verify(&less, None);
    let missed = ours.links.iter().find(|link| !link.holds).unwrap();
    assert_eq!((missed.step, missed.detail.as_str()), (Step::Attested, "what press-001 said is not in this file"));
    assert_eq!(broken(&theirs(&less, &[(0, 1)])[0]).unwrap().1, "attested");
    let is_deployment = |statement: &SignedStatement| {
        statement.kind == StatementKind::Call
            && CallBody::decode(&statement.payload).unwrap().action.as_str() == "deploy-contract"
    };
    let less = without(&|statement, _| is_deployment(statement));
    let ours = tally_verifier::verify(&less, None);
    assert!(ours.all_hold(), "{:?}", ours.first_broken());
    let counted = ours.links.iter().find(|link| link.step == Step::Attested).unwrap();
    assert!(counted.detail.contains("nobody can count again"), "{}", counted.detail);
    assert_eq!(broken(&theirs(&less, &[(0, 1)])[0]), None);
}
