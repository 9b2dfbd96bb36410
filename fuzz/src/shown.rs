//! What is shown to others, and what they say of it: `foundation/evidence`, `foundation/verifier`.

use crate::golden::{self, LEDGER, NOON, checkpoint_over, device, key, state_as, state_with};
use crate::said::{TAKEN, plain, round, text};
use crate::targets::Seeds;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use tally_evidence::cbor::{Cbor, int};
use tally_evidence::{
    Algorithm, Checkpoint, ConsistencyReceipt, Cosigner, CoverageFile, Disclosure, EvidenceFile, FieldFile, KeyScheme,
    LogKey, NoteSigningKey, Opening, OutcomeRecord, Presented, Question, Receipt, SignedNote, SplitFile, Stamped,
    StateClaim, StateProof, StateTree, StatementId, TreeNote, cosign, device_state_key, json, leaf_hash, witnessed,
};
use tally_verifier::{Reader, TimeAuthorities, timestamp::check_token, verify_for};

pub fn evidence(bytes: &[u8]) -> String {
    round(EvidenceFile::decode(bytes), bytes, EvidenceFile::encode)
}

pub fn evidence_files() -> Seeds {
    golden::FILES.map(<[u8]>::to_vec).into()
}

/// The whole verifier, as `tally verify` runs it.
pub fn verifier(bytes: &[u8]) -> String {
    let report = verify_for(bytes, &Reader { time_authorities: authorities(), ..Reader::default() });
    let failed = report.links.iter().filter(|link| !link.holds).map(|link| format!("{:?}", link.step));
    format!("{TAKEN} {} links, failed: {}", report.links.len(), failed.collect::<Vec<_>>().join(" "))
}

fn authorities() -> Option<&'static TimeAuthorities> {
    static AUTHORITIES: LazyLock<TimeAuthorities> =
        LazyLock::new(|| TimeAuthorities::from_pem(golden::AUTHORITY).unwrap());
    Some(&AUTHORITIES)
}

pub fn verifiable() -> Seeds {
    let json = json::to_json(golden::FILES[2]).unwrap().into_bytes();
    let files = evidence_files().into_iter().chain(coverage_files()).chain(field_files());
    files.chain([golden::STAMPED.to_vec(), json]).collect()
}

pub fn evidence_json(bytes: &[u8]) -> String {
    plain(json::from_json(bytes))
}

pub fn evidence_jsons() -> Seeds {
    golden::FILES.iter().map(|file| json::to_json(file).unwrap().into_bytes()).collect()
}

pub fn coverage(bytes: &[u8]) -> String {
    round(CoverageFile::decode(bytes), bytes, CoverageFile::encode)
}

pub fn coverage_files() -> Seeds {
    let name = device_state_key(&device());
    let state = state_with(&name, b"device");
    let question = Question { device: device(), from: NOON, to: NOON.plus(Duration::from_secs(60)) };
    let claim = |key: Vec<u8>, value: Option<Vec<u8>>| StateClaim { proof: state.prove(&key).encode(), key, value };
    let file = CoverageFile {
        ledger: LEDGER.to_owned(),
        key: key().public().clone(),
        digest: question.digest(),
        question,
        entries: golden::entries().into_iter().take(2).collect(),
        checkpoint: checkpoint_over(&state),
        state: vec![claim(name, Some(b"device".to_vec())), claim(b"nobody".to_vec(), None)],
        witnessed: None,
    };
    vec![file.encode()]
}

pub fn field_file(bytes: &[u8]) -> String {
    round(FieldFile::decode(bytes), bytes, FieldFile::encode)
}

fn opening() -> Vec<u8> {
    Opening { salt: [9; 16], value: int(50_000), name: "price".to_owned() }.encode()
}

pub fn field_files() -> Seeds {
    let entries = golden::entries().into_iter().take(1).collect();
    vec![
        FieldFile { ledger: LEDGER.to_owned(), key: key().public().clone(), entries, openings: vec![opening()] }
            .encode(),
    ]
}

/// Private fields: an opening, and a statement with openings beside it.
pub fn private(bytes: &[u8]) -> String {
    let presented = Presented::split(bytes);
    assert!(presented.is_err() || Presented::is_one(bytes), "taken, although it did not say to be one");
    let opening = round(Opening::decode(bytes), bytes, Opening::encode);
    format!("{opening} {}", round(presented, bytes, |presented| presented.encode().unwrap()))
}

pub fn privates() -> Seeds {
    let statement = golden::entries().remove(0).statement;
    let text = Opening { salt: [1; 16], value: Cbor::Text("secret".to_owned()), name: "terms".to_owned() }.encode();
    vec![opening(), Presented { statement, openings: vec![opening(), text] }.encode().unwrap()]
}

pub fn disclosure(bytes: &[u8]) -> String {
    let disclosure = Disclosure::decode(bytes);
    let inside =
        disclosure.as_ref().ok().map(|it| format!("{} {}", plain(it.root()), plain(it.readings(&BTreeMap::new()))));
    format!("{} {inside:?}", round(disclosure, bytes, Disclosure::encode))
}

pub fn disclosures() -> Seeds {
    golden::entries().into_iter().filter_map(|entry| entry.disclosure).collect()
}

pub fn receipt(bytes: &[u8]) -> String {
    let receipt = Receipt::parse(bytes);
    let id = StatementId([6; 32]);
    let checked = receipt.as_ref().ok().map(|receipt| plain(receipt.check(&id, key().public())));
    let grown = ConsistencyReceipt::parse(bytes);
    let grew = grown.as_ref().ok().map(|grown| plain(grown.check([1; 32], key().public())));
    format!("{} {checked:?} {} {grew:?}", plain(receipt), plain(grown))
}

