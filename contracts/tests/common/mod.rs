//! A small plant on a ledger, for the tests: who is who, and how inputs are made. Used by several test files, each of
//! which uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use tally_contracts::{Block, Genesis, Input, Kernel, Overlay, Refusal, genesis_body, views};
use tally_evidence::cbor::Cbor;
use tally_evidence::{
    Allowed, CallBody, Event, Hash, KeyId, PartyKind, PartyRecord, Policy, ReadingsClaim, Right, RuleRecord,
    SigningKey, Transition, TriggerBody, TriggerCall, Who,
};
use tally_model::{
    ActionName, AgreementId, CallTemplate, ContractName, DeviceId, PartyId, Priority, RuleSource, Timestamp, TriggerId,
    Value,
};

pub const LEDGER: &str = "press-line";
/// 2026-11-21T00:00:00Z.
pub const START: i64 = 1_795_219_200_000_000;

pub type State = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn party(id: &str) -> PartyId {
    PartyId::try_new(id).unwrap()
}

/// Every party's key follows from its id.
pub fn key(id: &str) -> SigningKey {
    SigningKey::from_secret(&tally_evidence::sha256(id.as_bytes())).unwrap()
}

pub fn key_id(id: &str) -> KeyId {
    key(id).public().id()
}

pub fn record(id: &str, kind: PartyKind, firm: Option<&str>, skills: &[&str]) -> PartyRecord {
    PartyRecord {
        id: party(id),
        kind,
        name: id.to_uppercase(),
        key: key(id).public().clone(),
        firm: firm.map(party),
        skills: skills.iter().map(|skill| (*skill).to_owned()).collect(),
    }
}

/// A rule of `device`: its name, and the call `contract/action(names)` it asks for.
pub fn rule(device: &str, id: &str, call: Option<(&str, &str, &[&str])>) -> RuleRecord {
    RuleRecord::new(RuleSource {
        id: TriggerId::try_new(id).unwrap(),
        device: DeviceId::try_new(device).unwrap(),
        when: "true".into(),
        on_delay: std::time::Duration::ZERO,
        until: None,
        priority: Priority::High,
        disclose: Vec::new(),
        call: call.map(|(contract, action, names)| CallTemplate {
            contract: ContractName::try_new(contract).unwrap(),
            action: ActionName::try_new(action).unwrap(),
            with: names.iter().map(|name| ((*name).to_owned(), "0".to_owned())).collect(),
        }),
        checks: None,
        points: BTreeMap::new(),
    })
}

/// The rules of the plant, by trigger and device.
pub fn rules() -> Vec<RuleRecord> {
    let mut rules = Vec::new();
    for device in ["press-01", "press-02", "press-03"] {
        rules.push(rule(device, "bearing-worn", Some(("maintenance-order", "report", &["fault", "skill", "peak"]))));
        rules.push(rule(device, "oil-low", Some(("maintenance-order", "report", &["fault", "skill"]))));
        rules.push(rule(device, "bearing-good", Some(("maintenance-order", "confirm", &["fault"]))));
        rules.push(rule(device, "door-open", None));
        rules.push(rule(device, "strange-contract", Some(("no-such-contract", "report", &[]))));
        rules.push(rule(device, "strange-action", Some(("maintenance-order", "explode", &[]))));
    }
    rules
}

/// The genesis of the plant, as an operator would write it. Keys are inline here, files in life.
pub const GENESIS: &str = "
admins: [acme]
issuer: bank
parties:
  - {id: acme, kind: organisation, name: ACME Press Works, key: acme.pem}
  - {id: fixit, kind: organisation, name: Fixit, key: fixit.pem}
  - {id: bank, kind: organisation, key: bank.pem}
  - {id: agent-01, kind: agent, firm: acme, key: agent-01.pem}
  - {id: agent-02, kind: agent, firm: acme, key: agent-02.pem}
  - {id: olga, kind: person, firm: acme, key: olga.pem}
  - {id: tina, kind: person, firm: fixit, skills: [bearing, oil], key: tina.pem}
  - {id: tom, kind: person, firm: fixit, skills: [bearing], key: tom.pem}
  - {id: ted, kind: person, firm: fixit, skills: [paint], key: ted.pem}
  - {id: judge, kind: regulator, key: judge.pem}
