//! Who is who: grades of evidence, keys, owners, sites and fingerprints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, rule, trigger_body};
use std::collections::BTreeMap;
use std::time::Duration;
use tally_contracts::resolve;
use tally_contracts::{Contract, Kernel};
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{DeviceRecord, Event, PartyKind, SigningKey, TriggerBody, TriggerCall, possession, sha256};
use tally_model::{ActionName, ContractName, DeviceId, Grade, LinkProtocol, LinkSecurity, Origin, Stretch, TriggerId};

struct Plant {
    kernel: Kernel,
    world: World,
    number: u64,
}

impl Plant {
    fn new() -> Self {
        let kernel = Kernel::new();
        let world = World::founded(&kernel);
        Self { kernel, world, number: 0 }
    }

    fn call(&mut self, signer: &str, contract: &str, action: &str, args: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let body = call_body(contract, action, None, args);
        self.world.call(&self.kernel, signer, &body).map_err(|refusal| refusal.number())
    }

    fn registry(&mut self, signer: &str, action: &str, args: &[(&str, Cbor)]) -> Result<Vec<Event>, u16> {
        self.call(signer, "registry", action, args)
    }

    /// A call sealed with the key called `key`.
    fn registry_with(
        &mut self,
        signer: &str,
        key: &str,
        action: &str,
        args: &[(&str, Cbor)],
    ) -> Result<Vec<Event>, u16> {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let body = call_body("registry", action, None, args);
        let done = self.world.call_as(&self.kernel, signer, common::key_id(key), &body);
        done.map_err(|refusal| refusal.number())
    }

    fn wait(&mut self, seconds: u64) {
        self.world.now = self.world.now.plus(Duration::from_secs(seconds));
    }

    fn trigger(&mut self, agent: &str, body: TriggerBody) -> Result<Vec<Event>, u16> {
        let done = self.world.trigger(&self.kernel, agent, &body).map_err(|refusal| refusal.number());
        self.number += 1;
        done
    }
}

/// Opened by any trigger `hot` of high enough a grade.
const GRADED: &str = "\
contract: graded
version: 1
prefix: gr
parties: {owner: organisation}
fields: {device: device, grade: text}
key: [device]
requires: {grade: device-sealed}
standing: {}
actions: {report: {}, stop: {}}
on:
  - {from: new, trigger: report, to: open, do: [{set: {grade: trigger.grade}}]}
  - {from: open, call: stop, by: owner, to: over}
  - {from: open, term: 1h, to: over}
ends: [over]
";

fn graded(yaml: &str) -> Plant {
    let mut plant = Plant::new();
    plant.registry("acme", "deploy-contract", &[("text", text(yaml))]).unwrap();
    plant.registry("acme", "register-rule", &[("rule", hot().to_cbor())]).unwrap();
    plant.call("acme", "graded", "standing", &[("device", text("press-01")), ("currency", text("EUR"))]).unwrap();
    plant
}

fn hot() -> tally_evidence::RuleRecord {
    rule("press-01", "hot", Some(("graded", "report", &[])))
}

fn hot_trigger(plant: &Plant, grade: Grade) -> TriggerBody {
    let body = trigger_body("press-01", "hot", plant.number, plant.number + 1, plant.world.now, BTreeMap::new());
    let call = TriggerCall {
        contract: ContractName::try_new("graded").unwrap(),
        action: ActionName::try_new("report").unwrap(),
        with: BTreeMap::new(),
    };
    let trigger = TriggerId::try_new("hot").unwrap();
    TriggerBody { trigger, rule: hot().digest(), call: Some(call), grade, ..body }
}

