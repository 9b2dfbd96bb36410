//! YAML text → a tree in which every node knows its place.
//!
//! What mapping files do not need is refused: anchors and aliases (use a data sheet), tags, several documents, keys
//! that are not plain words. Of a key that is written twice the first counts, so that checking can go on.

use crate::fault::{Fault, Severity};
use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deepest nesting; the deepest thing a mapping file says is six levels down.
const NESTING_MAX: usize = 16;

/// A file, read.
#[derive(Debug)]
pub(crate) struct Document {
    pub file: PathBuf,
    pub text: Arc<str>,
    pub root: Node,
}

/// A place with what is written there.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: u32,
    pub column: u32,
    pub span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Plain scalars may be numbers or flags; quoted ones are texts.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Refused, and said so.
    Broken,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Node,
}

impl Document {
    /// Reads `text`; the faults are what could be skipped.
    ///
    /// # Errors
    /// The fault after which nothing more can be read.
    pub(crate) fn parse(file: &Path, text: &Arc<str>) -> Result<(Self, Vec<Fault>), Box<Fault>> {
        let options = granit_parser::options! {
            flow_nesting_limit: NESTING_MAX,
            block_nesting_limit: NESTING_MAX,
            emit_comments: false,
            emit_unresolved_aliases: true,
        };
        let parser = Parser::new_from_str_with_options(text, options);
        let mut builder = Builder { file, text, parser, faults: Vec::new() };
        let root = builder.document()?;
        let faults = builder.faults;
        Ok((Self { file: file.to_owned(), text: text.clone(), root }, faults))
    }
}

impl Node {
    /// The value of `key`, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    pub(crate) fn item(&self, index: usize) -> Option<&Self> {
        match &self.content {
            Content::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// A fault at a place of `file`.
pub(crate) fn fault_at(file: &Path, place: &Place, key: &str, message: impl Into<String>) -> Fault {
    Fault {
        file: file.to_owned(),
        line: place.line,
        column: place.column,
        key: key.to_owned(),
        severity: Severity::Error,
        message: message.into(),
        found: None,
        allowed: None,
        hint: None,
        span: place.span.clone(),
    }
}

struct Builder<'a> {
    file: &'a Path,
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    faults: Vec<Fault>,
}

type Step<'a> = (Event<'a>, Span);

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Box<Fault>> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    let place = place_of(&span, self.text);
                    self.refuse(
                        &place,
                        "",
                        "a second document in one file",
                        "remove the line `---`, or make it a file of its own",
                    );
                    break;
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                other => root = Some(self.node((other, span), "")?),
            }
        }
        let top = Place { line: 1, column: 1, span: 0..0 };
        root.ok_or_else(|| {
            Box::new(fault_at(self.file, &top, "", "the file is empty").hint("begin with `plant: NAME` and `devices:`"))
        })
    }

    fn next(&mut self) -> Result<Step<'a>, Box<Fault>> {
        match self.parser.next_event() {
            Some(Ok(step)) => Ok(step),
            Some(Err(error)) => Err(Box::new(syntax_fault(self.file, self.text, &error))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, (event, span): Step<'a>, path: &str) -> Result<Node, Box<Fault>> {
        let place = place_of(&span, self.text);
        self.refuse_metadata(&event, &place, path);
        let content = match event {
            Event::Scalar(text, style, ..) => {
                Content::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list(path)?,
            Event::MappingStart(..) => self.map(path)?,
            _ => Content::Broken,
        };
        Ok(Node { place, content })
    }

    fn refuse_metadata(&mut self, event: &Event<'a>, place: &Place, path: &str) {
        if event.anchor_id().is_some() || event.is_alias() || matches!(event, Event::UnresolvedAlias(_)) {
            self.refuse(
                place,
                path,
                "anchors and aliases are not allowed here",
                "share points through a data sheet and `use:`",
            );
        }
        if event.tag().is_some() {
            self.refuse(place, path, "tags (`!name`) are not allowed here", "write the value alone");
        }
    }

    fn refuse(&mut self, place: &Place, path: &str, message: &str, hint: &str) {
        self.faults.push(fault_at(self.file, place, path, message).hint(hint));
    }

    fn list(&mut self, path: &str) -> Result<Content, Box<Fault>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Content::List(items)),
                step => items.push(self.node(step, &format!("{path}[{}]", items.len()))?),
            }
        }
    }

    fn map(&mut self, path: &str) -> Result<Content, Box<Fault>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let step = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Content::Map(entries)),
                step => step,
            };
            let key_node = self.node(step, path)?;
            let key = match key_node.content {
                Content::Scalar { text, .. } => text,
                _ => {
                    self.refuse(
                        &key_node.place,
                        path,
                        "a key is a plain word",
                        "quote the value if it begins with { or [",
                    );
                    String::new()
                }
            };
            let value_path = child(path, &key);
            let step = self.next()?;
            let value = self.node(step, &value_path)?;
            match entries.iter().find(|entry| entry.key == key) {
                Some(first) => {
                    let hint = format!("it was written first in line {}; keep one", first.key_place.line);
                    self.refuse(&key_node.place, &value_path, &format!("`{key}` is written twice"), &hint);
                }
                None if key.is_empty() => {}
                None => entries.push(Entry { key, key_place: key_node.place, value }),
            }
        }
    }
}

