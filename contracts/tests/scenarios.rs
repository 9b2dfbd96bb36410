//! Plays `library/*.scenarios` (of the contract, the anchors, access and more): text tables with named columns. Every line of the contract and every refusal must occur.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{State, World, call_body, key_id, party, record, rule, trigger_body};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tally_contracts::{Contract, Input, Kernel, LIBRARY, Refusal, views};
use tally_evidence::cbor::{Cbor, bytes, text};
use tally_evidence::{
    Allowed, AnchorBody, Commitment, DeviceRecord, Event, Gap, GapReason, Opening, PartyKind, Policy, Right,
    TriggerBody, Who, possession,
};
use tally_model::{
    ActionName, AgreementId, ContractName, DeviceId, Finding, FindingCode, Grade, PointId, PolicyId, Timestamp, Value,
    parse_duration,
};

const COLUMNS: [&str; 9] = ["time", "who", "input", "args", "state", "owner", "maintainer", "escrow", "result"];

/// One line of a table, by column.
struct Line<'a> {
    number: usize,
    cells: BTreeMap<&'a str, &'a str>,
}

impl Line<'_> {
    fn cell(&self, name: &str) -> &str {
        self.cells.get(name).copied().unwrap_or_default()
    }

    /// `a=1 b='two words' #c=3`: name to value.
    fn args(&self) -> BTreeMap<String, String> {
        let mut args = BTreeMap::new();
        let mut rest = self.cell("args").trim();
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').unwrap_or_else(|| panic!("line {}: `{rest}`", self.number));
            let (value, after) = match after.strip_prefix('\'') {
                Some(quoted) => quoted.split_once('\'').map(|(value, rest)| (format!("'{value}"), rest)).unwrap(),
                None => after.split_once(' ').map_or((after.into(), ""), |(value, rest)| (value.to_owned(), rest)),
            };
            args.insert(name.trim().to_owned(), value);
            rest = after.trim_start();
        }
        args
    }
}

/// Plays one scenario after another; each begins with the founded plant.
struct Player {
    kernel: Kernel,
    founded: World,
    world: World,
    agreement: String,
    lines: BTreeSet<u64>,
    refusals: BTreeSet<u16>,
    /// The last anchor taken of each device.
    anchors: BTreeMap<String, AnchorBody>,
}

#[test]
fn every_line_and_every_refusal() {
    let kernel = Kernel::new();
    let founded = World::founded(&kernel);
    let mut player = Player {
        kernel,
        world: founded.clone(),
        founded,
        agreement: "mo-1".into(),
        lines: BTreeSet::new(),
        refusals: BTreeSet::new(),
        anchors: BTreeMap::new(),
    };
    for file in ["maintenance-order", "anchors", "access", "identity", "attest", "privacy", "retire"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("library/{file}.scenarios"));
        player.play(&std::fs::read_to_string(path).unwrap());
    }

    let contract = Contract::from_yaml(LIBRARY[0].1).unwrap();
    let missed = contract.transitions.iter().filter(|way| !player.lines.contains(&way.line));
    let missed: Vec<_> = missed.map(|way| format!("line {}: {}", way.line, way.label())).collect();
    assert!(missed.is_empty(), "transitions without a scenario:\n{}", missed.join("\n"));
    let missed = Refusal::ALL.iter().filter(|number| !player.refusals.contains(number));
    let missed: Vec<_> = missed.map(|number| format!("{number} {}", Refusal::name(*number))).collect();
    assert!(missed.is_empty(), "refusals without a scenario:\n{}", missed.join("\n"));
}

