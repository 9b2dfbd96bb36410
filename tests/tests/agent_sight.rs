//! What somebody hides is hidden at the agent's own interface, too: every route is asked by readers with and without the right, and the bytes
//! of the answers are searched for keys and for the signatures from which a key is computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use serde_json::Value;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tally_ca::Authority;
use tally_edge_agent::{Shows, shown_by_route};
use tally_evidence::cbor::{Cbor, map, text};
use tally_evidence::{Disclosure, SignedStatement, TriggerBody};
use tally_model::Tls;
use tally_tests::{Hall, Needles, Party, Process, eventually, free_port};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Who asks over TLS, by the name in the certificate. The agent belongs to itself, the oven to acme, tina is named, no party is called
/// stranger, and `nobody` shows no certificate: he is on this machine, which has the vault.
const READERS: [&str; 6] = ["tina", "acme", "agent-01", "fixit", "stranger", "nobody"];

struct Plant {
    hall: Hall,
    processes: [Process; 2],
    port: u16,
    certificates: PathBuf,
    /// A trigger and an anchor that the agent sealed, and the last reading that an anchor covers.
    trigger: String,
    anchor: String,
    covered: u64,
}

impl Plant {
    async fn start() -> Self {
        let port = free_port();
        let mut certificates = PathBuf::new();
        let (mut hall, processes) = Hall::start("cose", |site| {
            certificates = site.outside().join("tls");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let authority = Authority::init(&site.outside().join("ca"), "plant", 30, now).unwrap();
            for name in ["localhost", "tina", "acme", "agent-01", "fixit", "stranger"] {
                authority.issue_into(&certificates, &[name.to_owned()], 30, now).unwrap();
            }
            let socket = site.dir().join("agent.sock");
            let (plain, both) = (
                format!("unix:{}", socket.display()),
                format!("[\"unix:{}\", \"tls:127.0.0.1:{port}\"]", socket.display()),
            );
            site.edit("agent.yaml", &format!("\nlisten: {plain}"), &format!("\nlisten: {both}"));
            let file = |name: &str| certificates.join(name).display().to_string();
            let files = [("certificate", "localhost.pem"), ("key", "localhost.key"), ("client_ca", "ca.pem")];
            let files: Vec<_> = files.iter().map(|(key, name)| format!("{key}: {}", file(name))).collect();
            site.append("agent.yaml", &format!("listen_tls: {{{}, clients: optional}}", files.join(", ")));
            site.append("agent.yaml", "anchors: {every: 1s}");
        })
        .await;
        for value in [21.5, 70.0, 95.5] {
            hall.value(value).await;
        }
        hall.evidence().await;
        let (mut trigger, mut anchor) = (String::new(), String::new());
        let covered = eventually("an anchor that covers a reading", async || {
            let said = hall.site.agent.get_json("/anchors").await.ok()?;
            said["devices"].as_array()?.iter().find_map(|device| device["covered"].as_u64())
        })
        .await;
        for entry in hall.site.node.get_json("/entries?limit=1000").await.unwrap()["entries"].as_array().unwrap() {
            let id = entry["statement"].as_str().unwrap_or_else(|| panic!("{entry}")).to_owned();
            match entry["kind"].as_str().unwrap() {
                "trigger" => trigger = id,
                "anchor" => anchor = id,
                _ => {}
            }
        }
        Self { hall, processes, port, certificates, trigger, anchor, covered: covered.saturating_sub(1) }
    }

    fn questions(&self, path: &str) -> Vec<String> {
        let of = |ids: &[&String]| ids.iter().map(|id| path.replace("{id}", id)).collect();
        match path {
            "/statements/{id}" | "/receipts/{id}" => of(&[&self.trigger, &self.anchor]),
            "/disclosures/{id}" => of(&[&self.trigger]),
            "/readings/{device}/{number}" => vec![format!("/readings/oven-07/{}", self.covered)],
            "/status" | "/live" | "/ready" | "/metrics" | "/dead-letters" | "/anchors" | "/permits"
            | "/permits/use" | "/reload" => vec![path.to_owned()],
            path => panic!("{path} is new: say here how to ask it for keys and signatures"),
        }
    }

    /// Status, and everything that came: head and body.
    async fn ask(&self, reader: &str, method: &str, path: &str) -> (u16, Vec<u8>) {
        let answer = if reader == "local" {
            exchange(UnixStream::connect(self.hall.site.dir().join("agent.sock")).await.unwrap(), method, path).await
        } else {
            let file = |name: String| Some(self.certificates.join(name)).filter(|_| reader != "nobody");
            let tls = Tls {
                ca: Some(self.certificates.join("ca.pem")),
                pin: None,
                certificate: file(format!("{reader}.pem")),
                key: file(format!("{reader}.key")),
            };
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            let stream = tally_connector_api::tls::handshake(stream, "localhost", self.port, &tls).await.unwrap();
            exchange(stream, method, path).await
        };
        (String::from_utf8_lossy(&answer[9..12]).parse().unwrap(), answer)
    }

