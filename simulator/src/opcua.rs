//! OPC UA server of a simulated device: its signals at their node ids, with quality and source times.
//!
//! Offers None, and Basic256Sha256, Aes128_Sha256_RsaOaep and Aes256_Sha256_RsaPss signed or signed and encrypted; the two
//! deprecated policies only when asked for. Anonymous, or with the device's users. Any client certificate is accepted unless
//! [`OpcUaOptions::trust_any`] is off. The certificates live in a directory of their own, temporary unless given.
//! A silenced device (`drop`) loses its server: connections end, the port is closed, and both come back by themselves.

mod alarms;
mod history;
mod machine;
mod methods;
mod offer;
mod pki;
mod shape;
mod space;
mod types;
mod value;

use crate::{OpcUaServerConfig, PlantState, SignalConfig, SimError};
use machine::Slowness;
use methods::ConditionMethods;
use opcua::server::diagnostics::DiagnosticsNodeManagerBuilder;
use opcua::server::node_manager::ServerContext;
use opcua::server::node_manager::memory::{CoreNodeManagerBuilder, InMemoryNodeManagerBuilder};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, Server, ServerBuilder, ServerEndpoint, ServerHandle, ServerUserToken};
use pki::Pki;
use space::Space;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Address, DeviceId, Encoding, Value};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use offer::OpcUaOffer;

/// How often changed signals are written into the server.
const UPDATE_EVERY: Duration = Duration::from_millis(50);

/// How long clients have to let go when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Between two looks whether a silenced device may speak again, and two tries to get its port back.
const SILENCE_STEP: Duration = Duration::from_millis(50);

/// Tries to get the port back after a silence, [`SILENCE_STEP`] apart.
const BIND_TRIES_MAX: u32 = 100;

/// What can be chosen about a simulated server beyond its device.
#[derive(Debug, Clone, PartialEq)]
pub struct OpcUaOptions {
    /// Directory for its certificate and those of its clients; a temporary one without.
    pub pki: Option<PathBuf>,
    /// What it offers.
    pub offers: Vec<OpcUaOffer>,
    /// Whether every client certificate is accepted.
    pub trust_any: bool,
    /// Host name it announces in its endpoints; the address it listens on without.
    pub announce: Option<String>,
    /// Users known by certificate (DER), with their names.
    pub user_certificates: Vec<(String, PathBuf)>,
    /// Most sessions at a time.
    pub sessions_max: usize,
    /// How long each variable remembers its values, also while the server is away; no history without.
    pub history: Option<Duration>,
}

impl Default for OpcUaOptions {
    fn default() -> Self {
        Self {
            pki: None,
            offers: OpcUaOffer::ALL.to_vec(),
            trust_any: true,
            announce: None,
            user_certificates: Vec::new(),
            sessions_max: 100,
            history: None,
        }
    }
}

/// Serves the signals of one device over OPC UA until `stop` is cancelled.
///
/// # Errors
/// [`SimError::OpcUa`] when the server cannot be built or fails, [`SimError::Bind`] when its port is gone after a
/// silence.
pub async fn serve_opcua(
    server: OpcUaServerConfig,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    serve_opcua_with(server, OpcUaOptions::default(), state, stop).await
}

/// [`serve_opcua`] with everything that can be chosen.
///
/// # Errors
/// As [`serve_opcua`].
pub async fn serve_opcua_with(
    server: OpcUaServerConfig,
    options: OpcUaOptions,
    state: PlantState,
    stop: CancellationToken,
) -> Result<(), SimError> {
    let address = server.listener.local_addr().map_err(|fault| failed(&fault))?;
    let pki = Pki::prepare(options.pki.as_deref(), server.device.as_str()).await?;
    let mut listener = Some(server.listener);
    let signals = typed(server.signals, &server.device, &state);
    let mut space = Space::plan(&signals, options.history)?;
    let device = Device { id: server.device, users: server.users, signals, options, address };
    while !stop.is_cancelled() {
        let listener = match listener.take() {
            Some(listener) => listener,
            None => match device.listen_after_silence(&mut space, &state, &stop).await? {
                Some(listener) => listener,
                None => break,
            },
        };
        device.serve(listener, &mut space, &pki, &state, &stop).await?;
    }
    Ok(())
}

/// Parts of arrays and structures need a type before there is a value; one that is not written follows from what the signal
/// says at the beginning.
fn typed(mut signals: Vec<SignalConfig>, device: &DeviceId, state: &PlantState) -> Vec<SignalConfig> {
    for signal in &mut signals {
        let is_part = matches!(signal.address, Address::OpcUa { pointer: Some(_), .. });
        if is_part && signal.encoding == Encoding::Auto {
            signal.encoding = match state.get(device.as_str(), signal.id.as_str()) {
                Some(Value::Bool(_)) => Encoding::Bool,
                Some(Value::Integer(_)) => Encoding::I64,
                Some(Value::Unsigned(_)) => Encoding::U64,
                Some(Value::Text(_)) => Encoding::Text,
                Some(Value::Float(_)) | None => Encoding::F64,
            };
        }
    }
    signals
}

struct Device {
    id: DeviceId,
    users: Vec<(String, tally_model::Secret)>,
    signals: Vec<SignalConfig>,
    options: OpcUaOptions,
    address: SocketAddr,
}

