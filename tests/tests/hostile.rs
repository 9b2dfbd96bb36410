//! Bad input from outside, over real sockets to the real processes: what the node refuses and how it says so, and devices
//! that misbehave beside devices that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::cbor::{Cbor, int, text};
use tally_evidence::{
    CallBody, ReadingsClaim, SignedStatement, SigningKey, StatementKind, Transition, TriggerBody, sign,
};
use tally_ledger_client::SubmitError;
use tally_model::{DeviceId, PartyId, Priority, Timestamp, TriggerId};
use tally_tests::{Asyncua, Ear, Manner, Mosquitto, Party, Process, Pymodbus, Rogue, Site, eventually, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

const LINE: &str = r#"
plant: line
devices:
  - id: press-01
    connect: modbus+tcp://127.0.0.1:1?unit=1
    points:
      - {id: worn, at: coil:1, unit: "1"}
triggers:
  - {id: bearing-worn, device: press-01, when: worn}
"#;

fn transfer() -> [(&'static str, Cbor); 3] {
    [("to", text("fixit")), ("amount", int(5)), ("currency", text("EUR"))]
}

/// Sends bytes and gives the code with which they are refused.
async fn code(site: &Site, statement: &[u8]) -> String {
    match site.node.submit(statement).await {
        Err(SubmitError::Refused { code, text }) => {
            assert!(text.len() > 10, "{code}: {text}");
            code
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// How often the node says it refused with each code.
async fn refused(site: &Site, code: &str) -> f64 {
    Site::metric(&site.node, "tally_refused_total", &format!("code=\"{code}\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_statements_are_refused_by_name_and_counted_and_leave_no_trace() {
    let site = Site::new(LINE, None).await;
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    let first = acme.call(&site.node, "accounts", "transfer", None, &transfer()).await;
    let before = site.node.get_json("/status").await.unwrap();

    let forgeries = forgeries(&site, &acme);
    let mut expected = BTreeMap::new();
    for (wanted, statement) in &forgeries {
        assert_eq!(code(&site, statement).await, *wanted, "{} bytes", statement.len());
        *expected.entry(*wanted).or_insert(0.0) += 1.0;
    }
    for (code, count) in &expected {
        let counted = refused(&site, code).await;
        // What is refused before its first byte may cost its sender the line; then it asks once more.
        let most = if *code == "too-large" { 2.0 * count } else { *count };
        assert!((*count..=most).contains(&counted), "{code} is counted {counted} times, not {count}");
    }
    // None of them is on the ledger, or anywhere in its state.
    let after = site.node.get_json("/status").await.unwrap();
    for key in ["size", "height"] {
        assert!(!before[key].is_null() && before[key] == after[key], "{key}: {before} {after}");
    }

    // A replay is no fault: it gets the first receipt, byte for byte, and is no second entry.
    let again = site.node.submit(&first.statement).await.unwrap();
    assert_eq!((&again.receipt, again.entry, again.refusal), (&first.receipt, first.entry, first.refusal));
    assert!(Site::metric(&site.node, "tally_repeated_total", "").await > 0.5);
    // And a good one still works: the next entry, right behind the first.
    let next = acme.call(&site.node, "accounts", "transfer", None, &transfer()).await;
    assert_eq!((next.entry, next.refusal), (first.entry + 1, None));
    assert!(!node.log().contains("panicked"), "{}", node.tail());
    assert_eq!(node.terminate().await.code(), Some(0));
}

/// Statements that must be refused, with the code that must be named.
fn forgeries(site: &Site, acme: &Party) -> Vec<(&'static str, Vec<u8>)> {
    let good = acme.seal("accounts", "transfer", None, &transfer());
    let body = SignedStatement::parse(&good).unwrap().payload;
    let mallory = SigningKey::from_secret(&[66; 32]).unwrap();
    let seal = |key: &SigningKey, issuer: &str, subject: &str, audience: &str, body: &[u8]| {
        let issuer = PartyId::try_new(issuer).unwrap();
        sign(StatementKind::Call, key, &issuer, subject, audience, 1_790_000_000, body.to_vec())
    };
    let mut longer = good.clone();
    longer.push(0);
    vec![
        ("malformed", Vec::new()),
        ("malformed", vec![0xff; 100]),
        ("malformed", b"{\"json\": true}".to_vec()),
        ("malformed", good[..good.len() - 1].to_vec()),
        ("malformed", longer),
        ("too-large", vec![0; 3 << 20]),
        ("seal", tampered_payload(&good, &body)),
        ("seal", twin(&good)),
        ("unknown-signer", seal(&mallory, "mallory", "accounts", "press-line", &body)),
        ("unknown-key", seal(&mallory, "acme", "accounts", "press-line", &body)),
        ("wrong-ledger", seal(&acme.key, "acme", "accounts", "other-line", &body)),
        ("subject", seal(&acme.key, "acme", "registry", "press-line", &body)),
        ("body", seal(&acme.key, "acme", "accounts", "press-line", &[0xa0])),
        ("body", seal(&acme.key, "acme", "accounts", "press-line", b"\x01")),
        ("unknown-key", seal(&mallory, "agent-01", "accounts", "press-line", &body)),
        ("seal", stolen_seal(site, acme)),
    ]
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// The amount inside the body is another: still a well-formed body, but not the one that was sealed.
fn tampered_payload(good: &[u8], body: &[u8]) -> Vec<u8> {
    let mut call = CallBody::decode(body).unwrap();
    call.args.insert("amount".to_owned(), int(9));
    let (at, mut forged) = (find(good, body), good.to_vec());
    let other = call.encode();
    assert_eq!(other.len(), body.len());
    forged[at..at + body.len()].copy_from_slice(&other);
    forged
}

/// The same signature in its other form, (r, n − s), which any ECDSA library accepts.
fn twin(good: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut forged = good.to_vec();
    let s = forged.len() - 32;
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let difference = i16::from(ORDER[place]) - i16::from(good[s + place]) - borrow;
        borrow = i16::from(difference < 0);
        forged[s + place] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    forged
}

/// The agent's statement under acme's signature of something else.
fn stolen_seal(site: &Site, acme: &Party) -> Vec<u8> {
    let agent = Party::of(site, "agent-01");
    let (mut hers, his) =
        (agent.seal("accounts", "transfer", None, &transfer()), acme.seal("accounts", "transfer", None, &transfer()));
    let (end, start) = (hers.len() - 64, his.len() - 64);
    hers[end..].copy_from_slice(&his[start..]);
    hers
}

/// Sealed rightly, but not by whom the ledger believes: these are entries, each with the number of its refusal.
#[tokio::test(flavor = "multi_thread")]
async fn well_sealed_lies_are_recorded_with_their_refusal_and_change_nothing() {
    let site = Site::new(LINE, None).await;
    let _node = site.start_node().await;
    let (agent, fixit) = (Party::of(&site, "agent-01"), Party::of(&site, "fixit"));
    let totals = site.node.get_json("/accounts").await.unwrap();
    let now = Timestamp::from_micros(1_790_000_000_000_000);
    let trigger = |party: &Party, device: &str, number: u64, at: Timestamp| {
        let body = TriggerBody {
            trigger: TriggerId::try_new("bearing-worn").unwrap(),
            device: DeviceId::try_new(device).unwrap(),
            rule: [9; 32],
            transition: Transition::Raised,
            priority: Priority::Medium,
            at,
            readings: ReadingsClaim { first: 0, last: 9, root: [1; 32], head: [2; 32], points: BTreeMap::new() },
            number,
            call: None,
            clock: None,
            grade: Default::default(),
            mapping: None,
            quality: None,
        };
        sign(StatementKind::Trigger, &party.key, &party.id, device, &party.ledger, at.as_seconds(), body.encode())
    };
    for (statement, refusal) in [
        (trigger(&agent, "press-01", 0, now), 133),
        (trigger(&agent, "lathe-99", 1, now), 131),
        (trigger(&fixit, "press-01", 0, now), 132),
        (trigger(&agent, "press-01", 2, Timestamp::from_micros(i64::MAX / 2)), 111),
        (
            fixit.seal(
                "accounts",
                "transfer",
                None,
                &[("to", text("fixit")), ("amount", int(-5)), ("currency", text("EUR"))],
            ),
            182,
        ),
        (fixit.seal("accounts", "dance", None, &[]), 136),
        (fixit.seal("nothing", "at-all", None, &[]), 135),
        (fixit.seal("maintenance-order", "accept", Some("mo-77"), &[]), 137),
    ] {
        let submitted = site.node.submit(&statement).await.unwrap();
        assert_eq!(submitted.refusal, Some(refusal), "{}", tally_contracts::Refusal::describe(refusal));
        let id = SignedStatement::parse(&statement).unwrap().id;
        let outcome = site.node.get_json(&format!("/entries/{id}/outcome")).await.unwrap();
        assert!(outcome.to_string().contains(&refusal.to_string()), "{outcome}");
    }
    assert_eq!(site.node.get_json("/accounts").await.unwrap(), totals);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signer_that_floods_does_not_hinder_another() {
    let site = Site::new(LINE, None).await;
    site.append("node.yaml", "limits: {per_signer_per_second: 10}");
    let _node = site.start_node().await;
    let (acme, fixit) = (Party::of(&site, "acme"), Party::of(&site, "fixit"));
    let mut slowed = 0;
    for _ in 0..60 {
        let statement = acme.seal("accounts", "transfer", None, &transfer());
        match site.node.submit(&statement).await {
            Ok(_) => {}
            Err(SubmitError::NotNow { retry_after, cause }) => {
                assert!(retry_after.is_some(), "{cause}");
                slowed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(slowed > 0, "60 statements at once, 10 a second are allowed");
    let back = [("to", text("acme")), ("amount", int(1)), ("currency", text("EUR"))];
    assert!(site.node.submit(&fixit.seal("accounts", "transfer", None, &back)).await.is_ok());
    assert!(Site::metric(&site.node, "tally_not_now_total", "code=\"rate\"").await > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_and_what_is_no_question_hurts_nobody() {
    let site = Site::new(LINE, None).await;
    let port = free_port();
    let socket = site.dir().join("node.sock").display().to_string();
    site.edit("node.yaml", &format!("\"unix:{socket}\""), &format!("\"unix:{socket}\", \"tcp:127.0.0.1:{port}\""));
    let mut node = site.start_node().await;
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("DELETE /entries HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("GET /entries/xyz HTTP/1.1\r\nHost: x\r\n\r\n", "4"),
        (
            "GET /entries/00000000000000000000000000000000000000000000000000000000000000aa HTTP/1.1\r\nHost: x\r\n\r\n",
            "404",
        ),
        ("GET /entries/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "4"),
        ("POST /entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/cose\r\nContent-Length: -1\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00TLS?\r\n\r\n", "400"),
    ] {
        let answer = raw(port, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?} is answered by {answer:?}");
    }
    // Half requests that never end, and lines that say nothing: they cost a connection each and hinder nobody.
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut line = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if number % 2 == 0 {
            line.write_all(b"POST /entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/cose\r\nContent-Length: 500\r\n\r\nhalf").await.unwrap();
        }
        idle.push(line);
    }
    let mut local = UnixStream::connect(&socket).await.unwrap();
    local.write_all(&[0; 70_000]).await.ok();
    let acme = Party::of(&site, "acme");
    let done = timeout(Duration::from_secs(10), acme.call(&site.node, "accounts", "transfer", None, &transfer())).await;
    assert_eq!(done.expect("a good one gets through").refusal, None);
    assert!(node.is_running() && !node.log().contains("panicked"), "{}", node.tail());
    // With all these lines open it still stops when asked, in good time.
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

/// Sends bytes over TCP and gives the beginning of what comes back.
async fn raw(port: u16, request: &[u8]) -> String {
    let mut line = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    line.write_all(request).await.unwrap();
    let mut answer = vec![0; 4_096];
    let length = timeout(Duration::from_secs(10), line.read(&mut answer)).await.expect("an answer or an end");
    String::from_utf8_lossy(&answer[..length.unwrap_or(0)]).into_owned()
}

const MISBEHAVIOURS: [(&str, Manner, &[&str]); 8] = [
    ("busy", Manner::Exception(6), &["refused"]),
    ("broken", Manner::Exception(4), &["refused"]),
    ("holes", Manner::Exception(2), &["no-such-address"]),
    ("garbage", Manner::Garbage, &["nonsense", "link-down", "timeout"]),
    ("half", Manner::Half, &["timeout", "link-down", "nonsense"]),
    ("cut", Manner::Cut, &["link-down", "nonsense", "timeout"]),
    ("never", Manner::Never, &["timeout", "link-down"]),
    ("foreign", Manner::Foreign, &["nonsense", "timeout", "link-down"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn misbehaving_modbus_devices_are_told_apart_and_their_neighbour_flows() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let mut good = Pymodbus::start(free_port()).await;
    let mut line = device("good", good.port, "f32");
    let mut rogues = Vec::new();
    for (name, manner, _) in MISBEHAVIOURS {
        let rogue = Rogue::start(manner).await;
        line += &device(name, rogue.port, "u16");
        rogues.push(rogue);
    }
    let endless = Rogue::start(Manner::Endless).await;
    line += &device("endless", endless.port, "u16");
    let site = Site::new(&format!("plant: line\ndevices:{line}"), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    for (name, _, reasons) in MISBEHAVIOURS.into_iter().chain([("endless", Manner::Endless, MISBEHAVIOURS[3].2)]) {
        ear.until(0, &format!("tallystick/line/{name}/load"), |json| {
            json["v"].is_null() && reasons.iter().any(|reason| json["e"] == *reason)
        })
        .await;
    }
    for load in [1.5, 2.5, 3.5] {
        let mark = ear.mark();
        good.set_f32(0, load).await;
        ear.value(mark, "tallystick/line/good/load", &json!(load)).await;
    }
    // In words, where somebody looks who wonders why there is no value.
    let status = site.status().await.to_string();
    for (name, ..) in MISBEHAVIOURS {
        assert!(status.contains(name), "the status does not name {name}: {status}");
    }
    assert!(status.contains("down: "), "{status}");
    // When they come to their senses, they are read like any other.
    let mark = ear.mark();
    rogues.iter().chain([&endless]).for_each(|rogue| rogue.behave(Manner::Good(42)));
    // (An address that the device does not know is asked for again only once a minute.)
    for (name, ..) in MISBEHAVIOURS.into_iter().filter(|(name, ..)| *name != "holes") {
        ear.value(mark, &format!("tallystick/line/{name}/load"), &json!(42)).await;
    }
    is_well(&mut agent);
}

fn device(name: &str, port: u16, kind: &str) -> String {
    format!(
        "\n  - id: {name}\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n    every: 100ms\n    timeout: 300ms\n    \
         points:\n      - {{id: load, at: holding:0, type: {kind}, unit: \"%\"}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_node_and_an_untrusted_server_are_named_and_their_neighbours_flow() {
    let outside = tempfile::tempdir().unwrap();
    let broker = Mosquitto::start(outside.path()).await;
    let (open_port, secure_port) = (free_port(), free_port());
    let mut open = Asyncua::start(open_port, "none", &outside.path().join("open")).await;
    let _secure = Asyncua::start(secure_port, "basic256sha256", &outside.path().join("secure")).await;
    let line = format!(
        r#"
plant: line
devices:
  - id: open
    connect: "opc.tcp://127.0.0.1:{open_port}"
    security: {{policy: none}}
    every: 100ms
    points:
      - {{id: temperature, at: "nsu=urn:tallystick:test;s=Temperature", unit: Cel}}
      - {{id: ghost, at: "nsu=urn:tallystick:test;s=No.Such.Node", unit: "1"}}
      - {{id: stranger, at: "nsu=urn:nobody:knows;i=7", unit: "1"}}
  - id: secure
    connect: "opc.tcp://127.0.0.1:{secure_port}"
    every: 100ms
    points:
      - {{id: temperature, at: "nsu=urn:tallystick:test;s=Temperature", unit: Cel}}
"#
    );
    let site = Site::new(&line, Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let _node = site.start_node().await;
    let mut agent = site.start_agent().await;
    for point in ["ghost", "stranger"] {
        let topic = format!("tallystick/line/open/{point}");
        ear.until(0, &topic, |json| json["e"] == "no-such-address" && json["v"].is_null()).await;
    }
    ear.until(0, "tallystick/line/secure/temperature", |json| json["v"].is_null()).await;
    for value in [20.5, 30.25] {
        let mark = ear.mark();
        open.tell(&format!("set Temperature {value}")).await;
        ear.value(mark, "tallystick/line/open/temperature", &json!(value)).await;
    }
    eventually("words about the certificate", async || {
        let status = site.status().await.to_string();
        status.contains("its certificate is not trusted").then_some(())
    })
    .await;
    let values = ear.since(0).into_iter().filter(|m| m.topic.contains("/secure/") && !m.json["v"].is_null()).count();
    assert_eq!(values, 0, "no value from a server that is not trusted");
    is_well(&mut agent);
}

fn is_well(agent: &mut Process) {
    assert!(agent.is_running() && !agent.log().contains("panicked"), "{}", agent.tail());
}
