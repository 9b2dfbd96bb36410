//! The task: connect, subscribe, hand on, reconnect.
//!
//! ```text
//! connecting ──endpoints, trust, session, subscriptions──> up
//!     ^                     │ any fault                     │ line lost, silence, gap
//!     └────── back-off ── down <────────────────────────────┘        (stop: from anywhere, within a second)
//! ```

use crate::error::link_fault;
use crate::expiry::{self, Expiry};
use crate::outlet::Outlet;
use crate::plan::Plan;
use crate::session::Connection;
use crate::{PlanFault, Settings, config, endpoint, plan, trust};
use async_trait::async_trait;
use opcua::client::{Client, IdentityToken};
use opcua::types::MessageSecurityMode;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::{Backoff, Link, LinkContext, LinkFault};
use tally_model::{DeviceId, DeviceSpec, Security, Timestamp};

/// Nodes that were not there are looked for again this often: somebody may be loading the PLC program just now.
pub(crate) const LOOK_AGAIN: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(60) };

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
    let timeout = config::request_timeout(&devices);
    Ok(Box::new(OpcUaLink {
        devices: devices.into(),
        plans,
        settings,
        timeout,
        client: None,
        expiry: Expiry::default(),
    }))
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
    expiry: Expiry,
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
        let now = context.clock.now();
        let mut connection = match or_stop(context, self.connect(now)).await? {
            Ok(connection) => connection,
            Err(fault) => return Some(fault),
        };
        let fault = or_stop(context, self.read(&mut connection, context, outlet)).await;
        connection.close(outlet).await;
        fault
    }

    /// Own certificate, endpoints, choice, trust, session.
    async fn connect(&mut self, now: Timestamp) -> Result<Connection, LinkFault> {
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
        if chosen.security_mode != MessageSecurityMode::None {
            trust::judge(&self.settings, &chosen)?;
        }
        if endpoint::password_in_the_clear(&chosen, security) {
            tracing::warn!(endpoint = url, "the password travels in the clear, as `policy: none` allows");
        }
        self.expiry.met(&chosen);
        self.expiry.look(&self.settings.pki, url, now);
        let identity = identity(security)?;
        let is_secured = chosen.security_mode != MessageSecurityMode::None;
        let opened = in_time(self.timeout, "open a session", Connection::open(client, chosen, identity)).await;
        opened.map_err(|fault| if is_secured { perhaps_untrusted(fault) } else { fault })
    }

    /// Subscribes and reads until something breaks.
    async fn read(&mut self, connection: &mut Connection, context: &LinkContext, outlet: &mut Outlet) -> LinkFault {
        match connection.subscribe(&self.plans, outlet).await {
            Ok(()) => {
                outlet.is_up = true;
                context.status.up(context.clock.now());
                self.serve(connection, context, outlet).await
            }
            Err(fault) => fault,
        }
    }

    /// The wake-ups of a link that is up: the session, nodes to look for again, certificates, silence.
    async fn serve(&mut self, connection: &mut Connection, context: &LinkContext, outlet: &mut Outlet) -> LinkFault {
        let start = tokio::time::Instant::now();
        let mut look_again = tokio::time::interval_at(start + LOOK_AGAIN, LOOK_AGAIN);
        let mut expiry = tokio::time::interval_at(start + expiry::LOOK_EVERY, expiry::LOOK_EVERY);
        loop {
            let silence = connection.silence_ends();
            let is_incomplete = connection.is_incomplete();
            let done = tokio::select! {
                biased;
                done = connection.step(outlet) => done,
                _ = look_again.tick(), if is_incomplete => connection.subscribe_missing(&self.plans, outlet).await,
                _ = expiry.tick() => {
                    self.expiry.look(&self.settings.pki, &self.plans[0].endpoint, context.clock.now());
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

/// Who we say we are. A user certificate is read at every connect, so that a renewed one needs no restart.
fn identity(security: &Security) -> Result<IdentityToken, LinkFault> {
    match (&security.user_certificate, &security.user_key, &security.user, &security.password) {
        (Some(certificate), Some(key), ..) => IdentityToken::new_x509_path(certificate, key).map_err(|fault| {
            let (certificate, key) = (certificate.display(), key.display());
            LinkFault::Credentials(format!(
                "the user certificate `{certificate}` or its key `{key}` cannot be read: {fault}"
            ))
        }),
        (_, _, Some(user), Some(password)) => Ok(IdentityToken::new_user_name(user, password.reveal())),
        _ => Ok(IdentityToken::Anonymous),
    }
}

/// Some servers close the line without a word on a certificate they do not know; they did answer the question before.
fn perhaps_untrusted(fault: LinkFault) -> LinkFault {
    match fault {
        LinkFault::Line(text) => LinkFault::Line(format!(
            "{text}; the server had just answered without security, so perhaps it does not trust our certificate: look \
             for it in the server's list of rejected ones"
        )),
        other => other,
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
