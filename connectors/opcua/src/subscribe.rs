//! Subscriptions and monitored items on an open session, and the nodes that are not there.

use crate::decode;
use crate::error::link_fault;
use crate::facts::value_of;
use crate::outlet::Outlet;
use crate::plan::{ItemPlan, Plan, SubscriptionPlan};
use crate::session::Connection;
use opcua::client::{MonitoredItemMap, OnSubscriptionNotificationCore};
use opcua::types::{
    DataChangeFilter, DataChangeTrigger, DeadbandType, ExtensionObject, MonitoredItemCreateRequest,
    MonitoredItemNotification, MonitoringMode, MonitoringParameters, NodeId, NotificationMessage, StatusCode,
    TimestampsToReturn,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tally_connector_api::{Clock, LinkFault};
use tally_model::{NoValue, OpcUaRead, Timestamp};

/// A healthy subscription says something at least this often, changes or not.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(5);

/// A server deletes a subscription nobody asks for after this time (and at least three keep-alives, Part 4 §5.13.2).
const LIFETIME: Duration = Duration::from_secs(60);

/// A subscription of this session.
pub(crate) struct Live {
    /// Place of its device in the link.
    pub(crate) device: usize,
    /// The server's number for it.
    id: u32,
    /// Number the next notification must have.
    next: Option<u32>,
    /// The server's numbers for its items, by place of the point.
    items: HashMap<usize, u32>,
    /// Places of items the server created although, as it notified, there is no such node (async-opcua does that).
    absent: BTreeSet<usize>,
}

impl Live {
    /// Notifications of a subscription are numbered without gaps from 1, after 2³²−1 again from 1 (Part 4 §5.13.1.1).
    pub(crate) fn follow(&mut self, number: u32) -> Result<(), LinkFault> {
        let expected = self.next.replace(if number == u32::MAX { 1 } else { number + 1 });
        match expected {
            // "Ahead" in the circle of numbers; a repeated number is odd, but nothing is missing.
            Some(expected) if number != expected && number.wrapping_sub(expected) < u32::MAX / 2 => {
                Err(LinkFault::Nonsense("notifications are missing in the row; subscribing anew".into()))
            }
            _ => Ok(()),
        }
    }
}

impl Live {
    fn new(device: usize) -> Self {
        Self { device, id: 0, next: None, items: HashMap::new(), absent: BTreeSet::new() }
    }

    /// Keeps account of absent nodes; `false` when that a node is absent was told already.
    pub(crate) fn is_news(&mut self, change: &MonitoredItemNotification) -> bool {
        let Some(place) = place_of(change.client_handle) else { return true };
        let status = change.value.status();
        if status.is_bad() && decode::no_value(status) == NoValue::NoSuchAddress {
            return self.absent.insert(place);
        }
        self.absent.remove(&place);
        true
    }
}

/// A point the server does not monitor.
pub(crate) struct Missing {
    live: usize,
    item: ItemPlan,
    reason: NoValue,
}

/// What a callback of the library leaves for the task.
pub(crate) struct Notification {
    pub(crate) subscription: usize,
    pub(crate) message: NotificationMessage,
    pub(crate) received: Timestamp,
}

/// Bridges the library's synchronous callbacks to the task. They run inside the task's own polling, so the lock is
/// never contended.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<Vec<Notification>>>);

impl Inbox {
    pub(crate) fn take(&self) -> Vec<Notification> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, notification: Notification) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notification);
    }
}

struct Listener {
    subscription: usize,
    inbox: Inbox,
    clock: Arc<dyn Clock>,
}

impl OnSubscriptionNotificationCore for Listener {
    fn on_subscription_notification(&mut self, message: NotificationMessage, _items: MonitoredItemMap<'_>) {
        let received = self.clock.now();
        self.inbox.put(Notification { subscription: self.subscription, message, received });
    }
}

impl Connection {
    /// Creates all subscriptions; points the server refuses are told once and remembered. Devices of a server that knows
    /// no subscriptions, or whose mapping says so, are polled.
    pub(crate) async fn subscribe(&mut self, plans: &[Plan], outlet: &mut Outlet) -> Result<(), LinkFault> {
        let limits = plans.first().map(|plan| plan.limits.clone()).unwrap_or_default();
        self.read_facts(&limits, outlet).await?;
        self.load_types(plans, outlet).await?;
        for (device, plan) in plans.iter().enumerate() {
            if plan.read == OpcUaRead::Poll || !self.subscribe_device(device, plan, outlet).await? {
                self.start_polling(device, plan, outlet);
            }
        }
        tell_missing(&self.missing, &self.live, outlet);
        Ok(())
    }