impl Player {
    fn play(&mut self, file: &str) {
        let mut columns: Vec<&str> = Vec::new();
        for (place, line) in file.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with("scenario:") {
                self.world = self.founded.clone();
                self.agreement = "mo-1".into();
                self.anchors.clear();
                columns.clear();
                continue;
            }
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if columns.is_empty() {
                assert!(cells.iter().all(|name| COLUMNS.contains(name)), "line {}: {line}", place + 1);
                columns = cells;
                continue;
            }
            assert_eq!(cells.len(), columns.len(), "line {}: {line}", place + 1);
            self.line(&Line { number: place + 1, cells: columns.iter().copied().zip(cells).collect() });
        }
    }

    fn line(&mut self, line: &Line<'_>) {
        let offset = parse_duration(line.cell("time")).unwrap();
        self.world.now = Timestamp::from_micros(common::START).plus(offset);
        let done = self.input(line);
        let found = match &done {
            Ok(events) => events.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>().join(" "),
            Err(refusal) => {
                self.refusals.insert(refusal.number());
                format!("refused {}", refusal.number())
            }
        };
        let why = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(found, line.cell("result"), "line {}: {why}", line.number);
        for event in done.iter().flatten() {
            let taken = event.data.get("line").and_then(Cbor::as_integer);
            self.lines.extend(taken.map(|line| u64::try_from(line).unwrap()));
        }
        self.expect(line);
        // A line that breaks the state on purpose cannot keep what holds otherwise.
        if line.cell("input") != "tamper"
            && line.cell("result") != "refused 191"
            && line.cell("result") != "refused 192"
        {
            self.world.check();
        }
    }

    /// The state and balances after the line; `-` is not looked at.
    fn expect(&self, line: &Line<'_>) {
        let agreement = views::agreement(&self.world.state, &AgreementId::try_new(&self.agreement).unwrap());
        let balance = |account: &str| {
            let accounts = views::accounts(&self.world.state);
            accounts.iter().find(|view| view.id == account).map_or(0, |view| view.balance_minor).to_string()
        };
        let found = BTreeMap::from([
            ("state", agreement.map_or("none".to_owned(), |agreement| agreement.state)),
            ("owner", balance("acme/EUR")),
            ("maintainer", balance("fixit/EUR")),
            ("escrow", balance(&format!("escrow:{}", self.agreement))),
        ]);
        for (column, found) in found {
            let Some(expected) = line.cells.get(column).copied() else { continue };
            assert!(expected == "-" || expected == found, "line {}: {column} is {found}", line.number);
        }
    }

    fn input(&mut self, line: &Line<'_>) -> Result<Vec<Event>, Refusal> {
        let mut args = line.args();
        if let Some(id) = args.remove("#agreement") {
            self.agreement = id;
        }
        match line.cell("input").split_once(' ') {
            Some(("trigger", trigger)) => self.trigger(line.cell("who"), trigger, args),
            Some(("anchor", range)) => self.anchor(line.cell("who"), range, &args),
            Some(("term", at)) => {
                let due = Timestamp::from_micros(common::START).plus(parse_duration(at).unwrap());
                let agreement = AgreementId::try_new(&self.agreement).unwrap();
                self.world.execute(&self.kernel, &Input::Term { agreement: &agreement, due })
            }
            None if line.cell("input") == "term" => {
                let done: Result<Vec<_>, _> = self.world.run_terms(&self.kernel).into_iter().collect();
                done.map(|events| events.concat())
            }
            None if line.cell("input") == "tamper" => {
                tamper(&mut self.world.state, &args);
                Ok(Vec::new())
            }
            _ => self.call(line.cell("who"), line.cell("input"), args),
        }
    }

    fn trigger(&mut self, who: &str, trigger: &str, mut args: BTreeMap<String, String>) -> Result<Vec<Event>, Refusal> {
        let world = &mut self.world;
        let next = world.numbers.entry(who.trim_end_matches('!').to_owned()).or_default();
        let number = args.remove("#number").map_or(*next, |number| number.parse().unwrap());
        let last = args.remove("#last").map_or(world.reading + 10, |last| last.parse().unwrap());
        let device = args.remove("#device").unwrap_or_else(|| "press-01".into());
        let at = args.remove("#at").map_or(world.now, |at| world.now.plus(parse_duration(&at).unwrap()));
        let quality = args.remove("#quality").map(|word| findings(&word));
        let grade = args.remove("#grade").map_or(Grade::Agent, |grade| grade.parse().unwrap());
        let overrides: Vec<_> = ["#rule", "#cleared", "#action"].map(|name| args.remove(name)).into();
        let with = args.into_iter().map(|(name, value)| (name, scalar(&value))).collect();
        let mut body: TriggerBody = trigger_body(&device, trigger, number, last, at, with);
        (body.grade, body.quality) = (grade, quality);
        let [rule, cleared, action] = overrides.as_slice() else { unreachable!() };
        if rule.is_some() {
            body.rule = [9; 32];
        }
        if cleared.is_some() {
            body.transition = tally_evidence::Transition::Cleared;
            body.call = None;
        }
        if let (Some(action), Some(call)) = (action, &mut body.call) {
            call.action = ActionName::try_new(action).unwrap();
        }
        let signer = party(who.trim_end_matches('!'));
        let key = key_id(who);
        let input = Input::Trigger { entry: world.entry, signer: &signer, key, body: &body };
        let done = world.execute(&self.kernel, &input);
        world.entry += 1;
        if done.is_ok() {
            world.numbers.insert(signer.to_string(), number + 1);
            world.reading = world.reading.max(last);
        }
        done
    }

    fn anchor(&mut self, who: &str, range: &str, args: &BTreeMap<String, String>) -> Result<Vec<Event>, Refusal> {
        let device = args.get("#device").map_or("press-01", String::as_str).to_owned();
        let before = self.anchors.get(&device);
        let numbers = |text: &str| text.split_once('-').map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap())).unwrap();
        let (first, last) = numbers(range);
        let at = args.get("#at").map_or(self.world.now, |at| self.world.now.plus(parse_duration(at).unwrap()));
        let number = args.get("#number").map_or(before.map_or(1, |before| before.number + 1), |n| n.parse().unwrap());
        let digest = before.map_or([8; 32], AnchorBody::digest);
        let previous = if args.contains_key("#previous") { [9; 32] } else { digest };
        let gap = args.get("#gap").map(|gap| {
            let (reason, readings) = gap.split_once(':').map_or((gap.as_str(), None), |(a, b)| (a, Some(numbers(b))));
            let reasons = [GapReason::Stopped, GapReason::NotKept, GapReason::Refused, GapReason::NewVault];
            let reason = reasons.into_iter().find(|known| known.word() == reason).unwrap();
            Gap { reason, from: Some(at), to: at, readings }
        });
        let body = AnchorBody {
            device: DeviceId::try_new(&device).unwrap(),
            number,
            previous: if number == 1 { [0; 32] } else { previous },
            first,
            last,
            root: [1; 32],
            head: [2; 32],
            received: (at, at),
            source: (at, at),
            pause: 0,
            gaps: gap.into_iter().collect(),
        };
        assert_eq!(AnchorBody::decode(&body.encode()).as_ref(), Ok(&body), "the table says what no statement can");
        let signer = party(who.trim_end_matches('!'));
        let input = Input::Anchor { entry: self.world.entry, signer: &signer, key: key_id(who), body: &body };
        let done = self.world.execute(&self.kernel, &input);
        self.world.entry += 1;
        if done.is_ok() {
            self.anchors.insert(device, body);
        }
        done
    }

    fn call(&mut self, who: &str, input: &str, mut args: BTreeMap<String, String>) -> Result<Vec<Event>, Refusal> {
        let (contract, action) = input.split_once('/').unwrap_or(("maintenance-order", input));
        let at = args.remove("#at").map(|at| self.world.now.plus(parse_duration(&at).unwrap()));
        let alone = args.remove("#alone").is_some() || contract != "maintenance-order";
        let fault = args.remove("#fault");
        let mut more = BTreeMap::new();
        if let Some((name, party)) = args.remove("key").as_deref().and_then(|key| key.split_once(':')) {
            let new = common::key(name);
            let proof = new.sign(&possession(common::LEDGER, &common::party(party), new.public()));
            more.insert("key".to_owned(), bytes(new.public().sec1().to_vec()));
            more.insert("proof".to_owned(), bytes(proof));
        }
        let args = args.into_iter().map(|(name, value)| (name.clone(), argument(&name, &value))).chain(more);
        let agreement = self.agreement.clone();
        let mut body = call_body(contract, action, (!alone).then_some(agreement.as_str()), args.collect());
        body.at = at.unwrap_or(self.world.now);
        if fault.is_some() {
            body.contract = ContractName::try_new("accounts-of-old").unwrap();
        }
        // `tina!` is somebody who claims to be tina: the id without, the key with the mark.
        self.world.call_as(&self.kernel, who.trim_end_matches('!'), key_id(who), &body)
    }
}

