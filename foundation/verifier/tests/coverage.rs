//! A device's anchors on a ledger built by hand, and what the verifier says when one is missing or any byte changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{LEDGER, cosigned, device, genesis, is_frozen, key, party};
use std::time::Duration;
use tally_evidence::cbor::{self, Cbor, int, text};
use tally_evidence::{
    Algorithm, AnchorBody, Checkpoint, Cosigner, CoverageFile, Disclosure, EvidenceEntry, Gap, GapReason, Hash,
    NoteSigningKey, OutcomeRecord, Place, Question, Receipt, SignedStatement, StateClaim, StateTree, StatementKind,
    Tree, device_state_key, encode_reading, leaf_hash, reading_leaf, revocation_state_key, root_of, sign,
};
use tally_model::{DeviceId, PointId, Quality, Reading, Sample, Timestamp, Unit, Value};
use tally_verifier::{Report, Step, Witnesses, verify, verify_witnessed};

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000).plus(Duration::from_secs(second))
}

/// Anchors of ten seconds and ten readings each; number n covers the seconds 10 n - 10 to 10 n - 1.
fn anchors(count: u64) -> Vec<AnchorBody> {
    let mut anchors: Vec<AnchorBody> = Vec::new();
    for number in 1..=count {
        let (first, last) = (number * 10 - 10, number * 10 - 1);
        let began = Gap { reason: GapReason::NewVault, from: None, to: at(0), readings: None };
        anchors.push(AnchorBody {
            device: device(),
            number,
            previous: anchors.last().map_or([0; 32], AnchorBody::digest),
            first,
            last,
            root: [1; 32],
            head: [2; 32],
            received: (at(first), at(last)),
            source: (at(first), at(last)),
            pause: 1_000_000,
            gaps: if number == 1 { vec![began] } else { vec![] },
        });
    }
    anchors
}

fn sealed(anchor: &AnchorBody, seed: u8) -> Vec<u8> {
    let agent = party("agent-01");
    sign(StatementKind::Anchor, &key(seed), &agent, "press-01", LEDGER, 1_790_000_000, anchor.encode())
}

/// The ledger's state: the device's record and, perhaps, a revocation.
fn state(is_revoked: bool) -> StateTree {
    let mut tree = StateTree::default();
    let record = cbor::encode(&Cbor::Array(vec![text("agent-01"), text("acme"), int(0)]));
    tree.apply(
        (0..20u8).map(|n| ([n, n].to_vec(), vec![n])).collect::<Vec<_>>().iter().map(|(k, v)| (&k[..], Some(&v[..]))),
    );
    tree.apply([(&device_state_key(&device())[..], Some(&record[..]))]);
    if is_revoked {
        tree.apply([(&revocation_state_key(&party("agent-01"))[..], Some(&b"\x05"[..]))]);
    }
    tree
}

fn claims(tree: &StateTree, is_revoked: bool) -> Vec<StateClaim> {
    let record = cbor::encode(&Cbor::Array(vec![text("agent-01"), text("acme"), int(0)]));
    let claim = |key: Vec<u8>, value: Option<Vec<u8>>| StateClaim { proof: tree.prove(&key).encode(), key, value };
    let revoked = is_revoked.then(|| vec![5]);
    vec![claim(device_state_key(&device()), Some(record)), claim(revocation_state_key(&party("agent-01")), revoked)]
}

