//! Starts everything a plant needs, and stops it: as a handle for tests and as a program driven over lines.

use crate::command::obey;
use crate::modbus::{ModbusServerConfig, serve_modbus};
use crate::stepper::Stepper;
use crate::{
    DeviceConfig, MqttSensorConfig, OpcUaServerConfig, PlantState, STEP, SimConfig, SimError, publish_mqtt, serve_opcua,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tally_model::{Endpoint, ModbusLine, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Runs a plant as a program: says `ready …` on `answers` when everything listens, then answers every line of
/// `commands` with one line, until `stop` is cancelled. The end of `commands` is not the end of the plant.
///
/// # Errors
/// [`SimError`] when the plant cannot start, or when one of its servers fails.
pub async fn run<R, W>(config: SimConfig, commands: R, mut answers: W, stop: CancellationToken) -> Result<(), SimError>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut handle = SimHandle::start(config).await?;
    let mut lines = Some(commands.lines());
    say(&mut answers, &handle.ready_line()).await;
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                handle.stop().await;
                return Ok(());
            }
            fault = next_fault(&mut handle.tasks) => return Err(fault),
            line = next_line(&mut lines) => match line {
                Some(line) => say(&mut answers, &obey(&line, &handle)).await,
                None => lines = None,
            },
        }
    }
}

