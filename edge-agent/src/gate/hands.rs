//! The writing halves of the connectors. Nobody outside of this file names them; a test in `tests/floors.rs` looks after it.

use super::Found;
use super::order::{Order, arguments};
use super::report::{cut, is_same};
use crate::links::{Identity, opcua_settings, seal_opener};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tally_connector_api::Link;
use tally_connector_modbus as modbus;
use tally_connector_mqtt as mqtt;
use tally_connector_opcua as opcua;
use tally_evidence::Right;
use tally_model::{Address, DeviceId, DeviceSpec, Endpoint, ModbusTable, Value};
use tokio::time::Instant;

/// Longest time for one order: the caller's patience ends at 10 s.
const ORDER_TIME_MAX: Duration = Duration::from_secs(6);
/// How long an MQTT device may take to say what it holds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest answer of a method that is reported, in bytes.
const ANSWER_BYTES_MAX: usize = 1_024;
/// An alarm is acknowledged with these words when the permit says none.
const COMMENT: &str = "acknowledged by a permit of the ledger";

/// The writing half of one link, closed: only [`Hands`] can take it.
pub struct Hand(Option<modbus::Writer>);

impl Hand {
    /// For links that have none, or whose half is opened when it is needed.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }
}

/// A Modbus link with its writing half.
///
/// # Errors
/// [`modbus::PlanFault`].
pub fn modbus_link(devices: Vec<DeviceSpec>) -> Result<(Box<dyn Link>, Hand), modbus::PlanFault> {
    let (link, writer) = modbus::link_with_writer(devices)?;
    Ok((link, Hand(Some(writer))))
}

