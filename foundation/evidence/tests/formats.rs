//! Golden bytes: what others must be able to check. A change here is a change of format and needs a new version number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::{
    Allowed, AnchorBody, BatchBody, BatchEnvelope, CallBody, ChainHead, Checkpoint, Gap, GapReason, OutcomeRecord,
    Permit, PermitFile, Place, Policy, Question, ReadingsClaim, Receipt, Right, SignedStatement, SigningKey,
    StatementId, StatementKind, Transition, TriggerBody, Who, encode_reading, leaf_hash, permit_state_key,
    reading_leaf, sha256, sign,
};
use tally_model::{
    AgreementId, ClockState, DeviceId, Grade, LinkProtection, LinkProtocol, LinkSecurity, Login, NoValue, Origin,
    PartyId, PointId, PolicyId, Priority, Reading, Sample, Stretch, Timestamp, TriggerId, Unit, Value,
};

const NOON: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);

fn key() -> SigningKey {
    SigningKey::from_secret(&[0x11; 32]).unwrap()
}

fn trigger() -> TriggerBody {
    TriggerBody {
        trigger: TriggerId::try_new("bearing-worn").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        rule: [1; 32],
        transition: Transition::Raised,
        priority: Priority::High,
        at: NOON,
        readings: ReadingsClaim {
            first: 10,
            last: 40,
            root: [2; 32],
            head: [3; 32],
            points: [(PointId::try_new("vibration").unwrap(), 20)].into(),
        },
        number: 7,
        call: None,
        clock: None,
        grade: Grade::Agent,
        mapping: None,
        origins: Vec::new(),
        quality: None,
    }
}

fn statement() -> Vec<u8> {
    let agent = PartyId::try_new("agent-01").unwrap();
    sign(StatementKind::Trigger, &key(), &agent, "press-01", "press-line", NOON.as_seconds(), trigger().encode())
}

fn sample(outcome: Result<Value, NoValue>) -> Sample {
    Sample::at(PointId::try_new("vibration").unwrap(), outcome, Unit::try_new("mm/s").unwrap(), NOON)
}

#[track_caller]
fn frozen(name: &str, bytes: &[u8], expected: &str) {
    assert_eq!(hex::encode(bytes), expected, "{name}: the bytes of a format have changed");
}

#[test]
fn key_id() {
    frozen("kid", &key().public().id().0, KID);
}

#[test]
fn trigger_body_and_statement() {
    frozen("trigger", &sha256(&trigger().encode()), TRIGGER);
    let clock = Some(ClockState::Synchronised { error_us: 1_250 });
    frozen("trigger with a clock", &sha256(&TriggerBody { clock, ..trigger() }.encode()), TRIGGER_CLOCK);
    let clock = Some(ClockState::FreeRunning);
    frozen("trigger without a good one", &sha256(&TriggerBody { clock, ..trigger() }.encode()), TRIGGER_FREE);
    let link = LinkSecurity {
        protocol: LinkProtocol::OpcUa,
        protection: LinkProtection::Sign,
        policy: Some("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256".into()),
        certificate: Some([7; 32]),
        login: Some(Login::UserName),
    };
    let open = Origin { link: LinkSecurity::none(LinkProtocol::Modbus), identity: None };
    let named = Origin { link, identity: Some("Acme; Press 7; 2.3".into()) };
    let origins = vec![Stretch { from: 10, origin: open }, Stretch { from: 12, origin: named }];
    frozen("trigger with origins", &sha256(&TriggerBody { origins, ..trigger() }.encode()), TRIGGER_ORIGINS);
    let graded = TriggerBody { grade: Grade::Device, mapping: Some([9; 32]), ..trigger() };
    frozen("trigger with grade and mapping", &sha256(&graded.encode()), TRIGGER_GRADE);
    frozen("statement", &sha256(&statement()), STATEMENT);
    frozen("statement id", &SignedStatement::parse(&statement()).unwrap().id.0, STATEMENT_ID);
}

#[test]
fn batch_statement_envelope_and_outcome() {
    let bodies: Vec<_> = (7..10).map(|number| TriggerBody { number, ..trigger() }.encode()).collect();
    let batch = BatchBody::over(7, &bodies).unwrap();
    frozen("batch", &batch.encode(), BATCH);
    let agent = PartyId::try_new("agent-01").unwrap();
    let sealed =
        sign(StatementKind::Batch, &key(), &agent, "agent-01", "press-line", NOON.as_seconds(), batch.encode());
    frozen("batch envelope", &sha256(&BatchEnvelope::encode(&sealed, &bodies)), BATCH_ENVELOPE);
    let place = Place::Item { index: 3, statement: StatementId([6; 32]), item: 2 };
    let outcome = OutcomeRecord { place, height: 3, refusal: 12, events: Vec::new() };
    frozen("outcome of an item", &outcome.encode(), ITEM_OUTCOME);
}

