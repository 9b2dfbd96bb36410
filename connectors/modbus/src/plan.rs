//! From points to few wire requests: neighbours of one table travel together, also over small gaps.
//!
//! A value is never split over two requests, because a device may change it between them. Limits per request:
//! 125 registers (App §6.3, §6.4) or the device's own lower limit; 2,000 bits (App §6.1, §6.2) or likewise. Points that are
//! read at different rates never share a request, and no request touches a forbidden range.

use crate::PlanFault;
use crate::config::modbus_endpoint;
use std::fmt;
use std::time::Duration;
use tally_model::{Address, DeviceId, DeviceSpec, Encoding, ModbusTable, PointSpec};
use tokio_modbus::Request as WireRequest;

/// Most registers one request may ask for: 250 bytes in a PDU of 253 (App §4.1).
pub const REGISTERS_PER_REQUEST_MAX: u16 = 125;

/// Most bits one request may ask for (App §6.1).
pub const BITS_PER_REQUEST_MAX: u16 = 2000;

/// What a PLC on a wired network usually needs to answer; the estimate of the reachable period stands on it.
pub const ANSWER_TIME_TYPICAL: Duration = Duration::from_millis(20);

/// How a device is read: every cycle sends these requests in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Which device.
    pub device: DeviceId,
    /// Its unit identifier (TCP §4.4.2.2).
    pub unit: u8,
    /// How often it shall be read, where a point does not say otherwise.
    pub every: Duration,
    /// In order of rate, table and address.
    pub requests: Vec<Request>,
}

/// One read request and what its answer means.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which table.
    pub table: ModbusTable,
    /// First address, zero-based as on the wire.
    pub start: u16,
    /// Registers or bits.
    pub count: u16,
    /// How often it is sent.
    pub every: Duration,
    /// The points inside, in address order.
    pub points: Vec<PlannedPoint>,
}

/// A point and where its words lie in the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedPoint {
    /// The point.
    pub spec: PointSpec,
    /// First register or bit, counted from the start of the answer.
    pub place: u16,
    /// Registers or bits.
    pub width: u16,
    /// Bit inside the register, for a flag in a register.
    pub bit: Option<u8>,
}

/// Turns the points of a device into requests.
///
/// # Errors
/// [`PlanFault`] for the first point or limit that cannot work.
pub fn plan(device: &DeviceSpec) -> Result<Plan, PlanFault> {
    let (_, unit) = modbus_endpoint(&device.id, &device.endpoint)?;
    check_limits(device)?;
    let mut located = device.points.iter().map(|point| locate(point, device)).collect::<Result<Vec<_>, _>>()?;
    // A stable sort: points at one address stay in file order.
    located.sort_by_key(|point| (point.every, point.table, point.start));
    let mut requests: Vec<Request> = Vec::new();
    for point in located {
        match requests.last_mut() {
            Some(request) if joins(request, &point, device) => append(request, point),
            _ => requests.push(alone(point)),
        }
    }
    Ok(Plan { device: device.id.clone(), unit, every: device.every, requests })
}

impl Plan {
    /// How often the device can be read when every answer takes `answer_time`. Devices of one link share the line:
    /// their periods add up.
    #[must_use]
    pub fn reachable_period(&self, answer_time: Duration) -> Duration {
        answer_time.saturating_mul(u32::try_from(self.requests.len()).unwrap_or(u32::MAX))
    }

    /// Points in all requests.
    #[must_use]
    pub fn points(&self) -> usize {
        self.requests.iter().map(|request| request.points.len()).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (unit {}): {} points in {} requests every {:?}; reachable period about {:?} at {:?} an answer",
            self.device,
            self.unit,
            self.points(),
            self.requests.len(),
            self.every,
            self.reachable_period(ANSWER_TIME_TYPICAL),
            ANSWER_TIME_TYPICAL,
        )?;
        self.requests.iter().try_for_each(|request| {
            write!(f, "\n  {request}")?;
            if request.every == self.every { Ok(()) } else { write!(f, " (every {:?})", request.every) }
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.table.is_bits() { "bit" } else { "register" };
        let plural = if self.count == 1 { "" } else { "s" };
        let last = u32::from(self.start) + u32::from(self.count) - 1;
        write!(f, "{}:{}..{last} ({} {what}{plural}):", self.table.word(), self.start, self.count)?;
        self.points.iter().try_for_each(|point| write!(f, " {}", point.spec.id))
    }
}

impl Request {
    /// The request for the points in `range` only, without the registers around them.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Option<Self> {
        let points = self.points.get(range)?;
        let first = points.first()?.place;
        let end = points.iter().map(|point| point.place + point.width).max()?;
        let moved = points.iter().map(|point| PlannedPoint { place: point.place - first, ..point.clone() });
        Some(Self {
            table: self.table,
            start: self.start + first,
            count: end - first,
            every: self.every,
            points: moved.collect(),
        })
    }
}

/// A point with its place on the device.
struct Located<'d> {
    table: ModbusTable,
    start: u16,
    width: u16,
    bit: Option<u8>,
    every: Duration,
    spec: &'d PointSpec,
}

impl Located<'_> {
    /// One past the last address; at most 65536.
    fn end(&self) -> u32 {
        u32::from(self.start) + u32::from(self.width)
    }
}

