//! Structures and enumerations of a simulated server: made from the shapes of its nodes, shown as data type nodes with their
//! definition (OPC UA Part 3 §5.8.3), so that any client can decode the values by the server's own word.

use super::shape::Shape;
use super::value::data_type;
use crate::SignalConfig;
use opcua::server::address_space::{AddressSpace, DataTypeBuilder, ObjectBuilder};
use opcua::types::custom::{DataTypeTree, DynamicTypeLoader, EncodingIds, ParentIds, TypeInfo};
use opcua::types::{
    DataTypeDefinition, DataTypeId, EnumDefinition, EnumField, NodeId, ObjectTypeId, ReferenceTypeId,
    StructureDefinition, StructureField, StructureType, TypeLoader, VariantScalarTypeId,
};
use std::sync::Arc;
use tally_model::Encoding;

/// A node's value with everything needed to make it.
#[derive(Debug, Clone)]
pub(super) enum Made {
    Signal(usize),
    /// Elements with the last dimension next to each other; one dimension is none (Part 6 §5.2.2.16).
    Array {
        scalar: VariantScalarTypeId,
        dimensions: Option<Vec<u32>>,
        elements: Vec<Made>,
    },
    Structure {
        data_type: NodeId,
        fields: Vec<Made>,
    },
}

impl Made {
    /// The signals it is made of.
    pub(super) fn signals(&self) -> Vec<usize> {
        match self {
            Self::Signal(signal) => vec![*signal],
            Self::Array { elements: parts, .. } | Self::Structure { fields: parts, .. } => {
                parts.iter().flat_map(Self::signals).collect()
            }
        }
    }
}

/// What a variable declares.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declared {
    pub data_type: NodeId,
    /// −1 for a single value, else the number of dimensions (Part 3 §5.6.2).
    pub rank: i32,
    scalar: VariantScalarTypeId,
    /// Equal for values of equal type.
    signature: String,
}

/// The data types of a server.
#[derive(Default)]
pub(super) struct Types {
    types: Vec<DataType>,
}

struct DataType {
    id: NodeId,
    name: String,
    definition: DataTypeDefinition,
}

impl Types {
    /// Makes a node's value and declares the types it needs; `node` gives them their names.
    ///
    /// # Errors
    /// A sentence about parts that have no common type.
    pub(super) fn declare(
        &mut self,
        node: &NodeId,
        shape: &Shape,
        signals: &[SignalConfig],
    ) -> Result<(Made, Declared), String> {
        let name = node.identifier.to_string();
        let name = name.split_once('=').map_or(name.as_str(), |(_, name)| name).to_owned();
        Scope { types: self, signals, namespace: node.namespace }.declare(&name, shape, false)
    }

    /// What values are encoded by, and what the server must know to do it.
    pub(super) fn tree(&self) -> Result<Arc<DataTypeTree>, String> {
        let mut parents = ParentIds::new();
        for kind in &self.types {
            parents.add_type(kind.id.clone(), kind.parent().into());
        }
        let infos = self.types.iter().map(|kind| {
            let encodings = EncodingIds { binary_id: kind.encoding(), ..EncodingIds::default() };
            let encodings = matches!(kind.definition, DataTypeDefinition::Structure(_)).then_some(encodings);
            let (definition, name) = (kind.definition.clone(), kind.name.clone());
            let info = TypeInfo::from_type_definition(definition, name, encodings, false, &kind.id, &parents)?;
            Ok((kind.id.clone(), info))
        });
        let infos = infos.collect::<Result<Vec<_>, String>>()?;
        let mut tree = DataTypeTree::new(parents);
        for (id, info) in infos {
            tree.add_type(id, info);
        }
        Ok(Arc::new(tree))
    }

    /// Shows the types of one namespace as nodes.
    pub(super) fn insert(&self, space: &mut AddressSpace, namespace: u16) {
        for kind in self.types.iter().filter(|kind| kind.id.namespace == namespace) {
            DataTypeBuilder::new(&kind.id, kind.name.as_str(), kind.name.as_str())
                .data_type_definition(kind.definition.clone())
                .subtype_of(NodeId::from(kind.parent()))
                .insert(space);
            if matches!(kind.definition, DataTypeDefinition::Structure(_)) {
                ObjectBuilder::new(&kind.encoding(), "Default Binary", "Default Binary")
                    .has_type_definition(ObjectTypeId::DataTypeEncodingType)
                    .insert(space);
                space.insert_reference(&kind.id, &kind.encoding(), ReferenceTypeId::HasEncoding);
            }
        }
    }
}

/// Lets the server encode structures of this tree.
pub(super) fn loader(tree: &Arc<DataTypeTree>) -> Arc<dyn TypeLoader> {
    Arc::new(DynamicTypeLoader::new(Arc::clone(tree)))
}

impl DataType {
    const fn parent(&self) -> DataTypeId {
        match self.definition {
            DataTypeDefinition::Structure(_) => DataTypeId::Structure,
            DataTypeDefinition::Enum(_) => DataTypeId::Enumeration,
        }
    }

    fn encoding(&self) -> NodeId {
        NodeId::new(self.id.namespace, format!("{}.Binary", self.name))
    }
}

