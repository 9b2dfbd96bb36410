//! SIGHUP to a node and an agent that run: new certificates and a new mapping count, bad ones change nothing and are told, and neither
//! loses a connection or ends by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tally_ledger_client::{Access, Client, RequestError};
use tally_model::Tls;
use tally_tests::{PATIENCE, Process, Simulator, Site, eventually, free_port, tally_command};

/// Bytes to which every file is filled up, so that a new one cannot be told from the old one by its length.
const LENGTH: usize = 4_096;

/// Two authorities, each with a certificate for `localhost`, made by `tally ca`.
struct Pki(PathBuf);

impl Pki {
    async fn new(folder: &Path) -> Self {
        for name in ["old", "new"] {
            let (ca, tls) = (folder.join(name).display().to_string(), folder.join(name).join("tls"));
            let tls = tls.display().to_string();
            for arguments in [
                &["ca", "init", "--dir", &ca, "--name", name][..],
                &["ca", "issue", "localhost", "--dir", &ca, "-o", &tls],
            ] {
                let output = Process::run(tally_command(arguments), PATIENCE).await;
                assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        Self(folder.to_owned())
    }

    fn of(&self, authority: &str, file: &str) -> PathBuf {
        self.0.join(authority).join("tls").join(file)
    }

    /// Puts the certificate and the key of an authority where a program finds them; length and time of the files stay as they were.
    fn put(&self, authority: &str, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        for file in ["localhost.pem", "localhost.key"] {
            let text = std::fs::read_to_string(self.of(authority, file)).unwrap();
            put_unseen(&folder.join(file), &format!("{text:\n<LENGTH$}"));
        }
    }

    fn client(&self, authority: &str, port: u16) -> Client {
        let tls = Tls { ca: Some(self.of(authority, "ca.pem")), ..Tls::default() };
        Client::new(format!("tls:localhost:{port}").parse().unwrap()).with_access(Access { tls, token: None })
    }
}

/// Who looks at length and time of the file sees no change.
fn put_unseen(file: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(file).unwrap();
    std::fs::write(file, text).unwrap();
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
}

/// Whether the certificate that is shown is one that this client trusts; what is said behind the handshake is another matter.
async fn trusts(client: &Client) -> bool {
    matches!(client.get_json("/status").await, Ok(_) | Err(RequestError::Refused { .. }))
}

fn mapping(port: u16, every: &str, more: &str) -> String {
    format!(
        "plant: line\ndevices:\n  - id: press-01\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=1\"\n    every: {every}\n    \
         points:\n      - {{id: load, at: \"holding:0\", type: f32, unit: \"%\"}}\n{more}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_certificates_and_mapping_anew_and_ends_nothing() {
    let (modbus, agent_port, node_port) = (free_port(), free_port(), free_port());
    let site = Site::new(&mapping(modbus, "50ms", ""), None).await;
    let sim = format!(
        "devices:\n  - id: press-01\n    serve: \"modbus+tcp://127.0.0.1:{modbus}?unit=1\"\n    signals:\n      \
         - {{id: load, at: \"holding:0\", type: f32, from: {{constant: 50}}}}\n"
    );
    let _sim = Simulator::start(&site.outside(), &sim).await;
    let pki = Pki::new(&site.outside()).await;
    let shown = site.dir().join("tls");
    pki.put("old", &shown);
    let files = "{certificate: tls/localhost.pem, key: tls/localhost.key, clients: optional}";
    let sockets = site.dir();
    let listen = |what: &str, port: u16| {
        format!("[\"unix:{}\", \"tls:127.0.0.1:{port}\"]", sockets.join(format!("{what}.sock")).display())
    };
    let socket = |what: &str| format!("unix:{}", sockets.join(format!("{what}.sock")).display());
    site.edit(
        "agent.yaml",
        &format!("\nlisten: {}", socket("agent")),
        &format!("\nlisten: {}", listen("agent", agent_port)),
    );
    site.append("agent.yaml", &format!("listen_tls: {files}"));
    site.edit(
        "node.yaml",
        &format!("listen: [\"{}\"]", socket("node")),
        &format!("listen: {}", listen("node", node_port)),
    );
    site.append("node.yaml", &format!("tls: {files}"));
    let (mut node, mut agent) = (site.start_node().await, site.start_agent().await);
    for port in [agent_port, node_port] {
        assert!(trusts(&pki.client("old", port)).await && !trusts(&pki.client("new", port)).await);
    }
    eventually("values", async || (site.readings("press-01").await > 2).then_some(())).await;

    // Half a renewal: the key is there, its certificate is not. What was read before stays in use.
    let key = std::fs::read_to_string(pki.of("new", "localhost.key")).unwrap();
    put_unseen(&shown.join("localhost.key"), &format!("{key:\n<LENGTH$}"));
    std::fs::write(site.mapping(), mapping(modbus, "soon", "")).unwrap();
    for process in [&node, &agent] {
        process.signal("HUP").await;
        let said = "the certificates cannot be read anew";
        eventually(said, async || process.log().contains(said).then_some(())).await;
    }
    let refused = "the mapping cannot be loaded anew";
    eventually(refused, async || agent.log().contains(refused).then_some(())).await;
    eventually("the fault in the log", async || agent.log().contains("soon").then_some(())).await;
    for port in [agent_port, node_port] {
        assert!(trusts(&pki.client("old", port)).await, "the old certificate is still shown");
    }

    // All of it, in files that look untouched: only the signal can have them read.
    pki.put("new", &shown);
    let rule = "triggers:\n  - {id: loaded, device: press-01, when: \"load > 40.0\"}\n";
    std::fs::write(site.mapping(), mapping(modbus, "50ms", rule)).unwrap();
    for (process, port) in [(&node, node_port), (&agent, agent_port)] {
        process.signal("HUP").await;
        let fresh = pki.client("new", port);
        eventually("the new certificate", async || trusts(&fresh).await.then_some(())).await;
        assert!(!trusts(&pki.client("old", port)).await);
    }
    eventually("the new rule", async || (site.counter("triggers_sealed").await == 1).then_some(())).await;
    assert!(node.is_running() && agent.is_running());
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_does_not_end_a_node_without_certificates() {
    let modbus = free_port();
    let site = Site::new(&mapping(modbus, "50ms", ""), None).await;
    let mut node = site.start_node().await;
    node.signal("HUP").await;
    let said = "a changed configuration takes a restart";
    eventually(said, async || node.log().contains(said).then_some(())).await;
    assert!(node.is_running());
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}
