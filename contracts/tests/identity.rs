//! Who is who: grades of evidence, keys, owners, sites and fingerprints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{World, call_body, rule, trigger_body};
use std::collections::BTreeMap;
use tally_contracts::{Contract, Kernel};
use tally_evidence::cbor::{Cbor, text};
use tally_evidence::{Event, PartyKind, TriggerBody, TriggerCall};
use tally_model::{ActionName, ContractName, Grade, TriggerId};

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
