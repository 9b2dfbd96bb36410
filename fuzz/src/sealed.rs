//! What is sealed, and what is granted: `foundation/evidence`.

use crate::golden::{self, LEDGER, NOON, checkpoint_over, device, key, state_with};
use crate::said::{TAKEN, plain, round};
use crate::targets::Seeds;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::{
    Allowed, AnchorBody, BatchBody, BatchEnvelope, CallBody, Gap, GapReason, Permit, PermitFile, Policy, Right,
    ShownTrigger, SignedStatement, StatementKind, TriggerBody, Who, permit_state_key, sign,
};
use tally_model::{PartyId, PointId, PolicyId, Value};

fn signed(kind: StatementKind, subject: &str, body: Vec<u8>) -> Vec<u8> {
    let party = PartyId::try_new("agent-01").unwrap();
    sign(kind, &key(), &party, subject, LEDGER, NOON.as_seconds(), body)
}

/// The statement, its seal, and what it carries.
pub fn statement(bytes: &[u8]) -> String {
    let statement = match SignedStatement::parse(bytes) {
        Ok(statement) => statement,
        Err(fault) => return fault.to_string(),
    };
    let body = match statement.kind {
        StatementKind::Trigger => trigger(&statement.payload),
        StatementKind::Call => call(&statement.payload),
        StatementKind::Anchor => anchor(&statement.payload),
        StatementKind::Batch => plain(BatchBody::decode(&statement.payload)),
    };
    format!("{TAKEN} {:?} {} {body}", statement.kind, plain(statement.check_seal(key().public())))
}

pub fn statements() -> Seeds {
    let mut seeds: Seeds = golden::entries().into_iter().map(|entry| entry.statement).collect();
    seeds.push(signed(StatementKind::Anchor, "press-01", an_anchor(gaps()).encode()));
    seeds
}

pub fn trigger(bytes: &[u8]) -> String {
    round(TriggerBody::decode(bytes), bytes, TriggerBody::encode)
}

pub fn triggers() -> Seeds {
    golden::bodies(StatementKind::Trigger)
        .into_iter()
        .chain(shown().into_iter().map(|shown| shown.batched.body))
        .collect()
}

pub fn call(bytes: &[u8]) -> String {
    round(CallBody::decode(bytes), bytes, CallBody::encode)
}

pub fn calls() -> Seeds {
    golden::bodies(StatementKind::Call)
}

pub fn anchor(bytes: &[u8]) -> String {
    let body = AnchorBody::decode(bytes);
    let follows = body.as_ref().ok().map(|body| plain(body.follow(Some(&an_anchor(Vec::new()).link()))));
    format!("{} {follows:?}", round(body, bytes, AnchorBody::encode))
}

fn an_anchor(gaps: Vec<Gap>) -> AnchorBody {
    let (received, source) = ((NOON, NOON), (NOON, NOON));
    let (previous, root, head) = ([4; 32], [2; 32], [3; 32]);
    AnchorBody {
        device: device(),
        number: 2,
        previous,
        first: 10,
        last: 40,
        root,
        head,
        received,
        source,
        pause: 500_000,
        gaps,
    }
}

fn gaps() -> Vec<Gap> {
    vec![
        Gap { reason: GapReason::Stopped, from: Some(NOON), to: NOON, readings: None },
        Gap { reason: GapReason::NotKept, from: None, to: NOON, readings: Some((7, 9)) },
    ]
}

pub fn anchors() -> Seeds {
    vec![an_anchor(Vec::new()).encode(), an_anchor(gaps()).encode()]
}

/// What an agent sends under one seal, and one of them shown alone.
pub fn batch(bytes: &[u8]) -> String {
    let opened = BatchEnvelope::split(bytes).map(|envelope| {
        let statement = SignedStatement::parse(envelope.statement);
        statement.map_or_else(|fault| fault.to_string(), |statement| plain(envelope.open(&statement)))
    });
    let shown = ShownTrigger::decode(bytes);
    let checked = shown.as_ref().ok().map(|shown| {
        let statement = SignedStatement::parse(&shown.statement).map_err(|fault| fault.to_string());
        let body =
            statement.and_then(|statement| BatchBody::decode(&statement.payload).map_err(|fault| fault.to_string()));
        body.map(|body| plain(shown.batched.check(&body)))
    });
    let shown = round(shown, bytes, ShownTrigger::encode);
    let body = round(BatchBody::decode(bytes), bytes, BatchBody::encode);
    format!("{} {body} {shown} {checked:?}", opened.unwrap_or_else(|fault| fault.to_string()))
}

