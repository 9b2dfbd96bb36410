//! The QoS 1 messages between "taken" and "acknowledged". Pure; time comes in as an argument.
//!
//! ```text
//! admit ──► waiting ──handed──► at the wire ─sent──► on the wire, has a packet id ──acked──► gone
//!              ▲                     │                      │
//!              └──────── connection_lost: packet ids mean nothing any more ◄─┘
//! ```

use super::Message;
use crate::PublishError;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Table {
    /// By the order in which they were taken, which is the order in which they are sent, every time.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    /// Handed to the connection, packet id not known yet: it tells the ids in the order of the requests.
    handed: VecDeque<u64>,
    by_packet_id: HashMap<u16, u64>,
    told_refusal: bool,
}

struct Entry {
    message: Message,
    /// Nobody waits for a birth or a will.
    done: Option<oneshot::Sender<Result<(), PublishError>>>,
    /// Said anew on every connection, so not carried over to the next one.
    is_for_this_connection: bool,
    handed_at: Option<Instant>,
}

impl Table {
    /// Takes a message that must arrive; it is handed to the connection next.
    pub(super) fn admit(&mut self, message: Message, done: oneshot::Sender<Result<(), PublishError>>) -> u64 {
        self.insert(Entry { message, done: Some(done), is_for_this_connection: false, handed_at: None })
    }

    /// Takes a birth or a will.
    pub(super) fn admit_for_this_connection(&mut self, message: Message) -> u64 {
        self.insert(Entry { message, done: None, is_for_this_connection: true, handed_at: None })
    }

    fn insert(&mut self, entry: Entry) -> u64 {
        let place = self.next;
        self.next += 1;
        self.entries.insert(place, entry);
        place
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn message(&self, place: u64) -> Option<&Message> {
        self.entries.get(&place).map(|entry| &entry.message)
    }

    /// Everything, oldest first.
    pub(super) fn places(&self) -> Vec<u64> {
        self.entries.keys().copied().collect()
    }

    /// The connection has it.
    pub(super) fn handed(&mut self, place: u64, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&place) {
            entry.handed_at = Some(now);
            self.handed.push_back(place);
        }
    }

    /// The oldest handed message goes out under this packet id.
    pub(super) fn sent(&mut self, packet_id: u16) {
        if let Some(place) = self.handed.pop_front() {
            self.by_packet_id.insert(packet_id, place);
        }
    }

    /// The broker has answered: whoever waits is told. A refused message is refused for good; that is logged once. `false`
    /// for a packet id that is not ours.
    pub(super) fn acked(&mut self, packet_id: u16, refusal: Option<String>) -> bool {
        let Some(entry) = self.by_packet_id.remove(&packet_id).and_then(|place| self.entries.remove(&place)) else {
            return false;
        };
        let topic = entry.message.topic;
        if let Some(reason) = &refusal
            && !std::mem::replace(&mut self.told_refusal, true)
        {
            tracing::error!(topic, reason, "the broker refuses a message; others like it are not logged");
        }
        if let Some(done) = entry.done {
            // Who waited may have gone; the message has arrived all the same.
            let _ = done.send(refusal.map_or(Ok(()), |reason| Err(PublishError::Refused { topic, reason })));
        }
        true
    }

    /// on the wire → waiting. Packet ids belong to the connection.
    pub(super) fn connection_lost(&mut self) {
        self.handed.clear();
        self.by_packet_id.clear();
        self.entries.retain(|_, entry| !entry.is_for_this_connection);
        for entry in self.entries.values_mut() {
            entry.handed_at = None;
        }
    }

    /// How long the oldest message has been waiting for the broker on this connection.
    pub(super) fn oldest_wait(&self, now: Instant) -> Duration {
        let handed_at = self.entries.values().next().and_then(|entry| entry.handed_at);
        handed_at.map_or(Duration::ZERO, |handed_at| now.duration_since(handed_at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::QoS;
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    fn message(number: u64) -> Message {
        Message { topic: "t".into(), payload: number.to_be_bytes().into(), qos: QoS::AtLeastOnce, retain: false }
    }

    #[test]
    fn only_the_broker_s_word_ends_a_message() {
        let now = Instant::now();
        let mut table = Table::default();
        let mut waiting = Vec::new();
        for number in 0..3 {
            let (done, acknowledged) = oneshot::channel();
            let place = table.admit(message(number), done);
            table.handed(place, now);
            waiting.push(acknowledged);
        }
        table.sent(1);
        table.sent(2);
        assert_eq!(waiting[1].try_recv(), Err(TryRecvError::Empty), "sent is not acknowledged");
        assert!(table.acked(2, None), "out of order is allowed");
        assert_eq!(waiting[1].try_recv(), Ok(Ok(())));
        assert!(!table.acked(3, None), "the third has no packet id yet");
        table.connection_lost();
        assert!(!table.acked(1, None), "an id of the last connection means nothing");
        assert_eq!(table.places(), [0, 2]);
        assert_eq!(table.oldest_wait(now), Duration::ZERO);
        table.handed(0, now);
        table.handed(2, now);
        table.sent(1);
        table.sent(2);
        assert_eq!(table.oldest_wait(now + Duration::from_secs(9)), Duration::from_secs(9));
        assert!(table.acked(1, None) && table.acked(2, None) && table.is_empty());
        assert_eq!((waiting[0].try_recv(), waiting[2].try_recv()), (Ok(Ok(())), Ok(Ok(()))));
    }

    #[test]
    fn a_refusal_is_told_and_final() {
        let mut table = Table::default();
        let (done, mut answer) = oneshot::channel();
        let place = table.admit(message(0), done);
        table.handed(place, Instant::now());
        table.sent(1);
        assert!(table.acked(1, Some("not authorized".into())) && table.is_empty());
        assert!(matches!(answer.try_recv(), Ok(Err(PublishError::Refused { .. }))));
    }

    #[test]
    fn births_die_with_their_connection() {
        let mut table = Table::default();
        table.admit_for_this_connection(message(0));
        let (done, _acknowledged) = oneshot::channel();
        table.admit(message(1), done);
        table.connection_lost();
        assert_eq!(table.places(), [1]);
        assert_eq!(table.message(1), Some(&message(1)));
    }
}
