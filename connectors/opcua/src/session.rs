//! One session with one server, from its secure channel to its end. The task that owns it also moves it: nothing is
//! sent or received unless [`Connection::step`] or [`Connection::drive`] runs.

use crate::alarm::Alarms;
use crate::error::link_fault;
use crate::facts::ServerFacts;
use crate::history::Job;
use crate::outlet::Outlet;
use crate::poll::Poll;
use crate::subscribe::{Inbox, Live, Missing};
use futures_util::{Stream, StreamExt};
use opcua::client::{Client, IdentityToken, Session, SessionActivity, SessionPollResult, SubscriptionActivity};
use opcua::types::{
    DataChangeNotification, EndpointDescription, Error, EventNotificationList, StatusChangeNotification, StatusCode,
    match_extension_object_owned,
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_connector_api::LinkFault;
use tally_model::LinkSecurity;

/// Unanswered keep-alive reads in a row that mean a dead line. One may be late because our own sink was full.
const MISSED_MAX: u32 = 2;

/// How long a polite end may take; a link must stop within a second.
const CLOSE_TIME: Duration = Duration::from_millis(400);

pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<SessionPollResult, StatusCode>> + Send>>;

/// An activated session.
pub(crate) struct Connection {
    pub(crate) session: Arc<Session>,
    events: Events,
    /// Filled by the library's callbacks while `events` is polled, emptied after every single event; so it holds at most
    /// the one notification message that one event brings.
    pub(crate) inbox: Inbox,
    pub(crate) live: Vec<Live>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) polls: Vec<Poll>,
    /// Conditions that are watched.
    pub(crate) alarms: Vec<Alarms>,
    pub(crate) facts: ServerFacts,
    /// Under which URI the server presents itself.
    pub(crate) application_uri: String,
    /// How the session is secured.
    pub(crate) security: LinkSecurity,
    /// A history request that has more pages.
    pub(crate) job: Option<Job>,
    /// How long all subscriptions may be silent, keep-alive messages included.
    pub(crate) silence_max: Option<Duration>,
    heard: Instant,
    missed: u32,
}

impl Connection {
    /// Opens a secure channel and a session on exactly this endpoint, which is secured like this.
    pub(crate) async fn open(
        client: &mut Client,
        endpoint: EndpointDescription,
        identity: IdentityToken,
        security: LinkSecurity,
    ) -> Result<Self, LinkFault> {
        let application_uri = endpoint.server.application_uri.as_ref().to_owned();
        let (session, event_loop) = client
            .connect_to_endpoint_directly(endpoint, identity)
            .map_err(|fault| link_fault("open a session", fault.status(), &fault.to_string()))?;
        let mut events: Events = Box::pin(event_loop.enter());
        loop {
            match events.next().await {
                Some(Ok(SessionPollResult::Reconnected(_))) => break,
                Some(Ok(SessionPollResult::ReconnectFailed(status)) | Err(status)) => {
                    return Err(link_fault("open a session", status, ""));
                }
                Some(Ok(_)) => {}
                None => return Err(LinkFault::Line("open a session: the library gave up".into())),
            }
        }
        Ok(Self {
            session,
            events,
            inbox: Inbox::default(),
            live: Vec::new(),
            missing: Vec::new(),
            polls: Vec::new(),
            alarms: Vec::new(),
            facts: ServerFacts::default(),
            application_uri,
            security,
            job: None,
            silence_max: None,
            heard: Instant::now(),
            missed: 0,
        })
    }

    /// The session and what moves it, for somebody who moves it otherwise.
    pub(crate) fn into_parts(self) -> (Arc<Session>, Events) {
        (self.session, self.events)
    }

