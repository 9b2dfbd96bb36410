//! One connection of the edge node: where it stands in its session, and what is still to be handed to it.

use super::session::Out;
use crate::arrival::Arrival;
use crate::wire::{Client, EventLoop, QoS};
use std::collections::VecDeque;
use std::time::Duration;
use tally_connector_api::LinkFault;
use tokio::time::Instant;

/// Messages handed to the connection at a time: what is beyond waits with us, where a rebirth can go before it.
pub(super) const HANDED_MAX: u8 = 32;

/// One connection, from connect to end.
pub(super) struct Connection {
    pub client: Client,
    pub phase: Phase,
    /// To be handed to the connection, in order.
    pub waiting: VecDeque<Out>,
    /// Messages so far: taken into `waiting`, handed over, on the wire.
    pub taken: u64,
    pub handed: u64,
    pub sent: u64,
    /// How far live updates have come, and the last historical one that no barrier follows yet.
    pub live: Arrival,
    pub history: Option<u64>,
    /// The last historical update before the barrier that is on its way.
    pub barrier: Option<u64>,
    pub born_at: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Phase {
    Connecting,
    Subscribing {
        since: Instant,
    },
    WaitingForHost {
        since: Instant,
    },
    Born,
    /// NDEATH is on its way.
    Leaving {
        until: Instant,
    },
}

impl Connection {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            phase: Phase::Connecting,
            waiting: VecDeque::new(),
            taken: 0,
            handed: 0,
            sent: 0,
            live: Arrival::default(),
            history: None,
            barrier: None,
            born_at: None,
        }
    }

    pub fn take(&mut self, messages: impl IntoIterator<Item = Out>) {
        for message in messages {
            self.waiting.push_back(message);
            self.taken += 1;
        }
    }

    /// Ours → the connection, as much as it should have at a time.
    pub fn hand_over(&mut self) -> Result<(), LinkFault> {
        while self.handed < self.sent + u64::from(HANDED_MAX)
            && let Some(out) = self.waiting.pop_front()
        {
            self.publish(out, QoS::AtMostOnce)?;
            self.handed += 1;
        }
        Ok(())
    }

    pub fn publish(&self, out: Out, qos: QoS) -> Result<(), LinkFault> {
        let sent = self.client.publish(out.topic, qos, false, out.payload);
        // Cannot happen: the connection's queue has room for all we hand over.
        sent.map_err(|fault| LinkFault::Line(fault.to_string()))
    }
}

/// Sends DISCONNECT, so that the server does not say the NDEATH a second time.
pub(super) async fn disconnect(client: &Client, event_loop: &mut EventLoop) {
    if !event_loop.say_goodbye(client, Duration::from_millis(200)).await {
        tracing::debug!("no time for DISCONNECT; the server says the NDEATH itself");
    }
}
