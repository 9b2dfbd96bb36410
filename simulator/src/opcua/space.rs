//! The address space of a simulated server: one variable per signal, kept at what the plant says.

use crate::{PlantState, SignalConfig, SignalView, SimError};
use opcua::server::ServerBuilder;
use opcua::server::ServerHandle;
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::types::{DataTypeId, DataValue, DateTime, Identifier, NodeId, ObjectId, StatusCode, Variant};
use std::collections::BTreeMap;
use std::str::FromStr;
use tally_model::{Address, DeviceId, Encoding, Quality, Value};

/// Index of the first namespace that is ours: 0 is OPC UA's, 1 the server's own (OPC UA Part 3 §8.2.2).
const FIRST_INDEX: u16 = 2;

/// The variables of a server.
pub(crate) struct Space {
    /// Namespace URIs in index order from [`FIRST_INDEX`]; each has a node manager of that name.
    namespaces: Vec<String>,
    variables: Vec<Variable>,
}

struct Variable {
    signal: SignalConfig,
    node: NodeId,
    /// What was written last; only changes are written.
    last: Option<SignalView>,
}

impl Space {
    /// Lays out namespaces and nodes and adds them to the server to be built.
    pub(crate) fn plan(signals: &[SignalConfig], builder: ServerBuilder) -> Result<(Self, ServerBuilder), SimError> {
        let namespaces = namespaces(signals);
        let variables = signals.iter().map(|signal| variable(signal, &namespaces)).collect::<Result<_, _>>()?;
        let builder = namespaces.iter().fold(builder, |builder, uri| {
            let metadata = NamespaceMetadata { namespace_uri: uri.clone(), ..NamespaceMetadata::default() };
            builder.with_node_manager(simple_node_manager(metadata, uri))
        });
        Ok((Self { namespaces, variables }, builder))
    }

    /// Makes the nodes in the built server.
    pub(crate) fn create(&self, handle: &ServerHandle) -> Result<(), SimError> {
        for (uri, index) in self.namespaces.iter().zip(FIRST_INDEX..) {
            if handle.get_namespace_index(uri) != Some(index) {
                return Err(SimError::OpcUa(format!("namespace `{uri}` did not get index {index}")));
            }
            let manager = manager(handle, uri)?;
            let mut space = manager.address_space().write();
            for variable in self.variables.iter().filter(|variable| variable.node.namespace == index) {
                let name = variable.signal.id.as_str();
                let made = VariableBuilder::new(&variable.node, name, name)
                    .data_type(data_type(variable.signal.encoding))
                    .value(Variant::Empty)
                    .organized_by(ObjectId::ObjectsFolder)
                    .insert(&mut *space);
                if !made {
                    return Err(SimError::OpcUa(format!("two signals at node `{}`", variable.node)));
                }
            }
        }
        Ok(())
    }

    /// Writes what has changed, stamped with the time of now.
    pub(crate) fn update(
        &mut self,
        handle: &ServerHandle,
        device: &DeviceId,
        state: &PlantState,
    ) -> Result<(), SimError> {
        let now = DateTime::now();
        let mut changed: BTreeMap<u16, Vec<(&NodeId, DataValue)>> = BTreeMap::new();
        for variable in &mut self.variables {
            let Some(view) = state.view(device.as_str(), variable.signal.id.as_str()) else { continue };
            if variable.last.as_ref() != Some(&view) {
                let value = data_value(&variable.signal, &view, now);
                changed.entry(variable.node.namespace).or_default().push((&variable.node, value));
                variable.last = Some(view);
            }
        }
        for (index, values) in changed {
            let Some(uri) = self.namespaces.get(usize::from(index - FIRST_INDEX)) else { continue };
            let values = values.into_iter().map(|(node, value)| (node, None, value));
            let written = manager(handle, uri)?.set_values(handle.subscriptions(), values);
            written.map_err(|status| SimError::OpcUa(format!("values of `{device}` cannot be set: {status}")))?;
        }
        Ok(())
    }
}

fn manager(handle: &ServerHandle, uri: &str) -> Result<std::sync::Arc<SimpleNodeManager>, SimError> {
    let manager = handle.node_managers().get_by_name::<SimpleNodeManager>(uri);
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

fn variable(signal: &SignalConfig, namespaces: &[String]) -> Result<Variable, SimError> {
    let fault = |reason: &str| SimError::OpcUa(format!("signal `{}` at `{}`: {reason}", signal.id, signal.address));
    let Address::OpcUa { namespace, index, identifier, .. } = &signal.address else {
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
    Ok(Variable { signal: signal.clone(), node: NodeId::new(index, identifier), last: None })
}

fn data_type(encoding: Encoding) -> DataTypeId {
    match encoding {
        Encoding::Bool => DataTypeId::Boolean,
        Encoding::U8 => DataTypeId::Byte,
        Encoding::I8 => DataTypeId::SByte,
        Encoding::U16 | Encoding::Bcd16 => DataTypeId::UInt16,
        Encoding::I16 => DataTypeId::Int16,
        Encoding::U32 | Encoding::Bcd32 => DataTypeId::UInt32,
        Encoding::I32 => DataTypeId::Int32,
        Encoding::U64 | Encoding::Bcd64 => DataTypeId::UInt64,
        Encoding::I64 => DataTypeId::Int64,
        Encoding::F16 | Encoding::F32 => DataTypeId::Float,
        Encoding::F64 => DataTypeId::Double,
        Encoding::Text | Encoding::TextLow | Encoding::TextHigh => DataTypeId::String,
        Encoding::Auto => DataTypeId::BaseDataType,
    }
}

fn data_value(signal: &SignalConfig, view: &SignalView, now: DateTime) -> DataValue {
    let status = match view.quality {
        Quality::Good => StatusCode::Good,
        Quality::Uncertain => StatusCode::UncertainSensorNotAccurate,
        Quality::Bad => StatusCode::BadSensorFailure,
    };
    DataValue {
        value: Some(variant(signal, &view.value)),
        status: Some(status),
        source_timestamp: Some(now),
        server_timestamp: Some(now),
        ..DataValue::default()
    }
}

/// The value in the signal's type; one that does not fit is sent as what it is.
fn variant(signal: &SignalConfig, value: &Value) -> Variant {
    let is_scaled = signal.scale.to_bits() != 1.0_f64.to_bits() || signal.offset != 0.0;
    match value.as_f64() {
        // Raw = (value − offset) ÷ scale, as a reader will undo it.
        Some(number) if is_scaled && !matches!(value, Value::Bool(_)) => {
            typed(signal.encoding, &Value::Float((number - signal.offset) / signal.scale))
        }
        _ => typed(signal.encoding, value),
    }
}

fn typed(encoding: Encoding, value: &Value) -> Variant {
    let natural = match value {
        Value::Bool(flag) => Variant::from(*flag),
        Value::Integer(number) => Variant::from(*number),
        Value::Unsigned(number) => Variant::from(*number),
        Value::Float(number) => Variant::from(*number),
        Value::Text(text) => Variant::from(text.as_str()),
    };
    let type_id = match encoding {
        Encoding::Auto => return natural,
        other => data_type(other),
    };
    let rounded = match (&natural, encoding) {
        (Variant::Double(number), Encoding::F32 | Encoding::F64) => Variant::from(*number),
        (Variant::Double(number), _) => Variant::from(number.round()),
        _ => natural.clone(),
    };
    match opcua::types::VariantScalarTypeId::try_from(type_id as u32).map(|type_id| rounded.cast(type_id)) {
        Ok(Variant::Empty) | Err(_) => natural,
        Ok(cast) => cast,
    }
}
