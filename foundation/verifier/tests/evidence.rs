//! A whole little chain built by hand, and what the verifier says when any byte of it changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, cosigned, device, genesis, is_frozen, key, party};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::cbor::{Cbor, bytes, int, text};
use tally_evidence::{
    Algorithm, BatchBody, BatchEnvelope, CallBody, ChainHead, Checkpoint, Cosigner, DeviceRecord, Disclosure, Event,
    EvidenceEntry, EvidenceFile, Hash, NoteSigningKey, OutcomeRecord, PartyKind, PartyRecord, Place, ReadingsClaim,
    Receipt, RuleRecord, Salt, SignedStatement, StatementId, StatementKind, Transition, Tree, TriggerBody, TriggerCall,
    VerifyingKey, WitnessedNote, encode_reading, leaf_hash, reading_leaf, root_of, rule_digest, sign,
};
use tally_model::{
    CallTemplate, ClockState, Grade, LinkProtection, LinkProtocol, LinkSecurity, Login, Origin, PointId, Priority,
    Quality, Reading, RuleSource, Sample, Stretch, Timestamp, TriggerId, Unit, Value, ValueKind,
};
use tally_rules::{Firing, Rule, Watch};
use tally_verifier::{Report, Step, Witnesses, verify, verify_witnessed};

const SALT: Salt = [3; 16];

fn point(name: &str) -> PointId {
    PointId::try_new(name).unwrap()
}

fn rule() -> RuleSource {
    RuleSource {
        id: TriggerId::try_new("bearing-worn").unwrap(),
        device: device(),
        when: "mean(vibration, '2s') > 7.1 && running".into(),
        on_delay: Duration::from_secs(1),
        until: Some("mean(vibration, '2s') < 4.5".into()),
        priority: Priority::High,
        disclose: vec![],
        call: Some(CallTemplate {
            contract: "maintenance-order".parse().unwrap(),
            action: "report".parse().unwrap(),
            with: [("peak".to_owned(), "max(vibration, '2s')".to_owned())].into(),
        }),
        checks: None,
        points: [
            (point("vibration"), (Some(ValueKind::Float), Unit::try_new("mm/s").unwrap())),
            (point("running"), (Some(ValueKind::Bool), Unit::one())),
        ]
        .into(),
    }
}

/// Readings of three points in turn, vibration rising; with their point numbers.
fn readings() -> Vec<(Reading, u64)> {
    let mut all = Vec::new();
    for cycle in 0..60_u32 {
        let at = Timestamp::from_micros(1_790_000_000_000_000 + i64::from(cycle) * 200_000);
        let values = [
            ("vibration", "mm/s", Value::Float(2.0 + f64::from(cycle) * 0.15)),
            ("oil_temp", "Cel", Value::Float(40.0)),
            ("running", "1", Value::Bool(true)),
        ];
        for (name, unit, value) in values {
            let sample = Sample {
                seal: None,
                point: point(name),
                outcome: Ok(value),
                unit: Unit::try_new(unit).unwrap(),
                quality: Quality::Good,
                source_time: at,
                received: at,
            };
            all.push((Reading { device: device(), number: all.len() as u64, sample }, u64::from(cycle)));
        }
    }
    all
}

fn fire(readings: &[(Reading, u64)]) -> Firing {
    let mut watch = Watch::new(Arc::new(Rule::compile(&rule()).unwrap()));
    readings.iter().find_map(|(reading, _)| watch.observe(reading)).unwrap()
}

fn between(firing: &Firing, number: u64) -> bool {
    (firing.first..=firing.last).contains(&number)
}

/// The sealed trigger and the disclosure behind it.
fn trigger() -> (Vec<u8>, Disclosure) {
    trigger_by(None)
}

fn trigger_by(clock: Option<ClockState>) -> (Vec<u8>, Disclosure) {
    trigger_of("agent-01", clock, Grade::Agent, None, 2)
}

