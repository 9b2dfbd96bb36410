//! A second node as an operator makes it: `tally ledger join` from a running node, a full disk on the way, a node that follows, and
//! one that takes over. Real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use tally_evidence::cbor::{int, text};
use tally_ledger_client::Client;
use tally_tests::{Chain, Done, Party, Process, Site, eventually, tally_command};

async fn tally(arguments: &[&str]) -> (Option<i32>, String) {
    Process::says(tally_command(arguments)).await
}

/// The same command of a shell that lets no file grow beyond some KiB.
fn on_a_full_disk(command: &tokio::process::Command) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh"]).arg(command.as_std().get_program());
    shell.args(command.as_std().get_args());
    shell
}

async fn pay(site: &Site, acme: &Party) -> Done {
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    acme.call(&site.node, "accounts", "transfer", None, &args).await
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_a_second_node_and_lets_it_take_over() {
    let site = Site::of_one_press().await;
    let mut node = site.start_node().await;
    let acme = Party::of(&site, "acme");
    for _ in 0..12 {
        pay(&site, &acme).await;
    }
    let acme_key = shown(&site.dir().join("keys/acme.key"));
    let here = site.node.address().to_string();
    let call = ["call", "accounts", "transfer", "--node", &here, "--as", "acme", "--key", &acme_key, "--json"];
    let wish = ["--arg", "to=fixit", "--arg", "amount=1", "--arg", "currency=EUR", "--private", "remark=of T. Muster"];
    let (code, said) = tally(&[&call[..], &wish].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    let private = serde_json::from_str::<serde_json::Value>(&said).unwrap()["entry"].to_string();
    let (second, key) = (site.outside().join("second"), site.outside().join("ledger.pub.pem"));
    std::fs::create_dir(&second).unwrap();
    std::fs::write(&key, site.ledger_key().to_pem().unwrap()).unwrap();
    let (from, data) = (site.node.address().to_string(), second.join("data"));
    let join =
        ["ledger", "join", "--from", &from, "--ledger-key", &shown(&key), "--data", &shown(&data)].map(str::to_owned);
    let join = || tally_command(&join.each_ref().map(String::as_str));

    let (code, said) = Process::says(on_a_full_disk(&join())).await;
    assert!(code == Some(2) && said.contains("no space is left") && said.contains("still to come"), "{said}");
    assert!(!data.join("log").exists());
    let (code, said) = Process::says(join()).await;
    assert!(code == Some(0) && said.contains("every byte checked") && said.contains("follow: {from:"), "{said}");

    // It follows.
    // With what the command says, wherever node.yaml stands.
    let (_, printed) = said.split_once("node.yaml has:\n").unwrap();
    let printed = printed.lines().take(3).map(|line| format!("{}\n", line.trim()));
    let follows: String = printed.chain(["listen: [\"unix:node.sock\"]\n".to_owned()]).collect();
    std::fs::write(second.join("node.yaml"), &follows).unwrap();
    let config = shown(&second.join("node.yaml"));
    let mut follower = Process::start("tally node", tally_command(&["node", "--config", &config]));
    let asked = Client::new(format!("unix:{}", second.join("node.sock").display()).parse().unwrap());
    for _ in 0..5 {
        pay(&site, &acme).await;
    }
    let whole = Chain::read(&site.node, &site.ledger_key()).await;
    eventually("the follower to be at the last block", async || {
        let found = asked.get_json("/checkpoint").await.ok()?;
        (found["height"] == (whole.checkpoints.len() - 1)).then_some(())
    })
    .await;
    let there = asked.address().to_string();
    let (code, said) = tally(&["ledger", "--node", &there, "show"]).await;
    assert!(code == Some(0) && said.contains("following") && said.contains("0 blocks behind"), "{said}");
    // What private fields say was not handed over, and it says so; calls are sent to the other node.
    let (code, said) = tally(&["disclose", &private, "--node", &there]).await;
    assert!(code == Some(0) && said.contains("remark") && said.contains("follows another one"), "{said}");
    let out = shown(&second.join("remark.field"));
    let (code, said) = tally(&["disclose", &private, "--field", "remark", "-o", &out, "--node", &there]).await;
    assert!(code == Some(1) && said.contains("at the node that orders"), "{said}");
    assert!(!Path::new(&out).exists());
    let purge = ["purge", &private, "--field", "remark", "--reason", "x", "--as", "acme", "--key", &acme_key];
    let (code, said) = tally(&[&purge[..], &["--node", &there]].concat()).await;
    assert!(code == Some(2) && said.contains("names that node"), "{said}");

    // It takes over: not while the first one answers, and not without the operator's word.
    assert_eq!(follower.terminate().await.code(), Some(0), "{}", follower.tail());
    let key_file = site.dir().join("keys/node.key");
    let orders: String = follows
        .lines()
        .filter(|line| !line.starts_with("follow"))
        .map(|line| format!("{line}\n"))
        .chain([format!("key: \"{}\"\n", key_file.display())])
        .collect();
    std::fs::write(second.join("node.yaml"), orders).unwrap();
    let (code, said) = tally(&["node", "--config", &config]).await;
    assert!(code == Some(2) && said.contains("promote"), "{said}");
    let (code, said) = tally(&["ledger", "promote", "--config", &config, "--old", &from]).await;
    assert!(code == Some(2) && said.contains("--old-never-orders-again"), "{said}");
    let promote = ["ledger", "promote", "--config", &config, "--old", &from, "--old-never-orders-again"];
    let (code, said) = tally(&promote).await;
    assert!(code == Some(2) && said.contains("answers and is at block"), "{said}");
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.tail());
    let (code, said) = tally(&promote).await;
    assert!(code == Some(0) && said.contains("the next block is"), "{said}");
    let mut promoted = Process::start("tally node", tally_command(&["node", "--config", &config]));
    let args = [("to", text("fixit")), ("amount", int(1)), ("currency", text("EUR"))];
    eventually("the second node to order", async || asked.get_bytes("/ready").await.ok()).await;
    acme.call(&asked, "accounts", "transfer", None, &args).await;
    assert_eq!(promoted.terminate().await.code(), Some(0), "{}", promoted.tail());
}