fn shown() -> Vec<ShownTrigger> {
    let entries = golden::entries().into_iter();
    entries
        .filter_map(|entry| {
            Some(ShownTrigger { statement: entry.statement, receipt: entry.receipt, batched: entry.batched? })
        })
        .collect()
}

pub fn batches() -> Seeds {
    let bodies = triggers();
    let batch = BatchBody::over(1, &bodies[..1]).unwrap().encode();
    let sealed = signed(StatementKind::Batch, "agent-01", batch.clone());
    let shown = shown().into_iter().map(|shown| shown.encode());
    shown.chain([BatchEnvelope::encode(&sealed, &bodies[..1]), batch]).collect()
}

/// A permit, and a file that proves one.
pub fn permit(bytes: &[u8]) -> String {
    let file = PermitFile::decode(bytes);
    let proven = file.as_ref().ok().map(|file| plain(file.check(LEDGER, key().public())));
    let inside = file.as_ref().ok().map(|file| round(Permit::decode(&file.permit), &file.permit, Permit::encode));
    let bare = round(Permit::decode(bytes), bytes, Permit::encode);
    format!("{bare} {} {inside:?} {proven:?}", round(file, bytes, PermitFile::encode))
}

fn a_permit(right: Right, value: Option<Value>) -> Permit {
    Permit {
        id: 17,
        ledger: LEDGER.to_owned(),
        requester: PartyId::try_new("tina").unwrap(),
        sender: (right == Right::Call).then(|| "mqtt:hmi-3".to_owned()),
        agent: PartyId::try_new("agent-01").unwrap(),
        device: device(),
        point: PointId::try_new("setpoint").unwrap(),
        address: "holding:17".to_owned(),
        right,
        value,
        from: NOON,
        until: NOON.plus(Duration::from_secs(600)),
        policy: PolicyId::try_new("service").unwrap(),
        carried: right != Right::Read,
    }
}

pub fn permits() -> Seeds {
    let all = [
        a_permit(Right::Write, Some(Value::Integer(42))),
        a_permit(Right::Write, Some(Value::Float(80.25))),
        a_permit(Right::Read, None),
        a_permit(Right::Call, Some(Value::Text("seen".to_owned()))),
    ];
    let file = |permit: &Permit| {
        let (name, bytes) = (permit_state_key(permit.id), permit.encode());
        let state = state_with(&name, &bytes);
        PermitFile { permit: bytes, proof: state.prove(&name).encode(), checkpoint: checkpoint_over(&state) }.encode()
    };
    all.iter().flat_map(|permit| [permit.encode(), file(permit)]).collect()
}

pub fn policy(bytes: &[u8]) -> String {
    let policy = Policy::decode(bytes);
    let end = policy.as_ref().ok().map(|policy| policy.shift_end(NOON).is_some());
    format!("{} {end:?}", round(policy, bytes, Policy::encode))
}

pub fn policies() -> Seeds {
    let firm = Some(PartyId::try_new("fixit").unwrap());
    let points = [
        ("setpoint", "holding:17", vec![Right::Read, Right::Write], Some((0.0, 80.5))),
        ("lamp", "coil:3", vec![Right::Call], None),
    ];
    let point = |(id, at, rights, range): (&str, &str, _, _)| {
        (PointId::try_new(id).unwrap(), Allowed { address: at.to_owned(), rights, range })
    };
    let policy = Policy {
        id: PolicyId::try_new("service").unwrap(),
        devices: vec![device()],
        who: vec![
            Who { firm, skill: Some("oil".to_owned()), ..Who::default() },
            Who { party: Some(PartyId::try_new("olga").unwrap()), ..Who::default() },
        ],
        points: points.map(point).into(),
        rate: Some((3, Duration::from_secs(3_600))),
        hours: Some((1_300, 300)),
        days: Some(vec![1, 2, 7]),
        from: Some(NOON),
        until: Some(NOON.plus(Duration::from_secs(86_400))),
        lasts: Duration::from_secs(600),
    };
    let nothing = Policy {
        devices: Vec::new(),
        who: Vec::new(),
        points: BTreeMap::new(),
        rate: None,
        hours: None,
        days: None,
        from: None,
        until: None,
        ..policy.clone()
    };
    vec![policy.encode(), nothing.encode()]
}
