//! Which subscriptions of one connection were asked for, and which are answered.
//!
//! rumqttc tells packet ids in the order in which requests were made; the broker's answers name them.

use rumqttc::{AsyncClient, QoS, SubAck, SubscribeFilter, SubscribeReasonCode};
use std::collections::{HashMap, VecDeque};

/// Topics in one SUBSCRIBE. Brokers differ in how many they take; this many they all take.
const TOPICS_PER_SUBSCRIBE_MAX: usize = 64;

/// Packet ids that `topics` topics need at most, so that none is used twice at a time. Unsubscribing needs some, too.
pub(super) fn packet_ids_needed(topics: usize) -> u16 {
    u16::try_from(topics.div_ceil(TOPICS_PER_SUBSCRIBE_MAX).saturating_add(100)).unwrap_or(u16::MAX)
}

#[derive(Default)]
pub(super) struct Subscriptions {
    /// Handed to rumqttc, no packet id known yet.
    asked: VecDeque<Vec<String>>,
    /// On their way to the broker and back.
    sent: HashMap<u16, Vec<String>>,
}

impl Subscriptions {
    /// Asks for all topics with QoS 1.
    pub(super) fn ask<'t>(&mut self, client: &AsyncClient, topics: impl Iterator<Item = &'t str>) {
        let topics: Vec<String> = topics.map(str::to_owned).collect();
        for topics in topics.chunks(TOPICS_PER_SUBSCRIBE_MAX) {
            let filters = topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
            match client.try_subscribe_many(filters) {
                Ok(()) => self.asked.push_back(topics.to_vec()),
                // Cannot happen with a fresh connection and checked topics; the missing values would be told as silence.
                Err(fault) => tracing::error!(%fault, "subscription not taken by rumqttc"),
            }
        }
    }

    /// rumqttc gave the oldest request its packet id.
    pub(super) fn sent(&mut self, packet_id: u16) {
        if let Some(topics) = self.asked.pop_front() {
            self.sent.insert(packet_id, topics);
        }
    }

    /// The topics that the broker refuses (return code 0x80, MQTT 3.1.1 §3.9.3). Codes come in the order of the filters
    /// (`[MQTT-3.8.4-5]`); a missing one is a refusal.
    pub(super) fn refused_by(&mut self, answer: &SubAck) -> Vec<String> {
        let topics = self.sent.remove(&answer.pkid).unwrap_or_default();
        let accepted = |place| matches!(answer.return_codes.get(place), Some(SubscribeReasonCode::Success(_)));
        topics.into_iter().enumerate().filter(|(place, _)| !accepted(*place)).map(|(_, topic)| topic).collect()
    }

    pub(super) fn are_answered(&self) -> bool {
        self.asked.is_empty() && self.sent.is_empty()
    }

    /// Tells the broker to forget a topic. Without success it is tried again with the topic's next message.
    pub(super) fn drop_topic(&self, client: &AsyncClient, topic: &str) {
        if let Err(fault) = client.try_unsubscribe(topic) {
            tracing::debug!(%fault, topic, "could not unsubscribe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_topics() {
        let options = rumqttc::MqttOptions::new("test", "127.0.0.1", 1);
        let (client, _event_loop) = AsyncClient::new(options, 10);
        let topics: Vec<String> = (0..100).map(|number| format!("t/{number}")).collect();
        let mut subscriptions = Subscriptions::default();
        subscriptions.ask(&client, topics.iter().map(String::as_str));
        assert_eq!(subscriptions.asked.len(), 2);
        subscriptions.sent(7);
        subscriptions.sent(8);
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        let mut codes = vec![granted; 36];
        codes[3] = SubscribeReasonCode::Failure;
        codes.pop();
        assert_eq!(subscriptions.refused_by(&SubAck::new(8, codes)), ["t/67", "t/99"]);
        assert!(!subscriptions.are_answered());
        assert!(subscriptions.refused_by(&SubAck::new(7, vec![granted; 64])).is_empty());
        assert!(subscriptions.are_answered());
    }
}