fn check_limits(device: &DeviceSpec) -> Result<(), PlanFault> {
    let limit = |key, found: String, allowed| Err(PlanFault::Limit { device: device.id.clone(), key, found, allowed });
    let registers_max = device.registers_per_request_max;
    if registers_max == 0 || registers_max > REGISTERS_PER_REQUEST_MAX {
        return limit("registers_per_request_max", registers_max.to_string(), "1 to 125 (Modbus V1.1b3 §6.3)");
    }
    let bits_max = device.modbus.bits_per_request_max.unwrap_or(BITS_PER_REQUEST_MAX);
    if bits_max == 0 || bits_max > BITS_PER_REQUEST_MAX {
        return limit("bits_per_request_max", bits_max.to_string(), "1 to 2000 (Modbus V1.1b3 §6.1)");
    }
    if device.every.is_zero()
        || device.points.iter().any(|point| point.options.every.is_some_and(|every| every.is_zero()))
    {
        return limit("every", "0".into(), "a time above zero, for example `500ms`");
    }
    if device.timeout.is_zero() {
        return limit("timeout", "0".into(), "a time above zero, for example `1s`");
    }
    Ok(())
}

fn locate<'d>(spec: &'d PointSpec, device: &DeviceSpec) -> Result<Located<'d>, PlanFault> {
    let registers_max = device.registers_per_request_max;
    let Address::Modbus { table, offset, bit } = &spec.address else {
        return Err(PlanFault::Address { point: spec.id.clone(), address: Box::new(spec.address.clone()) });
    };
    let encoding = |reason| PlanFault::Encoding {
        point: spec.id.clone(),
        encoding: spec.encoding,
        address: Box::new(spec.address.clone()),
        reason,
    };
    let width = match spec.encoding {
        Encoding::Bool => 1,
        _ if table.is_bits() || bit.is_some() => return Err(encoding("a bit is read as `bool`")),
        Encoding::Auto => return Err(encoding("Modbus carries no types; write for example `type: f32`")),
        encoded if encoded.is_text() && spec.length == 0 => return Err(encoding("a text needs a `length` in bytes")),
        _ => spec.registers(),
    };
    if spec.order.is_for_64_bits() && width != 4 {
        return Err(encoding("this order is one of values of 64 bits"));
    }
    let every = spec.options.every.unwrap_or(device.every);
    let point = Located { table: *table, start: *offset, width, bit: *bit, every, spec };
    if point.end() > 65_536 {
        return Err(PlanFault::BeyondEnd {
            point: spec.id.clone(),
            address: Box::new(spec.address.clone()),
            registers: width,
        });
    }
    if is_forbidden(device, point.table, u32::from(point.start), point.end()) {
        return Err(PlanFault::Forbidden {
            point: spec.id.clone(),
            address: Box::new(spec.address.clone()),
            registers: width,
        });
    }
    if !table.is_bits() && width > registers_max {
        return Err(PlanFault::TooLong { point: spec.id.clone(), registers: width, registers_max });
    }
    Ok(point)
}

/// Whether the answer may carry this point too. The gap is counted in registers; 16 bits weigh as much as one.
fn joins(request: &Request, point: &Located<'_>, device: &DeviceSpec) -> bool {
    let (gap_max, count_max) = if point.table.is_bits() {
        let bits_max = device.modbus.bits_per_request_max.unwrap_or(BITS_PER_REQUEST_MAX);
        (u32::from(device.gap_max) * 16, u32::from(bits_max))
    } else {
        (u32::from(device.gap_max), u32::from(device.registers_per_request_max))
    };
    let end = u32::from(request.start) + u32::from(request.count);
    (request.table, request.every) == (point.table, point.every)
        && u32::from(point.start) <= end + gap_max
        && !is_forbidden(device, point.table, u32::from(request.start), point.end().max(end))
        && point.end().max(end) - u32::from(request.start) <= count_max
}

/// Whether any address from `start` up to `end`, without it, is forbidden.
fn is_forbidden(device: &DeviceSpec, table: ModbusTable, start: u32, end: u32) -> bool {
    device.modbus.forbidden.iter().any(|(forbidden, range)| {
        *forbidden == table && u32::from(*range.start()) < end && start <= u32::from(*range.end())
    })
}

/// The question for so many registers or bits.
pub(crate) const fn read_request(table: ModbusTable, start: u16, count: u16) -> WireRequest<'static> {
    match table {
        ModbusTable::Coil => WireRequest::ReadCoils(start, count),
        ModbusTable::Discrete => WireRequest::ReadDiscreteInputs(start, count),
        ModbusTable::Input => WireRequest::ReadInputRegisters(start, count),
        ModbusTable::Holding => WireRequest::ReadHoldingRegisters(start, count),
    }
}

fn append(request: &mut Request, point: Located<'_>) {
    let place = point.start - request.start;
    request.count = request.count.max(place + point.width);
    request.points.push(PlannedPoint { spec: point.spec.clone(), place, width: point.width, bit: point.bit });
}

fn alone(point: Located<'_>) -> Request {
    let planned = PlannedPoint { spec: point.spec.clone(), place: 0, width: point.width, bit: point.bit };
    Request { table: point.table, start: point.start, count: point.width, every: point.every, points: vec![planned] }
}
