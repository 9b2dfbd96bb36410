//! As written → checked. Every check reports and goes on.

mod addresses;
mod cases;
mod checks;
mod devices;
mod endpoint;
mod environment;
mod modbus;
mod mqtt;
mod names;
mod opcua;
mod points;
mod site;
mod timing;
mod tls;
mod triggers;

use crate::fault::Fault;
use crate::plant::TestCase;
use crate::written::{PlantFile, SheetFile};
use crate::yaml::{Content, Document, Node, child, fault_at};
use devices::Outline;
use site::Site;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{DeviceSpec, parse_duration};
use tally_rules::Rule;

/// A data sheet, read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sheet<'a> {
    pub document: &'a Document,
    pub written: &'a SheetFile,
}

/// What became of a device's `use:`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SheetState<'a> {
    Unused,
    Unreadable,
    Read(Sheet<'a>),
}

/// What a check gives; complete only when there is no error among the faults.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub devices: Vec<DeviceSpec>,
    pub rules: Vec<Arc<Rule>>,
    pub tests: Vec<TestCase>,
    pub faults: Vec<Fault>,
}

/// Checks everything that the shape does not say. `known` are the faults of the shape: what follows from them is not said
/// again.
pub(crate) fn check(
    document: &Document,
    written: &PlantFile,
    sheets: &[SheetState<'_>],
    env: &dyn Fn(&str) -> Option<String>,
    known: &[Fault],
) -> Outcome {
    let base = document.file.parent().unwrap_or(Path::new(""));
    let mut checker = Checker { env, base, plant: &document.file, known, all_devices_named: true, faults: Vec::new() };
    checker.no_substitution(document);
    for state in unique_documents(sheets) {
        checker.no_substitution(state);
    }
    let site = Site::root(document);
    if written.plant.as_deref().is_some_and(|name| name.trim().is_empty()) {
        checker.report(site.key("plant").fault("a plant has a name"));
    }
    checker.names(written, &site, sheets);
    let (devices, outlines) = checker.devices(written, &site, sheets);
    let (rules, trigger_ids) = checker.triggers(written, &site, &outlines);
    let tests = checker.cases(written, &site, &outlines, &trigger_ids);
    Outcome { devices, rules, tests, faults: checker.faults }
}

fn unique_documents<'a>(sheets: &[SheetState<'a>]) -> Vec<&'a Document> {
    let mut documents: Vec<&Document> = Vec::new();
    for state in sheets {
        match state {
            SheetState::Read(sheet) if !documents.iter().any(|known| known.file == sheet.document.file) => {
                documents.push(sheet.document);
            }
            _ => {}
        }
    }
    documents
}

pub(super) struct Checker<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// The folder that relative paths start from.
    base: &'a Path,
    plant: &'a Path,
    known: &'a [Fault],
    /// Whether every device has an id; otherwise nobody is told that a device is unknown.
    all_devices_named: bool,
    faults: Vec<Fault>,
}

/// The devices that triggers and tests may name.
pub(super) type Outlines = BTreeMap<String, Outline>;

impl Checker<'_> {
    /// Reports a fault, unless it follows from one that is known.
    fn report(&mut self, fault: Fault) {
        let follows = self.known.iter().any(|known| fault.is_below(known) || fault.is_misspelt_in(known));
        if !follows && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// A duration between two bounds.
    fn duration(&mut self, site: &Site<'_>, text: &str, least: Duration, most: Duration) -> Option<Duration> {
        let duration = match parse_duration(text) {
            Ok(duration) => duration,
            Err(_) if text.trim().parse::<f64>().is_ok() => {
                let fault = site.fault("a duration has a unit").found(format!("`{text}`"));
                self.report(fault.hint(format!("write `{0}ms` or `{0}s`", text.trim())));
                return None;
            }
            Err(_) => {
                let fault = site.fault("not a duration").found(format!("`{text}`"));
                self.report(fault.hint("write for example `500ms`, `10s`, `30min`, `4h`"));
                return None;
            }
        };
        if duration < least || duration > most {
            let fault = site.fault(if duration < least { "too short" } else { "too long" }).found(format!("`{text}`"));
            self.report(fault.allowed(format!("{} to {}", short(least), short(most))));
            return None;
        }
        Some(duration)
    }

    /// `${…}` outside `connect:` stays as it is written, which is never what was meant.
    fn no_substitution(&mut self, document: &Document) {
        let mut places = Vec::new();
        find_substitutions(&document.root, "", &mut places);
        for (node, key) in places {
            let fault = fault_at(&document.file, &node.place, &key, "`${…}` is only replaced in `connect:`");
            self.report(fault.hint("write the value itself; secrets are `env:NAME`"));
        }
    }
}

/// `10ms`, `5s`, `24h`: in the largest unit that leaves a whole number.
fn short(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.as_millis());
    match () {
        () if !millis.is_multiple_of(1000) => format!("{millis}ms"),
        () if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        () => format!("{seconds}s"),
    }
}

fn find_substitutions<'a>(node: &'a Node, path: &str, places: &mut Vec<(&'a Node, String)>) {
    match &node.content {
        Content::Scalar { text, .. } if text.contains("${") => places.push((node, path.to_owned())),
        Content::List(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(index, item)| find_substitutions(item, &format!("{path}[{index}]"), places));
        }
        Content::Map(entries) => {
            let entries = entries.iter().filter(|entry| !matches!(entry.key.as_str(), "connect" | "description"));
            entries.for_each(|entry| find_substitutions(&entry.value, &child(path, &entry.key), places));
        }
        _ => {}
    }
}
