//! Certificates of TLS connections: `modbus+tls://` and `mqtts://`.

use super::{Checker, Site};
use crate::written::SecurityWritten;
use tally_model::{Endpoint, ModbusLine, Tls};

impl Checker<'_> {
    /// The certificates of a TLS connection: there must be something by which the other side is known.
    pub(super) fn tls(
        &mut self,
        written: Option<&SecurityWritten>,
        site: &Site<'_>,
        endpoint: Option<&Endpoint>,
    ) -> Tls {
        let file = |text: &Option<String>| text.as_deref().map(|text| self.base.join(text));
        let tls = written.map_or_else(Tls::default, |written| Tls {
            ca: file(&written.ca),
            pin: written.pin.clone(),
            certificate: file(&written.certificate),
            key: file(&written.key),
        });
        match endpoint {
            Some(Endpoint::Modbus { line: ModbusLine::Tls { .. }, .. }) => self.tls_files(&tls, site, "device"),
            Some(Endpoint::Mqtt(broker)) if broker.is_tls => self.tls_files(&tls, site, "broker"),
            Some(Endpoint::Modbus { .. }) if tls != Tls::default() => self.not_tls(site, "modbus+tls://"),
            Some(Endpoint::Mqtt(_)) if tls != Tls::default() => self.not_tls(site, "mqtts://"),
            _ => {}
        }
        tls
    }

    fn not_tls(&mut self, site: &Site<'_>, scheme: &str) {
        let fault = site.fault(format!("certificates are for `{scheme}`"));
        self.report(fault.hint(format!("write `{scheme}` in `connect:`, or remove them")));
    }

    fn tls_files(&mut self, tls: &Tls, site: &Site<'_>, whom: &str) {
        if tls.ca.is_none() && tls.pin.is_none() {
            let fault = site.fault(format!("nothing says which {whom} to trust"));
            self.report(fault.hint("write `security: {ca: FILE}`, or `security: {pin: SHA-256 of its certificate}`"));
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            let fault = site.fault("a certificate needs its key, and a key its certificate");
            self.report(fault.hint("write both: `certificate: FILE, key: FILE`"));
        }
        let digits = |pin: &str| pin.chars().filter(char::is_ascii_hexdigit).count() == 64;
        if let Some(pin) = tls.pin.as_deref().filter(|pin| !digits(pin)) {
            let fault = site.key("pin").fault("not a SHA-256 fingerprint").found(format!("`{pin}`"));
            self.report(
                fault.allowed("64 hexadecimal digits").hint("`openssl x509 -noout -fingerprint -sha256 -in FILE`"),
            );
        }
        for (key, file) in [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)] {
            if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
                self.report(site.key(key).fault("there is no such file").found(format!("`{}`", file.display())));
            }
        }
        if let Some(file) = &tls.key {
            self.private_key(&site.key("key"), file);
        }
    }
}