    /// The keys of agent and oven, and what they signed, apart.
    async fn needles(&self) -> [Needles; 2] {
        let (mut agents, mut devices) = (Needles::default(), Needles::default());
        let agent = self.hall.site.key("agent-01");
        for (needles, name, key) in
            [(&mut agents, "the agent's key", agent.public()), (&mut devices, "the oven's key", self.hall.key.public())]
        {
            let (x, y) = key.sec1()[1..].split_at(32);
            needles.add(&format!("x of {name}"), x);
            needles.add(&format!("y of {name}"), y);
        }
        let get = async |path: String| self.hall.site.agent.get_bytes(&path).await.unwrap();
        for id in [&self.trigger, &self.anchor] {
            let statement = get(format!("/statements/{id}")).await;
            agents.add("a signature of the agent", &statement[statement.len() - 64..]);
        }
        let trigger = SignedStatement::parse(&get(format!("/statements/{}", self.trigger)).await).unwrap();
        let points = TriggerBody::decode(&trigger.payload).unwrap().readings.points;
        let disclosure = Disclosure::decode(&get(format!("/disclosures/{}", self.trigger)).await).unwrap();
        let mut sealed = 0;
        for reading in disclosure.readings(&points).unwrap() {
            let Some(seal) = reading.sample.seal else { continue };
            devices.add("a signature of the oven", &seal[seal.len() - 64..]);
            sealed += 1;
        }
        assert!(sealed > 0, "the oven seals");
        [agents, devices]
    }

    async fn show_to_tina(&self) {
        let tina = map([("parties", Cbor::Array(vec![text("tina")])), ("roles", Cbor::Array(Vec::new()))]);
        for (of, id, by) in [("party", "agent-01", "agent-01"), ("device", "oven-07", "acme")] {
            let args = [("of", text(of)), ("id", text(id)), ("to", tina.clone())];
            let by = Party::of(&self.hall.site, by);
            let done = by.call(&self.hall.site.node, "registry", "set-visibility", None, &args).await;
            assert_eq!(done.refusal, None, "{id}");
        }
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that ends without a farewell has said everything all the same.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// Who may see what, once both are hidden from all but tina: the agent itself and the oven's owner see their own.
fn may(reader: &str, shows: Shows) -> bool {
    match shows {
        Shows::Nothing => true,
        Shows::AgentSeals => ["local", "nobody", "tina", "agent-01"].contains(&reader),
        Shows::DeviceSeals => ["local", "nobody", "tina", "acme"].contains(&reader),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_of_the_agent_shows_what_is_hidden_and_each_shows_it_to_whom_it_is_shown() {
    let mut plant = Plant::start().await;
    let [agents, devices] = plant.needles().await;
    // Nothing is hidden: everybody who gets in sees everything. Else the search below would show nothing.
    for (method, path, shows) in shown_by_route().into_iter().filter(|(method, ..)| *method == "GET") {
        for asked in plant.questions(path) {
            let (status, answer) = plant.ask("stranger", method, &asked).await;
            let found = (!agents.in_bytes(&answer).is_empty(), !devices.in_bytes(&answer).is_empty());
            let expected = (shows == Shows::AgentSeals, shows == Shows::DeviceSeals);
            assert_eq!((status, found), (200, expected), "{asked}");
        }
    }
    plant.show_to_tina().await;
    let mut faults = Vec::new();
    for (method, path, shows) in shown_by_route() {
        for asked in plant.questions(path) {
            for reader in READERS.into_iter().chain(["local"]) {
                let (status, answer) = plant.ask(reader, method, &asked).await;
                let is_seen = may(reader, shows);
                let found = [agents.in_bytes(&answer), devices.in_bytes(&answer)].concat();
                // A port changes nothing, whoever asks; on the socket there is no permit to use.
                let expected = if method == "POST" { None } else { Some(if is_seen { 200 } else { 403 }) };
                if expected.is_some_and(|expected| expected != status) {
                    faults.push(format!("{reader} {method} {asked}: {status} {}", String::from_utf8_lossy(&answer)));
                }
                if found.is_empty() == (is_seen && shows != Shows::Nothing) {
                    faults.push(format!("{reader} {method} {asked} shows {found:?}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // What SCADA hears are values without seals.
    let heard: Vec<Value> = plant.hall.ear.since(0).into_iter().map(|message| message.json).collect();
    let heard = serde_json::to_vec(&heard).unwrap();
    assert_eq!([agents.in_bytes(&heard), devices.in_bytes(&heard)].concat(), Vec::<&str>::new());
    no_rule_no_answer(&mut plant).await;
}

/// Without the node nobody knows the rules of today: only this machine is answered.
async fn no_rule_no_answer(plant: &mut Plant) {
    let refused = plant.ask("fixit", "GET", &format!("/statements/{}", plant.trigger)).await.1;
    let refused = String::from_utf8_lossy(&refused).into_owned();
    assert!(refused.contains("\"withheld\"") && refused.contains("policy of `agent-01`"), "{refused}");
    plant.processes[0].kill().await;
    for (path, anybody) in [
        (format!("/statements/{}", plant.trigger), false),
        (format!("/disclosures/{}", plant.trigger), false),
        (format!("/receipts/{}", plant.trigger), true),
        ("/status".to_owned(), true),
    ] {
        assert_eq!(plant.ask("local", "GET", &path).await.0, 200, "{path}");
        let (status, answer) = plant.ask("tina", "GET", &path).await;
        assert_eq!(status, if anybody { 200 } else { 503 }, "{path}");
        assert!(anybody || String::from_utf8_lossy(&answer).contains("\"sight\""), "{path}");
    }
}