fn trigger_of(
    issuer: &str,
    clock: Option<ClockState>,
    grade: Grade,
    mapping: Option<Hash>,
    seed: u8,
) -> (Vec<u8>, Disclosure) {
    trigger_with(issuer, seed, |body| (body.clock, body.grade, body.mapping) = (clock, grade, mapping))
}

fn trigger_with(issuer: &str, seed: u8, alter: impl FnOnce(&mut TriggerBody)) -> (Vec<u8>, Disclosure) {
    let readings = readings();
    let firing = fire(&readings);
    let bytes: Vec<_> = readings.iter().map(|(reading, number)| encode_reading(reading, *number)).collect();
    let leaves: Vec<_> = bytes.iter().map(|bytes| reading_leaf(&SALT, bytes)).collect();
    let (first, last) = (usize::try_from(firing.first).unwrap(), usize::try_from(firing.last).unwrap());
    let head = leaves[..=last].iter().fold(ChainHead::start(&device()), ChainHead::extend);
    let shown = Rule::compile(&rule()).unwrap().disclosed();
    let points = readings[..=last].iter().filter(|(reading, _)| shown.contains(&reading.sample.point));
    let claim = ReadingsClaim {
        first: firing.first,
        last: firing.last,
        root: root_of(&leaves[first..=last]),
        head: head.0,
        points: points.map(|(reading, number)| (reading.sample.point.clone(), *number)).collect(),
    };
    let call = rule().call.unwrap();
    let mut body = TriggerBody {
        trigger: rule().id,
        device: device(),
        rule: rule_digest(&rule()),
        transition: Transition::Raised,
        priority: Priority::High,
        at: firing.at,
        readings: claim,
        number: 0,
        call: Some(TriggerCall { contract: call.contract, action: call.action, with: firing.with }),
        clock: None,
        grade: Grade::Agent,
        mapping: None,
        origins: Vec::new(),
        quality: None,
    };
    alter(&mut body);
    let open = |number: u64| {
        let place = usize::try_from(number).unwrap();
        shown.contains(&readings[place].0.sample.point).then(|| (SALT, bytes[place].clone()))
    };
    let disclosure = Disclosure::build(device(), firing.first, &leaves[first..=last], &open);
    let sealed = sign(
        StatementKind::Trigger,
        &key(seed),
        &party(issuer),
        "press-01",
        LEDGER,
        firing.at.as_seconds(),
        body.encode(),
    );
    (sealed, disclosure)
}

/// A ledger of one statement a block, done by hand.
fn ledger(statements: &[(Vec<u8>, Vec<Event>, Option<Disclosure>)]) -> EvidenceFile {
    let mut tree = Tree::default();
    let mut previous: Hash = [0; 32];
    let mut entries = Vec::new();
    for (height, (bytes, events, disclosure)) in statements.iter().enumerate() {
        let statement = BatchEnvelope::statement_in(bytes).unwrap().to_vec();
        let batched = BatchEnvelope::split(bytes).ok().and_then(|batch| batch.show(ITEM));
        let parsed = SignedStatement::parse(&statement).unwrap();
        let index = height as u64;
        tree.push(leaf_hash(&parsed.id.0));
        let place = match &batched {
            Some(_) => Place::Item { index, statement: parsed.id, item: ITEM },
            None => Place::Entry { index, statement: parsed.id },
        };
        let outcome = OutcomeRecord { place, height: index, refusal: 0, events: events.clone() }.encode();
        // Neighbours in the outcome tree, so that the path is not empty: a term's, or a batch's and its other triggers'.
        let mut outcomes = vec![leaf_hash(b"another outcome"); if batched.is_some() { 7 } else { 2 }];
        let outcome_index = if batched.is_some() { u64::from(ITEM) + 1 } else { 1 };
        outcomes[usize::try_from(outcome_index).unwrap()] = leaf_hash(&outcome);
        let mut outcome_tree = Tree::default();
        outcomes.iter().for_each(|leaf| outcome_tree.push(*leaf));
        let checkpoint = Checkpoint {
            ledger: LEDGER.into(),
            height: index,
            size: tree.size(),
            root: tree.root(),
            state: [0; 32],
            outcomes: outcome_tree.root(),
            outcome_count: outcome_tree.size(),
            time: Timestamp::from_micros(1_790_000_020_000_000),
            previous,
        };
        previous = checkpoint.digest();
        let path = tree.inclusion_path(index, tree.size()).unwrap();
        entries.push(EvidenceEntry {
            statement,
            batched,
            receipt: Receipt::issue(&key(1), LEDGER, &parsed.subject, tree.size(), index, &path, &tree.root()),
            outcome,
            outcome_index,
            outcome_path: outcome_tree.inclusion_path(outcome_index, outcome_tree.size()).unwrap(),
            checkpoint: checkpoint.seal(&key(1)),
            disclosure: disclosure.as_ref().map(Disclosure::encode),
        });
    }
    let agreement = "mo-1".to_owned();
    EvidenceFile {
        ledger: LEDGER.into(),
        key: key(1).public().clone(),
        agreement,
        entries,
        terms: vec![],
        witnessed: None,
    }
}

