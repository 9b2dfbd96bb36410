//! A permit against the mapping in force, the second lock: what is to be done, where.

use super::refusal::Refusal;
use tally_evidence::{Permit, Right};
use tally_model::{Address, ArgumentKind, DeviceSpec, MethodArgument, OpcUaMethod, PointSpec, Unit, Value};

/// What is to be done, where.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub device: DeviceSpec,
    pub point: PointSpec,
    pub right: Right,
    pub value: Option<Value>,
}

/// The permit against the mapping in force: the second lock.
pub(super) fn order(permit: &Permit, devices: &[DeviceSpec]) -> Result<Order, Refusal> {
    let (device_id, point_id) = (&permit.device, &permit.point);
    let device = devices.iter().find(|device| device.id == *device_id);
    let device = device
        .ok_or_else(|| Refusal::new("unknown-device", format!("this agent's mapping has no device `{device_id}`")))?;
    let point = device.points.iter().find(|point| point.id == *point_id);
    let point = point
        .ok_or_else(|| Refusal::new("unknown-point", format!("device `{device_id}` has no point `{point_id}`")))?;
    let found = point.place();
    if found != permit.address {
        let text = format!(
            "`{point_id}` of `{device_id}` is at `{found}` in the mapping, but the permit is for `{}`",
            permit.address
        );
        return Err(Refusal::new("wrong-address", text));
    }
    let order = Order {
        device: DeviceSpec { points: vec![point.clone()], ..device.clone() },
        point: point.clone(),
        right: permit.right,
        value: permit.value.clone(),
    };
    match permit.right {
        Right::Read => {}
        Right::Write => check_write(permit, point)?,
        Right::Call => check_call(permit, point)?,
    }
    Ok(order)
}

fn check_write(permit: &Permit, point: &PointSpec) -> Result<(), Refusal> {
    let (id, device) = (&point.id, &permit.device);
    let Some(writable) = point.options.writable else {
        return Err(Refusal::new("not-writable", format!("the mapping does not let `{id}` of `{device}` be written")));
    };
    let value = permit.value.as_ref();
    let value = value.ok_or_else(|| Refusal::new("wrong-type", format!("permit {} says no value", permit.id)))?;
    if !writable.takes(value) {
        let (low, high) = writable.range.unwrap_or_default();
        let unit = if point.unit == Unit::one() { String::new() } else { format!(" {}", point.unit) };
        let text =
            format!("{value} for `{id}` of `{device}` is outside of {low} to {high}{unit}, which the mapping allows");
        return Err(Refusal::new("out-of-bounds", text));
    }
    let encoded = match &point.address {
        Address::Modbus { .. } => tally_connector_modbus::encode(point, value).err().map(|fault| fault.to_string()),
        Address::Mqtt { .. } | Address::MqttCbor { .. } => {
            tally_connector_mqtt::encode(point, value).err().map(|fault| fault.to_string())
        }
        // The server, or the edge node's birth, says which type it is.
        _ => None,
    };
    encoded.map_or(Ok(()), |fault| Err(Refusal::new("wrong-type", fault)))
}

/// Calls are acknowledgements of alarms, and methods that the mapping names.
fn check_call(permit: &Permit, point: &PointSpec) -> Result<(), Refusal> {
    if let Some(method) = &point.options.method {
        return check_arguments(permit, point, method);
    }
    let is_alarm = matches!(point.address, Address::OpcUa { alarm: Some(_), .. });
    let words = |what| Refusal::new("not-writable", format!("`{}` of `{}` {what}", point.id, permit.device));
    if !is_alarm {
        return Err(words("is no alarm, and the mapping names no `method` for it: there is nothing to call"));
    }
    if point.options.writable.is_none() {
        return Err(words("may not be acknowledged: the mapping does not say `writable: true`"));
    }
    Ok(())
}

fn check_arguments(permit: &Permit, point: &PointSpec, method: &OpcUaMethod) -> Result<(), Refusal> {
    let given = arguments(permit.value.as_ref()).map_err(|why| Refusal::new("wrong-type", why))?;
    let (id, wanted, found) = (&point.id, method.arguments.len(), given.len());
    if wanted != found {
        let text = format!("the method of `{id}` takes {wanted} arguments in the mapping, found {found}");
        return Err(Refusal::new("wrong-type", text));
    }
    for (value, MethodArgument { name, takes }) in given.iter().zip(&method.arguments) {
        if !takes.takes(value) {
            let is_number = matches!(takes, ArgumentKind::Number(..))
                && matches!(value, Value::Integer(_) | Value::Unsigned(_) | Value::Float(_));
            let code = if is_number { "out-of-bounds" } else { "wrong-type" };
            let text = format!("`{name}` of the method of `{id}` is `{value}`; the mapping allows {takes}");
            return Err(Refusal::new(code, text));
        }
    }
    Ok(())
}

