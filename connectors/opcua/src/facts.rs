//! What a server says about itself before anything is asked of it: namespaces, limits, types.

use crate::error::link_fault;
use crate::outlet::Outlet;
use crate::plan::{ITEMS_MAX, Plan};
use crate::session::Connection;
use opcua::client::Session;
use opcua::client::browser::BrowserConfig;
use opcua::client::custom_types::DataTypeTreeBuilder;
use opcua::types::custom::{DataTypeTree, DynamicTypeLoader};
use opcua::types::{AttributeId, DataValue, Error, NodeId, ReadValueId, TimestampsToReturn, VariableId, Variant};
use std::sync::Arc;
use tally_connector_api::LinkFault;
use tally_model::{OpcUaLimits, identity_of};

/// What a server tells about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerFacts {
    /// Namespace URIs by index.
    pub(crate) namespaces: Vec<String>,
    pub(crate) items_per_call: Option<usize>,
    pub(crate) nodes_per_read: Option<usize>,
    pub(crate) nodes_per_browse: Option<usize>,
    pub(crate) nodes_per_history_read: Option<usize>,
}

/// The nodes to read, in the order in which [`ServerFacts::from_answers`] takes them.
pub(crate) fn questions() -> [ReadValueId; 5] {
    [
        VariableId::Server_NamespaceArray,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    ]
    .map(|id| value_of(id.into()))
}

impl ServerFacts {
    /// `None` when the server sent no namespaces.
    pub(crate) fn from_answers(answers: Vec<DataValue>) -> Option<Self> {
        let mut answers = answers.into_iter().map(|answer| answer.value);
        let Some(Some(Variant::Array(array))) = answers.next() else { return None };
        let namespaces = array.values.iter().map(|name| match name {
            Variant::String(uri) => uri.as_ref().to_owned(),
            _ => String::new(),
        });
        // Optional; 0 and absent mean no limit (Part 5 §6.3.11).
        let mut limit = || {
            let number = answers.next().flatten().and_then(|value| value.try_cast_to::<u32>().ok())?;
            usize::try_from(number).ok().filter(|number| *number > 0)
        };
        Some(Self {
            namespaces: namespaces.collect(),
            items_per_call: limit(),
            nodes_per_read: limit(),
            nodes_per_browse: limit(),
            nodes_per_history_read: limit(),
        })
    }

    /// Obeys what the mapping knows as well; the smaller number counts.
    pub(crate) fn within(mut self, limits: &OpcUaLimits) -> Self {
        let less = |said: &mut Option<usize>, known: Option<u32>| {
            let known = known.and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0);
            *said = said.iter().copied().chain(known).min();
        };
        less(&mut self.items_per_call, limits.items_per_call);
        less(&mut self.nodes_per_read, limits.nodes_per_read);
        less(&mut self.nodes_per_browse, limits.nodes_per_browse);
        self
    }

    /// Nodes in one read request.
    pub(crate) fn read_chunk(&self) -> usize {
        self.nodes_per_read.unwrap_or(ITEMS_MAX).clamp(1, ITEMS_MAX)
    }

    /// Items in one request that creates them.
    pub(crate) fn items_chunk(&self) -> usize {
        self.items_per_call.unwrap_or(ITEMS_MAX).clamp(1, ITEMS_MAX)
    }

    /// Nodes in one browse request.
    pub(crate) fn browse_chunk(&self) -> usize {
        self.nodes_per_browse.unwrap_or(100).clamp(1, ITEMS_MAX)
    }
}

impl Connection {
    /// Reads namespaces and limits anew; both may change whenever the server restarts.
    pub(crate) async fn read_facts(&mut self, limits: &OpcUaLimits, outlet: &mut Outlet) -> Result<(), LinkFault> {
        let session = Arc::clone(&self.session);
        let asked = "read the namespace array";
        let read = async move { session.read(&questions(), TimestampsToReturn::Neither, 0.0).await };
        let answers = self.drive(outlet, asked, read).await?;
        let facts = ServerFacts::from_answers(answers)
            .ok_or_else(|| LinkFault::Nonsense(format!("{asked}: the server sent no array")))?;
        self.facts = facts.within(limits);
        Ok(())
    }

    /// Learns the server's structures when a point looks into one. Without them such points say that they make no sense;
    /// the others are not concerned.
    pub(crate) async fn load_types(&mut self, plans: &[Plan], outlet: &mut Outlet) -> Result<(), LinkFault> {
        if !plans.iter().any(Plan::needs_types) {
            return Ok(());
        }
        let (session, facts) = (Arc::clone(&self.session), self.facts.clone());
        let learn = async move { Ok::<_, Error>(learn_types(&session, &facts).await) };
        match self.drive(outlet, LEARN, learn).await? {
            Ok(types) => {
                outlet.set_types(types);
                Ok(())
            }
            Err(fault) => unless_the_line(&fault),
        }
    }
}

const LEARN: &str = "learn the server's data types";

