//! Answers as tables for people, and as CSV for other programs.

use crate::answer::Fault;
use crate::commands::balance::money;
use crate::commands::ledger::red;
use crate::show::{self, word};
use serde_json::Value;
use std::fmt::Write;

/// Widest cell; longer ones are cut.
const WIDTH_MAX: usize = 60;

/// Columns of the lists, as titles and members; what is wide goes last.
fn columns(what: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match what {
        "agreements" => &[
            ("agreement", "agreement"),
            ("contract", "contract"),
            ("state", "state"),
            ("device", "device"),
            ("fault", "fault"),
            ("opened", "opened_us"),
            ("ended", "closed_us"),
            ("in escrow", "held_minor"),
            ("paid", "paid_minor"),
        ],
        "entries" => &[
            ("entry", "entry"),
            ("item", "item"),
            ("block", "height"),
            ("block time", "time_us"),
            ("kind", "kind"),
            ("signer", "signer"),
            ("device", "device"),
            ("contract", "contract"),
            ("action", "action"),
            ("agreement", "agreement"),
            ("refused", "refusal"),
        ],
        "events" => &[
            ("block time", "time_us"),
            ("block", "height"),
            ("entry", "entry"),
            ("event", "kind"),
            ("agreement", "agreement"),
            ("device", "device"),
            ("signer", "signer"),
            ("party", "party"),
            ("state", "to_state"),
            ("amount", "amount_minor"),
        ],
        _ => return None,
    })
}

/// The rows as a table, with the height under it.
pub fn text(answer: &Value, what: &str) -> String {
    let rows = answer[what].as_array().map(Vec::as_slice).unwrap_or_default();
    let (titles, cells) = match columns(what) {
        Some(columns) => {
            let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
            (titles, rows.iter().map(|row| columns.iter().map(|(_, name)| cell(row, name)).collect()).collect())
        }
        None if what == "groups" => groups(answer, rows),
        None => sql(answer, rows),
    };
    let mut text = layout(&titles, &cells);
    let height = |name: &str| word(&answer[name]);
    let (count, rows) = (rows.len(), if rows.len() == 1 { "row" } else { "rows" });
    let _ = write!(text, "{count} {rows}, of block {}", height("height"));
    if answer["behind_blocks"].as_u64().is_some_and(|behind| behind > 0) {
        let _ = write!(text, " ({} blocks behind the ledger)", height("behind_blocks"));
    }
    if columns(what).is_some() {
        text += "; times are block time, by the ledger's clock";
    }
    text.push('\n');
    for said in more(answer).into_iter().chain(unknown_words(answer)) {
        text += &said;
        text.push('\n');
    }
    text
}

/// How to get at the rows that are not in the answer, when there are any.
pub fn more(answer: &Value) -> Option<String> {
    if answer["is_cut"] == true {
        return Some("there are more rows than these: narrow the question".to_owned());
    }
    answer["next"].as_str().map(|next| format!("older ones: the same with --cursor {next}"))
}

/// What was counted by and nothing that was counted has: a slip of the pen, most likely.
fn unknown_words(answer: &Value) -> Option<String> {
    let groups = answer["groups"].as_array().filter(|groups| !groups.is_empty())?;
    let words = answer["by"].as_array()?.iter().filter_map(Value::as_str);
    let nobody_has = |word: &&str| groups.iter().all(|group| group[*word].is_null());
    let words: Vec<_> = words.filter(nobody_has).map(|word| format!("`{word}`")).collect();
    (!words.is_empty()).then(|| format!("none of these agreements has a role or field {}", words.join(", ")))
}

type Cells = (Vec<String>, Vec<Vec<String>>);

/// What is counted by comes first, as it was asked for.
fn groups(answer: &Value, rows: &[Value]) -> Cells {
    let by: Vec<String> = answer["by"].as_array().into_iter().flatten().map(plain).collect();
    let mut titles = by.clone();
    titles.extend(
        ["count", "ended", "succeeded", "rate", "paid", "in escrow", "mean time", "longest"].map(str::to_owned),
    );
    let row = |row: &Value| {
        let mut cells: Vec<String> = by.iter().map(|name| plain(&row[name])).collect();
        cells.extend(["count", "ended", "succeeded"].map(|name| word(&row[name])));
        let rate = row["success_rate"].as_f64();
        cells.push(rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0)));
        cells.extend(["paid_minor", "held_minor"].map(|name| money(&row[name], &row["currency"])));
        cells.extend(["mean_seconds", "max_seconds"].map(|name| seconds(&row[name])));
        cells
    };
    (titles, rows.iter().map(row).collect())
}

