//! Alarms of a simulated server (OPC UA Part 9): signals at `alarm:…#/active`, `#/severity`, `#/message` and `#/enabled` say what
//! a condition is, clients acknowledge and confirm it, and every change is an event.
//!
//! ConditionRefresh is answered to all who listen, not to the one who asked: the library cannot address one subscription.

use crate::{SignalConfig, SignalView};
use opcua::server::EventField;
use opcua::server::address_space::{AddressSpace, Event, ObjectBuilder, VariableBuilder};
use opcua::types::{
    AttributeId, ByteString, DataTypeId, DataValue, DateTime, Identifier, LocalizedText, NodeId, NumericRange,
    ObjectId, ObjectTypeId, QualifiedName, StatusCode, VariableTypeId, Variant,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tally_model::{AlarmPart, Quality, Value};

/// The conditions of a server; shared by the task that follows the plant and the methods that clients call.
#[derive(Clone)]
pub(super) struct Alarms(Arc<Mutex<State>>);

struct State {
    conditions: Vec<Condition>,
    /// Told with the next write.
    pending: Vec<Told>,
    /// Event ids are numbers that never come again in a run.
    events: u64,
}

struct Condition {
    node: NodeId,
    name: String,
    /// Which signals say what, by place in the device.
    signals: Vec<(AlarmPart, usize)>,
    now: Told,
    /// Whether the server of this life shows what is now.
    is_written: bool,
}

/// A condition as an event says it; also the beginning and end of a refresh, which are about none.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    kind: NodeId,
    condition: NodeId,
    name: String,
    event_id: ByteString,
    time: DateTime,
    is_active: bool,
    is_acked: bool,
    is_confirmed: bool,
    is_enabled: bool,
    severity: u16,
    message: String,
    status: StatusCode,
}

impl Told {
    fn about(kind: ObjectTypeId, condition: NodeId, name: String) -> Self {
        Self {
            kind: kind.into(),
            condition,
            name,
            event_id: ByteString::null(),
            time: DateTime::null(),
            is_active: false,
            is_acked: true,
            is_confirmed: true,
            is_enabled: true,
            severity: 500,
            message: String::new(),
            status: StatusCode::Good,
        }
    }

    /// Whether it is still of interest (Part 9 §5.5.2, Retain).
    const fn is_retained(&self) -> bool {
        self.is_enabled && (self.is_active || !self.is_acked || !self.is_confirmed)
    }

