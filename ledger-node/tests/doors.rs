//! Who is let in: TLS with certificates good and bad, roles on every route, rates, connections; seen from both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
#[path = "common/pki.rs"]
mod pki;

use common::{PATIENCE, TestClock, config, plant};
use pki::{Pki, When};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;
use tally_door::{Door, DoorLimits, NewToken, Secure, Tallies, Tokens};
use tally_ledger_client::{Access as Bring, Client, RequestError, SubmitError};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Access, Engine, EngineConfig, Listen, Node, NodeError, ROUTES, Role};
use tally_model::{Secret, Tls};
use tally_tls::ServerTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A node at a TLS port and a plain one.
struct Served {
    dir: tempfile::TempDir,
    ca: Pki,
    tls: SocketAddr,
    plain: SocketAddr,
    tallies: Tallies,
    secure: Secure,
    engine: Engine,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), NodeError>>,
}

impl Served {
    async fn new(access: Access, change: impl FnOnce(&Pki, &mut ServerTls)) -> Self {
        Self::of(config, access, change).await
    }

    async fn of(
        engine: impl FnOnce(&Plant, &Path) -> EngineConfig,
        access: Access,
        change: impl FnOnce(&Pki, &mut ServerTls),
    ) -> Self {
        let (plant, dir) = (plant(), tempfile::tempdir().unwrap());
        let ca = Pki::new(dir.path(), "plant-ca");
        // The name a client dials; certificates carry names, not numbers, in this plant.
        let (certificate, key) = ca.issue("localhost", When::Now);
        let mut files = ServerTls { certificate, key, client_ca: Some(ca.ca()), is_optional: false, crl: None };
        change(&ca, &mut files);
        let secure = Secure::open(files).unwrap();
        let door = Door { secure: Some(secure.clone()), limits: DoorLimits::default(), tallies: Tallies::default() };
        let tallies = door.tallies.clone();
        let engine = Engine::open(engine(&plant, &dir.path().join("data"))).unwrap();
        let here: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listen = [Listen::Tls(here), Listen::Tcp(here)];
        let node = Node::bind_behind(door, engine.clone(), &listen).await.unwrap().with_access(access);
        let (Listen::Tls(tls), Listen::Tcp(plain)) = (node.places()[0].clone(), node.places()[1].clone()) else {
            panic!("{:?}", node.places())
        };
        let stop = CancellationToken::new();
        let serving = tokio::spawn(node.serve(stop.clone()));
        Self { dir, ca, tls, plain, tallies, secure, engine, stop, serving }
    }

    fn client(&self, tls: Tls) -> Client {
        let address = format!("tls:localhost:{}", self.tls.port());
        Client::new(address.parse().unwrap()).with_access(Bring { tls, token: None })
    }

    fn plain(&self, token: &str) -> Client {
        let token = (!token.is_empty()).then(|| Secret::new(token.to_owned()));
        Client::new(format!("tcp:{}", self.plain).parse().unwrap()).with_access(Bring { tls: Tls::default(), token })
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        self.engine.close();
    }
}

fn named(name: &str, role: Role) -> Access {
    Access { names: BTreeMap::from([(name.to_owned(), role)]), ..Access::default() }
}

