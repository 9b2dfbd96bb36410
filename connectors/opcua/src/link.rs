//! The task: connect, subscribe, hand on, reconnect.
//!
//! ```text
//! connecting ──endpoints, trust, session, subscriptions──> up
//!     ^                     │ any fault                     │ line lost, silence, gap
//!     └────── back-off ── down <────────────────────────────┘        (stop: from anywhere, within a second)
//! ```

use crate::decode;
use crate::error::link_fault;
use crate::plan::{ItemPlan, Plan};
use crate::session::Connection;
use crate::subscribe::place_of;
use crate::{PlanFault, Settings, config, endpoint, plan, trust};
use async_trait::async_trait;
use opcua::client::{Client, IdentityToken};
use opcua::types::MonitoredItemNotification;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Backoff, Batch, Clock, Link, LinkContext, LinkFault, down_batch};
use tally_model::{DeviceId, DeviceSpec, NoValue, Timestamp};
use tokio::sync::mpsc;

/// Nodes that were not there are looked for again this often: somebody may be loading the PLC program just now.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A session that lived this long was a good one: the next outage starts with short delays again.
const GOOD_SESSION: Duration = Duration::from_secs(5);

/// Names of points in one log line.
const NAMES_MAX: usize = 5;

/// A link for devices that share one endpoint and one login. Connects to nothing yet.
///
/// # Errors
/// [`PlanFault`] for addresses and settings that cannot work.
pub fn link(devices: Vec<DeviceSpec>, settings: Settings) -> Result<Box<dyn Link>, PlanFault> {
    let first = devices.first().ok_or(PlanFault::NoDevices)?;
    for other in &devices {
        if (&other.endpoint, &other.security) != (&first.endpoint, &first.security) {
            return Err(PlanFault::Mixed { first: first.id.clone(), other: other.id.clone() });
        }
    }
    let plans = devices.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let timeout = config::request_timeout(&devices);
    Ok(Box::new(OpcUaLink { devices: devices.into(), plans, settings, timeout, client: None }))
}

struct OpcUaLink {
    /// Never empty; all with the endpoint and security of the first.
    devices: Arc<[DeviceSpec]>,
    /// One per device, same order.
    plans: Vec<Plan>,
    settings: Settings,
    timeout: Duration,
    /// Made at the first attempt, when certificate and key exist.
    client: Option<Client>,
}

#[async_trait]
impl Link for OpcUaLink {
    fn name(&self) -> String {
        let url = &self.plans[0].endpoint;
        let without_credentials = url::Url::parse(url).ok().and_then(|mut parsed| {
            parsed.set_username("").and_then(|()| parsed.set_password(None)).ok()?;
            Some(String::from(parsed))
        });
        without_credentials.unwrap_or_else(|| url.clone())
    }

    fn devices(&self) -> Vec<DeviceId> {
        self.devices.iter().map(|device| device.id.clone()).collect()
    }

    async fn run(mut self: Box<Self>, context: LinkContext) {
        let mut outlet = Outlet::new(Arc::clone(&self.devices), &context);
        let mut backoff = Backoff::for_links();
        loop {
            let began = Instant::now();
            let Some(fault) = self.session(&context, &mut outlet).await else { break };
            if outlet.is_up && began.elapsed() >= GOOD_SESSION {
                backoff.reset();
            }
            outlet.hand_down();
            let delay = backoff.next_delay();
            context.status.down(fault, delay);
            let pause = async {
                outlet.flush().await;
                tokio::time::sleep(delay).await;
            };
            if or_stop(&context, pause).await.is_none() {
                break;
            }
        }
        context.status.stopped();
    }
}

impl OpcUaLink {
    /// One session from its beginning to its end; `None` when the link was stopped.
    async fn session(&mut self, context: &LinkContext, outlet: &mut Outlet) -> Option<LinkFault> {
        let mut connection = match or_stop(context, self.connect()).await? {
            Ok(connection) => connection,
            Err(fault) => return Some(fault),
        };
        let fault = or_stop(context, self.read(&mut connection, context, outlet)).await;
        connection.close(outlet).await;
        fault
    }

