//! Recorded readings as a signal source: one column of a CSV file.

use std::path::Path;
use std::time::Duration;

/// Offsets from the first row and the numbers of `column`. The file has a header and a column `time` in seconds;
/// empty cells are skipped.
pub(crate) fn load_column(file: &Path, column: &str) -> Result<Vec<(Duration, f64)>, String> {
    let named = |what: String| format!("{}: {what}", file.display());
    let mut reader = csv::Reader::from_path(file).map_err(|fault| named(fault.to_string()))?;
    let headers = reader.headers().map_err(|fault| named(fault.to_string()))?.clone();
    let find = |wanted: &str| {
        headers.iter().position(|name| name.trim() == wanted).ok_or_else(|| {
            named(format!("has no column `{wanted}`; there are: {}", headers.iter().collect::<Vec<_>>().join(", ")))
        })
    };
    let (time_place, value_place) = (find("time")?, find(column)?);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|fault| named(fault.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |place: usize| {
            let text = record.get(place).unwrap_or_default().trim();
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| named(format!("line {line}: `{text}` is not a number")))
        };
        if record.get(value_place).is_none_or(|cell| cell.trim().is_empty()) {
            continue;
        }
        let offset = Duration::try_from_secs_f64(number(time_place)?)
            .map_err(|_| named(format!("line {line}: times are seconds from 0 up")))?;
        if rows.last().is_some_and(|(earlier, _)| *earlier > offset) {
            return Err(named(format!("line {line}: time goes backwards")));
        }
        rows.push((offset, number(value_place)?));
    }
    if rows.is_empty() {
        return Err(named(format!("column `{column}` has no values")));
    }
    Ok(rows)
}
