//! `tally init --mapping`: the site folder holds everything its mapping needs, also when the original is gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use tally_tests::{PATIENCE, Process, root, tally_command};

async fn tally(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tally_command(arguments);
    // What the shipped mappings ask of the environment.
    command.env("CNC_PASSWORD", "for-the-test");
    let output = Process::run(command, PATIENCE).await;
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[tokio::test]
async fn every_shipped_mapping_becomes_a_site_that_stands_alone() {
    let mut sheets = 0;
    for plant in ["press-line", "compressor-hall"] {
        let dir = tempfile::tempdir().unwrap();
        let (engineering, site) = (dir.path().join("engineering"), dir.path().join("site"));
        copy(&root().join("mappings/plants"), &engineering.join("plants"));
        copy(&root().join("mappings/devices"), &engineering.join("devices"));
        let mapping = engineering.join(format!("plants/{plant}.yaml"));
        sheets += std::fs::read_to_string(&mapping).unwrap().matches("use:").count();
        let (site_name, mapping) = (site.display().to_string(), mapping.display().to_string());
        let (code, said) = tally(&["init", &site_name, "--mapping", &mapping, "--json"]).await;
        assert_eq!(code, Some(0), "{said}");
        let made: serde_json::Value = serde_json::from_str(&said).unwrap();
        let copied = Path::new(made["mapping"].as_str().unwrap());
        let inside = copied.strip_prefix(site.canonicalize().unwrap()).unwrap().to_owned();

        // Nothing in the folder may lead out of it: the original goes, and the folder moves.
        std::fs::remove_dir_all(&engineering).unwrap();
        let moved = dir.path().join("moved");
        std::fs::rename(&site, &moved).unwrap();
        let (code, said) = tally(&["check", "--test", &moved.join(inside).display().to_string()]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("not there") && !said.contains("warning"), "{said}");
        // The agent's configuration finds it by a path of its own folder.
        let agent = std::fs::read_to_string(moved.join("agent.yaml")).unwrap();
        let named = agent.lines().find_map(|line| line.strip_prefix("mapping: ")).unwrap();
        assert!(Path::new(named).is_relative() && moved.join(named).is_file(), "{agent}");
    }
    assert!(sheets > 0, "no shipped mapping uses a data sheet: this test would show nothing");
}

#[tokio::test]
async fn a_mapping_that_cannot_be_copied_leaves_no_site_behind() {
    let dir = tempfile::tempdir().unwrap();
    let sheet = dir.path().join("sheet.yaml");
    std::fs::write(&sheet, "sheet: s\npoints: [{id: on, at: coil:1}]\n").unwrap();
    let mapping = dir.path().join("plant.yaml");
    let text = "plant: line\ndevices:\n  - {id: press, use: SHEET, connect: \"modbus+tcp://127.0.0.1:1?unit=1\"}\n";
    std::fs::write(&mapping, text.replace("SHEET", &sheet.display().to_string())).unwrap();
    let site = dir.path().join("site");
    let arguments = ["init", &site.display().to_string(), "--mapping", &mapping.display().to_string()];
    let (code, said) = tally(&arguments).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("sheet.yaml") && said.contains("absolute path"), "{said}");
    assert!(!site.exists(), "a site was begun");
}
