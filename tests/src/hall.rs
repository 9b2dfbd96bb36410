//! A hall with a sensor that has a key of its own, a program that is not ours.

use crate::{Ear, Mosquitto, PATIENCE, Party, Process, Site, eventually, python, root, tally_command};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tally_evidence::{PartyKind, PartyRecord, SigningKey};
use tally_model::PartyId;
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

/// A site with an oven, `oven-07`, whose sensor seals its messages; they come over MQTT, and the oven is too hot above 80 °C.
pub struct Hall {
    /// Node and agent.
    pub site: Site,
    /// What SCADA hears.
    pub ear: Ear,
    /// The key that the sensor seals with.
    pub key: SigningKey,
    sensor: Process,
    _broker: Mosquitto,
    _dir: tempfile::TempDir,
}

impl Hall {
    /// Where the agent tells the values.
    pub const TOPIC: &str = "tallystick/hall/oven-07/temp";
}

impl Hall {
    /// Starts all of it; `form` is `cose`, `jws` or `flat`, and `change` has the last word about the site's files. The processes are node
    /// and agent. Returns when the first value was heard.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(form: &str, change: impl FnOnce(&Site)) -> (Self, [Process; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let broker = Mosquitto::start(dir.path()).await;
        let key = SigningKey::from_secret(&[21; 32]).unwrap();
        let (private, public) = (dir.path().join("oven.key"), dir.path().join("oven.pub.pem"));
        std::fs::write(&private, key.to_pem().unwrap().as_str()).unwrap();
        std::fs::write(&public, key.public().to_pem().unwrap()).unwrap();
        let (as_form, at) = if form == "cose" { ("cose", "cbor:hall/oven#/temp") } else { ("jws", "hall/oven#/temp") };
        let site = Site::new(&mapping(&broker.url(), as_form, at, &public), Some(&broker.url())).await;
        change(&site);
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
        let mut hall = Self { site, ear, key, sensor, _broker: broker, _dir: dir };
        // Until the agent listens, nobody hears it.
        let mut heard = false;
        while !heard {
            let mark = hall.ear.mark();
            hall.tell("send 1").await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            heard = hall.ear.since(mark).iter().any(|said| said.topic == Self::TOPIC && said.json["v"] == 1.0);
        }
        (hall, [node, agent])
    }

    /// Has the sensor do something: a line for `tests/interop/sealed_sensor.py`.
    ///
    /// # Panics
    /// When it says no.
    pub async fn tell(&mut self, line: &str) {
        assert_eq!(self.sensor.tell(line).await, "ok", "{line}");
    }

    /// Has the sensor seal a value, and waits until SCADA hears it.
    ///
    /// # Panics
    /// When nobody hears it.
    pub async fn value(&mut self, value: f64) {
        let mark = self.ear.mark();
        self.tell(&format!("send {value}")).await;
        self.ear.value(mark, Self::TOPIC, &json!(value)).await;
    }

    /// Something that must not be a value.
    ///
    /// # Panics
    /// When it is one.
    pub async fn refused(&mut self, line: &str) {
        let (mark, before) = (self.ear.mark(), self.site.counter("seals_refused").await);
        self.tell(line).await;
        let said = self.ear.until(mark, Self::TOPIC, |said| said["q"] == "bad").await.json;
        assert_eq!(said["e"], "nonsense", "{line}: {said}");
        assert_eq!(self.site.counter("seals_refused").await, before + 1, "{line}");
    }

    /// The evidence about the order that the sensor caused, as a file beside the site.
    ///
    /// # Panics
    /// When none can be made.
    pub async fn evidence(&self) -> Vec<u8> {
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
