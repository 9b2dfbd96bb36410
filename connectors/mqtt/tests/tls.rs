//! TLS to a real mosquitto that demands certificates and passwords, reading and publishing, in both versions of MQTT: who
//! is trusted, who is not, and how it is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Mosquitto, Running, device, login, point, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use std::process::Command;
use tally_connector_api::{LinkState, StatusReporter};
use tally_connector_mqtt::sparkplug::{EdgeNode, EdgeNodeConfig, Name};
use tally_connector_mqtt::{Message, MqttPublisher, Publisher, PublisherConfig, QoS};
use tally_model::{DeviceSpec, Encoding, Endpoint, Tls, Value};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "secret-4711";

/// Files of two little authorities: `ca` and `other-ca`, each with a server and a client.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { folder: tempfile::tempdir().unwrap() };
        for prefix in ["", "other-"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, format!("{prefix}ca"));
            pki.write(&format!("{prefix}ca"), &params.self_signed(&key).unwrap().pem(), "");
            let issuer = Issuer::new(params, key);
            for (name, host) in [("server", "127.0.0.1"), ("elsewhere", "10.9.9.9"), ("client", "agent")] {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
                let certificate = params.signed_by(&key, &issuer).unwrap();
                pki.write(&format!("{prefix}{name}"), &certificate.pem(), &key.serialize_pem());
            }
        }
        pki
    }

    fn write(&self, name: &str, certificate: &str, key: &str) {
        std::fs::write(self.file(&format!("{name}.pem")), certificate).unwrap();
        tally_secrets::write(&self.file(&format!("{name}.key")), key.as_bytes()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tls(&self, ca: &str, client: Option<&str>) -> Tls {
        Tls {
            ca: Some(self.file(&format!("{ca}.pem"))),
            pin: None,
            certificate: client.map(|name| self.file(&format!("{name}.pem"))),
            key: client.map(|name| self.file(&format!("{name}.key"))),
        }
    }

    /// As a person would get it.
    fn fingerprint(&self, name: &str) -> String {
        let said = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(self.file(&format!("{name}.pem")))
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap().trim().split_once('=').unwrap().1.to_owned()
    }

    /// A mosquitto with this certificate that lets in clients of `ca` with the password.
    fn broker(&self, server: &str) -> Mosquitto {
        let passwords = Mosquitto::password_lines(self.folder.path(), "tally", PASSWORD);
        let file = |name: String| self.file(&name).display().to_string();
        Mosquitto::start_with(&format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n{passwords}",
            file("ca.pem".into()),
            file(format!("{server}.pem")),
            file(format!("{server}.key")),
        ))
    }
}

fn sensor(port: u16, version: &str, tls: Tls, password: &str) -> DeviceSpec {
    let mut device = login(device(port, vec![point("count", "hall/count", Encoding::Auto)]), "tally", password);
    device.endpoint = Endpoint::parse(&format!("mqtts://127.0.0.1:{port}?version={version}")).unwrap();
    device.security.tls = tls;
    device
}

/// The class of the first failure, and what it says.
async fn refusal(device: DeviceSpec) -> (String, String) {
    let mut link = Running::start(vec![device], "reader", 10);
    let status = link.until(|status| matches!(status.state, LinkState::Down { .. })).await;
    let LinkState::Down { fault, .. } = status.state else { unreachable!() };
    assert!(!fault.to_string().contains("guess"), "a password must not show: {fault}");
    (fault.class().to_owned(), fault.to_string())
}

fn publisher(device: &DeviceSpec) -> (MqttPublisher, tokio::sync::watch::Receiver<tally_connector_api::LinkStatus>) {
    let Endpoint::Mqtt(broker) = &device.endpoint else { panic!() };
    let config = PublisherConfig {
        broker: broker.clone(),
        tls: device.security.tls.clone(),
        client_id: "publisher".into(),
        user: device.security.user.clone(),
        password: device.security.password.clone(),
        in_flight_max: 10,
        will: None,
        birth: None,
    };
    let (reporter, status) = StatusReporter::new("scada");
    (MqttPublisher::start(config, CancellationToken::new(), reporter), status)
}

#[tokio::test]
async fn what_is_published_over_tls_is_read_over_tls() {
    let pki = Pki::new();
    let broker = pki.broker("server");
    for version in ["3.1.1", "5"] {
        let sensor = sensor(broker.port, version, pki.tls("ca", Some("client")), PASSWORD);
        let (publisher, _status) = publisher(&sensor);
        let mut link = Running::start(vec![sensor], &format!("reader-{version}"), 10);
        link.until_up().await;
        // Larger than a TLS record.
        for payload in ["7".to_owned(), " ".repeat(100_000) + "8"] {
            let expected = payload.trim().parse().unwrap();
            let message =
                Message { topic: "hall/count".into(), payload: payload.into(), qos: QoS::AtLeastOnce, retain: false };
            publisher.publish(message).await.unwrap();
            assert_eq!(link.outcome().await, Ok(Value::Integer(expected)), "version {version}");
        }
    }
}