/// Reads the server's type information (Part 3 §5.8.3, DataTypeDefinition) and lets the session decode with it.
async fn learn_types(session: &Session, facts: &ServerFacts) -> Result<Arc<DataTypeTree>, Error> {
    let config = BrowserConfig::new().max_nodes_per_request(facts.browse_chunk()).max_concurrent_requests(1);
    session.read_namespace_array().await?;
    let builder = DataTypeTreeBuilder::new(|_| true).config(config).values_per_read(facts.read_chunk());
    let types = Arc::new(builder.build(session).await?);
    session.add_type_loader(Arc::new(DynamicTypeLoader::new(Arc::clone(&types))));
    Ok(types)
}

/// As [`learn_types`], for a session that moves by itself; `None` when the server does not tell.
pub(crate) async fn connect_types(
    session: &Session,
    facts: &ServerFacts,
) -> Result<Option<Arc<DataTypeTree>>, LinkFault> {
    match learn_types(session, facts).await {
        Ok(types) => Ok(Some(types)),
        Err(fault) => unless_the_line(&fault).map(|()| None),
    }
}

/// A server that hides its types only costs the points inside structures.
fn unless_the_line(fault: &Error) -> Result<(), LinkFault> {
    match link_fault(LEARN, fault.status(), &fault.to_string()) {
        line @ LinkFault::Line(_) => Err(line),
        other => {
            tracing::warn!(fault = %other, "points inside structures cannot be read from this server");
            Ok(())
        }
    }
}

/// Where a server says who made it and which version it is (Part 5 §12.4, BuildInfo).
fn build_info() -> [ReadValueId; 4] {
    [
        VariableId::Server_ServerStatus_BuildInfo_ManufacturerName,
        VariableId::Server_ServerStatus_BuildInfo_ProductName,
        VariableId::Server_ServerStatus_BuildInfo_SoftwareVersion,
        VariableId::Server_ServerStatus_BuildInfo_BuildNumber,
    ]
    .map(|id| value_of(id.into()))
}

/// What the answers say, and under which URI the server presents itself. A server that hides its build says nothing.
fn identity_from(answers: &[DataValue], application_uri: &str) -> Option<String> {
    let text = |answer: &DataValue| match &answer.value {
        Some(Variant::String(text)) => text.as_ref().to_owned(),
        _ => String::new(),
    };
    let mut said: Vec<String> = answers.iter().map(text).collect();
    identity_of(said.iter().map(String::as_str))?;
    said.push(application_uri.to_owned());
    identity_of(said.iter().map(String::as_str))
}

impl Connection {
    /// What the server calls itself: maker, product, version, build, application. `None` when it does not tell. It cannot change while
    /// the session lasts.
    pub(crate) async fn read_identity(&mut self, outlet: &mut Outlet) -> Result<Option<String>, LinkFault> {
        let session = Arc::clone(&self.session);
        let read = async move { session.read(&build_info(), TimestampsToReturn::Neither, 0.0).await };
        match self.drive(outlet, "read who made the server", read).await {
            Ok(answers) => Ok(identity_from(&answers, &self.application_uri)),
            Err(line @ LinkFault::Line(_)) => Err(line),
            Err(_) => Ok(None),
        }
    }
}

/// The value attribute of a node.
pub(crate) fn value_of(node_id: NodeId) -> ReadValueId {
    ReadValueId { node_id, attribute_id: AttributeId::Value as u32, ..ReadValueId::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::{Array, VariantScalarTypeId};

    #[test]
    fn a_server_that_hides_its_build_calls_itself_nothing() {
        let told = ["Acme", "Press 7", "2.3", "1711"].map(|text| DataValue::value_only(Variant::from(text)));
        assert_eq!(identity_from(&told, "urn:press").unwrap(), "Acme; Press 7; 2.3; 1711; urn:press");
        let hidden = [(); 4].map(|()| DataValue::value_only(Variant::Empty));
        assert_eq!(identity_from(&hidden, "urn:press"), None);
        assert_eq!(identity_from(&[], "urn:press"), None);
    }

    #[test]
    fn the_smaller_of_two_limits_counts_and_zero_is_none() {
        let uris = ["a", "b"].map(Variant::from).to_vec();
        let array = Array::new(VariantScalarTypeId::String, uris).unwrap();
        let answers = [Variant::Array(Box::new(array)), 500_u32.into(), 0_u32.into(), Variant::Empty, 7_u32.into()];
        let answers = answers.map(DataValue::value_only).to_vec();
        let limits = OpcUaLimits { items_per_call: Some(20), nodes_per_read: Some(3_000), ..OpcUaLimits::default() };
        let facts = ServerFacts::from_answers(answers).unwrap().within(&limits);
        assert_eq!(facts.namespaces, ["a", "b"]);
        assert_eq!((facts.items_chunk(), facts.read_chunk(), facts.browse_chunk()), (20, ITEMS_MAX, 100));
        assert_eq!(facts.nodes_per_history_read, Some(7));
        assert!(ServerFacts::from_answers(Vec::new()).is_none());
    }
}