    /// Keeps the session moving until a request is answered.
    pub(crate) async fn drive<T>(
        &mut self,
        outlet: &mut Outlet,
        asked: &str,
        request: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, LinkFault> {
        let mut request = pin!(request);
        loop {
            tokio::select! {
                biased;
                answer = &mut request => return answer.map_err(|fault| link_fault(asked, fault.status(), "")),
                lost = self.step(outlet) => lost?,
            }
        }
    }

    /// Takes one event and hands on what it brought. Cancel-safe: what is not handed on yet waits in `outlet`.
    ///
    /// A full sink blocks here: the session is not polled, publish requests stay unanswered, and the server keeps the
    /// values in its queues.
    pub(crate) async fn step(&mut self, outlet: &mut Outlet) -> Result<(), LinkFault> {
        outlet.flush().await;
        let event = self.events.next().await;
        self.weigh(event)?;
        self.collect(outlet)
    }

    /// The instant by which a healthy server has said something on its subscriptions.
    pub(crate) fn silence_ends(&self) -> Option<Instant> {
        self.heard.checked_add(self.silence_max?)
    }

    fn weigh(&mut self, event: Option<Result<SessionPollResult, StatusCode>>) -> Result<(), LinkFault> {
        match event {
            None => Err(LinkFault::Line("the session ended".into())),
            Some(Err(status) | Ok(SessionPollResult::ReconnectFailed(status))) => {
                Err(link_fault("keep the session", status, ""))
            }
            Some(Ok(SessionPollResult::ConnectionLost(status))) => {
                Err(LinkFault::Line(format!("the server closed the connection: {status}")))
            }
            Some(Ok(SessionPollResult::SessionActivity(activity))) => self.weigh_keep_alive(&activity),
            Some(Ok(SessionPollResult::Subscription(activity))) => self.weigh_publish(&activity),
            Some(Ok(_)) => Ok(()),
        }
    }

    fn weigh_keep_alive(&mut self, activity: &SessionActivity) -> Result<(), LinkFault> {
        match activity {
            SessionActivity::KeepAliveSucceeded => self.missed = 0,
            // The server answered, but is in another state than running, or hides its state: values still come.
            SessionActivity::KeepAliveFailed(StatusCode::BadServerHalted | StatusCode::BadUnknownResponse) => {
                self.missed = 0;
            }
            SessionActivity::KeepAliveFailed(StatusCode::BadTimeout) if self.missed + 1 < MISSED_MAX => {
                self.missed += 1;
            }
            SessionActivity::KeepAliveFailed(StatusCode::BadTimeout) => {
                return Err(LinkFault::Line("the server does not answer keep-alive reads".into()));
            }
            SessionActivity::KeepAliveFailed(status) => {
                return Err(link_fault("read the server's state", *status, ""));
            }
        }
        Ok(())
    }

    fn weigh_publish(&mut self, activity: &SubscriptionActivity) -> Result<(), LinkFault> {
        match activity {
            SubscriptionActivity::Publish => self.heard = Instant::now(),
            SubscriptionActivity::FatalFailure(status)
            | SubscriptionActivity::PublishFailed(
                status @ (StatusCode::BadNoSubscription | StatusCode::BadSubscriptionIdInvalid),
            ) => return Err(link_fault("receive notifications", *status, "")),
            // Too many publish requests, or one that ran out of time: the library sends the next.
            SubscriptionActivity::PublishFailed(_) => {}
        }
        Ok(())
    }

    /// Sorts what the callbacks left in the inbox.
    fn collect(&mut self, outlet: &mut Outlet) -> Result<(), LinkFault> {
        for notification in self.inbox.take() {
            let Some(live) = self.live.get_mut(notification.subscription) else { continue };
            let message = notification.message;
            let content = message.notification_data.unwrap_or_default();
            if !content.is_empty() {
                live.follow(message.sequence_number)?;
            }
            let mut events = Vec::new();
            let device = live.device;
            for object in content {
                match_extension_object_owned!(object,
                    changes: DataChangeNotification => {
                        let mut changes = changes.monitored_items.unwrap_or_default();
                        changes.retain(|change| live.is_news(change));
                        outlet.hand(device, changes, notification.received);
                    },
                    list: EventNotificationList => {
                        events.extend(list.events.unwrap_or_default().into_iter().filter_map(|event| event.event_fields));
                    },
                    change: StatusChangeNotification => {
                        return Err(link_fault("keep the subscription", change.status, ""));
                    },
                    _ => {}
                );
            }
            self.hand_events(device, events, notification.received, outlet);
        }
        Ok(())
    }

    /// Hands on what is left, deletes the subscriptions and closes the session, if the server plays along in time.
    pub(crate) async fn close(mut self, outlet: &mut Outlet) {
        let session = Arc::clone(&self.session);
        let farewell = self.drive(outlet, "close the session", async move { session.disconnect().await });
        if !matches!(tokio::time::timeout(CLOSE_TIME, farewell).await, Ok(Ok(()))) {
            tracing::debug!("the session was not closed in order; the server forgets it by itself");
        }
    }
}
