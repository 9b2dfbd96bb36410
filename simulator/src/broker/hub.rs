//! Who gets what: sessions, subscriptions, retained messages. Knows nothing of sockets.

use super::topic::matches;
use bytes::Bytes;
use rumqttc::{Publish, QoS};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes that wait for one subscriber.
const BACKLOG_BYTES_MAX: usize = 8 << 20;
/// QoS 1 messages on their way to one subscriber.
const IN_FLIGHT_MAX: usize = 100;
const SESSIONS_MAX: usize = 1_000;
const RETAINED_BYTES_MAX: usize = 64 << 20;
/// What a message costs beside its topic and payload.
const MESSAGE_BYTES: usize = 64;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    /// To be kept, from a publisher; was kept, to a subscriber.
    pub retain: bool,
}

impl Message {
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + MESSAGE_BYTES
    }
}

/// A client's connection, as the hub sees it.
#[derive(Clone)]
pub(super) struct Line {
    number: u64,
    /// Rung when there is something to send.
    pub wake: Arc<Notify>,
    /// Cancelled when the connection has to go.
    pub cut: CancellationToken,
}

/// A client refused, and why (CONNACK return code 3, §3.2.2.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

#[derive(Default)]
struct Session {
    is_clean: bool,
    filters: Vec<(String, QoS)>,
    queue: VecDeque<Message>,
    queued_bytes: usize,
    /// Sent and not acknowledged, oldest first.
    in_flight: VecDeque<(u16, Message)>,
    last_id: u16,
    /// QoS 2 messages taken from the client and not yet released.
    received: HashSet<u16>,
    line: Option<Line>,
}

/// Shared by all connections.
#[derive(Default)]
pub(super) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    retained: BTreeMap<Arc<str>, Message>,
    retained_bytes: usize,
    lines: u64,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        // No change is left half done by a panic: nothing below calls out.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client connected; an older connection of the same name is cut (§3.1.4). Says whether its session was there.
    pub fn open(&self, client: &str, is_clean: bool) -> Result<(Line, bool), TooMany> {
        let mut state = self.state();
        if !state.sessions.contains_key(client) && state.sessions.len() >= SESSIONS_MAX {
            return Err(TooMany);
        }
        state.lines += 1;
        let line = Line { number: state.lines, wake: Arc::default(), cut: CancellationToken::new() };
        let old = state.sessions.remove(client);
        if let Some(Session { line: Some(line), .. }) = &old {
            line.cut.cancel();
        }
        let old = old.filter(|old| !is_clean && !old.is_clean);
        let was_there = old.is_some();
        let session = state.sessions.entry(client.to_owned()).or_default();
        *session = old.unwrap_or_else(|| Session { is_clean, ..Session::default() });
        session.send_again();
        session.line = Some(line.clone());
        Ok((line, was_there))
    }

    /// The connection is gone.
    pub fn close(&self, client: &str, line: &Line) {
        let mut state = self.state();
        let Some(session) = state.sessions.get_mut(client).filter(|session| session.is_of(line)) else { return };
        session.line = None;
        if session.is_clean {
            state.sessions.remove(client);
        }
    }

    /// Hands a message to everyone who wants it.
    pub fn publish(&self, message: &Message) {
        let mut state = self.state();
        if message.retain {
            state.retain(message);
        }
        let mut fallen = Vec::new();
        for (client, session) in &mut state.sessions {
            let Some(granted) = session.granted(&message.topic) else { continue };
            let qos = lower(granted, message.qos);
            if !session.queue(Message { qos, retain: false, ..message.clone() }) {
                fallen.push(client.clone());
            }
        }
        for client in fallen {
            tracing::warn!(client, "the broker cuts a subscriber off that has fallen too far behind");
            if let Some(Session { line: Some(line), .. }) = state.sessions.remove(&client) {
                line.cut.cancel();
            }
        }
    }

    /// Adds a subscription, or changes its QoS; retained messages follow (§3.8.4). Gives the QoS granted.
    pub fn subscribe(&self, client: &str, filter: &str, qos: QoS) -> QoS {
        let qos = lower(qos, QoS::AtLeastOnce);
        let mut state = self.state();
        let kept: Vec<_> = state.retained.values().filter(|kept| matches(&kept.topic, filter)).cloned().collect();
        let Some(session) = state.sessions.get_mut(client) else { return qos };
        session.filters.retain(|(known, _)| known != filter);
        session.filters.push((filter.to_owned(), qos));
        for kept in kept {
            // A backlog of retained messages alone is the client's own wish; what is beyond it is not sent.
            let _ = session.queue(Message { qos: lower(kept.qos, qos), ..kept });
        }
        qos
    }

    pub fn unsubscribe(&self, client: &str, filter: &str) {
        if let Some(session) = self.state().sessions.get_mut(client) {
            session.filters.retain(|(known, _)| known != filter);
        }
    }

    /// The next packet for a client, when there is one and it may be sent.
    pub fn next(&self, client: &str, line: &Line) -> Option<Publish> {
        let mut state = self.state();
        state.sessions.get_mut(client).filter(|session| session.is_of(line))?.next()
    }

    /// A QoS 1 message arrived.
    pub fn acknowledge(&self, client: &str, id: u16) {
        if let Some(session) = self.state().sessions.get_mut(client) {
            session.in_flight.retain(|(sent, _)| *sent != id);
        }
    }

    /// A QoS 2 message came; `false` when it came before (§4.3.3).
    pub fn is_new(&self, client: &str, id: u16) -> bool {
        self.state().sessions.get_mut(client).is_some_and(|session| session.received.insert(id))
    }

    pub fn release(&self, client: &str, id: u16) {
        if let Some(session) = self.state().sessions.get_mut(client) {
            session.received.remove(&id);
        }
    }
}

