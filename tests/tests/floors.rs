//! The floor table of ARCHITECTURE.md against the crates as they are (`cargo metadata`). Absence cannot be seen in
//! code, so this test is what keeps the map true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[test]
fn the_crates_keep_to_the_floor_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows = parse_table(&page).unwrap_or_else(|fault| panic!("ARCHITECTURE.md: {fault}"));
    let crates = read_crates(&cargo_metadata(root), root);
    assert!(crates.len() > 10, "cargo metadata names only {} workspace crates", crates.len());
    let faults = compare(&rows, &crates);
    assert!(faults.is_empty(), "the crates and the floor table of ARCHITECTURE.md differ:\n- {}", faults.join("\n- "));
}

/// Whoever holds a writing half can move a machine: the gate alone may name them.
#[test]
fn nobody_but_the_gate_names_the_writing_halves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let words =
        ["link_with_writer", "opcua::Hand", "mqtt::Hand", "modbus::Writer", "modbus::Write", "HandFault", "WriteFault"];
    let (mut seen, mut wrong) = (0, Vec::new());
    for folder in
        ["edge-agent/src", "cli/src", "ledger-node", "simulator/src", "contracts/src", "mappings/src", "foundation"]
    {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            let names = words.iter().any(|word| text.contains(word));
            match (names, file.ends_with("edge-agent/src/gate/hands.rs")) {
                (true, true) => seen += 1,
                (true, false) => wrong.push(file),
                _ => {}
            }
        }
    }
    assert_eq!((seen, wrong), (1, Vec::new()), "only edge-agent/src/gate/hands.rs may name {words:?}");
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The two towers: they meet only in `tally-evidence`, not even in a test of one of them.
const TOWERS: [&str; 2] = ["tally-edge-agent", "tally-ledger-node"];

/// Where the answer must be the same in the agent, in the node and in the verifier, years later: nothing that waits
/// or talks may be near. Fixed here, so that editing the table alone cannot allow it.
const PURE: [&str; 5] = ["tally-model", "tally-journal", "tally-evidence", "tally-rules", "tally-contracts"];
const IMPURE: [&str; 4] = ["tokio", "axum", "hyper", "reqwest"];

const BEGIN: &str = "<!-- floors:begin -->";
const END: &str = "<!-- floors:end -->";

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    floor: u32,
    name: String,
    folder: String,
    may_use: MayUse,
    /// Dependencies in backquotes in the last column.
    refused: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum MayUse {
    Everything,
    Only(BTreeSet<String>),
}

/// One workspace crate as cargo sees it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Crate {
    name: String,
    folder: String,
    /// Normal and build dependencies, workspace crates and others.
    uses: BTreeSet<String>,
    /// Dev-dependencies.
    dev_uses: BTreeSet<String>,
}

/// Reads the table between the markers.
fn parse_table(page: &str) -> Result<Vec<Row>, String> {
    let table = page.split_once(BEGIN).ok_or(format!("no marker `{BEGIN}`"))?.1;
    let table = table.split_once(END).ok_or(format!("no marker `{END}` after `{BEGIN}`"))?.0;
    let mut lines = table.lines().map(str::trim).filter(|line| line.starts_with('|'));
    let heading = cells(lines.next().ok_or("no table between the markers")?);
    let wanted = ["floor", "crate", "folder", "may use (workspace crates)", "must never contain"];
    if heading != wanted {
        return Err(format!("the columns are {heading:?}, wanted {wanted:?}"));
    }
    lines.filter(|line| !line.trim_matches(['|', '-', ':', ' ']).is_empty()).map(parse_row).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn parse_row(line: &str) -> Result<Row, String> {
    let [floor, name, folder, may_use, never] = cells(line)[..] else {
        return Err(format!("a row needs five cells: {line}"));
    };
    let plain = |text: &str| text.trim_matches('`').to_owned();
    let may_use = match may_use {
        "everything" => MayUse::Everything,
        "nothing" => MayUse::Only(BTreeSet::new()),
        "" => return Err(format!("`{name}`: write `nothing`, `everything` or crate names")),
        names => MayUse::Only(names.split(',').map(|name| plain(name.trim())).collect()),
    };
    Ok(Row {
        floor: floor.parse().map_err(|_| format!("`{floor}` is not a floor number: {line}"))?,
        name: plain(name),
        folder: plain(folder),
        may_use,
        // Every second piece between backquotes stands inside them.
        refused: never.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
    })
}

fn cargo_metadata(root: &Path) -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root).output().unwrap();
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read_crates(metadata: &serde_json::Value, root: &Path) -> Vec<Crate> {
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| read_crate(package, root)).collect()
}

