//! k of n: whatever the order in which independent agents speak, the contract fires once, on the same words, and money is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, party, record, rule, trigger_body};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tally_contracts::{Contract, Kernel, views};
use tally_evidence::cbor::{Cbor, text};
use tally_evidence::{DeviceRecord, Event, PartyKind, TriggerBody, TriggerCall};
use tally_model::{ActionName, AgreementId, ContractName, DeviceId, Grade, Timestamp, TriggerId, Value};

const CONTRACT: &str = "
contract: alarm
version: 1
prefix: al
about: Several must say that it is hot.
parties: {owner: organisation}
fields: {device: device, sensors: list, peak: integer, grade: text, quality: text}
key: [device]
standing: {required: [sensors]}
actions: {report: {peak: integer, where: text}, over: {}}
attest:
  report: {k: 3, of: sensors, within: 10s, wait: 1min, tolerance: {peak: 5}}
on:
  - {from: new, trigger: report, to: hot, do: [{set: {peak: args.peak, grade: trigger.grade, quality: trigger.quality}}]}
  - {from: hot, call: over, by: owner, to: cold}
ends: [cold]
";

const SENSORS: usize = 6;

fn device(number: usize) -> String {
    format!("sensor-{number}")
}

fn agent(number: usize) -> String {
    format!("watcher-{number}")
}

fn hot(device: &str) -> tally_evidence::RuleRecord {
    rule(device, "hot", Some(("alarm", "report", &["peak", "where"])))
}

struct Plant {
    kernel: Kernel,
    world: World,
}

/// Six sensors of acme, each with an agent of its own; the first is the one it is all about.
fn plant(yaml: &str) -> Plant {
    let kernel = Kernel::new();
    let world = World::founded(&kernel);
    let mut plant = Plant { kernel, world };
    plant.call("registry", "deploy-contract", &[("text", text(yaml))]).unwrap();
    for number in 0..SENSORS {
        let firm = if number < 3 { "acme" } else { "fixit" };
        let agent = record(&agent(number), PartyKind::Agent, Some(firm), &[]);
        let by = if number < 3 { "acme" } else { "fixit" };
        plant.call_by(by, "registry", "register-party", &[("party", agent.to_cbor())]).unwrap();
        let id = DeviceId::try_new(device(number)).unwrap();
        let device = DeviceRecord { id, agent: agent.id, owner: party("acme"), site: None };
        plant.call("registry", "register-device", &[("device", device.to_cbor())]).unwrap();
        plant.call("registry", "register-rule", &[("rule", hot(device.id.as_str()).to_cbor())]).unwrap();
    }
    plant
}

impl Plant {
    fn call(&mut self, contract: &str, action: &str, args: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        self.call_by("acme", contract, action, args)
    }

    fn call_by(&mut self, who: &str, contract: &str, action: &str, args: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let body = call_body(contract, action, None, args);
        self.world.call(&self.kernel, who, &body).map_err(|refusal| refusal.number())
    }

    fn agree(&mut self, sensors: &[usize]) -> Result<Vec<Event>, u16> {
        let sensors = Cbor::Array(sensors.iter().map(|number| text(device(*number))).collect());
        self.call("alarm", "standing", &[("device", text(device(0))), ("currency", text("EUR")), ("sensors", sensors)])
    }

    fn say(&mut self, word: &Word) -> Result<Vec<Event>, u16> {
        let with =
            [("peak".to_owned(), Value::Integer(word.peak)), ("where".to_owned(), Value::Text(word.place.to_owned()))];
        let at = Timestamp::from_micros(common::START).plus(Duration::from_secs(word.second));
        let (device, agent) = (device(word.who), agent(word.who));
        let number = *self.world.numbers.entry(agent.clone()).or_default();
        let body = trigger_body("press-01", "bearing-worn", number, word.reading, at, BTreeMap::new());
        let call = TriggerCall {
            contract: ContractName::try_new("alarm").unwrap(),
            action: ActionName::try_new("report").unwrap(),
            with: with.into(),
        };
        let body = TriggerBody {
            trigger: TriggerId::try_new("hot").unwrap(),
            device: DeviceId::try_new(&device).unwrap(),
            rule: hot(&device).digest(),
            call: Some(call),
            grade: word.grade,
            quality: word.sound.then(Vec::new),
            mapping: word.mapping,
            ..body
        };
        let done = self.world.trigger(&self.kernel, &agent, &body).map_err(|refusal| refusal.number());
        if done.is_ok() {
            self.world.numbers.insert(agent, number + 1);
        }
        done
    }

    fn opened(&self) -> Option<views::AgreementView> {
        views::agreement(&self.world.state, &AgreementId::try_new("al-1").unwrap())
    }
}

/// What one sensor says.
#[derive(Debug, Clone)]
struct Word {
    who: usize,
    second: u64,
    peak: i64,
    place: &'static str,
    reading: u64,
    grade: Grade,
    sound: bool,
    mapping: Option<[u8; 32]>,
}

