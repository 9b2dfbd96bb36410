//! From device descriptions to one checked link.

use crate::{Plan, PlanFault, plan};
use std::time::Duration;
use tally_connector_api::tls;
use tally_model::{DeviceId, DeviceSpec, Endpoint, MqttBroker, MqttVersion, Secret, Tls};

/// Between two pings. An unanswered one ends the connection when the next is due, so a half-open line is noticed within
/// 6 s and a little; a broker waits one and a half times as long for us (MQTT 3.1.1 §3.1.2.10).
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Largest packet received. Far above the largest payload that is decoded, because a larger one ends the connection while a
/// payload that only is too large costs just its own points.
pub(crate) const PACKET_BYTES_MAX: usize = 16 << 20;

/// Longest client id in bytes. Brokers must accept 23 (`[MQTT-3.1.3-5]`); the usual ones accept far more.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// Who logs in where, and how.
#[derive(Clone, PartialEq)]
pub(crate) struct Login {
    pub host: String,
    pub port: u16,
    /// TLS, when the connection is to be TLS.
    pub tls: Option<Tls>,
    pub version: MqttVersion,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

impl Login {
    pub(crate) fn new(
        broker: &MqttBroker,
        tls: &Tls,
        client_id: &str,
        user: Option<String>,
        password: Option<Secret>,
    ) -> Self {
        let (host, port, version) = (broker.host.clone(), broker.port, broker.version);
        let tls = broker.is_tls.then(|| tls.clone());
        Self { host, port, tls, version, client_id: client_id.to_owned(), user, password }
    }
}

/// A checked link.
pub(crate) struct LinkConfig {
    pub broker: MqttBroker,
    pub login: Login,
    /// In file order.
    pub devices: Vec<(DeviceSpec, Plan)>,
}

impl LinkConfig {
    pub(crate) fn try_new(devices: Vec<DeviceSpec>, client_id: &str) -> Result<Self, PlanFault> {
        check_client_id(client_id)
            .map_err(|reason| PlanFault::ClientId { found: client_id.chars().take(80).collect(), reason })?;
        let first = devices.first().ok_or(PlanFault::NoDevices)?;
        let broker = broker(first)?.clone();
        let (user, password) = (first.security.user.clone(), first.security.password.clone());
        if user.is_none() && password.is_some() && broker.version == MqttVersion::V311 {
            return Err(PlanFault::PasswordWithoutUser { device: first.id.clone() });
        }
        let settings = first.security.tls.clone();
        if broker.is_tls {
            tls::check(&settings).map_err(|fault| PlanFault::Tls { device: first.id.clone(), fault })?;
        }
        let login = Login::new(&broker, &settings, client_id, user, password);
        let planned = devices.into_iter().map(|device| {
            check_same_link(&device, &broker, &login)?;
            let plan = plan(&device)?;
            Ok((device, plan))
        });
        let devices = planned.collect::<Result<_, PlanFault>>()?;
        Ok(Self { broker, login, devices })
    }
}

fn broker(device: &DeviceSpec) -> Result<&MqttBroker, PlanFault> {
    match &device.endpoint {
        Endpoint::Mqtt(broker) => Ok(broker),
        other => Err(PlanFault::Endpoint { device: device.id.clone(), endpoint: other.to_string() }),
    }
}

fn check_same_link(device: &DeviceSpec, link: &MqttBroker, login: &Login) -> Result<(), PlanFault> {
    let id = || -> DeviceId { device.id.clone() };
    let own = broker(device)?;
    if own != link {
        return Err(PlanFault::OtherBroker { device: id(), found: own.to_string(), link: link.to_string() });
    }
    let security = &device.security;
    let other_tls = login.tls.as_ref().is_some_and(|tls| security.tls != *tls);
    if security.user != login.user || security.password != login.password || other_tls {
        return Err(PlanFault::OtherLogin { device: id() });
    }
    Ok(())
}

/// The broker remembers us by this id (`[MQTT-3.1.3-2]`), so there must be one, and it must stay the same.
fn check_client_id(client_id: &str) -> Result<(), &'static str> {
    match client_id {
        "" => Err("it is empty"),
        _ if client_id.len() > CLIENT_ID_BYTES_MAX => Err("it has more than 256 bytes"),
        _ if client_id.chars().any(char::is_control) => Err("it holds a control character"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::spec;
    use crate::plan::tests::device;

    fn fault(devices: Vec<DeviceSpec>, client_id: &str) -> PlanFault {
        LinkConfig::try_new(devices, client_id).err().unwrap()
    }

    #[test]
    fn one_link_is_one_broker_and_one_login() {
        let here = || device(vec![spec("p", "a/b")]);
        assert_eq!(fault(vec![], "agent"), PlanFault::NoDevices);
        assert!(matches!(fault(vec![here()], ""), PlanFault::ClientId { .. }));
        let mut elsewhere = here();
        elsewhere.endpoint = Endpoint::parse("mqtt://127.0.0.1:1884").unwrap();
        assert!(matches!(fault(vec![here(), elsewhere], "agent"), PlanFault::OtherBroker { .. }));
        let mut other = here();
        other.security.user = Some("bob".into());
        assert!(matches!(fault(vec![here(), other], "agent"), PlanFault::OtherLogin { .. }));
        let mut nobody = here();
        nobody.security.password = Some(Secret::new("secret".into()));
        assert!(matches!(fault(vec![nobody.clone()], "agent"), PlanFault::PasswordWithoutUser { .. }));
        // MQTT 5 §3.1.2.9 allows it.
        nobody.endpoint = Endpoint::parse("mqtt://127.0.0.1:1883?version=5").unwrap();
        assert!(LinkConfig::try_new(vec![nobody], "agent").is_ok());
        let mut secure = here();
        secure.endpoint = Endpoint::parse("mqtts://127.0.0.1").unwrap();
        assert!(matches!(fault(vec![secure.clone()], "agent"), PlanFault::Tls { .. }));
        secure.security.tls.pin = Some("ab".repeat(32));
        let mut otherwise = secure.clone();
        otherwise.security.tls.pin = Some("cd".repeat(32));
        assert!(matches!(fault(vec![secure, otherwise], "agent"), PlanFault::OtherLogin { .. }));
        assert!(LinkConfig::try_new(vec![here(), here()], "agent").is_ok());
    }
}
