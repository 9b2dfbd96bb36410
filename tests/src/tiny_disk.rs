//! A disk that can be full.
//!
//! Two ways. **A real one**: a tmpfs of a few MiB, filled with ballast (`ENOSPC`); needs the right to mount. **A limit**:
//! `prlimit --fsize` lets no file of the process grow beyond a size (`EFBIG`; the process must ignore `SIGXFSZ`, which
//! would otherwise kill it); needs no rights. [`TinyDisk::real`] takes the first where it can and the second elsewhere, and
//! says so; [`TinyDisk::limited`] always takes the second, so that at least that one is tested everywhere.

use crate::Process;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size of the real disk: index and log of a small ledger, with room to begin.
const DISK_MIB: u32 = 24;

/// A folder whose disk can be full.
pub struct TinyDisk {
    folder: PathBuf,
    is_mounted: bool,
}

impl TinyDisk {
    /// A real one where mounting is allowed; `folder` must exist and be empty.
    ///
    /// # Panics
    /// When `mount` cannot even be started.
    #[must_use]
    pub fn real(folder: &Path) -> Self {
        let options = format!("size={DISK_MIB}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output().unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            eprintln!("no tmpfs here ({}); a limit on file sizes takes its place", why.trim());
        }
        Self { folder: folder.to_owned(), is_mounted: mounted.status.success() }
    }

    /// A limit on file sizes.
    #[must_use]
    pub fn limited(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), is_mounted: false }
    }

    /// The command that starts `program` so that a full disk is an error for it and not its end.
    #[must_use]
    pub fn command(&self, command: &tokio::process::Command) -> tokio::process::Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(command.as_std().get_program());
        shell.args(command.as_std().get_args());
        shell.envs(command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        for (name, _) in command.as_std().get_envs().filter(|(_, value)| value.is_none()) {
            shell.env_remove(name);
        }
        shell.current_dir(command.as_std().get_current_dir().unwrap_or(Path::new(".")));
        shell.into()
    }

    /// From now on `process` can write nothing more: not a byte on a real disk, nothing behind the first KiB of a file
    /// with the limit.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn fill(&self, process: &Process) {
        if !self.is_mounted {
            return self.limit(process, "1024");
        }
        let mut ballast = File::create(self.folder.join("ballast")).unwrap();
        for chunk in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![0; chunk]).and_then(|()| ballast.sync_all()).is_ok() {}
        }
    }

    /// There is room again. (A limit ends with its process; whoever runs still is not to run on.)
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn free(&self, process: &mut Process) {
        if self.is_mounted {
            std::fs::remove_file(self.folder.join("ballast")).unwrap();
        } else if process.is_running() {
            self.limit(process, "unlimited");
        }
    }

    fn limit(&self, process: &Process, bytes: &str) {
        let (pid, limit) = (process.pid().to_string(), format!("--fsize={bytes}:"));
        let output = Command::new("prlimit").args(["--pid", &pid, &limit]).output().unwrap();
        assert!(output.status.success(), "prlimit: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazy: processes of a failed test may still hold files there.
            let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{} is still mounted", self.folder.display());
            }
        }
    }
}
