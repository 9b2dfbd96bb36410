//! A child process that does not outlive its test.

use crate::{PATIENCE, eventually};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Bytes of the log shown when a test fails.
const TAIL_BYTES: usize = 6_000;

/// A running child. What it says on standard error is kept in memory: a pipe has no disk that could be full.
pub struct Process {
    name: String,
    pid: u32,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    log: Arc<Mutex<Vec<u8>>>,
    keeping: JoinHandle<()>,
}

/// How long whatever a process said last may take to be in its log once it ended; longer, and a child of its own holds the pipe.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Process {
    /// Starts `command`; the process is killed (by its own id) when this is dropped.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|fault| panic!("cannot start {name}: {fault}"));
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let log = Arc::default();
        let keeping = tokio::spawn(keep(child.stderr.take().unwrap(), Arc::clone(&log)));
        let pid = child.id().unwrap();
        Self { name: name.to_owned(), pid, child, stdin, lines: BufReader::new(stdout).lines(), log, keeping }
    }

    /// Runs a command to its end and gives all it said.
    ///
    /// # Panics
    /// When it does not end within `longest`.
    pub async fn run(mut command: Command, longest: Duration) -> std::process::Output {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(longest, command.output()).await;
        output.unwrap_or_else(|_| panic!("{command:?} does not end within {longest:?}")).unwrap()
    }

    /// Runs a command to its end and gives its exit code and all it said, standard output first.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn says(command: Command) -> (Option<i32>, String) {
        let output = Self::run(command, PATIENCE).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its resident memory in KiB (proc_pid_status(5)).
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Everything it said on standard error so far, as far as it was read: what it shows elsewhere may be there sooner.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The next line on its standard output.
    ///
    /// # Panics
    /// When none comes.
    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{} said nothing for {PATIENCE:?}{}", self.name, self.tail()));
        line.unwrap().unwrap_or_else(|| panic!("{} ended{}", self.name, self.tail()))
    }

    /// Sends a line and gives the line it is answered by.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn tell(&mut self, line: &str) -> String {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.line().await
    }

    /// SIGKILL, as a power cut of one program; returns when it is gone.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; gives its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Sends a signal to this process, which we have not waited for: the id is still its own.
    ///
    /// # Panics
    /// When `kill` is not there.
    pub async fn signal(&self, signal: &str) {
        // Its output is of no interest: the process may have ended by itself a moment ago.
        Command::new("kill").args([format!("-{signal}"), self.pid.to_string()]).output().await.unwrap();
    }

    /// SIGSTOP; returns when it stands still. A signal is only noted at first: until one of its threads gets a processor to take it, the
    /// others run on.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn hold(&self) {
        self.signal("STOP").await;
        eventually(&format!("{} to stand still", self.name), async || self.stands_still().then_some(())).await;
    }

    /// Whether all of its threads are stopped: state `T`, behind the name in parentheses (proc_pid_stat(5)).
    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Waits until it ends, and until all it said is in its log.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("{} does not end{}", self.name, self.tail())).unwrap();
        if !self.keeping.is_finished() {
            let _ = timeout(LAST_WORDS, &mut self.keeping).await;
        }
        status
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let log = self.log();
        let start = log.ceil_char_boundary(log.len().saturating_sub(TAIL_BYTES));
        format!("\n--- the end of what {} said:\n{}---", self.name, &log[start..])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

async fn keep(mut from: impl AsyncRead + Unpin, log: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
    }
}
