//! The address space of a simulated server: a variable for each signal, or for several that lie in one array or structure,
//! kept at what the plant says.

use super::alarms::Alarms;
use super::history::History;
use super::machine::{Machine, Slowness, machine};
use super::shape::{Outline, outlines};
use super::types::{Declared, Made, Types, loader};
use super::value::data_value;
use crate::{PlantState, SignalConfig, SignalView, SimError};
use opcua::server::address_space::{AccessLevel, AddressSpace, Event, VariableBuilder};
use opcua::server::{ServerBuilder, ServerHandle};
use opcua::types::custom::DataTypeTree;
use opcua::types::{DataValue, DateTime, Identifier, NodeId, ObjectId, Variant};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tally_model::{Address, DeviceId};

/// Index of the first namespace that is ours: 0 is OPC UA's, 1 the server's own (OPC UA Part 3 §8.2.2).
const FIRST_INDEX: u16 = 2;

/// The variables of a server.
pub(crate) struct Space {
    /// Namespace URIs in index order from [`FIRST_INDEX`]; each has a node manager of that name.
    namespaces: Vec<String>,
    variables: Vec<Variable>,
    types: Types,
    tree: Arc<DataTypeTree>,
    history: Option<Arc<History>>,
    pub(super) alarms: Alarms,
}

struct Variable {
    node: NodeId,
    name: String,
    made: Made,
    declared: Declared,
    /// Its signals, by place in the device.
    signals: Vec<usize>,
    /// What they said last.
    last: Vec<Option<SignalView>>,
    /// What the variable says since then.
    value: Option<DataValue>,
    /// Whether the server of this life has it already.
    is_written: bool,
}

impl Space {
    /// Lays out namespaces, types and nodes. With `history` each variable remembers its values for so long, also while the
    /// server is away.
    pub(crate) fn plan(signals: &[SignalConfig], history: Option<Duration>) -> Result<Self, SimError> {
        let namespaces = namespaces(signals);
        let mut types = Types::default();
        let outlines = outlines(signals).map_err(SimError::OpcUa)?;
        let variables = outlines.iter().map(|outline| variable(outline, signals, &namespaces, &mut types));
        let variables = variables.collect::<Result<Vec<_>, _>>()?;
        let tree = types.tree().map_err(SimError::OpcUa)?;
        let alarms = Alarms::new();
        for (place, signal) in signals.iter().enumerate() {
            if let Address::OpcUa { alarm: Some(part), .. } = &signal.address {
                alarms.watch(&node_id(&signal.address, &namespaces)?, *part, place);
            }
        }
        let history = history.map(|keeps| Arc::new(History::new(keeps)));
        Ok(Self { namespaces, variables, types, tree, history, alarms })
    }

    /// Adds namespaces and types to a server to be built; `slowness` says how slowly requests are answered.
    pub(crate) fn equip(&self, slowness: &Slowness, builder: ServerBuilder) -> ServerBuilder {
        self.namespaces.iter().fold(builder.with_type_loader(loader(&self.tree)), |builder, uri| {
            builder.with_node_manager(machine(uri, self.history.clone(), Arc::clone(slowness)))
        })
    }

    /// Makes the nodes in the built server; what they said last they say again.
    pub(crate) fn create(&mut self, handle: &ServerHandle) -> Result<(), SimError> {
        self.variables.iter_mut().for_each(|variable| variable.is_written = false);
        for (uri, index) in self.namespaces.iter().zip(FIRST_INDEX..) {
            if handle.get_namespace_index(uri) != Some(index) {
                return Err(SimError::OpcUa(format!("namespace `{uri}` did not get index {index}")));
            }
            let manager = manager(handle, uri)?;
            let mut space = manager.address_space().write();
            self.types.insert(&mut space, index);
            self.alarms.insert(&mut space, index);
            for variable in self.variables.iter().filter(|variable| variable.node.namespace == index) {
                if !variable.insert(&mut space, self.history.is_some()) {
                    return Err(SimError::OpcUa(format!("two nodes `{}`", variable.node)));
                }
            }
        }
        Ok(())
    }

    /// Notes what has changed, stamped with the time of the device's clock.
    pub(crate) fn follow(&mut self, device: &DeviceId, signals: &[SignalConfig], state: &PlantState) {
        let now = DateTime::from(ticks(state.now(device.as_str())));
        let views = state.views(device.as_str(), signals.iter().map(|signal| signal.id.as_str()));
        self.alarms.follow(&views, signals, now);
        for variable in &mut self.variables {
            let seen: Vec<_> = variable.signals.iter().map(|signal| views[*signal].clone()).collect();
            if variable.last == seen {
                continue;
            }
            if let Some(value) = data_value(&variable.made, signals, &views, &self.tree, now) {
                if let Some(history) = &self.history {
                    history.push(&variable.node, &value);
                }
                let before = variable.value.as_ref().and_then(|before| before.server_timestamp);
                let value = unless_set_back(value, before);
                (variable.last, variable.value, variable.is_written) = (seen, Some(value), false);
            }
        }
    }