#[test]
fn a_contract_gets_the_grade_it_demands_and_no_less() {
    let mut plant = graded(GRADED);
    for (grade, number) in [(Grade::Gateway, 158), (Grade::Agent, 158), (Grade::Device, 157)] {
        let body = hot_trigger(&plant, grade);
        assert_eq!(plant.trigger("agent-01", body), Err(number), "{grade}");
    }
    // The device gets a key of its own: a party of kind device under its id.
    let device = common::record("press-01", PartyKind::Device, Some("acme"), &[]);
    plant.registry("acme", "register-party", &[("party", device.to_cbor())]).unwrap();
    let body = hot_trigger(&plant, Grade::Device);
    let events = plant.trigger("agent-01", body).unwrap();
    assert!(events.iter().any(|event| event.kind == "agreement.opened"), "{events:?}");
    plant.registry("acme", "revoke-party", &[("party", text("press-01"))]).unwrap();
    let body = hot_trigger(&plant, Grade::Device);
    assert_eq!(plant.trigger("agent-01", body), Err(157), "its key is revoked");
}

#[test]
fn without_a_demand_any_grade_opens_and_the_contract_sees_it() {
    let mut plant = graded(&GRADED.replace("requires: {grade: device-sealed}\n", ""));
    let body = hot_trigger(&plant, Grade::Gateway);
    plant.trigger("agent-01", body).unwrap();
    let id = tally_model::AgreementId::try_new("gr-1").unwrap();
    let view = tally_contracts::views::agreement(&plant.world.state, &id).unwrap();
    assert_eq!(view.fields["grade"], "gateway-sealed");
}

#[test]
fn a_grade_that_is_none_is_a_fault_of_the_contract() {
    let faults =
        Contract::from_yaml(&GRADED.replace("{grade: device-sealed}", "{grade: good, colour: red}")).unwrap_err();
    let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|fault| fault.contains("requires.grade") && fault.contains("agent-sealed")), "{told:?}");
    assert!(told.iter().any(|fault| fault.contains("colour")), "{told:?}");
}

/// `party`, a new key called `key` and its proof.
fn new_key(party: &str, key: &str) -> Vec<(&'static str, Cbor)> {
    let new: SigningKey = common::key(key);
    let proof = new.sign(&possession(common::LEDGER, &common::party(party), new.public()));
    vec![("party", text(party)), ("key", bytes(new.public().sec1().to_vec())), ("proof", bytes(proof))]
}

