//! From a reading to a receipt, with a real agent over a real socket, and what happens when the node misbehaves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use common::{Mood, Node, Site, check_disclosure, check_story, ledger_key};
use tally_door::Listen;
use tally_evidence::{Receipt, SignedStatement, SigningKey};
use tally_model::Priority;

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_sealed_receipted_and_can_be_proved() {
    let node = Node::start().await;
    let site = Site::new(&node.address);
    let agent = site.start();
    node.wait_for(2).await;
    let status = agent.wait_for("triggers_receipted", 2).await;
    assert_eq!(status["ready"], true, "{status:#}");
    assert_eq!(status["links"][0]["devices"][0], "press-01");
    assert!(status["links"][0]["state"].as_str().unwrap().starts_with("up since"));
    assert_eq!(status["node"]["state"], "taking triggers");
    check_story(&node.bodies());
    for (id, body) in node.ids().into_iter().zip(node.bodies()).take(2) {
        let receipt = agent.client.get_bytes(&format!("/receipts/{id}")).await.unwrap();
        Receipt::parse(&receipt).unwrap().check(&id, ledger_key().public()).unwrap();
        let statement = agent.client.get_bytes(&format!("/statements/{id}")).await.unwrap();
        assert_eq!(SignedStatement::parse(&statement).unwrap().id, id);
        let disclosure = agent.client.get_bytes(&format!("/disclosures/{id}")).await.unwrap();
        check_disclosure(&body, &disclosure, &common::rule(Priority::High));
    }
    for (path, words) in [
        ("/receipts/00".to_owned(), "(statement-id)"),
        (format!("/receipts/{}", "0".repeat(64)), "(statement)"),
        ("/nowhere".to_owned(), "there is nothing here"),
    ] {
        let error = agent.client.get_bytes(&path).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(agent.client.get_bytes("/ready").await.unwrap(), b"ready\n");
    assert_eq!(agent.client.get_bytes("/live").await.unwrap(), b"alive\n");
    let metrics = String::from_utf8(agent.client.get_bytes("/metrics").await.unwrap()).unwrap();
    assert!(metrics.contains("\ntally_agent_triggers_sealed_total ") && metrics.contains("\ntally_agent_ready 1\n"));
    let stopped = tokio::time::timeout(common::PATIENCE, agent.stop()).await;
    assert!(stopped.is_ok(), "it does not stop");
    assert!(!site.dir.path().join("agent.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_node_is_away_triggers_wait_and_are_drained_in_order() {
    let node = Node::start().await;
    node.set(Mood::NotNow);
    let site = Site::new(&node.address);
    let agent = site.start();
    agent.wait_for("submit_retries", 1).await;
    let status = agent.wait_for("outbox_triggers", 3).await;
    assert!(status["node"]["state"].as_str().unwrap().contains("busy"), "{status:#}");
    assert_eq!(status["ready"], true);
    assert!(node.bodies().is_empty() && node.submissions() > 0);
    node.set(Mood::Takes);
    node.wait_for(4).await;
    agent.wait_for("triggers_receipted", 4).await;
    agent.stop().await;
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_repeats_nothing() {
    let node = Node::start().await;
    let site = Site::new(&node.address);
    for round in 1..4 {
        let agent = site.start();
        node.wait_for(round * 2 - 1).await;
        // In the middle of a raised condition, and with the answer on its way.
        if round == 2 {
            agent.kill(&site).await;
        } else {
            agent.stop().await;
        }
    }
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_is_asked_for_again() {
    let node = Node::start().await;
    node.set(Mood::Breaks);
    let site = Site::new(&node.address);
    let agent = site.start();
    node.wait_for(1).await;
    assert_eq!(agent.status().await["counters"]["triggers_receipted"], 0);
    node.set(Mood::Takes);
    agent.wait_for("triggers_receipted", 2).await;
    agent.stop().await;
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_trigger_becomes_a_dead_letter_and_holds_nobody_up() {
    let node = Node::start().await;
    node.set(Mood::Refuses(0));
    let site = Site::new(&node.address);
    let agent = site.start();
    node.wait_for(1).await;
    let status = agent.wait_for("dead_letters", 1).await;
    assert_eq!(node.bodies()[0].number, 1);
    assert!(status["alarms"][0].as_str().unwrap().contains("/dead-letters"), "{status:#}");
    let letters = agent.client.get_json("/dead-letters").await.unwrap();
    assert_eq!((&letters[0]["number"], &letters[0]["code"]), (&0.into(), &"body".into()));
    let id = letters[0]["statement"].as_str().unwrap().to_owned();
    assert!(agent.client.get_bytes(&format!("/receipts/{id}")).await.unwrap_err().to_string().contains("(receipt)"));
    agent.client.get_bytes(&format!("/disclosures/{id}")).await.unwrap();
    agent.stop().await;
    // It is still there after a restart, and is not submitted again.
    node.set(Mood::Takes);
    let agent = site.start();
    agent.wait_for("dead_letters", 1).await;
    // The recording goes on: a new trigger may be on its way.
    agent.until("outbox", |status| status["counters"]["outbox_triggers"] == 0).await;
    agent.stop().await;
    assert!(node.bodies().iter().all(|body| body.number != 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_not_registered_yet_waits() {
    let node = Node::start().await;
    node.set(Mood::Unknown);
    let site = Site::new(&node.address);
    let agent = site.start();
    let status = agent.wait_for("submit_retries", 1).await;
    assert_eq!(status["counters"]["triggers_dead"], 0);
    assert!(status["node"]["state"].as_str().unwrap().contains("does not know this agent"), "{status:#}");
    node.set(Mood::Takes);
    node.wait_for(1).await;
    agent.stop().await;
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_ledger_key_is_refused_and_the_old_one_goes_on() {
    let node = Node::start().await;
    let site = Site::new(&node.address);
    let agent = site.start();
    agent.wait_for("triggers_receipted", 1).await;
    let pem = std::fs::read_to_string(site.config.data.join("ledger.pem")).unwrap();
    assert_eq!(pem, ledger_key().public().to_pem().unwrap());
    agent.stop().await;
    let before = node.bodies().len();
    node.change_key(SigningKey::from_secret(&[6; 32]).unwrap());
    let agent = site.start();
    node.wait_for(before + 1).await;
    let status = agent.wait_for("submit_retries", 1).await;
    assert_eq!(status["ready"], false, "{status:#}");
    assert!(status["not_ready_because"][0].as_str().unwrap().contains("signs with key"), "{status:#}");
    assert!(agent.client.get_bytes("/ready").await.is_err());
    assert!(status["counters"]["outbox_triggers"].as_u64().unwrap() > 0);
    node.change_key(ledger_key());
    agent.wait_for("triggers_receipted", 1).await;
    assert_eq!(agent.status().await["ready"], true);
    agent.stop().await;
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_ledger_key_is_the_only_one_taken() {
    let node = Node::start().await;
    let mut site = Site::new(&node.address);
    site.config.ledger_key = Some(SigningKey::from_secret(&[6; 32]).unwrap().public().clone());
    let agent = site.start();
    agent.wait_for("submit_retries", 1).await;
    assert_eq!(agent.status().await["counters"]["triggers_receipted"], 0);
    assert!(!site.config.data.join("ledger.pem").exists());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_data_folder_one_agent() {
    let node = Node::start().await;
    let mut site = Site::new(&node.address);
    let agent = site.start();
    agent.wait_for("readings", 1).await;
    assert!(site.start().task.await.unwrap().unwrap_err().to_string().contains("another program answers"));
    site.config.listen = vec![Listen::Unix(site.dir.path().join("other.sock"))];
    assert!(site.start().task.await.unwrap().unwrap_err().to_string().contains("in use"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_refuses_triggers_loudly_and_takes_readings() {
    let node = Node::start().await;
    node.set(Mood::NotNow);
    let mut site = Site::new(&node.address);
    // Room for four triggers of some 700 bytes.
    site.config.limits.outbox_bytes_max = 3_200;
    let agent = site.start();
    let status = agent.wait_for("triggers_without_room", 1).await;
    assert_eq!(status["ready"], false, "{status:#}");
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("the outbox is full") && alarms.contains("wait for the node"), "{alarms}");
    let sealed = status["counters"]["triggers_sealed"].as_u64().unwrap();
    assert!((3..=4).contains(&sealed), "{sealed}");
    let readings = status["counters"]["readings"].as_u64().unwrap();
    agent.wait_for("readings", readings + 10).await;
    node.set(Mood::Takes);
    node.wait_for(7).await;
    let status = agent.wait_for("triggers_receipted", 7).await;
    assert_eq!((&status["ready"], &status["alarms"]), (&true.into(), &serde_json::json!([])), "{status:#}");
    agent.stop().await;
    // Rules went back to where they were: no cleared without its raised, no number missing.
    check_story(&node.bodies());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_older_than_its_triggers_is_not_continued() {
    let node = Node::start().await;
    let site = Site::new(&node.address);
    let agent = site.start();
    agent.wait_for("triggers_receipted", 1).await;
    agent.stop().await;
    std::fs::remove_dir_all(site.config.data.join("vault")).unwrap();
    let refused = site.start().task.await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("older than outbox and receipts"), "{refused}");
    std::fs::remove_file(site.config.data.join("vault.secret")).unwrap();
    assert!(site.start().task.await.unwrap().is_err());
}
