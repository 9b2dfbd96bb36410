//! What the field side costs: simulated devices, `tally agent` and a broker as processes on loopback, SCADA's ear in this one.
//!
//! For each load the agent is started afresh, gets [`WARM_UP`] after its first value, and is then measured for the seconds asked
//! for. Its processor time and memory come from `/proc`; nothing is asked of it meanwhile. Baselines run right after it against
//! the same devices and the same broker, each in a thread of its own whose processor time is read the same way.

mod bare;
mod broker;
mod drain;
mod ear;
mod files;
mod usage;

use super::{Figure, Sizes};
use crate::answer::{Context, Fault};
use crate::child::Child;
use crate::commands::bench::stats::percentile;
use crate::shutdown::on_signal;
use crate::site::{Options, Site};
use bare::Bare;
use broker::BenchBroker;
use ear::{Ear, Heard};
use files::Load;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use usage::{Usage, cpu_seconds};

/// Modbus points when nobody says otherwise: the size of the promise.
pub const POINTS: usize = 20_000;
/// OPC UA variables are so many times fewer, as in the promise.
const OPCUA_SHARE: usize = 4;
/// Modbus points whose values are told later are so many times fewer: as many values a second as must be drained.
const DRAIN_SHARE: usize = 4;
/// Points of the load that shows what a small plant costs.
const SMALL_POINTS: usize = 500;
/// Between the first value and the measuring: connections, caches and the first subscription burst are over then.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long devices may take to listen, and the agent to bring its first value.
const PATIENCE: Duration = Duration::from_secs(120);

/// All figures of the field side. SIGINT and SIGTERM end it, and its processes with it.
pub fn measure(dir: &Path, sizes: &Sizes) -> Result<Vec<Figure>, Fault> {
    crate::shutdown::runtime()?.block_on(async {
        let stop = on_signal()?;
        // Dropped half-way, it drops its children, which are killed then.
        stop.run_until_cancelled(measure_all(dir, sizes)).await.ok_or("stopped")?
    })
}

async fn measure_all(dir: &Path, sizes: &Sizes) -> Result<Vec<Figure>, Fault> {
    let points = sizes.points.unwrap_or(POINTS);
    let every = Duration::from_millis(100);
    let promised = |promise| (points == POINTS).then_some(promise);
    let loads = [
        (
            Load::modbus("bench-modbus", points, every),
            promised("under 40 % of one core, under 80 MB, p99 under 100 ms"),
        ),
        (
            Load::opcua("bench-opcua", (points / OPCUA_SHARE).max(1), every),
            promised("under 15 % of one core, under 40 MB, p99 under 150 ms"),
        ),
        (Load::modbus("bench-small", SMALL_POINTS, Duration::from_secs(1)), Some("under 14 MB; first value under 1 s")),
    ];
    let mut broker = BenchBroker::start(&dir.join("broker")).await?;
    let mut figures = Vec::with_capacity(loads.len());
    for (load, promise) in &loads {
        figures.push(run(dir, &broker, load, sizes.seconds, *promise).await?);
    }
    if broker.can_be_killed() {
        let load = Load::modbus("bench-drain", (points / DRAIN_SHARE).max(1), every);
        let promise = promised("at least 50,000 values/s, live values not delayed");
        figures.push(drain::measure(dir, &mut broker, &load, sizes.seconds, promise).await?);
    }
    Ok(figures)
}

/// What the agent did and took.
struct Measured {
    heard: Heard,
    seconds: f64,
    cpu_share: f64,
    memory: Usage,
    first_value: Duration,
}

/// Everything but the agent.
struct Stage {
    dir: PathBuf,
    site: Site,
    /// Where the devices are.
    urls: Vec<String>,
    _simulators: Vec<Child>,
}