#[test]
fn anchor_body_and_question() {
    let anchor = AnchorBody {
        device: DeviceId::try_new("press-01").unwrap(),
        number: 2,
        previous: [4; 32],
        first: 10,
        last: 40,
        root: [2; 32],
        head: [3; 32],
        received: (NOON, NOON),
        source: (NOON, NOON),
        pause: 500_000,
        gaps: vec![
            Gap { reason: GapReason::Stopped, from: Some(NOON), to: NOON, readings: None },
            Gap { reason: GapReason::NotKept, from: None, to: NOON, readings: Some((7, 9)) },
        ],
    };
    frozen("anchor", &sha256(&anchor.encode()), ANCHOR);
    let question = Question { device: anchor.device, from: NOON, to: NOON };
    frozen("question", &question.digest(), QUESTION);
}

#[test]
fn call_body() {
    let call = CallBody {
        contract: "maintenance-order".parse().unwrap(),
        action: "accept".parse().unwrap(),
        agreement: Some(AgreementId::try_new("mo-1").unwrap()),
        args: BTreeMap::new(),
        nonce: [4; 16],
        at: NOON,
    };
    frozen("call", &call.encode(), CALL);
}

#[test]
fn reading_leaf_and_chain() {
    let device = DeviceId::try_new("press-01").unwrap();
    let reading = Reading { device: device.clone(), number: 5, sample: sample(Ok(Value::Float(7.25))) };
    let bytes = encode_reading(&reading, 2);
    frozen("reading", &bytes, READING);
    let nothing = Reading { device: device.clone(), number: 6, sample: sample(Err(NoValue::Timeout)) };
    frozen("no value", &encode_reading(&nothing, 3), NO_VALUE);
    let leaf = reading_leaf(&[9; 16], &bytes);
    frozen("leaf", &leaf, LEAF);
    frozen("head", &ChainHead::start(&device).extend(&leaf).0, HEAD);
}

#[test]
fn receipt_checkpoint_outcome() {
    let id = StatementId([6; 32]);
    let receipt = Receipt::issue(&key(), "press-line", "press-01", 1, 0, &[], &leaf_hash(&id.0));
    frozen("receipt", &sha256(&receipt), RECEIPT);
    let checkpoint = Checkpoint {
        ledger: "press-line".into(),
        height: 3,
        size: 9,
        root: [1; 32],
        state: [2; 32],
        outcomes: [3; 32],
        outcome_count: 4,
        time: NOON,
        previous: [4; 32],
    };
    frozen("checkpoint", &sha256(&checkpoint.seal(&key())), CHECKPOINT);
    let place = Place::Entry { index: 3, statement: id };
    let outcome = OutcomeRecord { place, height: 3, refusal: 12, events: Vec::new() };
    frozen("outcome", &outcome.encode(), OUTCOME);
}

fn permit() -> Permit {
    Permit {
        id: 17,
        ledger: "press-line".into(),
        requester: PartyId::try_new("tina").unwrap(),
        sender: None,
        agent: PartyId::try_new("agent-01").unwrap(),
        device: DeviceId::try_new("press-01").unwrap(),
        point: PointId::try_new("setpoint").unwrap(),
        address: "holding:17".into(),
        right: Right::Write,
        value: Some(Value::Integer(42)),
        from: NOON,
        until: NOON.plus(Duration::from_secs(600)),
        policy: PolicyId::try_new("service").unwrap(),
        carried: true,
    }
}

#[test]
fn permit_with_its_key_and_file() {
    frozen("permit to write", &permit().encode(), PERMIT_WRITE);
    let read = Permit { right: Right::Read, value: None, carried: false, ..permit() };
    frozen("permit to read", &sha256(&read.encode()), PERMIT_READ);
    let call = Permit { right: Right::Call, value: Some(Value::Text("seen".into())), ..permit() };
    frozen("permit to call", &sha256(&call.encode()), PERMIT_CALL);
    frozen("key of a permit", &permit_state_key(17), PERMIT_KEY);
    let file = PermitFile { permit: permit().encode(), proof: vec![1; 5], checkpoint: vec![2; 5] };
    frozen("permit file", &sha256(&file.encode()), PERMIT_FILE);
}

#[test]
fn policy_with_everything_and_with_nothing() {
    let firm = PartyId::try_new("fixit").unwrap();
    let policy = Policy {
        id: PolicyId::try_new("service").unwrap(),
        devices: vec![DeviceId::try_new("press-01").unwrap()],
        who: vec![
            Who { firm: Some(firm), skill: Some("oil".into()), ..Who::default() },
            Who { party: Some(PartyId::try_new("olga").unwrap()), ..Who::default() },
        ],
        points: [
            ("setpoint", "holding:17", vec![Right::Read, Right::Write], Some((0.0, 80.5))),
            ("lamp", "coil:3", vec![Right::Call], None),
        ]
        .map(|(id, at, rights, range)| (PointId::try_new(id).unwrap(), Allowed { address: at.into(), rights, range }))
        .into(),
        rate: Some((3, Duration::from_secs(3600))),
        hours: Some((300, 780)),
        days: Some(vec![1, 2, 7]),
        from: Some(NOON),
        until: Some(NOON.plus(Duration::from_secs(86_400))),
        lasts: Duration::from_secs(600),
    };
    frozen("policy", &sha256(&policy.encode()), POLICY);
    let nothing = Policy {
        devices: Vec::new(),
        who: Vec::new(),
        points: BTreeMap::new(),
        rate: None,
        hours: None,
        days: None,
        from: None,
        until: None,
        ..policy
    };
    frozen("policy that allows nothing", &nothing.encode(), NO_POLICY);
}