/// `path.key`, or `key` at the top.
pub(crate) fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn place_of(span: &Span, text: &str) -> Place {
    let start = span.start.byte_offset().unwrap_or(0).min(text.len());
    let end = span.end.byte_offset().unwrap_or(start).clamp(start, text.len());
    // Block collections end where the next thing begins; their caret belongs on their first line.
    let first_line = text.get(start..end).and_then(|slice| slice.find('\n')).map_or(end, |newline| start + newline);
    Place { line: count(span.start.line()), column: count(span.start.col() + 1), span: start..first_line }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The parser's complaint, with what people usually did to get it.
fn syntax_fault(file: &Path, text: &str, error: &ScanError) -> Fault {
    if let Some(place) = tab_near(text, error.marker().line()) {
        let fault = fault_at(file, &place, "", "not YAML: a line is indented with a tab");
        return fault.hint("indent with spaces");
    }
    let place = mark_place(error.marker(), text);
    let at = text.get(place.span.start..).unwrap_or_default();
    let message = error.to_string();
    let message = message.split(" at byte ").next().unwrap_or(&message);
    let message = message.split(" at char ").next().unwrap_or(message);
    fault_at(file, &place, "", format!("not YAML: {message}")).hint(syntax_hint(error.kind(), at))
}

fn mark_place(marker: &Marker, text: &str) -> Place {
    let start = marker.byte_offset().unwrap_or(text.len()).min(text.len());
    let end = text.get(start..).and_then(|rest| rest.chars().next()).map_or(start, |c| start + c.len_utf8());
    Place { line: count(marker.line().max(1)), column: count(marker.col() + 1), span: start..end }
}

/// A tab in the indentation of the line of the complaint or one of the two after it: the parser often notices late
/// what began early, or stops before the line that is to blame.
fn tab_near(text: &str, line: usize) -> Option<Place> {
    let lines = text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    });
    let near = lines.enumerate().skip(line.saturating_sub(1)).take(3);
    let mut tabs = near.filter_map(|(index, (start, line))| {
        let blank = line.len() - line.trim_start_matches([' ', '\t']).len();
        Some((index, start, line.get(..blank)?.find('\t')?))
    });
    let (index, start, tab) = tabs.next()?;
    let offset = start + tab;
    Some(Place { line: count(index + 1), column: count(tab + 1), span: offset..offset + 1 })
}

fn syntax_hint(kind: &ErrorKind, at: &str) -> &'static str {
    if at.starts_with(['%', '@', '`']) {
        return "a value that begins with % @ or ` stands in quotes: \"%\"";
    }
    match kind {
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::BlockEntryInFlowCollection
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            "a { or [ is not closed, or a value with , { [ inside needs quotes"
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => "a quote above is not closed",
        ErrorKind::RecursionLimitExceeded => "mapping files nest at most 16 levels deep",
        _ => "check the indentation, and put values with a colon or quotes inside in quotes",
    }
}
