//! Everything that must hold before a device is touched. Pure: what is known comes in, a reason in words comes out.

use super::{Command, GateSetting, PastAge};
use std::time::Duration;
use tally_connector_api::ClockHealth;
use tally_evidence::{Permit, PermitFile, ProvenPermit, Right, VerifyingKey};
use tally_model::{
    Address, ArgumentKind, DeviceSpec, MethodArgument, OpcUaMethod, PartyId, PointSpec, Timestamp, Unit, Value,
};

/// How far the agent's clock may be behind the block that proves a permit: clocks of two computers, kept right.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// Why the gate does nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// Which of the reasons in `docs/operator/access.md`.
    pub code: &'static str,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub hint: &'static str,
    /// Whether the permit is burnt by it.
    pub is_burnt: bool,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, text: String) -> Self {
        Self { code, text, hint: hint(code), is_burnt: false }
    }

    pub(super) fn busy(most: usize) -> Self {
        Self::new("busy", format!("{most} permits wait already; nothing was done"))
    }

    pub(super) fn burnt(self) -> Self {
        Self { is_burnt: true, ..self }
    }

    /// What is our own trouble is no attempt of anybody.
    pub(super) fn is_worth_recording(&self) -> bool {
        !matches!(self.code, "busy" | "disk" | "no-ledger-key" | "key-away")
    }
}

const fn hint(code: &str) -> &'static str {
    match code.as_bytes() {
        b"forged" => {
            "bring the file that `tally access request` wrote, unchanged; permits are made by the ledger alone"
        }
        b"replayed" => "request a new one",
        b"revoked" => "ask the owner of the device why; then request a new one",
        b"too-early" => "bring it again when its time has come",
        b"expired" => "request a new one",
        b"other-agent" => "bring it to the agent it names",
        b"clock" => "set the clock of the agent's computer (chrony, PTP), then restart the agent",
        b"stale" => {
            "connect the agent to the ledger, or bring a permit with a fresh proof: `tally access permits --permit N --out FILE`"
        }
        b"unknown-device" | b"unknown-point" | b"wrong-address" => {
            "the policy and the mapping must name the same point at the same address; correct one of them, then request again"
        }
        b"not-writable" => {
            "write `writable: true` at the point in the mapping, if it may be written at all, then `tally reload`"
        }
        b"out-of-bounds" => "the bounds stand in the mapping as `write_range`; ask for a value within",
        b"wrong-type" => "ask for a value of the point's type",
        b"busy" => "bring it again in a moment",
        b"malformed" => "docs/formats/topics.md says what a command looks like",
        b"retained" => "publish commands without the retain flag, and delete the one that the broker keeps",
        b"no-time" => "say in the command when it was sent: `at`, or the timestamp of the Sparkplug payload",
        b"too-old" | b"from-the-future" => {
            "set the clocks of SCADA and of the agent's computer by the same server (NTP), then send it again"
        }
        b"replayed-command" => "give every command an id of its own",
        b"no-policy" => {
            "the owner of the device seals a standing policy for this sender: `who: [{sender: …}]`, see docs/operator/access.md"
        }
        b"beyond-policy" => "ask for a value within the policy, or the owner for a wider one",
        b"out-of-hours" => "wait for the shift, or ask the owner for other hours",
        b"too-many" => "wait: the policy allows so many within its period",
        b"quarantined" => "ask the owner why; he lifts it with `tally access quarantine --lift`",
        b"ledger-away" => "see whether the node runs and the agent reaches it (`tally status`), then send it again",
        _ => "see docs/operator/access.md",
    }
}

/// What the book knows of a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    Used,
    Revoked,
}

pub(super) fn is_for(permit: &Permit, agent: &PartyId) -> Result<(), Refusal> {
    if permit.agent == *agent {
        return Ok(());
    }
    Err(Refusal::new("other-agent", format!("permit {} is for agent `{}`; this is `{agent}`", permit.id, permit.agent)))
}

pub(super) fn is_unused(id: u64, known: Known) -> Result<(), Refusal> {
    match known {
        Known::Nothing => Ok(()),
        Known::Used => Err(Refusal::new("replayed", format!("permit {id} was used already; it works once"))),
        Known::Revoked => Err(Refusal::new("revoked", format!("permit {id} was revoked"))),
    }
}

