//! A site made by `tally init`, and its node and agent as processes.

use crate::{PATIENCE, Process, eventually, tally_command};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tally_evidence::{SigningKey, VerifyingKey};
use tally_ledger_client::{Client, NodeAddress, Timeouts};
use tempfile::TempDir;

/// A folder with keys, genesis and configurations. Deleted when dropped, except when the test failed and
/// `TALLY_TEST_KEEP` is set.
pub struct Site {
    dir: Option<TempDir>,
    /// The node's HTTP interface.
    pub node: Client,
    /// The agent's.
    pub agent: Client,
    environment: Vec<(String, String)>,
}

impl Site {
    /// Makes a site for a mapping (YAML text) with `tally init`.
    ///
    /// # Panics
    /// When `tally init` does not.
    pub async fn new(mapping: &str, broker: Option<&str>) -> Self {
        Self::with_environment(mapping, broker, &[]).await
    }

    /// The same, with variables for the mapping (`env:NAME`), which the agent gets too.
    ///
    /// # Panics
    /// When `tally init` does not.
    pub async fn with_environment(mapping: &str, broker: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("tally-").tempdir().unwrap();
        let file = dir.path().join("line.yaml");
        std::fs::write(&file, mapping).unwrap();
        Self::made(dir, &file, broker, environment).await
    }

