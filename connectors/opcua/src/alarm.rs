//! Alarms and conditions (OPC UA Part 9): what a server's events say about a condition becomes values of the points that
//! watch it.
//!
//! One event item per device on the Server object, which tells what all notifiers below it tell (Part 5 §6.3.1). What
//! stands when we come is read from the conditions where the server shows them, and then told once more by
//! ConditionRefresh (Part 9 §5.5.7). An event about a branch (an older state that still waits for somebody) is passed over: a
//! point says what is now. A condition that the server neither shows nor tells has no value until its first event, because
//! silence is no proof that nothing is wrong.

use crate::error::link_fault;
use crate::facts::value_of;
use crate::outlet::Outlet;
use crate::plan::Plan;
use crate::session::Connection;
use opcua::types::{
    AttributeId, BrowsePath, ByteString, CallMethodRequest, ContentFilter, DataValue, DateTime, Error, EventFilter,
    EventFilterResult, ExtensionObject, MethodId, MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters,
    NodeId, NumericRange, ObjectId, ObjectTypeId, QualifiedName, ReadValueId, ReferenceTypeId, RelativePath,
    RelativePathElement, SimpleAttributeOperand, StatusCode, TimestampsToReturn, Variant,
};
use std::collections::HashMap;
use std::sync::Arc;
use tally_connector_api::LinkFault;
use tally_model::{AlarmPart, NoValue, Timestamp};

/// Beyond the handles of points: no device has so many.
pub(crate) const EVENT_HANDLE: u32 = u32::MAX - 1;

/// Events the server keeps between two publishes; a flood of alarms is when they are needed most.
const EVENT_QUEUE: u32 = 10_000;

/// What one event says about one condition.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) condition: NodeId,
    pub(crate) event_id: ByteString,
    pub(crate) is_branch: bool,
    time: Option<DateTime>,
    status: Option<StatusCode>,
    parts: HashMap<AlarmPart, Variant>,
}

/// Where each part stands: the type that has it, and the browse names from the condition to it (Part 9 §5.5.2, §5.7.2,
/// §5.8.2).
fn place_of(part: AlarmPart) -> (ObjectTypeId, &'static str) {
    match part {
        AlarmPart::Active => (ObjectTypeId::AlarmConditionType, "ActiveState/Id"),
        AlarmPart::Acked => (ObjectTypeId::AcknowledgeableConditionType, "AckedState/Id"),
        AlarmPart::Confirmed => (ObjectTypeId::AcknowledgeableConditionType, "ConfirmedState/Id"),
        AlarmPart::Enabled => (ObjectTypeId::ConditionType, "EnabledState/Id"),
        AlarmPart::Severity => (ObjectTypeId::BaseEventType, "Severity"),
        AlarmPart::Message => (ObjectTypeId::BaseEventType, "Message"),
    }
}

/// What is asked of every event, in the order in which [`Told::from_fields`] takes it.
fn select_clauses() -> Vec<SimpleAttributeOperand> {
    // The condition's own node id is asked for by an empty path (Part 9 §5.5.2.13). Some servers know no such property of the
    // type; of the base type a path has to be taken as it is (Part 4 §7.22.3).
    let condition = [ObjectTypeId::ConditionType, ObjectTypeId::BaseEventType].map(|kind| SimpleAttributeOperand {
        type_definition_id: kind.into(),
        browse_path: Some(Vec::new()),
        attribute_id: AttributeId::NodeId as u32,
        index_range: NumericRange::None,
    });
    let fixed = [
        (ObjectTypeId::BaseEventType, "EventId"),
        (ObjectTypeId::ConditionType, "BranchId"),
        (ObjectTypeId::BaseEventType, "Time"),
        (ObjectTypeId::ConditionType, "Quality"),
    ];
    let fields = fixed.into_iter().chain(AlarmPart::ALL.map(place_of));
    let fields = fields.map(|(kind, path)| SimpleAttributeOperand::new_value(kind, path));
    condition.into_iter().chain(fields).collect()
}

/// Which of the clauses the server took. What it did not take it sends empty (Part 4 §7.22.3), or leaves out (async-opcua).
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken(Vec<bool>);

impl Taken {
    /// By the server's answer to the item.
    pub(crate) fn of(filter_result: ExtensionObject) -> Self {
        let result = filter_result.into_inner_as::<EventFilterResult>();
        let results = result.and_then(|result| result.select_clause_results).unwrap_or_default();
        Self(results.into_iter().map(|status| !status.is_bad()).collect())
    }

    /// The fields of an event, each in its place.
    pub(crate) fn in_place(&self, fields: Vec<Variant>) -> Vec<Variant> {
        let taken = self.0.iter().filter(|taken| **taken).count();
        if fields.len() != taken || taken == self.0.len() {
            return fields;
        }
        let mut fields = fields.into_iter();
        self.0.iter().map(|taken| if *taken { fields.next().unwrap_or_default() } else { Variant::Empty }).collect()
    }
}