fn word(who: usize, second: u64, peak: i64) -> Word {
    Word { who, second, peak, place: "roof", reading: 10, grade: Grade::Agent, sound: true, mapping: None }
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn named<'e>(events: &'e [Event], kind: &str, field: &str) -> &'e Cbor {
    &events.iter().find(|event| event.kind == kind).unwrap().data[field]
}

fn texts(value: &Cbor) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_text().unwrap().to_owned()).collect()
}

#[test]
fn it_is_recorded_who_agreed_who_did_not_and_who_was_silent() {
    let mut plant = plant(CONTRACT);
    plant.agree(&[1, 2, 3, 4]).unwrap();
    plant.say(&word(1, 0, 70)).unwrap();
    plant.say(&Word { place: "cellar", ..word(3, 1, 71) }).unwrap();
    plant.say(&Word { grade: Grade::Gateway, sound: false, ..word(4, 2, 74) }).unwrap();
    let events = plant.say(&word(0, 3, 72)).unwrap();
    assert_eq!(kinds(&events), ["attestation.reached", "agreement.opened"]);
    assert_eq!(texts(named(&events, "attestation.reached", "agreed")), ["sensor-0", "sensor-1", "sensor-4"]);
    assert_eq!(texts(named(&events, "attestation.reached", "disagreed")), ["sensor-3"]);
    assert_eq!(texts(named(&events, "attestation.reached", "silent")), ["sensor-2"]);
    let opened = plant.opened().unwrap();
    // The middle of 70, 72, 74; the least grade and quality of those who agreed.
    assert_eq!((&opened.fields["peak"], &opened.fields["grade"]), (&72.into(), &"gateway-sealed".into()));
    assert_eq!(opened.fields["quality"], "");
    assert_eq!(opened.steps.len(), 3, "the triggers of all who agreed are evidence: {:?}", opened.steps);
    assert!(opened.steps.is_sorted());
}

#[test]
fn a_newer_word_stands_for_the_older_one_and_one_agent_counts_once() {
    let mut plant = plant(CONTRACT);
    plant.agree(&[1, 2, 3]).unwrap();
    plant.say(&word(1, 0, 10)).unwrap();
    plant.say(&word(2, 1, 50)).unwrap();
    plant.say(&word(3, 1, 51)).unwrap();
    assert!(plant.opened().is_none(), "10 is too far from 50");
    let events = plant.say(&Word { reading: 20, ..word(1, 2, 52) }).unwrap();
    assert_eq!(kinds(&events), ["attestation.reached", "agreement.opened"]);
    // The same readings cannot speak twice.
    assert_eq!(plant.say(&Word { reading: 20, ..word(1, 3, 52) }), Err(102));
}

#[test]
fn independence_is_what_the_contract_says() {
    let by = |word: &str| CONTRACT.replace("of: sensors,", &format!("of: sensors, independent: {word},"));
    // Three firms are needed, there are two.
    assert_eq!(plant(&by("firms")).agree(&[1, 2, 3, 4]), Err(194));
    let mut two = plant(&by("firms").replace("k: 3", "k: 2"));
    two.agree(&[1, 2, 3]).unwrap();
    two.say(&word(1, 0, 50)).unwrap();
    two.say(&word(2, 0, 50)).unwrap();
    assert!(two.opened().is_none(), "both are of acme");
    assert_eq!(kinds(&two.say(&word(3, 1, 50)).unwrap()), ["attestation.reached", "agreement.opened"]);
}

#[test]
fn redundant_sensors_of_one_agent_count_when_devices_are_enough() {
    let devices = CONTRACT.replace("of: sensors,", "of: sensors, independent: devices,").replace("k: 3", "k: 2");
    for (yaml, expected) in [(devices.as_str(), Ok(())), (&CONTRACT.replace("k: 3", "k: 2"), Err(194))] {
        let mut plant = plant(yaml);
        // Sensor 1 is read by the agent of sensor 0.
        let id = DeviceId::try_new(device(1)).unwrap();
        let moved = DeviceRecord { id, agent: party(&agent(0)), owner: party("acme"), site: None };
        plant.call("registry", "register-device", &[("device", moved.to_cbor())]).unwrap();
        assert_eq!(plant.agree(&[1]).map(|_| ()), expected);
    }
}

#[test]
fn a_device_speaks_about_one_other_only() {
    let mut plant = plant(CONTRACT);
    plant.agree(&[1, 2, 3]).unwrap();
    let sensors = Cbor::Array(["sensor-3", "sensor-5"].map(text).into());
    let args = [("device", text("sensor-4")), ("currency", text("EUR")), ("sensors", sensors)];
    assert_eq!(plant.call("alarm", "standing", &args), Err(194));
    // Agreed anew without sensor 3, it is free.
    plant.agree(&[1, 2]).unwrap();
    assert!(plant.call("alarm", "standing", &args).is_ok());
}

