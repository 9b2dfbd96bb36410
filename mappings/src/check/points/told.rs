//! `write` and `method`: how a point is told a value, or what is called, where its address does not say that by itself.

use super::{PointLayers, Protocol};
use crate::check::{Checker, Site};
use crate::written::{ArgumentWord, ArgumentWritten, DeviceWritten};
use serde_json::Value as Json;
use std::sync::Arc;
use tally_model::{Address, ArgumentKind, MethodArgument, MqttCommand, OpcUaMethod};

/// Most arguments of a method.
const ARGUMENTS_MAX: usize = 16;

impl Checker<'_> {
    /// How an MQTT device is told the value of a writable point; `address` is where it is read.
    pub(super) fn command(
        &mut self,
        layers: &PointLayers<'_>,
        protocol: Option<Protocol>,
        device: &DeviceWritten,
        is_writable: bool,
    ) -> Option<Arc<MqttCommand>> {
        let write = layers.pick("write", |written| written.write.as_ref())?;
        if !self.belongs(&write.site, protocol, Protocol::Mqtt) {
            return None;
        }
        if !is_writable {
            if layers.is_written("writable") {
                return None; // what is wrong with it has been said
            }
            let fault = write.site.fault("how to write a point that is not writable");
            self.report(fault.hint("write `writable: true`, or remove `write`"));
            return None;
        }
        let topic_site = write.site.key("topic");
        let address = write.value.topic.as_deref().map(|topic| (topic, Address::parse_mqtt(topic)));
        let topic = match address? {
            (_, Ok(address @ Address::Mqtt { pointer: None, .. })) if write.from_sheet => {
                self.moved(address, &topic_site, device)
            }
            (_, Ok(address @ Address::Mqtt { pointer: None, .. })) => Some(address),
            (found, _) => {
                let fault = topic_site.fault("not a topic that can be written").found(format!("`{found}`"));
                self.report(fault.hint("one topic without wildcards and `#`, such as `valve/set`"));
                None
            }
        };
        let payload = write.value.payload.as_deref().unwrap_or(MqttCommand::PLACE);
        self.payload(payload, &write.site.key("payload"));
        let topic = topic?.to_string();
        Some(Arc::new(MqttCommand { topic, payload: payload.to_owned() }))
    }

    fn payload(&mut self, payload: &str, site: &Site<'_>) {
        let is_json = |value: &str| serde_json::from_str::<Json>(&payload.replace(MqttCommand::PLACE, value)).is_ok();
        let fault = if !payload.contains(MqttCommand::PLACE) {
            let fault = site.fault("the payload has no place for the value");
            fault.hint("write `{value}` where it belongs, such as `{\"position\": {value}}`")
        } else if is_json("0") && !is_json("\"on\"") {
            let fault = site.fault("quotes around the value");
            fault.hint("remove them: a text gets its quotes by itself, and a number needs none")
        } else {
            return;
        };
        self.report(fault.found(format!("`{payload}`")));
    }

    /// What a permit to call the point calls.
    pub(super) fn method(
        &mut self,
        layers: &PointLayers<'_>,
        protocol: Option<Protocol>,
        device: &DeviceWritten,
        address: Option<&Address>,
    ) -> Option<Arc<OpcUaMethod>> {
        let method = layers.pick("method", |written| written.method.as_ref())?;
        if !self.belongs(&method.site, protocol, Protocol::OpcUa) {
            return None;
        }
        if matches!(address, Some(Address::OpcUa { alarm: Some(_), .. })) {
            let fault = method.site.fault("an alarm is called to acknowledge it");
            self.report(fault.hint("write the method at a point of its own"));
            return None;
        }
        let mut node = |key: &str, text: Option<&str>| {
            let site = method.site.key(key);
            match Address::parse_opcua(text?) {
                Ok(address @ Address::OpcUa { pointer: None, alarm: None, .. }) if method.from_sheet => {
                    self.moved(address, &site, device)
                }
                Ok(address @ Address::OpcUa { pointer: None, alarm: None, .. }) => Some(address),
                _ => {
                    let fault = site.fault("not a node id").found(format!("`{}`", text.unwrap_or_default()));
                    self.report(fault.hint("write for example `nsu=urn:factory:cnc;s=Machine` or `ns=2;i=1001`"));
                    None
                }
            }
        };
        let (object, node) =
            (node("object", method.value.object.as_deref()), node("node", method.value.node.as_deref()));
        let site = method.site.key("arguments");
        let arguments = self.arguments(&method.value.arguments, &site);
        Some(Arc::new(OpcUaMethod { object: object?, node: node?, arguments }))
    }

    fn arguments(&mut self, written: &[ArgumentWritten], site: &Site<'_>) -> Vec<MethodArgument> {
        if written.len() > ARGUMENTS_MAX {
            self.report(site.fault("too many arguments").found(written.len().to_string()).allowed("up to 16"));
        }
        let read = |(place, argument): (usize, &ArgumentWritten)| {
            let takes = self.argument(argument, &site.item(place));
            Some(MethodArgument { name: argument.name.clone()?, takes: takes? })
        };
        written.iter().enumerate().filter_map(read).collect()
    }

    fn argument(&mut self, argument: &ArgumentWritten, site: &Site<'_>) -> Option<ArgumentKind> {
        let fault = match (argument.kind.unwrap_or(ArgumentWord::Number), argument.range) {
            (ArgumentWord::Flag, None) => return Some(ArgumentKind::Flag),
            (ArgumentWord::Text, None) => return Some(ArgumentKind::Text),
            (ArgumentWord::Flag | ArgumentWord::Text, Some(_)) => {
                site.key("range").fault("only numbers have bounds").hint("remove it")
            }
            (ArgumentWord::Number, Some((low, high))) if low.is_finite() && high.is_finite() && low <= high => {
                return Some(ArgumentKind::Number(low, high));
            }
            (ArgumentWord::Number, Some((low, high))) => {
                let fault = site.key("range").fault("the bounds are empty").found(format!("`[{low}, {high}]`"));
                fault.hint("the lower bound comes first, and both are finite numbers")
            }
            (ArgumentWord::Number, None) => {
                let fault = site.key("range").fault("a number that a method is called with needs bounds");
                fault.hint("write for example `range: [0, 80]`, or `type: flag`, `type: text`")
            }
        };
        self.report(fault);
        None
    }

    /// A key of one protocol at a device of another.
    fn belongs(&mut self, site: &Site<'_>, protocol: Option<Protocol>, owner: Protocol) -> bool {
        let is_foreign = protocol.is_some_and(|protocol| protocol != owner);
        if is_foreign {
            let fault = site.fault(format!("this is for points of {} devices", owner.word()));
            self.report(fault.hint("remove it"));
        }
        !is_foreign
    }
}
