//! The task: connect, subscribe, hand on, reconnect.
//!
//! ```text
//! connecting ──endpoints, trust, session, subscriptions──> up
//!     ^                     │ any fault                     │ line lost, silence, gap
//!     └────── back-off ── down <────────────────────────────┘        (stop: from anywhere, within a second)
//! ```

use crate::connect::Connector;
use crate::expiry;
use crate::outlet::Outlet;
use crate::plan::{ITEMS_MAX, Plan};
use crate::session::Connection;
use crate::{PlanFault, Settings, config, plan};
use async_trait::async_trait;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Backoff, HistoricalBatch, Link, LinkContext, LinkFault};
use tally_model::{DeviceId, DeviceSpec, Origin};
use tokio::sync::mpsc;

/// Nodes that were not there are looked for again this often: somebody may be loading the PLC program just now, and is
/// promised values 10 s after the node is back.
pub(crate) const LOOK_AGAIN: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };

/// Looking for more than [`ITEMS_MAX`] nodes takes so many requests more, and happens as many times less often, up to this: a
/// mapping made for another machine must not keep a small server busy.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// Between two attempts. Values are promised 10 s after the server is back: of these an attempt that still hangs on the dead
/// line may take three, and handshake and subscriptions one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A session that lived this long was a good one: the next outage starts with short delays again.
const GOOD_SESSION: Duration = Duration::from_secs(5);

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
    let connector = Connector::new(settings, config::request_timeout(&devices));
    Ok(Box::new(OpcUaLink { devices: devices.into(), plans, connector }))
}

struct OpcUaLink {
    /// Never empty; all with the endpoint and security of the first.
    devices: Arc<[DeviceSpec]>,
    /// One per device, same order.
    plans: Vec<Plan>,
    connector: Connector,
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
        let mut backoff = Backoff::try_new(PAUSE_FIRST, PAUSE_MAX).unwrap_or(Backoff::for_links());
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
        let now = context.clock.now();
        let mut connection =
            match or_stop(context, self.connector.connect(&self.plans[0].endpoint, &self.devices[0].security, now))
                .await?
            {
                Ok(connection) => connection,
                Err(fault) => return Some(fault),
            };
        let fault = or_stop(context, self.read(&mut connection, context, outlet)).await;
        connection.close(outlet).await;
        fault
    }

    /// Subscribes and reads until something breaks.
    async fn read(&mut self, connection: &mut Connection, context: &LinkContext, outlet: &mut Outlet) -> LinkFault {
        let identity = match connection.read_identity(outlet).await {
            Ok(identity) => identity,
            Err(fault) => return fault,
        };
        outlet.set_origin(Origin { link: connection.security.clone(), identity });
        match connection.subscribe(&self.plans, outlet).await {
            Ok(()) => {
                outlet.is_up = true;
                context.status.remark(self.connector.remark.clone());
                context.status.up(context.clock.now());
                self.serve(connection, context, outlet).await
            }
            Err(fault) => fault,
        }
    }

    /// The wake-ups of a link that is up: the session, nodes to look for again, certificates, silence.
    async fn serve(&mut self, connection: &mut Connection, context: &LinkContext, outlet: &mut Outlet) -> LinkFault {
        let start = tokio::time::Instant::now();
        let mut look_again = Instant::now() + LOOK_AGAIN;
        let mut expiry = tokio::time::interval_at(start + expiry::LOOK_EVERY, expiry::LOOK_EVERY);
        loop {
            let silence = connection.silence_ends();
            let missing = connection.missing_count();
            let (next_poll, history) = (connection.next_poll(), context.history.clone());
            let is_patchy = history.is_some() && outlet.holes.has_ready();
            let done = tokio::select! {
                biased;
                done = connection.step(outlet) => done,
                () = until(Some(look_again)), if missing > 0 => {
                    let looked = connection.subscribe_missing(&self.plans, outlet).await;
                    look_again = Instant::now() + look_again_after(missing);
                    looked
                }
                () = until(next_poll) => connection.poll(outlet).await,
                Some(room) = room_in(history), if is_patchy => connection.backfill(&self.plans, room, outlet).await,
                _ = expiry.tick() => {
                    self.connector.look_at_certificates(&self.plans[0].endpoint, context.clock.now());
                    context.status.remark(self.connector.remark.clone());
                    Ok(())
                }
                () = until(silence) => Err(LinkFault::Line("the server's subscriptions fell silent".into())),
            };
            if let Err(fault) = done {
                return fault;
            }
        }
    }
}

/// When so many nodes are looked for again.
fn look_again_after(missing: usize) -> Duration {
    let requests = u32::try_from(missing.div_ceil(ITEMS_MAX)).unwrap_or(u32::MAX).max(1);
    LOOK_AGAIN.saturating_mul(requests).min(LOOK_AGAIN_MAX)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Room for one page of the past; never, when nobody wants it.
async fn room_in(history: Option<mpsc::Sender<HistoricalBatch>>) -> Option<mpsc::OwnedPermit<HistoricalBatch>> {
    match history {
        Some(history) => history.reserve_owned().await.ok(),
        None => None,
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
