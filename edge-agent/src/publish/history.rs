//! What SCADA missed, as JSON: several readings a message, QoS 1, not retained (`docs/formats/topics.md`).

use super::Devices;
use super::deadbands::Deadbands;
use super::json::{Late, TOLD_BYTES};
use super::topics::Topics;
use crate::spool::{Gap, Teller, Told};
use async_trait::async_trait;
use futures_util::StreamExt;
use tally_connector_mqtt::{Message, PublishError, Publisher};

/// Messages on their way: what the connection carries of history while a live value waits for its turn.
const ON_THEIR_WAY: usize = 8;
/// Bytes of readings after which a message is closed; well below the publisher's limit, so that live values do not wait
/// long behind one.
const MESSAGE_BYTES: usize = 32 << 10;

/// Tells history in JSON.
pub(super) struct JsonHistory<P> {
    topics: Topics,
    publisher: P,
    devices: Devices,
    /// The same as for live values, on their own last value.
    deadbands: Deadbands,
}

impl<P: Publisher> JsonHistory<P> {
    pub fn new(mut devices: Devices, topics: Topics, publisher: P) -> Self {
        let deadbands = Deadbands::of(&devices.borrow_and_update());
        Self { topics, publisher, devices, deadbands }
    }

    fn messages(&mut self, told: &Told) -> Vec<Message> {
        let room = MESSAGE_BYTES.min((told.readings.len() + told.recorded.len()) * TOLD_BYTES);
        let (mut messages, mut open) = (Vec::new(), Late::with_capacity(room));
        let mut close_full = |open: &mut Late| {
            if open.len() >= MESSAGE_BYTES {
                messages.push(std::mem::replace(open, Late::with_capacity(room)));
            }
        };
        for reading in &told.readings {
            if self.deadbands.let_through(reading) {
                open.push(reading);
                close_full(&mut open);
            }
        }
        // No deadband: it measures from the last value told, and these lie before it.
        for sample in &told.recorded {
            open.push_recorded(sample);
            close_full(&mut open);
        }
        if !open.is_empty() {
            messages.push(open);
        }
        messages.into_iter().map(|message| self.topics.history(&told.device, message)).collect()
    }
}

/// `false` when we are being stopped; a message that can never be sent is logged and left out.
async fn say<P: Publisher>(publisher: &P, message: Message) -> bool {
    match publisher.publish(message).await {
        Ok(()) => true,
        Err(PublishError::Stopped) => false,
        Err(fault) => {
            tracing::error!(%fault, "a part of history cannot be published");
            true
        }
    }
}

#[async_trait]
impl<P: Publisher> Teller for JsonHistory<P> {
    fn is_connected(&self) -> bool {
        self.publisher.is_connected()
    }

    fn dropped(&self) -> u64 {
        self.publisher.dropped()
    }

    async fn tell(&mut self, history: Vec<Told>) -> bool {
        if self.devices.has_changed().unwrap_or(false) {
            self.deadbands = Deadbands::of(&self.devices.borrow_and_update());
        }
        let messages: Vec<_> = history.iter().flat_map(|told| self.messages(told)).collect();
        let publisher = &self.publisher;
        // In order: the publisher takes them one after the other, whoever waits first.
        let mut said = futures_util::stream::iter(messages.into_iter().map(|message| say(publisher, message)))
            .buffered(ON_THEIR_WAY);
        let mut is_well = true;
        while let Some(done) = said.next().await {
            is_well &= done;
        }
        is_well
    }

    async fn declare(&mut self, gap: Gap) -> bool {
        say(&self.publisher, self.topics.gap(&gap)).await
    }
}
