//! Register change → executed order, through real processes: a simulated Modbus PLC with 1,000 registers, `tally agent`,
//! `tally node`, all on loopback. 100 registers a second change; each change is a trigger, each trigger opens an order.

use super::{Figure, stats::percentile};
use crate::answer::{Context, Fault};
use crate::child::Child;
use crate::site::{Options, Site};
use futures_util::StreamExt;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use tally_ledger_client::Client;
use tally_model::Value;
use tally_simulator::{SimConfig, SimHandle};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Points of the device; also the promise's "at 1,000 points".
const POINTS: usize = 1000;
/// Between two register changes: 100 a second.
const BETWEEN: Duration = Duration::from_millis(10);
/// How long the last orders may take before they count as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sampling period of the device; half of it is in every latency.
const EVERY_MS: u64 = 10;

/// Latency at 100 triggers/s, and the agent's memory while at it.
pub fn measure(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    crate::shutdown::runtime()?.block_on(async {
        let plant = BenchPlant::start(&dir.join("path")).await?;
        let changes = usize::try_from(seconds * 100).unwrap_or(POINTS).min(POINTS);
        let latencies = plant.change_registers(changes).await?;
        let memory = plant.agent_memory();
        Ok(vec![latency_figure(&latencies, changes), memory?])
    })
}

/// The agent's memory at 1,000 points that are read 100 times a second and do not change.
pub fn measure_memory(dir: &Path, seconds: u64) -> Result<Vec<Figure>, Fault> {
    crate::shutdown::runtime()?.block_on(async {
        let plant = BenchPlant::start(&dir.join("memory")).await?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(vec![plant.agent_memory()?])
    })
}

fn latency_figure(sorted: &[Duration], changes: usize) -> Figure {
    let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1e3);
    let (p50, p99) = (percentile(sorted, 50), percentile(sorted, 99));
    let worst = sorted.last().copied().unwrap_or_default();
    Figure {
        name: "register change → executed order".into(),
        value: format!("p50 {}, p99 {}, worst {} over {changes} changes at 100/s", ms(p50), ms(p99), ms(worst)),
        promise: Some("p99 under 50 ms"),
        method: format!(
            "simulated Modbus PLC, {POINTS} registers read every {EVERY_MS} ms; clock from the register's change to the \
             `agreement.opened` event at a listener; agent and node as processes, outbox and ledger synced"
        ),
        baseline: Some(format!("{:.1} × the sampling period of {EVERY_MS} ms (p50)", p50.as_secs_f64() * 1e3 / 10.0)),
    }
}

/// Simulator in this process; node and agent as children.
struct BenchPlant {
    sim: SimHandle,
    client: Client,
    agent: Child,
    _node: Child,
}

impl BenchPlant {
    async fn start(dir: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(dir).context(format_args!("making {}", dir.display()))?;
        let config = SimConfig::parse(&sim_yaml(), Path::new("bench-sim.yaml"), &|_| None)?;
        let sim = SimHandle::start(config).await.context("starting the simulator")?;
        let port = sim.port("bench-01").ok_or("the simulated device has no port")?;
        let mapping = dir.join("bench.yaml");
        std::fs::write(&mapping, mapping_yaml(port)).context(format_args!("writing {}", mapping.display()))?;
        let options = Options { mapping: Some(mapping), money: 90_000 * 2 * POINTS as u64, ..Options::press_line() };
        let site = Site::create(dir, &options)?;
        without_broker(&site.agent)?;
        let node = Child::start("node", &["node".as_ref(), "--config".as_ref(), site.node.as_os_str()], dir, &[])?;
        let client = Client::new(site.node_address.clone());
        wait_until("the node", || async { client.get_bytes("/ready").await.is_ok() }).await?;
        let agent = Child::start("agent", &["agent".as_ref(), "--config".as_ref(), site.agent.as_os_str()], dir, &[])?;
        let status = Client::new(site.agent_address.clone());
        wait_until("the agent", || async { status.get_bytes("/ready").await.is_ok() }).await?;
        // Let every rule see its register at rest.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Self { sim, client, agent, _node: node })
    }

