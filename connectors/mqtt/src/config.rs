//! From device descriptions to one checked link, and the settings under which rumqttc does not lose anything.

use crate::{Plan, PlanFault, plan};
use rumqttc::MqttOptions;
use std::time::Duration;
use tally_model::{DeviceId, DeviceSpec, Endpoint, Secret};

/// Between two pings. Two unanswered ones end the connection, so a half-open line is noticed within 6 s; a broker
/// waits one and a half times as long for us (MQTT 3.1.1 §3.1.2.10).
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Largest packet received. Far above the largest payload that is decoded, because rumqttc ends the connection over a
/// larger one (its default is 10 KiB) while a payload that only is too large costs just its own points.
pub(crate) const PACKET_BYTES_MAX: usize = 16 << 20;

/// Longest client id in bytes. Brokers must accept 23 (`[MQTT-3.1.3-5]`); the usual ones accept far more.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// Who logs in where, and how.
#[derive(Clone)]
pub(crate) struct Login {
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
}

impl Login {
    /// What reader and publisher have in common.
    pub(crate) fn options(&self) -> MqttOptions {
        // rumqttc puts host and port together with a colon, so an IPv6 address needs its brackets (RFC 3986 §3.2.2).
        let is_bare_ipv6 = self.host.contains(':') && !self.host.starts_with('[');
        let host = if is_bare_ipv6 { format!("[{}]", self.host) } else { self.host.clone() };
        let mut options = MqttOptions::new(&self.client_id, host, self.port);
        options.set_keep_alive(KEEP_ALIVE);
        if let Some(user) = &self.user {
            options.set_credentials(user, self.password.as_ref().map_or("", Secret::reveal));
        }
        options
    }
}

/// A checked link.
pub(crate) struct LinkConfig {
    pub login: Login,
    /// In file order.
    pub devices: Vec<(DeviceSpec, Plan)>,
}

impl LinkConfig {
    pub(crate) fn try_new(devices: Vec<DeviceSpec>, client_id: &str) -> Result<Self, PlanFault> {
        check_client_id(client_id)
            .map_err(|reason| PlanFault::ClientId { found: client_id.chars().take(80).collect(), reason })?;
        let first = devices.first().ok_or(PlanFault::NoDevices)?;
        let (user, password) = (first.security.user.clone(), first.security.password.clone());
        if user.is_none() && password.is_some() {
            return Err(PlanFault::PasswordWithoutUser { device: first.id.clone() });
        }
        let (host, port) = broker(first)?;
        let login = Login { host: host.to_owned(), port, client_id: client_id.to_owned(), user, password };
        let planned = devices.into_iter().map(|device| {
            check_same_link(&device, &login)?;
            let plan = plan(&device)?;
            Ok((device, plan))
        });
        let devices = planned.collect::<Result<_, PlanFault>>()?;
        Ok(Self { login, devices })
    }
}

fn broker(device: &DeviceSpec) -> Result<(&str, u16), PlanFault> {
    match &device.endpoint {
        Endpoint::Mqtt { host, port } => Ok((host, *port)),
        other => Err(PlanFault::Endpoint { device: device.id.clone(), endpoint: other.to_string() }),
    }
}

fn check_same_link(device: &DeviceSpec, login: &Login) -> Result<(), PlanFault> {
    let id = || -> DeviceId { device.id.clone() };
    let (host, port) = broker(device)?;
    if (host, port) != (login.host.as_str(), login.port) {
        let (found, link) = (format!("{host}:{port}"), format!("{}:{}", login.host, login.port));
        return Err(PlanFault::OtherBroker { device: id(), found, link });
    }
    if device.security.user != login.user || device.security.password != login.password {
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
        assert!(matches!(fault(vec![nobody], "agent"), PlanFault::PasswordWithoutUser { .. }));
        assert!(LinkConfig::try_new(vec![here(), here()], "agent").is_ok());
    }
}
