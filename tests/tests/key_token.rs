//! A plant whose agent seals with a key in a real token (SoftHSM2), which is pulled out and put in again under it. How it is pulled, and
//! what the library says then, stands in `keys/src/testing.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use tally_keys::testing::{PIN, SoftToken};
use tally_tests::{Ear, Mosquitto, Process, Pymodbus, Site, eventually, free_port, press, tally_command};

fn mapping(port: u16) -> String {
    press(
        port,
        r#"    every: 100ms
    points:
      - {id: load, at: "holding:0", type: f32, unit: "%"}
triggers:
  - id: too-much
    device: press-01
    when: "load > 90.0"
    until: "load < 50.0"
"#,
    )
}

const SEALING: &str = "tallystick/line/agent/agent-01/sealing";

struct Plant {
    site: Site,
    token: SoftToken,
    uri: String,
    _dir: tempfile::TempDir,
}

impl Plant {
    /// The agent's key is made in the token, and takes over on the ledger at once.
    async fn start(mapping: &str, broker: Option<&str>) -> (Self, Process) {
        let dir = tempfile::tempdir().unwrap();
        let token = SoftToken::new(dir.path()).unwrap();
        let (name, value) = token.environment();
        let site = Site::with_environment(mapping, broker, &[(name, &value)]).await;
        let node = site.start_node().await;
        let plant = Self { uri: token.uri("agent-01"), site, token, _dir: dir };
        let (code, made) = plant.tally(&["keys", "new", &plant.uri]).await;
        assert!(code == 0 && made.contains("BEGIN PUBLIC KEY"), "{made}");
        let (code, said) = plant.tally(&["keys", "new", &plant.uri]).await;
        assert!(code == 2 && said.contains("never overwritten"), "{said}");
        let key = ["--new-key", &plant.uri, "--overlap", "0s", "--as", "agent-01", "--key", "keys/agent-01.key"];
        let (code, said) = plant.tally(&[&["registry", "rotate"][..], &key, &plant.node()].concat()).await;
        assert_eq!(code, 0, "{said}");
        plant.site.edit("agent.yaml", "key: keys/agent-01.key", &format!("key: \"{}\"", plant.uri));
        (plant, node)
    }

    fn node(&self) -> [&'static str; 2] {
        // The working folder is the site's.
        ["--node", "unix:node.sock"]
    }

    async fn tally(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = tally_command(arguments);
        let (name, value) = self.token.environment();
        command.env(name, value).current_dir(self.site.dir());
        let (code, said) = Process::says(command).await;
        assert!(!said.contains(PIN), "the PIN was printed");
        (code.unwrap(), said)
    }

    async fn counts(&self, counter: &str, value: u64) {
        let what = format!("{counter} to be {value}");
        eventually(&what, async || (self.site.counter(counter).await == value).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_token_loses_no_trigger_also_over_a_kill() {
    let (port, outside) = (free_port(), tempfile::tempdir().unwrap());
    let mut press = Pymodbus::start(port).await;
    let broker = Mosquitto::start(outside.path()).await;
    let (plant, _node) = Plant::start(&mapping(port), Some(&broker.url())).await;
    let ear = Ear::listen(broker.port).await;
    let mut agent = plant.site.start_agent().await;
    ear.until(0, SEALING, |json| json["state"] == "seals").await;
    press.set_f32(0, 95.0).await;
    // The ledger takes it by the key that was made in the token, and by no other.
    plant.counts("triggers_receipted", 1).await;

    plant.token.pull().unwrap();
    let told = ear.until(0, SEALING, |json| json["state"] == "waits-for-key").await;
    assert!(told.json["text"].as_str().unwrap().contains("pulled out"), "{}", told.json);
    press.set_f32(0, 20.0).await;
    plant.counts("triggers_unsealed", 1).await;
    press.set_f32(0, 96.0).await;
    plant.counts("triggers_unsealed", 2).await;
    let before = plant.site.readings("press-01").await;
    eventually("readings to go on", async || (plant.site.readings("press-01").await > before).then_some(())).await;
    let status = plant.site.status().await;
    assert!(status["alarms"].to_string().contains("the key cannot be used"), "{}", status["alarms"]);
    let said = plant.site.agent.get_bytes("/ready").await.unwrap_err().to_string();
    assert!(said.contains("the key cannot be used"), "{said}");

    // It starts again without its token, and what was decided is still there.
    agent.kill().await;
    assert!(!agent.log().contains(PIN));
    let agent = plant.site.start_agent().await;
    plant.counts("triggers_unsealed", 2).await;
    press.set_f32(0, 20.0).await;
    plant.counts("triggers_unsealed", 3).await;
    assert_eq!(plant.site.counter("triggers_receipted").await, 0);

    let mark = ear.mark();
    plant.token.put_back().unwrap();
    plant.counts("triggers_receipted", 3).await;
    ear.until(mark, SEALING, |json| json["state"] == "seals").await;
    assert_eq!(plant.site.counter("triggers_unsealed").await, 0);
    assert_eq!(plant.site.counter("dead_letters").await, 0, "none was refused, none came twice");
    assert_eq!(plant.site.counter("key_away").await, 0);
    assert!(!agent.log().contains(PIN));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_seal_with_tokens_and_are_told_when_they_cannot() {
    let (plant, _node) = Plant::start(&mapping(1), None).await;
    let call = async |key: &str| {
        let what = ["registry", "fingerprint", "press-01", "--of", "firmware", "--file", "keys/node.pub.pem"];
        plant.tally(&[&what[..], &["--as", "agent-01", "--key", key], &plant.node()].concat()).await
    };
    let (code, said) = call(&plant.uri).await;
    assert!(code == 0 && said.contains("entry"), "{said}");
    let (code, said) = call("keys/agent-01.key").await;
    assert!(code == 2 && said.contains("did not take the call"), "the old key is over: {said}");

    let (code, said) = call(&format!("{}&pin-value=8765432109", plant.uri)).await;
    assert!(code == 2 && said.contains("pin-source") && !said.contains("8765432109"), "{said}");
    plant.token.write_pin("0000000000").unwrap();
    let (code, said) = call(&plant.uri).await;
    assert!(code == 2 && said.contains("the PIN is wrong") && !said.contains("0000000000"), "{said}");
    plant.token.write_pin(PIN).unwrap();
    plant.token.pull().unwrap();
    let (code, said) = call(&plant.uri).await;
    assert!(code == 2 && said.contains("pulled out") && said.contains("object=agent-01"), "{said}");

    // The node's own key stays in a file, and it says why.
    plant.site.edit("node.yaml", "key: keys/node.key", &format!("key: \"{}\"", plant.uri));
    let (code, said) = plant.tally(&["node", "--config", "node.yaml"]).await;
    assert!(code == 2 && said.contains("must lie in a file"), "{said}");
}