impl State {
    fn retain(&mut self, message: &Message) {
        if let Some(old) = self.retained.remove(&message.topic) {
            self.retained_bytes -= old.size();
        }
        if message.payload.is_empty() {
            return;
        }
        if self.retained_bytes + message.size() > RETAINED_BYTES_MAX {
            return tracing::warn!(topic = %message.topic, "the broker keeps no more retained messages");
        }
        self.retained_bytes += message.size();
        self.retained.insert(message.topic.clone(), message.clone());
    }
}

fn lower(one: QoS, other: QoS) -> QoS {
    if one < other { one } else { other }
}

impl Session {
    /// The best QoS of all filters that a topic matches.
    fn granted(&self, topic: &str) -> Option<QoS> {
        let granted = self.filters.iter().filter(|(filter, _)| matches(topic, filter)).map(|(_, qos)| *qos);
        granted.reduce(|best, qos| if qos > best { qos } else { best })
    }

    fn is_of(&self, line: &Line) -> bool {
        self.line.as_ref().is_some_and(|own| own.number == line.number)
    }

    /// What was on its way when the connection broke goes first, in its order (§4.4).
    fn send_again(&mut self) {
        while let Some((_, message)) = self.in_flight.pop_back() {
            self.queued_bytes += message.size();
            self.queue.push_front(message);
        }
    }

    /// `false` when a message that must not be lost has no room.
    fn queue(&mut self, message: Message) -> bool {
        let may_be_lost = message.qos == QoS::AtMostOnce;
        if may_be_lost && self.line.is_none() {
            return true;
        }
        if self.queued_bytes + message.size() > BACKLOG_BYTES_MAX {
            return may_be_lost;
        }
        self.queued_bytes += message.size();
        self.queue.push_back(message);
        if let Some(line) = &self.line {
            line.wake.notify_one();
        }
        true
    }

    fn next(&mut self) -> Option<Publish> {
        let needs_id = self.queue.front()?.qos != QoS::AtMostOnce;
        if needs_id && self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let message = self.queue.pop_front()?;
        self.queued_bytes -= message.size();
        let mut packet = Publish::from_bytes(message.topic.as_ref(), message.qos, message.payload.clone());
        packet.retain = message.retain;
        if needs_id {
            packet.pkid = self.free_id();
            self.in_flight.push_back((packet.pkid, message));
        }
        Some(packet)
    }

