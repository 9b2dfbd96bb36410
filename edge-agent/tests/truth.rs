//! Truth before the seal, with a real agent: each trigger says what the checks of its rule found, and whoever has the disclosed readings
//! finds the same; also of triggers that were decided before a kill and sealed after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Node, Site, check_disclosure};
use std::sync::Arc;
use std::time::Duration;
use tally_evidence::Disclosure;
use tally_model::{Checks, FindingCode, PointChecks, PointId, Priority, Replay};
use tally_rules::{Rule, confirm_findings};

/// From 2.7 to 9.8 within 50 ms is faster than any bearing wears, and every round of the recording is a copy of the one before.
fn checked() -> Arc<Rule> {
    let mut source = common::rule_source("bearing-worn", Priority::High);
    let vibration = PointChecks {
        rate_max: Some(50.0),
        limits: Some((0.0, 9.0)),
        replay: Some(Replay { readings: 8, remembered: 100 }),
        ..PointChecks::default()
    };
    source.checks = Some(Checks {
        look_back: Duration::from_millis(200),
        points: [(PointId::try_new("vibration").unwrap(), vibration)].into(),
        ..Checks::default()
    });
    Arc::new(Rule::compile(&source).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_sealed_and_follow_from_what_is_disclosed() {
    let node = Node::start().await;
    let mut site = Site::new(&node.address);
    site.plant.rules = vec![checked()];
    let rule = checked();
    let agent = site.start();
    node.wait_for(3).await;
    // In the middle of a round, without a goodbye.
    agent.kill(&site).await;
    let agent = site.start();
    node.wait_for(6).await;
    agent.wait_for("triggers_receipted", 2).await;
    let (mut words, mut copies) = (0, 0);
    for (id, body) in node.ids().into_iter().zip(node.bodies()) {
        let disclosure = agent.client.get_bytes(&format!("/disclosures/{id}")).await.unwrap();
        check_disclosure(&body, &disclosure, &rule);
        let readings = Disclosure::decode(&disclosure).unwrap().readings(&body.readings.points).unwrap();
        let found = body.quality.as_deref().unwrap();
        let confirmed = confirm_findings(&rule, &readings, body.at, body.readings.first, Some(found));
        words += confirmed.unwrap_or_else(|fault| panic!("trigger {}: {fault}", body.number)).len();
        copies += usize::from(found.iter().any(|finding| finding.code == FindingCode::Replay));
        if body.call.is_some() {
            let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
            assert!(codes.starts_with(&[FindingCode::Rate]), "{found:?}");
            assert!(codes.contains(&FindingCode::Limits), "{found:?}");
        }
    }
    assert!(copies >= 1 && words >= 1, "the second round is a copy of the first, which no disclosure reaches");
    let status = agent.status().await;
    assert!(status["counters"]["triggers_contradicted"].as_u64().unwrap() >= 1, "{status:#}");
    agent.stop().await;
}