async fn refused(client: &Client) -> String {
    client.get_json("/status").await.expect_err("must be refused").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_certificate_is_a_clear_no_on_both_sides() {
    let node = Served::new(named("agent-01", Role::Agent), |ca, files| files.crl = Some(ca.revoke(&["stolen"]))).await;
    let good = node.client(node.ca.client("agent-01", When::Now));
    assert_eq!(good.get_json("/status").await.unwrap()["state"], "running");

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Pki::new(elsewhere.path(), "other-ca");
    let trusting = |tls: Tls, ca: &Pki| Tls { ca: Some(ca.ca()), ..tls };
    let nobody = Tls { ca: Some(node.ca.ca()), ..Tls::default() };
    for (what, tls, says, code) in [
        ("none", nobody, "wants a certificate of ours", "no-certificate"),
        ("expired", node.ca.client("old", When::Over), "CertificateExpired", "expired"),
        ("revoked", node.ca.client("stolen", When::Now), "CertificateRevoked", "revoked"),
        ("foreign", trusting(stranger.client("agent-01", When::Now), &node.ca), "does not trust us", "unknown-ca"),
        ("untrusted server", trusting(node.ca.client("a", When::Now), &stranger), "no authority", "refused-us"),
    ] {
        let text = refused(&node.client(tls)).await;
        assert!(text.contains(says), "{what}: {text}");
        let counted = async {
            while node.tallies.of(code) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
        };
        assert!(tokio::time::timeout(PATIENCE, counted).await.is_ok(), "{what} is not counted");
    }
    // A name that the certificate does not have.
    let address = format!("tls:127.0.0.1:{}", node.tls.port()).parse().unwrap();
    let tls = node.ca.client("agent-02", When::Now);
    let text = refused(&Client::new(address).with_access(Bring { tls, token: None })).await;
    assert!(text.contains("we do not trust the node") && text.contains("not valid for name"), "{text}");
    // Plain to TLS, TLS to plain: each learns it.
    let text = refused(&Client::new(format!("tcp:{}", node.tls).parse().unwrap())).await;
    assert!(text.contains("no answer"), "{text}");
    let address = format!("tls:localhost:{}", node.plain.port()).parse().unwrap();
    let tls = node.ca.client("agent-03", When::Now);
    let text = refused(&Client::new(address).with_access(Bring { tls, token: None })).await;
    assert!(text.contains("does not speak TLS"), "{text}");
    assert!(node.tallies.of("not-tls") > 0);
    let metrics = node.plain("").get_bytes("/metrics").await.unwrap();
    assert!(String::from_utf8(metrics).unwrap().contains("tally_connections_refused_total{code=\"unknown-ca\"} 1"));
    assert!(good.get_json("/status").await.is_ok(), "the good one was not hindered");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_is_over_is_not_trusted() {
    let expired = |ca: &Pki, files: &mut ServerTls| (files.certificate, files.key) = ca.issue("localhost", When::Over);
    let node = Served::new(named("agent-01", Role::Agent), expired).await;
    let text = refused(&node.client(node.ca.client("agent-01", When::Now))).await;
    assert!(text.contains("we do not trust the node") && text.contains("expired"), "{text}");
    // The ledger goes on: nothing in it hangs on a certificate.
    assert_eq!(node.plain("").get_json("/status").await.unwrap()["state"], "running");
    node.stop().await;
}

/// The year 2099: every certificate of this test, and every one that is issued today, is over.
const LATE: i64 = 4_070_908_800_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn when_every_certificate_is_over_blocks_keep_coming_and_registered_keys_stay() {
    let clock = TestClock::at(LATE);
    let late = |plant: &Plant, dir: &Path| EngineConfig { clock: clock.clone(), ..config(plant, dir) };
    let soon = |ca: &Pki, files: &mut ServerTls| (files.certificate, files.key) = ca.issue("localhost", When::Soon);
    let node = Served::of(late, named("agent-0", Role::Agent), soon).await;
    let tls = node.ca.client("agent-0", When::Soon);
    let before = node.client(tls.clone());
    assert!(before.get_json("/status").await.is_ok(), "good for some seconds");
    let fresh = async {
        while node.client(tls.clone()).get_json("/status").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, fresh).await.is_ok(), "an ended certificate opens nothing");
    let text = refused(&node.client(tls)).await;
    assert!(text.contains("xpired"), "{text}");

    let plant = plant();
    let local = node.plain("");
    let height = async || local.get_json("/status").await.unwrap()["height"].as_u64().unwrap();
    for number in 0..3 {
        let (before, late) = (height().await, LATE + i64::from(number) * 86_400_000_000 * 3_650);
        clock.set(late);
        // Whom the genesis registered is registered still, ten years later and ten more.
        local.submit(&plant.call("tina", "accept", "mo-99", number).unwrap()).await.unwrap();
        assert!(height().await > before, "a block came");
    }
    let metrics = String::from_utf8(local.get_bytes("/metrics").await.unwrap()).unwrap();
    let left = metrics
        .lines()
        .find(|line| line.starts_with("tally_certificate_expires_seconds") && line.contains("localhost.pem"));
    assert!(left.is_some_and(|line| line.contains("} -")), "{left:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plants_own_authority_is_taken_by_its_chain() {
    let elsewhere = tempfile::tempdir().unwrap();
    let root = Pki::new(elsewhere.path(), "plant-root");
    let line = root.below("line-ca");
    let node = Served::new(named("agent-01", Role::Agent), |_, files| files.client_ca = Some(root.ca())).await;
    let ours = |tls: Tls| Tls { ca: Some(node.ca.ca()), ..tls };
    let good = line.client("agent-01", When::Now);
    assert!(node.client(ours(good.clone())).get_json("/status").await.is_ok(), "leaf and intermediate, up to the root");
    // The leaf alone leads nowhere.
    let chain = std::fs::read_to_string(good.certificate.as_ref().unwrap()).unwrap();
    let end = chain.find("-----END CERTIFICATE-----").unwrap() + 25;
    std::fs::write(good.certificate.as_ref().unwrap(), &chain[..=end]).unwrap();
    let text = refused(&node.client(ours(good))).await;
    assert!(text.contains("UnknownCA"), "{text}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_taken_without_a_restart_and_without_cutting_anybody_off() {
    let node = Served::new(named("agent-01", Role::Agent), |_, _| {}).await;
    let (old, tls) = (node.client(node.ca.client("agent-01", When::Now)), node.ca.client("agent-01", When::Now));
    assert!(old.get_json("/status").await.is_ok());
    let pin = |tls: &Tls| Tls { ca: None, pin: Some(fingerprint(&node.secure.files().certificate)), ..tls.clone() };
    let before = node.client(pin(&tls));
    assert!(before.get_json("/status").await.is_ok());
    node.ca.issue("localhost", When::Now);
    node.secure.reload().unwrap();
    assert!(before.get_json("/status").await.is_ok(), "an open connection goes on");
    assert!(node.client(pin(&tls)).get_json("/status").await.is_ok(), "the new certificate is shown");
    // Half a renewal changes nothing.
    std::fs::write(&node.secure.files().key, "half").unwrap();
    assert!(node.secure.reload().is_err());
    assert!(node.client(tls).get_json("/status").await.is_ok());
    node.stop().await;
}

/// A store may take minutes to open; who looks at the files only then takes the new ones for those that were read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_while_the_node_opens_is_shown() {
    let elsewhere = tempfile::tempdir().unwrap();
    let fresh = |ending: &str| elsewhere.path().join(format!("localhost.{ending}"));
    let renewed = |ca: &Pki, files: &mut ServerTls| {
        let shown = [(&files.certificate, "pem"), (&files.key, "key")];
        let before = shown.map(|(file, _)| std::fs::read(file).unwrap());
        ca.issue("localhost", When::Now);
        for ((file, ending), before) in shown.into_iter().zip(before) {
            std::fs::copy(file, fresh(ending)).unwrap();
            std::fs::write(file, before).unwrap();
        }
    };
    let opening = |plant: &Plant, data: &Path| {
        for ending in ["key", "pem"] {
            std::fs::copy(fresh(ending), data.with_file_name(format!("localhost.{ending}"))).unwrap();
        }
        config(plant, data)
    };
    let node = Served::of(opening, named("agent-01", Role::Agent), renewed).await;
    let pin = Some(fingerprint(&fresh("pem")));
    let client = node.client(Tls { ca: None, pin, ..node.ca.client("agent-01", When::Now) });
    let shown = async {
        while client.get_json("/status").await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, shown).await.is_ok(), "the new certificate is not shown");
    node.stop().await;
}

fn fingerprint(file: &Path) -> String {
    let der = tally_tls::certificates("the certificate", file).unwrap();
    hex::encode(tally_evidence::sha256(&der[0]))
}

fn tool(program: &str, arguments: &[&str]) -> Output {
    let run = std::process::Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output();
    run.unwrap_or_else(|fault| panic!("{program}: {fault}; apt-get install openssl curl"))
}

#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_tools_get_in_with_a_certificate_and_not_without() {
    let node = Served::new(named("agent-01", Role::Operator), |_, _| {}).await;
    let tls = node.ca.client("agent-01", When::Now);
    let [ca, cert, key] = [tls.ca, tls.certificate, tls.key].map(|file| file.unwrap().display().to_string());
    let (url, place) =
        (format!("https://localhost:{}/status", node.tls.port()), format!("localhost:{}", node.tls.port()));
    let resolve = format!("localhost:{}:127.0.0.1", node.tls.port());
    let asked = tokio::task::spawn_blocking(move || {
        let curl = |more: &[&str]| {
            tool("curl", &[&["-sS", "--noproxy", "*", "--resolve", &resolve, "--cacert", &ca, &url], more].concat())
        };
        let client = |more: &[&str]| {
            tool("openssl", &[&["s_client", "-connect", &place, "-CAfile", &ca, "-brief"], more].concat())
        };
        (
            curl(&["--cert", &cert, "--key", &key]),
            curl(&[]),
            client(&["-cert", &cert, "-key", &key]),
            client(&["-cert", &cert, "-key", &key, "-tls1_1"]),
        )
    });
    let (good, bare, handshake, old) = asked.await.unwrap();
    assert!(String::from_utf8_lossy(&good.stdout).contains("\"state\":\"running\""), "{good:?}");
    assert!(
        !bare.status.success() && String::from_utf8_lossy(&bare.stderr).contains("certificate required"),
        "{bare:?}"
    );
    let shown = String::from_utf8_lossy(&handshake.stderr).into_owned();
    assert!(shown.contains("TLSv1.3") && shown.contains("Verification: OK"), "{shown}");
    assert!(!old.status.success(), "TLS 1.1 must not be spoken: {old:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_is_open_to_its_roles_and_to_nobody_else() {
    let tokens = tempfile::tempdir().unwrap();
    let file = tokens.path().join("tokens.json");
    let add = |role: Role| {
        let new = NewToken { name: role.word(), role: role.word(), now: 0, until: None, once: false };
        (role, Tokens::add(&file, &new).unwrap())
    };
    let known = Role::ALL.map(add);
    let access = Access { is_local_open: false, tokens: Some(file.clone()), ..Access::default() };
    let node = Served::new(access, |_, _| {}).await;
    for row in ROUTES {
        let path = row.path.replace("{*path}", "0/000");
        let path = path.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>();
        let path = path.join("/");
        assert_eq!(node.status(row.method, &path, "") == 401, !row.roles.is_empty(), "{} {path} bare", row.method);
        assert_eq!(node.status(row.method, &path, "tally_00"), 401, "{} {path} with a made-up token", row.method);
        for (role, token) in &known {
            let is_open = row.roles.is_empty() || row.roles.contains(role);
            let status = node.status(row.method, &path, token);
            assert_eq!(status == 403, !is_open, "{} {path} for {}: {status}", row.method, role.word());
            assert_ne!(status, 401, "{} {path} for {}", row.method, role.word());
        }
    }
    // What no row knows is closed to everybody, what is no path is not there.
    assert_eq!(node.status("DELETE", "/entries", &known[1].1), 405);
    assert_eq!(node.status("GET", "/nowhere", &known[1].1), 404);
    // Revoked: at the next request.
    Tokens::revoke(&file, "auditor").unwrap();
    assert_eq!(node.status("GET", "/accounts", &known[2].1), 401);
    // A door's "no" is about who asks, so a statement is kept for later and not given up.
    for (token, code) in [("", "needs a token"), (known[2].1.as_str(), "unknown, revoked"), (&known[0].1, "")] {
        match node.plain(token).submit(b"no statement").await {
            Err(SubmitError::NotNow { cause, .. }) => assert!(cause.contains(code) && !code.is_empty(), "{cause}"),
            Err(SubmitError::Refused { code: refused, .. }) => assert_eq!((refused.as_str(), code), ("malformed", "")),
            other => panic!("{other:?}"),
        }
    }
    let metrics = node.plain(&known[1].1).get_bytes("/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    for code in ["no-credentials", "token", "role"] {
        let line =
            metrics.lines().find(|line| line.starts_with(&format!("tally_requests_refused_total{{code=\"{code}\"}}")));
        assert!(!line.unwrap().ends_with(" 0"), "{line:?}");
    }
    node.stop().await;
}

impl Served {
    /// The status of a request, in a thread of its own and a connection of its own.
    fn status(&self, method: &str, path: &str, token: &str) -> u16 {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.plain).unwrap();
        let login = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: n\r\n{login}Content-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[9..]).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_role_opens_nothing_but_what_is_for_everybody() {
    let node = Served::new(named("anna", Role::Auditor), |_, _| {}).await;
    let (anna, eve) = (node.client(node.ca.client("anna", When::Now)), node.client(node.ca.client("eve", When::Now)));
    assert!(anna.get_json("/accounts").await.is_ok());
    assert!(matches!(anna.post("/retention").await, Err(RequestError::Refused { status: 403, .. })));
    assert!(matches!(eve.get_json("/accounts").await, Err(RequestError::Refused { status: 401, .. })));
    assert!(eve.get_bytes("/key.pem").await.is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again_and_hinders_nobody() {
    let access = Access { requests_per_second: 2, ..named("greedy", Role::Auditor) };
    let names = BTreeMap::from([("greedy".to_owned(), Role::Auditor), ("modest".to_owned(), Role::Auditor)]);
    let node = Served::new(Access { names, ..access }, |_, _| {}).await;
    let (greedy, modest) =
        (node.client(node.ca.client("greedy", When::Now)), node.client(node.ca.client("modest", When::Now)));
    let mut slowed = 0;
    for _ in 0..60 {
        match greedy.get_json("/totals").await {
            Ok(_) => {}
            Err(RequestError::NotNow { code, retry_after, .. }) => {
                assert_eq!((code.as_str(), retry_after), ("rate", Some(Duration::from_secs(1))));
                slowed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(slowed > 0, "60 requests at once, 2 a second are allowed");
    assert!(modest.get_json("/totals").await.is_ok());
    assert!(node.plain("").get_json("/totals").await.is_ok(), "this machine has no such limit");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_place_cannot_take_all_connections_and_a_handshake_that_never_ends_is_ended() {
    let node = Served::new(Access::default(), |_, _| {}).await;
    let mut slow = TcpStream::connect(node.tls).await.unwrap();
    slow.write_all(b"\x16\x03\x01\x02").await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, slow.read(&mut [0; 16])).await;
    assert!(ended.is_ok(), "half a handshake holds its place for ever");
    assert_eq!(node.tallies.of("handshake-time"), 1);
    let mut idle = Vec::new();
    for _ in 0..230 {
        idle.push(TcpStream::connect(node.plain).await.unwrap());
    }
    // Those above 192 are closed at once.
    let closed = async {
        while node.tallies.of("per-peer") < 30 {
            tokio::time::sleep(Duration::from_millis(10)).await
        }
    };
    assert!(tokio::time::timeout(PATIENCE, closed).await.is_ok(), "{}", node.tallies.text());
    drop(idle);
    assert!(node.dir.path().exists());
    node.stop().await;
}
