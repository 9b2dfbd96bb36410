//! What the edge node hears on its connection, and the birth that comes of it.

use super::{End, HOST_TIME_MAX, Task};
use crate::sparkplug::command;
use crate::sparkplug::connection::{Connection, Phase};
use crate::sparkplug::host::Heard;
use crate::sparkplug::payload::Payload;
use crate::sparkplug::session::asks_for_rebirth;
use crate::wire::{Event, Publish, QoS};
use tally_connector_api::{Clock, LinkFault};
use tokio::time::Instant;

impl Task {
    pub(super) fn on_event(&mut self, event: Event, connection: &mut Connection) -> Result<Option<End>, LinkFault> {
        match event {
            Event::Connected { .. } => self.subscribe(connection)?,
            Event::Subscribed { granted, .. } => {
                if let Some(Err(reason)) = granted.into_iter().find(Result::is_err) {
                    let text = format!("the server refused our subscriptions (NCMD, STATE): {reason}");
                    return Err(LinkFault::Refused(text));
                }
                self.on_subscribed(connection);
            }
            Event::Message(publish) => return self.on_publish(&publish, connection),
            // Only the NDEATH has a PUBACK.
            Event::Acknowledged { .. } => {
                if matches!(connection.phase, Phase::Leaving { .. }) {
                    connection.phase = Phase::Leaving { until: Instant::now() };
                }
            }
            Event::Publishing(0) => connection.sent += 1,
            Event::Pinging => connection.live.asked(connection.sent),
            Event::Pong => self.arrived(connection.live.answered(), 0),
            Event::Unsubscribed => {
                let place = connection.barrier.take().unwrap_or(0);
                self.arrived(0, place);
            }
            _ => {}
        }
        Ok(None)
    }

    fn subscribe(&mut self, connection: &mut Connection) -> Result<(), LinkFault> {
        connection.phase = Phase::Subscribing { since: Instant::now() };
        // tck-id-message-flow-edge-node-ncmd-subscribe: QoS 1.
        let mut filters = vec![(self.session.command_topic().to_owned(), QoS::AtLeastOnce)];
        if self.config.commands.is_some() {
            filters.push((self.session.device_commands(), QoS::AtLeastOnce));
        }
        if let Some(host) = &self.hosts[self.server] {
            filters.push((host.topic().to_owned(), QoS::AtLeastOnce));
        }
        connection.client.subscribe(filters).map_err(|fault| LinkFault::Line(fault.to_string()))
    }

    fn on_subscribed(&mut self, connection: &mut Connection) {
        if !matches!(connection.phase, Phase::Subscribing { .. }) {
            return;
        }
        if self.config.primary_host.is_none() {
            self.give_birth(connection);
            return;
        }
        connection.phase = Phase::WaitingForHost { since: Instant::now() };
        let text = self.host_text("has not said yet that it is online; connected and waiting");
        self.inputs.status.down(LinkFault::Refused(text), HOST_TIME_MAX);
    }

    fn on_publish(&mut self, publish: &Publish, connection: &mut Connection) -> Result<Option<End>, LinkFault> {
        if publish.topic == self.session.command_topic() {
            self.on_command(publish, connection);
            return Ok(None);
        }
        if command::is_for_a_device(&publish.topic) {
            self.hand_on(publish, connection);
            return Ok(None);
        }
        let Some(host) = &mut self.hosts[self.server] else { return Ok(None) };
        match (host.hear(&publish.topic, &publish.payload), connection.phase) {
            // A retained STATE may come before the SUBACK.
            (Heard::Online, Phase::WaitingForHost { .. } | Phase::Subscribing { .. }) => self.give_birth(connection),
            (Heard::Offline, Phase::Leaving { .. }) => {}
            // tck-id-message-flow-edge-node-birth-publish-phid-offline
            (Heard::Offline, _) if !self.leave(connection)? => return Ok(Some(End::HostAway)),
            _ => {}
        }
        Ok(None)
    }

    fn on_command(&mut self, publish: &Publish, connection: &mut Connection) {
        match Payload::parse(&publish.payload) {
            Ok(command) if asks_for_rebirth(&command) && connection.phase == Phase::Born => {
                tracing::info!("a host asked for a rebirth");
                connection.take(self.session.birth(self.clock.now()));
                self.inputs.told.send_modify(|progress| progress.births += 1);
            }
            Ok(command) if asks_for_rebirth(&command) => tracing::debug!("a rebirth was asked for before the birth"),
            _ => self.hand_on(publish, connection),
        }
    }

    /// What a host wants written: not our business but the gate's.
    fn hand_on(&self, publish: &Publish, connection: &Connection) {
        let Some(commands) = &self.config.commands else {
            tracing::warn!(topic = %publish.topic, "a command, and this agent takes none; only `Node Control/Rebirth` is known");
            return;
        };
        // Before that nobody knows our metrics.
        if connection.phase != Phase::Born {
            tracing::warn!(topic = %publish.topic, "a command before the birth");
            return;
        }
        for command in command::read(publish, &self.session) {
            if commands.try_send(command).is_err() {
                tracing::warn!(topic = %publish.topic, "commands come faster than they can be carried out; this one is dropped");
            }
        }
    }

    fn give_birth(&mut self, connection: &mut Connection) {
        connection.phase = Phase::Born;
        connection.born_at = Some(Instant::now());
        connection.take(self.session.birth(self.clock.now()));
        let seen = self.seen;
        connection.live.forget();
        self.inputs.told.send_modify(|progress| {
            progress.births += 1;
            progress.sessions += 1;
            progress.born_after = seen;
            progress.is_born = true;
        });
        self.inputs.status.up(self.clock.now());
    }

    fn arrived(&self, live: u64, history: u64) {
        self.inputs.told.send_if_modified(|progress| {
            let before = *progress;
            progress.live_arrived = progress.live_arrived.max(live);
            progress.history_arrived = progress.history_arrived.max(history);
            *progress != before
        });
    }
}
