//! The broker of the bench: mosquitto where it is installed, as at a real site, else the one that ships for the demo.

use crate::answer::{Context, Fault};
use crate::ports;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A broker on loopback, gone when dropped.
pub struct BenchBroker {
    /// What it is.
    pub name: &'static str,
    /// Where it listens.
    pub port: u16,
    mosquitto: Option<Mosquitto>,
    _embedded: Option<tally_simulator::Broker>,
}

/// A broker that can be killed and started again.
struct Mosquitto {
    program: PathBuf,
    config: PathBuf,
    child: Child,
}

impl Mosquitto {
    fn spawn(program: &Path, config: &Path) -> Result<Child, Fault> {
        let quiet = Stdio::null;
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdin(quiet()).stdout(quiet()).stderr(quiet());
        command.kill_on_drop(true).process_group(0).spawn().context("starting mosquitto")
    }
}

impl BenchBroker {
    pub async fn start(dir: &Path) -> Result<Self, Fault> {
        let Some(program) = find("mosquitto") else {
            let embedded = tally_simulator::start_broker(0).context("starting a broker")?;
            let port = embedded.port();
            return Ok(Self { name: "the demo's broker", port, mosquitto: None, _embedded: Some(embedded) });
        };
        std::fs::create_dir_all(dir).context(format_args!("making {}", dir.display()))?;
        let (port, file) = (ports::free()?, dir.join("mosquitto.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nlog_type error\n"
        );
        std::fs::write(&file, text).context(format_args!("writing {}", file.display()))?;
        let child = Mosquitto::spawn(&program, &file)?;
        let mosquitto = Some(Mosquitto { program, config: file, child });
        let broker = Self { name: "mosquitto", port, mosquitto, _embedded: None };
        broker.listens().await?;
        Ok(broker)
    }

    async fn listens(&self) -> Result<(), Fault> {
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("mosquitto did not listen within 5 s".into())
    }

    /// Whether [`BenchBroker::away`] can be done: the demo's broker lives in this process.
    pub const fn can_be_killed(&self) -> bool {
        self.mosquitto.is_some()
    }

    /// Kills the broker and starts it again after a while; it has forgotten everything then.
    pub async fn away(&mut self, time: Duration) -> Result<(), Fault> {
        let Some(mosquitto) = &mut self.mosquitto else { return Err("this broker cannot be killed".into()) };
        mosquitto.child.kill().await.context("killing mosquitto")?;
        tokio::time::sleep(time).await;
        mosquitto.child = Mosquitto::spawn(&mosquitto.program, &mosquitto.config)?;
        self.listens().await
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// Debian keeps it where only root's PATH looks.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}