devices:
  - {id: press-01, agent: agent-01, owner: acme}
  - {id: press-02, agent: agent-01, owner: acme}
  - {id: press-03, agent: agent-02, owner: acme}
issue:
  - {owner: acme, currency: EUR, amount: \"10000.00\"}
contracts: [maintenance-order]
standing:
  - {contract: maintenance-order, device: press-01, maintainer: fixit, arbiter: judge, price: 50000, penalty: \"50.00\", currency: EUR, skill: bearing}
  - {contract: maintenance-order, device: press-03, maintainer: fixit, price: 50000, penalty: 30000, currency: EUR, skill: paint, respond: 30s}
";

pub fn read_pem(file: &str) -> Result<String, String> {
    let id = file.strip_suffix(".pem").ok_or_else(|| "no such file".to_owned())?;
    key(id).public().to_pem().map_err(|fault| fault.to_string())
}

pub fn genesis() -> Genesis {
    let mut genesis = Genesis::from_yaml(GENESIS, &read_pem)
        .unwrap_or_else(|faults| panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")));
    genesis.rules = rules();
    genesis
}

/// A ledger in memory.
#[derive(Clone)]
pub struct World {
    pub state: State,
    pub now: Timestamp,
    pub entry: u64,
    /// Next trigger number per agent, and next reading.
    pub numbers: BTreeMap<String, u64>,
    pub reading: u64,
}

impl World {
    pub fn empty() -> Self {
        let now = Timestamp::from_micros(START);
        Self { state: State::new(), now, entry: 0, numbers: BTreeMap::new(), reading: 0 }
    }

    pub fn founded(kernel: &Kernel) -> Self {
        Self::founded_as(kernel, &genesis())
    }

    pub fn founded_as(kernel: &Kernel, genesis: &Genesis) -> Self {
        let mut world = Self::empty();
        world.call_as(kernel, LEDGER, KeyId([0; 32]), &genesis_body(genesis)).unwrap();
        world
    }

    pub fn block(&self) -> Block {
        Block { ledger: LEDGER.into(), height: self.entry, time: self.now }
    }

    /// Executes one input and checks what must hold after every input.
    pub fn execute(&mut self, kernel: &Kernel, input: &Input<'_>) -> Result<Vec<Event>, Refusal> {
        let before = self.state.clone();
        let mut overlay = Overlay::new(&before);
        let done = kernel.execute(&mut overlay, &self.block(), input);
        let changes = overlay.into_changes();
        if done.is_err() {
            assert!(changes.is_empty(), "a refused input leaves no trace");
        }
        for (key, value) in changes {
            match value {
                Some(value) => self.state.insert(key, value),
                None => self.state.remove(&key),
            };
        }
        done
    }

    pub fn call_as(
        &mut self,
        kernel: &Kernel,
        signer: &str,
        key: KeyId,
        body: &CallBody,
    ) -> Result<Vec<Event>, Refusal> {
        let signer = party(signer);
        let done = self.execute(kernel, &Input::Call { entry: self.entry, signer: &signer, key, body });
        self.entry += 1;
        done
    }

    pub fn call(&mut self, kernel: &Kernel, signer: &str, body: &CallBody) -> Result<Vec<Event>, Refusal> {
        self.call_as(kernel, signer, key_id(signer), body)
    }

    pub fn trigger(&mut self, kernel: &Kernel, signer: &str, body: &TriggerBody) -> Result<Vec<Event>, Refusal> {
        let id = party(signer);
        let input = Input::Trigger { entry: self.entry, signer: &id, key: key_id(signer), body };
        let done = self.execute(kernel, &input);
        self.entry += 1;
        done
    }

    /// Runs every term due by now, in rounds, as a node does block by block.
    pub fn run_terms(&mut self, kernel: &Kernel) -> Vec<Result<Vec<Event>, Refusal>> {
        let mut done = Vec::new();
        loop {
            let due = kernel.due_terms(&self.state, self.now, 10);
            if due.is_empty() {
                return done;
            }
            for (agreement, due) in &due {
                done.push(self.execute(kernel, &Input::Term { agreement, due: *due }));
            }
        }
    }

    /// What must hold at any time, seen from outside.
    pub fn check(&self) {
        for (currency, total) in views::totals(&self.state) {
            assert_eq!(total, 0, "total of {currency}");
        }
        for account in views::accounts(&self.state) {
            assert!(account.balance_minor >= 0 || account.id.starts_with("issue:"), "{account:?}");
        }
        for agreement in views::agreements(&self.state, &views::AgreementFilter::default(), usize::MAX) {
            assert!(!agreement.ended || agreement.escrow_minor == 0 && agreement.due.is_none(), "{agreement:?}");
        }
    }
}

/// A policy of the plant: fixit may set the setpoint of these devices, from 0 to 80.
pub fn policy(id: &str, devices: &[&str]) -> Policy {
    let setpoint = Allowed { address: "holding:17".into(), rights: vec![Right::Write], range: Some((0.0, 80.0)) };
    Policy {
        id: id.parse().unwrap(),
        devices: devices.iter().map(|device| device.parse().unwrap()).collect(),
        who: vec![Who { firm: Some(party("fixit")), skill: None, party: None, sender: None }],
        points: [("setpoint".parse().unwrap(), setpoint)].into(),
        rate: None,
        hours: None,
        days: None,
        from: None,
        until: None,
        lasts: std::time::Duration::from_secs(600),
    }
}

pub fn call_body(contract: &str, action: &str, agreement: Option<&str>, args: BTreeMap<String, Cbor>) -> CallBody {
    CallBody {
        contract: ContractName::try_new(contract).unwrap(),
        action: ActionName::try_new(action).unwrap(),
        agreement: agreement.map(|id| AgreementId::try_new(id).unwrap()),
        args,
        nonce: [1; 16],
        at: Timestamp::from_micros(START),
    }
}

/// A trigger of one of the [`rules`], with the call its rule asks for.
pub fn trigger_body(
    device: &str,
    trigger: &str,
    number: u64,
    last: u64,
    at: Timestamp,
    with: BTreeMap<String, Value>,
) -> TriggerBody {
    let known = rules();
    let rule = known.iter().find(|rule| rule.rule.device.as_str() == device && rule.rule.id.as_str() == trigger);
    let digest: Hash = rule.map_or([0; 32], RuleRecord::digest);
    let call = rule.and_then(|rule| rule.rule.call.as_ref());
    TriggerBody {
        trigger: TriggerId::try_new(trigger).unwrap(),
        device: DeviceId::try_new(device).unwrap(),
        rule: digest,
        transition: Transition::Raised,
        priority: Priority::High,
        at,
        readings: ReadingsClaim { first: last, last, root: [1; 32], head: [2; 32], points: BTreeMap::new() },
        number,
        call: call.map(|call| TriggerCall { contract: call.contract.clone(), action: call.action.clone(), with }),
        clock: None,
        grade: Default::default(),
        mapping: None,
        origins: Vec::new(),
        quality: None,
    }
}

/// What the validator says of each call as `top`: nothing, or why it is not in the format.
/// Formats are named without `.cddl`.
pub fn hold_against(top: &str, formats: &[&str], calls: &[CallBody]) -> Vec<Option<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "{} is missing; run `cargo xtask tools`", python.display());
    let mut child = Command::new(python)
        .arg(root.join("tests/interop/cddl_check.py"))
        .arg(top)
        .args(formats.iter().map(|name| root.join(format!("docs/formats/{name}.cddl"))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for call in calls {
        writeln!(stdin, "{}", call.encode().iter().map(|byte| format!("{byte:02x}")).collect::<String>()).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "cddl_check.py failed");
    let said: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(said.len(), calls.len());
    said.into_iter().map(|line| line.strip_prefix("no").map(|reason| reason.trim().to_owned())).collect()
}
