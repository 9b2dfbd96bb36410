//! A table of attacks: each has a name, what is sent, and the answer it must get; all are tried, then all that differ are named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// One attack that was tried.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    sent: String,
    expected: String,
    got: String,
}

/// Attacks of one kind.
#[derive(Debug)]
pub struct Attacks {
    area: &'static str,
    rows: Vec<Row>,
}

impl Attacks {
    /// None yet.
    #[must_use]
    pub fn on(area: &'static str) -> Self {
        Self { area, rows: Vec::new() }
    }

    /// One was tried. `expected` may name several answers with `|` between them.
    pub fn tried(&mut self, name: &str, sent: &str, expected: &str, got: impl Into<String>) {
        let [name, sent, expected] = [name, sent, expected].map(str::to_owned);
        self.rows.push(Row { name, sent, expected, got: got.into() });
    }

    /// How often each answer came.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.got.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// Prints the table.
    ///
    /// # Panics
    /// When an attack got another answer, two have one name, or there are fewer than `least`.
    pub fn finish(self, least: usize) {
        let mut table = format!("\n{} attacks on {}\n", self.rows.len(), self.area);
        for Row { name, sent, got, .. } in &self.rows {
            let _ = writeln!(table, "  {name:44} {sent:60} {got}");
        }
        println!("{table}");
        let names: BTreeSet<_> = self.rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), self.rows.len(), "two attacks have one name");
        assert!(self.rows.len() >= least, "only {} attacks on {}", self.rows.len(), self.area);
        let wrong: Vec<_> = self.rows.iter().filter(|row| !row.expected.split('|').any(|one| one == row.got)).collect();
        assert!(wrong.is_empty(), "not refused as they should be: {wrong:#?}");
    }
}
