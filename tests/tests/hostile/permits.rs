//! Permits that are not what the ledger granted, or not for now: turned away by the gate, on record, with nothing written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{Checkpoint, Permit, PermitFile, Right, SigningKey};
use tally_model::{DeviceId, PartyId, PointId, PolicyId, Timestamp, Value};
use tally_tests::{Attacks, Party, Pymodbus, Site, eventually, free_port, party, policy, press};

/// What stands in the register before and after all of it.
const HELD: u64 = 7;

/// A name, what is changed in words, the change.
type Forgery = (&'static str, &'static str, fn(&mut Permit));

/// One field each.
const FORGERIES: [Forgery; 13] = [
    ("permit-widened-value", "another value", |permit| permit.value = Some(Value::Integer(60))),
    ("permit-huge-value", "the largest value there is", |permit| permit.value = Some(Value::Integer(i64::MAX))),
    ("permit-other-type", "a text instead of a number", |permit| permit.value = Some(Value::Text("41".to_owned()))),
    ("permit-other-point", "another point", |permit| permit.point = PointId::try_new("speed").unwrap()),
    ("permit-other-address", "another register", |permit| permit.address = "holding:30".to_owned()),
    ("permit-other-device", "another device", |permit| permit.device = DeviceId::try_new("press-02").unwrap()),
    ("permit-longer", "an hour longer", |permit| permit.until = permit.until.plus(Duration::from_secs(3_600))),
    ("permit-for-ever", "until the end of time", |permit| permit.until = Timestamp::from_micros(i64::MAX)),
    ("permit-other-agent", "another agent", |permit| permit.agent = PartyId::try_new("agent-02").unwrap()),
    ("permit-other-requester", "another requester", |permit| permit.requester = PartyId::try_new("tom").unwrap()),
    ("permit-other-ledger", "another ledger", |permit| permit.ledger = "other".to_owned()),
    ("permit-other-number", "another number", |permit| permit.id += 1),
    ("permit-other-policy", "another policy", |permit| permit.policy = PolicyId::try_new("free").unwrap()),
];

/// A press whose owner lets tina read and write its setpoint.
struct Plant {
    site: Site,
    acme: Party,
    tina: Party,
}

impl Plant {
    fn mapping(port: u16) -> String {
        press(
            port,
            "    every: 200ms\n    timeout: 1s\n    points:\n      \
             - {id: setpoint, at: holding:17, type: u16, unit: Cel, writable: true, write_range: [0, 60]}\n      \
             - {id: speed, at: holding:20, type: f32, unit: \"1\", writable: true, write_range: [0, 1000]}\n",
        )
    }

    /// A call of the contract `access` that is not refused; its entry.
    async fn call(&self, who: &Party, action: &str, args: &[(&str, Cbor)]) -> u64 {
        let done = who.call(&self.site.node, "access", action, None, args).await;
        assert_eq!(done.refusal, None, "{action}");
        done.entry
    }

    /// A permit that somebody brings, with its number.
    async fn permit(&self, right: &str, more: &[(&str, Cbor)]) -> (u64, PermitFile) {
        let names = [("device", "press-01"), ("point", "setpoint"), ("right", right)];
        let mut args: Vec<_> = names.map(|(name, value)| (name, text(value))).into();
        args.push(("carried", Cbor::Bool(true)));
        args.extend(more.iter().cloned());
        let id = self.call(&self.tina, "request", &args).await;
        (id, self.site.permit_file(id).await)
    }

    /// What the register holds, read under a permit of its own.
    async fn held(&self) -> u64 {
        let (_, file) = self.permit("read", &[]).await;
        self.site.bring(file.encode()).await.unwrap()["found"].as_u64().unwrap()
    }
}

