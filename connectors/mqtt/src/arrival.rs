//! What the broker has certainly taken of QoS 0 messages, which have no answer of their own: MQTT runs over one ordered connection, so a
//! PINGRESP comes after the broker took everything sent before the PINGREQ.

use std::collections::VecDeque;

/// Follows places in what one connection says. Messages are counted by the caller, from the connection's first.
#[derive(Default)]
pub(crate) struct Arrival {
    /// The number of the last message before a place, and the place; oldest first.
    noted: VecDeque<(u64, u64)>,
    /// The last place with everything before it on the wire.
    sent: u64,
    /// The same when each ping that has no answer yet was sent; they are answered in order.
    asked: VecDeque<u64>,
}

impl Arrival {
    /// `place` is behind the first `messages` messages.
    pub fn note(&mut self, messages: u64, place: u64) {
        self.noted.push_back((messages, place));
    }

    /// Nothing that was noted so far is waited for any more.
    pub fn forget(&mut self) {
        self.noted.clear();
    }

    /// A ping was sent, behind the first `sent` messages.
    pub fn asked(&mut self, sent: u64) {
        while let Some((_, place)) = self.noted.pop_front_if(|(messages, _)| *messages <= sent) {
            self.sent = place;
        }
        self.asked.push_back(self.sent);
    }

    /// Its answer came: up to here everything has arrived. An answer to nothing says nothing.
    pub fn answered(&mut self) -> u64 {
        self.asked.pop_front().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_on_the_wire_before_the_ping_has_arrived() {
        let mut arrival = Arrival::default();
        arrival.note(2, 10);
        arrival.note(4, 20);
        arrival.asked(3);
        arrival.note(4, 30);
        arrival.asked(4);
        assert_eq!(arrival.answered(), 10, "the fourth message waited when the first ping was sent");
        assert_eq!(arrival.answered(), 30);
        assert_eq!(arrival.answered(), 0, "an answer to nothing");
        arrival.note(5, 40);
        arrival.forget();
        arrival.asked(9);
        assert_eq!(arrival.answered(), 30);
    }
}