#[tokio::test]
async fn each_refusal_has_its_name() {
    let pki = Pki::new();
    let broker = pki.broker("server");
    let elsewhere = pki.broker("elsewhere");
    for version in ["3.1.1", "5"] {
        let sensor = |port: u16, ca: &str, client: Option<&str>, password: &str| {
            sensor(port, version, pki.tls(ca, client), password)
        };
        let cases = [
            (
                "wrong CA",
                sensor(broker.port, "other-ca", Some("client"), PASSWORD),
                "server-not-trusted",
                "no authority",
            ),
            (
                "wrong name",
                sensor(elsewhere.port, "ca", Some("client"), PASSWORD),
                "server-not-trusted",
                "not valid for",
            ),
            ("no certificate", sensor(broker.port, "ca", None, PASSWORD), "we-are-not-trusted", "certificate of ours"),
            ("foreign", sensor(broker.port, "ca", Some("other-client"), PASSWORD), "we-are-not-trusted", "not accept"),
            ("wrong password", sensor(broker.port, "ca", Some("client"), "guess"), "bad-credentials", "password"),
        ];
        for (case, device, class, words) in cases {
            let (found, text) = refusal(device).await;
            assert_eq!(found, class, "{case}, MQTT {version}: {text}");
            assert!(text.contains(words), "{case}, MQTT {version}: {text}");
        }
    }
}

#[tokio::test]
async fn publishing_is_refused_with_the_same_names() {
    let pki = Pki::new();
    let broker = pki.broker("server");
    for (tls, password, class) in [
        (pki.tls("other-ca", Some("client")), PASSWORD, "server-not-trusted"),
        (pki.tls("ca", None), PASSWORD, "we-are-not-trusted"),
        (pki.tls("ca", Some("client")), "guess", "bad-credentials"),
    ] {
        let (_publisher, mut status) = publisher(&sensor(broker.port, "3.1.1", tls, password));
        let is_named = |state: &LinkState| matches!(state, LinkState::Down { fault, .. } if fault.class() == class);
        wait_for(&mut status, |status| is_named(&status.state)).await;
    }
}

#[tokio::test]
async fn a_pinned_broker_needs_no_authority_and_no_other_will_do() {
    let pki = Pki::new();
    // Not called 127.0.0.1, which a pin does not care about.
    let broker = pki.broker("elsewhere");
    let pinned = |name: &str| Tls { ca: None, pin: Some(pki.fingerprint(name)), ..pki.tls("ca", Some("client")) };
    let mut link = Running::start(vec![sensor(broker.port, "3.1.1", pinned("elsewhere"), PASSWORD)], "reader", 10);
    link.until_up().await;
    let (class, text) = refusal(sensor(broker.port, "3.1.1", pinned("server"), PASSWORD)).await;
    assert_eq!(class, "server-not-trusted");
    assert!(text.contains("pinned"), "{text}");
}

#[tokio::test]
async fn a_plain_broker_is_never_spoken_to_in_clear() {
    let pki = Pki::new();
    let broker = Mosquitto::start();
    let (class, text) = refusal(sensor(broker.port, "3.1.1", pki.tls("ca", None), PASSWORD)).await;
    assert_eq!(class, "unreachable", "{text}");
}

/// The broker's certificate is renewed: the file is read at the next connect.
#[tokio::test]
async fn a_renewed_authority_needs_no_restart() {
    let pki = Pki::new();
    let broker = pki.broker("server");
    let trusted = pki.file("trusted.pem");
    std::fs::copy(pki.file("other-ca.pem"), &trusted).unwrap();
    let tls = Tls { ca: Some(trusted.clone()), ..pki.tls("ca", Some("client")) };
    let mut link = Running::start(vec![sensor(broker.port, "3.1.1", tls, PASSWORD)], "reader", 10);
    link.until(|status| status.faults >= 1).await;
    std::fs::copy(pki.file("ca.pem"), &trusted).unwrap();
    link.until_up().await;
}

/// The edge node goes the same way to its servers.
#[tokio::test]
async fn an_edge_node_is_born_over_tls() {
    let pki = Pki::new();
    let broker = pki.broker("server");
    for version in ["3.1.1", "5"] {
        let sensor = sensor(broker.port, version, pki.tls("ca", Some("client")), PASSWORD);
        let Endpoint::Mqtt(server) = sensor.endpoint.clone() else { panic!() };
        let name = |text| Name::try_new(text).unwrap();
        let config = EdgeNodeConfig {
            servers: vec![server],
            tls: sensor.security.tls.clone(),
            client_id: format!("edge-{version}"),
            user: sensor.security.user.clone(),
            password: sensor.security.password.clone(),
            group: name("works"),
            edge_node: name("edge"),
            primary_host: None,
            bd_seq_file: pki.file("bdseq"),
            devices: vec![sensor],
            history_values_per_second: 100,
            commands: None,
        };
        let stop = CancellationToken::new();
        let node = EdgeNode::start(config, stop.clone(), StatusReporter::new("edge").0).unwrap();
        let mut progress = node.progress();
        let born = progress.wait_for(|progress| progress.is_born);
        tokio::time::timeout(common::PATIENCE, born).await.expect("born in time").unwrap();
        stop.cancel();
        node.finished().await;
    }
}