/// The arguments of a call: none, one value, or a JSON array of them in a text.
pub(super) fn arguments(value: Option<&Value>) -> Result<Vec<Value>, String> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let list = match value {
        Value::Text(text) if text.trim_start().starts_with('[') => text,
        value => return Ok(vec![value.clone()]),
    };
    let wrong = || format!("`{list}` is no list of numbers, flags and texts");
    let items: Vec<serde_json::Value> = serde_json::from_str(list).map_err(|_| wrong())?;
    items.iter().map(|item| crate::command::value_of(item).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::samples::{code, permit_to_write as permit};
    use tally_model::{DeviceId, Encoding, Endpoint, PointId, Writable};

    fn devices(writable: Option<Writable>) -> Vec<DeviceSpec> {
        let endpoint = Endpoint::parse("modbus+tcp://127.0.0.1:1502?unit=1").unwrap();
        let mut device = DeviceSpec::new(DeviceId::try_new("press-01").unwrap(), endpoint);
        let address = Address::Modbus { table: tally_model::ModbusTable::Holding, offset: 17, bit: None };
        let mut point = PointSpec::new(PointId::try_new("setpoint").unwrap(), address, Encoding::U16, Unit::one());
        point.options.writable = writable;
        device.points.push(point);
        vec![device]
    }

    #[test]
    fn the_mapping_is_the_second_lock() {
        let open = Writable { range: Some((0.0, 80.0)) };
        assert_eq!(code(order(&permit(), &devices(Some(open)))), "fine");
        assert_eq!(code(order(&permit(), &devices(None))), "not-writable");
        assert_eq!(code(order(&permit(), &[])), "unknown-device");
        let point = PointId::try_new("other").unwrap();
        for (expected, permit) in [
            ("wrong-address", Permit { address: "holding:18".into(), ..permit() }),
            ("unknown-point", Permit { point, ..permit() }),
            ("out-of-bounds", Permit { value: Some(Value::Integer(81)), ..permit() }),
            ("out-of-bounds", Permit { value: Some(Value::Text("hot".into())), ..permit() }),
            ("wrong-type", Permit { value: None, ..permit() }),
            ("not-writable", Permit { right: Right::Call, ..permit() }),
        ] {
            assert_eq!(code(order(&permit, &devices(Some(open)))), expected);
        }
        let half = Permit { value: Some(Value::Integer(70_000)), ..permit() };
        let wide = Writable { range: Some((0.0, 1e6)) };
        assert_eq!(code(order(&half, &devices(Some(wide)))), "wrong-type", "no register holds it");
    }

    #[test]
    fn arguments_of_a_method_stand_within_the_mappings_bounds() {
        let node = Address::parse_opcua("ns=2;s=Start").unwrap();
        let argument = |name: &str, takes| MethodArgument { name: name.into(), takes };
        let arguments = vec![argument("speed", ArgumentKind::Number(0.0, 10.0)), argument("fast", ArgumentKind::Flag)];
        let method = OpcUaMethod { object: node.clone(), node, arguments };
        let mut devices = devices(None);
        devices[0].points[0].options.method = Some(std::sync::Arc::new(method));
        let address = devices[0].points[0].place();
        assert_eq!(address, "holding:17 => ns=2;s=Start ns=2;s=Start");
        let call = |value: Option<Value>| {
            code(order(&Permit { address: address.clone(), right: Right::Call, value, ..permit() }, &devices))
        };
        let list = |text: &str| call(Some(Value::Text(text.into())));
        assert_eq!(list("[10, true]"), "fine");
        assert_eq!(list("[10.5, true]"), "out-of-bounds");
        for wrong in ["[10]", "[10, null]", "[10, 1]", "[true, true]", "[10, true", "ten", "[]"] {
            assert_eq!(list(wrong), "wrong-type", "{wrong}");
        }
        assert_eq!((call(None), call(Some(Value::Integer(3)))), ("wrong-type", "wrong-type"));
        let moved = Permit { address: "holding:17".into(), right: Right::Call, ..permit() };
        assert_eq!(code(order(&moved, &devices)), "wrong-address", "another method, or none, is another place");
        assert_eq!(code(order(&Permit { address: address.clone(), ..permit() }, &devices)), "not-writable");
    }
}