/// The same with a note over all entries, cosigned by two witnesses, of which each kind of key is one.
fn witnessed_evidence() -> (EvidenceFile, Vec<Cosigner>) {
    let file = evidence();
    let (note, witnesses) = cosigned(&file.entries);
    (EvidenceFile { witnessed: Some(note), ..file }, witnesses)
}

#[test]
fn the_word_of_witnesses_is_counted_by_those_the_reader_knows() {
    let (file, witnesses) = witnessed_evidence();
    let stranger = NoteSigningKey::from_secret(Algorithm::Ed25519, &[8; 32]).unwrap();
    let stranger = Cosigner::new("w1", stranger.public().clone()).unwrap();
    let twice = Cosigner::new("w3", witnesses[0].key().clone()).unwrap();
    let verified = |file: &EvidenceFile, known: &[&Cosigner], need| {
        let witnesses = Witnesses { known: known.iter().map(|known| (*known).clone()).collect(), need };
        verify_witnessed(&file.encode(), Some(key(1).public()), &witnesses).first_broken().map(|link| link.step)
    };
    assert_eq!(verified(&file, &[], 0), None);
    assert_eq!(verified(&file, &[&witnesses[0], &witnesses[1]], 2), None);
    assert_eq!(verified(&file, &[&witnesses[0], &stranger], 1), None);
    assert_eq!(verified(&file, &[&witnesses[0], &stranger], 2), Some(Step::Witness), "of a stranger with a known name");
    assert_eq!(verified(&file, &[&witnesses[0], &twice], 2), Some(Step::Witness), "one key under two names");
    assert_eq!(verified(&evidence(), &[&witnesses[0]], 1), Some(Step::Witness), "none in the file");
    type Forge = fn(&mut WitnessedNote);
    let forgeries: [Forge; 5] = [
        |given| given.paths[1].pop().map_or((), drop),
        |given| given.paths.truncate(1),
        |given| given.paths.swap(0, 1),
        |given| given.witnesses.truncate(1),
        |given| given.note = given.note.replacen("\n3\n", "\n4\n", 1),
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        let mut file = file.clone();
        forge(file.witnessed.as_mut().unwrap());
        assert_eq!(verified(&file, &[], 0), Some(Step::Witness), "forgery {number}");
    }
}

/// `tests/formats/witnessed.tally`, with which others compare their verifiers.
#[test]
fn the_frozen_witnessed_file_is_this_one() {
    is_frozen("witnessed.tally", &witnessed_evidence().0.encode());
}

