//! Alarms and conditions (OPC UA Part 9): what a server's events say about a condition becomes values of the points that
//! watch it.
//!
//! One event item per device on the Server object, which tells what all notifiers below it tell (Part 5 §6.3.1). What
//! stands when we come is read from the conditions where the server shows them, and then told once more by
//! ConditionRefresh (Part 9 §5.5.7). An event about a branch (an older state that still waits for somebody) is passed over: a
//! point says what is now. A condition that the server neither shows nor tells has no value until its first event, because
//! silence is no proof that nothing is wrong.

use crate::error::link_fault;
use crate::event::{Taken, Told, event_item, place_of, refresh};
use crate::facts::value_of;
use crate::outlet::Outlet;
use crate::plan::Plan;
use crate::session::Connection;
use opcua::types::{
    BrowsePath, DataValue, Error, NodeId, QualifiedName, ReferenceTypeId, RelativePath, RelativePathElement,
    StatusCode, TimestampsToReturn, Variant,
};
use std::collections::HashMap;
use std::sync::Arc;
use tally_connector_api::LinkFault;
use tally_model::{AlarmPart, NoValue, Timestamp};

/// The points of one device that watch conditions.
pub(crate) struct Alarms {
    pub(crate) device: usize,
    /// Which points (place, part) watch a condition.
    points: HashMap<NodeId, Vec<(usize, AlarmPart)>>,
    taken: Taken,
}

impl Alarms {
    /// The values an event has for the points of this device.
    fn values(&self, told: &Told) -> Vec<(usize, DataValue)> {
        let points = self.points.get(&told.condition).filter(|_| !told.is_branch);
        points.into_iter().flatten().map(|(place, part)| (*place, told.value(*part))).collect()
    }
}

impl Connection {
    /// Hands on what events say.
    pub(crate) fn hand_events(
        &mut self,
        device: usize,
        events: Vec<Vec<Variant>>,
        received: Timestamp,
        outlet: &mut Outlet,
    ) {
        let Some(alarms) = self.alarms.iter().find(|alarms| alarms.device == device) else { return };
        let told = events.into_iter().filter_map(|fields| Told::from_fields(alarms.taken.in_place(fields)));
        for told in told {
            // One event, one batch: two events of one condition must not overtake each other.
            outlet.hand_values(device, alarms.values(&told), received);
        }
    }

    /// Watches the conditions of a device on one of its subscriptions. A server without events costs these points, not the
    /// others.
    pub(crate) async fn watch_alarms(
        &mut self,
        device: usize,
        plan: &Plan,
        subscription: u32,
        outlet: &mut Outlet,
    ) -> Result<(), LinkFault> {
        let taken = match self.create_event_item(subscription, outlet).await? {
            Ok(taken) => taken,
            Err(status) => {
                tracing::warn!(link = %plan.endpoint, %status, "the server tells no events; its alarms cannot be read");
                outlet.hand_refused(plan.alarms.iter().map(|alarm| (device, alarm.place, NoValue::Refused)).collect());
                return Ok(());
            }
        };
        let mut points: HashMap<_, Vec<_>> = HashMap::new();
        let mut unknown = Vec::new();
        for alarm in &plan.alarms {
            match alarm.condition(&self.facts.namespaces) {
                Some(condition) => points.entry(condition).or_default().push((alarm.place, alarm.part)),
                None => unknown.push((device, alarm.place, NoValue::NoSuchAddress)),
            }
        }
        outlet.hand_refused(unknown);
        self.alarms.push(Alarms { device, points, taken });
        self.read_conditions(device, outlet).await?;
        self.refresh_conditions(subscription, plan, outlet).await
    }

    /// The clauses it took, or its status when it refuses.
    async fn create_event_item(
        &mut self,
        subscription: u32,
        outlet: &mut Outlet,
    ) -> Result<Result<Taken, StatusCode>, LinkFault> {
        let (session, items) = (Arc::clone(&self.session), vec![event_item()]);
        let create = async move { session.create_monitored_items(subscription, TimestampsToReturn::Both, items).await };
        let results = self.drive(outlet, "watch events", create).await?;
        let result = results.into_iter().next().map(|result| result.result);
        let result = result.ok_or_else(|| LinkFault::Nonsense("watch events: no answer".into()))?;
        Ok(if result.status_code.is_good() { Ok(Taken::of(result.filter_result)) } else { Err(result.status_code) })
    }