    /// `false` when the server knows no subscriptions and the mapping lets us poll instead.
    async fn subscribe_device(&mut self, device: usize, plan: &Plan, outlet: &mut Outlet) -> Result<bool, LinkFault> {
        // Alarms alone need a subscription too.
        let only_alarms = [SubscriptionPlan { items: Vec::new() }];
        let has_only_alarms = plan.subscriptions.is_empty() && !plan.alarms.is_empty();
        let subscriptions = if has_only_alarms { &only_alarms } else { plan.subscriptions.as_slice() };
        let first = self.live.len();
        for subscription in subscriptions {
            let live = match self.create_subscription(device, plan.every, outlet).await? {
                Ok(live) => live,
                Err(status) if plan.read == OpcUaRead::Best && is_unsupported(status) => {
                    tracing::info!(link = %plan.endpoint, %status, every = ?plan.every,
                        "the server knows no subscriptions; its values are read in cycles");
                    return Ok(false);
                }
                Err(status) => return Err(link_fault("create a subscription", status, "")),
            };
            let refused = self.create_items(live, &subscription.items, outlet).await?;
            self.missing.extend(refused);
        }
        if let Some(live) = self.live.get(first).filter(|_| !plan.alarms.is_empty()) {
            self.watch_alarms(device, plan, live.id, outlet).await?;
        }
        Ok(true)
    }

    /// How many nodes there are to look for again.
    pub(crate) fn missing_count(&self) -> usize {
        let absent: usize = self.live.iter().map(|live| live.absent.len()).sum();
        let unknown: usize = self.polls.iter().map(|poll| poll.unknown.len()).sum();
        self.missing.len() + absent + unknown
    }

    /// Tries refused points and absent nodes again; tells those whose reason has changed.
    pub(crate) async fn subscribe_missing(&mut self, plans: &[Plan], outlet: &mut Outlet) -> Result<(), LinkFault> {
        let limits = plans.first().map(|plan| plan.limits.clone()).unwrap_or_default();
        self.read_facts(&limits, outlet).await?;
        for poll in &mut self.polls {
            poll.resolve(&plans[poll.device], &self.facts.namespaces);
        }
        let mut before = std::mem::take(&mut self.missing);
        for live in 0..self.live.len() {
            before.extend(self.forget_absent(live, plans, outlet).await?);
            let of_live = before.iter().filter(|missing| missing.live == live);
            let items: Vec<_> = of_live.map(|missing| missing.item.clone()).collect();
            let refused = self.create_items(live, &items, outlet).await?;
            self.missing.extend(refused);
        }
        let known = |now: &&Missing| {
            before.iter().any(|old| (old.live, old.item.place, old.reason) == (now.live, now.item.place, now.reason))
        };
        tell_missing(self.missing.iter().filter(|now| !known(now)), &self.live, outlet);
        Ok(())
    }

    /// Deletes the items whose nodes are absent, so that they can be created anew.
    async fn forget_absent(
        &mut self,
        live: usize,
        plans: &[Plan],
        outlet: &mut Outlet,
    ) -> Result<Vec<Missing>, LinkFault> {
        let place_and_id = |place: &usize| Some((*place, *self.live[live].items.get(place)?));
        let (places, ids): (Vec<_>, Vec<_>) = self.live[live].absent.iter().filter_map(place_and_id).unzip();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        for place in &places {
            self.live[live].items.remove(place);
        }
        let (session, id) = (Arc::clone(&self.session), self.live[live].id);
        let delete = async move { session.delete_monitored_items(id, &ids).await };
        self.drive(outlet, "delete monitored items", delete).await?;
        let items = places.into_iter().filter_map(|place| plans.get(self.live[live].device)?.item(place).cloned());
        Ok(items.map(|item| Missing { live, item, reason: NoValue::NoSuchAddress }).collect())
    }

    async fn create_subscription(
        &mut self,
        device: usize,
        every: Duration,
        outlet: &mut Outlet,
    ) -> Result<Result<usize, StatusCode>, LinkFault> {
        let place = self.live.len();
        let listener = Listener { subscription: place, inbox: self.inbox.clone(), clock: outlet.clock() };
        // Known before the server is asked, so that even the very first notification finds it.
        self.live.push(Live::new(device));
        let keep_alive = periods(KEEP_ALIVE_TIME, every);
        let lifetime = periods(LIFETIME, every).max(3 * keep_alive);
        let session = Arc::clone(&self.session);
        let create =
            async move { Ok(session.create_subscription(every, lifetime, keep_alive, 0, 0, true, listener).await) };
        match self.drive(outlet, "create a subscription", create).await? {
            Ok(id) => {
                self.live[place].id = id;
                self.watch_silence(id, every);
                Ok(Ok(place))
            }
            Err(fault) => {
                self.live.pop();
                Ok(Err(fault.status()))
            }
        }
    }

    /// The server may have revised both numbers; twice its keep-alive time plus a reserve is silence.
    fn watch_silence(&mut self, id: u32, every: Duration) {
        let state = self.session.subscription_state().lock();
        let Some(revised) = state.get(id) else { return };
        let (interval, keep_alive) = (revised.publishing_interval(), revised.max_keep_alive_count());
        if interval > every {
            tracing::info!(asked = ?every, revised = ?interval, "the server publishes more slowly than asked");
        }
        let silence = interval.saturating_mul(keep_alive).saturating_mul(2).saturating_add(KEEP_ALIVE_TIME);
        self.silence_max = self.silence_max.max(Some(silence));
    }