    /// Changes one register after another and waits for their orders; gives the sorted latencies.
    async fn change_registers(&self, changes: usize) -> Result<Vec<Duration>, Fault> {
        let mut events = Box::pin(self.client.events(Some(1)));
        let mut changed = Vec::with_capacity(changes);
        let mut opened: Vec<(String, Instant)> = Vec::with_capacity(changes);
        let mut ticks = interval(BETWEEN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while opened.len() < changes {
            tokio::select! {
                _ = ticks.tick(), if changed.len() < changes => {
                    self.sim.set("bench-01", &format!("p{}", changed.len()), Value::Integer(1));
                    changed.push(Instant::now());
                }
                event = timeout(PATIENCE, events.next()) => {
                    let event = event.map_err(|_| lost(opened.len(), changes))?.ok_or("the event stream ended")??;
                    if event.json["type"].as_str().is_some_and(|kind| kind.ends_with("agreement.opened")) {
                        opened.push((event.json["subject"].as_str().unwrap_or_default().to_owned(), Instant::now()));
                    }
                }
            }
        }
        self.latencies(&changed, &opened).await
    }

    /// Which order belongs to which register is asked afterwards, when nothing is measured any more.
    async fn latencies(&self, changed: &[Instant], opened: &[(String, Instant)]) -> Result<Vec<Duration>, Fault> {
        let mut latencies = Vec::with_capacity(opened.len());
        for (order, at) in opened {
            let order = self.client.get_json(&format!("/agreements/{order}")).await?;
            let register =
                order["fields"]["fault"].as_str().and_then(|fault| fault.strip_prefix('f')?.parse::<usize>().ok());
            let since = register.and_then(|register| changed.get(register)).ok_or("an order of no register")?;
            latencies.push(at.duration_since(*since));
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    fn agent_memory(&self) -> Result<Figure, Fault> {
        let bytes = self.agent.resident_bytes().ok_or("cannot read the agent's memory from /proc")?;
        Ok(Figure {
            name: format!("agent's resident memory at {POINTS} points"),
            value: format!("{:.1} MB", bytes as f64 / 1e6),
            promise: Some("under 40 MB"),
            method: format!("VmRSS of `tally agent`, {POINTS} Modbus points every {EVERY_MS} ms, {POINTS} rules"),
            baseline: None,
        })
    }
}

fn lost(seen: usize, changes: usize) -> String {
    format!(
        "only {seen} of {changes} orders within {} s of the last; the logs are in the bench folder",
        PATIENCE.as_secs()
    )
}

async fn wait_until<F: Future<Output = bool>>(who: &str, ready: impl Fn() -> F) -> Result<(), Fault> {
    for _ in 0..400 {
        if ready().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("{who} was not ready within 20 s").into())
}

/// There is no broker in this bench: what SCADA hears is measured elsewhere.
fn without_broker(agent: &Path) -> Result<(), Fault> {
    let text = std::fs::read_to_string(agent).context(agent.display())?;
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("broker:")).collect();
    std::fs::write(agent, kept.join("\n")).context(agent.display())
}

fn sim_yaml() -> String {
    let mut text =
        String::from("devices:\n  - id: bench-01\n    serve: \"modbus+tcp://127.0.0.1:0?unit=1\"\n    signals:\n");
    for point in 0..POINTS {
        let _ = writeln!(text, "      - {{id: p{point}, at: holding:{point}, type: u16, from: {{constant: 0}}}}");
    }
    text
}

fn mapping_yaml(port: u16) -> String {
    let mut text = format!(
        "plant: bench\ndevices:\n  - id: bench-01\n    connect: modbus+tcp://127.0.0.1:{port}?unit=1\n    every: {EVERY_MS}ms\n    points:\n"
    );
    for point in 0..POINTS {
        let _ = writeln!(text, "      - {{id: p{point}, at: \"holding:{point}\", type: u16}}");
    }
    text.push_str("triggers:\n");
    for point in 0..POINTS {
        let _ = writeln!(
            text,
            "  - {{id: t{point}, device: bench-01, when: p{point} == 1, priority: high, \
             call: {{contract: maintenance-order, action: report, with: {{fault: \"'f{point}'\"}}}}}}"
        );
    }
    text
}
