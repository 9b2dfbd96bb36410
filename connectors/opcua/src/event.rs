//! Events of conditions as they come over the wire (OPC UA Part 9): what is asked of the server, and what it says. Pure.

use opcua::types::{
    AttributeId, ByteString, CallMethodRequest, ContentFilter, DataValue, DateTime, EventFilter, EventFilterResult,
    ExtensionObject, MethodId, MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, NumericRange,
    ObjectId, ObjectTypeId, ReadValueId, SimpleAttributeOperand, StatusCode, Variant,
};
use std::collections::HashMap;
use tally_model::AlarmPart;

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
pub(crate) fn place_of(part: AlarmPart) -> (ObjectTypeId, &'static str) {
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
    pub(crate) fn value(&self, part: AlarmPart) -> DataValue {
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The fields of an event about `ns=2;s=Overheat`.
    pub(crate) fn fields(branch: NodeId) -> Vec<Variant> {
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
    fn clauses_a_server_leaves_out_shift_nothing() {
        let all = fields(NodeId::null());
        assert_eq!(select_clauses().len(), all.len());
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
