//! The edge node in front of recording servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
mod tck;

use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn every_assertion_that_concerns_an_edge_node() {
    let recording = tck::scenes::Recording::make().await;
    let (table, failures) = tck::table::judge(&recording);
    assert!(failures.is_empty(), "{failures:#?}");
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/sparkplug-tck.md");
    if std::env::var_os("TALLY_WRITE").is_some() {
        std::fs::write(&page, &table).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(written == table, "{} is not what the test found; write it with TALLY_WRITE=1", page.display());
}