    /// A site with one press, `press-01`, that nobody plays: for tests of what people and the ledger do.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn of_one_press() -> Self {
        let device = "id: press-01, connect: 'modbus+tcp://127.0.0.1:1?unit=1'";
        let points = "points: [{id: running, at: coil:1, unit: '1'}]";
        Self::new(&format!("plant: line\ndevices: [{{{device}, {points}}}]\n"), None).await
    }

    /// A site for a mapping file, with the data sheets and recordings beside it.
    ///
    /// # Panics
    /// When `tally init` does not.
    pub async fn of_file(file: &Path, broker: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("tally-").tempdir().unwrap();
        Self::made(dir, file, broker, environment).await
    }

    async fn made(dir: TempDir, file: &Path, broker: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let site = dir.path().join("site");
        let (shown, file) = (site.display().to_string(), file.display().to_string());
        let mut arguments = vec!["init", &shown, "--mapping", &file];
        arguments.extend(broker.into_iter().flat_map(|url| ["--broker", url]));
        let mut command = tally_command(&arguments);
        command.envs(environment.iter().copied());
        let output = Process::run(command, PATIENCE).await;
        assert!(output.status.success(), "tally {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        if broker.is_none() {
            without_broker(&site.join("agent.yaml"));
        }
        Self {
            node: client(&site.join("node.sock")),
            agent: client(&site.join("agent.sock")),
            environment,
            dir: Some(dir),
        }
    }

    /// The folder made by `tally init`.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.as_ref().map(|dir| dir.path().join("site")).unwrap_or_default()
    }

    /// The folder around it, for files of the test.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.dir.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default()
    }

    /// Replaces `from` by `to` in a file of the site.
    ///
    /// # Panics
    /// When `from` does not stand there exactly once: then the test would test something else.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.dir().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(from).count(), 1, "`{from}` in {file}:\n{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The mapping that the agent reads.
    ///
    /// # Panics
    /// When agent.yaml names none.
    #[must_use]
    pub fn mapping(&self) -> PathBuf {
        let agent = std::fs::read_to_string(self.dir().join("agent.yaml")).unwrap();
        let line = agent.lines().find_map(|line| line.strip_prefix("mapping:")).unwrap();
        self.dir().join(line.split('#').next().unwrap_or_default().trim().trim_matches('"'))
    }

    /// Adds lines to a file of the site.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn append(&self, file: &str, lines: &str) {
        let path = self.dir().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{}\n{lines}\n", text.trim_end())).unwrap();
    }

    /// The private key of a party (`node` is the ledger's).
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn key(&self, party: &str) -> SigningKey {
        let file = self.dir().join("keys").join(format!("{party}.key"));
        SigningKey::from_pem(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// The ledger's public key.
    #[must_use]
    pub fn ledger_key(&self) -> VerifyingKey {
        self.key("node").public().clone()
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_node(&self) -> Process {
        let mut node = self.spawn("node");
        self.node_ready(&mut node).await;
        node
    }

    /// Starts the agent and waits until it answers. It may wait for the node, the broker or its devices still.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn start_agent(&self) -> Process {
        let mut agent = self.spawn("agent");
        self.agent_live(&mut agent).await;
        agent
    }

    /// Starts `tally node` or `tally agent` of this site without waiting.
    #[must_use]
    pub fn spawn(&self, what: &str) -> Process {
        Process::start(&format!("tally {what}"), self.command(what))
    }

    /// The command that starts `tally node` or `tally agent` of this site.
    #[must_use]
    pub fn command(&self, what: &str) -> tokio::process::Command {
        let config = self.dir().join(format!("{what}.yaml")).display().to_string();
        let mut command = tally_command(&[what, "--config", &config]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).current_dir(self.dir());
        command
    }

    /// Waits until the node is ready.
    ///
    /// # Panics
    /// When it ended.
    pub async fn node_ready(&self, node: &mut Process) {
        wait_for("the node to be ready", &self.node, "/ready", node).await;
    }

    /// Waits until the agent answers.
    ///
    /// # Panics
    /// When it ended.
    pub async fn agent_live(&self, agent: &mut Process) {
        wait_for("the agent to answer", &self.agent, "/status", agent).await;
    }

    /// Trusts every OPC UA certificate that the agent has set aside, as an operator would; says how many.
    ///
    /// # Panics
    /// When a file cannot be moved.
    #[must_use]
    pub fn trust_all(&self) -> usize {
        let (rejected, trusted) = (self.dir().join("pki/rejected"), self.dir().join("pki/trusted"));
        let Ok(files) = std::fs::read_dir(rejected) else { return 0 };
        let moved = files.map(|file| {
            let file = file.unwrap();
            std::fs::rename(file.path(), trusted.join(file.file_name())).unwrap();
        });
        moved.count()
    }

    /// The agent's status.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn status(&self) -> serde_json::Value {
        self.agent.get_json("/status").await.unwrap()
    }

    /// How many readings of a device the agent's vault has numbered.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub async fn readings(&self, device: &str) -> u64 {
        let status = self.status().await;
        let chain = status["vault"].as_array().into_iter().flatten().find(|chain| chain["device"] == device).cloned();
        chain.map_or(0, |chain| chain["readings"].as_u64().unwrap())
    }

    /// One of the agent's counters since its start.
    ///
    /// # Panics
    /// When it has no such counter.
    pub async fn counter(&self, name: &str) -> u64 {
        let status = self.status().await;
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}: {status}"))
    }

    /// A metric of the node or the agent: the sum of its samples whose labels contain `label`.
    ///
    /// # Panics
    /// When there is no such metric.
    pub async fn metric(of: &Client, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(of.get_bytes("/metrics").await.unwrap()).unwrap();
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// Without a broker of the test's own the agent gets none: the usual one may be somebody else's.
fn without_broker(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("broker:")).collect();
    std::fs::write(file, kept.join("\n") + "\n").unwrap();
}

async fn wait_for(what: &str, client: &Client, path: &str, process: &mut Process) {
    eventually(what, async || {
        assert!(process.is_running(), "it ended instead{}", process.tail());
        client.get_bytes(path).await.ok()
    })
    .await;
}

/// Whoever is dead refuses at once; whoever lives may be slow.
fn client(socket: &Path) -> Client {
    let timeouts = Timeouts { connect: Duration::from_secs(10), answer: PATIENCE / 2, quiet: Duration::from_secs(30) };
    Client::with_timeouts(NodeAddress::Unix(socket.to_owned()), timeouts)
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("TALLY_TEST_KEEP").is_some() {
            let kept = self.dir.take().map(TempDir::keep);
            eprintln!("kept: {}", kept.unwrap_or_default().display());
        }
    }
}
