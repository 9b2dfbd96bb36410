//! The methods of conditions. They belong to the types of OPC UA's own namespace, whose node manager does not know them, so
//! this one stands before it and owns nothing else.

use super::alarms::Alarms;
use async_trait::async_trait;
use opcua::server::address_space::DefaultTypeTree;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::{MethodCall, NodeManager, RequestContext, ServerContext};
use opcua::types::{MethodId, NodeId, StatusCode, Variant};

pub(super) struct ConditionMethods(pub(super) Alarms);

/// Which method a node id of namespace 0 is.
fn method(id: &NodeId) -> Option<MethodId> {
    let number = id.as_u32().filter(|_| id.namespace == 0)?;
    MethodId::try_from(number).ok().filter(|method| {
        matches!(
            method,
            MethodId::ConditionType_ConditionRefresh
                | MethodId::AcknowledgeableConditionType_Acknowledge
                | MethodId::AcknowledgeableConditionType_Confirm
        )
    })
}

#[async_trait]
impl NodeManager for ConditionMethods {
    fn owns_node(&self, id: &NodeId) -> bool {
        method(id).is_some()
    }

    fn name(&self) -> &'static str {
        "conditions"
    }

    fn namespaces_for_user(&self, _context: &RequestContext) -> Vec<NamespaceMetadata> {
        Vec::new()
    }

    async fn init(&self, _types: &mut DefaultTypeTree, _context: ServerContext) {}

    async fn call(&self, _context: &RequestContext, calls: &mut [&mut MethodCall]) -> Result<(), StatusCode> {
        for call in calls {
            let status = match (method(call.method_id()), call.arguments()) {
                (Some(MethodId::ConditionType_ConditionRefresh), _) => {
                    self.0.refresh();
                    StatusCode::Good
                }
                (Some(method), [Variant::ByteString(event), _comment]) => {
                    let is_confirmation = method == MethodId::AcknowledgeableConditionType_Confirm;
                    self.0.answer(call.object_id(), event, is_confirmation)
                }
                _ => StatusCode::BadArgumentsMissing,
            };
            call.set_status(status);
        }
        Ok(())
    }
}