/// As `library/attest.scenarios` says.
fn attested(k: &str) -> String {
    let whole = LIBRARY[0].1;
    let attest =
        format!("\nversion: 2\nattest:\n  report: {{k: {k}, of: sensors, within: 30s, tolerance: {{peak: 0.5}}}}\n");
    let whole = whole.replacen("\nversion: 1\n", &attest, 1);
    let whole = whole.replacen("\n  device: device\n", "\n  device: device\n  sensors: list\n", 1);
    let whole = whole.replacen("required: [maintainer,", "required: [sensors, maintainer,", 1);
    whole.replacen("fault: text, skill: \"text?\"}", "fault: text, skill: \"text?\", peak: number}", 1)
}

/// The findings that make evidence of this class.
fn findings(class: &str) -> Vec<Finding> {
    let code = match class {
        "sound" => return Vec::new(),
        "doubtful" => FindingCode::Frozen,
        _ => FindingCode::Redundant,
    };
    vec![Finding { code, point: Some(PointId::try_new("vibration").unwrap()), from: 1, to: 9, earlier: None }]
}

/// Digits are whole numbers, what begins with a quote is text whatever it looks like.
fn scalar(value: &str) -> Value {
    if let Some(text) = value.strip_prefix('\'') {
        return Value::Text(text.to_owned());
    }
    match (value.parse(), value.parse()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(number)) => Value::Float(number),
        _ => Value::Text(value.to_owned()),
    }
}

