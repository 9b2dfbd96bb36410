//! From a CSV file to what is said when.

use crate::ReplayError;
use crate::config::column;
use crate::decode::value_of;
use std::path::Path;
use std::time::Duration;
use tally_model::{DeviceSpec, Outcome, Timestamp};

/// Largest recording in bytes: it is held in memory, several times its size.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One filled cell of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Time since the first row.
    pub offset: Duration,
    /// The instant, when the recording has instants.
    pub instant: Option<Timestamp>,
    /// Line in the file, 1-based.
    pub line: u64,
    /// Name of the column.
    pub column: String,
    /// What it says.
    pub text: String,
}

/// The filled cells of a recording in time order, without the time column.
///
/// # Errors
/// [`ReplayError`] naming file, line and column.
pub fn load(file: &Path) -> Result<Vec<Cell>, ReplayError> {
    Ok(read(file)?.cells)
}

struct Recording {
    columns: Vec<String>,
    cells: Vec<Cell>,
}

fn read(file: &Path) -> Result<Recording, ReplayError> {
    let unreadable = |source| ReplayError::File { file: file.to_owned(), source };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ReplayError::TooLarge { file: file.to_owned(), bytes, bytes_max: FILE_BYTES_MAX });
    }
    let content = std::fs::read(file).map_err(unreadable)?;
    parse(&content, file)
}

fn parse(content: &[u8], file: &Path) -> Result<Recording, ReplayError> {
    let no_csv = |source| ReplayError::Csv { file: file.to_owned(), source };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(content);
    let columns: Vec<String> = reader.headers().map_err(no_csv)?.iter().map(str::to_owned).collect();
    let time_place = columns.iter().position(|name| name == "time").ok_or_else(|| missing(file, "time", &columns))?;
    let mut times = Times::default();
    let mut cells = Vec::new();
    for record in reader.records() {
        let record = record.map_err(no_csv)?;
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(time_place).unwrap_or_default();
        let (offset, instant) = times.next(text).map_err(|expected| {
            let (column, found) = ("time".to_owned(), text.to_owned());
            ReplayError::Cell { file: file.to_owned(), line, column, found, expected }
        })?;
        let filled = columns.iter().zip(&record).filter(|(name, text)| *name != "time" && !text.is_empty());
        cells.extend(filled.map(|(column, text)| Cell {
            offset,
            instant,
            line,
            column: column.clone(),
            text: text.to_owned(),
        }));
    }
    if cells.is_empty() {
        return Err(ReplayError::Empty { file: file.to_owned() });
    }
    Ok(Recording { columns, cells })
}

fn missing(file: &Path, wanted: &str, columns: &[String]) -> ReplayError {
    ReplayError::Column { file: file.to_owned(), wanted: wanted.to_owned(), found: columns.join(", ") }
}

/// The times of a recording: all seconds or all instants, never falling.
#[derive(Default)]
struct Times {
    first: Option<Time>,
    last: Duration,
}

#[derive(Clone, Copy)]
enum Time {
    Seconds(f64),
    Instant(Timestamp),
}

impl Times {
    fn next(&mut self, text: &str) -> Result<(Duration, Option<Timestamp>), &'static str> {
        const EXPECTED: &str = "a time: seconds from 0 up, or RFC 3339, the same in all rows";
        let time = match text.parse::<f64>() {
            Ok(seconds) => Time::Seconds(seconds),
            Err(_) => Time::Instant(Timestamp::parse_rfc3339(text).ok_or(EXPECTED)?),
        };
        let (offset, instant) = match (*self.first.get_or_insert(time), time) {
            (Time::Seconds(first), Time::Seconds(now)) if first >= 0.0 => {
                (Duration::try_from_secs_f64(now - first).map_err(|_| EXPECTED)?, None)
            }
            (Time::Instant(first), Time::Instant(now)) if now >= first => (now.since(first), Some(now)),
            _ => return Err(EXPECTED),
        };
        if offset < self.last {
            return Err("a time at or after that of the row above");
        }
        self.last = offset;
        Ok((offset, instant))
    }
}

/// What one row makes one device say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub offset: Duration,
    pub instant: Option<Timestamp>,
    /// Place in the link's devices.
    pub device: usize,
    /// Place in the device's points, with what it says.
    pub outcomes: Vec<(usize, Outcome)>,
}

/// Everything the devices say, in time order; every cell is checked here.
pub(crate) fn steps(devices: &[DeviceSpec], file: &Path) -> Result<Vec<Step>, ReplayError> {
    let recording = read(file)?;
    let mut readers = Vec::new();
    for (device_place, device) in devices.iter().enumerate() {
        for (point_place, point) in device.points.iter().enumerate() {
            let column = column(point)?;
            if column == "time" || !recording.columns.iter().any(|known| known == column) {
                return Err(missing(file, column, &recording.columns));
            }
            readers.push((column, device_place, point_place, point));
        }
    }
    let mut steps: Vec<Step> = Vec::new();
    for row in recording.cells.chunk_by(|one, other| one.line == other.line) {
        let Some(first) = row.first() else { continue };
        let empty = |device| Step { offset: first.offset, instant: first.instant, device, outcomes: Vec::new() };
        let mut of_row: Vec<Step> = (0..devices.len()).map(empty).collect();
        for cell in row {
            for (_, device, place, point) in readers.iter().filter(|(column, ..)| *column == cell.column) {
                let outcome = value_of(point, &cell.text).map_err(|expected| bad_cell(file, cell, expected))?;
                of_row[*device].outcomes.push((*place, outcome));
            }
        }
        steps.extend(of_row.into_iter().filter(|step| !step.outcomes.is_empty()));
    }
    Ok(steps)
}

fn bad_cell(file: &Path, cell: &Cell, expected: &'static str) -> ReplayError {
    ReplayError::Cell {
        file: file.to_owned(),
        line: cell.line,
        column: cell.column.clone(),
        found: cell.text.clone(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_bytes_no_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&content, Path::new("random.csv"));
        }

        #[test]
        fn whatever_the_times_they_never_fall(times in proptest::collection::vec("[0-9.e+-]{0,6}", 0..6)) {
            let content = format!("time,a\n{}", times.iter().map(|time| format!("{time},1\n")).collect::<String>());
            if let Ok(recording) = parse(content.as_bytes(), Path::new("random.csv")) {
                prop_assert!(recording.cells.is_sorted_by_key(|cell| cell.offset));
            }
        }
    }
}
