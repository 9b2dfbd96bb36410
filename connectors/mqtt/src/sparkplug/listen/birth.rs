//! Births: metrics get their names, types and aliases.

use super::metric::number;
use super::{Born, Heard, METRICS_MAX, NodeWatch, Wanted};
use crate::sparkplug::payload::Payload;
use crate::sparkplug::value::DataType;
use std::collections::{HashMap, HashSet};
use tally_model::{NoValue, Timestamp};

impl NodeWatch {
    pub(super) fn node_birth(&mut self, payload: &Payload, received: Timestamp) -> Heard {
        let bd_seq = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"));
        self.born = Some(Born {
            bd_seq: bd_seq.and_then(number),
            seq: payload.seq.unwrap_or(0) % 256,
            devices: HashSet::new(),
            aliases: HashMap::new(),
            types: HashMap::new(),
        });
        self.told = false;
        self.asked = None;
        (self.is_there, self.is_dead) = (true, false);
        self.birth(None, payload, received)
    }

    pub(super) fn device_birth(&mut self, device: Option<String>, payload: &Payload, received: Timestamp) -> Heard {
        if let (Some(born), Some(device)) = (&mut self.born, &device) {
            born.devices.insert(device.clone());
        }
        self.birth(device, payload, received)
    }

    /// Names, aliases and types of a birth, then its values; what is wanted and not in it has no address.
    fn birth(&mut self, device: Option<String>, payload: &Payload, received: Timestamp) -> Heard {
        let Some(born) = &mut self.born else { return Heard::default() };
        let mut named = HashSet::new();
        for metric in &payload.metrics {
            let Some(name) = &metric.name else { continue };
            let wanted = self.wanted.iter().any(|wanted| wanted.of == device && wanted.metric == *name);
            let key = (device.clone(), name.clone());
            if let Some(alias) = metric.alias
                && born.aliases.len() < METRICS_MAX
            {
                born.aliases.insert(alias, wanted.then(|| key.clone()));
            }
            if let (true, Some(kind)) = (wanted, metric.datatype.and_then(DataType::from_code)) {
                born.types.insert(key, kind);
            }
            named.insert(name.clone());
        }
        let mut heard = Heard::default();
        for metric in &payload.metrics {
            if let Some(name) = &metric.name {
                self.take(&device, name, metric, payload, received, &mut heard);
            }
        }
        let is_missing = |wanted: &Wanted| wanted.of == device && !named.contains(&wanted.metric);
        heard.samples.extend(self.without_value(NoValue::NoSuchAddress, received, is_missing));
        heard
    }
}