/// Never comes when there are no more lines: the plant goes on without commands.
async fn next_line<R: AsyncBufRead + Unpin>(lines: &mut Option<tokio::io::Lines<R>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// A reader of answers that went away is no reason to stop the plant.
async fn say<W: AsyncWrite + Unpin>(answers: &mut W, line: &str) {
    let told = async {
        answers.write_all(line.as_bytes()).await?;
        answers.write_all(b"\n").await?;
        answers.flush().await
    };
    if let Err(fault) = told.await {
        tracing::debug!(%fault, "nobody reads the answers");
    }
}

/// A running plant. Dropping it stops everything at once; [`SimHandle::stop`] waits until it has.
pub struct SimHandle {
    state: PlantState,
    stepper: Arc<Mutex<Stepper>>,
    /// Device to the URL under which it is reached, with the port really bound.
    addresses: BTreeMap<String, String>,
    tasks: JoinSet<Result<(), SimError>>,
    stop: CancellationToken,
}

impl SimHandle {
    /// Starts all servers; port 0 takes a free one. When this returns, everything listens.
    ///
    /// # Errors
    /// [`SimError::Bind`] when a port cannot be had.
    pub async fn start(config: SimConfig) -> Result<Self, SimError> {
        let state = PlantState::default();
        let mut stepper = Stepper::new(&config);
        // The first client must find values, not holes.
        stepper.step(std::time::Duration::ZERO, &state);
        let mut handle = Self {
            state,
            stepper: Arc::new(Mutex::new(stepper)),
            addresses: BTreeMap::new(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        handle.start_servers(config.devices).await?;
        handle.tasks.spawn(step_for_ever(handle.stepper.clone(), handle.state.clone(), handle.stop.clone()));
        Ok(handle)
    }

    /// What every signal says, to read and to change.
    #[must_use]
    pub fn state(&self) -> &PlantState {
        &self.state
    }

    /// Device to the URL under which it is reached, as a mapping would write it.
    #[must_use]
    pub fn addresses(&self) -> &BTreeMap<String, String> {
        &self.addresses
    }

    /// The port of a device.
    #[must_use]
    pub fn port(&self, device: &str) -> Option<u16> {
        url::Url::parse(self.addresses.get(device)?).ok()?.port()
    }

    /// Holds a signal at a value until it is released.
    pub fn set(&self, device: &str, signal: &str, value: Value) {
        self.state.set(device, signal, value);
    }

    /// Makes the worn parts of a device new again; gives their names.
    ///
    /// # Errors
    /// A sentence, when nothing of the device wears out.
    pub fn repair(&self, device: &str) -> Result<String, String> {
        let repaired = self.stepper.lock().unwrap_or_else(PoisonError::into_inner).repair(device);
        if repaired.is_empty() {
            return Err(format!("nothing of `{device}` wears out"));
        }
        Ok(repaired.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// Carries out one command line and gives the answer line (`ok …` or `error …`).
    #[must_use]
    pub fn command(&self, line: &str) -> String {
        obey(line, self)
    }

    /// Stops everything and waits until it has.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(fault)) = ended {
                tracing::debug!(%fault, "a simulated device ended badly");
            }
        }
    }

    pub(crate) fn check_device(&self, device: &str) -> Result<(), String> {
        if self.addresses.contains_key(device) {
            return Ok(());
        }
        let known: Vec<_> = self.addresses.keys().cloned().collect();
        Err(format!("there is no device `{device}`; there are: {}", known.join(", ")))
    }

    fn ready_line(&self) -> String {
        let places = self.addresses.iter().map(|(device, url)| format!(" {device}={url}"));
        format!("ready{}", places.collect::<String>())
    }

    async fn start_servers(&mut self, devices: Vec<DeviceConfig>) -> Result<(), SimError> {
        let mut gateways: BTreeMap<ModbusLine, Vec<(u8, DeviceConfig)>> = BTreeMap::new();
        for device in devices {
            match device.serve.clone() {
                // All units of one host and port share a socket, like devices behind a gateway.
                Endpoint::Modbus { line, unit } => gateways.entry(line).or_default().push((unit, device)),
                Endpoint::OpcUa { url } => self.start_opcua(device, &url).await?,
                Endpoint::Mqtt(broker) => self.start_mqtt(device, broker.host, broker.port),
                Endpoint::Replay { .. } => {}
            }
        }
        for (line, units) in gateways {
            self.start_modbus(line, units).await?;
        }
        Ok(())
    }

    async fn start_modbus(&mut self, line: ModbusLine, units: Vec<(u8, DeviceConfig)>) -> Result<(), SimError> {
        let ModbusLine::Tcp { host, port } = &line else {
            return Err(SimError::Modbus(format!("`{line}` is not served yet")));
        };
        let (host, port) = (host.as_str(), *port);
        let names: Vec<_> = units.iter().map(|(_, device)| device.id.to_string()).collect();
        let (listener, port) = bind(&names.join(", "), host, port).await?;
        let mut served = BTreeMap::new();
        for (unit, device) in units {
            let url = Endpoint::Modbus { line: ModbusLine::Tcp { host: host.to_owned(), port }, unit }.to_string();
            self.addresses.insert(device.id.to_string(), url);
            served.insert(unit, (device.id, device.signals));
        }
        let config = ModbusServerConfig { listener, units: served };
        self.tasks.spawn(serve_modbus(config, self.state.clone(), self.stop.clone()));
        Ok(())
    }

    async fn start_opcua(&mut self, device: DeviceConfig, url: &str) -> Result<(), SimError> {
        let fault = |reason: String| SimError::OpcUa(format!("{}: {reason}", device.id));
        let mut url = url::Url::parse(url).map_err(|reason| fault(reason.to_string()))?;
        let host = url.host_str().unwrap_or("127.0.0.1").to_owned();
        let (listener, port) = bind(device.id.as_str(), &host, url.port().unwrap_or(4840)).await?;
        url.set_port(Some(port)).map_err(|()| fault(format!("`{url}` takes no port")))?;
        self.addresses.insert(device.id.to_string(), url.to_string());
        let config = OpcUaServerConfig { device: device.id, listener, users: device.users, signals: device.signals };
        self.tasks.spawn(serve_opcua(config, self.state.clone(), self.stop.clone()));
        Ok(())
    }

    fn start_mqtt(&mut self, device: DeviceConfig, host: String, port: u16) {
        self.addresses.insert(device.id.to_string(), device.serve.to_string());
        let config = MqttSensorConfig { device: device.id, host, port, every: device.every, signals: device.signals };
        self.tasks.spawn(publish_mqtt(config, self.state.clone(), self.stop.clone()));
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn bind(what: &str, host: &str, port: u16) -> Result<(TcpListener, u16), SimError> {
    let fault = |source| SimError::Bind { what: what.to_owned(), address: format!("{host}:{port}"), source };
    // A URL writes IPv6 addresses in brackets (RFC 3986 §3.2.2), the resolver knows them without.
    let listener = TcpListener::bind((host.trim_matches(['[', ']']), port)).await.map_err(fault)?;
    let port = listener.local_addr().map_err(fault)?.port();
    Ok((listener, port))
}

async fn step_for_ever(
    stepper: Arc<Mutex<Stepper>>,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // The time that really passed, so that a slow machine simulates no slower plant.
        let now = Instant::now();
        stepper.lock().unwrap_or_else(PoisonError::into_inner).step(now - last, &state);
        last = now;
    }
    Ok(())
}

/// The first fault of a server. Servers that ended as asked are no fault.
async fn next_fault(tasks: &mut JoinSet<Result<(), SimError>>) -> SimError {
    loop {
        match tasks.join_next().await {
            Some(Ok(Err(fault))) => return fault,
            Some(Err(fault)) => return SimError::Modbus(format!("a task of the simulator ended: {fault}")),
            Some(Ok(Ok(()))) => {}
            None => std::future::pending().await,
        }
    }
}