impl Told {
    /// Takes an event apart; `None` when it is about no condition.
    pub(crate) fn from_fields(fields: Vec<Variant>) -> Option<Self> {
        let mut fields = fields.into_iter();
        let mut next = || fields.next().unwrap_or_default();
        let mut ids = [next(), next()].into_iter().filter_map(|id| match id {
            Variant::NodeId(id) if !id.is_null() => Some(id),
            _ => None,
        });
        let condition = ids.next()?;
        let event_id = match next() {
            Variant::ByteString(id) => id,
            _ => ByteString::null(),
        };
        let is_branch = matches!(next(), Variant::NodeId(branch) if !branch.is_null());
        let time = match next() {
            Variant::DateTime(time) => Some(*time),
            _ => None,
        };
        let status = match next() {
            Variant::StatusCode(status) => Some(status),
            _ => None,
        };
        let parts = AlarmPart::ALL.map(|part| (part, next())).into();
        Some(Self { condition: *condition, event_id, is_branch, time, status, parts })
    }

    /// One part as a value of a point. A condition without it (one that knows no confirming, say) has no such value.
    fn value(&self, part: AlarmPart) -> DataValue {
        match self.parts.get(&part).cloned().unwrap_or_default() {
            Variant::Empty => DataValue { status: Some(StatusCode::BadAttributeIdInvalid), ..self.empty() },
            value => DataValue { value: Some(value), status: self.status, ..self.empty() },
        }
    }

    fn empty(&self) -> DataValue {
        DataValue { source_timestamp: self.time, ..DataValue::null() }
    }
}

/// The event item on the Server object. Without a where clause: events of other kinds are few and passed over here, and a server
/// that understands the clause in its own way would keep every alarm to itself (asyncua takes `OfType` without subtypes).
pub(crate) fn event_item() -> MonitoredItemCreateRequest {
    MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId::new(ObjectId::Server.into(), AttributeId::EventNotifier),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: EVENT_HANDLE,
            // Events are not sampled (Part 4 §7.21).
            sampling_interval: 0.0,
            queue_size: EVENT_QUEUE,
            discard_oldest: true,
            filter: ExtensionObject::from_message(EventFilter {
                select_clauses: Some(select_clauses()),
                where_clause: ContentFilter::default(),
            }),
        },
    }
}

/// Has the server tell once more what stands (Part 9 §5.5.7).
pub(crate) fn refresh(subscription: u32) -> CallMethodRequest {
    CallMethodRequest {
        object_id: ObjectTypeId::ConditionType.into(),
        method_id: MethodId::ConditionType_ConditionRefresh.into(),
        input_arguments: Some(vec![Variant::UInt32(subscription)]),
    }
}

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
    use proptest::prelude::*;

    fn fields(branch: NodeId) -> Vec<Variant> {
        vec![
            NodeId::new(2, "Overheat").into(),
            Variant::Empty,
            ByteString::from(vec![7, 7]).into(),
            branch.into(),
            Variant::Empty,
            StatusCode::UncertainSensorNotAccurate.into(),
            true.into(),
            false.into(),
            Variant::Empty,
            true.into(),
            700_u16.into(),
            opcua::types::LocalizedText::from("too hot").into(),
        ]
    }

    #[test]
    fn an_event_becomes_values_of_the_points_that_watch_its_condition() {
        assert_eq!(select_clauses().len(), fields(NodeId::null()).len());
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

    #[test]
    fn clauses_a_server_leaves_out_shift_nothing() {
        let all = fields(NodeId::null());
        let taken = Taken((0..all.len()).map(|place| place != 0 && place != 5).collect());
        let mut sent = all.clone();
        sent.remove(5);
        sent[1] = sent[0].clone();
        sent.remove(0);
        let told = Told::from_fields(taken.in_place(sent)).unwrap();
        assert_eq!(told.condition.to_string(), "ns=2;s=Overheat");
        assert_eq!(told.value(AlarmPart::Severity).value, Some(Variant::UInt16(700)));
        // As the standard has it: empty, and in its place.
        assert_eq!(taken.in_place(all.clone()), all);
        assert_eq!(Taken::default().in_place(all.clone()), all);
    }

    proptest! {
        /// Whatever a server puts into an event, and however little of it: no panic, and no invented value.
        #[test]
        fn any_fields(bytes: Vec<u8>, count in 0_usize..15) {
            let mut row = fields(NodeId::null());
            for (field, byte) in row.iter_mut().skip(1).zip(bytes) {
                *field = match byte % 4 { 0 => Variant::Empty, 1 => Variant::Byte(byte), 2 => Variant::from("x"), _ => continue };
            }
            row.truncate(count);
            if let Some(told) = Told::from_fields(row) {
                prop_assert!(told.value(AlarmPart::Active).value.is_none_or(|value| value != Variant::Empty));
            }
        }
    }
}
