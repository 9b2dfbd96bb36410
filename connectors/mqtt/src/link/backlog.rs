//! Messages that were decoded and wait for the agent, in the order of arrival.
//!
//! Limit: [`MESSAGES_MAX`] messages; when full, the link stops reading from the socket. Each message is acknowledged
//! when its last batch was taken, hence in the order of arrival, as the standard wants (`[MQTT-4.6.0-2]`).
//! If we die before that, the broker repeats the message.

use crate::wire::{Client, Publish, QoS, Receipt};
use std::collections::VecDeque;
use tally_connector_api::Batch;
use tokio::sync::mpsc::Sender;

/// Decoded messages that may wait: a second of a busy hall. A message's values are at most 4 KiB each.
pub(super) const MESSAGES_MAX: usize = 256;

pub(super) struct Backlog {
    items: VecDeque<Item>,
    sink: Sender<Batch>,
}

/// What came out of one message (or of one event of the link), and whom to thank.
pub(super) struct Item {
    batches: VecDeque<Batch>,
    /// The connection the message came by, and its packet id. A later connection must not acknowledge it.
    acknowledge: Option<(Client, Receipt)>,
}

impl Item {
    pub(super) fn new(batches: Vec<Batch>, message: Option<(&Client, &Publish)>) -> Self {
        let acknowledge = message
            .filter(|(_, publish)| publish.qos != QoS::AtMostOnce)
            .map(|(client, publish)| (client.clone(), Receipt { packet_id: publish.packet_id, qos: publish.qos }));
        Self { batches: batches.into(), acknowledge }
    }
}

impl Backlog {
    pub(super) fn new(sink: Sender<Batch>) -> Self {
        Self { items: VecDeque::new(), sink }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.items.len() < MESSAGES_MAX
    }

    pub(super) fn push(&mut self, item: Item) {
        if !item.batches.is_empty() || item.acknowledge.is_some() {
            self.items.push_back(item);
        }
    }

    /// Hands over one batch when the sink has room. Safe to drop while waiting: nothing is taken out before.
    pub(super) async fn hand_over(&mut self) {
        if self.front_has_batches() {
            match self.sink.reserve().await {
                Ok(permit) => {
                    if let Some(batch) = self.items.front_mut().and_then(|item| item.batches.pop_front()) {
                        permit.send(batch);
                    }
                }
                // The agent closed the sink: nobody is left to tell, and the stop comes next.
                Err(_) => std::future::pending().await,
            }
        }
        self.acknowledge_front();
    }

    /// What the sink takes without waiting.
    pub(super) fn hand_over_what_fits(&mut self) {
        while !self.items.is_empty() {
            if self.front_has_batches() {
                let Ok(permit) = self.sink.try_reserve() else { return };
                if let Some(batch) = self.items.front_mut().and_then(|item| item.batches.pop_front()) {
                    permit.send(batch);
                }
            }
            self.acknowledge_front();
        }
    }

    fn front_has_batches(&self) -> bool {
        self.items.front().is_some_and(|item| !item.batches.is_empty())
    }

    /// Taken completely → acknowledged.
    fn acknowledge_front(&mut self) {
        let Some(item) = self.items.pop_front_if(|item| item.batches.is_empty()) else { return };
        if let Some((client, receipt)) = item.acknowledge
            && client.acknowledge(receipt).is_err()
        {
            tracing::debug!(
                packet_id = receipt.packet_id,
                "the connection of a message is gone, the broker will repeat it"
            );
        }
    }
}