fn sql(answer: &Value, rows: &[Value]) -> Cells {
    let titles = answer["columns"].as_array().into_iter().flatten().map(plain).collect();
    let row = |row: &Value| row.as_array().into_iter().flatten().map(plain).collect();
    (titles, rows.iter().map(row).collect())
}

/// Whole seconds are enough for people.
#[allow(clippy::cast_possible_truncation)] // a duration in seconds, cut on purpose
fn seconds(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |seconds| show::duration((seconds.round() as i64).saturating_mul(1_000_000)))
}

fn cell(row: &Value, name: &str) -> String {
    let value = &row[name];
    match (name, value.as_i64()) {
        ("refusal", Some(0)) => "-".to_owned(),
        (name, Some(time)) if name.ends_with("_us") => show::time(time),
        (name, Some(_)) if name.ends_with("_minor") && !row["currency"].is_null() => money(value, &row["currency"]),
        ("kind", _) if value == "entry.refused" => match row["data"]["refusal"].as_u64() {
            Some(number) => format!("refused ({number})"),
            None => "refused".to_owned(),
        },
        _ => plain(value),
    }
}

/// A cell of one line.
fn plain(value: &Value) -> String {
    let shown = word(value);
    if shown.chars().count() <= WIDTH_MAX {
        return shown;
    }
    shown.chars().take(WIDTH_MAX - 1).chain(['…']).collect()
}

fn layout(titles: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(titles.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(titles).chain(rows.iter().map(Vec::as_slice)) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let is_refused = row.iter().any(|cell| cell.starts_with("refused ("));
        let line = if is_refused { red(line.trim_end()) } else { line.trim_end().to_owned() };
        text += &line;
        text.push('\n');
    }
    text
}

/// All columns of all rows; objects as JSON.
pub fn csv(answer: &Value, what: &str) -> Result<String, Fault> {
    let rows = answer[what].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let exact = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(columns) = answer["columns"].as_array() {
        writer.write_record(columns.iter().map(exact))?;
        for row in rows {
            writer.write_record(row.as_array().into_iter().flatten().map(exact))?;
        }
    } else if let Some(first) = rows.first().and_then(Value::as_object) {
        let names: Vec<&String> = first.keys().collect();
        writer.write_record(names.iter().map(|name| name.as_str()))?;
        for row in rows {
            writer.write_record(names.iter().map(|name| exact(&row[name.as_str()])))?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_of_agreements() {
        let answer = json!({"height": 7, "behind_blocks": 2, "next": "a1.mo-1", "agreements": [{
            "agreement": "mo-2", "contract": "maintenance-order", "state": "confirmed", "device": "press-01",
            "fault": "leak\u{1b}[31m", "opened_us": 1_795_269_600_000_000_i64, "closed_us": null, "held_minor": 0,
            "paid_minor": 90_000, "currency": "EUR",
        }]});
        let text = text(&answer, "agreements");
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines[1],
            "mo-2 maintenance-order confirmed press-01 leak·[31m 2026-11-21 14:00:00 UTC - 0.00 EUR 900.00 EUR"
        );
        let end = "1 row, of block 7 (2 blocks behind the ledger); times are block time, by the ledger's clock";
        assert_eq!(lines[2], end);
        assert_eq!(lines[3], "older ones: the same with --cursor a1.mo-1");
    }

    #[test]
    fn a_table_of_groups() {
        let answer = json!({"height": 7, "by": ["maintainer", "fault"], "groups": [{
            "maintainer": "fixit", "fault": "bearing", "currency": "EUR", "count": 3, "ended": 2, "succeeded": 1,
            "success_rate": 0.5, "paid_minor": 90_000, "held_minor": 0, "mean_seconds": 5_400.2, "max_seconds": null,
        }]});
        let text = text(&answer, "groups");
        let row = text.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(row == "fixit bearing 3 2 1 50.0 % 900.00 EUR 0.00 EUR 1h 30min -", "{row}");
    }
}