#[test]
fn every_flipped_byte_of_a_witnessed_file_breaks_a_named_link() {
    let file = witnessed_evidence().0.encode();
    for place in 0..file.len() {
        let mut forged = file.clone();
        forged[place] ^= 1 << (place % 8);
        assert!(verify(&forged, None).first_broken().is_some(), "byte {place} of {} does not matter", file.len());
    }
}

fn opened() -> Vec<Event> {
    let data = BTreeMap::from([("state".to_owned(), text("dispatched"))]);
    vec![Event { kind: "agreement.opened".into(), subject: "mo-1".into(), data }]
}

fn evidence() -> EvidenceFile {
    let (sealed, disclosure) = trigger();
    ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, opened(), Some(disclosure))])
}

/// From reading `from` on over this link, signed with this certificate; nothing protects it without one.
fn stretch(from: u64, certificate: Option<[u8; 32]>) -> Stretch {
    let link = LinkSecurity {
        protocol: LinkProtocol::OpcUa,
        protection: if certificate.is_some() { LinkProtection::SignEncrypt } else { LinkProtection::None },
        policy: Some("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256".to_owned()),
        certificate,
        login: Some(Login::UserName),
    };
    Stretch { from, origin: Origin { link, identity: certificate.map(|_| "Acme; Press 7; 2.3".to_owned()) } }
}

/// The readings of the trigger came over three links, one after the other.
fn evidence_with_origins(stretches: Vec<Stretch>) -> EvidenceFile {
    let (sealed, disclosure) = trigger_with("agent-01", 2, |body| body.origins = stretches);
    ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, opened(), Some(disclosure))])
}

fn three_links() -> Vec<Stretch> {
    let first = fire(&readings()).first;
    vec![stretch(first, Some([7; 32])), stretch(first + 1, None), stretch(first + 2, Some([8; 32]))]
}

/// The frozen file with the origins of readings that other people's verifiers are tried on.
#[test]
fn the_frozen_file_with_origins_is_this_one() {
    is_frozen("origins.tally", &evidence_with_origins(three_links()).encode());
}

#[test]
fn the_report_says_over_which_link_each_reading_came() {
    let report = verify(&evidence_with_origins(three_links()).encode(), Some(key(1).public()));
    assert!(report.all_hold(), "{:?}", report.first_broken());
    let firing = fire(&readings());
    let told: Vec<_> = report.origins.iter().map(|one| (one.from, one.to, one.security)).collect();
    let (first, last) = (firing.first, firing.last);
    let expected = [(first, first, "sign-encrypt"), (first + 1, first + 1, "none"), (first + 2, last, "sign-encrypt")];
    assert_eq!(told, expected);
    assert_eq!(report.origins[2].certificate, Some("08".repeat(32)));
    assert!(report.origins[0].text.contains("Acme; Press 7; 2.3"), "{}", report.origins[0].text);
    // An agent that did not say it: nothing is checked and nothing told.
    let silent = verify(&evidence().encode(), None);
    assert!(silent.all_hold() && silent.origins.is_empty());
    assert!(silent.links.iter().all(|link| link.step != Step::Origin));
}

#[test]
fn origins_of_readings_that_are_not_the_triggers_do_not_hold() {
    let last = fire(&readings()).last;
    let report = verify(&evidence_with_origins(vec![stretch(last + 1, None)]).encode(), None);
    assert_eq!(broken(&report), Step::Origin);
    assert!(report.origins.is_empty());
}

#[test]
fn every_flipped_byte_of_the_origins_breaks_a_named_link() {
    let file = evidence_with_origins(three_links());
    let statement = &file.entries[1].statement;
    let place = file.encode().windows(statement.len()).position(|bytes| bytes == statement.as_slice()).unwrap();
    let begin = place + statement.windows(7).position(|bytes| bytes == b"origins").unwrap();
    for place in begin..begin + 400 {
        let mut forged = file.encode();
        forged[place] ^= 1 << (place % 8);
        broken(&verify(&forged, None));
    }
}