/// A clock that cannot be right decides nothing.
pub(super) fn is_time(proven: &ProvenPermit, now: Timestamp, health: ClockHealth) -> Result<(), Refusal> {
    let ProvenPermit { permit, open_at, .. } = proven;
    if health.ahead > CLOCK_SLACK || health.leapt > CLOCK_SLACK {
        let text = format!(
            "the clock of this computer leapt by {:.0} s since the agent started; whether permit {} is valid now cannot be said",
            health.ahead.max(health.leapt).as_secs_f64(),
            permit.id
        );
        return Err(Refusal::new("clock", text));
    }
    if now.plus(CLOCK_SLACK) < *open_at {
        let text = format!("the clock of this computer says {now}, the ledger said {open_at} already: it is behind");
        return Err(Refusal::new("clock", text));
    }
    if now < permit.from {
        return Err(Refusal::new(
            "too-early",
            format!("permit {} is valid from {}; now it is {now}", permit.id, permit.from),
        ));
    }
    if now > permit.until {
        return Err(Refusal::new(
            "expired",
            format!("permit {} was valid until {}; now it is {now}", permit.id, permit.until),
        ));
    }
    Ok(())
}

/// The node's word of this moment, with its proof.
pub(super) fn is_still_open(file: &PermitFile, answer: &[u8], ledger: &str, key: &VerifyingKey) -> Result<(), Refusal> {
    let id = Permit::decode(&file.permit).map(|permit| permit.id).unwrap_or_default();
    let doubtful = |fault: String| {
        Refusal::new("doubtful", format!("what the node says about permit {id} does not hold: {fault}"))
    };
    match PermitFile::from_state_answer(answer) {
        Ok(None) => Err(Refusal::new(
            "revoked",
            format!("the ledger says that permit {id} is not open any more: used or revoked"),
        )),
        Ok(Some(now)) if now.permit != file.permit => Err(doubtful("it shows another permit under this number".into())),
        Ok(Some(now)) => now.check(ledger, key).map(|_| ()).map_err(|fault| doubtful(fault.to_string())),
        Err(fault) => Err(doubtful(fault.to_string())),
    }
}

/// The node is away: how long ago the permit may last have been known to be open, which was at `open_at`.
pub(super) fn is_fresh(
    proven: &ProvenPermit,
    open_at: Timestamp,
    now: Timestamp,
    setting: GateSetting,
) -> Result<(), Refusal> {
    let age = now.since(open_at);
    let is_let_through = match setting.past_age {
        PastAge::Refuse => false,
        PastAge::AllowRead => proven.permit.right == Right::Read,
        PastAge::Allow => true,
    };
    if age <= setting.proof_age || is_let_through {
        return Ok(());
    }
    let text = format!(
        "the ledger cannot be asked, and the latest proof that permit {} is open is {} s old ({} s are believed): it may have been revoked",
        proven.permit.id,
        age.as_secs(),
        setting.proof_age.as_secs()
    );
    Err(Refusal::new("stale", text))
}

/// A command is for now: not kept by the broker, sent within `age_max`, by clocks that agree. Until when it counts.
pub(super) fn is_for_now(
    command: &Command,
    now: Timestamp,
    health: &ClockHealth,
    age_max: Duration,
) -> Result<Timestamp, Refusal> {
    let id = &command.id;
    let refuse = |code, text| Err(Refusal::new(code, text));
    if command.is_retained {
        return refuse("retained", format!("the broker had kept command `{id}` from earlier; a command is for now"));
    }
    if health.ahead > CLOCK_SLACK || health.leapt > CLOCK_SLACK {
        let leap = health.ahead.max(health.leapt).as_secs();
        let text =
            format!("the clock of the agent's computer leapt by {leap} s; how old command `{id}` is cannot be said");
        return refuse("clock", text);
    }
    let Some(at) = command.at else {
        return refuse("no-time", format!("command `{id}` does not say when it was sent"));
    };
    if now.since(at) > age_max {
        let (age, most) = (now.since(at).as_secs(), age_max.as_secs_f64());
        return refuse("too-old", format!("command `{id}` was sent {age} s ago; at most {most} s are taken"));
    }
    if at.since(now) > CLOCK_SLACK {
        let ahead = at.since(now).as_secs();
        return refuse(
            "from-the-future",
            format!("command `{id}` says that it is sent in {ahead} s: the clocks differ"),
        );
    }
    Ok(at.plus(age_max))
}

