//! The writing half: values written, methods called. A capability, not a feature of a link: no mapping leads here, and
//! whoever holds a [`Hand`] can move a machine. It is meant for one holder, the agent's gate.
//!
//! Nothing is guessed: a value goes over the wire in the node's own type or not at all, and every write and call is logged.

use crate::Settings;
use crate::acknowledge::acknowledgement;
use crate::facts::value_of;
use crate::plan::node_of;
use crate::visit::Visit;
use opcua::types::{
    Argument, AttributeId, BrowseDescription, BrowseDirection, BrowseResultMaskFlags, CallMethodRequest, DataValue,
    NodeClassMask, NodeId, ReadValueId, ReferenceTypeId, StatusCode, Variant, VariantScalarTypeId, WriteValue,
};
use std::time::Duration;
use tally_connector_api::LinkFault;
use tally_model::{Address, NoValue, OpcUaLimits, Outcome, Security, Value};

/// Why nothing was written or called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandFault {
    /// The session could not be had, or broke. After a break nobody knows whether the server did it.
    #[error(transparent)]
    Link(#[from] LinkFault),
    /// The address names no node of this server.
    #[error("`{0}` is no node of this server")]
    NoSuchNode(String),
    /// The server tells nothing about this condition, so there is nothing to acknowledge.
    #[error("`{0}`: the server tells nothing that could be acknowledged; the alarm may be over, or its address wrong")]
    NothingToAcknowledge(String),
    /// The value is not one of the node's type.
    #[error("`{node}` takes {wanted}, and `{found}` is none; nothing was sent")]
    Type {
        /// Which node.
        node: String,
        /// Its type.
        wanted: String,
        /// What was to be written.
        found: String,
    },
    /// A method wants other arguments.
    #[error("`{method}` takes {wanted} arguments, found {found}; nothing was sent")]
    Arguments {
        /// Which method.
        method: String,
        /// How many it takes.
        wanted: usize,
        /// How many there were.
        found: usize,
    },
    /// The server said no.
    #[error("`{node}`: the server said {status}")]
    Refused {
        /// Which node.
        node: String,
        /// Its word.
        status: String,
    },
}

/// The right to write to one server.
pub struct Hand {
    visit: Visit,
}

impl Hand {
    /// Opens a session of its own.
    ///
    /// # Errors
    /// [`LinkFault`], as a link would say it.
    pub async fn open(
        url: &str,
        security: &Security,
        settings: &Settings,
        limits: &OpcUaLimits,
        timeout: Duration,
    ) -> Result<Self, LinkFault> {
        Ok(Self { visit: Visit::open(url, security, settings, limits, timeout).await? })
    }

    /// Writes the value of a node, in the node's own type; times and status are left to the server.
    ///
    /// # Errors
    /// [`HandFault`]; nothing was written unless it is [`HandFault::Link`], after which it is not known.
    pub async fn write(&self, address: &Address, value: &Value) -> Result<(), HandFault> {
        let node = self.node(address)?;
        let wanted = self.type_of(&node, address).await?;
        let variant = exactly(value, wanted).ok_or_else(|| HandFault::Type {
            node: address.to_string(),
            wanted: wanted.to_string(),
            found: value.to_string(),
        })?;
        let write = WriteValue {
            node_id: node,
            attribute_id: AttributeId::Value as u32,
            value: DataValue::value_only(variant),
            ..WriteValue::default()
        };
        let writes = [write];
        let statuses = self.visit.ask("write a value", self.visit.session.write(&writes)).await?;
        let status = statuses.first().copied().unwrap_or(StatusCode::BadUnexpectedError);
        tracing::info!(%address, %value, %status, "value written");
        refused_unless_good(address, status)
    }

    /// Reads the value of a node now: what it holds after it was written.
    ///
    /// # Errors
    /// [`HandFault`]; nothing is written in any case.
    pub async fn read(&self, address: &Address) -> Result<Outcome, HandFault> {
        let answers = self.visit.read(&[value_of(self.node(address)?)]).await?;
        let Some(answer) = answers.into_iter().next() else { return Err(HandFault::NoSuchNode(address.to_string())) };
        refused_unless_good(address, answer.status())?;
        Ok(answer.value.as_ref().map_or(Err(NoValue::Nonsense), crate::decode::natural))
    }