    /// Reads what stands in the conditions, as far as the server shows them as nodes.
    async fn read_conditions(&mut self, device: usize, outlet: &mut Outlet) -> Result<(), LinkFault> {
        let Some(alarms) = self.alarms.last() else { return Ok(()) };
        let wanted = alarms.points.iter().flat_map(|(condition, points)| {
            points.iter().map(move |(place, part)| (*place, path_to(condition, place_of(*part).1)))
        });
        let wanted: Vec<_> = wanted.collect();
        let mut hidden = Vec::new();
        let mut shown = Vec::new();
        for chunk in wanted.chunks(self.facts.browse_chunk()) {
            let paths: Vec<_> = chunk.iter().map(|(_, path)| path.clone()).collect();
            let session = Arc::clone(&self.session);
            let ask = async move { Ok::<_, Error>(session.translate_browse_paths_to_node_ids(&paths).await) };
            let found = match self.drive(outlet, "find the alarms", ask).await? {
                Ok(found) => found,
                Err(fault) => unless_the_line("find the alarms", &fault).map(|()| Vec::new())?,
            };
            let mut found = found.into_iter();
            for (place, _) in chunk {
                let target = found.next().and_then(|result| result.targets?.into_iter().next());
                match target {
                    Some(target) => shown.push((*place, target.target_id.node_id)),
                    None => hidden.push((device, *place, NoValue::NoSuchAddress)),
                }
            }
        }
        if !hidden.is_empty() {
            tracing::info!(
                count = hidden.len(),
                "alarms the server does not show as nodes have no value before their first event"
            );
        }
        outlet.hand_refused(hidden);
        self.read_shown(device, &shown, outlet).await
    }

    async fn read_shown(
        &mut self,
        device: usize,
        shown: &[(usize, NodeId)],
        outlet: &mut Outlet,
    ) -> Result<(), LinkFault> {
        for chunk in shown.chunks(self.facts.read_chunk()) {
            let questions: Vec<_> = chunk.iter().map(|(_, node)| value_of(node.clone())).collect();
            let session = Arc::clone(&self.session);
            let read = async move { session.read(&questions, TimestampsToReturn::Both, 0.0).await };
            let answers = self.drive(outlet, "read the alarms", read).await?;
            let values = chunk.iter().zip(answers).map(|((place, _), value)| (*place, value));
            outlet.hand_values(device, values.collect(), outlet.clock().now());
        }
        Ok(())
    }

    async fn refresh_conditions(
        &mut self,
        subscription: u32,
        plan: &Plan,
        outlet: &mut Outlet,
    ) -> Result<(), LinkFault> {
        let session = Arc::clone(&self.session);
        let call = async move { Ok::<_, Error>(session.call_one(refresh(subscription)).await) };
        let asked = "have the alarms told anew";
        let status = match self.drive(outlet, asked, call).await? {
            Ok(result) => result.status_code,
            Err(fault) => {
                unless_the_line(asked, &fault)?;
                fault.status()
            }
        };
        // Another client's refresh is as good as ours (Part 9 §5.5.7, Bad_RefreshInProgress).
        if status.is_bad() && status != StatusCode::BadRefreshInProgress {
            tracing::info!(link = %plan.endpoint, %status, "the server does not tell anew what stands; alarms are known from their next event");
        }
        Ok(())
    }
}

/// A refusal costs what was asked for; a broken line the session.
fn unless_the_line(asked: &str, fault: &Error) -> Result<(), LinkFault> {
    match link_fault(asked, fault.status(), "") {
        line @ LinkFault::Line(_) => Err(line),
        _ => Ok(()),
    }
}

fn path_to(condition: &NodeId, path: &str) -> BrowsePath {
    let element = |name: &str| RelativePathElement {
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        is_inverse: false,
        include_subtypes: true,
        target_name: QualifiedName::new(0, name),
    };
    let elements = path.split('/').map(element).collect();
    BrowsePath { starting_node: condition.clone(), relative_path: RelativePath { elements: Some(elements) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::fields;
    use opcua::types::Variant;

    #[test]
    fn an_event_becomes_values_of_the_points_that_watch_its_condition() {
        let told = Told::from_fields(fields(NodeId::null())).unwrap();
        assert_eq!((told.condition.to_string().as_str(), told.event_id.as_ref()), ("ns=2;s=Overheat", [7, 7].as_ref()));
        let watched = vec![(3, AlarmPart::Active), (4, AlarmPart::Severity), (5, AlarmPart::Confirmed)];
        let points = [(NodeId::new(2, "Overheat"), watched)].into();
        let alarms = Alarms { device: 0, points, taken: Taken::default() };
        let values = alarms.values(&told);
        let shown: Vec<_> = values.iter().map(|(place, data)| (*place, data.value.clone(), data.status())).collect();
        let uncertain = StatusCode::UncertainSensorNotAccurate;
        assert_eq!(
            shown,
            [
                (3, Some(Variant::Boolean(true)), uncertain),
                (4, Some(Variant::UInt16(700)), uncertain),
                (5, None, StatusCode::BadAttributeIdInvalid),
            ]
        );
        let branch = Told::from_fields(fields(NodeId::new(2, 5))).unwrap();
        assert!(branch.is_branch && alarms.values(&branch).is_empty());
        let points = [(NodeId::new(2, "Other"), vec![(0, AlarmPart::Active)])].into();
        let other = Alarms { device: 0, points, taken: Taken::default() };
        assert!(other.values(&told).is_empty());
        assert!(Told::from_fields(vec![Variant::Empty; 12]).is_none());
    }
}
