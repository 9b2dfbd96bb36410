//! A sensor with a key of its own, a program that is not ours: its seal is checked, passed on untouched into the evidence file, and
//! checked there by two verifiers with the key that the ledger knows. What is not sealed by it is never a value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::{Value as Json, json};
use std::path::Path;
use std::time::Duration;
use tally_evidence::{EvidenceFile, PartyKind, PartyRecord, SignedStatement, StatementKind, TriggerBody};
use tally_model::{Grade, PartyId};
use tally_tests::{Ear, Mosquitto, PATIENCE, Party, Process, Site, eventually, python, root, tally_command};
use tally_verifier::{Step, verify};
use tokio::process::Command;

fn mapping(broker: &str, form: &str, at: &str, key: &Path) -> String {
    let key = key.display();
    format!(
        r#"plant: hall
devices:
  - id: oven-07
    connect: "{broker}"
    every: 1min
    mqtt: {{sealed: {{as: {form}, key: "{key}", age: 30s}}}}
    points:
      - {{id: temp, at: "{at}", type: f64, unit: Cel}}
triggers:
  - id: too-hot
    device: oven-07
    when: "temp > 80.0"
    call: {{contract: maintenance-order, action: report, with: {{fault: "'too-hot'"}}}}
"#
    )
}

struct Hall {
    site: Site,
    ear: Ear,
    sensor: Process,
    _broker: Mosquitto,
    _dir: tempfile::TempDir,
}

const TOPIC: &str = "tallystick/hall/oven-07/temp";

impl Hall {
    async fn start(form: &str) -> (Self, [Process; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(dir.path()).await;
        let key = tally_evidence::SigningKey::from_secret(&[21; 32]).unwrap();
        let (private, public) = (dir.path().join("oven.key"), dir.path().join("oven.pub.pem"));
        std::fs::write(&private, key.to_pem().unwrap().as_str()).unwrap();
        std::fs::write(&public, key.public().to_pem().unwrap()).unwrap();
        let (as_form, at) = if form == "cose" { ("cose", "cbor:hall/oven#/temp") } else { ("jws", "hall/oven#/temp") };
        let site = Site::new(&mapping(&broker.url(), as_form, at, &public), Some(&broker.url())).await;
        let node = site.start_node().await;
        // The owner registers the device's own key: without it the contracts take no trigger that says device-sealed.
        let record = PartyRecord {
            id: PartyId::try_new("oven-07").unwrap(),
            kind: PartyKind::Device,
            name: "oven 7".into(),
            key: key.public().clone(),
            firm: Some(PartyId::try_new("acme").unwrap()),
            skills: Vec::new(),
        };
        let acme = Party::of(&site, "acme");
        let done = acme.call(&site.node, "registry", "register-party", None, &[("party", record.to_cbor())]).await;
        assert_eq!(done.refusal, None);
        let ear = Ear::listen(broker.port).await;
        let agent = site.start_agent().await;
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/sealed_sensor.py"));
        command.args([&broker.port.to_string(), "hall/oven", "oven-07"]).arg(&private).arg(form);
        let sensor = Process::start("sealed_sensor.py", command);
        let mut hall = Self { site, ear, sensor, _broker: broker, _dir: dir };
        // Until the agent listens, nobody hears it.
        let mut heard = false;
        while !heard {
            let mark = hall.ear.mark();
            hall.tell("send 1").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            heard = hall.ear.since(mark).iter().any(|said| said.topic == TOPIC && said.json["v"] == 1.0);
        }
        (hall, [node, agent])
    }

    async fn tell(&mut self, line: &str) {
        assert_eq!(self.sensor.tell(line).await, "ok", "{line}");
    }

    async fn value(&mut self, value: f64) {
        let mark = self.ear.mark();
        self.tell(&format!("send {value}")).await;
        self.ear.value(mark, TOPIC, &json!(value)).await;
    }

    /// Something that must not be a value.
    async fn refused(&mut self, line: &str) {
        let (mark, before) = (self.ear.mark(), self.site.counter("seals_refused").await);
        self.tell(line).await;
        let said = self.ear.until(mark, TOPIC, |said| said["q"] == "bad").await.json;
        assert_eq!(said["e"], "nonsense", "{line}: {said}");
        assert_eq!(self.site.counter("seals_refused").await, before + 1, "{line}");
    }

    /// The evidence about the order that the sensor caused.
    async fn evidence(&self) -> Vec<u8> {
        let file = self.site.outside().join("mo-1.tally").display().to_string();
        let at = |name: &str| format!("unix:{}", self.site.dir().join(name).display());
        let (node, agent) = (at("node.sock"), at("agent.sock"));
        eventually("evidence about mo-1", async || {
            let arguments = ["evidence", "mo-1", "--node", &node, "--agent", &agent, "-o", &file];
            let output = Process::run(tally_command(&arguments), PATIENCE).await;
            output.status.success().then(|| std::fs::read(&file).unwrap())
        })
        .await
    }
}

/// The Python verifier's links.
async fn theirs(file: &Path) -> Json {
    let mut command = Command::new(python());
    command.arg(root().join("tests/interop/verify.py")).arg(file).arg("--json");
    let output = Process::run(command, PATIENCE).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

async fn from_sensor_to_evidence(form: &str) {
    let (mut hall, _processes) = Hall::start(form).await;
    hall.value(21.5).await;
    hall.value(22.25).await;
    // The broker may repeat the last message: nothing is told.
    let mark = hall.ear.mark();
    hall.tell("again").await;
    hall.value(23.0).await;
    assert!(hall.ear.since(mark).iter().filter(|said| said.topic == TOPIC).all(|said| said.json["v"] == 23.0));
    for line in ["replay 0", "old 24", "as oven-08 24", "spoil 24", "bare 24", "other 24"] {
        hall.refused(line).await;
    }
    // What the rule looks at from here on is sealed again: the trigger says so.
    hall.value(70.0).await;
    hall.value(95.5).await;
    let bytes = hall.evidence().await;
    let file = EvidenceFile::decode(&bytes).unwrap();
    let triggers = file.entries.iter().filter_map(|entry| {
        let statement = SignedStatement::parse(&entry.statement).ok()?;
        (statement.kind == StatementKind::Trigger).then(|| TriggerBody::decode(&statement.payload).unwrap())
    });
    assert_eq!(triggers.map(|trigger| trigger.grade).collect::<Vec<_>>(), [Grade::Device]);

    let report = verify(&bytes, Some(&hall.site.ledger_key()));
    assert!(report.all_hold(), "{:?}", report.first_broken());
    let own = report.links.iter().find(|link| link.step == Step::DeviceSeal).expect("the device's seal is checked");
    assert!(!own.detail.starts_with("0 ") && !own.detail.contains("; 0 values"), "{}", own.detail);
    let path = hall.site.outside().join("mo-1.tally");
    let said = theirs(&path).await;
    assert_eq!(said["holds"], true, "{said}");
    let links = said["links"].as_array().unwrap();
    assert!(links.iter().any(|link| link["step"] == "device-seal" && link["holds"] == true), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cose_from_sensor_to_evidence() {
    from_sensor_to_evidence("cose").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_jws_from_sensor_to_evidence() {
    from_sensor_to_evidence("jws").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flattened_jws_from_sensor_to_evidence() {
    from_sensor_to_evidence("flat").await;
}