    /// Calls a method of an object and gives what it answers. Arguments go in the types the method declares.
    ///
    /// # Errors
    /// [`HandFault`]; nothing was called unless it is [`HandFault::Link`], after which it is not known.
    pub async fn call(
        &self,
        object: &Address,
        method: &Address,
        arguments: &[Value],
    ) -> Result<Vec<Outcome>, HandFault> {
        let (object_id, method_id) = (self.node(object)?, self.node(method)?);
        let declared = self.arguments_of(&method_id).await?;
        if declared.len() != arguments.len() {
            return Err(HandFault::Arguments {
                method: method.to_string(),
                wanted: declared.len(),
                found: arguments.len(),
            });
        }
        let typed = declared.iter().zip(arguments).map(|(argument, value)| {
            let wanted = builtin(&argument.data_type).filter(|_| argument.value_rank < 0);
            wanted.and_then(|wanted| exactly(value, wanted)).ok_or_else(|| HandFault::Type {
                node: format!("{method}, argument `{}`", argument.name),
                wanted: wanted.map_or_else(|| argument.data_type.to_string(), |wanted| wanted.to_string()),
                found: value.to_string(),
            })
        });
        let input_arguments = Some(typed.collect::<Result<Vec<_>, _>>()?);
        let request = CallMethodRequest { object_id, method_id, input_arguments };
        let result = self.visit.ask("call a method", self.visit.session.call_one(request)).await?;
        tracing::info!(%object, %method, status = %result.status_code, "method called");
        refused_unless_good(method, result.status_code)?;
        Ok(result.output_arguments.unwrap_or_default().iter().map(crate::decode::natural).collect())
    }

    /// Acknowledges what an alarm is now, with a comment for the operators of the server (Part 9 §5.7.3). `alarm` names the
    /// condition, whichever of its parts.
    ///
    /// # Errors
    /// [`HandFault`]; nothing was acknowledged unless it is [`HandFault::Link`], after which it is not known.
    pub async fn acknowledge(&self, alarm: &Address, comment: &str) -> Result<(), HandFault> {
        let condition = node_of(alarm, &self.visit.facts.namespaces)
            .filter(|_| matches!(alarm, Address::OpcUa { alarm: Some(_), .. }))
            .ok_or_else(|| HandFault::NoSuchNode(alarm.to_string()))?;
        let event = self.visit.present_event(&condition).await?;
        let event = event.ok_or_else(|| HandFault::NothingToAcknowledge(alarm.to_string()))?;
        let request = acknowledgement(condition, event, comment);
        let result = self.visit.ask("acknowledge an alarm", self.visit.session.call_one(request)).await?;
        tracing::info!(%alarm, comment, status = %result.status_code, "alarm acknowledged");
        refused_unless_good(alarm, result.status_code)
    }

    /// Ends the session.
    pub async fn close(self) {
        self.visit.close().await;
    }

    fn node(&self, address: &Address) -> Result<NodeId, HandFault> {
        let whole = !matches!(address, Address::OpcUa { pointer: Some(_), .. } | Address::OpcUa { alarm: Some(_), .. });
        let node = node_of(address, &self.visit.facts.namespaces).filter(|_| whole);
        node.ok_or_else(|| HandFault::NoSuchNode(address.to_string()))
    }

    /// The built-in type of the node's scalar value: what it holds now, else what it declares.
    async fn type_of(&self, node: &NodeId, address: &Address) -> Result<VariantScalarTypeId, HandFault> {
        let questions = [value_of(node.clone()), ReadValueId::new(node.clone(), AttributeId::DataType)];
        let answers = self.visit.read(&questions).await?;
        if answers.iter().any(|answer| answer.status() == StatusCode::BadNodeIdUnknown) {
            return Err(HandFault::NoSuchNode(address.to_string()));
        }
        let held = answers[0].value.as_ref().and_then(Variant::scalar_type_id);
        let declared = match answers[1].value.as_ref() {
            Some(Variant::NodeId(data_type)) => builtin(data_type),
            _ => None,
        };
        let is_array = matches!(answers[0].value, Some(Variant::Array(_)));
        held.or(declared).filter(|_| !is_array).ok_or_else(|| HandFault::Type {
            node: address.to_string(),
            wanted: "an array, a structure or an unknown type".to_owned(),
            found: "a single value".to_owned(),
        })
    }

