//! Why a recording cannot be played. Everything is found before the first sample.

use std::path::PathBuf;
use tally_model::{Address, DeviceId, PointId};

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}", file = file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no recording but something huge.
    #[error("{file}: has {bytes} bytes, allowed are {bytes_max}; cut the recording", file = file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// A row is no CSV.
    #[error("{file}: {source}", file = file.display())]
    Csv {
        /// Which file.
        file: PathBuf,
        /// What the reader said, with the line.
        source: csv::Error,
    },
    /// A column is missing.
    #[error("{file}: has no column `{wanted}`; there are: {found}", file = file.display())]
    Column {
        /// Which file.
        file: PathBuf,
        /// What was looked for.
        wanted: String,
        /// What the header says.
        found: String,
    },
    /// A cell makes no sense.
    #[error("{file}:{line}: column `{column}`: `{found}` is not {expected}", file = file.display())]
    Cell {
        /// Which file.
        file: PathBuf,
        /// Line, 1-based.
        line: u64,
        /// Name of the column.
        column: String,
        /// What was found.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A recording without rows.
    #[error("{file}: has no rows", file = file.display())]
    Empty {
        /// Which file.
        file: PathBuf,
    },
    /// No devices, or devices with other recordings.
    #[error("device `{device}` plays `{found}`, the link plays `{link}`; one link is one file")]
    OtherFile {
        /// Which device.
        device: DeviceId,
        /// Its endpoint.
        found: String,
        /// The link's endpoint.
        link: String,
    },
    /// A link was asked for without devices.
    #[error("a link needs at least one device")]
    NoDevices,
    /// A point that is no column.
    #[error("point `{point}`: `{address}` is no column; write for example `column:vibration`")]
    Address {
        /// Which point.
        point: PointId,
        /// What was written.
        address: Address,
    },
}
