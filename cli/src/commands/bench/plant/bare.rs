//! Baselines: the libraries alone, doing the same work and nothing else, each in a thread of its own.

use super::broker::BenchBroker;
use super::ear::{Ear, Heard, client, now};
use super::files::Load;
use super::usage::cpu_seconds;
use crate::answer::{Context, Fault};
use futures_util::future::try_join_all;
use rumqttc::{Event, Packet, QoS};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tally_model::{Endpoint, ModbusLine};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_modbus::client::{Reader, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};

/// Messages of a burst: the agent, too, publishes a cycle of all devices at once.
const BURSTS_PER_SECOND: u32 = 10;

/// Messages of history that the agent has on their way (`docs/decisions/010-store-and-forward.md`).
const HISTORY_ON_THEIR_WAY: u64 = 8;

/// What a library alone did and took.
#[derive(Debug, Default)]
pub struct Bare {
    /// Values or messages a second.
    pub per_second: f64,
    /// Processor time of its thread ÷ time.
    pub cpu_share: f64,
    /// Sorted; only of messages.
    pub latencies: Vec<Duration>,
}

/// Runs `work`, which says how much it did, in a thread of its own and reads that thread's processor time.
async fn alone<F>(work: impl FnOnce() -> F + Send + 'static) -> Result<Bare, Fault>
where
    F: Future<Output = Result<u64, Fault>>,
{
    let thread = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting a runtime")?;
        let (cpu, began) = (cpu_seconds("thread-self")?, Instant::now());
        let done = runtime.block_on(work())?;
        let (cpu, seconds) = (cpu_seconds("thread-self")? - cpu, began.elapsed().as_secs_f64());
        #[allow(clippy::cast_precision_loss)] // counts of some seconds
        Ok(Bare { per_second: done as f64 / seconds, cpu_share: cpu / seconds, latencies: Vec::new() })
    });
    thread.await.context("a baseline")?
}

/// tokio-modbus reads the same registers of the same devices in the same requests and throws them away.
pub async fn read(load: &Load, urls: &[String], time: Duration) -> Result<Bare, Fault> {
    let mut gateways: BTreeMap<SocketAddr, Vec<Slave>> = BTreeMap::new();
    for url in urls {
        let Endpoint::Modbus { line: ModbusLine::Tcp { host, port }, unit } = Endpoint::parse(url)? else {
            return Err(format!("{url} is not Modbus TCP").into());
        };
        let address = format!("{host}:{port}").parse().context(url)?;
        gateways.entry(address).or_default().push(Slave(unit));
    }
    let (requests, every) = (load.requests(), load.every());
    alone(move || async move {
        let until = Instant::now() + time;
        let reading =
            gateways.into_iter().map(|(address, units)| read_gateway(address, units, &requests, every, until));
        Ok(try_join_all(reading).await?.into_iter().sum())
    })
    .await
}

async fn read_gateway(
    address: SocketAddr,
    units: Vec<Slave>,
    requests: &[(u16, u16)],
    every: Duration,
    until: Instant,
) -> Result<u64, Fault> {
    let mut connection = tcp::connect(address).await.context(address)?;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut registers = 0;
    while timeout_at(until, ticks.tick()).await.is_ok() {
        for unit in &units {
            connection.set_slave(*unit);
            for (start, count) in requests {
                let words = connection.read_holding_registers(*start, *count).await;
                registers += words.context(address)?.context(address)?.len() as u64;
            }
        }
    }
    Ok(registers / 2)
}

/// rumqttc publishes as many messages of the same size to the same broker, heard by the same kind of listener.
pub async fn publish(broker: &BenchBroker, load: &Load, heard: &Heard, time: Duration) -> Result<Bare, Fault> {
    // Topics of its own: what is retained of another load would be heard as very late.
    let root = format!("bare/{}", load.plant);
    let ear = Ear::listen(broker.port, &format!("{root}/+")).await?;
    let port = broker.port;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of lengths
    let bytes = heard.bytes_mean() as usize;
    let messages = heard.messages;
    let mut bare = alone(move || async move { publish_for(port, &root, messages, bytes, time).await }).await?;
    // What is on its way still counts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    bare.latencies = ear.take().latencies;
    Ok(bare)
}

/// rumqttc publishes messages of this size with QoS 1, as many on their way as the agent allows history, as fast as the broker
/// acknowledges them.
pub async fn publish_acknowledged(port: u16, bytes: usize, time: Duration) -> Result<Bare, Fault> {
    alone(move || async move {
        let (client, mut events) = client("bare-acknowledged", port);
        let until = Instant::now() + time;
        let (mut sent, mut acknowledged) = (0_u64, 0_u64);
        while Instant::now() < until {
            while sent < acknowledged + HISTORY_ON_THEIR_WAY {
                client.try_publish("bare/history", QoS::AtLeastOnce, false, vec![b'x'; bytes])?;
                sent += 1;
            }
            let event = events.poll().await.context("publishing to the broker")?;
            acknowledged += u64::from(matches!(event, Event::Incoming(Packet::PubAck(_))));
        }
        Ok(acknowledged)
    })
    .await
}

async fn publish_for(port: u16, root: &str, messages: u64, bytes: usize, time: Duration) -> Result<u64, Fault> {
    let (client, mut events) = client("bare", port);
    let sending = async {
        let mut ticks = interval(Duration::from_secs(1) / BURSTS_PER_SECOND);
        let bursts = time.as_secs().max(1) * u64::from(BURSTS_PER_SECOND);
        let mut sent = 0;
        for burst in 1..=bursts {
            ticks.tick().await;
            while sent < messages * burst / bursts {
                let topic = format!("{root}/d{:03}", sent % 1_000);
                let head = format!("{{\"points\":{{\"p\":{{\"t\":\"{}\"}}}},\"pad\":\"", now());
                let pad = "x".repeat(bytes.saturating_sub(head.len() + 2));
                client.publish(topic, QoS::AtMostOnce, true, format!("{head}{pad}\"}}")).await?;
                sent += 1;
            }
        }
        Ok::<u64, Fault>(sent)
    };
    let mut sending = std::pin::pin!(sending);
    loop {
        tokio::select! {
            sent = &mut sending => return sent,
            event = events.poll() => { event.context("publishing to the broker")?; }
        }
    }
}
