//! The edge node in front of recording servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
mod tck;

use common::recorder::{Book, Recorder, until};
use std::path::PathBuf;
use tokio::net::TcpStream;

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

/// What shows that one connection ends before the next begins would also show the opposite.
#[tokio::test]
async fn whoever_keeps_an_old_connection_beside_a_new_one_is_seen() {
    let book = Book::default();
    let servers = [Recorder::start(book.clone()).await, Recorder::start(book.clone()).await];
    let mut kept = Vec::new();
    for (place, server) in servers.iter().chain([&servers[0]]).enumerate() {
        kept.push(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
        until(&book, "a connection", |seen| seen.len() == place + 1).await;
        if place == 1 {
            kept.clear();
        }
    }
    let seen: Vec<_> = book.seen().into_iter().map(|seen| seen.others_open).collect();
    assert_eq!(seen, [vec![], vec![servers[0].port], vec![]]);
}
