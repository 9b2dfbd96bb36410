//! A PostgreSQL server of our own: in a temporary folder, on a Unix socket only.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

pub struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    /// `None`, with words, where there are no programs of PostgreSQL; `cargo xtask tools` fetches them.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "no PostgreSQL: run `cargo xtask tools`");
            eprintln!("no PostgreSQL, so this is not tested: run `cargo xtask tools`");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let mut init = command(&programs.join("initdb"), dir.path());
        init.args(["--no-sync", "--auth=trust", "--username=tally", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        let made = init.stdout(Stdio::null()).status().unwrap();
        assert!(made.success());
        let mut server = command(&programs.join("postgres"), dir.path());
        server.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=8MB", "-c"]);
        server.arg(format!("unix_socket_directories={}", dir.path().display())).arg("-D").arg(&data);
        let child = server.stderr(Stdio::null()).spawn().unwrap();
        let server = Self { dir, child };
        server.wait();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("host={} user=tally dbname=postgres", self.dir.path().display())
    }

    fn wait(&self) {
        let place = tally_projection::Place::Postgres(self.url());
        let deadline = Instant::now() + super::common::PATIENCE;
        while Instant::now() < deadline {
            if place.reader().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL does not answer");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGINT is its fast shutdown; our child is the postmaster, which ends the others.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir).env("LC_ALL", "C.UTF-8");
    // Unpacked packages bring their own libpq.
    if let Some(root) = program.ancestors().find(|folder| folder.ends_with(".tools/postgresql")) {
        let folders = std::fs::read_dir(root.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
        let libraries = folders.filter(|folder| folder.join("libpq.so.5").exists());
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    }
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The folder with `initdb` and `postgres`: of a Debian package, or of `cargo xtask tools`.
fn programs() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/postgresql/usr/lib/postgresql");
    let of = |folder: &Path| {
        let versions = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        versions.filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file()).max()
    };
    of(Path::new("/usr/lib/postgresql")).or_else(|| of(&ours))
}
