//! How fast what SCADA missed is told later, and what that does to live values.
//!
//! The broker is killed and comes back. The agent then tells from its vault what was missed (and, because nobody knows what of the
//! last seconds arrived, eight seconds before it), beside the live values of the same devices. Live values of the same agent,
//! a moment earlier and with nothing to drain, are the baseline of the delay.

use super::ear::{Ear, Heard};
use super::files::Load;
use super::usage::cpu_seconds;
use super::{BenchBroker, PATIENCE, Stage, WARM_UP, bare, latency, start_agent};
use crate::answer::Fault;
use crate::commands::bench::Figure;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the broker is away.
const AWAY: Duration = Duration::from_secs(8);
/// History is over when none came for this long: longer than the pauses that its pace makes.
const QUIET: Duration = Duration::from_secs(2);

/// What was heard while history was told, and before.
struct Drained {
    late: Heard,
    /// From the first message of history to the last.
    seconds: f64,
    cpu_share: f64,
    live: Heard,
    calm: Heard,
}

pub async fn measure(
    dir: &Path,
    broker: &mut BenchBroker,
    load: &Load,
    seconds: u64,
    promise: Option<&'static str>,
) -> Result<Figure, Fault> {
    let stage = Stage::set(dir, broker, load).await?;
    let time = Duration::from_secs(seconds);
    let root = format!("tallystick/{}", load.plant);
    let (live, late) = (
        Ear::listen(broker.port, &format!("{root}/+")).await?,
        Ear::listen(broker.port, &format!("{root}/+/history")).await?,
    );
    let (mut agent, _) = start_agent(&stage.dir, &stage.site, &live).await?;
    sleep(WARM_UP).await;
    live.start_over();
    sleep(time).await;
    let calm = live.take();
    broker.away(AWAY).await?;
    late.start_over();
    let began = until_history(&late).await?;
    live.start_over();
    let pid = agent.id().ok_or("the agent has no process id")?.to_string();
    let cpu = cpu_seconds(&pid)?;
    let (live, last) = until_quiet(&live, &late).await?;
    let (cpu, passed) = (cpu_seconds(&pid)? - cpu, began.elapsed().as_secs_f64());
    agent.must_still_run()?;
    agent.stop(Duration::from_secs(20)).await?;
    let late = late.take();
    let seconds = last.duration_since(began).as_secs_f64();
    let drained = Drained { late, seconds, cpu_share: cpu / passed, live, calm };
    let bare = bare::publish_acknowledged(broker.port, mean(&drained.late), time.min(Duration::from_secs(5))).await?;
    Ok(figure(load, broker, &drained, &bare, promise))
}

/// When the first message of history came.
async fn until_history(late: &Ear) -> Result<Instant, Fault> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(at) = late.last() {
            return Ok(at);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err(format!("no history came within {} s after the broker was back", PATIENCE.as_secs()).into())
}

/// The live values that came until history was over, and when its last message came.
async fn until_quiet(live: &Ear, late: &Ear) -> Result<(Heard, Instant), Fault> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
        if let Some(at) = late.last().filter(|at| at.elapsed() > QUIET) {
            return Ok((live.take(), at));
        }
    }
    Err(format!("history was not over within {} s", PATIENCE.as_secs()).into())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of lengths
fn mean(heard: &Heard) -> usize {
    heard.bytes_mean() as usize
}

#[allow(clippy::cast_precision_loss)] // counts of some seconds
fn figure(
    load: &Load,
    broker: &BenchBroker,
    drained: &Drained,
    bare: &bare::Bare,
    promise: Option<&'static str>,
) -> Figure {
    let Drained { late, seconds, cpu_share, live, calm } = drained;
    let per_second = late.values as f64 / seconds.max(0.001);
    let per_message = late.values as f64 / late.messages.max(1) as f64;
    let bare_values = bare.per_second * per_message;
    Figure {
        name: format!("what SCADA missed, told beside {:.0} live values/s", load.values_per_second()),
        value: format!(
            "{per_second:.0} values/s of history; live device → broker meanwhile {}; agent {:.1} % of one core",
            latency(&live.latencies),
            cpu_share * 100.0,
        ),
        promise,
        method: format!(
            "{} was killed and started again {} s later; {} values of history in {} messages came over {seconds:.1} s, QoS 1, at most \
             100,000 values/s as configured by default; their rate is counted at a subscriber from the first message to the last, \
             live delays as in the figures above",
            broker.name,
            AWAY.as_secs(),
            late.values,
            late.messages,
        ),
        baseline: Some(format!(
            "live device → broker before, with nothing to drain: {}; rumqttc alone, QoS 1 messages of the same size, as many on \
             their way: {:.0} values/s ({:.2} × as fast as the agent's history)",
            latency(&calm.latencies),
            bare_values,
            bare_values / per_second.max(1.0),
        )),
    }
}
