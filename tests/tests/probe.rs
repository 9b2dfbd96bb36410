//! `tally probe` against a Modbus server that is not ours: the value under every order, texts, bits, identification, and
//! the exit code of an address that is not there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value, json};
use tally_tests::{PATIENCE, Process, Pymodbus, free_port, tally_command};

async fn probe(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["probe"];
    all.extend_from_slice(arguments);
    let ran = Process::run(tally_command(&all), PATIENCE).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

#[tokio::test]
async fn a_value_is_seen_in_every_order_and_the_device_named() {
    let mut server = Pymodbus::start(free_port()).await;
    server.tell("put holding 40 FLOAT32 little 7.125").await;
    server.tell("put holding 60 STRING big PRESS-01").await;
    server.tell("set coil 3 1 0 1 1").await;
    let url = format!("modbus+tcp://127.0.0.1:{}?unit=1", server.port);

    let (code, out, err) = probe(&[&url, "HR40", "40061", "coil:3"]).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    let line = |order: &str| out.lines().find(|line| line.trim().starts_with(order) && line.contains("7.125"));
    assert!(line("CDAB").is_some() && line("ABCD").is_none(), "{out}");
    for words in ["holding:40  0000 40e4", "\"PRESS-01\"", "coil:3  1 0 1 1", "Press Works"] {
        assert!(out.contains(words), "no `{words}` in\n{out}");
    }

    let (code, out, _) = probe(&["--json", "--from-one", &url, "holding:41"]).await;
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &found["identification"]["0"]), (Some(0), &json!("Press Works")));
    let address = &found["addresses"][0];
    assert_eq!((&address["at"], &address["found"]["registers"][1]), (&json!("holding:40"), &json!(0x40e4)));
    let values = address["found"]["values"].as_array().unwrap();
    let float = values.iter().find(|value| value["type"] == "f32" && value["order"] == "CDAB").unwrap();
    assert_eq!(float["value"], json!(7.125));
    assert_eq!(values.iter().filter(|value| value["type"] == "u64").count(), 8);
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_is_a_no() {
    let server = Pymodbus::start(free_port()).await;
    let url = format!("modbus+tcp://127.0.0.1:{}", server.port);
    // The last register there is: fewer than asked for are shown.
    let (code, out, _) = probe(&[&url, "holding:1999"]).await;
    assert_eq!(code, Some(0), "{out}");
    let (code, out, _) = probe(&[&url, "holding:5000", "holding:1"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("exception 0x02") && out.contains("holding:1  0000"), "{out}");
    server.kill().await;
    let (code, out, _) = probe(&["--timeout", "500ms", &url, "holding:1"]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("cannot connect"), "{out}");
    for wrong in
        [&[url.as_str(), "41"][..], &["opc.tcp://127.0.0.1:1", "holding:1"], &["modbus+tls://127.0.0.1:1", "HR1"]]
    {
        let (code, out, err) = probe(wrong).await;
        assert_eq!(code, Some(2), "{out}{err}");
    }
}