/// A ledger of one statement a block, with the refusal of each.
fn file_of(statements: &[(Vec<u8>, u16)], (from, to): (Timestamp, Timestamp), is_revoked: bool) -> CoverageFile {
    let states = state(is_revoked);
    let (mut tree, mut previous, mut entries): (_, Hash, _) = (Tree::default(), [0; 32], Vec::new());
    let mut last = Vec::new();
    for (index, (statement, refusal)) in (0_u64..).zip(statements) {
        let parsed = SignedStatement::parse(statement).unwrap();
        tree.push(leaf_hash(&parsed.id.0));
        let place = Place::Entry { index, statement: parsed.id };
        let outcome = OutcomeRecord { place, height: index, refusal: *refusal, events: Vec::new() }.encode();
        let checkpoint = Checkpoint {
            ledger: LEDGER.into(),
            height: index,
            size: tree.size(),
            root: tree.root(),
            state: states.root(),
            outcomes: root_of(&[leaf_hash(&outcome)]),
            outcome_count: 1,
            time: at(1_000),
            previous,
        };
        previous = checkpoint.digest();
        last = checkpoint.seal(&key(1));
        let path = tree.inclusion_path(index, tree.size()).unwrap();
        entries.push(EvidenceEntry {
            statement: statement.clone(),
            batched: None,
            receipt: Receipt::issue(&key(1), LEDGER, &parsed.subject, tree.size(), index, &path, &tree.root()),
            outcome,
            outcome_index: 0,
            outcome_path: vec![],
            checkpoint: last.clone(),
            disclosure: None,
        });
    }
    let question = Question { device: device(), from, to };
    CoverageFile {
        ledger: LEDGER.into(),
        key: key(1).public().clone(),
        digest: question.digest(),
        question,
        entries,
        checkpoint: last,
        state: claims(&states, is_revoked),
        witnessed: None,
    }
}

fn file_with(anchors: &[AnchorBody], seconds: (u64, u64)) -> CoverageFile {
    let mut statements = vec![(genesis(&[]), 0)];
    statements.extend(anchors.iter().map(|anchor| (sealed(anchor, 2), 0)));
    file_of(&statements, (at(seconds.0), at(seconds.1)), false)
}

fn check(file: &CoverageFile) -> Report {
    verify(&file.encode(), Some(key(1).public()))
}

#[track_caller]
fn breaks(file: &CoverageFile, step: Step, words: &str) {
    let report = check(file);
    let link = report.first_broken().unwrap_or_else(|| panic!("everything holds: {report:#?}"));
    assert!(link.step == step && link.detail.contains(words), "{link:?}");
}

/// The gaps named, in seconds.
fn gaps(file: &CoverageFile) -> Vec<(u64, u64)> {
    let report = check(file);
    let seconds = |time: Timestamp| time.since(at(0)).as_secs();
    let gaps = report.coverage.as_ref().unwrap().gaps.iter();
    let gaps: Vec<_> = gaps.map(|gap| (seconds(gap.from), seconds(gap.to))).collect();
    assert_eq!(gaps.is_empty(), report.all_hold(), "{report:#?}");
    gaps
}

#[test]
fn nothing_is_missing() {
    let report = check(&file_with(&anchors(4), (12, 31)));
    assert!(report.all_hold(), "{report:#?}");
    let coverage = report.coverage.as_ref().unwrap();
    assert_eq!((coverage.anchors, coverage.readings, coverage.pause), (4, 40, 1_000_000));
    for step in [
        Step::File,
        Step::LedgerKey,
        Step::Question,
        Step::Inclusion,
        Step::Checkpoint,
        Step::Outcome,
        Step::Seal,
        Step::DeviceBinding,
        Step::Anchor,
        Step::State,
        Step::Coverage,
    ] {
        assert!(report.links.iter().any(|link| link.step == step && link.holds), "{step} is not checked");
    }
    // The first anchor of a vault has nothing before it; in the middle the edges are strict.
    assert_eq!(gaps(&file_with(&anchors(4), (0, 38))), []);
    assert_eq!(gaps(&file_with(&anchors(4)[1..], (11, 38))), []);
}

#[test]
fn every_flipped_byte_breaks_a_named_link() {
    let file = file_with(&anchors(2), (3, 15)).encode();
    for place in 0..file.len() {
        let mut forged = file.clone();
        forged[place] ^= 1 << (place % 8);
        let report = verify(&forged, None);
        assert!(report.first_broken().is_some(), "byte {place} of {} does not matter", file.len());
    }
}

