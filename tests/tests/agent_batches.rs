//! An agent that seals its triggers together, as a plant runs it: node and agent as processes, eight rules that fire at once
//! several times a second, kill -9 of the agent (and once of the node) in the middle. Afterwards every trigger is on the ledger
//! once, each with the receipt that the agent keeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;
use tally_evidence::{BatchEnvelope, StatementKind, StatementName, Transition, TriggerBody};
use tally_journal::{Journal, Options};
use tally_tests::{Chain, Simulator, Site, eventually, free_port};
use tokio::time::sleep;

const RULES: usize = 8;
/// Strokes between two kills: each raises or clears all rules.
const STROKES: usize = 10;
const KILLS: usize = 4;

fn line(port: u16) -> String {
    let mut points = String::new();
    let mut triggers = String::new();
    for beat in 0..RULES {
        points += &format!("      - {{id: b{beat}, at: coil:{beat}, unit: \"1\"}}\n");
        triggers += &format!("  - {{id: beat-{beat}, device: drum, when: b{beat}, priority: medium}}\n");
    }
    format!(
        "plant: line\ndevices:\n  - id: drum\n    connect: \"modbus+tcp://127.0.0.1:{port}?unit=9\"\n    every: 20ms\n    \
         points:\n{points}triggers:\n{triggers}"
    )
}

fn simulation(port: u16) -> String {
    let signals =
        (0..RULES).map(|beat| format!("      - {{id: b{beat}, at: coil:{beat}, from: {{constant: false}}}}\n"));
    let signals: String = signals.collect();
    format!("devices:\n  - id: drum\n    serve: \"modbus+tcp://127.0.0.1:{port}?unit=9\"\n    signals:\n{signals}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_sealed_together_are_on_the_ledger_once_each_after_every_kill() {
    let port = free_port();
    let site = Site::new(&line(port), None).await;
    site.append("agent.yaml", "batch: {triggers: 50, within: 60ms}");
    let mut sim = Simulator::start(&site.outside(), &simulation(port)).await;
    let mut node = site.start_node().await;
    let mut agent = site.start_agent().await;
    let mut is_raised = false;
    for kill in 0..=KILLS {
        // What is told while somebody is dead is told by the rules when he is back: they stand as the plant does.
        for _ in 0..STROKES {
            is_raised = !is_raised;
            for beat in 0..RULES {
                sim.tell(&format!("set drum b{beat} {is_raised}")).await;
            }
            sleep(Duration::from_millis(90)).await;
        }
        if kill < KILLS {
            assert!(agent.is_running() && node.is_running(), "{}{}", agent.tail(), node.tail());
            agent.kill().await;
            if kill == 1 {
                node.kill().await;
                node = site.start_node().await;
            }
            agent = site.start_agent().await;
        }
    }
    let key = site.ledger_key();
    let mut last = 0;
    eventually("an empty outbox and a ledger at rest", async || {
        sleep(Duration::from_secs(2)).await;
        let size = site.node.get_json("/status").await.ok()?["size"].as_u64().unwrap();
        let waits = site.status().await["counters"]["outbox_triggers"] != 0;
        let rests = size == std::mem::replace(&mut last, size) && !waits;
        rests.then_some(())
    })
    .await;
    let chain = Chain::read(&site.node, &key).await;
    let (found, batches) = triggers(&site, &chain).await;
    let largest = found.values().filter_map(|(name, _)| name.item).max().unwrap_or_default() + 1;
    eprintln!("{} triggers, {batches} batches of up to {largest}, {} entries", found.len(), chain.entries.len());
    assert!(batches >= KILLS && found.len() > KILLS * RULES, "{batches} batches, {} triggers", found.len());
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), (0..found.len() as u64).collect::<Vec<_>>());
    every_firing_once(&found, is_raised);
    for (name, _) in found.values() {
        let kept = site.agent.get_bytes(&format!("/receipts/{name}")).await.unwrap();
        assert_eq!(kept, chain.find(&name.statement).unwrap().receipt, "the agent keeps another receipt of {name}");
    }
    assert_eq!(agent.terminate().await.code(), Some(0), "{}", agent.tail());
    journals_agree(&site, found.len() as u64);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
}

type Found = BTreeMap<u64, (StatementName, TriggerBody)>;

/// Every trigger by its number, whoever sealed it how; none refused. And how many batches there are.
async fn triggers(site: &Site, chain: &Chain) -> (Found, usize) {
    let (mut found, mut batches) = (Found::new(), 0);
    let mut put = |statement, item, body: TriggerBody| {
        let (number, name) = (body.number, StatementName { statement, item });
        assert_eq!(found.insert(number, (name, body)), None, "trigger {number} is on the ledger twice");
    };
    for entry in &chain.entries {
        match entry.statement.kind {
            StatementKind::Trigger => {
                assert_eq!(entry.refusal, 0, "entry {}", entry.index);
                put(entry.statement.id, None, TriggerBody::decode(&entry.statement.payload).unwrap());
            }
            StatementKind::Batch => {
                let envelope = site.node.get_bytes(&format!("/entries/{}/batch", entry.index)).await.unwrap();
                let (_, bodies) = BatchEnvelope::split(&envelope).unwrap().open(&entry.statement).unwrap();
                let outcome = site.node.get_json(&format!("/entries/{}/outcome", entry.index)).await.unwrap();
                let refusals: Vec<_> =
                    outcome["triggers"].as_array().unwrap().iter().map(|one| &one["refusal"]).collect();
                assert_eq!(refusals, vec![0; bodies.len()], "entry {}", entry.index);
                (0..).zip(bodies).for_each(|(item, body)| put(entry.statement.id, Some(item), body));
                batches += 1;
            }
            _ => {}
        }
    }
    (found, batches)
}

/// Of each rule raised and cleared alternate, on readings that rise, and the last stands as the plant does.
fn every_firing_once(found: &Found, is_raised: bool) {
    let mut rules: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (_, body) in found.values() {
        rules.entry(body.trigger.as_str()).or_default().push((body.transition, body.readings.last));
    }
    assert_eq!(rules.len(), RULES, "every rule fired");
    for (rule, firings) in rules {
        let turns = [Transition::Raised, Transition::Cleared].into_iter().cycle();
        assert!(firings.iter().map(|(turn, _)| *turn).zip(turns).all(|(a, b)| a == b), "{rule}: {firings:?}");
        assert!(firings.is_sorted_by(|a, b| a.1 < b.1), "{rule} stands on old readings: {firings:?}");
        assert_eq!(
            firings.last().unwrap().0 == Transition::Raised,
            is_raised,
            "{rule} does not stand as the plant does"
        );
    }
}

/// The agent's own books: as many triggers as are on the ledger, each answered once, none given up.
fn journals_agree(site: &Site, sealed: u64) {
    let next =
        |name: &str| Journal::open(site.dir().join("agent").join(name), Options::default()).unwrap().next_number();
    assert_eq!(next("outbox"), sealed, "the agent sealed another number of triggers than the ledger has");
    assert_eq!(next("receipts"), sealed, "an answer is missing, or was kept twice");
    assert_eq!(next("dead-letters"), 0, "a trigger was given up");
}