pub fn receipts() -> Seeds {
    let mut seeds: Seeds = golden::entries().into_iter().map(|entry| entry.receipt).collect();
    seeds.push(Receipt::issue(&key(), LEDGER, "press-01", 1, 0, &[], &leaf_hash(&[6; 32])));
    seeds.push(ConsistencyReceipt::issue(&key(), LEDGER, 3, 7, &[[1; 32], [2; 32], [3; 32]], &[4; 32]));
    seeds
}

pub fn checkpoint(bytes: &[u8]) -> String {
    round(Checkpoint::open(bytes, key().public()), bytes, |_| bytes.to_vec())
}

pub fn checkpoints() -> Seeds {
    let ours = [StateTree::default(), state_with(b"key", b"value")].map(|state| checkpoint_over(&state));
    // And one under a key that is not asked for.
    ours.into_iter().chain([golden::entries().remove(0).checkpoint]).collect()
}

pub fn outcome(bytes: &[u8]) -> String {
    round(OutcomeRecord::decode(bytes), bytes, OutcomeRecord::encode)
}

pub fn outcomes() -> Seeds {
    let terms = golden::evidence().into_iter().flat_map(|file| file.terms).map(|term| term.outcome);
    golden::entries().into_iter().map(|entry| entry.outcome).chain(terms).collect()
}

pub fn state_proof(bytes: &[u8]) -> String {
    let proof = StateProof::decode(bytes);
    let checked = proof.as_ref().ok().map(|proof| plain(proof.verify(&[1; 32], b"other", Some(b"value"))));
    // Under the roots of states that hold what the seeds show: whatever is made of them shows nothing else.
    for scheme in KeyScheme::ALL {
        let root = state_as(scheme, b"key", b"value").root();
        let shows = |value: Option<&[u8]>| proof.as_ref().is_ok_and(|proof| proof.verify(&root, b"key", value).is_ok());
        assert!(!shows(None) && !shows(Some(b"another")), "{scheme:?}");
    }
    format!("{} {checked:?}", round(proof, bytes, StateProof::encode))
}

pub fn state_proofs() -> Seeds {
    let keys = [&b"key"[..], b"o\x03", b"mmo\0\0\0\0\0\0\0\0\x03", b"nobody"];
    let states = KeyScheme::ALL.map(|scheme| state_as(scheme, b"key", b"value"));
    states.iter().flat_map(|state| keys.map(|key| state.prove(key).encode())).collect()
}

fn log_key() -> LogKey {
    LogKey::new(LEDGER.to_owned(), key().public().clone().into())
}

fn note_of(size: u64, root: u8) -> String {
    TreeNote { origin: LEDGER.to_owned(), size, root: [root; 32] }.seal(&key())
}

pub fn split(bytes: &[u8]) -> String {
    let file = SplitFile::decode(bytes);
    let shown = file.as_ref().ok().map(|file| plain(file.check()));
    format!("{} {shown:?}", round(file, bytes, SplitFile::encode))
}

pub fn splits() -> Seeds {
    let file = |other: String, path| SplitFile::new(log_key(), note_of(12, 1), other, path).encode();
    vec![file(note_of(12, 2), None), file(note_of(15, 2), Some(vec![[3; 32], [4; 32]]))]
}

/// A checkpoint of a log, its key's signature and those of witnesses.
pub fn note(bytes: &[u8]) -> String {
    text(bytes, |text| {
        let note = SignedNote::parse(text);
        let checked = note.as_ref().ok().map(|note| plain(witnessed(note, &log_key(), &cosigners())));
        format!("{} {checked:?}", round(note, text.as_bytes(), |note| note.to_string().into_bytes()))
    })
}

const WITNESSES: [(&str, Algorithm); 2] = [("w.example/1", Algorithm::Ed25519), ("w.example/2", Algorithm::P256)];

fn witness_key(algorithm: Algorithm) -> NoteSigningKey {
    NoteSigningKey::from_secret(algorithm, &[3; 32]).unwrap()
}

fn cosigners() -> Vec<Cosigner> {
    WITNESSES.map(|(name, kind)| Cosigner::new(name, witness_key(kind).public().clone()).unwrap()).into()
}

/// A note that two witnesses cosigned.
pub fn cosigned() -> SignedNote {
    WITNESSES.into_iter().fold(SignedNote::parse(&note_of(12, 1)).unwrap(), |note, (name, kind)| {
        let line = cosign(&note, name, &witness_key(kind), 1_790_000_000).unwrap();
        note.with(line)
    })
}

pub fn notes() -> Seeds {
    let notes = [golden::witnessed().note, note_of(12, 1), cosigned().to_string()];
    notes.map(String::into_bytes).into()
}

/// The key of a witness, as people hand it over.
pub fn witness_name(bytes: &[u8]) -> String {
    text(bytes, |text| round(text.parse::<Cosigner>(), bytes, |cosigner| cosigner.to_string().into_bytes()))
}

pub fn witness_names() -> Seeds {
    cosigners().into_iter().map(|cosigner| cosigner.to_string().into_bytes()).collect()
}

pub fn time_stamp(bytes: &[u8]) -> String {
    let token = check_token(bytes, &golden::token().1, authorities());
    format!("{} {}", plain(Stamped::split(bytes)), plain(token))
}

pub fn time_stamps() -> Seeds {
    vec![golden::token().0, golden::STAMPED.to_vec()]
}
