//! Where a device is, and how one logs in there.

use super::points::Protocol;
use super::{Checker, Site};
use crate::written::SecurityWritten;
use std::path::Path;
use tally_model::{DeviceSpec, Endpoint, EndpointFault, OpcUaPolicy, Security};
use tally_rules::nearest_name;

impl Checker<'_> {
    pub(super) fn endpoint(&mut self, site: &Site<'_>, text: &str) -> Option<Endpoint> {
        let text = self.substitute(site, text)?;
        match Endpoint::parse(&text) {
            Ok(Endpoint::Replay { file }) => self.recording(site, &file),
            Ok(endpoint) => Some(endpoint),
            Err(fault) => {
                self.report(endpoint_fault(site, &text, &fault));
                None
            }
        }
    }

    fn recording(&mut self, site: &Site<'_>, file: &Path) -> Option<Endpoint> {
        let file = self.base.join(file);
        if !file.is_file() {
            let fault = site.fault("the recording is not there").found(format!("`{}`", file.display()));
            self.report(fault.hint("the path starts at the folder of the mapping file"));
            return None;
        }
        Some(Endpoint::Replay { file })
    }

    /// Two devices that are the same unit behind the same address are probably a copied line.
    pub(super) fn shared_units(&mut self, specs: &[(DeviceSpec, Site<'_>)]) {
        for (index, (spec, site)) in specs.iter().enumerate() {
            let twin = specs[..index].iter().find(|(other, _)| other.endpoint == spec.endpoint);
            if let (Some((twin, _)), Endpoint::Modbus { .. }) = (twin, &spec.endpoint) {
                let fault =
                    site.key("connect").fault(format!("`{}` is the same Modbus unit as `{}`", spec.id, twin.id));
                self.report(fault.warning().hint("give one of them another `unit=`, or make them one device"));
            }
        }
    }

    pub(super) fn security(
        &mut self,
        written: Option<&SecurityWritten>,
        site: &Site<'_>,
        protocol: Option<Protocol>,
    ) -> Security {
        let Some(written) = written else { return Security::default() };
        let has_login = written.user.is_some() || written.password.is_some() || written.policy.is_some();
        let is_tls = [&written.ca, &written.pin, &written.certificate, &written.key].into_iter().any(Option::is_some);
        match protocol {
            Some(Protocol::Modbus) if is_tls && !has_login => {}
            Some(Protocol::Modbus | Protocol::Replay) => {
                let fault = site.fault("this protocol knows no login and no encryption");
                self.report(fault.hint(
                    "remove `security:`; protect the network instead, or reach a Modbus device by `modbus+tls://`",
                ));
            }
            Some(Protocol::Mqtt) if written.policy.is_some() => {
                let fault = site.key("policy").fault("`policy` is for OPC UA");
                self.report(fault.hint("remove it; a broker is reached over TLS by `mqtts://`"));
            }
            _ => {}
        }
        let password_site = site.key("password");
        let password = written.password.as_deref().and_then(|text| self.secret(&password_site, text));
        if written.user.is_none() && written.password.is_some() {
            self.report(password_site.fault("a password without a user").hint("add `user:`"));
        }
        let policy = written.policy.unwrap_or_default();
        if policy == OpcUaPolicy::None && written.password.is_some() {
            let fault = site.key("policy").fault("the password goes over the wire without encryption").warning();
            self.report(fault.hint("write `policy: best`"));
        }
        let mut security = Security { policy, user: written.user.clone(), password, ..Security::default() };
        self.opcua_login(written, site, protocol, &mut security);
        security
    }
}

fn endpoint_fault(site: &Site<'_>, text: &str, fault: &EndpointFault) -> crate::Fault {
    let shown = site.fault(match fault {
        EndpointFault::NotAUrl(_, reason) => format!("not an address: {reason}"),
        EndpointFault::Scheme(_) => "no connector speaks this protocol".to_owned(),
        EndpointFault::NoHost(_) => "the address names no host".to_owned(),
        EndpointFault::NoSerialLine(_) => "the address names no serial line".to_owned(),
        EndpointFault::Parameter { found, .. } => format!("unknown parameter `{found}`"),
        EndpointFault::ParameterValue { key, expected, .. } => format!("`{key}` must be {expected}"),
    });
    let shown = shown.found(format!("`{text}`"));
    match fault {
        EndpointFault::Scheme(scheme) => {
            let near = nearest_name(&format!("{scheme}://"), Endpoint::SCHEMES.iter().copied());
            let hint = near.map_or_else(
                || "write for example `modbus+tcp://10.0.0.7:502?unit=1`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            shown.allowed(Endpoint::SCHEMES.join(", ")).hint(hint)
        }
        EndpointFault::Parameter { allowed, .. } => shown.allowed(*allowed),
        EndpointFault::NoSerialLine(_) => shown.hint("write for example `modbus+rtu:///dev/ttyUSB0?baud=19200&unit=3`"),
        _ => shown
            .hint("write for example `modbus+tcp://10.0.0.7:502?unit=1`, `opc.tcp://host:4840`, `mqtt://broker:1883`"),
    }
}