const KID: &str = "f2c8698cbab8fd69ff6ac1dfc07ab2ebde820bfbcdfc95732867d365efa40a66";
const TRIGGER: &str = "2ceb91cae574da520028a1888af924bc6a91d21005f5fbc4b865de058e8fb3cf";
const TRIGGER_CLOCK: &str = "383f2db8c1ea3b1caa61acc033ca3a2f71ba6a1194f3acd9a86505dd0e42716e";
const TRIGGER_FREE: &str = "de6919ae067aab6bcc5d2e9037cd53c78c4da96b4816205f074016d12a619a1c";
const TRIGGER_ORIGINS: &str = "e753e7bc0a84286898699673c23668635452a12bb0c011f25d974df2143c8f90";
const TRIGGER_GRADE: &str = "b6aef6e30f0fc352f95c9ff409c2c2cb01e784bff971b71fcf4e97c252eb6946";
const STATEMENT: &str = "48ede01c840d882b0213d502daa410736a6b072b391b3d1ba9bc0aa0ec9e495a";
const STATEMENT_ID: &str = "4160cc477a99e2eab67f04254c7112e0ae36133260089ab0e407e59791602214";
const BATCH: &str =
    "a364726f6f7458207dcd67480a306a0556dc2673ed3a73ebf68b5d6170155c3972bff1be59e108f665636f756e740365666972737407";
const BATCH_ENVELOPE: &str = "f2c4636b3b91218a5d92803c58ee8cf3ccb910e099dc62e6cb61c784710405b2";
const ITEM_OUTCOME: &str = "a6646974656d0265656e74727903666576656e7473806668656967687403677265667573616c0c6973746174656d656e7458200606060606060606060606060606060606060606060606060606060606060606";
const ANCHOR: &str = "cd0d9d9ee53dd54ae35bcaaa0ec13e6ef290c6f9f425806a782e00d2b9e51e4c";
const QUESTION: &str = "b2a6b8fbd525d882f5ec70e834c324cb601f9568219d76c033eef0336e9dd20a";
const CALL: &str = "a66261741b00065bfeda25e0006461726773a0656e6f6e6365500404040404040404040404040404040466616374696f6e6661636365707468636f6e7472616374716d61696e74656e616e63652d6f726465726961677265656d656e74646d6f2d31";
const PERMIT_WRITE: &str = "ad6466726f6d1b00065bfeda25e000656167656e74686167656e742d303165706f696e7468736574706f696e7465726967687465777269746565756e74696c1b00065bfefde926006576616c7565182a666465766963656870726573732d3031666c65646765726a70726573732d6c696e65667065726d69741166706f6c696379677365727669636567616464726573736a686f6c64696e673a31376763617272696564f5697265717565737465726474696e61";
const PERMIT_READ: &str = "291dc366e3bf7d6e253fade2da79145803af6aad1e4024218145ae8d006992e5";
const PERMIT_CALL: &str = "08624589dd22343c6698817950d8e353135cb3b670d2878b40e517db5fda088c";
const PERMIT_KEY: &str = "790000000000000011";
const PERMIT_FILE: &str = "854802e24c8c4198c9700f03cf09026d7b2f33bb8ffff18f872ac7fa394397b1";
const POLICY: &str = "26975774670163ca9904948ec59c7962ec7e71db58b4123df2399a0301e838d6";
const NO_POLICY: &str =
    "a56377686f80656c617374731a23c3460066706f696e7473a066706f6c6963796773657276696365676465766963657380";
const READING: &str = "880569766962726174696f6e02f94740646d6d2f73001b00065bfeda25e0001b00065bfeda25e000";
const NO_VALUE: &str = "880669766962726174696f6e038101646d6d2f73021b00065bfeda25e0001b00065bfeda25e000";
const LEAF: &str = "20a783299496677808ade3b300d0859fff2711530873fd7ccd24638e78e3656a";
const HEAD: &str = "8d0cddd127dcd942588c7fe6942989f7b2b2d9e3647e8c1b2996976f905dc2f9";
const RECEIPT: &str = "d6fe7bd05849f7fa9cdf8a8747d7772a2f7fcee022a02752bc10bf2292fa33b1";
const CHECKPOINT: &str = "9e0f79a84c5c68a8cf97ffb328220b7905824501e2fd0f78942a59429def366c";
const OUTCOME: &str = "a565656e74727903666576656e7473806668656967687403677265667573616c0c6973746174656d656e7458200606060606060606060606060606060606060606060606060606060606060606";