fn read_crate(package: &serde_json::Value, root: &Path) -> Crate {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let folder = manifest.parent().unwrap().strip_prefix(root).unwrap();
    let mut found = Crate {
        name: package["name"].as_str().unwrap().to_owned(),
        folder: folder.to_str().unwrap().to_owned(),
        ..Crate::default()
    };
    for dependency in package["dependencies"].as_array().unwrap() {
        let name = dependency["name"].as_str().unwrap().to_owned();
        match dependency["kind"].as_str() {
            Some("dev") => found.dev_uses.insert(name),
            // `null` is a normal dependency, the other word is "build".
            _ => found.uses.insert(name),
        };
    }
    found
}

/// Everything that differs, each with what to do.
fn compare(rows: &[Row], crates: &[Crate]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
    let mut faults = table_faults(rows, &by_name);
    for row in rows.iter().filter(|row| !crates.iter().any(|found| found.name == row.name)) {
        faults.push(format!("the table names `{}`, but the workspace has no such crate: take the row out", row.name));
    }
    for found in crates {
        match by_name.get(found.name.as_str()) {
            Some(row) => faults.extend(crate_faults(row, found, crates)),
            None => faults.push(format!("`{}` ({}) has no row: decide on its floor", found.name, found.folder)),
        }
        faults.extend(tower_faults(found));
        faults.extend(purity_faults(found));
    }
    faults
}

/// A table that contradicts itself: a crate twice, or leaning on its own floor or one above.
fn table_faults(rows: &[Row], by_name: &BTreeMap<&str, &Row>) -> Vec<String> {
    let mut faults = Vec::new();
    if by_name.len() != rows.len() {
        faults.push("a crate has two rows in the table".to_owned());
    }
    for row in rows {
        let MayUse::Only(names) = &row.may_use else { continue };
        for name in names {
            match by_name.get(name.as_str()) {
                Some(other) if other.floor < row.floor => {}
                Some(other) => faults.push(format!(
                    "the table lets `{}` (floor {}) use `{name}` (floor {}): only lower floors may be used",
                    row.name, row.floor, other.floor
                )),
                None => faults.push(format!("the table lets `{}` use `{name}`, which has no row", row.name)),
            }
        }
    }
    faults
}

/// A crate that is not what its row says.
fn crate_faults(row: &Row, found: &Crate, crates: &[Crate]) -> Vec<String> {
    let mut faults = Vec::new();
    if row.folder != found.folder {
        faults.push(format!("`{}` lies in {}, the table says {}", row.name, found.folder, row.folder));
    }
    if let MayUse::Only(allowed) = &row.may_use {
        let inside = found.uses.iter().filter(|name| crates.iter().any(|other| other.name == **name));
        for name in inside.filter(|name| !allowed.contains(*name)) {
            faults.push(format!(
                "`{}` (floor {}) uses `{name}`, which its row does not allow: move the code, do not widen the row",
                row.name, row.floor
            ));
        }
    }
    for name in found.uses.intersection(&row.refused) {
        faults.push(format!("`{}` uses `{name}`, which its row says it must never contain", row.name));
    }
    faults
}

fn tower_faults(found: &Crate) -> Vec<String> {
    let others = TOWERS.iter().filter(|tower| TOWERS.contains(&found.name.as_str()) && **tower != found.name);
    others
        .filter(|tower| found.uses.contains(**tower) || found.dev_uses.contains(**tower))
        .map(|tower| {
            format!("the towers import each other: `{}` uses `{tower}` (not even as a dev-dependency)", found.name)
        })
        .collect()
}

fn purity_faults(found: &Crate) -> Vec<String> {
    let impure = IMPURE.iter().filter(|name| PURE.contains(&found.name.as_str()) && found.uses.contains(**name));
    impure.map(|name| format!("`{}` is pure and must not use `{name}`: pass in what it needs", found.name)).collect()
}

// What follows proves that the comparison can fail, each time for one reason.

const PAGE: &str = "
<!-- floors:begin -->

| floor | crate | folder | may use (workspace crates) | must never contain |
|---|---|---|---|---|
| 0 | tally-model | foundation/model | nothing | clock; `tokio` |
| 1 | tally-rules | foundation/rules | `tally-model` | I/O |
| 4 | tally-edge-agent | edge-agent | tally-model, tally-rules | the node; `redb` |
| 4 | tally-ledger-node | ledger-node | tally-model | the agent |
| 5 | tally-cli | cli | everything | decisions |