fn with(mut args: Vec<(&'static str, Cbor)>, name: &'static str, value: Cbor) -> Vec<(&'static str, Cbor)> {
    args.retain(|(known, _)| *known != name);
    args.push((name, value));
    args
}

fn hours(count: u64) -> Cbor {
    int(count * 3_600_000_000)
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn door(number: u64, plant: &Plant) -> TriggerBody {
    trigger_body("press-01", "door-open", number, number + 1, plant.world.now, BTreeMap::new())
}

#[test]
fn both_keys_speak_in_the_overlap_and_the_old_one_no_longer() {
    let mut plant = Plant::new();
    let signer = common::party("agent-01");
    let sealed = |plant: &mut Plant, number: u64, key: &str| {
        let body = door(number, plant);
        let input = tally_contracts::Input::Trigger {
            entry: plant.world.entry,
            signer: &signer,
            key: common::key_id(key),
            body: &body,
        };
        plant.world.entry += 1;
        plant.world.execute(&plant.kernel, &input).map(|_| ()).map_err(|refusal| refusal.number())
    };
    let begun = plant.world.entry;
    let rotate = with(new_key("agent-01", "agent-01b"), "overlap", hours(2));
    assert_eq!(kinds(&plant.registry("agent-01", "rotate-key", &rotate).unwrap()), ["registry.key-rotated"]);
    assert_eq!(sealed(&mut plant, 0, "agent-01"), Ok(()));
    assert_eq!(sealed(&mut plant, 1, "agent-01b"), Ok(()));
    // Whoever has only the old key cannot take the new one away.
    let back = new_key("agent-01", "thief");
    assert_eq!(plant.registry_with("agent-01", "agent-01", "rotate-key", &back), Err(123));
    plant.wait(2 * 3600);
    assert_eq!(sealed(&mut plant, 2, "agent-01"), Ok(()), "to the last microsecond");
    plant.world.now = plant.world.now.plus(Duration::from_micros(1));
    assert_eq!(sealed(&mut plant, 3, "agent-01"), Err(123));
    assert_eq!(sealed(&mut plant, 3, "agent-01b"), Ok(()));
    // The id is the same, and both keys are found with the entry that put them in force.
    let versions = resolve::party_versions(&plant.world.state, &signer);
    let found: Vec<_> =
        versions.iter().map(|version| (version.entry, version.ended_by, version.record.key.id())).collect();
    let (old, new) = (common::key_id("agent-01"), common::key_id("agent-01b"));
    assert_eq!(found, [(0, Some(begun), old), (begun, None, new)]);
    assert_eq!(resolve::key_entries(&plant.world.state, &signer, &old, begun), [0]);
    assert_eq!(resolve::key_entries(&plant.world.state, &signer, &old, begun + 1), [0, begun]);
    assert_eq!(resolve::key_entries(&plant.world.state, &signer, &new, begun + 1), [begun]);
}

#[test]
fn rotating_twice_leaves_two_keys_at_most() {
    let mut plant = Plant::new();
    for (key, next) in [("tina", "tina-b"), ("tina-b", "tina-c")] {
        let rotate = with(new_key("tina", next), "overlap", hours(24));
        plant.registry_with("tina", key, "rotate-key", &rotate).unwrap();
    }
    let withdraw = [("device", text("press-01"))];
    let speaks = |plant: &mut Plant, key: &str| plant.registry_with("tina", key, "withdraw-offer", &withdraw);
    assert_eq!(speaks(&mut plant, "tina"), Err(123));
    assert_eq!((speaks(&mut plant, "tina-b"), speaks(&mut plant, "tina-c")), (Err(151), Err(151)), "they may speak");
    let versions = resolve::party_versions(&plant.world.state, &common::party("tina"));
    assert_eq!(versions[0].key_until, Some(plant.world.now), "cut when the third came");
}

#[test]
fn who_may_rotate_and_with_what() {
    let mut plant = Plant::new();
    let rotate = new_key("tina", "tina-b");
    for other in ["tom", "acme", "judge"] {
        assert_eq!(plant.registry(other, "rotate-key", &rotate), Err(151), "{other}");
    }
    assert_eq!(plant.registry("acme", "rotate-key", &new_key("fixit", "x")), Err(151), "an admin takes no firm over");
    let stranger = with(rotate.clone(), "proof", bytes(common::key("x").sign(b"something else")));
    assert_eq!(plant.registry("tina", "rotate-key", &stranger), Err(159), "not held");
    let other_party = with(new_key("tom", "tina-b"), "party", text("tina"));
    assert_eq!(plant.registry("tina", "rotate-key", &other_party), Err(159), "proved for somebody else");
    assert_eq!(plant.registry("tina", "rotate-key", &new_key("tina", "tina")), Err(161), "the same key");
    assert_eq!(plant.registry("tina", "rotate-key", &with(rotate.clone(), "overlap", hours(24 * 91))), Err(142));
    assert_eq!(plant.registry("fixit", "rotate-key", &rotate).map(|events| events.len()), Ok(1), "her firm may");
    assert_eq!(plant.registry("fixit", "rotate-key", &new_key("tina", "tina")), Err(161), "a key that was hers before");
    assert_eq!(plant.registry("tina", "rotate-key", &new_key("tina", "tina-c")), Err(123), "no overlap was asked for");
}

fn quorum(admins: &[&str], needed: u64, delay: Cbor) -> Vec<(&'static str, Cbor)> {
    let admins = Cbor::Array(admins.iter().map(|id| text(*id)).collect());
    vec![("admins", admins), ("needed", int(needed)), ("delay", delay)]
}

#[test]
fn k_of_n_give_an_organisation_another_key() {
    let mut plant = Plant::new();
    let recover = new_key("fixit", "fixit-b");
    assert_eq!(plant.registry("tom", "approve-recovery", &recover), Err(164), "nobody was named");
    plant.registry("fixit", "set-recovery", &quorum(&["tom", "ted", "judge"], 2, hours(48))).unwrap();
    assert_eq!(plant.registry("tina", "approve-recovery", &recover), Err(151), "not named");
    let approved = plant.registry("tom", "approve-recovery", &recover).unwrap();
    assert_eq!(kinds(&approved), ["registry.recovery-approved"]);
    assert_eq!(
        kinds(&plant.registry("tom", "approve-recovery", &recover).unwrap()),
        ["registry.recovery-approved"],
        "twice is once"
    );
    let other = plant.registry("ted", "approve-recovery", &new_key("fixit", "fixit-c")).unwrap();
    assert_eq!(kinds(&other), ["registry.recovery-approved"], "for another key");
    let done = plant.registry("judge", "approve-recovery", &recover).unwrap();
    assert_eq!(kinds(&done), ["registry.key-recovered"]);
    let speaks = [("device", text("press-01"))];
    assert_eq!(plant.registry("fixit", "withdraw-offer", &speaks), Err(123), "the lost key is over at once");
    assert_eq!(plant.registry_with("fixit", "fixit-b", "withdraw-offer", &speaks), Err(151), "the new one speaks");
    assert!(plant.world.state.keys().all(|key| key[0] != b'T'), "no approval is left over");
}

#[test]
fn a_thief_of_the_key_cannot_lock_the_recoverers_out() {
    let mut plant = Plant::new();
    plant.registry("fixit", "set-recovery", &quorum(&["tom", "ted"], 2, hours(48))).unwrap();
    // With the stolen key somebody names his own people; it comes in two days.
    plant.registry("fixit", "set-recovery", &quorum(&["olga"], 1, hours(0))).unwrap();
    assert_eq!(plant.registry("olga", "approve-recovery", &new_key("fixit", "thief")), Err(151), "not yet");
    plant.registry("tom", "approve-recovery", &new_key("fixit", "fixit-b")).unwrap();
    plant.wait(3600);
    plant.registry("ted", "approve-recovery", &new_key("fixit", "fixit-b")).unwrap();
    plant.wait(72 * 3600);
    assert_eq!(plant.registry("olga", "approve-recovery", &new_key("fixit", "thief")), Err(151), "never");
    let view = resolve::recovery(&plant.world.state, &common::party("fixit"), plant.world.now).unwrap();
    assert_eq!((view.admins, view.needed, view.changes_at), (vec!["tom".into(), "ted".into()], 2, None));
}

#[test]
fn approvals_age_and_revoked_approvers_do_not_count() {
    let mut plant = Plant::new();
    plant.registry("fixit", "set-recovery", &quorum(&["tom", "ted", "judge"], 2, hours(1))).unwrap();
    let recover = new_key("fixit", "fixit-b");
    plant.registry("tom", "approve-recovery", &recover).unwrap();
    plant.wait(7 * 24 * 3600);
    assert_eq!(kinds(&plant.registry("ted", "approve-recovery", &recover).unwrap()), ["registry.recovery-approved"]);
    plant.registry("fixit", "revoke-party", &[("party", text("ted"))]).unwrap();
    assert_eq!(kinds(&plant.registry("judge", "approve-recovery", &recover).unwrap()), ["registry.recovery-approved"]);
    assert_eq!(kinds(&plant.registry("tom", "approve-recovery", &recover).unwrap()), ["registry.key-recovered"]);
    for (admins, needed, number) in [
        (vec![], 1, 142),
        (vec!["tom", "tom"], 1, 142),
        (vec!["tom"], 2, 142),
        (vec!["nobody"], 1, 138),
        (vec!["fixit"], 1, 142),
        (vec!["agent-01"], 1, 138),
    ] {
        let refused = plant.registry_with("fixit", "fixit-b", "set-recovery", &quorum(&admins, needed, hours(1)));
        assert_eq!(refused, Err(number), "{admins:?}");
    }
    assert_eq!(plant.registry("tom", "set-recovery", &quorum(&["tina"], 1, hours(1))), Err(151), "no organisation");
}

fn press(agent: &str, owner: &str, site: Option<&str>) -> Vec<(&'static str, Cbor)> {
    let (id, site) = (DeviceId::try_new("press-01").unwrap(), site.map(|site| site.parse().unwrap()));
    let record = DeviceRecord { id, agent: common::party(agent), owner: common::party(owner), site };
    vec![("device", record.to_cbor())]
}

#[test]
fn a_device_gets_a_site_and_another_agent() {
    let mut plant = Plant::new();
    let first = door(5, &plant);
    plant.trigger("agent-01", first).unwrap();
    let press_01 = DeviceId::try_new("press-01").unwrap();
    plant.registry("acme", "bind-device", &press("agent-01", "acme", Some("hall-3"))).unwrap();
    assert_eq!(plant.registry("acme", "bind-device", &press("agent-01", "acme", Some("hall-3"))), Err(161));
    let bound = plant.world.entry;
    let events = plant.registry("acme", "bind-device", &press("agent-02", "acme", Some("hall-3"))).unwrap();
    assert_eq!((kinds(&events), &events[0].data["site"]), (vec!["registry.device-bound"], &text("hall-3")));
    assert_eq!(plant.registry("fixit", "bind-device", &press("agent-01", "fixit", None)), Err(151));
    assert_eq!(plant.registry("acme", "bind-device", &press("agent-01", "fixit", None)), Err(142), "not this way");
    assert_eq!(plant.registry("acme", "bind-device", &press("tina", "acme", None)), Err(138));
    let late = door(6, &plant);
    assert_eq!(plant.trigger("agent-01", late), Err(132));
    // The new agent's vault numbers from the beginning.
    let first = door(0, &plant);
    plant.trigger("agent-02", first).unwrap();
    let versions = resolve::device_versions(&plant.world.state, &press_01);
    let agents: Vec<_> =
        versions.iter().map(|version| (version.record.agent.as_str(), version.record.site.is_some())).collect();
    assert_eq!(agents, [("agent-01", false), ("agent-01", true), ("agent-02", true)]);
    assert_eq!(
        resolve::binding_at(&plant.world.state, &press_01, 1),
        Some(0),
        "the trigger of before rests on entry 0"
    );
    assert_eq!(resolve::binding_at(&plant.world.state, &press_01, bound + 1), Some(bound));
    for held in &versions {
        let proved = resolve::version_keys(b'd', "press-01", &versions, held);
        let absent = proved.iter().filter(|key| !plant.world.state.contains_key(key.as_slice())).count();
        assert_eq!(absent, usize::from(held.number.is_none()), "all but the one that is not there: {held:?}");
    }
}

/// Fixit's technicians may write to the press, as acme allowed, and the maintenance order has standing terms.
fn offered() -> Plant {
    let mut plant = Plant::new();
    plant
        .registry(
            "acme",
            "register-party",
            &[("party", common::record("agent-f", PartyKind::Agent, Some("fixit"), &[]).to_cbor())],
        )
        .unwrap();
    plant.registry("acme", "offer-transfer", &[("device", text("press-01")), ("to", text("fixit"))]).unwrap();
    plant
}

#[test]
fn ownership_passes_when_both_have_sealed() {
    let mut plant = offered();
    assert_eq!(
        plant.registry("bank", "accept-transfer", &press("agent-f", "bank", None)),
        Err(163),
        "offered to another"
    );
    assert_eq!(
        plant.registry("acme", "accept-transfer", &press("agent-f", "fixit", None)),
        Err(151),
        "not by the seller"
    );
    let events = plant.registry("fixit", "accept-transfer", &press("agent-f", "fixit", Some("yard"))).unwrap();
    assert_eq!(kinds(&events), ["standing.ended", "registry.device-transferred"]);
    assert_eq!(plant.registry("fixit", "accept-transfer", &press("agent-f", "fixit", None)), Err(163), "once");
    // Rules and terms were the old owner's word.
    let body = door(0, &plant);
    assert_eq!(plant.trigger("agent-f", body), Err(133));
    let rule = rule("press-01", "door-open", None);
    assert_eq!(plant.registry("acme", "register-rule", &[("rule", rule.to_cbor())]), Err(151));
    plant.registry("fixit", "register-rule", &[("rule", rule.to_cbor())]).unwrap();
    let body = door(0, &plant);
    plant.trigger("agent-f", body).unwrap();
    assert_eq!(
        plant.registry("acme", "offer-transfer", &[("device", text("press-01")), ("to", text("bank"))]),
        Err(151)
    );
}

#[test]
fn an_offer_runs_out_is_withdrawn_and_is_bound_to_who_made_it() {
    let accept = press("agent-f", "fixit", None);
    let mut plant = offered();
    plant.wait(31 * 24 * 3600);
    assert_eq!(plant.registry("fixit", "accept-transfer", &accept), Err(163), "too late");
    let mut plant = offered();
    plant.registry("acme", "withdraw-offer", &[("device", text("press-01"))]).unwrap();
    assert_eq!(plant.registry("acme", "withdraw-offer", &[("device", text("press-01"))]), Err(163));
    assert_eq!(plant.registry("fixit", "accept-transfer", &accept), Err(163));
    assert_eq!(
        plant.registry("acme", "offer-transfer", &[("device", text("press-01")), ("to", text("acme"))]),
        Err(142)
    );
    assert_eq!(
        plant.registry("acme", "offer-transfer", &[("device", text("press-01")), ("to", text("tina"))]),
        Err(138)
    );
}

#[test]
fn no_device_changes_hands_while_an_agreement_about_it_is_open() {
    let mut plant = offered();
    let order = trigger_body(
        "press-01",
        "bearing-worn",
        0,
        1,
        plant.world.now,
        [("fault".to_owned(), tally_model::Value::Text("bearing-worn".into()))].into(),
    );
    plant.trigger("agent-01", order).unwrap();
    let accept = press("agent-f", "fixit", None);
    assert_eq!(plant.registry("fixit", "accept-transfer", &accept), Err(162));
    plant
        .world
        .call(&plant.kernel, "acme", &call_body("maintenance-order", "cancel", Some("mo-1"), BTreeMap::new()))
        .unwrap();
    plant.registry("fixit", "accept-transfer", &accept).unwrap();
    plant.world.check();
}

#[test]
fn permits_end_with_the_ownership_and_policies_go_on_elsewhere() {
    let mut plant = offered();
    let policy = common::policy("service", &["press-01", "press-02"]);
    let policy = [("policy", bytes(policy.encode()))];
    plant.call("acme", "access", "policy", &policy).unwrap();
    let request = |device: &str| {
        [("device", text(device)), ("point", text("setpoint")), ("right", text("write")), ("value", int(1))]
    };
    plant.call("tina", "access", "request", &request("press-01")).unwrap();
    let events = plant.registry("fixit", "accept-transfer", &press("agent-f", "fixit", None)).unwrap();
    assert!(kinds(&events).contains(&"access.permit-revoked"), "{events:?}");
    assert_eq!(plant.call("tina", "access", "request", &request("press-01")), Err(153));
    plant.call("tina", "access", "request", &request("press-02")).unwrap();
    // Taking the old policy away touches nothing of the new owner's.
    plant.call("acme", "access", "revoke", &[("policy", text("service"))]).unwrap();
    assert_eq!(plant.call("tina", "access", "request", &request("press-02")), Err(153));
}

#[test]
fn fingerprints_have_a_history_and_a_trigger_by_another_mapping_says_so() {
    let mut plant = Plant::new();
    let press_01 = DeviceId::try_new("press-01").unwrap();
    let told = |kind: &str, digest: u8, version: &str| {
        [
            ("device", text("press-01")),
            ("kind", text(kind)),
            ("digest", bytes(sha256(&[digest]))),
            ("version", text(version)),
        ]
    };
    plant.registry("agent-01", "report-fingerprint", &told("firmware", 1, "1.0")).unwrap();
    plant.registry("agent-01", "report-fingerprint", &told("firmware", 2, "1.1")).unwrap();
    assert_eq!(plant.registry("agent-01", "report-fingerprint", &told("firmware", 2, "1.1")), Err(161), "no news");
    assert_eq!(plant.registry("agent-02", "report-fingerprint", &told("firmware", 3, "x")), Err(151));
    assert_eq!(plant.registry("agent-01", "report-fingerprint", &told("colour", 3, "x")), Err(142));
    let found = resolve::fingerprints(&plant.world.state, &press_01, 9);
    let found: Vec<_> = found.iter().map(|print| (print.number, print.version.as_str(), print.is_expected)).collect();
    assert_eq!(found, [(2, "1.1", true), (1, "1.0", false)]);

    let sealed = |plant: &mut Plant, mapping: Option<u8>| {
        let body = TriggerBody { mapping: mapping.map(|digest| sha256(&[digest])), ..door(plant.number, plant) };
        kinds(&plant.trigger("agent-01", body).unwrap()).contains(&"device.mapping-differs")
    };
    assert!(!sealed(&mut plant, Some(7)), "nothing is known to differ from");
    plant.registry("acme", "report-fingerprint", &told("mapping", 7, "rev 7")).unwrap();
    assert!(!sealed(&mut plant, Some(7)));
    assert!(sealed(&mut plant, Some(8)) && sealed(&mut plant, None), "another one, or none");
    // The agent's own word does not make its mapping the right one once the owner has spoken.
    plant.registry("agent-01", "report-fingerprint", &told("mapping", 8, "rev 8")).unwrap();
    assert!(sealed(&mut plant, Some(8)));
    plant.registry("acme", "report-fingerprint", &told("mapping", 8, "rev 8")).unwrap();
    assert!(!sealed(&mut plant, Some(8)));
}

/// A device that calls itself something else than is registered contradicts its evidence until somebody says that it is right so.
#[test]
fn evidence_of_a_device_with_other_firmware_is_contradicted_until_it_is_registered() {
    let mut plant = graded(&GRADED.replace("{grade: device-sealed}", "{quality: sound}"));
    let told = |said: &str| {
        [("device", text("press-01")), ("kind", text("identity")), ("digest", bytes(sha256(said.as_bytes())))]
    };
    let sealed = |plant: &mut Plant, said: &[&str]| {
        let stretch = |(from, said): (u64, &&str)| {
            let link = LinkSecurity::none(LinkProtocol::Modbus);
            Stretch { from, origin: Origin { link, identity: Some((*said).to_owned()) } }
        };
        let origins = (0..).zip(said).map(stretch).collect();
        let body = TriggerBody { quality: Some(Vec::new()), origins, ..hot_trigger(plant, Grade::Agent) };
        plant.trigger("agent-01", body)
    };
    let differs = |events: &[tally_evidence::Event]| kinds(events).contains(&"device.identity-differs");
    let (old, new) = ("Acme; Press 7; 2.3", "Acme; Press 7; 2.4");
    assert!(!differs(&sealed(&mut plant, &[new]).unwrap()), "nothing is registered that it could differ from");
    plant.registry("acme", "report-fingerprint", &told(old)).unwrap();
    assert!(!differs(&sealed(&mut plant, &[old]).unwrap()));
    assert!(!differs(&sealed(&mut plant, &[]).unwrap()), "a device that says nothing of itself contradicts nothing");
    // From now on, and when it was only so in between.
    assert_eq!(sealed(&mut plant, &[new]), Err(193));
    assert_eq!(sealed(&mut plant, &[old, new, old]), Err(193));
    // The agent's word does not make it right once the owner has spoken.
    plant.registry("agent-01", "report-fingerprint", &told(new)).unwrap();
    assert_eq!(sealed(&mut plant, &[new]), Err(193));
    plant.registry("acme", "report-fingerprint", &told(new)).unwrap();
    assert!(!differs(&sealed(&mut plant, &[new]).unwrap()));
    // Without a demand it is taken, and says so for ever: what it said, and what was registered.
    let body = TriggerBody { origins: vec![], ..door(plant.number, &plant) };
    let link = LinkSecurity::none(LinkProtocol::OpcUa);
    let origins = vec![Stretch { from: 0, origin: Origin { link, identity: Some(old.to_owned()) } }];
    let events = plant.trigger("agent-01", TriggerBody { origins, ..body }).unwrap();
    let told = events.iter().find(|event| event.kind == "device.identity-differs").unwrap();
    assert_eq!(told.data["said"].as_text(), Some(old));
    assert_eq!(told.data["registered"].as_bytes().map(Vec::as_slice), Some(&sha256(new.as_bytes())[..]));
}

#[test]
fn many_are_registered_under_one_seal_each_with_its_own_outcome() {
    let mut plant = Plant::new();
    let device = |id: &str, agent: &str, owner: &str| {
        let id = DeviceId::try_new(id).unwrap();
        DeviceRecord { id, agent: common::party(agent), owner: common::party(owner), site: None }.to_cbor()
    };
    let parties = vec![
        common::record("agent-09", PartyKind::Agent, Some("acme"), &[]).to_cbor(),
        common::record("tina", PartyKind::Person, Some("acme"), &[]).to_cbor(),
    ];
    let devices = vec![
        device("d-0", "agent-09", "acme"),
        device("d-1", "nobody", "acme"),
        device("d-0", "agent-01", "acme"),
        device("d-2", "agent-01", "fixit"),
        device("press-01", "agent-02", "acme"),
        device("d-3", "agent-01", "acme"),
    ];
    let many = [("parties", Cbor::Array(parties)), ("devices", Cbor::Array(devices))];
    let events = plant.registry("acme", "register-many", &many).unwrap();
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event.kind == "registry.record-refused")
        .map(|event| {
            (
                event.subject.as_str(),
                event.data["place"].as_integer().unwrap().try_into().unwrap(),
                event.data["refusal"].as_integer().unwrap().try_into().unwrap(),
            )
        })
        .collect::<Vec<(&str, u64, u64)>>();
    assert_eq!(refused, [("tina", 1, 161), ("d-1", 1, 138), ("d-0", 2, 161), ("d-2", 3, 151), ("press-01", 4, 161)]);
    let known = |id: &str| plant.world.state.contains_key(format!("d{id}").as_bytes());
    assert!(known("d-0") && known("d-3") && !known("d-1") && !known("d-2"));
    assert_eq!(plant.registry("acme", "register-many", &[]), Err(141));
    let nonsense = [("devices", Cbor::Array(vec![device("d-7", "agent-01", "acme"), int(7)]))];
    assert_eq!(plant.registry("acme", "register-many", &nonsense), Err(142), "not in the format: nothing of it");
    let broken = [("devices", Cbor::Array(vec![device("d-8", "agent-02", "acme")]))];
    plant.world.state.insert(b"pagent-02".to_vec(), vec![0xff]);
    assert_eq!(plant.registry("acme", "register-many", &broken), Err(191));
}
