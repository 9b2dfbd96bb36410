//! The node manager of a simulated server: variables in memory, with a past, and as slow as the plant says.

use super::history::History;
use async_trait::async_trait;
use opcua::server::ContinuationPoint;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{
    InMemoryNodeManager, InMemoryNodeManagerBuilder, InMemoryNodeManagerImpl, InMemoryNodeManagerImplBuilder,
};
use opcua::server::node_manager::{HistoryNode, NodeManagerBuilder, ParsedReadValueId, RequestContext, ServerContext};
use opcua::sync::RwLock;
use opcua::types::{DataValue, DateTime, HistoryData, ReadRawModifiedDetails, StatusCode, TimestampsToReturn};
use std::sync::Arc;
use std::time::Duration;

/// All nodes of one namespace.
pub(super) type Machine = InMemoryNodeManager<MachineImpl>;

/// How slowly requests are answered at this moment.
pub(super) type Slowness = Arc<dyn Fn() -> Duration + Send + Sync>;

pub(super) struct MachineImpl {
    namespace: NamespaceMetadata,
    history: Option<Arc<History>>,
    slowness: Slowness,
}

struct Builder {
    uri: String,
    history: Option<Arc<History>>,
    slowness: Slowness,
}

/// A manager for the namespace `uri`, which is also its name.
pub(super) fn machine(uri: &str, history: Option<Arc<History>>, slowness: Slowness) -> impl NodeManagerBuilder + use<> {
    InMemoryNodeManagerBuilder::new(Builder { uri: uri.to_owned(), history, slowness })
}

impl InMemoryNodeManagerImplBuilder for Builder {
    type Impl = MachineImpl;

    fn build(self, context: ServerContext, address_space: &mut AddressSpace) -> MachineImpl {
        let mut namespace = NamespaceMetadata { namespace_uri: self.uri, ..NamespaceMetadata::default() };
        namespace.namespace_index = context.type_tree.write().namespaces_mut().add_namespace(&namespace.namespace_uri);
        address_space.add_namespace(&namespace.namespace_uri, namespace.namespace_index);
        MachineImpl { namespace, history: self.history, slowness: self.slowness }
    }
}

impl MachineImpl {
    async fn dawdle(&self) {
        let slowness = (self.slowness)();
        if !slowness.is_zero() {
            tokio::time::sleep(slowness).await;
        }
    }
}

#[async_trait]
impl InMemoryNodeManagerImpl for MachineImpl {
    async fn init(&self, _address_space: &mut AddressSpace, _context: ServerContext) {}

    fn name(&self) -> &str {
        &self.namespace.namespace_uri
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        vec![self.namespace.clone()]
    }

    /// Also what the first value of a new monitored item comes from.
    async fn read_values(
        &self,
        context: &RequestContext,
        address_space: &RwLock<AddressSpace>,
        nodes: &[&ParsedReadValueId],
        max_age: f64,
        timestamps: TimestampsToReturn,
    ) -> Vec<DataValue> {
        self.dawdle().await;
        let space = address_space.read();
        nodes.iter().map(|node| space.read(context, node, max_age, timestamps)).collect()
    }

    async fn history_read_raw_modified(
        &self,
        _context: &RequestContext,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        _timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let history = self.history.as_ref().ok_or(StatusCode::BadHistoryOperationUnsupported)?;
        if details.is_read_modified {
            return Err(StatusCode::BadHistoryOperationUnsupported);
        }
        self.dawdle().await;
        for node in nodes {
            let from = node.continuation_point().map(|point| point.get::<DateTime>().copied());
            let Some(from) = from.unwrap_or(Some(details.start_time)) else {
                node.set_status(StatusCode::BadContinuationPointInvalid);
                continue;
            };
            let page = history.page(node.node_id(), from, details.end_time, details.num_values_per_node);
            node.set_next_continuation_point(page.next.map(|next| ContinuationPoint::new(Box::new(next))));
            node.set_result(HistoryData { data_values: Some(page.values) });
            node.set_status(StatusCode::Good);
        }
        Ok(())
    }
}