    /// The parts that are shown as nodes, with the way to each.
    fn shown(&self) -> [(&'static str, Variant); 6] {
        [
            ("ActiveState/Id", self.is_active.into()),
            ("AckedState/Id", self.is_acked.into()),
            ("ConfirmedState/Id", self.is_confirmed.into()),
            ("EnabledState/Id", self.is_enabled.into()),
            ("Severity", self.severity.into()),
            ("Message", LocalizedText::from(self.message.as_str()).into()),
        ]
    }
}

impl EventField for Told {
    fn get_value(&self, attribute: AttributeId, range: &NumericRange, path: &[QualifiedName]) -> Variant {
        self.get_field(&self.kind, attribute, range, path)
    }
}

impl Event for Told {
    fn get_field(
        &self,
        _type_definition: &NodeId,
        attribute: AttributeId,
        _range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant {
        let is_condition = !self.condition.is_null();
        if path.is_empty() {
            // ConditionId (Part 9 §5.5.2.13).
            let is_asked = attribute == AttributeId::NodeId && is_condition;
            return if is_asked { self.condition.clone().into() } else { Variant::Empty };
        }
        let path: Vec<_> = path.iter().map(|name| name.name.as_ref()).collect();
        let path = path.join("/");
        let common = match path.as_str() {
            "EventId" => Some(self.event_id.clone().into()),
            "EventType" => Some(self.kind.clone().into()),
            "SourceName" => Some(Variant::from(self.name.as_str())),
            "SourceNode" => Some(NodeId::from(ObjectId::Server).into()),
            "Time" | "ReceiveTime" => Some(self.time.into()),
            _ => None,
        };
        let of_condition = || match path.as_str() {
            "ConditionName" => Some(Variant::from(self.name.as_str())),
            "BranchId" => Some(NodeId::null().into()),
            "Retain" => Some(self.is_retained().into()),
            "Quality" => Some(self.status.into()),
            path => self.shown().into_iter().find(|(known, _)| *known == path).map(|(_, value)| value),
        };
        common.or_else(|| is_condition.then(of_condition).flatten()).unwrap_or_default()
    }

    fn time(&self) -> &DateTime {
        &self.time
    }

    fn event_type_id(&self) -> &NodeId {
        &self.kind
    }
}

impl Alarms {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { conditions: Vec::new(), pending: Vec::new(), events: 0 })))
    }

    /// Notes that a signal says something about a condition.
    pub(super) fn watch(&self, node: &NodeId, part: AlarmPart, signal: usize) {
        let mut state = self.lock();
        let known = state.conditions.iter().position(|condition| condition.node == *node);
        let place = known.unwrap_or_else(|| {
            let name = node.identifier.to_string();
            let name = name.split_once('=').map_or(name.as_str(), |(_, name)| name).to_owned();
            let now = Told::about(ObjectTypeId::AlarmConditionType, node.clone(), name.clone());
            state.conditions.push(Condition { node: node.clone(), name, signals: Vec::new(), now, is_written: false });
            state.conditions.len() - 1
        });
        state.conditions[place].signals.push((part, signal));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().conditions.is_empty()
    }

    /// Takes in what the signals say.
    pub(super) fn follow(&self, views: &[Option<SignalView>], signals: &[SignalConfig], time: DateTime) {
        let mut state = self.lock();
        let State { conditions, pending, events } = &mut *state;
        for condition in conditions {
            let next = condition.heard(views, signals);
            if next != condition.now {
                condition.tell(next, time, events, pending);
            }
        }
    }

    /// A client has seen it (Part 9 §5.7.3), or says that it is dealt with (§5.7.4).
    pub(super) fn answer(&self, condition: &NodeId, event: &ByteString, is_confirmation: bool) -> StatusCode {
        let mut state = self.lock();
        let State { conditions, pending, events } = &mut *state;
        let Some(condition) = conditions.iter_mut().find(|known| known.node == *condition) else {
            return StatusCode::BadNodeIdUnknown;
        };
        let now = &condition.now;
        let mut next = now.clone();
        match is_confirmation {
            _ if now.event_id != *event => return StatusCode::BadEventIdUnknown,
            false if now.is_acked => return StatusCode::BadConditionBranchAlreadyAcked,
            true if now.is_confirmed => return StatusCode::BadConditionBranchAlreadyConfirmed,
            true => next.is_confirmed = true,
            false => next.is_acked = true,
        }
        let time = DateTime::now();
        condition.tell(next, time, events, pending);
        StatusCode::Good
    }

    /// Tells anew what is of interest (Part 9 §5.5.7).
    pub(super) fn refresh(&self) {
        let mut state = self.lock();
        let frame = |kind| Told { time: DateTime::now(), ..Told::about(kind, NodeId::null(), "Server".to_owned()) };
        let State { conditions, pending, .. } = &mut *state;
        pending.push(frame(ObjectTypeId::RefreshStartEventType));
        pending.extend(conditions.iter().map(|condition| &condition.now).filter(|now| now.is_retained()).cloned());
        pending.push(frame(ObjectTypeId::RefreshEndEventType));
    }

    /// What is to be told now, in order.
    pub(super) fn take_events(&self) -> Vec<Box<dyn Event + Send>> {
        let told = std::mem::take(&mut self.lock().pending);
        told.into_iter().map(|told| Box::new(told) as Box<dyn Event + Send>).collect()
    }

    /// The nodes of a namespace whose values have changed.
    pub(super) fn take_values(&self, namespace: u16) -> Vec<(NodeId, DataValue)> {
        let mut state = self.lock();
        let of_space =
            state.conditions.iter_mut().filter(|known| known.node.namespace == namespace && !known.is_written);
        let values = of_space.flat_map(|condition| {
            condition.is_written = true;
            let (now, status) = (condition.now.time, condition.now.status);
            let shown = condition.now.shown().map(|(path, value)| (part_of(&condition.node, path), value));
            shown.map(|(node, value)| {
                let times = (Some(now), Some(now));
                let value = DataValue { value: Some(value), status: Some(status), ..DataValue::default() };
                (node, DataValue { source_timestamp: times.0, server_timestamp: times.1, ..value })
            })
        });
        values.collect()
    }

    /// Shows the conditions of a namespace as objects with the parts that can be read.
    pub(super) fn insert(&self, space: &mut AddressSpace, namespace: u16) {
        let mut state = self.lock();
        for condition in state.conditions.iter_mut().filter(|known| known.node.namespace == namespace) {
            condition.is_written = false;
            ObjectBuilder::new(&condition.node, condition.name.as_str(), condition.name.as_str())
                .has_type_definition(ObjectTypeId::AlarmConditionType)
                .organized_by(ObjectId::ObjectsFolder)
                .insert(space);
            for (path, value) in condition.now.shown() {
                insert_part(space, &condition.node, path, &value);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// What it is by its signals.
    fn heard(&self, views: &[Option<SignalView>], signals: &[SignalConfig]) -> Told {
        let mut next = self.now.clone();
        next.status = StatusCode::Good;
        for (part, signal) in &self.signals {
            let Some(view) = views.get(*signal).and_then(Option::as_ref) else { continue };
            match view.quality {
                Quality::Bad => next.status = StatusCode::BadSensorFailure,
                Quality::Uncertain if next.status.is_good() => next.status = StatusCode::UncertainSensorNotAccurate,
                _ => {}
            }
            match part {
                AlarmPart::Active => next.is_active = is_true(&view.value),
                AlarmPart::Enabled => next.is_enabled = is_true(&view.value),
                AlarmPart::Severity => next.severity = severity(&view.value),
                AlarmPart::Message => next.message = view.value.to_string(),
                // What people do with it is said by clients.
                AlarmPart::Acked | AlarmPart::Confirmed => {}
            }
        }
        if next.is_active && !self.now.is_active {
            (next.is_acked, next.is_confirmed) = (false, false);
        }
        if next.message.is_empty() {
            next.message = signals.get(self.signals[0].1).map_or_else(String::new, |signal| signal.id.to_string());
        }
        next
    }

    fn tell(&mut self, next: Told, time: DateTime, events: &mut u64, pending: &mut Vec<Told>) {
        *events += 1;
        let event_id = ByteString::from(events.to_be_bytes().to_vec());
        self.now = Told { event_id, time, ..next };
        self.is_written = false;
        pending.push(self.now.clone());
    }
}

fn is_true(value: &Value) -> bool {
    value.as_f64().map_or(*value == Value::Bool(true), |number| number >= 0.5)
}

/// 1 to 1000 (Part 5 §6.4.2).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within bounds
fn severity(value: &Value) -> u16 {
    value.as_f64().map_or(500, |number| number.clamp(1.0, 1_000.0).round() as u16)
}

/// `ActiveState/Id` of `s=Overheat` is `s=Overheat.ActiveState.Id`.
fn part_of(condition: &NodeId, path: &str) -> NodeId {
    let name = condition.identifier.to_string();
    let name = name.split_once('=').map_or(name.as_str(), |(_, name)| name);
    NodeId::new(condition.namespace, Identifier::from(format!("{name}.{}", path.replace('/', "."))))
}

fn insert_part(space: &mut AddressSpace, condition: &NodeId, path: &str, value: &Variant) {
    let parent = match path.split_once('/') {
        Some((state, _)) => {
            let node = part_of(condition, state);
            VariableBuilder::new(&node, QualifiedName::new(0, state), state)
                .data_type(DataTypeId::LocalizedText)
                .value(LocalizedText::from(state))
                .has_type_definition(VariableTypeId::TwoStateVariableType)
                .component_of(condition.clone())
                .insert(space);
            node
        }
        None => condition.clone(),
    };
    let data_type = value.scalar_type_id().map_or(NodeId::null(), |kind| NodeId::new(0, kind as u32));
    VariableBuilder::new(
        &part_of(condition, path),
        QualifiedName::new(0, path.rsplit('/').next().unwrap_or(path)),
        path,
    )
    .data_type(data_type)
    .value(value.clone())
    .has_type_definition(VariableTypeId::PropertyType)
    .property_of(parent)
    .insert(space);
}