impl Device {
    /// One life of the server: until stopped or silenced.
    async fn serve(
        &self,
        listener: TcpListener,
        space: &mut Space,
        pki: &Pki,
        state: &PlantState,
        stop: &CancellationToken,
    ) -> Result<(), SimError> {
        let (server, handle) = self.build(pki, space, state)?;
        space.create(&handle)?;
        space.follow(&self.id, &self.signals, state);
        space.write(&handle)?;
        let mut running = tokio::spawn(server.run_with(listener));
        let mut tick = tokio::time::interval(UPDATE_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = &mut running => return ended.map_err(|fault| failed(&fault))?.map_err(SimError::OpcUa),
                _ = tick.tick() => {
                    if state.is_silent(self.id.as_str()) {
                        break;
                    }
                    space.follow(&self.id, &self.signals, state);
                    space.write(&handle)?;
                }
            }
        }
        handle.cancel();
        if tokio::time::timeout(FAREWELL, &mut running).await.is_err() {
            running.abort();
        }
        Ok(())
    }

    fn build(&self, pki: &Pki, space: &Space, state: &PlantState) -> Result<(Server, ServerHandle), SimError> {
        let announce = self.options.announce.clone().unwrap_or_else(|| self.address.ip().to_string());
        let mut builder = node_managers(space)
            .application_name(format!("Tallystick simulator {}", self.id))
            .application_uri(pki::application_uri(self.id.as_str()))
            .product_uri("urn:tallystick:simulator")
            .pki_dir(pki.directory())
            .certificate_path(pki::CERTIFICATE)
            .private_key_path(pki::KEY)
            .trust_client_certs(self.options.trust_any)
            .host(announce)
            .port(self.address.port())
            // The builder refuses to build without.
            .discovery_urls(vec!["/".to_owned()])
            .subscription_poll_interval_ms(10);
        raise_limits(&mut builder);
        builder.limits_mut().max_sessions = self.options.sessions_max;
        let mut logins: Vec<String> = Vec::new();
        for (place, (user, certificate)) in self.options.user_certificates.iter().enumerate() {
            let login = format!("certificate-{place}");
            let mut token = ServerUserToken::x509(user.as_str(), certificate);
            token.read_thumbprint();
            builder = builder.add_user_token(&login, token);
            logins.push(login);
        }
        for (place, (user, password)) in self.users.iter().enumerate() {
            let login = format!("user-{place}");
            let token = ServerUserToken::user_pass(user.as_str(), password.reveal());
            builder = builder.add_user_token(&login, token);
            logins.push(login);
        }
        if logins.is_empty() {
            logins.push(ANONYMOUS_USER_TOKEN_ID.to_owned());
        }
        for offer in &self.options.offers {
            let (policy, mode) = offer.parts();
            builder = builder.add_endpoint(format!("{offer:?}"), ServerEndpoint::new("/", policy, mode, &logins));
        }
        let (plant, id) = (state.clone(), self.id.to_string());
        let slowness: Slowness = Arc::new(move || plant.trouble(&id).delay);
        space.equip(&slowness, builder).build().map_err(SimError::OpcUa)
    }

    /// Waits for the end of a silence and takes the port again; `None` when stopped first.
    async fn listen_after_silence(
        &self,
        space: &mut Space,
        state: &PlantState,
        stop: &CancellationToken,
    ) -> Result<Option<TcpListener>, SimError> {
        let mut tries = 0;
        loop {
            if stop.is_cancelled() {
                return Ok(None);
            }
            if !state.is_silent(self.id.as_str()) {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => return Ok(Some(listener)),
                    Err(source) if tries >= BIND_TRIES_MAX => {
                        return Err(SimError::Bind {
                            what: self.id.to_string(),
                            address: self.address.to_string(),
                            source,
                        });
                    }
                    Err(_) => tries += 1,
                }
            }
            // The machine goes on, and what has a history remembers.
            space.follow(&self.id, &self.signals, state);
            tokio::time::sleep(SILENCE_STEP).await;
        }
    }
}

/// A builder with the library's own node managers. Where there are conditions, the one with their methods stands before them.
fn node_managers(space: &Space) -> ServerBuilder {
    if space.alarms.is_empty() {
        return ServerBuilder::new();
    }
    let alarms = space.alarms.clone();
    ServerBuilder::new()
        .without_node_managers()
        .with_node_manager(move |_context: ServerContext| ConditionMethods(alarms))
        .with_node_manager(InMemoryNodeManagerBuilder::new(CoreNodeManagerBuilder))
        .with_node_manager(DiagnosticsNodeManagerBuilder)
}

/// The library's defaults fit a demonstration with a handful of nodes.
fn raise_limits(builder: &mut ServerBuilder) {
    let limits = builder.limits_mut();
    limits.max_message_size = 64 << 20;
    limits.max_chunk_count = 1_024;
    limits.max_array_length = 100_000;
    limits.subscriptions.max_subscriptions_per_session = 100;
    limits.subscriptions.max_pending_publish_requests = 200;
    limits.subscriptions.min_sampling_interval_ms = 10.0;
    limits.subscriptions.min_publishing_interval_ms = 10.0;
    limits.subscriptions.max_monitored_items_per_sub = 100_000;
    limits.subscriptions.max_monitored_item_queue_size = 1_000;
    limits.subscriptions.max_queued_notifications = 1_000;
}

fn failed(fault: &dyn std::error::Error) -> SimError {
    SimError::OpcUa(fault.to_string())
}
