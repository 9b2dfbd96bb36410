//! How agent, key, certificates and links are, to SCADA: each when it changes, and all of it on each new connection to the broker, which
//! may have forgotten what it kept.

use super::Devices;
use super::live::Connects;
use super::topics::Topics;
use crate::status::{Ending, Status};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tally_connector_api::LinkState;
use tally_connector_mqtt::{Message, PublishError, Publisher};
use tally_model::{DeviceId, PartyId};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The task.
pub(super) struct States<P> {
    pub status: Arc<Status>,
    pub devices: Devices,
    pub agent: PartyId,
    pub topics: Topics,
    pub publisher: P,
    pub broker: Connects,
    pub quit: CancellationToken,
}

/// What this connection to the broker was told.
#[derive(Default)]
struct Told {
    links: HashMap<DeviceId, LinkState>,
    is_key_away: Option<bool>,
    certificates: Option<Vec<Ending>>,
}

/// Nobody publishes any more.
struct Stopped;

impl<P: Publisher> States<P> {
    pub async fn run(mut self) {
        let mut told = Told::default();
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.quit.run_until_cancelled(every.tick()).await.is_some() {
            if self.broker.is_new() {
                told = Told::default();
            }
            if self.tell(&mut told).await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, told: &mut Told) -> Result<(), Stopped> {
        self.tell_key(told).await?;
        self.tell_certificates(told).await?;
        self.tell_links(&mut told.links).await
    }

    /// The words change with each trigger that waits; what is news is that it begins or ends.
    async fn tell_key(&self, told: &mut Told) -> Result<(), Stopped> {
        let away = self.status.key_away();
        if told.is_key_away != Some(away.is_some()) {
            let waiting = self.status.count.triggers_unsealed.get();
            let message = self.topics.sealing(&self.agent, away.as_deref(), waiting);
            if self.publish(message).await? {
                told.is_key_away = Some(away.is_some());
            }
        }
        Ok(())
    }

    /// The days left change every day; what is news is another stage, or another certificate.
    async fn tell_certificates(&self, told: &mut Told) -> Result<(), Stopped> {
        // Not looked at yet: what the broker kept may be right.
        let Some(ending) = self.status.ending() else { return Ok(()) };
        let is_same = |told: &Vec<Ending>| told.iter().map(Ending::key).eq(ending.iter().map(Ending::key));
        if !told.certificates.as_ref().is_some_and(is_same)
            && self.publish(self.topics.certificates(&self.agent, &ending)).await?
        {
            told.certificates = Some(ending);
        }
        Ok(())
    }

    async fn tell_links(&self, told: &mut HashMap<DeviceId, LinkState>) -> Result<(), Stopped> {
        let devices: Vec<_> = self.devices.borrow().iter().map(|device| device.id.clone()).collect();
        let gone: Vec<_> = told.keys().filter(|told| !devices.contains(told)).cloned().collect();
        for device in gone {
            if self.publish(self.topics.device_state(&device, &LinkState::Stopped)).await? {
                told.remove(&device);
            }
        }
        for device in devices {
            let Some(state) = self.status.link_state(&device) else { continue };
            let is_known = told.get(&device).is_some_and(|told| is_same(told, &state));
            if !is_known && self.publish(self.topics.device_state(&device, &state)).await? {
                told.insert(device, state);
            }
        }
        Ok(())
    }

    /// Whether the broker has it; if not, the next look tries again.
    async fn publish(&self, message: Message) -> Result<bool, Stopped> {
        let topic = message.topic.clone();
        match self.quit.run_until_cancelled(self.publisher.publish(message)).await {
            Some(Ok(())) => Ok(true),
            Some(Err(PublishError::Stopped)) | None => Err(Stopped),
            Some(Err(fault)) => {
                tracing::warn!(topic, %fault, "a state cannot be published");
                Ok(false)
            }
        }
    }
}

/// A link that fails again for the same reason is no news, although its next attempt is at another time.
fn is_same(a: &LinkState, b: &LinkState) -> bool {
    match (a, b) {
        (LinkState::Down { fault: a, .. }, LinkState::Down { fault: b, .. }) => a == b,
        _ => a == b,
    }
}