    /// Creates items in chunks the server accepts and gives back those it refused.
    async fn create_items(
        &mut self,
        live: usize,
        items: &[ItemPlan],
        outlet: &mut Outlet,
    ) -> Result<Vec<Missing>, LinkFault> {
        let mut refused = Vec::new();
        let mut known = Vec::new();
        for item in items {
            match item.node_id(&self.facts.namespaces) {
                Some(node) => known.push((item.clone(), node)),
                None => refused.push(Missing { live, item: item.clone(), reason: NoValue::NoSuchAddress }),
            }
        }
        let mut unfiltered = Vec::new();
        for chunk in known.chunks(self.facts.items_chunk()) {
            for ((item, node), status) in chunk.iter().zip(self.create_chunk(live, chunk, outlet).await?) {
                match status {
                    None => {}
                    // Not a number, or a server without filters: then every change comes.
                    Some(status) if item.deadband.is_some() && is_about_the_filter(status) => {
                        let mut item = item.clone();
                        item.deadband = None;
                        unfiltered.push((item, node.clone()));
                    }
                    Some(status) => {
                        refused.push(Missing { live, item: item.clone(), reason: decode::no_value(status) });
                    }
                }
            }
        }
        if !unfiltered.is_empty() {
            tracing::info!(count = unfiltered.len(), first = %unfiltered[0].0.point, "the server applies no deadband to these points");
        }
        for chunk in unfiltered.chunks(self.facts.items_chunk()) {
            for ((item, _), status) in chunk.iter().zip(self.create_chunk(live, chunk, outlet).await?) {
                let reason = status.map(decode::no_value);
                refused.extend(reason.map(|reason| Missing { live, item: item.clone(), reason }));
            }
        }
        Ok(refused)
    }

    /// One request; the status of each item that was refused.
    async fn create_chunk(
        &mut self,
        live: usize,
        chunk: &[(ItemPlan, NodeId)],
        outlet: &mut Outlet,
    ) -> Result<Vec<Option<StatusCode>>, LinkFault> {
        let id = self.live[live].id;
        let requests = chunk.iter().map(|(item, node)| request(item, node.clone())).collect();
        let session = Arc::clone(&self.session);
        let create = async move { session.create_monitored_items(id, TimestampsToReturn::Both, requests).await };
        let results = self.drive(outlet, "create monitored items", create).await?;
        if results.len() != chunk.len() {
            return Err(LinkFault::Nonsense("create monitored items: fewer results than items".into()));
        }
        let statuses = chunk.iter().zip(results).map(|((item, _), result)| {
            let status = result.result.status_code;
            if status.is_good() {
                self.live[live].items.insert(item.place, result.result.monitored_item_id);
                return None;
            }
            Some(status)
        });
        Ok(statuses.collect())
    }
}

/// Answers of servers without the subscription services (Part 7, Nano and Micro embedded profiles).
fn is_unsupported(status: StatusCode) -> bool {
    matches!(status, StatusCode::BadServiceUnsupported | StatusCode::BadNotImplemented | StatusCode::BadNotSupported)
}

/// Answers to a deadband the server cannot apply (Part 4 §5.13.2.4).
fn is_about_the_filter(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadFilterNotAllowed
            | StatusCode::BadMonitoredItemFilterInvalid
            | StatusCode::BadMonitoredItemFilterUnsupported
            | StatusCode::BadDeadbandFilterInvalid
    )
}

fn tell_missing<'a>(missing: impl IntoIterator<Item = &'a Missing>, live: &[Live], outlet: &mut Outlet) {
    let told = missing.into_iter().map(|missing| (live[missing.live].device, missing.item.place, missing.reason));
    outlet.hand_refused(told.collect());
}

/// Publishing intervals in `time`, rounded up.
fn periods(time: Duration, every: Duration) -> u32 {
    let periods = time.as_micros().div_ceil(every.as_micros().max(1));
    u32::try_from(periods).unwrap_or(u32::MAX / 4).clamp(1, u32::MAX / 4)
}

fn request(item: &ItemPlan, node: NodeId) -> MonitoredItemCreateRequest {
    MonitoredItemCreateRequest {
        item_to_monitor: value_of(node),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: handle_of(item.place),
            sampling_interval: item.sampling.as_secs_f64() * 1_000.0,
            queue_size: item.queue,
            discard_oldest: true,
            filter: ExtensionObject::from_message(filter(item.deadband)),
        },
    }
}

/// A new value or a new status (Part 4 §7.22.2). That is also the default, but some servers then forget the status.
fn filter(deadband: Option<f64>) -> DataChangeFilter {
    let deadband_type = if deadband.is_some() { DeadbandType::Absolute } else { DeadbandType::None };
    DataChangeFilter {
        trigger: DataChangeTrigger::StatusValue,
        deadband_type: deadband_type as u32,
        deadband_value: deadband.unwrap_or(0.0),
    }
}

/// Client handles are the point's place plus one: the library replaces 0 by a number of its own.
fn handle_of(place: usize) -> u32 {
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

/// The place of the point behind a client handle.
pub(crate) fn place_of(handle: u32) -> Option<usize> {
    usize::try_from(handle.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests;
