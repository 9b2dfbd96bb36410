//! Which subscriptions of one connection were asked for, and which are answered.
//!
//! Packet ids are told in the order in which requests were made; the broker's answers name them.

use crate::wire::{Client, Granted, QoS};
use std::collections::{HashMap, VecDeque};

/// Topics in one SUBSCRIBE. Brokers differ in how many they take; this many they all take.
const TOPICS_PER_SUBSCRIBE_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Subscriptions {
    /// Handed to the connection, no packet id known yet.
    asked: VecDeque<Vec<String>>,
    /// On their way to the broker and back.
    sent: HashMap<u16, Vec<String>>,
}

impl Subscriptions {
    /// Asks for all topics, each with its QoS.
    pub(super) fn ask<'t>(&mut self, client: &Client, topics: impl Iterator<Item = (&'t str, QoS)>) {
        let topics: Vec<(String, QoS)> = topics.map(|(topic, qos)| (topic.to_owned(), qos)).collect();
        for topics in topics.chunks(TOPICS_PER_SUBSCRIBE_MAX) {
            match client.subscribe(topics.to_vec()) {
                Ok(()) => self.asked.push_back(topics.iter().map(|(topic, _)| topic.clone()).collect()),
                // Cannot happen with a fresh connection; the missing values would be told as silence.
                Err(fault) => tracing::error!(%fault, "subscription not taken"),
            }
        }
    }

    /// The oldest request goes out under this packet id.
    pub(super) fn sent(&mut self, packet_id: u16) {
        if let Some(topics) = self.asked.pop_front() {
            self.sent.insert(packet_id, topics);
        }
    }

    /// The topics that the broker refuses, with its reasons. Answers come in the order of the filters (`[MQTT-3.8.4-5]`); a
    /// missing one is a refusal.
    pub(super) fn refused_by(&mut self, packet_id: u16, granted: Vec<Granted>) -> Vec<(String, String)> {
        let topics = self.sent.remove(&packet_id).unwrap_or_default();
        let unanswered = std::iter::repeat_with(|| Err("the broker did not answer".to_owned()));
        let answers = granted.into_iter().chain(unanswered);
        topics.into_iter().zip(answers).filter_map(|(topic, answer)| Some((topic, answer.err()?))).collect()
    }

    pub(super) fn are_answered(&self) -> bool {
        self.asked.is_empty() && self.sent.is_empty()
    }

    /// Tells the broker to forget a topic. Without success it is tried again with the topic's next message.
    pub(super) fn drop_topic(&self, client: &Client, topic: &str) {
        if let Err(fault) = client.unsubscribe(topic) {
            tracing::debug!(%fault, topic, "could not unsubscribe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_topics() {
        let (client, _event_loop) = crate::wire::tests::connection(10);
        let topics: Vec<String> = (0..100).map(|number| format!("t/{number}")).collect();
        let mut subscriptions = Subscriptions::default();
        subscriptions.ask(&client, topics.iter().map(|topic| (topic.as_str(), QoS::AtLeastOnce)));
        assert_eq!(subscriptions.asked.len(), 2);
        subscriptions.sent(7);
        subscriptions.sent(8);
        let mut answers = vec![Ok(QoS::AtLeastOnce); 36];
        answers[3] = Err("no".to_owned());
        answers.pop();
        let refused: Vec<String> = subscriptions.refused_by(8, answers).into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(refused, ["t/67", "t/99"]);
        assert!(!subscriptions.are_answered());
        assert!(subscriptions.refused_by(7, vec![Ok(QoS::AtLeastOnce); 64]).is_empty());
        assert!(subscriptions.are_answered());
    }
}