    /// What a method declares as its arguments; none when it declares nothing.
    async fn arguments_of(&self, method: &NodeId) -> Result<Vec<Argument>, HandFault> {
        let browse = [BrowseDescription {
            node_id: method.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HasProperty.into(),
            include_subtypes: true,
            node_class_mask: NodeClassMask::VARIABLE.bits(),
            result_mask: BrowseResultMaskFlags::BrowseName.bits(),
        }];
        let results = self.visit.ask("browse a method", self.visit.session.browse(&browse, 100, None)).await?;
        let references = results.into_iter().flat_map(|result| result.references.unwrap_or_default());
        let inputs = references.into_iter().find(|found| found.browse_name.name.as_ref() == "InputArguments");
        let Some(inputs) = inputs else { return Ok(Vec::new()) };
        let answers = self.visit.read(&[value_of(inputs.node_id.node_id)]).await?;
        let Some(Some(Variant::Array(array))) = answers.into_iter().next().map(|answer| answer.value) else {
            return Ok(Vec::new());
        };
        let objects = array.values.into_iter().filter_map(|value| match value {
            Variant::ExtensionObject(object) => object.into_inner_as::<Argument>(),
            _ => None,
        });
        Ok(objects.map(|argument| *argument).collect())
    }
}

fn refused_unless_good(address: &Address, status: StatusCode) -> Result<(), HandFault> {
    if status.is_good() {
        return Ok(());
    }
    Err(HandFault::Refused { node: address.to_string(), status: status.to_string() })
}

/// The built-in type behind a data type of namespace 0.
fn builtin(data_type: &NodeId) -> Option<VariantScalarTypeId> {
    let number = data_type.as_u32().filter(|_| data_type.namespace == 0)?;
    VariantScalarTypeId::try_from(number).ok()
}

/// The value in this type, if it can be said in it without loss.
fn exactly(value: &Value, wanted: VariantScalarTypeId) -> Option<Variant> {
    use VariantScalarTypeId as Type;
    let whole = || match value {
        Value::Integer(number) => Some(i128::from(*number)),
        Value::Unsigned(number) => Some(i128::from(*number)),
        _ => None,
    };
    Some(match (wanted, value) {
        (Type::Boolean, Value::Bool(flag)) => Variant::Boolean(*flag),
        (Type::String, Value::Text(text)) => Variant::from(text.as_str()),
        (Type::SByte, _) => Variant::SByte(whole()?.try_into().ok()?),
        (Type::Byte, _) => Variant::Byte(whole()?.try_into().ok()?),
        (Type::Int16, _) => Variant::Int16(whole()?.try_into().ok()?),
        (Type::UInt16, _) => Variant::UInt16(whole()?.try_into().ok()?),
        (Type::Int32, _) => Variant::Int32(whole()?.try_into().ok()?),
        (Type::UInt32, _) => Variant::UInt32(whole()?.try_into().ok()?),
        (Type::Int64, _) => Variant::Int64(whole()?.try_into().ok()?),
        (Type::UInt64, _) => Variant::UInt64(whole()?.try_into().ok()?),
        (Type::Double, _) => Variant::Double(number(value)?),
        (Type::Float, _) => Variant::Float(single(number(value)?)?),
        _ => return None,
    })
}

/// Whole numbers up to 2^53 have their own double.
#[allow(clippy::cast_precision_loss)] // checked to be exact
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) if number.unsigned_abs() <= 1 << 53 => Some(*number as f64),
        _ => None,
    }
}

/// A decimal number is rounded to the nearest single, which is what the node can hold; one too large for it is not.
#[allow(clippy::cast_possible_truncation)] // rounding is the purpose
fn single(number: f64) -> Option<f32> {
    let rounded = number as f32;
    rounded.is_finite().then_some(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_go_in_the_nodes_type_or_not_at_all() {
        use VariantScalarTypeId as Type;
        assert_eq!(exactly(&Value::Integer(255), Type::Byte), Some(Variant::Byte(255)));
        assert_eq!(exactly(&Value::Integer(256), Type::Byte), None);
        assert_eq!(exactly(&Value::Integer(-1), Type::UInt64), None);
        assert_eq!(exactly(&Value::Integer(3), Type::Double), Some(Variant::Double(3.0)));
        assert_eq!(exactly(&Value::Float(1.5), Type::Int32), None);
        assert_eq!(exactly(&Value::Float(1e300), Type::Float), None);
        assert_eq!(exactly(&Value::Bool(true), Type::Int32), None);
        assert_eq!(exactly(&Value::Integer(1), Type::Boolean), None);
        assert_eq!(exactly(&Value::Text("on".into()), Type::String), Some(Variant::from("on")));
        assert_eq!(exactly(&Value::Integer((1 << 53) + 1), Type::Double), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_what_was_meant(number: i64) {
            use VariantScalarTypeId as Type;
            for wanted in [Type::SByte, Type::Int16, Type::UInt32, Type::Int64, Type::UInt64] {
                if let Some(variant) = exactly(&Value::Integer(number), wanted) {
                    prop_assert_eq!(crate::decode::natural(&variant), Ok(Value::Integer(number)));
                }
            }
        }
    }
}