/// A contract's number in words for whoever stands at the machine.
pub(super) fn ledger_refusal(command: &Command, number: u16) -> Refusal {
    let Command { sender, device, point, .. } = command;
    let value = command.value.as_ref().map_or_else(String::new, |value| format!(" {value}"));
    let (code, why) = match number {
        124 => ("quarantined", "the device or this agent is in quarantine".to_owned()),
        153 => {
            ("no-policy", format!("no standing policy lets {sender} {} `{point}` of `{device}`", command.right.word()))
        }
        154 => ("beyond-policy", format!("{value} for `{point}` is outside of what the standing policy allows")),
        155 => ("out-of-hours", "outside of the hours, days or dates of the standing policy".to_owned()),
        156 => ("too-many", format!("{sender} has had as much done as the standing policy allows within its period")),
        _ => ("ledger-refused", format!("the contract said no with number {number} (docs/formats/refusals.md)")),
    };
    Refusal::new(code, format!("refused by the ledger ({number}): {}", why.trim_start()))
}

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
    use crate::gate::samples;
    use tally_model::{DeviceId, Encoding, Endpoint, PointId, Writable};

    fn permit() -> Permit {
        let (from, until) = (Timestamp::from_micros(100_000_000), Timestamp::from_micros(700_000_000));
        Permit { id: 9, right: Right::Write, value: Some(Value::Integer(42)), from, until, ..samples::permit() }
    }

    fn devices(writable: Option<Writable>) -> Vec<DeviceSpec> {
        let endpoint = Endpoint::parse("modbus+tcp://127.0.0.1:1502?unit=1").unwrap();
        let mut device = DeviceSpec::new(DeviceId::try_new("press-01").unwrap(), endpoint);
        let address = Address::Modbus { table: tally_model::ModbusTable::Holding, offset: 17, bit: None };
        let mut point = PointSpec::new(PointId::try_new("setpoint").unwrap(), address, Encoding::U16, Unit::one());
        point.options.writable = writable;
        device.points.push(point);
        vec![device]
    }

    fn code<T>(checked: Result<T, Refusal>) -> &'static str {
        checked.map_or_else(|refusal| refusal.code, |_| "fine")
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

    #[test]
    fn time_is_checked_by_a_clock_that_can_be_right() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let proven = ProvenPermit { permit: permit(), open_at: at(100), height: 1 };
        let fine = ClockHealth::default();
        assert_eq!(code(is_time(&proven, at(100), fine)), "fine");
        assert_eq!(code(is_time(&proven, at(700), fine)), "fine");
        assert_eq!(code(is_time(&proven, at(701), fine)), "expired");
        assert_eq!(code(is_time(&proven, at(99), fine)), "too-early");
        assert_eq!(code(is_time(&proven, at(90), fine)), "clock", "behind the block");
        let leapt = ClockHealth { leapt: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_time(&proven, at(100), leapt)), "clock");
        let back = ClockHealth { ahead: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_time(&proven, at(100), back)), "clock");
    }

    #[test]
    fn a_command_is_for_now() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let command = Command {
            sender: "mqtt:hmi-3".into(),
            device: "press-01".into(),
            point: "setpoint".into(),
            right: Right::Write,
            value: Some(Value::Integer(42)),
            id: "7".into(),
            at: Some(at(100)),
            is_retained: false,
            said: String::new(),
        };
        let (fine, most) = (ClockHealth::default(), Duration::from_secs(10));
        assert_eq!(is_for_now(&command, at(110), &fine, most).unwrap(), at(110));
        assert_eq!(code(is_for_now(&command, at(111), &fine, most)), "too-old");
        assert_eq!(code(is_for_now(&command, at(94), &fine, most)), "from-the-future");
        let leapt = ClockHealth { leapt: Duration::from_secs(3600), ..fine };
        assert_eq!(code(is_for_now(&command, at(100), &leapt, most)), "clock");
        let kept = Command { is_retained: true, ..command.clone() };
        assert_eq!(code(is_for_now(&kept, at(100), &fine, most)), "retained");
        assert_eq!(code(is_for_now(&Command { at: None, ..command.clone() }, at(100), &fine, most)), "no-time");
        for number in 100..200 {
            let refusal = ledger_refusal(&command, number);
            assert!(refusal.text.contains(&number.to_string()) && refusal.text.len() > 40, "{refusal}");
        }
    }

    #[test]
    fn past_the_age_a_setting_decides_and_is_closed_by_default() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let proven = ProvenPermit { permit: permit(), open_at: at(100), height: 1 };
        let open_at = proven.open_at;
        assert_eq!(code(is_fresh(&proven, open_at, at(160), GateSetting::default())), "fine");
        assert_eq!(code(is_fresh(&proven, open_at, at(161), GateSetting::default())), "stale");
        assert_eq!(code(is_fresh(&proven, at(110), at(161), GateSetting::default())), "fine", "known to be open later");
        let running_on = GateSetting { past_age: PastAge::Allow, ..GateSetting::default() };
        assert_eq!(code(is_fresh(&proven, open_at, at(690), running_on)), "fine");
        let looking_on = GateSetting { past_age: PastAge::AllowRead, ..GateSetting::default() };
        assert_eq!(code(is_fresh(&proven, open_at, at(690), looking_on)), "stale", "a write moves a machine");
        let read = ProvenPermit { permit: Permit { right: Right::Read, value: None, ..permit() }, ..proven };
        assert_eq!(code(is_fresh(&read, open_at, at(690), looking_on)), "fine");
    }

    #[test]
    fn every_reason_has_its_own_hint() {
        for code in
            ["forged", "replayed", "revoked", "too-early", "expired", "other-agent", "clock", "stale", "wrong-address"]
        {
            assert_ne!(hint(code), hint("else"), "{code}");
        }
    }
}