    /// Own certificate, endpoints, choice, trust, session.
    async fn connect(&mut self) -> Result<Connection, LinkFault> {
        if self.client.is_none() {
            let settings = self.settings.clone();
            let made = tokio::task::spawn_blocking(move || trust::ensure_own(&settings)).await;
            made.map_err(|fault| LinkFault::Refused(format!("making our certificate failed: {fault}")))??;
            self.client = Some(config::client(&self.settings, self.timeout)?);
        }
        let Some(client) = &mut self.client else { return Err(LinkFault::Line("no client".into())) };
        let (url, security) = (self.plans[0].endpoint.as_str(), &self.devices[0].security);
        let asked = "ask for the endpoints";
        let endpoints = in_time(self.timeout, asked, async {
            let list = client.get_server_endpoints_from_url(url).await;
            list.map_err(|fault| link_fault(asked, fault.status(), &fault.to_string()))
        });
        let chosen = endpoint::choose(&endpoints.await?, security, url)?;
        if chosen.security_mode != opcua::types::MessageSecurityMode::None {
            trust::judge(&self.settings, &chosen)?;
        }
        if endpoint::password_in_the_clear(&chosen, security) {
            tracing::warn!(endpoint = url, "the password travels in the clear, as `policy: none` allows");
        }
        let identity = match (&security.user, &security.password) {
            (Some(user), Some(password)) => IdentityToken::new_user_name(user, password.reveal()),
            _ => IdentityToken::Anonymous,
        };
        in_time(self.timeout, "open a session", Connection::open(client, chosen, identity)).await
    }

    /// Subscribes and reads until something breaks.
    async fn read(&self, connection: &mut Connection, context: &LinkContext, outlet: &mut Outlet) -> LinkFault {
        match connection.subscribe(&self.plans, outlet).await {
            Ok(()) => {
                outlet.is_up = true;
                context.status.up(context.clock.now());
                serve(connection, outlet).await
            }
            Err(fault) => fault,
        }
    }
}