<!-- floors:end -->";

fn krate(name: &str, folder: &str, uses: &[&str], dev_uses: &[&str]) -> Crate {
    let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Crate { name: name.to_owned(), folder: folder.to_owned(), uses: set(uses), dev_uses: set(dev_uses) }
}

fn good_crates() -> Vec<Crate> {
    vec![
        krate("tally-model", "foundation/model", &["serde"], &["proptest", "tokio"]),
        krate("tally-rules", "foundation/rules", &["tally-model", "cel"], &["tally-cli"]),
        krate("tally-edge-agent", "edge-agent", &["tally-model", "tally-rules", "tokio"], &[]),
        krate("tally-ledger-node", "ledger-node", &["tally-model", "redb"], &["tally-rules"]),
        krate("tally-cli", "cli", &["tally-edge-agent", "tally-ledger-node"], &[]),
    ]
}

/// Changes one crate of the good ones and expects exactly one fault that holds `expected`.
fn check(change: impl FnOnce(&mut Vec<Crate>), expected: &str) {
    let mut crates = good_crates();
    change(&mut crates);
    let faults = compare(&parse_table(PAGE).unwrap(), &crates);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains(expected), "`{}` does not say `{expected}`", faults[0]);
}

#[test]
fn crates_as_in_the_table_have_no_fault() {
    assert_eq!(compare(&parse_table(PAGE).unwrap(), &good_crates()), Vec::<String>::new());
}

#[test]
fn a_crate_that_leans_upwards_is_named() {
    check(|crates| crates[1].uses.extend(["tally-cli".into()]), "`tally-rules` (floor 1) uses `tally-cli`");
}

#[test]
fn a_crate_without_row_and_a_row_without_crate_are_named() {
    check(|crates| crates.push(krate("tally-new", "new", &[], &[])), "`tally-new` (new) has no row");
    check(|crates| crates.truncate(4), "`tally-cli`, but the workspace has no such crate");
}

#[test]
fn a_moved_crate_is_named() {
    check(|crates| crates[0].folder = "model".into(), "lies in model, the table says foundation/model");
}

#[test]
fn towers_may_not_meet_even_in_tests() {
    let expected = "the towers import each other: `tally-edge-agent` uses `tally-ledger-node`";
    check(|crates| crates[2].dev_uses.extend(["tally-ledger-node".into()]), expected);
}

#[test]
fn what_waits_or_talks_stays_off_the_pure_floors() {
    check(|crates| crates[1].uses.extend(["hyper".into()]), "`tally-rules` is pure and must not use `hyper`");
}

#[test]
fn names_in_backquotes_are_refused() {
    check(|crates| crates[2].uses.extend(["redb".into()]), "must never contain");
}

#[test]
fn a_table_that_contradicts_itself_is_named() {
    let faults_of = |from: &str, to: &str| compare(&parse_table(&PAGE.replace(from, to)).unwrap(), &good_crates());
    let upwards = faults_of("| nothing |", "| tally-cli |");
    assert!(upwards.len() == 1 && upwards[0].contains("only lower floors"), "{upwards:?}");
    let towers = faults_of("tally-model, tally-rules |", "tally-model, tally-rules, tally-ledger-node |");
    assert!(towers.len() == 1 && towers[0].contains("only lower floors"), "{towers:?}");
    let unknown = faults_of("`tally-model` |", "`tally-model`, tally-nowhere |");
    assert!(unknown.len() == 1 && unknown[0].contains("`tally-nowhere`, which has no row"), "{unknown:?}");
    let twice = faults_of("| 0 |", "| 0 | tally-model | foundation/model | nothing | – |\n| 0 |");
    assert!(twice.len() == 1 && twice[0].contains("two rows"), "{twice:?}");
}

#[test]
fn a_page_without_a_readable_table_is_refused() {
    for (page, expected) in [
        ("no table at all".to_owned(), "no marker"),
        (PAGE.replace(END, ""), "no marker"),
        (format!("{BEGIN}\n{END}"), "no table"),
        (PAGE.replace("folder |", "place |"), "the columns are"),
        (PAGE.replace("| 0 |", "| ground |"), "not a floor number"),
        (PAGE.replace("| 0 |", "| 0 | one too many |"), "five cells"),
        (PAGE.replace("| nothing |", "| |"), "write `nothing`"),
    ] {
        let fault = parse_table(&page).unwrap_err();
        assert!(fault.contains(expected), "`{fault}` does not say `{expected}`");
    }
}