/// Place of the trigger in its batch.
const ITEM: u32 = 3;

/// A batch of six triggers by `agent`'s key, of which number [`ITEM`] is the true one; the others are no business of the reader.
fn batch(seed: u8, subject: &str) -> (Vec<u8>, Disclosure) {
    let (sealed, disclosure) = trigger();
    let body = TriggerBody::decode(&SignedStatement::parse(&sealed).unwrap().payload).unwrap();
    let bodies: Vec<_> = (0..6).map(|number| TriggerBody { number: 40 + number, ..body.clone() }.encode()).collect();
    let sealed = BatchBody::over(40, &bodies).unwrap().encode();
    let statement = sign(StatementKind::Batch, &key(seed), &party("agent-01"), subject, LEDGER, 0, sealed);
    (BatchEnvelope::encode(&statement, &bodies), disclosure)
}

fn batched_evidence() -> EvidenceFile {
    let (envelope, disclosure) = batch(2, "agent-01");
    ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (envelope, opened(), Some(disclosure))])
}

fn broken(report: &Report) -> Step {
    report.first_broken().unwrap_or_else(|| panic!("everything holds: {report:#?}")).step
}

#[test]
fn a_true_chain_holds_link_by_link() {
    let report = verify(&evidence().encode(), Some(key(1).public()));
    assert!(report.all_hold(), "{report:#?}");
    for step in [
        Step::File,
        Step::LedgerKey,
        Step::DeviceBinding,
        Step::Seal,
        Step::Inclusion,
        Step::Checkpoint,
        Step::Outcome,
        Step::Readings,
        Step::Rule,
        Step::Recomputed,
        Step::History,
    ] {
        assert!(report.links.iter().any(|link| link.step == step), "{step} is not checked");
    }
    assert_eq!(report.story, ["agreement.opened state dispatched"]);
}

#[test]
fn every_flipped_byte_breaks_a_named_link() {
    let file = evidence().encode();
    for place in 0..file.len() {
        let mut forged = file.clone();
        forged[place] ^= 1 << (place % 8);
        let report = verify(&forged, None);
        assert!(report.first_broken().is_some(), "byte {place} of {} does not matter", file.len());
    }
}

#[test]
fn a_trigger_of_a_batch_holds_without_the_others() {
    let file = batched_evidence();
    let report = verify(&file.encode(), Some(key(1).public()));
    assert!(report.all_hold(), "{report:#?}");
    let link = report.links.iter().find(|link| link.step == Step::Batch).unwrap();
    assert_eq!(link.about, "entry 1.3 (trigger bearing-worn raised)");
    let batched = file.entries[1].batched.clone().unwrap();
    assert_eq!(batched.path.len(), 3, "of six triggers one and three hashes");
    assert!(file.entries[1].statement.len() < 500);
}

/// The file that other people's verifiers are tried on. Signing is deterministic, so it is the same bytes each time.
#[test]
fn the_frozen_file_of_a_batched_trigger_is_this_one() {
    is_frozen("mo-1-batched.tally", &batched_evidence().encode());
}

#[test]
fn every_flipped_byte_of_a_batched_trigger_breaks_a_named_link() {
    let file = batched_evidence().encode();
    let mut steps = std::collections::BTreeSet::new();
    for place in 0..file.len() {
        let mut forged = file.clone();
        forged[place] ^= 1 << (place % 8);
        steps.insert(broken(&verify(&forged, None)).to_string());
    }
    for step in ["file", "statement", "inclusion", "outcome", "checkpoint", "batch", "readings → root"] {
        assert!(steps.contains(step), "{step} is never the first to break: {steps:?}");
    }
}