impl Stage {
    async fn set(dir: &Path, broker: &BenchBroker, load: &Load) -> Result<Self, Fault> {
        let dir = dir.join(load.plant);
        std::fs::create_dir_all(&dir).context(format_args!("making {}", dir.display()))?;
        let (simulators, urls) = simulators(&dir, load).await?;
        let site = site(&dir, load, &urls, &broker.url())?;
        Ok(Self { dir, site, urls, _simulators: simulators })
    }
}

async fn run(
    dir: &Path,
    broker: &BenchBroker,
    load: &Load,
    seconds: u64,
    promise: Option<&'static str>,
) -> Result<Figure, Fault> {
    let stage = Stage::set(dir, broker, load).await?;
    let time = Duration::from_secs(seconds);
    let measured = agent(&stage.dir, &stage.site, broker, load, time).await?;
    let publishing = bare::publish(broker, load, &measured.heard, time).await?;
    let reading = if load.is_modbus { Some(bare::read(load, &stage.urls, time).await?) } else { None };
    Ok(figure(load, broker, &measured, reading.as_ref(), &publishing, promise))
}

/// Starts the devices; gives their addresses in order.
async fn simulators(dir: &Path, load: &Load) -> Result<(Vec<Child>, Vec<String>), Fault> {
    let (mut children, mut urls) = (Vec::new(), Vec::new());
    for (number, yaml) in load.simulations().into_iter().enumerate() {
        let folder = dir.join(format!("sim-{number}"));
        std::fs::create_dir_all(&folder).context(format_args!("making {}", folder.display()))?;
        let file = folder.join("sim.yaml");
        std::fs::write(&file, yaml).context(format_args!("writing {}", file.display()))?;
        let mut child = Child::start("sim", &["sim".as_ref(), file.as_os_str()], &folder, &[])?;
        let ready = child.wait_for_line("ready", PATIENCE).await?;
        let named = ready.split(' ').skip(1).filter_map(|place| place.split_once('='));
        // In order of device id, as the simulator lists them and as the ids were given.
        urls.extend(named.map(|(_, url)| url.to_owned()));
        children.push(child);
    }
    Ok((children, urls))
}

fn site(dir: &Path, load: &Load, urls: &[String], broker: &str) -> Result<Site, Fault> {
    let engineering = dir.join("engineering");
    std::fs::create_dir_all(&engineering).context(format_args!("making {}", engineering.display()))?;
    let write = |name: &str, text: String| {
        let file = engineering.join(name);
        std::fs::write(&file, text).context(format_args!("writing {}", file.display())).map(|()| file)
    };
    if let Some(sheet) = load.sheet() {
        write("points.yaml", sheet)?;
    }
    let mapping = Some(write("plant.yaml", load.mapping(urls))?);
    let options = Options { mapping, broker: broker.to_owned(), ..Options::press_line() };
    let site = Site::create(&dir.join("site"), &options)?;
    let text = std::fs::read_to_string(&site.agent).context(site.agent.display())?;
    // One message a device and cycle: what a plant with this many values configures.
    std::fs::write(&site.agent, text.replace("mode: point", "mode: device")).context(site.agent.display())?;
    Ok(site)
}

fn nothing_came(dir: &Path) -> String {
    format!("no value came within {} s; see {}/agent.log", PATIENCE.as_secs(), dir.display())
}

/// Starts the agent and waits for its first value; says when that came.
async fn start_agent(dir: &Path, site: &Site, ear: &Ear) -> Result<(Child, Instant), Fault> {
    let mut agent = Child::start("agent", &["agent".as_ref(), "--config".as_ref(), site.agent.as_os_str()], dir, &[])?;
    let first_value = tokio::select! {
        fault = agent.ended() => return Err(fault),
        first = timeout(PATIENCE, ear.first_value()) => first.map_err(|_| nothing_came(dir))?,
    };
    Ok((agent, first_value))
}

