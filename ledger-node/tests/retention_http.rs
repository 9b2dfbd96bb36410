//! What others see of a ledger that forgot: 410 with the segment's name for what went; receipts as ever; evidence files of what
//! is open, which still verify; event streams that skip nothing in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{START, TestClock, config, plant, state_of};
use std::sync::Arc;
use std::time::Duration;
use tally_ledger_client::{Client, RequestError};
use tally_ledger_node::retain::Retention;
use tally_ledger_node::testing::Terms;
use tally_ledger_node::{Engine, Listen, Node};
use tally_verifier::Step;
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_others_see_of_a_ledger_that_forgot() {
    let plant = plant().with_terms(Terms { respond: "10d" });
    let (dir, clock) = (tempfile::tempdir().unwrap(), TestClock::at(START));
    let mut config = config(&plant, dir.path());
    config.clock = Arc::<TestClock>::clone(&clock);
    config.retention = Retention { payloads: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
    config.segment_bytes = Some(4_096);
    let engine = Engine::open(config).unwrap();
    let node = Node::bind(engine.clone(), &[Listen::Tcp(([127, 0, 0, 1], 0).into())]).await.unwrap();
    let client = Client::new(node.places()[0].to_string().parse().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(node.serve(stop.clone()));

    let opening = client.submit(&plant.worn(0, 0, "left open").unwrap()).await.unwrap();
    let mut told = Vec::new();
    for number in 1..40_u32 {
        clock.set(START + i64::from(number) * 2 * DAY);
        let statement = plant.worn(0, number.into(), &format!("again {number}")).unwrap();
        told.push((statement.clone(), client.submit(&statement).await.unwrap()));
    }
    assert_ne!(state_of(&engine, "mo-1"), "none");
    let plan = client.get_json("/retention").await.unwrap();
    let planned = plan["plan"]["segments"].as_array().unwrap().len();
    assert!(planned > 3, "{plan}");
    let done = client.post("/retention").await.unwrap();
    assert_eq!(done["segments"], planned, "{done}");
    let kept_below = done["kept_below"].as_u64().unwrap();
    assert_eq!(client.get_json("/status").await.unwrap()["retention"]["kept_below"], kept_below);

    // Its order lapsed long ago: the statement is gone, the receipt is the same, and a repeat is known.
    let (statement, first) = &told[3];
    for path in ["/entries/5/statement", "/entries/5/outcome"] {
        match client.get_bytes(path).await {
            Err(RequestError::Refused { status: 410, text, .. }) => assert!(text.contains(".seg"), "{text}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert_eq!(&client.get_bytes("/entries/5").await.unwrap(), &first.receipt);
    assert_eq!(client.submit(statement).await.unwrap().receipt, first.receipt);
    let list = client.get_json("/entries?from=8&limit=9").await.unwrap();
    let row = &list["entries"][3];
    assert_eq!((&row["kind"], &row["subject"], &row["entry"]), (&"pruned".into(), &"press-000".into(), &5.into()));
    let block = client.get_json(&format!("/blocks/{}", row["height"])).await.unwrap();
    assert_eq!(block["entries"][0]["kind"], "pruned");

    // The order of entry 21 lapsed within the 30 days: its opening statement went with its segment, and its evidence file is whole.
    assert_eq!(client.get_bytes("/entries/1").await.unwrap(), opening.receipt);
    let place = engine.store().place_of(21).unwrap().unwrap();
    assert!(place.height < kept_below, "{} {kept_below}", place.height);
    let order = client.get_json("/agreements/mo-21").await.unwrap();
    assert_eq!((&order["history"], &order["ended"]), (&serde_json::json!([21]), &true.into()));
    assert!(!order["terms"].as_array().unwrap().is_empty(), "{order}");
    let file = client.get_bytes("/agreements/mo-21/evidence").await.unwrap();
    let report = tally_verifier::verify(&file, Some(engine.key()));
    let broken: Vec<_> = report.links.iter().filter(|link| !link.holds).collect();
    assert!(broken.iter().all(|link| matches!(link.step, Step::Readings | Step::Recomputed)), "{broken:?}");
    assert!(report.links.iter().any(|link| link.holds && link.step == Step::Outcome), "{:?}", report.links);

    // Every byte is explained, the kept ones too.
    let usage = client.get_json("/disk").await.unwrap();
    let parts = usage["parts"].as_array().unwrap();
    assert_eq!(parts.iter().map(|part| part["bytes"].as_u64().unwrap()).sum::<u64>(), usage["bytes"].as_u64().unwrap());
    assert!(parts.iter().all(|part| !part["what"].as_str().unwrap().contains("somebody")), "{usage}");
    assert!(parts.iter().any(|part| part["place"].as_str().unwrap().starts_with("kept/")));

    match client.get_bytes("/events?from=0").await {
        Err(RequestError::Refused { status: 410, text, .. }) => assert!(text.contains("were pruned"), "{text}"),
        other => panic!("{other:?}"),
    }
    stop.cancel();
    serving.await.unwrap().unwrap();
}