#[test]
fn a_trigger_that_its_batch_does_not_seal_is_noticed() {
    let good = batched_evidence();
    type Forge = fn(&mut EvidenceEntry);
    let forgeries: [(Forge, Step); 5] = [
        (|entry| entry.batched = None, Step::Statement),
        (|entry| entry.batched.as_mut().unwrap().item = 2, Step::Outcome),
        (|entry| entry.batched.as_mut().unwrap().path.truncate(2), Step::Batch),
        (
            |entry| {
                let batched = entry.batched.as_mut().unwrap();
                let mut body = TriggerBody::decode(&batched.body).unwrap();
                body.at = body.at.plus(Duration::from_millis(1));
                batched.body = body.encode();
            },
            Step::Batch,
        ),
        (|entry| entry.batched.as_mut().unwrap().body.truncate(9), Step::Statement),
    ];
    for (forge, step) in forgeries {
        let mut file = good.clone();
        forge(&mut file.entries[1]);
        assert_eq!(broken(&verify(&file.encode(), None)), step);
    }
    // A call with a trigger beside it, a batch about a device, a batch of somebody else.
    let mut file = good.clone();
    file.entries[0].batched = file.entries[1].batched.clone();
    assert_eq!(broken(&verify(&file.encode(), None)), Step::Statement);
    for (seed, subject, step) in [(2, "press-01", Step::Statement), (7, "agent-01", Step::Seal)] {
        let (envelope, disclosure) = batch(seed, subject);
        let file =
            ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (envelope, opened(), Some(disclosure))]);
        assert_eq!(broken(&verify(&file.encode(), None)), step);
    }
}

#[test]
fn a_cut_file_is_no_file() {
    let file = evidence().encode();
    for length in [0, 1, file.len() / 2, file.len() - 1] {
        assert_eq!(broken(&verify(&file[..length], None)), Step::File);
    }
}

#[test]
fn another_ledger_key_is_noticed() {
    let other: VerifyingKey = key(9).public().clone();
    assert_eq!(broken(&verify(&evidence().encode(), Some(&other))), Step::LedgerKey);
}

#[test]
fn a_hidden_reading_of_a_shown_point_is_noticed() {
    let (sealed, disclosure) = trigger();
    let firing = fire(&readings());
    let all = readings();
    let bytes = |number: u64| {
        let (reading, point_number) = &all[usize::try_from(number).unwrap()];
        encode_reading(reading, *point_number)
    };
    let leaves: Vec<_> = (firing.first..=firing.last).map(|number| reading_leaf(&SALT, &bytes(number))).collect();
    // Shows everything the rule reads but one vibration reading in the middle: the root is still right.
    let hidden = (firing.first + 5..firing.last)
        .find(|n| all[usize::try_from(*n).unwrap()].0.sample.point == point("vibration"));
    let open = |number: u64| {
        let shown = all[usize::try_from(number).unwrap()].0.sample.point != point("oil_temp");
        (shown && Some(number) != hidden).then(|| (SALT, bytes(number)))
    };
    let forged = Disclosure::build(device(), firing.first, &leaves, &open);
    assert_eq!(forged.root(), disclosure.root());
    assert!(between(&firing, hidden.unwrap()));
    let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, opened(), Some(forged))]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::Readings);
}

#[test]
fn the_grade_of_a_trigger_is_shown() {
    for (grade, mapping) in [(Grade::Agent, None), (Grade::Gateway, None), (Grade::Device, Some([0xab; 32]))] {
        let (sealed, disclosure) = trigger_of("agent-01", None, grade, mapping, 2);
        let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, opened(), Some(disclosure))]);
        let report = verify(&file.encode(), None);
        // Nobody need believe the agent that the device sealed: its seals are not there.
        let expected = (grade == Grade::Device).then_some(Step::DeviceSeal);
        assert_eq!(report.first_broken().map(|link| link.step), expected, "{report:#?}");
        let [graded] = report.grades.as_slice() else { panic!("one trigger: {:?}", report.grades) };
        assert_eq!((graded.about.as_str(), graded.grade), ("entry 1 (trigger bearing-worn raised)", grade.word()));
        assert_eq!(graded.mapping, mapping.map(|_| "ab".repeat(32)));
    }
}

