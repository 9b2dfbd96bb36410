//! From a path to a checked plant.

use crate::check::{self, Sheet, SheetState};
use crate::fault::{Fault, Faults, Severity, sort};
use crate::plant::Plant;
use crate::schema;
use crate::shape::check_shape;
use crate::written::{DeviceWritten, PlantFile, SheetFile};
use crate::yaml::{Document, Place, fault_at};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest file in bytes: a plant of ten thousand points fits, a recording given by mistake does not.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks a plant file with everything it uses. Connects to nothing. `env` looks up environment variables.
///
/// # Errors
/// All faults of all files at once, and the warnings with them.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Plant, Faults> {
    let mut files = Files::default();
    let plant: Option<Loaded<PlantFile>> = files.read(path, &schema::PLANT);
    let Some(plant) = plant else { return Err(files.into_faults()) };
    let devices = plant.written.devices.as_deref().unwrap_or_default();
    let sheets: Vec<SheetSlot> = devices.iter().map(|device| files.sheet(path, device)).collect();
    let states: Vec<SheetState<'_>> = sheets.iter().map(|slot| slot.state(&files.sheets)).collect();
    let outcome = check::check(&plant.document, &plant.written, &states, env, &files.faults);
    let mut faults = std::mem::take(&mut files.faults);
    faults.extend(outcome.faults);
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(Faults::new(faults, files.sources));
    }
    sort(&mut faults);
    Ok(Plant {
        name: plant.written.plant.unwrap_or_default(),
        devices: outcome.devices,
        rules: outcome.rules,
        tests: outcome.tests,
        files: files.read,
        warnings: faults,
    })
}

struct Loaded<T> {
    document: Document,
    written: T,
}

/// What became of a device's `use:`.
enum SheetSlot {
    Unused,
    Unreadable,
    /// Index into [`Files::sheets`].
    Read(usize),
}

impl SheetSlot {
    fn state<'a>(&self, sheets: &'a [(PathBuf, Option<Loaded<SheetFile>>)]) -> SheetState<'a> {
        match self {
            Self::Unused => SheetState::Unused,
            Self::Unreadable => SheetState::Unreadable,
            Self::Read(index) => match sheets.get(*index) {
                Some((_, Some(loaded))) => {
                    SheetState::Read(Sheet { document: &loaded.document, written: &loaded.written })
                }
                _ => SheetState::Unreadable,
            },
        }
    }
}

#[derive(Default)]
struct Files {
    sources: BTreeMap<PathBuf, Arc<str>>,
    read: Vec<PathBuf>,
    /// Each data sheet once, however many devices use it; `None` when it could not be read.
    sheets: Vec<(PathBuf, Option<Loaded<SheetFile>>)>,
    faults: Vec<Fault>,
}

impl Files {
    fn into_faults(self) -> Faults {
        Faults::new(self.faults, self.sources)
    }

    /// Reads one file and fills in what is right of it.
    fn read<T: DeserializeOwned + Default>(&mut self, path: &Path, schema: &serde_json::Value) -> Option<Loaded<T>> {
        let text: Arc<str> = match read_text(path) {
            Ok(text) => text.into(),
            Err(reason) => {
                self.faults.push(fault_at(path, &TOP, "", reason));
                return None;
            }
        };
        self.read.push(path.to_owned());
        self.sources.insert(path.to_owned(), text.clone());
        let document = match Document::parse(path, &text) {
            Ok((document, faults)) => {
                self.faults.extend(faults);
                document
            }
            Err(fault) => {
                self.faults.push(*fault);
                return None;
            }
        };
        if let Some(fault) = other_kind(&document, schema) {
            self.faults.push(fault);
            return None;
        }
        let (right, faults) = check_shape(&document, schema);
        self.faults.extend(faults);
        match serde_json::from_value(right) {
            Ok(written) => Some(Loaded { document, written }),
            Err(fault) => {
                // The shape check is generated from the same types; this would be a slip of ours, and is said.
                self.faults.push(fault_at(path, &TOP, "", format!("cannot be understood: {fault}")));
                None
            }
        }
    }

    /// Reads the data sheet a device uses, once.
    fn sheet(&mut self, plant: &Path, device: &DeviceWritten) -> SheetSlot {
        let Some(written) = &device.sheet else { return SheetSlot::Unused };
        let Some(path) = find_sheet(plant, written) else { return SheetSlot::Unreadable };
        if let Some(index) = self.sheets.iter().position(|(known, _)| *known == path) {
            return SheetSlot::Read(index);
        }
        let loaded = self.read(&path, &schema::SHEET);
        self.sheets.push((path, loaded));
        SheetSlot::Read(self.sheets.len() - 1)
    }
}

const TOP: Place = Place { line: 1, column: 1, span: 0..0 };

/// Where a data sheet may be: beside the plant file, or in a `devices` folder there or one level up
/// (`plants/press-line.yaml` finds `devices/x.yaml`).
pub(crate) fn sheet_candidates(plant: &Path, sheet: &str) -> Vec<PathBuf> {
    let here = plant.parent().unwrap_or(Path::new(""));
    let above = if here.as_os_str().is_empty() { PathBuf::from("..") } else { here.join("..") };
    vec![here.join(sheet), here.join("devices").join(sheet), above.join(sheet), above.join("devices").join(sheet)]
}

fn find_sheet(plant: &Path, sheet: &str) -> Option<PathBuf> {
    sheet_candidates(plant, sheet).into_iter().find(|path| path.is_file())
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |fault: std::io::Error| match fault.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("cannot be read: {fault}"),
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the file is larger than {} KiB", FILE_BYTES_MAX / 1024));
    }
    String::from_utf8(bytes)
        .map_err(|fault| format!("the file is not UTF-8 (byte {})", fault.utf8_error().valid_up_to()))
}

/// A data sheet where a plant is expected, or the other way round: one clear word instead of many faults.
fn other_kind(document: &Document, schema: &serde_json::Value) -> Option<Fault> {
    let expects = |key: &str| schema.get("properties").is_some_and(|properties| properties.get(key).is_some());
    let (message, hint) = match (document.root.get("plant").is_some(), document.root.get("sheet").is_some()) {
        (false, true) if expects("plant") => {
            ("this is a data sheet, not a plant file", "name it under `use:` of a device")
        }
        (true, false) if expects("sheet") => {
            ("this is a plant file, not a data sheet", "a data sheet begins with `sheet: NAME`")
        }
        _ => return None,
    };
    Some(fault_at(&document.file, &document.root.place, "", message).hint(hint))
}
