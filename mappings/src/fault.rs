//! What is wrong, where, and what would be right.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Cannot be used.
    Error,
    /// Can be used, and is probably not what was meant.
    Warning,
}

/// One fault of a mapping file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The key, as in `devices[1].points[0].unit`; empty for the file as a whole.
    pub key: String,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What was written, where it is not obvious and not secret.
    pub found: Option<String>,
    /// What may be written.
    pub allowed: Option<String>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
    /// The same place in bytes, for the caret.
    #[serde(skip)]
    pub(crate) span: Range<usize>,
}

impl Fault {
    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into()).filter(|allowed| !allowed.is_empty());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// Whether `known` is about the same key or one around it.
    pub(crate) fn is_below(&self, known: &Self) -> bool {
        let rest = self.key.strip_prefix(known.key.as_str());
        known.severity == Severity::Error
            && known.file == self.file
            && !known.key.is_empty()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// Whether `known` is an unknown key beside this one that was probably meant to be this one.
    pub(crate) fn is_misspelt_in(&self, known: &Self) -> bool {
        let (parent, key) = self.key.rsplit_once('.').unwrap_or(("", &self.key));
        let known_parent = known.key.rsplit_once('.').map_or("", |(parent, _)| parent);
        known.file == self.file
            && known_parent == parent
            && known.message.starts_with("unknown key")
            && known.hint.as_deref() == Some(did_you_mean(key).as_str())
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

pub(crate) fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

/// One line: `file:line:column: key: message; found …; allowed …; hint …`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        for (word, text) in [("found", &self.found), ("allowed", &self.allowed), ("hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "; {word} {text}")?;
            }
        }
        Ok(())
    }
}

/// All faults of a plant file and its data sheets, errors and warnings, by file and line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    faults: Vec<Fault>,
    /// The texts of the files, for showing the lines.
    sources: BTreeMap<PathBuf, Arc<str>>,
}

impl Faults {
    pub(crate) fn new(mut faults: Vec<Fault>, sources: BTreeMap<PathBuf, Arc<str>>) -> Self {
        sort(&mut faults);
        Self { faults, sources }
    }

    /// The faults, by file and line.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.faults.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The faults with their source lines and a caret under the place, for a terminal.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let shown = self.faults.iter().map(|fault| self.render_one(fault, &renderer));
        shown.collect::<Vec<_>>().join("\n\n")
    }

    fn render_one(&self, fault: &Fault, renderer: &Renderer) -> String {
        let level = if fault.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
        let key = if fault.key.is_empty() { String::new() } else { format!("{}: ", fault.key) };
        let title = level.primary_title(printable(&format!("{key}{}", fault.message)));
        let mut group = annotate_snippets::Group::with_title(title);
        let shows = |text: &&Arc<str>| text.get(fault.span.clone()).is_some() && !has_secret(text, fault.line);
        if let Some(text) = self.sources.get(&fault.file).filter(shows) {
            let annotation = AnnotationKind::Primary
                .span(fault.span.clone())
                .label(fault.found.as_deref().map(|found| printable(&format!("found {found}"))));
            let path = fault.file.display().to_string();
            group = group.element(Snippet::source(text.as_ref()).path(path).annotation(annotation));
        } else {
            let origin = annotate_snippets::Origin::path(fault.file.display().to_string());
            group = group.element(origin.line(fault.line as usize).char_column(fault.column as usize));
        }
        if let Some(allowed) = &fault.allowed {
            group = group.element(Level::NOTE.message(printable(&format!("allowed: {allowed}"))));
        }
        if let Some(hint) = &fault.hint {
            group = group.element(Level::HELP.message(printable(hint)));
        }
        renderer.render(&[group])
    }
}

/// Whether the line holds a password where a reference belongs: it is not shown, terminals are logged.
fn has_secret(text: &str, line: u32) -> bool {
    let line = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default();
    let Some((_, value)) = line.split_once("password") else { return false };
    let value = value.trim_start_matches(['"', '\'', ' ', ':']);
    !(value.is_empty() || value.starts_with("env:") || value.starts_with("file:"))
}

/// Control characters of a hostile file do not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// By file, then place; the same fault once.
pub(crate) fn sort(faults: &mut Vec<Fault>) {
    faults.sort_by(|a, b| {
        (&a.file, a.line, a.column, a.severity, &a.key).cmp(&(&b.file, b.line, b.column, b.severity, &b.key))
    });
    faults.dedup();
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
