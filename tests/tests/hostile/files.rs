//! Files that somebody hands over: evidence, mappings, permits, keys. Each is refused in words, in good time and little memory.

use std::time::Duration;
use tally_tests::{Attacks, Process, tally_command};

/// Longest time a file may keep us busy.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Memory a command may have, KiB: three times what it needs for an honest file.
const MEMORY_KIB: u64 = 1_500_000;

/// `refused` with words, `accepted`, `panicked` or `killed`.
async fn judged(arguments: &[&str]) -> String {
    let program = tally_command(&[]);
    let mut command = tokio::process::Command::new("bash");
    command.arg("-c").arg(format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""));
    command.arg(program.as_std().get_program()).args(arguments);
    let output = Process::run(command, TIME_MAX).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        _ if said.contains("panicked") => "panicked".to_owned(),
        Some(0) => "accepted".to_owned(),
        Some(1 | 2) if said.len() > 10 => "refused".to_owned(),
        Some(code) => format!("exit code {code}: {said:.200}"),
        None => "killed".to_owned(),
    }
}

fn mapping(point: &str) -> String {
    format!(
        "plant: line\ndevices:\n  - id: press-01\n    connect: modbus+tcp://127.0.0.1:1\n    points:\n      - {point}\n"
    )
}

fn billion_laughs() -> String {
    let mut text = "a: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    text + "plant: *a11\n"
}

fn mappings() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let point = |text: &str| mapping(text).into_bytes();
    vec![
        ("yaml-billion-laughs", "aliases of aliases, 10^12 of them", billion_laughs().into_bytes()),
        ("yaml-deep", "10,000 lists in one another", "[".repeat(10_000).into_bytes()),
        ("yaml-self", "an alias of itself", b"plant: &a [*a]\ndevices: []\n".to_vec()),
        ("yaml-merge", "a merge of itself", b"plant: line\ndevices: &d\n  <<: *d\n".to_vec()),
        ("yaml-duplicate-key", "a key twice", b"plant: line\nplant: other\ndevices: []\n".to_vec()),
        ("yaml-long-line", "a name of 5 MB", format!("plant: {}\ndevices: []\n", "a".repeat(5 << 20)).into_bytes()),
        ("yaml-nul", "NUL in the middle", b"plant: li\0ne\ndevices: []\n".to_vec()),
        ("yaml-not-utf8", "bytes that are no text", vec![0xff, 0xfe, 0x00, 0xd8, 0xff]),
        ("yaml-tag", "a tag that makes an object", b"plant: !!python/object/apply:os.system [id]\n".to_vec()),
        ("yaml-two-documents", "a second document behind the first", b"plant: line\n---\nplant: other\n".to_vec()),
        ("mapping-huge-address", "register 99999999999999999999", point("{id: a, at: holding:99999999999999999999, type: u16, unit: \"1\"}")),
        ("mapping-negative-address", "register -1", point("{id: a, at: \"holding:-1\", type: u16, unit: \"1\"}")),
        ("mapping-nan-scale", "a scale that is no number", point("{id: a, at: holding:1, type: u16, scale: .nan, unit: \"1\"}")),
        ("mapping-infinite-range", "a range without an end", point("{id: a, at: holding:1, type: u16, range: [-.inf, .inf], unit: \"1\"}")),
        ("mapping-point-path", "a point called ../../x", point("{id: ../../x, at: holding:1, type: u16, unit: \"1\"}")),
        ("mapping-password", "a password written into the file", b"plant: line\ndevices:\n  - id: a\n    connect: mqtt://b\n    security: {user: u, password: hunter2}\n    points: [{id: p, at: \"t\", unit: \"1\"}]\n".to_vec()),
    ]
}

fn rules() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let rule = |when: &str| {
        let point = "{id: a, at: holding:1, type: u16, unit: \"1\"}";
        format!("{}triggers:\n  - {{id: t, device: press-01, when: \"{when}\"}}\n", mapping(point)).into_bytes()
    };
    vec![
        ("rule-deep", "5,000 brackets", rule(&format!("{}a{} > 1", "(".repeat(5_000), ")".repeat(5_000)))),
        ("rule-long", "a condition of 1 MB", rule(&vec!["a > 1"; 150_000].join(" || "))),
        ("rule-foreign-function", "a function that is none of ours", rule("system('id') == 1")),
        ("rule-comprehension", "a loop over a list", rule("[1,2,3].all(x, [1,2,3].all(y, x > y))")),
        ("rule-not-boolean", "a number for a condition", rule("a + 1")),
        ("rule-unclosed", "an open bracket", rule("(a > 1")),
        ("rule-huge-number", "a > 10^400", rule(&format!("a > 1{}", "0".repeat(400)))),
    ]
}

fn evidence() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let deep = |open: u8| vec![open; 200_000];
    let huge = [&[0x9b][..], &u64::MAX.to_be_bytes(), &[0]].concat();
    let text = [&[0x7b][..], &(1_u64 << 62).to_be_bytes(), b"x"].concat();
    vec![
        ("evidence-empty", "no byte", Vec::new()),
        ("evidence-deep-arrays", "200,000 arrays in one another", deep(0x81)),
        ("evidence-deep-tags", "200,000 tags on one another", deep(0xc1)),
        ("evidence-deep-maps", "200,000 maps in one another", deep(0xa1)),
        ("evidence-huge-array", "an array of 2^64-1 items", huge),
        ("evidence-huge-text", "a text of 2^62 bytes", text),
        ("evidence-indefinite", "a list without an end", vec![0x9f; 1_000]),
        ("evidence-zeros", "20 MB of zeros", vec![0; 20 << 20]),
        ("evidence-json-deep", "JSON nested 200,000 deep", b"[".repeat(200_000)),
        ("evidence-json-empty", "an empty JSON object", b"{}".to_vec()),
        ("evidence-map-of-nothing", "an empty map", vec![0xa0]),
        ("evidence-other-file", "a key file", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_file_is_refused_in_words_in_good_time_and_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut attacks = Attacks::on("files");
    for (command, ending, files) in
        [("check", "yaml", mappings()), ("check", "yaml", rules()), ("verify", "tally", evidence())]
    {
        for (name, sent, bytes) in files {
            let file = dir.path().join(format!("{name}.{ending}"));
            std::fs::write(&file, bytes).unwrap();
            attacks.tried(name, sent, "refused", judged(&[command, &file.display().to_string()]).await);
        }
    }
    // Node and agent do not start on such a configuration either.
    for (name, program) in [("node-yaml-bomb", "node"), ("agent-yaml-bomb", "agent")] {
        let file = dir.path().join(format!("{program}.yaml"));
        std::fs::write(&file, billion_laughs()).unwrap();
        let sent = "aliases of aliases as a configuration";
        attacks.tried(name, sent, "refused", judged(&[program, "--config", &file.display().to_string()]).await);
    }
    attacks.finish(35);
}