#[test]
fn the_word_of_witnesses_covers_every_entry_and_every_byte_of_it_is_checked() {
    let plain = file_with(&anchors(2), (3, 15));
    let (note, witnesses) = cosigned(&plain.entries);
    let file = CoverageFile { witnessed: Some(note), ..plain.clone() };
    let verified = |file: &CoverageFile, known: &[&Cosigner], need| {
        let witnesses = Witnesses { known: known.iter().map(|known| (*known).clone()).collect(), need };
        verify_witnessed(&file.encode(), Some(key(1).public()), &witnesses).first_broken().map(|link| link.step)
    };
    let stranger = NoteSigningKey::from_secret(Algorithm::Ed25519, &[8; 32]).unwrap();
    let stranger = Cosigner::new("w1", stranger.public().clone()).unwrap();
    assert_eq!(verified(&file, &[], 0), None);
    assert_eq!(verified(&file, &[&witnesses[0], &witnesses[1]], 2), None);
    assert_eq!(verified(&file, &[&witnesses[0], &stranger], 2), Some(Step::Witness));
    assert_eq!(verified(&plain, &[&witnesses[0]], 1), Some(Step::Witness), "none in the file");
    let mut forged = file.clone();
    forged.witnessed.as_mut().unwrap().paths.swap(1, 2);
    assert_eq!(verified(&forged, &[], 0), Some(Step::Witness));
    let mut forged = file.clone();
    forged.entries.truncate(2);
    forged.witnessed.as_mut().unwrap().paths.truncate(1);
    let report = verify(&forged.encode(), None);
    assert!(report.links.iter().any(|link| link.step == Step::Witness && !link.holds), "an entry without a path");
    let bytes = file.encode();
    for place in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[place] ^= 1 << (place % 8);
        assert!(verify(&forged, None).first_broken().is_some(), "byte {place} of {} does not matter", bytes.len());
    }
    is_frozen("witnessed.coverage", &bytes);
}

#[test]
fn what_is_not_covered_is_named() {
    let four = anchors(4);
    assert_eq!(gaps(&file_with(&four, (30, 39))), [(39, 39)], "another reading may have been received then");
    assert_eq!(gaps(&file_with(&four, (30, 50))), [(39, 50)]);
    assert_eq!(gaps(&file_with(&four[1..], (10, 30))), [(10, 10)]);
    assert_eq!(gaps(&file_with(&four[1..], (5, 30))), [(5, 10)]);
    assert_eq!(gaps(&file_with(&four[..1], (20, 30))), [(20, 30)]);
    assert_eq!(gaps(&file_with(&[], (20, 30))), [(20, 30)]);
}

#[test]
fn a_declared_gap_is_named_where_it_touches_the_question() {
    let mut four = anchors(4);
    four[2].gaps.push(Gap { reason: GapReason::Stopped, from: Some(at(21)), to: at(25), readings: None });
    four[3].previous = four[2].digest();
    assert_eq!(gaps(&file_with(&four, (12, 31))), [(21, 25)]);
    assert_eq!(gaps(&file_with(&four, (12, 21))), []);
    assert_eq!(gaps(&file_with(&four, (12, 23))), [(21, 23)]);
    assert_eq!(gaps(&file_with(&four, (25, 31))), []);
    let report = check(&file_with(&four, (12, 31)));
    assert!(report.coverage.unwrap().gaps[0].is_declared);
}

#[test]
fn a_missing_altered_or_foreign_anchor_is_noticed() {
    let four = anchors(4);
    let without: Vec<_> = [&four[..2], &four[3..]].concat();
    breaks(&file_with(&without, (12, 31)), Step::Anchor, "expected is 3");
    let mut other = four.clone();
    other[2].root = [7; 32];
    breaks(&file_with(&other, (12, 31)), Step::Anchor, "digest");
    let mut skipping = four.clone();
    skipping[3].first = 32;
    breaks(&file_with(&skipping, (12, 31)), Step::Anchor, "readings 30 to 31");
    let mut elsewhere = four.clone();
    elsewhere.truncate(3);
    let mut file = file_with(&elsewhere, (12, 22));
    file.question.device = DeviceId::try_new("press-02").unwrap();
    file.digest = file.question.digest();
    breaks(&file, Step::Anchor, "is about press-01");
}

