//! The agent's own interface over TLS: who gets in, who does not, how each side learns why, and what a port never does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::pki::{DAY, Pki, now};
use common::{Agent, Node, Site};
use std::net::SocketAddr;
use std::time::Duration;
use tally_door::Listen;
use tally_ledger_client::{Access, Client, RequestError};
use tally_model::Tls;
use tally_tls::ServerTls;

/// Where the test listens; the number is chosen by the system and told by `/status`.
const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// An agent with a local socket and a TLS port.
struct Served {
    agent: Agent,
    place: SocketAddr,
    _site: Site,
    _node: Node,
}

impl Served {
    async fn new(files: ServerTls) -> Self {
        let node = Node::start().await;
        let mut site = Site::new(&node.address);
        site.config.listen.push(Listen::Tls(ANYWHERE.into()));
        site.config.listen_tls = Some(files);
        let agent = site.start();
        let status = agent.wait_for("readings", 1).await;
        let place = status["listen"][1].as_str().unwrap().strip_prefix("tls:").unwrap().parse().unwrap();
        Self { agent, place, _site: site, _node: node }
    }

    fn client(&self, tls: Tls) -> Client {
        let address = format!("tls:localhost:{}", self.place.port()).parse().unwrap();
        Client::new(address).with_access(Access { tls, token: None })
    }

    async fn refused(&self, tls: Tls) -> String {
        self.client(tls).get_json("/status").await.expect_err("must be refused").to_string()
    }

    /// Waits until the door has counted this.
    async fn counted(&self, code: &str) {
        let line = format!("tally_connections_refused_total{{code=\"{code}\"}} 0");
        let counted = async {
            let mut text = line.clone();
            while text.contains(&line) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                text = String::from_utf8(self.agent.client.get_bytes("/metrics").await.unwrap()).unwrap();
            }
        };
        assert!(tokio::time::timeout(common::PATIENCE, counted).await.is_ok(), "{code} is not counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_of_the_plant_opens_the_port_and_each_no_says_why() {
    let pki = Pki::new();
    let served = Served::new(pki.server(365, now())).await;
    let good = served.client(pki.client(&pki.ours, Some(&pki.ours)));
    assert_eq!(good.get_json("/status").await.unwrap()["agent"], "agent-01");

    for (what, tls, says, code) in [
        ("no certificate", pki.client(&pki.ours, None), "wants a certificate of ours", "no-certificate"),
        ("another authority's", pki.client(&pki.ours, Some(&pki.theirs)), "does not trust us", "unknown-ca"),
        ("the wrong authority trusted", pki.client(&pki.theirs, Some(&pki.ours)), "no authority", "refused-us"),
    ] {
        let text = served.refused(tls).await;
        assert!(text.contains(says), "{what}: {text}");
        served.counted(code).await;
    }
    let plain = Client::new(format!("tcp:{}", served.place).parse().unwrap());
    let text = plain.get_json("/status").await.expect_err("plain HTTP to a TLS port").to_string();
    assert!(text.contains("no answer"), "{text}");
    served.counted("not-tls").await;
    assert!(good.get_json("/status").await.is_ok(), "the good one was not hindered");

    served.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_changes_nothing_whoever_comes() {
    let pki = Pki::new();
    let served = Served::new(pki.server(365, now())).await;
    let good = served.client(pki.client(&pki.ours, Some(&pki.ours)));
    let code = |refused: Result<serde_json::Value, RequestError>| match refused {
        Err(RequestError::Refused { status, code, .. }) => format!("{status} {code}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(good.post("/reload").await), "403 reload");
    assert_eq!(code(good.post_bytes("/permits/use", vec![1, 2, 3]).await), "403 port");
    // At the socket both are looked at: this agent has no mapping file, and the bytes are no permit.
    assert_eq!(code(served.agent.client.post("/reload").await), "422 mapping");
    assert_ne!(code(served.agent.client.post_bytes("/permits/use", vec![1, 2, 3]).await), "403 port");
    served.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let pki = Pki::new();
    let files = pki.server(10, now() - 90 * DAY);
    let served = Served::new(files.clone()).await;
    let tls = pki.client(&pki.ours, Some(&pki.ours));
    let text = served.refused(tls.clone()).await;
    assert!(text.contains("expired"), "{text}");
    let status = served.agent.status().await;
    assert!(status["alarms"].to_string().contains("localhost.pem expired 80 days ago"), "{status:#}");

    pki.ours.renew(&files.certificate, 365, now()).unwrap();
    let taken = async {
        while served.client(tls.clone()).get_json("/status").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(common::PATIENCE, taken).await.is_ok(), "the new certificate is not shown");
    served.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_for_clients_whoever_trusts_the_agent_reads() {
    let pki = Pki::new();
    let files = ServerTls { client_ca: None, ..pki.server(365, now()) };
    let served = Served::new(files).await;
    let client = served.client(pki.client(&pki.ours, None));
    assert_eq!(client.get_json("/status").await.unwrap()["agent"], "agent-01");
    served.agent.stop().await;
}
