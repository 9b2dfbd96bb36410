//! Acknowledging an alarm: part of the writing half. The server wants to know which of its events is acknowledged (Part 9
//! §5.7.3), so the present one is asked for first, on a subscription of its own.

use crate::event::{Taken, Told, event_item, refresh};
use crate::visit::Visit;
use opcua::client::{MonitoredItemMap, OnSubscriptionNotificationCore};
use opcua::types::{
    ByteString, CallMethodRequest, EventNotificationList, LocalizedText, MethodId, NodeId, NotificationMessage,
    StatusCode, TimestampsToReturn, Variant, match_extension_object_owned,
};
use std::time::Duration;
use tally_connector_api::LinkFault;
use tokio::sync::mpsc;

/// How often the server is to send on this subscription.
const EVERY: Duration = Duration::from_millis(100);

/// Messages that wait; each may hold many events. What does not fit is lost, and the question ends in its timeout.
const MESSAGES_MAX: usize = 100;

struct Tap(mpsc::Sender<NotificationMessage>);

impl OnSubscriptionNotificationCore for Tap {
    fn on_subscription_notification(&mut self, message: NotificationMessage, _items: MonitoredItemMap<'_>) {
        // Full or nobody listens any more: either way nothing can be done here.
        let _ = self.0.try_send(message);
    }
}

impl Visit {
    /// The id of the event that says what a condition is now; `None` when the server tells none in time.
    ///
    /// # Errors
    /// [`LinkFault`] when the line breaks, or the server tells no events.
    pub(crate) async fn present_event(&self, condition: &NodeId) -> Result<Option<ByteString>, LinkFault> {
        let (tap, mut messages) = mpsc::channel(MESSAGES_MAX);
        let create = self.session.create_subscription(EVERY, 600, 20, 0, 0, true, Tap(tap));
        let id = self.ask("create a subscription", create).await?;
        let found = self.wait_for_event(id, condition, &mut messages).await;
        // The session ends soon anyway, and its subscriptions with it.
        if let Err(fault) = self.ask("delete a subscription", self.session.delete_subscription(id)).await {
            tracing::debug!(%fault, "a subscription is left to end with its session");
        }
        found
    }

    async fn wait_for_event(
        &self,
        subscription: u32,
        condition: &NodeId,
        messages: &mut mpsc::Receiver<NotificationMessage>,
    ) -> Result<Option<ByteString>, LinkFault> {
        let taken = self.watch(subscription).await?;
        let refreshed = self.ask("have the alarms told anew", self.session.call_one(refresh(subscription))).await?;
        if refreshed.status_code.is_bad() && refreshed.status_code != StatusCode::BadRefreshInProgress {
            return Err(LinkFault::Refused(format!("have the alarms told anew: {}", refreshed.status_code)));
        }
        let search = async {
            while let Some(message) = messages.recv().await {
                if let Some(id) = event_in(message, condition, &taken) {
                    return Some(id);
                }
            }
            None
        };
        Ok(tokio::time::timeout(self.timeout(), search).await.ok().flatten())
    }

    async fn watch(&self, subscription: u32) -> Result<Taken, LinkFault> {
        let items = vec![event_item()];
        let create = self.session.create_monitored_items(subscription, TimestampsToReturn::Both, items);
        let results = self.ask("watch events", create).await?;
        match results.into_iter().next().map(|result| result.result) {
            Some(result) if result.status_code.is_good() => Ok(Taken::of(result.filter_result)),
            Some(result) => Err(LinkFault::Refused(format!("watch events: {}", result.status_code))),
            None => Err(LinkFault::Nonsense("watch events: no answer".into())),
        }
    }
}

/// The newest event about the condition in a message.
fn event_in(message: NotificationMessage, condition: &NodeId, taken: &Taken) -> Option<ByteString> {
    let mut found = None;
    for object in message.notification_data.unwrap_or_default() {
        match_extension_object_owned!(object,
            list: EventNotificationList => {
                let fields = list.events.unwrap_or_default().into_iter().filter_map(|event| event.event_fields);
                let told = fields.filter_map(|fields| Told::from_fields(taken.in_place(fields)));
                found = told.filter(|told| told.condition == *condition && !told.is_branch).last().map(|told| told.event_id).or(found);
            },
            _ => {}
        );
    }
    found
}

/// The call that acknowledges an event of a condition.
pub(crate) fn acknowledgement(condition: NodeId, event: ByteString, comment: &str) -> CallMethodRequest {
    CallMethodRequest {
        object_id: condition,
        method_id: MethodId::AcknowledgeableConditionType_Acknowledge.into(),
        input_arguments: Some(vec![Variant::ByteString(event), LocalizedText::from(comment).into()]),
    }
}