#[test]
fn a_forged_seal_a_refusal_and_a_revocation_are_noticed() {
    let two = anchors(2);
    let question = (at(3), at(15));
    let statements = |seed, refusal| vec![(genesis(&[]), 0), (sealed(&two[0], 2), 0), (sealed(&two[1], seed), refusal)];
    assert!(check(&file_of(&statements(2, 0), question, false)).all_hold());
    breaks(&file_of(&statements(9, 0), question, false), Step::Seal, "seal");
    breaks(&file_of(&statements(2, 178), question, false), Step::Anchor, "refusal 178");
    breaks(&file_of(&statements(2, 0), question, true), Step::State, "agent-01 was revoked");
    let mut silent = file_of(&statements(2, 0), question, false);
    silent.state.pop();
    breaks(&silent, Step::State, "nothing shows");
    let mut lying = file_of(&statements(2, 0), question, true);
    lying.state[1].value = None;
    breaks(&lying, Step::State, "state proof");
    let mut old = file_of(&statements(2, 0), question, false);
    old.checkpoint = old.entries[1].checkpoint.clone();
    breaks(&old, Step::Checkpoint, "older than the entries");
}

#[test]
fn another_question_than_the_one_asked_is_noticed() {
    let mut file = file_with(&anchors(4), (12, 31));
    file.question.to = at(30);
    breaks(&file, Step::Question, "not the ones");
    file.digest = file.question.digest();
    assert!(check(&file).all_hold(), "whoever asks anew is answered anew");
}

/// Ten readings under the first anchor, of which one is shown.
fn one_shown() -> CoverageFile {
    let bytes = |number: u64| {
        let sample = Sample {
            seal: None,
            point: PointId::try_new("vibration").unwrap(),
            outcome: Ok(Value::Float(7.25)),
            unit: Unit::try_new("mm/s").unwrap(),
            quality: Quality::Good,
            source_time: at(number).minus(Duration::from_millis(300)),
            received: at(number),
        };
        encode_reading(&Reading { device: device(), number, sample }, number)
    };
    let leaves: Vec<_> = (0..10).map(|number| reading_leaf(&[7; 16], &bytes(number))).collect();
    let open = |number: u64| (number == 4).then(|| ([7; 16], bytes(4)));
    let disclosure = Disclosure::build(device(), 0, &leaves, &open);
    let mut two = anchors(2);
    two[0].root = root_of(&leaves);
    two[1].previous = two[0].digest();
    let mut file = file_with(&two, (4, 4));
    file.entries[1].disclosure = Some(disclosure.encode());
    file
}

#[test]
fn one_reading_is_shown_under_its_anchor_with_both_of_its_times() {
    let file = one_shown();
    let report = check(&file);
    assert!(report.all_hold(), "{report:#?}");
    let line = "reading 4: vibration 7.25 mm/s, device's time 2026-09-21T14:13:23.700000Z, received 2026-09-21T14:13:24.000000Z";
    assert_eq!(report.story, [line]);
    let bytes = file.encode();
    for place in (0..bytes.len()).step_by(5) {
        let mut forged = bytes.clone();
        forged[place] ^= 1 << (place % 8);
        assert!(verify(&forged, None).first_broken().is_some(), "byte {place} of {} does not matter", bytes.len());
    }
    // Under another anchor it is not shown, and nothing is shown under one that does not hold.
    let mut elsewhere = file.clone();
    elsewhere.entries[2].disclosure = elsewhere.entries[1].disclosure.take();
    breaks(&elsewhere, Step::Readings, "do not give the root");
    let mut early = file;
    early.entries[0].disclosure = early.entries[1].disclosure.clone();
    breaks(&early, Step::Readings, "a call has no readings");
}