/// The code of the refusal, or that it was carried out.
async fn brought(plant: &Plant, file: Vec<u8>) -> String {
    plant.site.bring(file).await.map_or_else(|code| code, |report| format!("carried out: {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_permit_that_is_not_what_was_granted_is_turned_away_on_record() {
    let port = free_port();
    let mut slave = Pymodbus::start(port).await;
    let site = Site::new(&Plant::mapping(port), None).await;
    let mut node = site.start_node().await;
    let plant = Plant { acme: Party::of(&site, "acme"), tina: Party::of(&site, "tina"), site };
    let allowed = [("setpoint", "holding:17", &[Right::Read, Right::Write][..], Some((0.0, 80.0)))];
    plant.site.allow(&plant.acme, &policy("service", "press-01", party("tina"), &allowed)).await;
    let mut agent = plant.site.start_agent().await;
    plant.site.connected("press-01").await;
    slave.tell(&format!("set holding 17 {HELD:04x}")).await;
    let (_, file) = plant.permit("write", &[("value", int(41))]).await;
    let mut attacks = Attacks::on("permits");
    for (name, sent, forge) in FORGERIES {
        let mut permit = Permit::decode(&file.permit).unwrap();
        forge(&mut permit);
        let forged = PermitFile { permit: permit.encode(), ..file.clone() };
        attacks.tried(name, sent, "forged", brought(&plant, forged.encode()).await);
    }
    downgraded(&plant, &file, &mut attacks).await;
    torn(&plant, &file, &mut attacks).await;
    out_of_time(&plant, &mut attacks).await;
    let turned_away: u64 = attacks.counts().values().sum();
    eventually("the attempts on the ledger", async || {
        let entries = plant.site.node.get_json("/entries?limit=200").await.ok()?;
        entries.to_string().contains("access.attempt-refused").then_some(())
    })
    .await;
    assert_eq!(plant.site.counter("permit_attempts").await, turned_away, "each is counted");
    assert_eq!(plant.held().await, HELD, "nothing of all that was written");

    // None of that took the permit away from who has it; and it serves once.
    assert_eq!(plant.site.bring(file.encode()).await.unwrap()["found"], 41);
    slave.tell(&format!("set holding 17 {HELD:04x}")).await;
    attacks.tried("permit-replayed", "a used one again", "replayed", brought(&plant, file.encode()).await);
    assert_eq!(plant.held().await, HELD, "not written again");
    for process in [&mut node, &mut agent] {
        super::is_well(process);
    }
    slave.kill().await;
    attacks.finish(27);
}

/// Another right than was granted, or granted by somebody else.
async fn downgraded(plant: &Plant, file: &PermitFile, attacks: &mut Attacks) {
    let (_, read) = plant.permit("read", &[]).await;
    let mut permit = Permit::decode(&read.permit).unwrap();
    (permit.right, permit.value) = (Right::Write, Some(Value::Integer(60)));
    let forged = PermitFile { permit: permit.encode(), ..read.clone() };
    attacks.tried(
        "permit-read-to-write",
        "a permit to read as one to write",
        "forged",
        brought(plant, forged.encode()).await,
    );
    let mixed = PermitFile { permit: file.permit.clone(), ..read };
    attacks.tried(
        "permit-foreign-proof",
        "the proof of another permit",
        "forged",
        brought(plant, mixed.encode()).await,
    );

    let own = plant.site.node.get_bytes("/checkpoint").await.unwrap();
    let mut checkpoint = Checkpoint::open(&own, &plant.site.ledger_key()).unwrap();
    checkpoint.height += 1;
    let thief = SigningKey::from_secret(&[7; 32]).unwrap();
    let forged = PermitFile { checkpoint: checkpoint.seal(&thief), ..file.clone() };
    attacks.tried(
        "permit-thief-seal",
        "a checkpoint sealed by a thief",
        "forged",
        brought(plant, forged.encode()).await,
    );
    let mut damaged = own.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let forged = PermitFile { checkpoint: damaged, ..file.clone() };
    attacks.tried(
        "permit-damaged-seal",
        "a seal with one bit changed",
        "forged",
        brought(plant, forged.encode()).await,
    );
    // A checkpoint of the ledger's own, of a state in which the permit is not open.
    let mut proof = file.proof.clone();
    *proof.last_mut().unwrap() ^= 1;
    let forged = PermitFile { proof, ..file.clone() };
    attacks.tried(
        "permit-damaged-proof",
        "a proof with one bit changed",
        "forged",
        brought(plant, forged.encode()).await,
    );
}

/// What is no permit file at all.
async fn torn(plant: &Plant, file: &PermitFile, attacks: &mut Attacks) {
    let whole = file.encode();
    let cases = [
        ("permit-cut", "without its last byte", whole[..whole.len() - 1].to_vec()),
        ("permit-longer-file", "with a byte behind it", [&whole[..], &[0]].concat()),
        ("permit-empty", "no byte", Vec::new()),
        ("permit-nesting", "10,000 arrays in one another", vec![0x81; 10_000]),
        ("permit-length-lie", "a text of 2^62 bytes", [&[0x7b][..], &(1_u64 << 62).to_be_bytes(), b"x"].concat()),
        ("permit-bare", "the permit without its proof", file.permit.clone()),
    ];
    for (name, sent, bytes) in cases {
        attacks.tried(name, sent, "forged", brought(plant, bytes).await);
    }
}

/// Real permits at the wrong time.
async fn out_of_time(plant: &Plant, attacks: &mut Attacks) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let later = int(i64::try_from(now.as_micros()).unwrap() + 300_000_000);
    let more: [(_, _, _, &[(&str, Cbor)]); 2] = [
        ("permit-too-early", "before its time", "too-early", &[("from", later)]),
        ("permit-expired", "after its second", "expired", &[("lasts", int(1))]),
    ];
    for (name, sent, expected, more) in more {
        let (_, file) = plant.permit("write", &[&[("value", int(1))], more].concat()).await;
        attacks.tried(name, sent, expected, brought(plant, file.encode()).await);
    }
    let (id, file) = plant.permit("write", &[("value", int(1))]).await;
    plant.call(&plant.acme, "revoke", &[("permit", int(id))]).await;
    attacks.tried("permit-revoked", "one that was taken back", "revoked", brought(plant, file.encode()).await);
}