async fn agent(dir: &Path, site: &Site, broker: &BenchBroker, load: &Load, time: Duration) -> Result<Measured, Fault> {
    let ear = Ear::listen(broker.port, &format!("tallystick/{}/+", load.plant)).await?;
    let started = Instant::now();
    let (mut agent, first_value) = start_agent(dir, site, &ear).await?;
    sleep(WARM_UP).await;
    let pid = agent.id().ok_or("the agent has no process id")?.to_string();
    ear.start_over();
    let (cpu, began) = (cpu_seconds(&pid)?, Instant::now());
    sleep(time).await;
    // On a busy machine a cycle may not fit: a window without a value would measure the scheduler.
    timeout(PATIENCE, ear.value()).await.map_err(|_| nothing_came(dir))?;
    let (cpu, passed) = (cpu_seconds(&pid)? - cpu, began.elapsed().as_secs_f64());
    let heard = ear.take();
    let memory = Usage::of(&pid)?;
    agent.must_still_run()?;
    agent.stop(Duration::from_secs(20)).await?;
    let first_value = first_value.saturating_duration_since(started);
    Ok(Measured { heard, seconds: passed, cpu_share: cpu / passed, memory, first_value })
}

impl Measured {
    #[allow(clippy::cast_precision_loss)] // counts of some seconds
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds
    }

    fn text(&self, load: &Load) -> String {
        let Self { heard, cpu_share, memory, first_value, .. } = self;
        let without = if heard.without_value > 0 {
            format!(", {:.0}/s without a value", self.per_second(heard.without_value))
        } else {
            String::new()
        };
        format!(
            "{:.0} values/s of {:.0}{without}; agent {:.1} % of one core, {:.1} MB resident (at most {:.1}; without the pages of its \
             program file {:.1}); device → broker {}; \
             first value {:.2} s after the start",
            self.per_second(heard.values),
            load.values_per_second(),
            cpu_share * 100.0,
            memory.resident_mb,
            memory.resident_mb_max,
            memory.own_mb,
            latency(&heard.latencies),
            first_value.as_secs_f64(),
        )
    }
}

/// A baseline, and how much more the agent takes.
fn compared(measured: &Measured, name: &str, bare: &Bare) -> String {
    // Below some ticks of the clock a ratio would be a throw of dice.
    let times = match bare.cpu_share > 0.005 {
        true => format!("the agent takes {:.1} ×", measured.cpu_share / bare.cpu_share),
        false => "too little to compare".to_owned(),
    };
    format!("{name}: {:.0}/s, {:.1} % of one core ({times})", bare.per_second, bare.cpu_share * 100.0)
}

fn figure(
    load: &Load,
    broker: &BenchBroker,
    measured: &Measured,
    reading: Option<&Bare>,
    publishing: &Bare,
    promise: Option<&'static str>,
) -> Figure {
    let mut baselines: Vec<_> = reading
        .map(|reading| compared(measured, "tokio-modbus alone, same requests, values", reading))
        .into_iter()
        .collect();
    let published = compared(measured, "rumqttc alone, same messages", publishing);
    baselines.push(format!("{published}, {}", latency(&publishing.latencies)));
    let Measured { heard, seconds, .. } = measured;
    Figure {
        name: load.title(),
        value: measured.text(load),
        promise,
        method: format!(
            "`tally sim` ({} processes), `tally agent` and {} on loopback, `mode: device`, no rules, no node; processor time \
             (user and system) and memory of the agent's process from /proc over {seconds:.1} s, {} s after its first value; \
             {:.0} messages/s of {:.0} bytes; {}",
            load.simulations().len(),
            broker.name,
            WARM_UP.as_secs(),
            measured.per_second(heard.messages),
            heard.bytes_mean(),
            load.latency_is(),
        ),
        baseline: Some(baselines.join("; ")),
    }
}

fn latency(sorted: &[Duration]) -> String {
    let ms = |percent| percentile(sorted, percent).as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms", ms(50), ms(99))
}
