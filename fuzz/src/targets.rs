//! What is fuzzed: each target takes bytes and says in words what became of them.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::time::Duration;
use tally_evidence::{
    AnchorBody, BatchBody, BatchEnvelope, CallBody, Checkpoint, ConsistencyReceipt, CoverageFile, Disclosure,
    EvidenceFile, OutcomeRecord, Permit, PermitFile, Policy, Receipt, ShownTrigger, SignedNote, SignedStatement,
    SigningKey, SplitFile, Stamped, StateProof, TriggerBody, decode_reading, decode_rule, encode_rule,
};
use tally_ledger_node::retain::KeptBlock;
use tally_ledger_node::{BlockRecord, NodeConfig};
use tally_model::{
    Address, ByteOrder, DeviceId, Encoding, PointId, PointSpec, Priority, RuleSource, Timestamp, TriggerId, Unit,
    ValueKind,
};

/// A parser of outside bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: the folder of its corpus.
    pub name: &'static str,
    /// Tries an input; says what became of it.
    pub run: fn(&[u8]) -> String,
}

const fn target(name: &'static str, run: fn(&[u8]) -> String) -> Target {
    Target { name, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("statement", statement),
    target("trigger", |bytes| round(TriggerBody::decode(bytes), bytes, TriggerBody::encode)),
    target("call", |bytes| round(CallBody::decode(bytes), bytes, CallBody::encode)),
    target("anchor", |bytes| round(AnchorBody::decode(bytes), bytes, AnchorBody::encode)),
    target("batch", batch),
    target("permit", permit),
    target("policy", |bytes| round(Policy::decode(bytes), bytes, Policy::encode)),
    target("evidence", |bytes| plain(EvidenceFile::decode(bytes))),
    target("coverage", |bytes| plain(CoverageFile::decode(bytes))),
    target("disclosure", |bytes| plain(Disclosure::decode(bytes))),
    target("receipt", |bytes| format!("{} {}", plain(Receipt::parse(bytes)), plain(ConsistencyReceipt::parse(bytes)))),
    target("checkpoint", |bytes| plain(Checkpoint::open(bytes, key().public()))),
    target("outcome", |bytes| plain(OutcomeRecord::decode(bytes))),
    target("state-proof", |bytes| plain(StateProof::decode(bytes))),
    target("split", |bytes| plain(SplitFile::decode(bytes))),
    target("time-stamp", |bytes| plain(Stamped::split(bytes))),
    target("note", |bytes| text(bytes, |text| plain(SignedNote::parse(text)))),
    target("reading", |bytes| plain(decode_reading(&DeviceId::try_new("press-01").unwrap(), bytes))),
    target("rule", |bytes| round(decode_rule(bytes), bytes, encode_rule)),
    target("rule-expression", |bytes| text(bytes, expression)),
    target("block", |bytes| plain(BlockRecord::decode(bytes))),
    target("kept-block", |bytes| round(KeptBlock::decode(bytes), bytes, KeptBlock::encode)),
    target("mapping", |bytes| text(bytes, mapping)),
    target("node-yaml", |bytes| text(bytes, |text| faults(NodeConfig::parse(text, Path::new("/etc/tallystick"))))),
    target("modbus-words", modbus),
    target("mqtt-payload", mqtt),
    target("address", |bytes| text(bytes, addresses)),
    target("certificate", |bytes| plain(tally_tls::CertificateFacts::of(bytes))),
    target("certificate-request", |bytes| {
        plain(tally_ca::request_bytes(bytes).and_then(|der| tally_ca::Asked::read(&der)))
    }),
];

fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32]).unwrap()
}

fn plain<T, E: Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "taken".to_owned(),
        Err(fault) => fault.to_string(),
    }
}

/// What is read must be what would be written: one meaning, one form.
fn round<T, E: Display>(result: Result<T, E>, bytes: &[u8], write: impl Fn(&T) -> Vec<u8>) -> String {
    match result {
        Ok(read) => {
            assert_eq!(hex::encode(write(&read)), hex::encode(bytes), "taken in a second form");
            "taken".to_owned()
        }
        Err(fault) => fault.to_string(),
    }
}

fn text(bytes: &[u8], run: impl Fn(&str) -> String) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| "no text".to_owned(), run)
}

