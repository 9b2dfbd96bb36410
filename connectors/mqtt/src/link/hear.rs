//! What the reading side hears on its connection.

use super::routes::Received;
use super::{Connection, Reader, STRANGERS_MAX, UNSUBSCRIBE_TIME_MAX, say};
use crate::wire::{Event, Publish, QoS};
use std::sync::Arc;
use tally_model::{LinkSecurity, Origin};
use tokio::time::Instant;

impl Reader {
    pub(super) fn on_event(&mut self, event: Event, connection: &mut Connection) {
        match event {
            Event::Connected { session_present, security } => self.on_connected(session_present, security, connection),
            Event::Subscribing(packet_id) => connection.subscriptions.sent(packet_id),
            Event::Subscribed { packet_id, granted } => {
                for (topic, reason) in connection.subscriptions.refused_by(packet_id, granted) {
                    tracing::warn!(link = %self.config.broker, topic, reason, "the broker refused the subscription");
                    let refused = self.routes.refuse(&topic, self.context.clock.now());
                    self.push(refused, None);
                }
                self.report_up_when_subscribed(connection);
            }
            Event::Message(publish) => self.on_publish(&publish, connection),
            Event::Released(packet_id) => {
                self.taken_once.remove(&packet_id);
            }
            _ => {}
        }
    }

    /// Connecting → Subscribing. After every CONNACK, because a broker that lost our session lost our subscriptions.
    fn on_connected(&mut self, session_present: bool, link: LinkSecurity, connection: &mut Connection) {
        tracing::debug!(session_present, "connected");
        // The broker says nothing of the devices behind it.
        self.origin = Some(Arc::new(Origin { link, identity: None }));
        if !session_present {
            // Packet ids of a session that is gone mean nothing any more.
            self.taken_once.clear();
        }
        connection.since = Some(Instant::now());
        connection.subscriptions.ask(&connection.client, self.routes.topics());
        self.report_up_when_subscribed(connection);
    }

    /// Subscribing → Up.
    fn report_up_when_subscribed(&mut self, connection: &mut Connection) {
        if !connection.is_up && connection.subscriptions.are_answered() {
            connection.is_up = true;
            self.told_down = false;
            let now = self.context.clock.now();
            for command in self.routes.listen_from(Instant::now(), now) {
                say(Some(command), connection);
            }
            self.context.status.up(now);
        }
    }

    fn on_publish(&mut self, publish: &Publish, connection: &Connection) {
        if publish.qos == QoS::ExactlyOnce && !self.taken_once.insert(publish.packet_id) {
            // The same message again, because our PUBREC did not arrive (§4.3.3): acknowledged once more, taken once.
            self.push(Vec::new(), Some((&connection.client, publish)));
            return;
        }
        let received = self.context.clock.now();
        match self.routes.receive(publish, received, Instant::now()) {
            Some(Received { batches, history, command }) => {
                self.told_down = false;
                say(command, connection);
                history.into_iter().for_each(|batch| self.tell_history(batch));
                self.push(batches, Some((&connection.client, publish)));
            }
            None => {
                self.on_stranger(&publish.topic, connection);
                self.push(Vec::new(), Some((&connection.client, publish)));
            }
        }
    }

    /// A topic that an earlier mapping subscribed: our session remembers, the mapping does not. When taking back just this
    /// topic does not help, an earlier mapping had it by a wildcard, which we do not know any more: the session goes.
    fn on_stranger(&mut self, topic: &str, connection: &Connection) {
        match self.strangers.get(topic) {
            Some(since) if since.elapsed() > UNSUBSCRIBE_TIME_MAX && !connection.is_clean => {
                tracing::info!(
                    topic,
                    "it still comes: an earlier mapping had it by a wildcard, the broker is to forget all"
                );
                self.strangers.clear();
                self.discard_session = true;
            }
            Some(_) => {}
            None => {
                tracing::info!(topic, "message for a topic that is not in the mapping any more");
                connection.subscriptions.drop_topic(&connection.client, topic);
                if self.strangers.len() < STRANGERS_MAX {
                    self.strangers.insert(topic.to_owned(), Instant::now());
                }
            }
        }
    }
}
