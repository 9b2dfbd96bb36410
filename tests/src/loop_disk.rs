//! A disk whose power can be cut: an ext4 in a file, mounted over a loop device, shut down by the kernel without flushing its
//! journal (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`; Linux `include/uapi/linux/ext4.h`). What was not synced
//! is gone, every later write fails with `EIO`, and the next mount replays the journal: the closest to pulling the plug that a
//! running machine can do to itself. Needs root, a loop device and `mkfs.ext4`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Size of the disk. A sparse file: it takes what is written.
const DISK_BYTES: u64 = 96 << 20;
/// `_IOR('X', 125, __u32)`.
const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
/// Neither data nor journal reach the disk any more.
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// A mounted disk; unmounted when dropped.
pub struct LoopDisk {
    folder: PathBuf,
    image: PathBuf,
    is_mounted: bool,
    _home: TempDir,
}

impl LoopDisk {
    /// Mounts a new disk on `folder`, which must exist.
    ///
    /// # Errors
    /// Why this machine cannot, in the words of the program that could not.
    ///
    /// # Panics
    /// When there is no place for the image.
    pub fn on(folder: &Path) -> Result<Self, String> {
        let home = tempfile::Builder::new().prefix("tally-disk-").tempdir().unwrap();
        let image = home.path().join("disk.img");
        File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), image.as_ref()])?;
        let mut disk = Self { folder: folder.to_owned(), image, is_mounted: false, _home: home };
        disk.mount()?;
        // Not every kernel and container lets the disk be shut down: better known now than in the middle of a test.
        disk.cut()?;
        disk.unmount()?;
        disk.mount()?;
        Ok(disk)
    }

    /// Cuts the power: whoever writes or syncs from now on is told `EIO`. A sync that is under way meanwhile may still be told
    /// that all is well although its bytes are gone: what is heard after this was called proves nothing.
    ///
    /// # Errors
    /// Why it cannot be done.
    pub fn cut(&self) -> Result<(), String> {
        let folder = File::open(&self.folder).map_err(|fault| format!("{}: {fault}", self.folder.display()))?;
        // SAFETY: this ioctl reads one u32 and nothing else; the descriptor is a folder of a file system that is ours alone.
        #[allow(unsafe_code)]
        let done = unsafe {
            let shutdown = rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(EXT4_GOING_FLAGS_NOLOGFLUSH);
            rustix::ioctl::ioctl(&folder, shutdown)
        };
        done.map_err(|fault| format!("EXT4_IOC_SHUTDOWN: {fault}"))
    }

    /// The power comes back: unmounts, and mounts again, which replays the journal. Nobody may have files open there.
    ///
    /// # Panics
    /// When it cannot be done.
    pub fn restore(&mut self) {
        self.unmount().unwrap();
        self.mount().unwrap();
    }

    fn mount(&mut self) -> Result<(), String> {
        run("mount", &["-o".as_ref(), "loop".as_ref(), self.image.as_ref(), self.folder.as_ref()])?;
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        run("umount", &[self.folder.as_ref()])?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazy: processes of a failed test may still hold files there. The loop device goes with its last user.
        if self.is_mounted
            && let Err(fault) = run("umount", &["-l".as_ref(), self.folder.as_ref()])
        {
            eprintln!("{} is still mounted: {fault}", self.folder.display());
        }
    }
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|fault| format!("{program}: {fault}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", said.trim())) }
}