    /// Gives the server what it does not have yet.
    pub(crate) fn write(&mut self, handle: &ServerHandle) -> Result<(), SimError> {
        let mut changed: BTreeMap<u16, Vec<(&NodeId, DataValue)>> = BTreeMap::new();
        for variable in self.variables.iter_mut().filter(|variable| !variable.is_written) {
            if let Some(value) = &variable.value {
                changed.entry(variable.node.namespace).or_default().push((&variable.node, value.clone()));
                variable.is_written = true;
            }
        }
        for (uri, index) in self.namespaces.iter().zip(FIRST_INDEX..) {
            let alarms = self.alarms.take_values(index);
            let values = changed.remove(&index).unwrap_or_default().into_iter();
            let values: Vec<_> = values.chain(alarms.iter().map(|(node, value)| (node, value.clone()))).collect();
            if values.is_empty() {
                continue;
            }
            let values = values.into_iter().map(|(node, value)| (node, None, value));
            let written = manager(handle, uri)?.set_values(handle.subscriptions(), values);
            written.map_err(|status| SimError::OpcUa(format!("values cannot be set: {status}")))?;
        }
        let (events, server) = (self.alarms.take_events(), NodeId::from(ObjectId::Server));
        handle.subscriptions().notify_events(events.iter().map(|event| (&**event as &dyn Event, &server)));
        Ok(())
    }
}

fn manager(handle: &ServerHandle, uri: &str) -> Result<Arc<Machine>, SimError> {
    let manager = handle.node_managers().get_by_name::<Machine>(uri);
    manager.ok_or_else(|| SimError::OpcUa(format!("no node manager for namespace `{uri}`")))
}

/// The URIs the signals name, in file order, then fillers up to the highest index a signal names (`ns=4`).
fn namespaces(signals: &[SignalConfig]) -> Vec<String> {
    let mut namespaces = Vec::new();
    let mut highest = 0;
    for signal in signals {
        match &signal.address {
            Address::OpcUa { namespace: Some(uri), .. } if !namespaces.contains(uri) => namespaces.push(uri.clone()),
            Address::OpcUa { namespace: None, index, .. } => highest = highest.max(*index),
            _ => {}
        }
    }
    while namespaces.len() + usize::from(FIRST_INDEX) <= usize::from(highest) {
        let index = namespaces.len() + usize::from(FIRST_INDEX);
        namespaces.push(format!("urn:tallystick:simulator:ns{index}"));
    }
    namespaces
}

/// The node an address names in a server with these namespaces.
fn node_id(address: &Address, namespaces: &[String]) -> Result<NodeId, SimError> {
    let fault = |reason: &str| SimError::OpcUa(format!("signal at `{}`: {reason}", address));
    let Address::OpcUa { namespace, index, identifier, .. } = address else {
        return Err(fault("that is no node id"));
    };
    let place = namespace.as_ref().and_then(|uri| namespaces.iter().position(|known| known == uri));
    let index = match place {
        Some(place) => u16::try_from(place).map_or(u16::MAX, |place| place.saturating_add(FIRST_INDEX)),
        None => *index,
    };
    if index < FIRST_INDEX {
        return Err(fault("namespaces 0 and 1 belong to the server; write `nsu=urn:…;s=…`"));
    }
    let identifier = Identifier::from_str(identifier).map_err(|_| fault("that is no node id"))?;
    Ok(NodeId::new(index, identifier))
}

fn variable(
    outline: &Outline,
    signals: &[SignalConfig],
    namespaces: &[String],
    types: &mut Types,
) -> Result<Variable, SimError> {
    let node = node_id(&outline.address, namespaces)?;
    let fault = |reason: &str| SimError::OpcUa(format!("signal at `{}`: {reason}", outline.address));
    let (made, declared) = types.declare(&node, &outline.shape, signals).map_err(|reason| fault(&reason))?;
    let of_node = made.signals();
    let name = match (&made, of_node.first()) {
        (Made::Signal(signal), _) => signals[*signal].id.to_string(),
        _ => node.identifier.to_string().split_once('=').map_or_else(String::new, |(_, name)| name.to_owned()),
    };
    Ok(Variable {
        node,
        name,
        made,
        declared,
        last: vec![None; of_node.len()],
        signals: of_node,
        value: None,
        is_written: false,
    })
}

impl Variable {
    fn insert(&self, space: &mut AddressSpace, has_history: bool) -> bool {
        let mut access = AccessLevel::CURRENT_READ;
        if has_history {
            access |= AccessLevel::HISTORY_READ;
        }
        let mut builder = VariableBuilder::new(&self.node, self.name.as_str(), self.name.as_str())
            .data_type(self.declared.data_type.clone())
            .value_rank(self.declared.rank)
            .value(Variant::Empty)
            .historizing(has_history)
            .access_level(access)
            .user_access_level(access)
            .organized_by(ObjectId::ObjectsFolder);
        if let Made::Array { dimensions: Some(dimensions), .. } = &self.made {
            builder = builder.array_dimensions(dimensions);
        }
        builder.insert(space)
    }
}

/// The library measures sampling intervals in source times and would keep back everything until a clock that was set back is
/// where it had been. One value without a source time, only with the server's, begins anew.
fn unless_set_back(value: DataValue, before: Option<DateTime>) -> DataValue {
    match value.source_timestamp.zip(before) {
        Some((now, before)) if now < before => DataValue { source_timestamp: None, ..value },
        _ => value,
    }
}

/// 100 ns ticks since 1601-01-01 (Part 6 §5.2.2.5) of what a clock shows.
fn ticks(shown: SystemTime) -> i64 {
    const EPOCH_TICKS: i64 = 116_444_736_000_000_000;
    let nanos = match shown.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    i64::try_from(nanos / 100).unwrap_or(i64::MAX - EPOCH_TICKS).saturating_add(EPOCH_TICKS)
}