/// A call of the registry, sealed by `issuer` with the key of `seed`.
fn registry(issuer: &str, seed: u8, action: &str, args: &[(&str, Cbor)]) -> Vec<u8> {
    let body = CallBody {
        contract: "registry".parse().unwrap(),
        action: action.parse().unwrap(),
        agreement: None,
        args: args.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        nonce: [seed; 16],
        at: Timestamp::from_micros(0),
    };
    sign(StatementKind::Call, &key(seed), &party(issuer), "registry", LEDGER, 0, body.encode())
}

fn happened(kind: &str, subject: &str, data: &[(&str, Cbor)]) -> Event {
    let data = data.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Event { kind: kind.into(), subject: subject.into(), data }
}

fn agent(id: &str, seed: u8) -> Cbor {
    let (kind, name, key) = (PartyKind::Agent, id.to_owned(), key(seed).public().clone());
    PartyRecord { id: party(id), kind, name, key, firm: None, skills: vec![] }.to_cbor()
}

/// The agent of the device is another one since, and has another key since: its trigger is sealed with the key of `seed`, at a time
/// when the old one (4) speaks `until` beside the new one (5).
fn identity_evidence(seed: u8, until: Option<i64>) -> EvidenceFile {
    let bound = DeviceRecord {
        id: device(),
        agent: party("agent-02"),
        owner: party("acme"),
        site: Some("hall-3".parse().unwrap()),
    };
    let many =
        [("parties", Cbor::Array(vec![agent("agent-01", 9), agent("agent-02", 4)])), ("devices", Cbor::Array(vec![]))];
    let refused = [("list", text("parties")), ("place", int(0)), ("refusal", int(161))];
    let new = key(5);
    let rotate = [("party", text("agent-02")), ("key", bytes(new.public().sec1().to_vec())), ("proof", bytes([0; 64]))];
    let mut rotated = vec![("key", bytes(new.public().id().0)), ("by", text("agent-02"))];
    rotated.extend(until.map(|until| ("until", int(until))));
    let (sealed, disclosure) = trigger_of("agent-02", None, Grade::Gateway, Some([0xab; 32]), seed);
    ledger(&[
        (genesis(&[RuleRecord::new(rule())]), vec![], None),
        (
            registry(LEDGER, 1, "register-many", &many),
            vec![happened("registry.record-refused", "agent-01", &refused)],
            None,
        ),
        (registry(LEDGER, 1, "bind-device", &[("device", bound.to_cbor())]), vec![], None),
        (
            registry("agent-02", 4, "rotate-key", &rotate),
            vec![happened("registry.key-rotated", "agent-02", &rotated)],
            None,
        ),
        (sealed, opened(), Some(disclosure)),
    ])
}

/// When all blocks of these ledgers were made.
const BLOCK_TIME: i64 = 1_790_000_020_000_000;

#[test]
fn a_key_speaks_while_it_is_in_force_and_no_longer() {
    let broken =
        |seed, until| verify(&identity_evidence(seed, until).encode(), None).first_broken().map(|link| link.step);
    assert_eq!(broken(4, Some(BLOCK_TIME)), None, "the old key within the overlap");
    assert_eq!(broken(5, Some(BLOCK_TIME)), None, "the new key within the overlap");
    assert_eq!(broken(4, Some(BLOCK_TIME - 1)), Some(Step::Seal), "the old key after the overlap");
    assert_eq!(broken(5, Some(BLOCK_TIME - 1)), None);
    assert_eq!(broken(4, None), Some(Step::Seal), "the old key, without an overlap");
    assert_eq!(broken(9, None), Some(Step::Seal), "the key of a record that was refused");
}

