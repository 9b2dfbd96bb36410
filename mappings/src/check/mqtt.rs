//! `mqtt:` of a device and its data sheet, and points that are templates.

use super::points::{PointLayers, Protocol};
use super::{Checker, Site};
use crate::written::{DeviceWritten, MqttWritten};
use tally_model::{Address, MqttOptions, MqttQos, PointId, PointSpec, PointTemplate, TemplateFault};

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
        MqttOptions {
            qos: qos.and_then(MqttQos::from_number).unwrap_or(default.qos),
            points_max: pick(|written| written.points_max).unwrap_or(default.points_max),
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
