//! Walking a server: which values it has, under which names, in which types and units. Reads and browses only.

use crate::facts::{connect_types, value_of};
use crate::visit::Visit;
use opcua::types::custom::{DataTypeTree, DynamicStructure};
use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseResult, BrowseResultMaskFlags, ByteString, DataTypeId,
    DataValue, EUInformation, ExpandedMessageInfo, NodeClass, NodeClassMask, NodeId, ObjectId, ReadValueId,
    ReferenceDescription, ReferenceTypeId, Variant,
};
use std::collections::{BTreeSet, VecDeque};
use tally_connector_api::LinkFault;
use tally_model::Address;

/// References asked for per node and request.
const REFERENCES_PER_NODE: u32 = 1_000;

/// Elements of one array, and parts of one value, that become points of their own.
const PARTS_MAX: usize = 64;

/// How deep structures are taken apart.
const PARTS_DEPTH_MAX: usize = 6;

/// Where to walk, and how far.
#[derive(Debug, Clone)]
pub struct BrowseOptions {
    /// Where to begin; the Objects folder without.
    pub from: Option<Address>,
    /// Steps away from there.
    pub depth: usize,
    /// Values at most.
    pub points_max: usize,
}

impl Default for BrowseOptions {
    fn default() -> Self {
        Self { from: None, depth: 20, points_max: 10_000 }
    }
}

/// One value of a server, as a mapping would address it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPoint {
    /// Browse names from the start to the node, then the way into its value.
    pub path: Vec<String>,
    /// `nsu=…;s=…`, with `#/…` for a part of an array or structure.
    pub address: String,
    /// Built-in type of the value (`Double`), when the server says one.
    pub kind: Option<String>,
    /// What the server calls its unit (`°C`).
    pub unit: Option<String>,
}

/// What a walk found.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The values, in the order of the walk.
    pub points: Vec<FoundPoint>,
    /// Nodes looked at.
    pub nodes: usize,
    /// Whether there was more than asked for.
    pub is_cut: bool,
}

struct Spot {
    node: NodeId,
    path: Vec<String>,
    depth: usize,
}

/// A variable on the way, before its attributes are known.
struct Variable {
    node: NodeId,
    path: Vec<String>,
    /// Its EngineeringUnits property.
    unit: Option<NodeId>,
}

impl Visit {
    /// Walks the server breadth first along hierarchical references, every node once. The server's own housekeeping
    /// (namespace 0) is left out.
    ///
    /// # Errors
    /// [`LinkFault`] when the line breaks or the server refuses to be browsed at all.
    pub async fn browse(&self, options: &BrowseOptions) -> Result<Survey, LinkFault> {
        let start = match &options.from {
            None => NodeId::from(ObjectId::ObjectsFolder),
            Some(address) => crate::plan::node_of(address, &self.facts.namespaces)
                .ok_or_else(|| LinkFault::Refused(format!("`{address}` is no node of this server")))?,
        };
        let mut seen = BTreeSet::from([start.to_string()]);
        let mut queue = VecDeque::from([Spot { node: start, path: Vec::new(), depth: 0 }]);
        let (mut variables, mut survey) = (Vec::new(), Survey::default());
        while !queue.is_empty() && !survey.is_cut {
            let count = queue.len().min(self.facts.browse_chunk());
            let spots: Vec<_> = queue.drain(..count).collect();
            survey.nodes += spots.len();
            for (spot, references) in spots.iter().zip(self.references(&spots).await?) {
                self.sort_in(spot, references, options, &mut seen, &mut queue, &mut variables);
            }
            survey.is_cut = variables.len() > options.points_max;
        }
        variables.truncate(options.points_max);
        self.describe(variables, options.points_max, &mut survey).await?;
        Ok(survey)
    }

    /// Forward hierarchical references of each spot, all pages.
    async fn references(&self, spots: &[Spot]) -> Result<Vec<Vec<ReferenceDescription>>, LinkFault> {
        let questions: Vec<_> = spots.iter().map(|spot| description(&spot.node)).collect();
        let browse = self.session.browse(&questions, REFERENCES_PER_NODE, None);
        let mut results = self.ask("browse", browse).await?;
        results.resize_with(spots.len(), BrowseResult::default);
        let mut references = Vec::with_capacity(spots.len());
        for result in results {
            let mut found = result.references.unwrap_or_default();
            let mut more = result.continuation_point;
            while !more.is_null_or_empty() {
                let pages = self.ask("browse on", self.session.browse_next(false, &[more])).await?;
                let page = pages.into_iter().next().unwrap_or_default();
                found.extend(page.references.unwrap_or_default());
                more = if page.status_code.is_good() { page.continuation_point } else { ByteString::null() };
            }
            references.push(found);
        }
        Ok(references)
    }

    fn sort_in(
        &self,
        spot: &Spot,
        references: Vec<ReferenceDescription>,
        options: &BrowseOptions,
        seen: &mut BTreeSet<String>,
        queue: &mut VecDeque<Spot>,
        variables: &mut Vec<Variable>,
    ) {
        for reference in references.into_iter().filter(|reference| reference.node_id.server_index == 0) {
            let (node, name) = (reference.node_id.node_id, reference.browse_name.name.as_ref().to_owned());
            if reference.reference_type_id == ReferenceTypeId::HasProperty {
                // Properties describe their node; the only one a mapping needs is the unit.
                if name == "EngineeringUnits"
                    && let Some(variable) = variables.iter_mut().rev().find(|variable| variable.node == spot.node)
                {
                    variable.unit = Some(node);
                }
                continue;
            }
            if node.namespace == 0 || !seen.insert(node.to_string()) {
                continue;
            }
            let path: Vec<_> = spot.path.iter().cloned().chain([name]).collect();
            if reference.node_class == NodeClass::Variable {
                variables.push(Variable { node: node.clone(), path: path.clone(), unit: None });
            }
            if spot.depth < options.depth {
                queue.push_back(Spot { node, path, depth: spot.depth + 1 });
            }
        }
    }

