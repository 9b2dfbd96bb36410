//! Commands of SCADA that are none, or of names that are none: each is refused, answered and counted.

use super::mqtt::{AGENT, Hall, message, temp};
use serde_json::{Value as Json, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tally_connector_mqtt::sparkplug::{Metric, MetricValue};
use tally_tests::{Attacks, eventually, publish_all};

/// The code of the refusal in an answer.
pub(super) fn code(answer: &Json) -> &str {
    answer["code"].as_str().unwrap_or("carried out")
}

/// Commands that are none, and commands of names that are none; how many.
pub(super) async fn bad(hall: &Hall, attacks: &mut Attacks) -> u64 {
    let text = |text: &str| text.as_bytes().to_vec();
    let bad: [(&str, &str, Vec<u8>); 15] = [
        ("command-large", "5,000 bytes", format!("{{\"id\":\"a\",\"write\":\"{}\"}}", "x".repeat(5_000)).into_bytes()),
        ("command-huge", "200,000 bytes", vec![b' '; 200_000]),
        ("command-deep", "4,000 arrays in one another", vec![b'['; 4_000]),
        ("command-empty", "nothing", Vec::new()),
        ("command-not-utf8", "bytes that are no text", vec![0xff, 0xfe, 0, 0xd8]),
        ("command-unknown-key", "a key nobody knows", text("{\"id\":\"b\",\"write\":1,\"as\":\"admin\"}")),
        ("command-twice", "a key twice", text("{\"id\":\"c\",\"write\":1,\"write\":2}")),
        ("command-both", "to write and to call", text("{\"id\":\"d\",\"write\":1,\"call\":\"reset\"}")),
        ("command-neither", "neither to write nor to call", text("{\"id\":\"e\"}")),
        ("command-no-id", "without an id", text("{\"write\":1}")),
        ("command-id-control", "an id with a line break", text("{\"id\":\"f\\n\",\"write\":1}")),
        (
            "command-id-long",
            "an id of 300 letters",
            format!("{{\"id\":\"{}\",\"write\":1}}", "g".repeat(300)).into_bytes(),
        ),
        ("command-overflow", "the number 1e999", text("{\"id\":\"h\",\"write\":1e999}")),
        ("command-list", "a list for a value", text("{\"id\":\"i\",\"write\":[1]}")),
        ("command-no-time", "a time that is none", text("{\"id\":\"j\",\"at\":\"yesterday\",\"write\":1}")),
    ];
    let mut tried = 0;
    for (name, sent, payload) in bad {
        let got = command(hall, "hmi-3/press-01/setpoint", payload).await;
        attacks.tried(name, sent, "malformed", got);
        tried += 1;
    }
    let names: [(&str, &str, &str, &str); 8] = [
        ("command-as-star", "from a client called *", "*/press-01/setpoint", "malformed|no-policy"),
        ("command-as-blank", "from a client without a name", "/press-01/setpoint", "malformed|no-policy"),
        ("command-as-shared", "from a client called $share", "$share/press-01/setpoint", "malformed|no-policy"),
        ("command-as-agent", "in the name of the agent", "agent-01/press-01/setpoint", "no-policy"),
        ("command-to-star", "to the point *", "hmi-3/press-01/*", "unknown-point|malformed"),
        ("command-to-parent", "to the point ..", "hmi-3/press-01/..", "unknown-point|malformed"),
        (
            "command-to-others",
            "to a device that is not ours",
            "hmi-3/press-02/setpoint",
            "unknown-point|unknown-device",
        ),
        ("command-old", "of yesterday", "hmi-3/press-01/setpoint", "too-old"),
    ];
    for (name, sent, to, expected) in names {
        let at = if expected == "too-old" { now() - 86_400_000 } else { now() };
        let payload = json!({"id": name, "at": at, "write": 41}).to_string();
        attacks.tried(name, sent, expected, command(hall, to, payload.into_bytes()).await);
        tried += 1;
    }
    tried
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The code in the answer to a command.
async fn command(hall: &Hall, to: &str, payload: Vec<u8>) -> String {
    let mark = hall.ear.mark();
    hall.say(&format!("{AGENT}/command/{to}"), payload).await;
    let shown: Vec<_> = to.split('/').map(|part| if part.is_empty() { "_" } else { part }).collect();
    let answer = hall.ear.until(mark, &format!("{AGENT}/answer/{}", shown.join("/")), |_| true).await.json;
    code(&answer).to_owned()
}

/// Commands of a Sparkplug host; how many.
pub(super) async fn of_hosts(hall: &Hall, attacks: &mut Attacks) -> u64 {
    let setpoint = |value| Metric { name: Some("setpoint".to_owned()), alias: None, value: Some(value), ..temp(41.0) };
    let many = vec![setpoint(MetricValue::Double(41.0)); 17];
    let bad: [(&str, &str, Vec<u8>, &str); 5] = [
        ("dcmd-not-protobuf", "a DCMD that is no protobuf", vec![0xff; 200], "_"),
        ("dcmd-flood", "a DCMD of 17 metrics", message(0, many), "_"),
        ("dcmd-crowd", "a DCMD of 10,000 metrics", message(0, vec![temp(1.0); 10_000]), "_"),
        (
            "dcmd-type-lie",
            "a text that says to be a number",
            message(0, vec![setpoint(MetricValue::String("41".to_owned()))]),
            "setpoint",
        ),
        (
            "dcmd-wildcard",
            "a metric called +/#",
            message(0, vec![Metric { name: Some("+/#".to_owned()), datatype: None, ..temp(1.0) }]),
            "___",
        ),
    ];
    let mut tried = 0;
    for (name, sent, payload, answered) in bad {
        let mark = hall.ear.mark();
        hall.say("spBv1.0/works/DCMD/agent-01/press-01", payload).await;
        let topic = format!("{AGENT}/answer/sparkplug/press-01/{answered}");
        let answer = hall.ear.until(mark, &topic, |_| true).await.json;
        attacks.tried(name, sent, "malformed|unknown-point", code(&answer));
        tried += 1;
    }
    tried
}

/// More than ten a second for long: most are turned away unread, and the next one is answered.
pub(super) async fn flood(hall: &Hall, attacks: &mut Attacks) {
    let mark = hall.ear.mark();
    let all = (0..200).map(|number| format!("{{\"id\":\"flood-{number}\"}}").into_bytes()).collect();
    publish_all(hall.broker.port, &format!("{AGENT}/command/hmi-3/press-01/setpoint"), all, false).await;
    let topic = format!("{AGENT}/answer/hmi-3/press-01/setpoint");
    let fast = hall.ear.until(mark, &topic, |answer| answer["code"] == "too-fast").await.json;
    attacks.tried("command-flood", "200 commands at once", "too-fast", code(&fast));
    eventually("a command to be read again", async || {
        (command(hall, "hmi-3/press-01/setpoint", b"{}".to_vec()).await == "malformed").then_some(())
    })
    .await;
}