/// All writing halves.
pub struct Hands {
    modbus: Mutex<HashMap<DeviceId, modbus::Writer>>,
    identity: Identity,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Done {
    /// The device took it; what it held afterwards, or why that cannot be said.
    Taken(Result<Found, String>),
    /// Somebody in between took it, and the device said nothing of it.
    Unheard(String),
    /// Nothing was done: the device said no, or could not be reached.
    Left(&'static str, String),
    /// Sent, and nobody knows; what the point holds now.
    Unknown(String, Found),
}

/// Why a device could not be read.
type Trouble = String;

impl Hands {
    /// None yet.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { modbus: Mutex::default(), identity }
    }

    /// The link of these devices runs: its writing half is the one that counts now.
    pub(crate) fn hold(&self, devices: &[DeviceSpec], Hand(writer): Hand) {
        let mut known = self.modbus.lock().unwrap_or_else(PoisonError::into_inner);
        for device in devices {
            match &writer {
                Some(writer) => known.insert(device.id.clone(), writer.clone()),
                None => known.remove(&device.id),
            };
        }
    }

    /// Does it once, and looks.
    pub(super) async fn carry_out(&self, order: &Order) -> Done {
        match &order.device.endpoint {
            Endpoint::Modbus { .. } => self.by_modbus(order).await,
            Endpoint::OpcUa { .. } => self.by_opcua(order).await,
            Endpoint::Mqtt(_) => self.by_mqtt(order).await,
            Endpoint::Replay { .. } => Done::Left("no-way", format!("`{}` is a recording", order.device.id)),
        }
    }

    /// Only looks.
    pub(super) async fn look(&self, order: &Order) -> Result<Value, Trouble> {
        let looked = async {
            match &order.device.endpoint {
                Endpoint::Modbus { .. } => self.look_modbus(order).await,
                Endpoint::OpcUa { .. } => {
                    let hand = self.open(order).await?;
                    let found = look_opcua(&hand, order).await;
                    hand.close().await;
                    found
                }
                Endpoint::Mqtt(_) => {
                    let mut hand = self.open_mqtt(order).await?;
                    let found = hand.look(Instant::now() + ANSWER_TIME_MAX).await;
                    hand.close().await;
                    found.ok_or_else(|| format!("nothing is said about it within {ANSWER_TIME_MAX:?}"))
                }
                Endpoint::Replay { .. } => Err("it is a recording".to_owned()),
            }
        };
        tokio::time::timeout(ORDER_TIME_MAX, looked).await.unwrap_or_else(|_| Err("it does not answer".to_owned()))
    }

    fn writer(&self, device: &DeviceId) -> Option<modbus::Writer> {
        self.modbus.lock().unwrap_or_else(PoisonError::into_inner).get(device).cloned()
    }

    async fn by_modbus(&self, order: &Order) -> Done {
        let device = &order.device.id;
        if order.right == Right::Read {
            return self.only_read(order).await;
        }
        let Some(writer) = self.writer(device) else { return no_link(order) };
        let write = match modbus_write(order) {
            Ok(write) => write,
            Err(reason) => return Done::Left("wrong-type", reason),
        };
        // Never dropped half-way: the line answers within the device's own timeout.
        match writer.write(device, write).await {
            Ok(_) => Done::Taken(self.look(order).await.map(Some)),
            Err(modbus::WriteFault::Unknown(reason)) => Done::Unknown(reason, self.look(order).await.ok()),
            Err(modbus::WriteFault::Refused { code, reason }) => {
                Done::Left("device-refused", format!("the device said no: exception {code:#04x}, {reason}"))
            }
            Err(fault) => Done::Left("not-sent", fault.to_string()),
        }
    }

    async fn look_modbus(&self, order: &Order) -> Result<Value, Trouble> {
        let Address::Modbus { table, offset, .. } = order.point.address else {
            return Err("it has no register".into());
        };
        let writer = self.writer(&order.device.id).ok_or("its link does not run")?;
        let count = order.point.registers().max(1);
        let words = writer.read(&order.device.id, table, offset, count).await.map_err(|fault| fault.to_string())?;
        modbus::decode(&order.point, &words).map_err(|reason| reason.to_string())
    }

    async fn only_read(&self, order: &Order) -> Done {
        match self.look(order).await {
            Ok(value) => Done::Taken(Ok(Some(value))),
            Err(reason) => Done::Left("no-value", format!("`{}` cannot be read: {reason}", order.point.id)),
        }
    }

    /// A connection beside that of the link, under a name of its own: brokers know clients by their names.
    async fn open_mqtt(&self, order: &Order) -> Result<mqtt::Hand, Trouble> {
        let device = std::slice::from_ref(&order.device);
        let seals = seal_opener(device).map_err(|fault| fault.to_string())?;
        let (id, until) = (format!("tallystick-{}-gate", self.identity.agent), Instant::now() + ANSWER_TIME_MAX);
        let opened = mqtt::Hand::open(&order.device, &order.point.id, &id, seals, until).await;
        opened.map_err(|fault| fault.to_string())
    }

    async fn by_mqtt(&self, order: &Order) -> Done {
        let value = match (order.right, &order.value) {
            (Right::Read, _) => return self.only_read(order).await,
            (Right::Write, Some(value)) => value,
            _ => return Done::Left("no-way", format!("`{}` can be written, not called", order.point.id)),
        };
        let mut hand = match self.open_mqtt(order).await {
            Ok(hand) => hand,
            Err(reason) => return Done::Left("not-sent", reason),
        };
        let done = match hand.write(value, Instant::now() + ANSWER_TIME_MAX).await {
            Ok(()) => {
                let answer = hand.answer(|found| is_same(value, found), Instant::now() + ANSWER_TIME_MAX).await;
                let silent = || Done::Unheard(format!("nothing came within {ANSWER_TIME_MAX:?}"));
                answer.map_or_else(silent, |found| Done::Taken(Ok(Some(found))))
            }
            Err(fault @ mqtt::HandFault::Unknown(_)) => Done::Unknown(fault.to_string(), None),
            Err(fault @ mqtt::HandFault::Refused(_)) => Done::Left("device-refused", fault.to_string()),
            Err(fault @ mqtt::HandFault::Type(_)) => Done::Left("wrong-type", fault.to_string()),
            Err(mqtt::HandFault::NotSent(reason)) => Done::Left("not-sent", reason),
        };
        hand.close().await;
        done
    }

    async fn open(&self, order: &Order) -> Result<opcua::Hand, Trouble> {
        let Endpoint::OpcUa { url } = &order.device.endpoint else { return Err("it is no OPC UA server".into()) };
        let (device, settings) = (&order.device, opcua_settings(&self.identity));
        let timeout = device.timeout.min(ORDER_TIME_MAX);
        let opened = opcua::Hand::open(url, &device.security, &settings, &device.opcua.limits, timeout).await;
        opened.map_err(|fault| fault.to_string())
    }

    async fn by_opcua(&self, order: &Order) -> Done {
        if order.right == Right::Read {
            return self.only_read(order).await;
        }
        let opened = tokio::time::timeout(ORDER_TIME_MAX, self.open(order)).await;
        let hand = match opened.unwrap_or_else(|_| Err("no session within 6 s".to_owned())) {
            Ok(hand) => hand,
            Err(reason) => return Done::Left("not-sent", reason),
        };
        let address = &order.point.address;
        let done = match (&order.right, &order.value) {
            (Right::Write, Some(value)) => hand.write(address, value).await.map(|()| None),
            (Right::Call, value) if order.point.options.method.is_some() => call(&hand, order, value.as_ref()).await,
            (Right::Call, comment) => {
                let comment = comment.as_ref().map_or_else(|| COMMENT.to_owned(), ToString::to_string);
                hand.acknowledge(address, &comment).await.map(|()| None)
            }
            _ => return Done::Left("wrong-type", "the permit says no value".to_owned()),
        };
        let done = after_opcua(&hand, order, done).await;
        hand.close().await;
        done
    }
}

fn no_link(order: &Order) -> Done {
    Done::Left("not-sent", format!("the link of `{}` does not run", order.device.id))
}

async fn look_opcua(hand: &opcua::Hand, order: &Order) -> Result<Value, Trouble> {
    if matches!(order.point.address, Address::OpcUa { alarm: Some(_), .. }) {
        return Err("an alarm is heard, not read".to_owned());
    }
    let read = hand.read(&order.point.address).await.map_err(|fault| fault.to_string())?;
    read.map_err(|reason| reason.to_string())
}

/// Calls the method of the point; what it answers: one value as it is, several as a JSON list in a text.
async fn call(hand: &opcua::Hand, order: &Order, value: Option<&Value>) -> Result<Found, opcua::HandFault> {
    let Some(method) = &order.point.options.method else { return Ok(None) };
    // Checked before the intention: what cannot be read never comes here.
    let arguments = arguments(value).unwrap_or_default();
    let mut answers = hand.call(&method.object, &method.node, &arguments).await?;
    if answers.len() < 2 {
        return Ok(answers.pop().and_then(Result::ok));
    }
    // What is no single value, such as a structure, is `null`.
    let answers: Vec<Option<Value>> = answers.into_iter().map(Result::ok).collect();
    Ok(Some(Value::Text(cut(&serde_json::json!(answers).to_string(), ANSWER_BYTES_MAX))))
}

async fn after_opcua(hand: &opcua::Hand, order: &Order, done: Result<Found, opcua::HandFault>) -> Done {
    let is_alarm = matches!(order.point.address, Address::OpcUa { alarm: Some(_), .. });
    match done {
        Ok(Some(answer)) => Done::Taken(Ok(Some(answer))),
        Ok(None) if is_alarm => Done::Taken(Ok(None)),
        Ok(None) => Done::Taken(look_opcua(hand, order).await.map(Some)),
        Err(opcua::HandFault::Link(fault)) => Done::Unknown(fault.to_string(), look_opcua(hand, order).await.ok()),
        Err(fault @ opcua::HandFault::Refused { .. }) => Done::Left("device-refused", fault.to_string()),
        Err(fault) => Done::Left("wrong-type", fault.to_string()),
    }
}

/// One register or coil in the way every device knows; several at once, so that no half of a value is ever there.
fn modbus_write(order: &Order) -> Result<modbus::Write, String> {
    let Address::Modbus { table, offset: address, .. } = order.point.address else {
        return Err("it has no register".into());
    };
    let value = order.value.as_ref().ok_or("the permit says no value")?;
    let words = modbus::encode(&order.point, value).map_err(|fault| fault.to_string())?;
    match (table, words.as_slice()) {
        (ModbusTable::Coil, [word]) => Ok(modbus::Write::Coil { address, on: *word != 0 }),
        (ModbusTable::Holding, [word]) => Ok(modbus::Write::Register { address, word: *word }),
        (ModbusTable::Holding, _) => Ok(modbus::Write::Registers { address, words }),
        _ => Err("only coils and holding registers can be written".to_owned()),
    }
}
