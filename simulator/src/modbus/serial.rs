//! A serial line: one that exists, or a pseudo-terminal pair made for the occasion, with a link where it is looked for.

use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_serial::{SerialPort as _, SerialPortBuilderExt, SerialStream};

/// How often the other end of a pair is freed: a client that was killed leaves it locked for the next one.
const UNLOCK_EVERY: Duration = Duration::from_secs(1);

/// An open serial line; a link made for it goes with it.
pub(crate) struct SerialPort {
    pub stream: Box<Stream>,
    pub path: PathBuf,
    /// Where our link points; `None` for a line that exists without us.
    linked_to: Option<PathBuf>,
}

/// Opens a device, or makes a pair and links its other end at `path`. A link to a pseudo-terminal is one that a killed
/// simulator left behind, and replaced; nothing else is.
pub(super) fn open(path: &Path) -> Result<SerialPort, String> {
    let is_left_behind = fs::read_link(path).is_ok_and(|target| target.starts_with("/dev/pts"));
    if is_left_behind {
        fs::remove_file(path).map_err(|fault| format!("an old link cannot be removed: {fault}"))?;
        return made(path);
    }
    // Follows links, such as those of /dev/serial/by-id.
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_char_device() => {
            // Speed and parity of a real line are those of its other end; the simulator plays at the usual ones.
            let name = path.to_string_lossy();
            let stream = tokio_serial::new(name, 19_200).open_native_async().map_err(|fault| fault.to_string())?;
            Ok(SerialPort { stream: Box::new(Stream::new(stream, None)), path: path.to_owned(), linked_to: None })
        }
        Ok(_) => Err("is there already, and no serial line; name another path".to_owned()),
        Err(_) if fs::symlink_metadata(path).is_ok() => Err("is a link to nothing; name another path".to_owned()),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => made(path),
        Err(fault) => Err(fault.to_string()),
    }
}

fn made(path: &Path) -> Result<SerialPort, String> {
    let (master, other) = SerialStream::pair().map_err(|fault| format!("no pseudo-terminal: {fault}"))?;
    let terminal = PathBuf::from(other.name().ok_or("the pseudo-terminal has no name")?);
    // A plain file instead of the library's port: that one locks the line against readers while it frees it.
    let mut options = File::options();
    let options = options.read(true).write(true).custom_flags(OFlags::NOCTTY.bits().cast_signed());
    let other = options.open(&terminal).map_err(|fault| format!("{}: {fault}", terminal.display()))?;
    std::os::unix::fs::symlink(&terminal, path).map_err(|fault| format!("the link cannot be made: {fault}"))?;
    tracing::info!(line = %path.display(), terminal = %terminal.display(), "made a serial line");
    let stream = Box::new(Stream::new(master, Some(other)));
    Ok(SerialPort { stream, path: path.to_owned(), linked_to: Some(terminal) })
}

impl Drop for SerialPort {
    fn drop(&mut self) {
        let is_ours = self.linked_to.is_some() && fs::read_link(&self.path).ok() == self.linked_to;
        if is_ours && let Err(fault) = fs::remove_file(&self.path) {
            tracing::debug!(line = %self.path.display(), %fault, "a link stays behind");
        }
    }
}

/// Our end of the line.
pub(crate) struct Stream {
    ours: SerialStream,
    /// The other end, held open: a line whose last user leaves would end for us too.
    theirs: Option<File>,
    unlock: Interval,
}

impl Stream {
    fn new(ours: SerialStream, theirs: Option<File>) -> Self {
        let mut unlock = tokio::time::interval(UNLOCK_EVERY);
        unlock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ours, theirs, unlock }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.unlock.poll_tick(cx).is_ready() {
            if let Some(theirs) = &this.theirs
                && let Err(fault) = rustix::termios::ioctl_tiocnxcl(theirs)
            {
                tracing::debug!(%fault, "the other end of a serial line cannot be freed");
            }
        }
        Pin::new(&mut this.ours).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.ours).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.ours).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.ours).poll_shutdown(cx)
    }
}