/// The wake-ups of a link that is up: the session, nodes to look for again, silence.
async fn serve(connection: &mut Connection, outlet: &mut Outlet) -> LinkFault {
    let mut look_again = tokio::time::interval_at(tokio::time::Instant::now() + LOOK_AGAIN, LOOK_AGAIN);
    loop {
        let silence = connection.silence_ends();
        let is_missing = !connection.missing.is_empty();
        let done = tokio::select! {
            biased;
            done = connection.step(outlet) => done,
            _ = look_again.tick(), if is_missing => connection.subscribe_missing(outlet).await,
            () = until(silence) => Err(LinkFault::Line("the server's subscriptions fell silent".into())),
        };
        if let Err(fault) = done {
            return fault;
        }
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// `None` when the link was stopped first.
async fn or_stop<T>(context: &LinkContext, work: impl Future<Output = T> + Send) -> Option<T> {
    tokio::select! {
        biased;
        () = context.stop.cancelled() => None,
        done = work => Some(done),
    }
}

/// Connecting takes a handful of round trips, and the library waits for some of them for ever.
async fn in_time<T>(
    timeout: Duration,
    asked: &str,
    work: impl Future<Output = Result<T, LinkFault>> + Send,
) -> Result<T, LinkFault> {
    let timeout = timeout * 3;
    let in_time = tokio::time::timeout(timeout, work).await;
    in_time.unwrap_or_else(|_| Err(LinkFault::Line(format!("{asked}: no answer within {timeout:?}"))))
}

/// The way to the agent: makes batches and holds them until the sink takes them. What waits here is what one event
/// brought, at most one notification message.
pub(crate) struct Outlet {
    devices: Arc<[DeviceSpec]>,
    sink: mpsc::Sender<Batch>,
    clock: Arc<dyn Clock>,
    waiting: VecDeque<Batch>,
    /// Whether the link is reading; an outage is told once.
    is_up: bool,
    /// Whether the outage was told.
    is_down_told: bool,
    /// Points (device, place) whose nonsense is logged.
    puzzled: HashSet<(usize, usize)>,
    /// Points (device, place) whose absence is logged.
    reported: HashSet<(usize, usize)>,
}

impl Outlet {
    fn new(devices: Arc<[DeviceSpec]>, context: &LinkContext) -> Self {
        Self {
            devices,
            sink: context.sink.clone(),
            clock: Arc::clone(&context.clock),
            waiting: VecDeque::new(),
            is_up: false,
            is_down_told: false,
            puzzled: HashSet::new(),
            reported: HashSet::new(),
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Gives the waiting batches to the sink, waiting for room. Cancel-safe: a batch leaves only with its permit.
    pub(crate) async fn flush(&mut self) {
        while !self.waiting.is_empty() {
            match self.sink.reserve().await {
                Ok(permit) => {
                    if let Some(batch) = self.waiting.pop_front() {
                        permit.send(batch);
                    }
                }
                // Nobody listens any more: the agent is going down and stops us next.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Data changes of one device that came in one message.
    pub(crate) fn hand(&mut self, device: usize, changes: Vec<MonitoredItemNotification>, received: Timestamp) {
        let Some(spec) = self.devices.get(device) else { return };
        let mut samples = Vec::with_capacity(changes.len());
        for change in changes {
            // A handle we never gave out is a server's mistake that concerns none of our points.
            let Some((place, point)) =
                place_of(change.client_handle).and_then(|place| Some((place, spec.points.get(place)?)))
            else {
                continue;
            };
            let sample = decode::decode(point, &change.value, received);
            if sample.outcome == Err(NoValue::Nonsense) && self.puzzled.insert((device, place)) {
                let found = decode::describe(change.value.value.as_ref());
                tracing::warn!(device = %spec.id, point = %point.id, expected = ?point.encoding, found,
                    "the server's value makes no sense for this point; said once");
            }
            samples.push(sample);
        }
        if !samples.is_empty() {
            self.waiting.push_back(Batch { device: spec.id.clone(), samples });
        }
    }

    /// Points (device, place) the server would not monitor.
    pub(crate) fn hand_refused(&mut self, refused: Vec<(usize, usize, NoValue)>) {
        let now = self.clock.now();
        for (device, spec) in self.devices.iter().enumerate() {
            let of_device = refused.iter().filter(|(owner, ..)| *owner == device);
            let samples = of_device
                .filter_map(|(_, place, reason)| Some(decode::refused(spec.points.get(*place)?, *reason, now)));
            let samples: Vec<_> = samples.collect();
            if !samples.is_empty() {
                self.waiting.push_back(Batch { device: spec.id.clone(), samples });
            }
        }
    }

    /// Says once in the log which points are not on the server.
    pub(crate) fn report_missing<'a>(&mut self, missing: impl Iterator<Item = (usize, &'a ItemPlan)>) {
        let new: Vec<_> = missing.filter(|(device, item)| self.reported.insert((*device, item.place))).collect();
        if new.is_empty() {
            return;
        }
        let names = new.iter().take(NAMES_MAX).map(|(_, item)| format!("{} ({})", item.point, item.address));
        let names: Vec<_> = names.collect();
        tracing::warn!(
            count = new.len(),
            first = names.join(", "),
            "points that the server does not have or does not give; looked for again every {LOOK_AGAIN:?}"
        );
    }

    /// Says once per outage that no point can be read.
    fn hand_down(&mut self) {
        if self.is_up || !self.is_down_told {
            let now = self.clock.now();
            self.waiting.extend(self.devices.iter().map(|device| down_batch(device, NoValue::LinkDown, now)));
        }
        (self.is_up, self.is_down_told) = (false, true);
    }
}