    /// Far fewer are in flight than there are ids.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|(id, _)| *id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(topic: &str, bytes: usize, qos: QoS) -> Message {
        Message { topic: topic.into(), payload: vec![7; bytes].into(), qos, retain: false }
    }

    #[test]
    fn a_session_gets_later_what_it_missed_and_again_what_it_did_not_acknowledge() {
        let hub = Hub::default();
        let (line, was_there) = hub.open("scada", false).unwrap();
        assert!(!was_there);
        hub.subscribe("scada", "press/#", QoS::AtLeastOnce);
        hub.publish(&message("press/1", 1, QoS::AtLeastOnce));
        hub.publish(&message("press/2", 2, QoS::AtLeastOnce));
        let first = hub.next("scada", &line).unwrap();
        assert_eq!((first.topic.as_str(), first.qos, first.pkid), ("press/1", QoS::AtLeastOnce, 1));
        hub.close("scada", &line);
        hub.publish(&message("press/3", 3, QoS::AtLeastOnce));
        hub.publish(&message("press/4", 4, QoS::AtMostOnce));
        let (line, was_there) = hub.open("scada", false).unwrap();
        assert!(was_there);
        let topics: Vec<_> = std::iter::from_fn(|| hub.next("scada", &line)).map(|packet| packet.topic).collect();
        assert_eq!(topics, ["press/1", "press/2", "press/3"]);
        // A clean start forgets it all, and cuts the older connection.
        let (new, was_there) = hub.open("scada", true).unwrap();
        assert!(!was_there && line.cut.is_cancelled());
        assert!(hub.next("scada", &new).is_none() && hub.next("scada", &line).is_none());
    }

    #[test]
    fn who_falls_behind_loses_qos_0_and_is_cut_before_qos_1_is_lost() {
        let hub = Hub::default();
        let (line, _) = hub.open("slow", true).unwrap();
        hub.subscribe("slow", "#", QoS::AtLeastOnce);
        for _ in 0..20 {
            hub.publish(&message("flood", 1 << 19, QoS::AtMostOnce));
        }
        assert!(!line.cut.is_cancelled());
        hub.publish(&message("order", 1 << 19, QoS::AtLeastOnce));
        assert!(line.cut.is_cancelled());
        assert!(hub.next("slow", &line).is_none());
    }

    #[test]
    fn no_more_than_a_window_is_on_its_way_and_ids_are_not_used_twice() {
        let hub = Hub::default();
        let (line, _) = hub.open("one", true).unwrap();
        hub.subscribe("one", "#", QoS::AtLeastOnce);
        let mut seen = HashSet::new();
        for _ in 0..IN_FLIGHT_MAX + 5 {
            hub.publish(&message("a", 1, QoS::ExactlyOnce));
        }
        while let Some(packet) = hub.next("one", &line) {
            assert_eq!(packet.qos, QoS::AtLeastOnce);
            assert!(seen.insert(packet.pkid));
        }
        assert_eq!(seen.len(), IN_FLIGHT_MAX);
        hub.acknowledge("one", 1);
        assert!(hub.next("one", &line).is_some());
        assert!(hub.next("one", &line).is_none());
    }

    #[test]
    fn retained_messages_come_with_a_subscription_until_they_are_taken_back() {
        let hub = Hub::default();
        let retained = |bytes| Message { retain: true, ..message("state", bytes, QoS::AtLeastOnce) };
        hub.publish(&retained(5));
        let (line, _) = hub.open("late", true).unwrap();
        hub.subscribe("late", "+", QoS::AtMostOnce);
        let packet = hub.next("late", &line).unwrap();
        assert!(packet.retain && packet.qos == QoS::AtMostOnce && packet.payload.len() == 5);
        // To those who are there already it is a message like others.
        hub.publish(&retained(0));
        assert!(!hub.next("late", &line).unwrap().retain);
        hub.subscribe("late", "#", QoS::AtMostOnce);
        assert!(hub.next("late", &line).is_none());
    }

    #[test]
    fn a_qos_2_message_counts_once_until_it_is_released() {
        let hub = Hub::default();
        let _ = hub.open("two", false).unwrap();
        assert!(hub.is_new("two", 9) && !hub.is_new("two", 9));
        hub.release("two", 9);
        assert!(hub.is_new("two", 9));
    }

    #[test]
    fn sessions_are_bounded() {
        let hub = Hub::default();
        for number in 0..SESSIONS_MAX {
            hub.open(&number.to_string(), false).unwrap();
        }
        assert_eq!(hub.open("one more", false).err(), Some(TooMany));
        assert!(hub.open("7", false).is_ok());
    }
}
