//! Starts everything a plant needs, and stops it: as a handle for tests and as a program driven over lines.

use crate::broker::Broker;
use crate::control::{Controls, answer_on_socket, obey};
use crate::modbus::{OpenLine, Unit, serve_modbus};
use crate::mqtt::Sensors;
use crate::stepper::Stepper;
use crate::{
    DeviceConfig, MqttSensorConfig, OpcUaServerConfig, PlantState, STEP, SimConfig, SimError, serve_opcua_with,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tally_model::{Endpoint, ModbusLine, MqttBroker, Value};
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
pub async fn run<R, W>(config: SimConfig, commands: R, answers: W, stop: CancellationToken) -> Result<(), SimError>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    run_with_socket(config, commands, answers, None, stop).await
}

/// [`run`], and the same commands on a Unix socket.
///
/// # Errors
/// As [`run`]; also when the socket cannot be made.
pub async fn run_with_socket<R, W>(
    config: SimConfig,
    commands: R,
    mut answers: W,
    socket: Option<&Path>,
    stop: CancellationToken,
) -> Result<(), SimError>
where
    R: AsyncBufRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let mut handle = SimHandle::start(config).await?;
    if let Some(path) = socket {
        let serving = answer_on_socket(path, handle.controls.clone(), handle.stop.clone())?;
        handle.tasks.spawn(serving);
    }
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
                Some(line) => say(&mut answers, &obey(&line, &handle.controls)).await,
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
    controls: Controls,
    /// Device to the URL under which it is reached, with the port really bound.
    addresses: BTreeMap<String, String>,
    /// Device to the folder of its certificates.
    certificates: BTreeMap<String, PathBuf>,
    tasks: JoinSet<Result<(), SimError>>,
    stop: CancellationToken,
    _broker: Option<Broker>,
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
        let broker = config.broker.map(crate::start_broker).transpose()?;
        let stepper = Arc::new(Mutex::new(stepper));
        let mut handle = Self {
            controls: Controls::new(state.clone(), stepper.clone(), &config.devices),
            addresses: BTreeMap::new(),
            certificates: BTreeMap::new(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            _broker: broker,
        };
        handle.start_servers(config.devices).await?;
        handle.tasks.spawn(step_for_ever(stepper, state, handle.stop.clone()));
        Ok(handle)
    }

    /// What every signal says, to read and to change.
    #[must_use]
    pub fn state(&self) -> &PlantState {
        &self.controls.state
    }

    /// Device to the URL under which it is reached, as a mapping would write it.
    #[must_use]
    pub fn addresses(&self) -> &BTreeMap<String, String> {
        &self.addresses
    }

    /// Folder with the certificates of a device that is served over TLS: `ca.pem`, `client.pem`, `client.key`.
    #[must_use]
    pub fn certificates(&self, device: &str) -> Option<&Path> {
        self.certificates.get(device).map(PathBuf::as_path)
    }

    /// The port of a device.
    #[must_use]
    pub fn port(&self, device: &str) -> Option<u16> {
        url::Url::parse(self.addresses.get(device)?).ok()?.port()
    }

    /// Holds a signal at a value until it is released.
    pub fn set(&self, device: &str, signal: &str, value: Value) {
        self.controls.state.set(device, signal, value);
    }

    /// Makes the worn parts of a device new again; gives their names.
    ///
    /// # Errors
    /// A sentence, when nothing of the device wears out.
    pub fn repair(&self, device: &str) -> Result<String, String> {
        self.controls.repair(device)
    }

    /// Carries out one command line and gives the answer line (`ok …` or `error …`).
    #[must_use]
    pub fn command(&self, line: &str) -> String {
        obey(line, &self.controls)
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

    fn ready_line(&self) -> String {
        let places = self.addresses.iter().map(|(device, url)| format!(" {device}={url}"));
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|(device, folder)| format!(" certificates:{device}={}", folder.display()));
        format!("ready{}", places.chain(certificates).collect::<String>())
    }

    async fn start_servers(&mut self, devices: Vec<DeviceConfig>) -> Result<(), SimError> {
        let mut gateways: BTreeMap<ModbusLine, Vec<(u8, DeviceConfig)>> = BTreeMap::new();
        let mut sensors = Vec::new();
        for device in devices {
            match device.serve.clone() {
                // All units of one host and port share a socket, like devices behind a gateway.
                Endpoint::Modbus { line, unit } => gateways.entry(line).or_default().push((unit, device)),
                Endpoint::OpcUa { url } => self.start_opcua(device, &url).await?,
                Endpoint::Mqtt(broker) => sensors.push(self.sensor(device, &broker)?),
                Endpoint::Replay { .. } => {}
            }
        }
        for (line, units) in gateways {
            self.start_modbus(line, units).await?;
        }
        let (sensors, stop) = (Sensors::try_new(sensors, &self.controls.state)?, self.stop.clone());
        self.tasks.spawn(async move {
            sensors.publish(stop).await;
            Ok(())
        });
        Ok(())
    }

    async fn start_modbus(&mut self, line: ModbusLine, units: Vec<(u8, DeviceConfig)>) -> Result<(), SimError> {
        let names: Vec<_> = units.iter().map(|(_, device)| device.id.to_string()).collect();
        let pki = units.iter().find_map(|(_, device)| device.pki.clone());
        let (open, line) = OpenLine::open(&line, &names.join(", "), pki.as_deref()).await?;
        let mut served = BTreeMap::new();
        for (unit, device) in units {
            let name = device.id.to_string();
            self.certificates.extend(open.certificates().map(|folder| (name.clone(), folder)));
            self.addresses.insert(name, Endpoint::Modbus { line: line.clone(), unit }.to_string());
            served.insert(unit, Unit::new(device.id, device.signals, device.identity));
        }
        let state = self.controls.state.clone();
        self.tasks.spawn(serve_modbus(open, served, state, self.stop.clone()));
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
        let (state, stop) = (self.controls.state.clone(), self.stop.clone());
        self.tasks.spawn(serve_opcua_with(config, device.opcua, state, stop));
        Ok(())
    }

    /// Sensors are simulated without TLS and in MQTT 3.1.1, which every broker speaks.
    fn sensor(&mut self, device: DeviceConfig, broker: &MqttBroker) -> Result<MqttSensorConfig, SimError> {
        if *broker != MqttBroker::plain(&broker.host, broker.port) {
            let text =
                format!("{}: `{broker}` is not simulated; write `mqtt://{}:{}`", device.id, broker.host, broker.port);
            return Err(SimError::Mqtt(text));
        }
        self.addresses.insert(device.id.to_string(), device.serve.to_string());
        let (host, port) = (broker.host.clone(), broker.port);
        Ok(MqttSensorConfig { device: device.id, host, port, every: device.every, signals: device.signals })
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn bind(what: &str, host: &str, port: u16) -> Result<(TcpListener, u16), SimError> {
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
