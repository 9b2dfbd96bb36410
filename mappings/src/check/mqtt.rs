//! `mqtt:` of a device and its data sheet, and points that are templates.

use super::points::{PointLayers, Protocol};
use super::{Checker, Site};
use crate::written::{DeviceWritten, MqttWritten, SealedWritten};
use std::time::Duration;
use tally_model::{
    Address, MqttOptions, MqttQos, PointId, PointSpec, PointTemplate, SealedAs, SealedPayloads, TemplateFault,
    parse_duration,
};

/// How old a sealed message may be when nobody says otherwise, and at most.
const SEALED_AGE: Duration = Duration::from_secs(60);
const SEALED_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

impl Checker<'_> {
    /// The plant's word, else the sheet's, else the default, key by key.
    pub(super) fn mqtt(
        &mut self,
        plant: Option<&MqttWritten>,
        site: &Site<'_>,
        sheet: Option<&MqttWritten>,
        protocol: Option<Protocol>,
    ) -> MqttOptions {
        if plant.is_some() && protocol.is_some_and(|protocol| protocol != Protocol::Mqtt) {
            self.report(site.fault("`mqtt` is for MQTT devices").hint("remove it"));
        }
        let pick = |get: fn(&MqttWritten) -> Option<u16>| plant.and_then(get).or_else(|| sheet.and_then(get));
        let default = MqttOptions::default();
        let qos = pick(|written| written.qos.map(u16::from)).and_then(|qos| u8::try_from(qos).ok());
        let sealed = plant.and_then(|written| written.sealed.as_ref());
        let sealed = sealed.or_else(|| sheet.and_then(|written| written.sealed.as_ref()));
        MqttOptions {
            sealed: sealed.and_then(|sealed| self.sealed(sealed, &site.key("sealed"))),
            qos: qos.and_then(MqttQos::from_number).unwrap_or(default.qos),
            points_max: pick(|written| written.points_max).unwrap_or(default.points_max),
        }
    }

    fn sealed(&mut self, written: &SealedWritten, site: &Site<'_>) -> Option<SealedPayloads> {
        let form = match written.r#as.as_str() {
            "cose" => SealedAs::Cose,
            "jws" => SealedAs::Jws,
            other => {
                let fault = site.key("as").fault("no such form of seals").found(format!("`{other}`"));
                self.report(fault.allowed("cose, jws").hint("`cose` for CBOR, `jws` for JSON"));
                return None;
            }
        };
        let key = self.base.join(&written.key);
        if !key.is_file() {
            let fault = site.key("key").fault("there is no such file").found(format!("`{}`", key.display()));
            self.report(fault.hint("the device's public key as PEM: `openssl ec -in device.key -pubout`"));
        }
        let age = written.age.as_deref().map(|text| (text, parse_duration(text)));
        let age_max = match age {
            None => SEALED_AGE,
            Some((_, Ok(age))) if (Duration::from_secs(1)..=SEALED_AGE_MAX).contains(&age) => age,
            Some((text, _)) => {
                let fault = site.key("age").fault("no age of a sealed message").found(format!("`{text}`"));
                self.report(fault.allowed("1s to 1d").hint("write for example `age: 1min`"));
                SEALED_AGE
            }
        };
        Some(SealedPayloads { form, key, age_max })
    }

    /// What is sealed as CBOR is looked into as CBOR, JSON as JSON.
    pub(super) fn points_of_sealed(&mut self, mqtt: &MqttOptions, points: &[PointSpec], site: &Site<'_>) {
        let Some(sealed) = &mqtt.sealed else { return };
        let fits = |address: &Address| match sealed.form {
            SealedAs::Cose => matches!(address, Address::MqttCbor { .. }),
            SealedAs::Jws => matches!(address, Address::Mqtt { pointer: Some(_), .. }),
        };
        for point in points.iter().filter(|point| !fits(&point.address)) {
            let fault = site.key("sealed").fault(format!("`{}` looks into its payload in another way", point.id));
            let hint = match sealed.form {
                SealedAs::Cose => "sealed CBOR is read as `at: \"cbor:topic#/key\"`",
                SealedAs::Jws => "sealed JSON is read as `at: \"topic#/key\"`",
            };
            self.report(fault.found(format!("`{}`", point.address)).hint(hint));
        }
    }

    /// A point with names in braces: one point for each topic that speaks.
    pub(super) fn template(
        &mut self,
        layers: &PointLayers<'_>,
        text: &str,
        site: &Site<'_>,
        protocol: Option<Protocol>,
        device: &DeviceWritten,
    ) -> Option<PointTemplate> {
        if protocol.is_some_and(|protocol| protocol != Protocol::Mqtt) {
            let fault = site.key("id").fault("names in braces stand for levels of MQTT topics");
            self.report(fault.found(format!("`{text}`")).hint("write letters, digits and `_`"));
            return None;
        }
        let id = match PointTemplate::plain_id(text) {
            Ok(id) => id,
            Err(fault) => {
                self.report(template_fault(site, &fault).found(format!("`{text}`")));
                return None;
            }
        };
        let (point, ..) = self.point(&id, layers, site, protocol, device);
        let point = point?;
        let (Address::Mqtt { topic, .. } | Address::MqttCbor { topic, .. }) = &point.address else {
            let fault = site.key("at").fault("only topics have names in braces").found(format!("`{}`", point.address));
            self.report(fault.hint("write each metric as a point of its own; `id` without braces"));
            return None;
        };
        let topic = topic.clone();
        PointTemplate::try_new(text, &topic, point)
            .map_err(|fault| self.report(template_fault(site, &fault).found(format!("`{text}` from `{topic}`"))))
            .ok()
    }

    /// Braces in a topic of a point that is no template would subscribe to a topic that nobody has.
    pub(super) fn no_braces(&mut self, id: &PointId, point: &PointSpec, site: &Site<'_>) {
        let (Address::Mqtt { topic, .. } | Address::MqttCbor { topic, .. }) = &point.address else { return };
        if PointTemplate::is_template(topic) {
            let name = topic.split(['{', '}']).nth(1).unwrap_or("machine");
            let fault = site.key("at").fault("the topic has names in braces, and the id has none");
            let hint = format!("write `id: \"{{{name}}}_{id}\"`: a point for each topic that speaks");
            self.report(fault.found(format!("`{topic}`")).hint(hint));
        }
    }
}

/// Where a template is wrong: its id or its topic.
fn template_fault(site: &Site<'_>, fault: &TemplateFault) -> crate::Fault {
    let key = match fault {
        TemplateFault::PartOfLevel(_) | TemplateFault::Twice(_) => "at",
        _ => "id",
    };
    let hint = "for example `id: \"{machine}_temp\"` with `at: \"hall/{machine}/temp\"`";
    site.key(key).fault(fault.to_string()).hint(hint)
}
