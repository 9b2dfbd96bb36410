//! Packet ids (MQTT 3.1.1 §2.3.1, MQTT 5 §2.2.1): from 1 to 65,535, none used twice at a time.

use std::collections::HashSet;

#[derive(Default)]
pub(super) struct PacketIds {
    in_use: HashSet<u16>,
    last: u16,
}

impl PacketIds {
    /// An id nobody uses; `None` when all are in use.
    pub(super) fn take(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if self.in_use.insert(self.last) {
                return Some(self.last);
            }
        }
        None
    }

    /// The broker has answered. `false` for an id that was not in use.
    pub(super) fn give_back(&mut self, id: u16) -> bool {
        self.in_use.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_round_and_leave_out_what_is_in_use() {
        let mut ids = PacketIds::default();
        assert_eq!((ids.take(), ids.take()), (Some(1), Some(2)));
        assert!(ids.give_back(2) && !ids.give_back(2) && !ids.give_back(0));
        for expected in 3..=u16::MAX {
            assert_eq!(ids.take(), Some(expected));
        }
        assert_eq!(ids.take(), Some(2), "1 is still in use");
        assert_eq!(ids.take(), None);
        assert!(ids.give_back(77));
        assert_eq!(ids.take(), Some(77));
    }
}
