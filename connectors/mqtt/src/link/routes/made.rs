//! Points that are made while topics speak.
//!
//! Limits: as many points of a device as its mapping allows. Two topics that would give the same id: the first has it.

use super::Listener;
use crate::Plan;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tally_model::{Address, DeviceId, DeviceSpec, PointId, PointSpec, PointTemplate};

/// Collisions that are logged.
const COLLISIONS_LOGGED_MAX: u8 = 10;

/// The templates of all devices, and what came of them.
pub(super) struct Made {
    templates: Vec<OfDevice>,
    ids: HashMap<DeviceId, Ids>,
}

/// Templates of one device that look into the same topics.
struct OfDevice {
    device: DeviceId,
    templates: Vec<PointTemplate>,
    silent_after: Duration,
}

/// The points of a device.
struct Ids {
    described: HashSet<PointId>,
    made: HashSet<PointId>,
    made_max: usize,
    told_full: bool,
    collisions: u8,
}

impl Made {
    pub(super) fn new(devices: &[(DeviceSpec, Plan)]) -> Self {
        let templates = devices.iter().flat_map(|(device, plan)| {
            plan.templates.iter().map(|planned| OfDevice {
                device: device.id.clone(),
                templates: planned.templates.clone(),
                silent_after: plan.silent_after,
            })
        });
        let ids = devices.iter().map(|(device, plan)| {
            let ids = Ids {
                described: device.points.iter().map(|point| point.id.clone()).collect(),
                made: HashSet::new(),
                made_max: usize::from(plan.points_max),
                told_full: false,
                collisions: 0,
            };
            (device.id.clone(), ids)
        });
        Self { templates: templates.collect(), ids: ids.collect() }
    }

    /// New points for a topic that speaks for the first time, by device; `None` when it fits no template.
    pub(super) fn points_for(&mut self, topic: &str) -> Option<Vec<(DeviceId, Vec<PointSpec>, Duration)>> {
        let (mut fits, mut new) = (false, Vec::new());
        for OfDevice { device, templates, silent_after } in &self.templates {
            let Some(ids) = self.ids.get_mut(device) else { continue };
            let candidates: Vec<_> =
                templates.iter().filter_map(|template| Some((template, template.id_for(topic)?))).collect();
            fits |= !candidates.is_empty();
            let points = candidates.into_iter().filter_map(|(template, id)| {
                let id =
                    id.map_err(|fault| tracing::warn!(%device, topic, fault, "no point can be made of this topic"));
                ids.take(device, topic, id.ok()?).map(|id| point(template, id, topic))
            });
            let points: Vec<_> = points.collect();
            if !points.is_empty() {
                new.push((device.clone(), points, *silent_after));
            }
        }
        fits.then_some(new)
    }

    /// Whether these points of a route were made.
    pub(super) fn has(&self, device: &DeviceId, points: &[Listener]) -> bool {
        let is_made = |ids: &Ids| points.first().is_some_and(|point| ids.made.contains(&point.spec.id));
        self.ids.get(device).is_some_and(is_made)
    }
}

impl Ids {
    /// The id, when it is free and there may be one more.
    fn take(&mut self, device: &DeviceId, topic: &str, id: PointId) -> Option<PointId> {
        if self.described.contains(&id) || self.made.contains(&id) {
            if self.collisions < COLLISIONS_LOGGED_MAX {
                self.collisions += 1;
                tracing::warn!(%device, topic, point = %id, "not read: another topic has given this point already");
            }
            return None;
        }
        if self.made.len() >= self.made_max {
            if !std::mem::replace(&mut self.told_full, true) {
                let most = self.made_max;
                tracing::warn!(%device, topic, most, "no more points are made: raise `mqtt: {{points_max: …}}`, or narrow the topic");
            }
            return None;
        }
        tracing::info!(%device, topic, point = %id, "a new point");
        self.made.insert(id.clone());
        Some(id)
    }
}

fn point(template: &PointTemplate, id: PointId, topic: &str) -> PointSpec {
    let topic = topic.to_owned();
    let address = match template.point.address.clone() {
        Address::Mqtt { pointer, .. } => Address::Mqtt { topic, pointer },
        Address::MqttCbor { pointer, .. } => Address::MqttCbor { topic, pointer },
        other => other,
    };
    PointSpec { id, address, ..template.point.clone() }
}
