//! Steps 1 to 3 belong to the connectors; here devices that share a connection are put together and their links started.

use crate::status::{Alarm, Status};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use tally_connector_api::{Batch, Clock, Link, LinkContext, StatusReporter};
use tally_connector_replay::AtEnd;
use tally_model::{DeviceSpec, Endpoint, ModbusLine, PartyId, Security, Tls};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
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
        host: String,
        port: u16,
        security: Security,
    },
    Replay {
        file: PathBuf,
    },
}

/// One link for each connection, in file order. Nothing connects yet.
///
/// # Errors
/// [`LinkError`] for the first device that cannot be read as described.
pub fn make(devices: &[DeviceSpec], identity: &Identity) -> Result<Vec<Box<dyn Link>>, LinkError> {
    let mut groups: Vec<(Shared, Vec<DeviceSpec>)> = Vec::new();
    for device in devices {
        let shared = shared(device);
        match groups.iter_mut().find(|(known, _)| *known == shared) {
            Some((_, devices)) => devices.push(device.clone()),
            None => groups.push((shared, vec![device.clone()])),
        }
    }
    let links = groups.into_iter().enumerate().map(|(place, (shared, devices))| match shared {
        Shared::Modbus { .. } => Ok(tally_connector_modbus::link(devices)?),
        Shared::OpcUa { .. } => Ok(tally_connector_opcua::link(devices, opcua_settings(identity))?),
        Shared::Mqtt { .. } => Ok(tally_connector_mqtt::link(devices, &mqtt_client_id(identity, place))?),
        Shared::Replay { .. } => Ok(tally_connector_replay::link(devices, AtEnd::Repeat)?),
    });
    links.collect()
}

fn shared(device: &DeviceSpec) -> Shared {
    let security = || device.security.clone();
    match &device.endpoint {
        Endpoint::Modbus { line, .. } => Shared::Modbus { line: line.clone(), tls: device.security.tls.clone() },
        Endpoint::OpcUa { url } => Shared::OpcUa { url: url.clone(), security: security() },
        // The policy is OPC UA's: it must not part two sensors.
        Endpoint::Mqtt { host, port } => Shared::Mqtt {
            host: host.clone(),
            port: *port,
            security: Security { policy: Default::default(), ..security() },
        },
        Endpoint::Replay { file } => Shared::Replay { file: file.clone() },
    }
}

fn opcua_settings(identity: &Identity) -> tally_connector_opcua::Settings {
    tally_connector_opcua::Settings {
        pki: identity.pki.clone(),
        application_name: format!("Tallystick agent {}", identity.agent),
        application_uri: format!("urn:tallystick:agent:{}", identity.agent),
        trust_any: false,
    }
}

/// The broker keeps our session under this id: the same after every restart as long as the mapping's order is.
fn mqtt_client_id(identity: &Identity, place: usize) -> String {
    format!("tallystick-{}-sensors-{place}", identity.agent)
}

/// The running links.
pub struct Running {
    tasks: JoinSet<()>,
    /// Cancelled to stop them.
    stop: CancellationToken,
}

/// Starts every link.
#[must_use]
pub fn start(
    links: Vec<Box<dyn Link>>,
    sink: &mpsc::Sender<Batch>,
    clock: &Arc<dyn Clock>,
    status: &Arc<Status>,
) -> Running {
    let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
    for link in links {
        let name = link.name();
        let (reporter, listener) = StatusReporter::new(&name);
        status.add_link(name.clone(), link.devices(), listener);
        let context = LinkContext { sink: sink.clone(), status: reporter, clock: clock.clone(), stop: stop.clone(), history: None };
        let (status, stop) = (status.clone(), stop.clone());
        tasks.spawn(async move {
            // A connector that dies must not take its neighbours along.
            let ended = AssertUnwindSafe(link.run(context)).catch_unwind().await;
            if ended.is_err() || !stop.is_cancelled() {
                let text = format!("the connector of {name} ended by itself, its devices are not read any more: restart the agent and report this");
                status.raise(Alarm::ConnectorEnded, text);
            }
        });
    }
    Running { tasks, stop }
}

impl Running {
    /// Stops them all; they get a second.
    pub async fn stop(mut self) {
        const TIME: std::time::Duration = std::time::Duration::from_millis(1_500);
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(TIME, all).await.is_err() {
            tracing::warn!(links = self.tasks.len(), "some connectors did not stop in time, they are cut off");
            self.tasks.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tally_model::DeviceId;

    fn device(id: &str, endpoint: &str, user: Option<&str>) -> DeviceSpec {
        DeviceSpec {
            id: DeviceId::try_new(id).unwrap(),
            endpoint: Endpoint::parse(endpoint).unwrap(),
            security: Security {
                user: user.map(str::to_owned),
                password: user.map(|_| tally_model::Secret::new("secret".to_owned())),
                ..Security::default()
            },
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            registers_per_request_max: 125,
            gap_max: 8,
            modbus: Default::default(),
            opcua: Default::default(),
            points: Vec::new(),
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
        let links = make(&devices, &identity).unwrap();
        let devices: Vec<Vec<_>> =
            links.iter().map(|link| link.devices().iter().map(ToString::to_string).collect()).collect();
        assert_eq!(devices, [vec!["a", "c"], vec!["b"], vec!["d"], vec!["e", "f"]]);
    }
}
