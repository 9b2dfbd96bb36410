//! Steps 1 to 3 belong to the connectors; here devices that share a connection are put together and their links started.

mod seals;

use crate::gate::{Hand, Hands, modbus_link};
use crate::status::{Alarm, Status};
use futures_util::FutureExt;
use seals::Seals;
pub use seals::Taken;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use tally_connector_api::{Batch, Clock, HistoricalBatch, Link, LinkContext, OpenSeal, StatusReporter};
use tally_connector_replay::AtEnd;
use tally_model::{DeviceId, DeviceSpec, Endpoint, ModbusLine, MqttBroker, PartyId, Security, Tls};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Why a link cannot even be made. `tally check` finds these without connecting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Modbus.
    #[error(transparent)]
    Modbus(#[from] tally_connector_modbus::PlanFault),
    /// OPC UA.
    #[error(transparent)]
    OpcUa(#[from] tally_connector_opcua::PlanFault),
    /// MQTT.
    #[error(transparent)]
    Mqtt(#[from] tally_connector_mqtt::PlanFault),
    /// Replay.
    #[error(transparent)]
    Replay(#[from] tally_connector_replay::ReplayError),
    /// The key of a device that seals its payloads.
    #[error("device `{device}`: its key in {file} cannot be used: {why}", file = file.display())]
    DeviceKey {
        /// Which device.
        device: DeviceId,
        /// The file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
}

/// How we present ourselves.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The agent.
    pub agent: PartyId,
    /// OPC UA certificates.
    pub pki: PathBuf,
}

/// What makes two devices share a connection.
#[derive(PartialEq)]
enum Shared {
    /// One socket or serial line; the units behind it are asked in turn.
    Modbus {
        line: ModbusLine,
        tls: Tls,
    },
    OpcUa {
        url: String,
        security: Security,
    },
    Mqtt {
        broker: MqttBroker,
        security: Security,
    },
    Replay {
        file: PathBuf,
    },
}

/// A link that is not started yet, with what it was made from.
pub struct Made {
    /// The devices that share it, in file order.
    pub devices: Vec<DeviceSpec>,
    link: Box<dyn Link>,
    /// Its writing half, on its way to the gate.
    hand: Hand,
    /// Opens what its devices seal.
    seals: Option<Arc<Seals>>,
}

/// The devices that share a connection, for each connection, in file order.
fn groups(devices: &[DeviceSpec]) -> Vec<(Shared, Vec<DeviceSpec>)> {
    let mut groups: Vec<(Shared, Vec<DeviceSpec>)> = Vec::new();
    for device in devices {
        let shared = shared(device);
        match groups.iter_mut().find(|(known, _)| *known == shared) {
            Some((_, devices)) => devices.push(device.clone()),
            None => groups.push((shared, vec![device.clone()])),
        }
    }
    groups
}

/// One link for each connection, in file order, but for those that `is_there` already. Nothing connects yet.
///
/// # Errors
/// [`LinkError`] for the first device that cannot be read as described.
pub fn make(
    devices: &[DeviceSpec],
    identity: &Identity,
    is_there: impl Fn(&[DeviceSpec]) -> bool,
) -> Result<Vec<Made>, LinkError> {
    let new = groups(devices).into_iter().filter(|(_, devices)| !is_there(devices));
    let links = new.map(|(shared, devices)| {
        let (made, seals) = (devices.clone(), Seals::read(&devices)?);
        let (link, hand) = match shared {
            Shared::Modbus { .. } => modbus_link(made)?,
            // The gate opens a session of its own when it has a permit.
            Shared::OpcUa { .. } => (tally_connector_opcua::link(made, opcua_settings(identity))?, Hand::none()),
            Shared::Mqtt { broker, security } => {
                let id = mqtt_client_id(identity, &broker, security.user.as_deref());
                let opener = seals.clone().map(|seals| seals as Arc<dyn OpenSeal>);
                (tally_connector_mqtt::link_with_seals(made, &id, opener)?, Hand::none())
            }
            Shared::Replay { .. } => (tally_connector_replay::link(made, AtEnd::Repeat)?, Hand::none()),
        };
        Ok(Made { devices, link, hand, seals })
    });
    links.collect()
}

fn shared(device: &DeviceSpec) -> Shared {
    let security = || device.security.clone();
    match &device.endpoint {
        Endpoint::Modbus { line, .. } => Shared::Modbus { line: line.clone(), tls: device.security.tls.clone() },
        Endpoint::OpcUa { url } => Shared::OpcUa { url: url.clone(), security: security() },
        // The policy is OPC UA's: it must not part two sensors.
        Endpoint::Mqtt(broker) => {
            Shared::Mqtt { broker: broker.clone(), security: Security { policy: Default::default(), ..security() } }
        }
        Endpoint::Replay { file } => Shared::Replay { file: file.clone() },
    }
}

pub(crate) fn opcua_settings(identity: &Identity) -> tally_connector_opcua::Settings {
    tally_connector_opcua::Settings {
        pki: identity.pki.clone(),
        application_name: format!("Tallystick agent {}", identity.agent),
        application_uri: format!("urn:tallystick:agent:{}", identity.agent),
        trust_any: false,
    }
}

/// Opens what these devices seal, remembering nothing of what a link took; `None` when none of them seals.
///
/// # Errors
/// [`LinkError::DeviceKey`].
pub(crate) fn seal_opener(devices: &[DeviceSpec]) -> Result<Option<Arc<dyn OpenSeal>>, LinkError> {
    Ok(Seals::read(devices)?.map(|seals| seals as Arc<dyn OpenSeal>))
}

/// The broker keeps our session under this id: the same after every restart and reload, wherever in the mapping it stands.
fn mqtt_client_id(identity: &Identity, broker: &MqttBroker, user: Option<&str>) -> String {
    let MqttBroker { host, port, .. } = broker;
    let place = tally_evidence::sha256(format!("{host} {port} {}", user.unwrap_or_default()).as_bytes());
    let place = u32::from_be_bytes([place[0], place[1], place[2], place[3]]);
    format!("tallystick-{}-sensors-{place:08x}", identity.agent)
}

/// What every link is given.
pub struct Surroundings {
    /// Where batches go.
    pub sink: mpsc::Sender<Batch>,
    /// Where what devices had recorded during an outage goes.
    pub history: mpsc::Sender<HistoricalBatch>,
    /// Receive times.
    pub clock: Arc<dyn Clock>,
    /// Where links are listed.
    pub status: Arc<Status>,
    /// Where writing halves go.
    pub hands: Arc<Hands>,
    /// Which messages of devices that seal were taken last.
    pub taken: Arc<Taken>,
}

/// The running links.
pub struct Running {
    links: Vec<RunningLink>,
    surroundings: Surroundings,
}

struct RunningLink {
    /// In file order. What they are stands in the plant: another copy would be megabytes.
    devices: Vec<DeviceId>,
    task: JoinHandle<()>,
    /// Cancelled to stop it.
    stop: CancellationToken,
}

/// Whoever drops the agent stops its links, too: they hold the way into the vault open.
impl Drop for RunningLink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Running {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(surroundings: Surroundings) -> Self {
        Self { links: Vec::new(), surroundings }
    }

    /// Whether exactly these devices are read over one connection now. `before` is the plant that is read now.
    #[must_use]
    pub fn has(&self, devices: &[DeviceSpec], before: &[DeviceSpec]) -> bool {
        let is_as_before = |device: &DeviceSpec| {
            before.iter().find(|known| known.id == device.id).is_some_and(|known| known == device)
        };
        let is_there = |link: &RunningLink| !link.task.is_finished() && link.devices.iter().eq(ids(devices));
        self.links.iter().any(is_there) && devices.iter().all(is_as_before)
    }

    /// Starts links.
    pub fn start(&mut self, links: Vec<Made>) {
        for made in links {
            self.start_one(made);
        }
    }

    fn start_one(&mut self, Made { devices, link, hand, seals }: Made) {
        let Surroundings { sink, history, clock, status, hands, taken } = &self.surroundings;
        hands.hold(&devices, hand);
        if let Some(seals) = seals {
            seals.share(status.clone(), taken.clone());
        }
        let (name, stop) = (link.name(), CancellationToken::new());
        let (reporter, listener) = StatusReporter::new(&name);
        status.add_link(name.clone(), link.devices(), listener);
        let context = LinkContext {
            sink: sink.clone(),
            status: reporter,
            clock: clock.clone(),
            stop: stop.clone(),
            history: Some(history.clone()),
        };
        let (status, stopped) = (status.clone(), stop.clone());
        let task = tokio::spawn(async move {
            // A connector that dies must not take its neighbours along.
            let ended = AssertUnwindSafe(link.run(context)).catch_unwind().await;
            if ended.is_err() || !stopped.is_cancelled() {
                let text = format!(
                    "the connector of {name} ended by itself, its devices are not read any more: type `tally reload`, and report this"
                );
                status.raise(Alarm::ConnectorEnded, text);
            }
        });
        self.links.push(RunningLink { devices: ids(&devices).cloned().collect(), task, stop });
    }

    /// Stops every link that does not read one of these sets of devices; the others do not notice. Gives the devices that
    /// are not read any more. `before` is the plant that is read now.
    pub async fn keep_only(&mut self, devices: &[DeviceSpec], before: &[DeviceSpec]) -> Vec<DeviceId> {
        let groups = groups(devices).into_iter().map(|(_, devices)| devices);
        let wanted: Vec<_> = groups.filter(|devices| self.has(devices, before)).collect();
        let is_kept = |link: &RunningLink| {
            !link.task.is_finished() && wanted.iter().any(|devices| link.devices.iter().eq(ids(devices)))
        };
        let (kept, gone) = std::mem::take(&mut self.links).into_iter().partition(is_kept);
        self.links = kept;
        let ids: Vec<_> = gone.iter().flat_map(|link: &RunningLink| link.devices.clone()).collect();
        stop_all(gone).await;
        self.surroundings.status.remove_links(|device| ids.contains(device));
        self.surroundings.status.clear(Alarm::ConnectorEnded);
        ids
    }

    /// Stops them all.
    pub async fn stop(self) {
        stop_all(self.links).await;
    }
}

fn ids(devices: &[DeviceSpec]) -> impl Iterator<Item = &DeviceId> {
    devices.iter().map(|device| &device.id)
}

/// Stops links; they get a second.
async fn stop_all(links: Vec<RunningLink>) {
    const TIME: std::time::Duration = std::time::Duration::from_millis(1_500);
    links.iter().for_each(|link| link.stop.cancel());
    let deadline = tokio::time::Instant::now() + TIME;
    for mut link in links {
        if tokio::time::timeout_at(deadline, &mut link.task).await.is_err() {
            let devices: Vec<_> = link.devices.iter().map(DeviceId::as_str).collect();
            tracing::warn!(?devices, "a connector did not stop in time, it is cut off");
            link.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, endpoint: &str, user: Option<&str>) -> DeviceSpec {
        DeviceSpec {
            security: Security {
                user: user.map(str::to_owned),
                password: user.map(|_| tally_model::Secret::new("secret".to_owned())),
                ..Security::default()
            },
            ..DeviceSpec::new(DeviceId::try_new(id).unwrap(), Endpoint::parse(endpoint).unwrap())
        }
    }

    #[test]
    fn devices_share_a_connection_when_endpoint_and_login_are_the_same() {
        let devices = [
            device("a", "modbus+tcp://127.0.0.1:1502?unit=1", None),
            device("b", "opc.tcp://127.0.0.1:4840", None),
            device("c", "modbus+tcp://127.0.0.1:1502?unit=2", None),
            device("d", "opc.tcp://127.0.0.1:4840", Some("operator")),
            device("e", "mqtt://127.0.0.1:1883", None),
            device("f", "mqtt://127.0.0.1:1883", None),
        ];
        let identity = Identity { agent: PartyId::try_new("agent-01").unwrap(), pki: PathBuf::from("/nonexistent") };
        let links = make(&devices, &identity, |_| false).unwrap();
        let named: Vec<Vec<_>> =
            links.iter().map(|made| made.link.devices().iter().map(ToString::to_string).collect()).collect();
        assert_eq!(named, [vec!["a", "c"], vec!["b"], vec!["d"], vec!["e", "f"]]);
        // What is there already is not made again.
        let there = devices[1..2].to_vec();
        let links = make(&devices, &identity, |devices| devices == there).unwrap();
        assert_eq!(links.len(), 3);
    }
}