    /// Types, units and parts of the variables.
    async fn describe(&self, variables: Vec<Variable>, most: usize, survey: &mut Survey) -> Result<(), LinkFault> {
        let questions: Vec<_> = variables
            .iter()
            .flat_map(|variable| {
                [value_of(variable.node.clone()), ReadValueId::new(variable.node.clone(), AttributeId::DataType)]
            })
            .collect();
        let mut answers = self.read(&questions).await?;
        let has_structures = answers.iter().any(|answer| holds_structure(answer.value.as_ref()));
        let types = if has_structures { self.types().await? } else { None };
        if types.is_some() {
            // Once more, now that structures can be read.
            answers = self.read(&questions).await?;
        }
        let units: Vec<_> = variables.iter().filter_map(|variable| variable.unit.clone()).map(value_of).collect();
        let mut units = self.read(&units).await?.into_iter();
        for (variable, pair) in variables.into_iter().zip(answers.chunks(2)) {
            let unit = variable.unit.as_ref().and_then(|_| unit_of(units.next()?));
            let declared = declared(&pair[1]);
            let address = self.address_of(&variable.node);
            let mut parts = Vec::new();
            match &pair[0].value {
                Some(value @ (Variant::Array(_) | Variant::ExtensionObject(_))) => {
                    take_apart(value, &mut Vec::new(), types.as_deref(), &mut parts);
                }
                _ => parts.push((Vec::new(), declared)),
            }
            for (tokens, kind) in parts {
                if survey.points.len() >= most {
                    survey.is_cut = true;
                    return Ok(());
                }
                let pointer: String = tokens.iter().map(|token| format!("/{}", escaped(token))).collect();
                let whole = if tokens.is_empty() && address.contains('#') { "#" } else { "" };
                let address =
                    if tokens.is_empty() { format!("{address}{whole}") } else { format!("{address}#{pointer}") };
                let path = variable.path.iter().cloned().chain(tokens).collect();
                survey.points.push(FoundPoint { path, address, kind, unit: unit.clone() });
            }
        }
        Ok(())
    }

    async fn types(&self) -> Result<Option<std::sync::Arc<DataTypeTree>>, LinkFault> {
        connect_types(&self.session, &self.facts).await
    }
}

fn description(node: &NodeId) -> BrowseDescription {
    BrowseDescription {
        node_id: node.clone(),
        browse_direction: BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        include_subtypes: true,
        node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE).bits(),
        result_mask: (BrowseResultMaskFlags::ReferenceTypeId
            | BrowseResultMaskFlags::NodeClass
            | BrowseResultMaskFlags::BrowseName)
            .bits(),
    }
}

fn holds_structure(value: Option<&Variant>) -> bool {
    match value {
        Some(Variant::ExtensionObject(_)) => true,
        Some(Variant::Array(array)) => matches!(array.values.first(), Some(Variant::ExtensionObject(_))),
        _ => false,
    }
}

/// The leaves of a value, with the way to each. What cannot be a point is left out.
fn take_apart(
    value: &Variant,
    way: &mut Vec<String>,
    types: Option<&DataTypeTree>,
    parts: &mut Vec<(Vec<String>, Option<String>)>,
) {
    if way.len() > PARTS_DEPTH_MAX || parts.len() >= PARTS_MAX {
        return;
    }
    match value {
        Variant::Array(array) if array.dimensions.as_ref().is_none_or(|dimensions| dimensions.len() <= 1) => {
            for (place, element) in array.values.iter().enumerate() {
                way.push(place.to_string());
                take_apart(element, way, types, parts);
                way.pop();
            }
        }
        Variant::ExtensionObject(object) => {
            let Some((structure, types)) = object.inner_as::<DynamicStructure>().zip(types) else { return };
            let Some(info) = types.get_struct_type(&structure.full_data_type_id().node_id) else { return };
            for field in &info.fields {
                let pointer = format!("/{}", escaped(&field.name));
                if let Some(inner) = crate::path::at(value, &pointer, Some(types)) {
                    way.push(field.name.clone());
                    take_apart(inner, way, Some(types), parts);
                    way.pop();
                }
            }
        }
        scalar => {
            let kind = scalar.scalar_type_id().map(|kind| kind.to_string());
            if crate::decode::natural(scalar).is_ok() {
                parts.push((way.clone(), kind));
            }
        }
    }
}

/// RFC 6901 §3.
fn escaped(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// The built-in type a variable declares.
fn declared(answer: &DataValue) -> Option<String> {
    let Some(Variant::NodeId(data_type)) = &answer.value else { return None };
    let number = data_type.as_u32().filter(|number| data_type.namespace == 0 && (1..=25).contains(number))?;
    DataTypeId::try_from(number).ok().map(|kind| format!("{kind:?}"))
}

fn unit_of(answer: DataValue) -> Option<String> {
    let Some(Variant::ExtensionObject(object)) = answer.value else { return None };
    let unit = object.into_inner_as::<EUInformation>()?;
    let shown = unit.display_name.text.as_ref().trim().to_owned();
    (!shown.is_empty()).then_some(shown)
}