#[test]
fn bound_to_another_agent_a_device_is_not_spoken_for_by_the_first() {
    let registrations = identity_evidence(4, Some(BLOCK_TIME)).entries;
    let (sealed, disclosure) = trigger();
    let file = ledger(&[
        (registrations[0].statement.clone(), vec![], None),
        (registrations[2].statement.clone(), vec![], None),
        (sealed, opened(), Some(disclosure)),
    ]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::DeviceBinding);
}

/// `tests/formats/identity.tally`, with which others compare their verifiers.
#[test]
fn the_frozen_file_of_keys_and_bindings_is_this_one() {
    is_frozen("identity.tally", &identity_evidence(4, Some(BLOCK_TIME)).encode());
}

#[test]
fn each_time_of_a_trigger_stands_beside_its_clock() {
    for clock in [None, Some(ClockState::Synchronised { error_us: 1_250 }), Some(ClockState::FreeRunning)] {
        let (sealed, disclosure) = trigger_by(clock);
        let entry =
            |shown| ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed.clone(), opened(), shown)]);
        let report = verify(&entry(Some(disclosure)).encode(), None);
        assert!(report.all_hold(), "{report:#?}");
        let [times] = report.times.as_slice() else { panic!("one trigger: {:?}", report.times) };
        assert_eq!(times.about, "entry 1 (trigger bearing-worn raised)");
        assert!(times.source.is_some() && times.received.is_some());
        let said = times.agent_clock.as_ref().map(|clock| (clock.state, clock.error_us));
        assert_eq!(said, clock.map(|clock| (clock.word(), clock.error_us())));
        let unproved = verify(&entry(None).encode(), None);
        assert_eq!(
            (unproved.times[0].source, unproved.times[0].received),
            (None, None),
            "nothing shown, nothing proved"
        );
        assert_eq!(unproved.times[0].block, times.block);
    }
}

#[test]
fn a_trigger_without_its_readings_does_not_hold() {
    let (sealed, _) = trigger();
    let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, opened(), None)]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::Readings);
}

#[test]
fn an_agent_that_lies_about_its_rule_is_caught() {
    // Same readings, true seal, but the claim says that it fired one reading earlier.
    let (sealed, disclosure) = trigger();
    let mut body = TriggerBody::decode(&SignedStatement::parse(&sealed).unwrap().payload).unwrap();
    body.at = body.at.minus(Duration::from_millis(200));
    let lie = sign(StatementKind::Trigger, &key(2), &party("agent-01"), "press-01", LEDGER, 0, body.encode());
    let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (lie, opened(), Some(disclosure))]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::Recomputed);
}

#[test]
fn an_unregistered_signer_and_a_foreign_agent_are_noticed() {
    let (sealed, disclosure) = trigger();
    let alone = ledger(&[(sealed.clone(), opened(), Some(disclosure.clone()))]);
    assert_eq!(broken(&verify(&alone.encode(), None)), Step::DeviceBinding);
    let body = SignedStatement::parse(&sealed).unwrap().payload;
    let foreign = sign(StatementKind::Trigger, &key(7), &party("agent-01"), "press-01", LEDGER, 0, body);
    let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (foreign, opened(), Some(disclosure))]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::Seal);
}

#[test]
fn a_move_without_its_beginning_is_a_hole() {
    let (sealed, disclosure) = trigger();
    let data = BTreeMap::from([("from".to_owned(), text("accepted")), ("to".to_owned(), text("repaired"))]);
    let moved = vec![Event { kind: "agreement.moved".into(), subject: "mo-1".into(), data }];
    let file = ledger(&[(genesis(&[RuleRecord::new(rule())]), vec![], None), (sealed, moved, Some(disclosure))]);
    assert_eq!(broken(&verify(&file.encode(), None)), Step::History);
}

#[test]
fn ids_do_not_depend_on_signatures() {
    let (sealed, _) = trigger();
    let parsed = SignedStatement::parse(&sealed).unwrap();
    let again: StatementId = parsed.id.to_string().parse().unwrap();
    assert_eq!(again, parsed.id);
}