/// Some arguments of native calls are records; the tables write them as `id:kind:firm` and the like.
fn argument(name: &str, value: &str) -> Cbor {
    let parts: Vec<&str> = value.split(':').collect();
    match (name, parts.as_slice()) {
        ("party", [id, kind, firm]) => {
            record(id, PartyKind::from_word(kind).unwrap(), (*firm != "-").then_some(*firm), &["bearing"]).to_cbor()
        }
        ("device", [id, agent, owner]) => {
            let (agent, owner) = (party(agent), party(owner));
            DeviceRecord { id: DeviceId::try_new(id).unwrap(), agent, owner, site: None }.to_cbor()
        }
        ("rule", [device, id, action]) => rule(device, id, Some(("maintenance-order", action, &["fault"]))).to_cbor(),
        ("rule", [device, id, "digest", action]) => {
            let names: &[&str] = if *action == "report" { &["fault", "skill"] } else { &["fault"] };
            bytes(rule(device, id, Some(("maintenance-order", action, names))).digest())
        }
        ("admins", _) => Cbor::Array(value.split('+').map(text).collect()),
        ("policy", [id, rate, hours]) => bytes(policy(id, rate.parse().unwrap(), hours).encode()),
        ("text", ["graded"]) => {
            text(LIBRARY[0].1.replacen("\nversion: 1\n", "\nversion: 2\nrequires: {grade: device-sealed}\n", 1))
        }
        ("sensors", [devices]) => Cbor::Array(devices.split('+').map(text).collect()),
        ("text", ["attested", k]) => text(attested(k)),
        ("text", ["checked", quality]) => {
            let demand = format!("\nversion: 2\nrequires: {{quality: {quality}}}\n");
            text(LIBRARY[0].1.replacen("\nversion: 1\n", &demand, 1))
        }
        ("text", ["minimal", version]) => text(minimal(version)),
        ("remark", ["private", words]) => {
            let opening = Opening { salt: [7; 16], value: text(*words), name: name.to_owned() };
            Commitment::to(&opening.encode()).to_argument()
        }
        _ => tally_evidence::cbor::from_value(&scalar(value)),
    }
}

/// As `library/access.scenarios` says.
fn policy(id: &str, rate: u64, hours: &str) -> Policy {
    let (from, to) =
        hours.split_once('-').map(|(a, b)| (a.parse::<u16>().unwrap(), b.parse::<u16>().unwrap())).unwrap();
    let setpoint = Allowed { address: "holding:17".into(), rights: vec![Right::Write], range: Some((0.0, 80.0)) };
    Policy {
        id: PolicyId::try_new(id).unwrap(),
        devices: vec![DeviceId::try_new("press-01").unwrap()],
        who: vec![Who { firm: Some(party("fixit")), skill: Some("oil".into()), ..Who::default() }],
        points: [(PointId::try_new("setpoint").unwrap(), setpoint)].into(),
        rate: Some((rate, Duration::from_secs(3600))),
        hours: Some((from * 60, to * 60)),
        days: None,
        from: None,
        until: None,
        lasts: Duration::from_secs(600),
    }
}

/// The smallest contract, in the version asked for.
fn minimal(version: &str) -> String {
    format!(
        "contract: minimal\nversion: {version}\nprefix: mini\nparties: {{owner: organisation}}\nfields: {{device: device}}\n\
         key: [device]\nactions: {{begin: {{device: device}}}}\n\
         on: [{{from: new, call: begin, by: owner, to: over}}]\nends: [over]\n"
    )
}

/// What a broken disk or a bug could do to the state.
fn tamper(state: &mut State, args: &BTreeMap<String, String>) {
    if let Some(account) = args.get("currency") {
        let key = [b"a", account.as_bytes()].concat();
        let value = state.get_mut(&key).unwrap();
        let place = value.windows(3).position(|window| window == b"EUR").unwrap();
        value[place..place + 3].copy_from_slice(b"USD");
    }
    if let Some(party) = args.get("garbage") {
        state.insert([b"p", party.as_bytes()].concat(), vec![0xff]);
    }
    if let Some(contract) = args.get("standing") {
        let key = [b"s", contract.as_bytes(), b"\0press-01"].concat();
        state.remove(&key).unwrap();
    }
}
