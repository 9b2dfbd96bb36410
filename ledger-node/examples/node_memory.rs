//! What a node alone holds on a ledger that `bench … --scale` filled and kept: a process that serves it, and this one, which sends
//! triggers over the network. `cargo run --release -p tally-ledger-node --example node_memory -- FOLDER ENTRIES [PER_SECOND]`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_ledger_client::{Client, NodeAddress};
use tally_ledger_node::testing::Plant;
use tally_ledger_node::{Engine, EngineConfig, Listen, Node};

/// As in `tally`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const AGENTS: usize = 8;
const DEVICES: usize = 64;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", folder] => runtime.block_on(serve(folder)),
        [folder, entries, rest @ ..] => {
            let pace = rest.first().map_or(1_000, |pace| pace.parse().expect("triggers a second"));
            runtime.block_on(measure(folder, entries.parse().expect("entries"), pace));
        }
        _ => eprintln!("FOLDER ENTRIES [PER_SECOND]"),
    }
}

async fn serve(folder: &str) {
    let plant = Plant::new("bench", AGENTS, DEVICES).unwrap();
    let mut config = EngineConfig::new("bench", folder, plant.key.clone());
    config.limits.per_signer_per_second = 1_000_000;
    let node = Node::bind(Engine::open(config).unwrap(), &[Listen::Tcp("127.0.0.1:0".parse().unwrap())]).await.unwrap();
    println!("{}", node.places()[0]);
    node.serve(tokio_util::sync::CancellationToken::new()).await.unwrap();
}

fn memory(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
    };
    format!("VmRSS {:.1} MB, RssAnon {:.1}, VmHWM {:.1}", line("VmRSS:"), line("RssAnon:"), line("VmHWM:"))
}

async fn measure(folder: &str, entries: u64, pace: u64) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let began = Instant::now();
    let mut child = child.args(["serve", folder]).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    println!("open in {:.2} s; {}", began.elapsed().as_secs_f64(), memory(child.id()));
    let address: NodeAddress = address.trim().parse().unwrap();
    let plant = Arc::new(Plant::new("bench", AGENTS, DEVICES).unwrap());
    let mut waits: Vec<f64> = Vec::new();
    for second in 1..=30u64 {
        let tasks = (0..AGENTS as u64).map(|agent| {
            let (plant, client) = (Arc::clone(&plant), Client::new(address.clone()));
            tokio::spawn(async move {
                let each = pace / AGENTS as u64;
                let mut waits = Vec::new();
                let began = Instant::now();
                for number in 0..each {
                    // Spread over the second, and no two agents at once.
                    let due = Duration::from_secs_f64((number as f64 + agent as f64 / AGENTS as f64) / each as f64);
                    tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
                    // Above whatever the filling used: numbers only rise.
                    let number = entries + (second - 1) * each + number;
                    let device = usize::try_from(agent + number % 8 * AGENTS as u64).unwrap();
                    let statement = plant.worn(device, number, &format!("net-{agent}-{number}")).unwrap();
                    let sent = Instant::now();
                    let submitted = client.submit(&statement).await.unwrap();
                    assert_eq!(submitted.refusal, None, "it opens an order");
                    waits.push(sent.elapsed().as_secs_f64() * 1e3);
                }
                waits
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let began = Instant::now();
        for task in tasks {
            waits.extend(task.await.unwrap());
        }
        let left = Duration::from_secs(1).saturating_sub(began.elapsed());
        tokio::time::sleep(left).await;
        if second % 5 == 0 {
            waits.sort_by(f64::total_cmp);
            let wait = |share: usize| waits[(waits.len() - 1) * share / 100];
            println!(
                "{} triggers; submit → receipt p50 {:.1} ms, p99 {:.1} ms; {}",
                second * pace,
                wait(50),
                wait(99),
                memory(child.id())
            );
            waits.clear();
        }
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!("10 s later; {}", memory(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}
