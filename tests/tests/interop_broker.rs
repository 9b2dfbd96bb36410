//! The demo's broker against mosquitto's own clients: QoS, retained messages, wills, sessions that wait, and a client of
//! MQTT 5, which is told that it is in the wrong place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_simulator::{Broker, start_broker};
use tally_tests::{PATIENCE, Process, find};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

fn client(program: &str, broker: &Broker, arguments: &[&str]) -> Command {
    let mut command = Command::new(find(program));
    command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string()]).args(arguments);
    command
}

async fn run(program: &str, broker: &Broker, arguments: &[&str]) -> (Option<i32>, String) {
    Process::says(client(program, broker, arguments)).await
}

async fn publish(broker: &Broker, arguments: &[&str]) {
    let (code, said) = run("mosquitto_pub", broker, arguments).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn every_qos_arrives_and_what_was_retained_comes_first() {
    let broker = start_broker(0).unwrap();
    publish(&broker, &["-t", "press/state", "-m", "kept", "-r", "-q", "2"]).await;
    publish(&broker, &["-t", "press/state/old", "-m", "x", "-r", "-q", "1"]).await;
    publish(&broker, &["-t", "press/state/old", "-n", "-r"]).await;
    let mut ear =
        Process::start("mosquitto_sub", client("mosquitto_sub", &broker, &["-v", "-q", "2", "-t", "press/#"]));
    assert_eq!(ear.line().await, "press/state kept");
    for qos in ["0", "1", "2"] {
        publish(&broker, &["-t", "press/1", "-m", qos, "-q", qos]).await;
        assert_eq!(ear.line().await, format!("press/1 {qos}"));
    }
    let long = "v".repeat(500_000);
    let mut big = client("mosquitto_pub", &broker, &["-t", "press/2", "-s", "-q", "1"]);
    let mut big = big.stdin(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    big.stdin.take().unwrap().write_all(long.as_bytes()).await.unwrap();
    assert!(big.wait().await.unwrap().success());
    assert_eq!(ear.line().await, format!("press/2 {long}"));
}

#[tokio::test]
async fn a_will_is_told_when_its_client_dies_and_not_when_it_leaves() {
    let broker = start_broker(0).unwrap();
    // Whoever hears it is subscribed.
    publish(&broker, &["-t", "go", "-m", "on", "-r", "-q", "1"]).await;
    let subscribe = |arguments: &[&str]| Process::start("mosquitto_sub", client("mosquitto_sub", &broker, arguments));
    let mut ear = subscribe(&["-q", "1", "-t", "will", "-t", "go"]);
    assert_eq!(ear.line().await, "on");
    let will = ["-t", "go", "--will-topic", "will", "--will-payload"];
    let mut dies = subscribe(&[&will[..], &["dead"]].concat());
    assert_eq!(dies.line().await, "on");
    let (code, said) = run("mosquitto_sub", &broker, &[&will[..], &["left", "-C", "1"]].concat()).await;
    assert_eq!((code, said.as_str()), (Some(0), "on\n"));
    dies.kill().await;
    assert_eq!(ear.line().await, "dead");
}

#[tokio::test]
async fn a_session_waits_for_its_client() {
    let broker = start_broker(0).unwrap();
    let session = ["-c", "-i", "scada", "-q", "1", "-t", "press/#"];
    assert_eq!(run("mosquitto_sub", &broker, &[&session[..], &["-E"]].concat()).await.0, Some(0));
    for number in ["1", "2", "3"] {
        publish(&broker, &["-t", "press/x", "-m", number, "-q", "1"]).await;
    }
    let (code, said) = run("mosquitto_sub", &broker, &[&session[..], &["-C", "3", "-W", "10"]].concat()).await;
    assert_eq!((code, said.as_str()), (Some(0), "1\n2\n3\n"));
}

#[tokio::test]
async fn strangers_are_told_or_cut_off_and_hurt_nobody() {
    let broker = start_broker(0).unwrap();
    let (code, said) = run("mosquitto_sub", &broker, &["-V", "5", "-t", "a", "-W", "5"]).await;
    assert!(code != Some(0) && said.to_lowercase().contains("protocol version"), "{code:?} {said}");
    let (code, said) = run("mosquitto_sub", &broker, &["-t", "a/#/b", "-W", "2"]).await;
    assert_ne!(code, Some(0), "{said}");
    // No CONNECT; a PUBLISH with a wildcard; a packet that announces 200 MB; a length without end; half a packet.
    let connect = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'h'];
    let after_connect: [&[u8]; 4] =
        [&[0x30, 3, 0, 1, b'#'], &[0x30, 0xff, 0xff, 0xff, 0x60], &[0x30, 0xff, 0xff, 0xff, 0xff], &connect];
    for bytes in after_connect
        .map(|bytes| [&connect[..], bytes].concat())
        .iter()
        .chain([&b"GET / HTTP/1.1\r\n\r\n"[..].to_vec()])
    {
        let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{bytes:?} is still connected");
    }
    publish(&broker, &["-t", "a", "-m", "still there", "-r", "-q", "1"]).await;
    assert_eq!(
        run("mosquitto_sub", &broker, &["-t", "a", "-C", "1", "-W", "5"]).await,
        (Some(0), "still there\n".into())
    );
}
