//! A child process: the same program with another command, logging to a file. For `demo` and `bench`.

use crate::answer::{Context, Fault};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Commands that may wait for the simulator; one repair at a time is plenty.
const COMMANDS_MAX: usize = 8;

/// A running child. Killed when dropped, so that nothing outlives the demo.
pub struct Child {
    name: &'static str,
    process: tokio::process::Child,
    log: PathBuf,
    lines: Lines<BufReader<ChildStdout>>,
    commands: mpsc::Sender<String>,
}

impl Child {
    /// Starts this program with `arguments`; standard error goes to `NAME.log` in `dir`.
    pub fn start(
        name: &'static str,
        arguments: &[&OsStr],
        dir: &Path,
        environment: &[(String, String)],
    ) -> Result<Self, Fault> {
        let log = dir.join(format!("{name}.log"));
        let log_file = std::fs::File::create(&log).context(format_args!("writing {}", log.display()))?;
        let program = std::env::current_exe().context("finding this program")?;
        let mut process = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            // Ctrl-C reaches the demo alone, which stops its children in the right order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(format_args!("starting the {name}"))?;
        let (stdin, stdout) = process.stdin.take().zip(process.stdout.take()).ok_or("a child without pipes")?;
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        tokio::spawn(pass_on(receiver, stdin));
        Ok(Self { name, process, log, lines: BufReader::new(stdout).lines(), commands })
    }

    /// Waits until the child prints a line that begins with `word`.
    pub async fn wait_for_line(&mut self, word: &str, longest: Duration) -> Result<String, Fault> {
        let found = timeout(longest, async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                if line.starts_with(word) {
                    return Some(line);
                }
            }
            None
        });
        match found.await {
            Ok(Some(line)) => Ok(line),
            _ => Err(self.trouble("did not get ready")),
        }
    }

    /// Its process id; none when it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Resident memory in bytes, from `/proc/PID/status` (VmRSS); `None` where there is no such file.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Where to send it lines.
    pub fn commands(&self) -> mpsc::Sender<String> {
        self.commands.clone()
    }

    /// An error when it has ended already.
    pub fn must_still_run(&mut self) -> Result<(), Fault> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.trouble("ended")),
        }
    }

    /// Comes only when the child ends by itself.
    pub async fn ended(&mut self) -> Fault {
        let status = self.process.wait().await;
        self.trouble(&format!("ended ({})", status.map_or_else(|fault| fault.to_string(), |status| status.to_string())))
    }

    /// Asks it to stop with SIGTERM, and kills it when it does not within `longest`.
    pub async fn stop(&mut self, longest: Duration) -> Result<(), Fault> {
        let Some(pid) = self.process.id() else { return Ok(()) };
        // `kill` instead of a crate for one system call; the id is of a child we have not waited for, so it is still its own.
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
        asked.context(format_args!("stopping the {}", self.name))?;
        if timeout(longest, self.process.wait()).await.is_ok() {
            return Ok(());
        }
        self.process.kill().await.context(format_args!("killing the {}", self.name))?;
        Err(self.trouble(&format!("did not stop within {} s and was killed", longest.as_secs())))
    }

    fn trouble(&self, what: &str) -> Fault {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(5).collect();
        let tail: String = tail.iter().rev().map(|line| format!("\n    {line}")).collect();
        format!("the {} {what}; the end of {}:{tail}", self.name, self.log.display()).into()
    }
}

async fn pass_on(mut commands: mpsc::Receiver<String>, mut stdin: ChildStdin) {
    while let Some(command) = commands.recv().await {
        let line = format!("{command}\n");
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
    // The senders live as long as the child: its standard input stays open until it is stopped.
}
