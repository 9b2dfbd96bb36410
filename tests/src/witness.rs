//! Witnesses as processes: `tally witness`, and ones that are not ours.

use crate::{PATIENCE, Process, Site, eventually, free_port, python, root, tally_command};
use std::path::{Path, PathBuf};
use tally_ledger_client::{Client, NodeAddress};
use tokio::process::Command;

/// `tally witness` with a folder of its own.
pub struct Witness {
    /// Name in its cosignatures.
    pub name: String,
    /// Where it listens.
    pub port: u16,
    /// Its folder.
    pub dir: PathBuf,
    /// Its HTTP interface.
    pub client: Client,
}

impl Witness {
    /// Makes one with `tally witness new` that watches the site's ledger.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn of(site: &Site, name: &str, algorithm: &str) -> Self {
        Self::watching(&site.outside(), name, algorithm, "press-line", &site.dir().join("keys/node.pub.pem")).await
    }

    /// Makes one that watches any log.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn watching(folder: &Path, name: &str, algorithm: &str, log: &str, key: &Path) -> Self {
        let dir = folder.join(name.replace('/', "-"));
        let (shown, log) = (dir.display().to_string(), format!("{log}={}", key.display()));
        let arguments = ["witness", "new", &shown, "--name", name, "--algorithm", algorithm, "--watch", &log];
        let output = Process::run(tally_command(&arguments), PATIENCE).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let port = free_port();
        let config = dir.join("witness.yaml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace(":7470", &format!(":{port}"))).unwrap();
        let client = Client::new(NodeAddress::Tcp { host: "127.0.0.1".to_owned(), port });
        Self { name: name.to_owned(), port, dir, client }
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(&self) -> Process {
        let config = self.dir.join("witness.yaml").display().to_string();
        let mut process = Process::start("tally witness", tally_command(&["witness", "--config", &config]));
        eventually("the witness to answer", async || {
            assert!(process.is_running(), "it ended instead{}", process.tail());
            self.client.get_bytes("/ready").await.ok()
        })
        .await;
        process
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.join("witness.pub.pem")
    }

    /// Its line in `witnesses.of` of node.yaml.
    #[must_use]
    pub fn line(&self) -> String {
        line(&self.name, &self.key(), self.port)
    }

    /// What it cosigned last of its first log.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn size(&self) -> Option<u64> {
        self.client.get_json("/status").await.unwrap()["logs"][0]["size"].as_u64()
    }
}

/// A witness written in Python from the specification, honest or not; see `tests/interop/servers/witness_server.py`.
pub struct PythonWitness {
    /// Its line in `witnesses.of` of node.yaml.
    pub line: String,
    /// Where its public key is.
    pub key: PathBuf,
    /// Lives as long as this does.
    pub process: Process,
}

impl PythonWitness {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(site: &Site, name: &str, mode: &str) -> Self {
        let (port, key) = (free_port(), site.outside().join(format!("{name}.pem")));
        let mut command = Command::new(python());
        command.arg(root().join("tests/interop/servers/witness_server.py")).arg(port.to_string()).arg("press-line");
        command.arg(site.dir().join("keys/node.pub.pem")).arg(&key).args([name, mode]);
        let mut process = Process::start(name, command);
        assert_eq!(process.line().await, "ready");
        Self { line: line(name, &key, port), key, process }
    }
}

fn line(name: &str, key: &Path, port: u16) -> String {
    format!("    - {{name: {name:?}, key: {:?}, url: \"http://127.0.0.1:{port}\"}}", key.display().to_string())
}

/// Adds `witnesses:` to node.yaml.
///
/// # Panics
/// When it cannot be written.
pub fn ask_witnesses(site: &Site, need: usize, wait: &str, lines: &[String]) {
    site.append("node.yaml", &format!("witnesses:\n  need: {need}\n  wait: {wait}\n  of:\n{}", lines.join("\n")));
}