/// One node being declared.
struct Scope<'a> {
    types: &'a mut Types,
    signals: &'a [SignalConfig],
    namespace: u16,
}

impl Scope<'_> {
    /// `name` is the way from the node to here, as a name for a type.
    fn declare(&mut self, name: &str, shape: &Shape, is_part: bool) -> Result<(Made, Declared), String> {
        match shape {
            Shape::Signal(signal) => Ok((Made::Signal(*signal), self.signal(name, *signal, is_part)?)),
            Shape::Array(elements) => self.array(name, elements),
            Shape::Structure(fields) => self.structure(name, fields),
        }
    }

    fn signal(&mut self, name: &str, signal: usize, is_part: bool) -> Result<Declared, String> {
        let signal = &self.signals[signal];
        if let Some(labels) = &signal.labels {
            let field = |(value, label): (&i64, &String)| EnumField {
                value: *value,
                name: label.as_str().into(),
                display_name: label.as_str().into(),
                ..EnumField::default()
            };
            let fields = Some(labels.iter().map(field).collect());
            let data_type = self.add(name, DataTypeDefinition::Enum(EnumDefinition { fields }));
            return Ok(Declared::scalar(data_type, VariantScalarTypeId::Int32, format!("{labels:?}")));
        }
        if is_part && signal.encoding == Encoding::Auto {
            return Err(format!("`{}` is a part of a value and needs a `type`, for example `type: f64`", signal.id));
        }
        let data_type = NodeId::from(data_type(signal.encoding));
        let scalar = data_type.as_u32().and_then(|id| VariantScalarTypeId::try_from(id).ok());
        let scalar = scalar.unwrap_or(VariantScalarTypeId::Variant);
        Ok(Declared::scalar(data_type, scalar, format!("{:?}", signal.encoding)))
    }

    fn array(&mut self, name: &str, elements: &[Shape]) -> Result<(Made, Declared), String> {
        let count = u32::try_from(elements.len()).map_err(|_| "too many elements".to_owned())?;
        let mut made = Vec::with_capacity(elements.len());
        let mut common: Option<Declared> = None;
        for (place, element) in elements.iter().enumerate() {
            // Elements have one type, so only the first declares it.
            let before = self.types.types.len();
            let (part, declared) = self.declare(name, element, true)?;
            match &common {
                None => common = Some(declared),
                Some(first) if first.signature == declared.signature => self.types.types.truncate(before),
                Some(_) => return Err(format!("element {place} of `{name}` is not of the type of element 0")),
            }
            made.push(part);
        }
        let element = common.ok_or_else(|| format!("`{name}` has no elements"))?;
        let (dimensions, elements) = flattened(count, made);
        let signature = format!("[{}; {count}]", element.signature);
        let declared = Declared { rank: element.rank.max(0) + 1, signature, ..element };
        Ok((Made::Array { scalar: declared.scalar, dimensions, elements }, declared))
    }

    fn structure(&mut self, name: &str, parts: &[(String, Shape)]) -> Result<(Made, Declared), String> {
        let (mut fields, mut made, mut signature) = (Vec::new(), Vec::new(), String::new());
        for (field, shape) in parts {
            let (part, declared) = self.declare(&format!("{name}.{field}"), shape, true)?;
            signature += &format!("{field}: {}, ", declared.signature);
            fields.push(StructureField {
                name: field.as_str().into(),
                data_type: declared.data_type,
                value_rank: declared.rank,
                ..StructureField::default()
            });
            made.push(part);
        }
        let definition = StructureDefinition {
            default_encoding_id: NodeId::new(self.namespace, format!("{name}Type.Binary")),
            base_data_type: DataTypeId::Structure.into(),
            structure_type: StructureType::Structure,
            fields: Some(fields),
        };
        let data_type = self.add(name, DataTypeDefinition::Structure(definition));
        let declared =
            Declared::scalar(data_type.clone(), VariantScalarTypeId::ExtensionObject, format!("{{{signature}}}"));
        Ok((Made::Structure { data_type, fields: made }, declared))
    }

    fn add(&mut self, name: &str, definition: DataTypeDefinition) -> NodeId {
        let name = format!("{name}Type");
        let id = NodeId::new(self.namespace, name.as_str());
        self.types.types.push(DataType { id: id.clone(), name, definition });
        id
    }
}

impl Declared {
    const fn scalar(data_type: NodeId, scalar: VariantScalarTypeId, signature: String) -> Self {
        Self { data_type, rank: -1, scalar, signature }
    }
}

/// Rows of rows become one row with dimensions.
fn flattened(count: u32, rows: Vec<Made>) -> (Option<Vec<u32>>, Vec<Made>) {
    let inner = match rows.first() {
        Some(Made::Array { dimensions, elements, .. }) => {
            let length = u32::try_from(elements.len()).unwrap_or(u32::MAX);
            Some(dimensions.clone().unwrap_or_else(|| vec![length]))
        }
        _ => None,
    };
    let Some(inner) = inner else { return (None, rows) };
    let flat = rows.into_iter().flat_map(|row| match row {
        Made::Array { elements, .. } => elements,
        other => vec![other],
    });
    (Some(std::iter::once(count).chain(inner).collect()), flat.collect())
}