fn faults<T, E: Display>(result: Result<T, Vec<E>>) -> String {
    match result {
        Ok(_) => "taken".to_owned(),
        Err(faults) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

fn statement(bytes: &[u8]) -> String {
    match SignedStatement::parse(bytes) {
        Ok(statement) => format!("{:?} {}", statement.kind, plain(statement.check_seal(key().public()))),
        Err(fault) => fault.to_string(),
    }
}

fn batch(bytes: &[u8]) -> String {
    let shown = plain(ShownTrigger::decode(bytes));
    format!("{} {} {shown}", plain(BatchEnvelope::split(bytes)), plain(BatchBody::decode(bytes)))
}

fn permit(bytes: &[u8]) -> String {
    let file = PermitFile::decode(bytes);
    let proven = file.as_ref().ok().map(|file| plain(file.check("press-line", key().public())));
    format!("{} {} {proven:?}", round(Permit::decode(bytes), bytes, Permit::encode), plain(file))
}

fn expression(when: &str) -> String {
    let points = ["a", "b"].map(|id| (PointId::try_new(id).unwrap(), (Some(ValueKind::Float), Unit::one())));
    let source = RuleSource {
        id: TriggerId::try_new("t").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        when: when.to_owned(),
        on_delay: Duration::ZERO,
        until: None,
        priority: Priority::Medium,
        disclose: Vec::new(),
        call: None,
        points: BTreeMap::from(points),
        checks: None,
    };
    faults(tally_rules::Rule::compile(&source))
}

fn mapping(plant: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plant.yaml");
    std::fs::write(&file, plant).unwrap();
    match tally_mappings::load(&file, &|_| None) {
        Ok(plant) => format!("taken: {:?}", plant.devices.iter().map(|device| device.points.len()).collect::<Vec<_>>()),
        // The folder is another each time.
        Err(faults) => faults.render(false).replace(&dir.path().display().to_string(), ""),
    }
}

fn point(address: Address, encoding: Encoding) -> PointSpec {
    PointSpec::new(PointId::try_new("p").unwrap(), address, encoding, Unit::one())
}

const ENCODINGS: [Encoding; 12] = [
    Encoding::Bool,
    Encoding::U8,
    Encoding::I8,
    Encoding::U16,
    Encoding::I16,
    Encoding::U32,
    Encoding::I32,
    Encoding::U64,
    Encoding::F16,
    Encoding::F32,
    Encoding::F64,
    Encoding::Text,
];

/// The first bytes choose how to read, the rest are registers.
fn modbus(bytes: &[u8]) -> String {
    let [kind, order, length, scale, rest @ ..] = bytes else { return "too short".to_owned() };
    let mut spec = point(Address::parse_modbus("holding:1").unwrap(), ENCODINGS[usize::from(*kind) % ENCODINGS.len()]);
    spec.order = ByteOrder::ALL[usize::from(*order) % ByteOrder::ALL.len()];
    spec.length = u16::from(*length);
    spec.scale = f64::from(*scale) - 1.0;
    let words: Vec<u16> =
        rest.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])).collect();
    shown(&tally_connector_modbus::decode(&spec, &words))
}

/// The first byte chooses how to read, the rest is the payload; pointers, raw text and CBOR side by side.
fn mqtt(bytes: &[u8]) -> String {
    let [kind, payload @ ..] = bytes else { return "too short".to_owned() };
    let encoding = ENCODINGS[usize::from(*kind) % ENCODINGS.len()];
    let specs: Vec<_> =
        ["t", "t#/a/b", "t#/0"].iter().map(|at| point(Address::parse_mqtt(at).unwrap(), encoding)).collect();
    let samples = tally_connector_mqtt::decode(&specs, payload, Timestamp::from_micros(1_790_000_000_000_000));
    assert_eq!(samples.len(), specs.len(), "a sample for each point");
    samples.iter().map(|sample| shown(&sample.outcome)).collect()
}

/// Values by kind, reasons by name.
fn shown<V: Debug, E: Debug>(outcome: &Result<V, E>) -> String {
    match outcome {
        Ok(value) => format!("{value:?} ").split('(').next().unwrap_or_default().to_owned(),
        Err(reason) => format!("{reason:?} "),
    }
}

fn addresses(text: &str) -> String {
    let endpoint = plain(tally_model::Endpoint::parse(text));
    format!("{endpoint} {} {}", plain(Address::parse_modbus(text)), plain(Address::parse_mqtt(text)))
}
