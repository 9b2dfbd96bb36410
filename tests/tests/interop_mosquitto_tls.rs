//! The agent, as a process, with Debian's mosquitto behind TLS on both sides: sensors are read and SCADA is told over
//! `mqtts://` with certificates both ways, in MQTT 5; and what is wrong with a certificate is named by `tally status`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use std::path::{Path, PathBuf};
use tally_tests::{Ear, Mosquitto, Site, eventually, free_port, publish, tally_command};

/// An authority with a certificate for the broker and one for the agent.
struct Pki<'d>(&'d Path);

impl Pki<'_> {
    fn make(&self, authority: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, authority);
        std::fs::write(self.file(&format!("{authority}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for (name, host) in [("server", "127.0.0.1"), ("agent", "agent-01")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(self.file(&format!("{authority}-{name}.pem")), certificate.pem()).unwrap();
            tally_secrets::write(&self.file(&format!("{authority}-{name}.key")), key.serialize_pem().as_bytes())
                .unwrap();
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// `ca`, `certificate` and `key`, as a mapping and agent.yaml write them.
    fn keys(&self, authority: &str) -> String {
        format!(
            "ca: {}, certificate: {}, key: {}",
            self.shown(&format!("{authority}.pem")),
            self.shown("works-agent.pem"),
            self.shown("works-agent.key")
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sensors_and_scada_are_reached_over_tls_and_a_wrong_authority_is_named() {
    let outside = tempfile::tempdir().unwrap();
    let pki = Pki(outside.path());
    pki.make("works");
    pki.make("strangers");
    let secure = free_port();
    // The test itself listens and publishes at the plain listener of the same broker.
    let mosquitto = Mosquitto::start_with(
        outside.path(),
        &format!(
            "user root\nlistener {secure} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            pki.shown("works.pem"),
            pki.shown("works-server.pem"),
            pki.shown("works-server.key")
        ),
    )
    .await;
    let sensor = |id: &str, authority: &str| {
        format!(
            "  - id: {id}\n    connect: \"mqtts://127.0.0.1:{secure}?version=5\"\n    every: 100ms\n    security: {{{}}}\n    \
             mqtt: {{qos: 2}}\n    points:\n      - {{id: temperature, at: \"hall/climate#/temperature\", unit: Cel}}\n",
            pki.keys(authority)
        )
    };
    let mapping = format!("plant: line\ndevices:\n{}{}", sensor("hall", "works"), sensor("doubtful", "strangers"));
    let site = Site::new(&mapping, Some(&mosquitto.url())).await;
    let url = format!("mqtts://127.0.0.1:{secure}?version=5");
    let (plain, secured) = (format!("\"{}\"", mosquitto.url()), format!("\"{url}\", {}", pki.keys("works")));
    site.edit("agent.yaml", &plain, &secured);
    let ear = Ear::listen(mosquitto.port).await;
    let _node = site.start_node().await;
    let agent = site.start_agent().await;
    let topic = "tallystick/line/hall/temperature";
    eventually("the value of the sensor", async || {
        publish(mosquitto.port, "hall/climate", r#"{"temperature": 21.25}"#).await;
        ear.since(0).into_iter().find(|heard| heard.topic == topic && heard.json["v"] == json!(21.25)).map(|_| ())
    })
    .await;
    let socket = format!("unix:{}", site.dir().join("agent.sock").display());
    let output = tally_command(&["status", "--agent", &socket]).output().await.unwrap();
    let status = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(status.contains("comes from no authority in `ca`"), "{status}\n{}", agent.tail());
}