#[test]
fn what_nobody_completes_expires_and_leaves_nothing_behind() {
    let mut plant = plant(CONTRACT);
    plant.agree(&[1, 2, 3]).unwrap();
    let before = plant.world.state.len();
    plant.say(&word(1, 0, 50)).unwrap();
    plant.say(&word(2, 0, 50)).unwrap();
    plant.world.now = plant.world.now.plus(Duration::from_secs(61));
    let done = plant.world.run_terms(&plant.kernel);
    let events = done.into_iter().collect::<Result<Vec<_>, _>>().unwrap().concat();
    assert_eq!(kinds(&events), ["attestation.expired"]);
    assert_eq!(texts(named(&events, "attestation.expired", "spoke")), ["sensor-1", "sensor-2"]);
    assert!(plant.opened().is_none());
    // Numbers of triggers, readings used, and the counter of rounds: nothing else stays.
    assert_eq!(plant.world.state.len() - before, 5);
}

#[test]
fn another_mapping_than_the_registered_one_contradicts_whatever_the_trigger_says() {
    let attest = CONTRACT.find("attest:").unwrap()..CONTRACT.find("\non:").unwrap() + 1;
    let yaml = CONTRACT.replace(&CONTRACT[attest], "requires: {quality: doubtful}\n");
    let registered = [7; 32];
    for (mapping, expected) in [(None, Err(193)), (Some([8; 32]), Err(193)), (Some(registered), Ok(()))] {
        let mut plant = plant(&yaml);
        plant.agree(&[1]).unwrap();
        let digest = tally_evidence::cbor::bytes(registered);
        let report = [("device", text(device(0))), ("kind", text("mapping")), ("digest", digest)];
        plant.call("registry", "report-fingerprint", &report).unwrap();
        assert_eq!(plant.say(&Word { mapping, ..word(0, 0, 50) }).map(|_| ()), expected, "{mapping:?}");
    }
    // As long as nobody registered one, any will do.
    let mut plant = plant(&yaml);
    plant.agree(&[1]).unwrap();
    assert!(plant.say(&word(0, 0, 50)).is_ok());
}

#[test]
fn wrong_sections_are_named_at_their_place() {
    for (from, to, expected) in [
        ("k: 3", "k: 1", "attest.report.k: is `1`"),
        ("of: sensors", "of: peak", "`peak` does not list devices"),
        ("within: 10s", "within: 8d", "attest.report.within: is `8d`"),
        ("wait: 1min", "wait: 0s", "attest.report.wait: is `0s`"),
        ("{peak: 5}", "{where: 5}", "attest.report.tolerance.where: has no tolerance"),
        ("{peak: 5}", "{peak: -1}", "attest.report.tolerance.peak: is `-1`"),
        ("of: sensors,", "of: sensors, independent: friends,", "allowed: agents, firms, devices"),
        ("  report: {k", "  over: {k", "no line of `on:` waits for this trigger"),
        ("  report: {k", "  reprot: {k", "`reprot` is no action"),
        ("of: sensors,", "of: sensors, colour: red,", "attest.report.colour: is unknown"),
    ] {
        assert!(CONTRACT.contains(from), "{from}");
        let faults = Contract::from_yaml(&CONTRACT.replacen(from, to, 1)).unwrap_err();
        let told: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
        assert!(told.contains(expected), "{to}: {told}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Three agree, three others each say something of their own: in every order the same order is opened, by the same three,
    /// exactly once, at the word of the last of them.
    #[test]
    fn the_order_of_words_does_not_matter(
        order in Just((0..SENSORS).collect::<Vec<_>>()).prop_shuffle(),
        agreeing in proptest::sample::subsequence((0..SENSORS).collect::<Vec<_>>(), 3),
        peaks in proptest::collection::vec(50..55_i64, 3),
    ) {
        let mut plant = plant(CONTRACT);
        plant.agree(&[1, 2, 3, 4, 5]).unwrap();
        let (mut opened, mut left) = (0, agreeing.iter().copied().collect::<BTreeSet<_>>());
        for who in order {
            let peak = agreeing.iter().position(|one| *one == who).map_or(1_000 * (who as i64 + 1), |place| peaks[place]);
            let events = plant.say(&word(who, who as u64, peak)).unwrap();
            left.remove(&who);
            let fired = events.iter().any(|event| event.kind == "agreement.opened");
            opened += usize::from(fired);
            prop_assert_eq!(fired, left.is_empty() && agreeing.contains(&who));
            plant.world.check();
        }
        prop_assert_eq!(opened, 1);
        let mut sorted = peaks.clone();
        sorted.sort_unstable();
        let found = plant.opened().unwrap();
        prop_assert_eq!(&found.fields["peak"], &serde_json::Value::from(sorted[1]));
        prop_assert_eq!(found.steps.len(), 3);
    }
}
