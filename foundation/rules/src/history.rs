//! What a watch remembers of its points: the newest reading of each, and the readings inside the longest window.
//!
//! A remembered reading takes 32 bytes. What lies before the edge of the longest window is dropped when a reading of
//! the same point arrives; at most [`READINGS_MAX`] are kept for a point, and a fuller window loses its edge and is
//! too thin.

use crate::expression::{Function, Node, Scalar, Slot};
use crate::watch::MissingReason;
use std::collections::VecDeque;
use tally_model::{Quality, Reading, Timestamp, Unit, Value, ValueKind};

/// Most readings of one point inside its longest window; 24 h at 10 readings a second is 864,000.
pub(crate) const READINGS_MAX: usize = 1_000_000;

/// What a rule expects of a point and how far back it looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expected {
    pub(crate) kind: Option<ValueKind>,
    pub(crate) unit: Unit,
    /// Longest window over the point in microseconds, 0 without any.
    pub(crate) horizon: i64,
    /// Whether `last()` looks at it.
    pub(crate) keeps_last: bool,
}

/// The memory of one watch.
#[derive(Debug, Clone)]
pub(crate) struct History {
    points: Vec<PointHistory>,
    now: Timestamp,
}

#[derive(Debug, Clone)]
struct PointHistory {
    expected: Expected,
    readings: VecDeque<Entry>,
    /// Number of the newest reading, and its value when it is usable.
    newest: Option<(u64, Option<Value>)>,
    newest_usable: Option<(u64, Value)>,
}

/// One remembered reading, small.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    number: u64,
    at: i64,
    value: Sampled,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sampled {
    Nothing,
    Number(f64),
    Flag(bool),
    Text,
}

impl History {
    pub(crate) fn new(points: impl IntoIterator<Item = Expected>) -> Self {
        let empty = |expected| PointHistory { expected, readings: VecDeque::new(), newest: None, newest_usable: None };
        Self { points: points.into_iter().map(empty).collect(), now: Timestamp::from_micros(i64::MIN) }
    }

    /// Rule time: that of the newest reading, never falling.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes in a reading of the point in `slot`.
    pub(crate) fn push(&mut self, slot: Slot, reading: &Reading) {
        self.now = self.now.max(reading.sample.received);
        let now = self.now.as_micros();
        let Some(point) = self.points.get_mut(slot) else { return };
        let value = usable(reading, &point.expected);
        if point.expected.horizon > 0 {
            point.readings.push_back(Entry { number: reading.number, at: now, value: Sampled::of(value.as_ref()) });
            point.forget(now);
        }
        if let (true, Some(value)) = (point.expected.keeps_last, &value) {
            point.newest_usable = Some((reading.number, value.clone()));
        }
        point.newest = Some((reading.number, value));
    }

    pub(crate) fn newest(&self, slot: Slot) -> Option<&Value> {
        self.points.get(slot)?.newest.as_ref()?.1.as_ref()
    }

    pub(crate) fn newest_usable(&self, slot: Slot) -> Option<&Value> {
        self.points.get(slot)?.newest_usable.as_ref().map(|(_, value)| value)
    }

    /// The last `width` microseconds of a point.
    pub(crate) fn window(&self, slot: Slot, width: i64) -> Window<'_> {
        let start = self.now.as_micros().saturating_sub(width);
        Window { readings: self.points.get(slot).map(|point| &point.readings), start, end: self.now.as_micros() }
    }

    /// The lowest reading number that `node` looks at now; `None` when it looks at nothing that is there.
    pub(crate) fn first_looked_at(&self, node: &Node) -> Option<u64> {
        let mut first: Option<u64> = None;
        node.each_look(&mut |look| first = [first, self.looked_at(look)].into_iter().flatten().min());
        first
    }

    fn looked_at(&self, look: &Node) -> Option<u64> {
        match look {
            Node::Point(slot) => self.points.get(*slot)?.newest.as_ref().map(|(number, _)| *number),
            Node::Last(slot) => self.points.get(*slot)?.newest_usable.as_ref().map(|(number, _)| *number),
            Node::Window { slot, width, .. } => self.window(*slot, *width).first().map(|first| first.number),
            _ => None,
        }
    }

    /// The lowest reading number that any later evaluation can look at.
    pub(crate) fn first_needed(&self) -> Option<u64> {
        let numbers = self.points.iter().enumerate().flat_map(|(slot, point)| {
            let window = self.window(slot, point.expected.horizon);
            [
                window.first().map(|first| first.number),
                point.newest.as_ref().map(|(number, _)| *number),
                point.newest_usable.as_ref().map(|(number, _)| *number),
            ]
        });
        numbers.flatten().min()
    }
}

impl PointHistory {
    /// Drops what lies before the edge of the longest window.
    fn forget(&mut self, now: i64) {
        let start = now.saturating_sub(self.expected.horizon);
        while self.readings.get(1).is_some_and(|second| second.at <= start) || self.readings.len() > READINGS_MAX {
            self.readings.pop_front();
        }
    }
}

/// The value of a reading when a rule may use it: there, not bad, finite, of the expected kind and unit.
fn usable(reading: &Reading, expected: &Expected) -> Option<Value> {
    let sample = &reading.sample;
    if sample.quality == Quality::Bad || sample.unit != expected.unit {
        return None;
    }
    let value = sample.outcome.as_ref().ok()?;
    if matches!(value, Value::Float(number) if !number.is_finite()) {
        return None;
    }
    match (expected.kind, value) {
        (Some(ValueKind::Float), Value::Integer(_) | Value::Unsigned(_)) => value.as_f64().map(Value::Float),
        (Some(kind), value) if kind != value.kind() => None,
        _ => Some(value.clone()),
    }
}

impl Sampled {
    fn of(value: Option<&Value>) -> Self {
        match value {
            None => Self::Nothing,
            Some(Value::Bool(flag)) => Self::Flag(*flag),
            Some(Value::Text(_)) => Self::Text,
            Some(number) => number.as_f64().map_or(Self::Nothing, Self::Number),
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    fn fits(self, function: Function) -> bool {
        match function {
            Function::Count => self != Self::Nothing,
            Function::TimeIn => matches!(self, Self::Flag(_)),
            _ => matches!(self, Self::Number(_)),
        }
    }
}

/// The readings of one point in (start, end], and the edge before them.
pub(crate) struct Window<'a> {
    readings: Option<&'a VecDeque<Entry>>,
    start: i64,
    end: i64,
}

impl<'a> Window<'a> {
    /// The value of `function` over the window, or why it is too thin for one.
    pub(crate) fn apply<'v>(&self, function: Function) -> Result<Scalar<'v>, MissingReason> {
        let edge = *self.edge().ok_or(MissingReason::NotWatchedLongEnough)?;
        self.thick_enough(function, edge)?;
        let number = match function {
            Function::Min => self.numbers().fold(f64::INFINITY, f64::min),
            Function::Max => self.numbers().fold(f64::NEG_INFINITY, f64::max),
            Function::Sum => self.sum(),
            #[allow(clippy::cast_precision_loss)] // at most a million readings
            Function::Mean => self.sum() / self.numbers().count() as f64,
            Function::Rate => self.rate(),
            Function::Integral => self.integral(edge),
            Function::TimeIn => seconds(self.time_in(edge)),
            Function::Count => return Ok(Scalar::Integer(self.usable(function).count() as i128)),
        };
        if number.is_finite() { Ok(Scalar::Float(number)) } else { Err(MissingReason::NotFinite) }
    }

    /// The oldest reading that belongs to the window: its edge, or while it has none its first reading, which may be the
    /// edge of a later evaluation of the same run.
    fn first(&self) -> Option<&'a Entry> {
        self.edge().or_else(|| self.inside().next())
    }

    /// The newest reading at or before the start of the window.
    fn edge(&self) -> Option<&'a Entry> {
        let readings = self.readings?;
        readings.get(self.split().checked_sub(1)?)
    }

    /// How many remembered readings lie at or before the start.
    fn split(&self) -> usize {
        self.readings.map_or(0, |readings| readings.partition_point(|entry| entry.at <= self.start))
    }

    fn inside(&self) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let split = self.split();
        self.readings.into_iter().flat_map(move |readings| readings.range(split..))
    }

    fn usable(&self, function: Function) -> impl Iterator<Item = &'a Entry> + use<'a> {
        self.inside().filter(move |entry| entry.value.fits(function))
    }

    /// One usable reading (`rate`: two), and half of all readings usable; `count` wants nothing but the edge, because
    /// "too few" is what it is asked for. `integral` and `time_in` hold the edge's
    /// value into the window, so for them the edge counts as a reading of it.
    fn thick_enough(&self, function: Function, edge: Entry) -> Result<(), MissingReason> {
        let holds = matches!(function, Function::Integral | Function::TimeIn);
        let readings = self.inside().count() + usize::from(holds);
        let usable = self.usable(function).count() + usize::from(holds && edge.value.fits(function));
        let least = if function == Function::Rate { 2 } else { 1 };
        if function != Function::Count && (usable < least || usable * 2 < readings) {
            return Err(MissingReason::TooFewUsable { usable, readings });
        }
        Ok(())
    }

    fn numbers(&self) -> impl Iterator<Item = f64> + use<'a> {
        self.inside().filter_map(|entry| entry.value.number())
    }

    /// In number order, from zero: the order is part of the result.
    fn sum(&self) -> f64 {
        self.numbers().fold(0.0, |sum, number| sum + number)
    }

    /// Change per second between the first and the last usable reading; without time between them there is none.
    fn rate(&self) -> f64 {
        let mut usable = self.usable(Function::Rate);
        let Some(first) = usable.next() else { return f64::NAN };
        let last = usable.last().unwrap_or(first);
        let change = last.value.number().unwrap_or(f64::NAN) - first.value.number().unwrap_or(f64::NAN);
        change / seconds(last.at - first.at)
    }

    /// Value times seconds, each value held until the next reading; a reading without a value ends the holding, and
    /// nothing is counted until the next usable one.
    fn integral(&self, edge: Entry) -> f64 {
        self.held(edge)
            .filter_map(|(value, micros)| Some(value.number()? * seconds(micros)))
            .fold(0.0, |sum, part| sum + part)
    }

    /// Microseconds true, held like [`Self::integral`].
    fn time_in(&self, edge: Entry) -> i64 {
        self.held(edge).filter(|(value, _)| *value == Sampled::Flag(true)).map(|(_, micros)| micros).sum()
    }

    /// Each value from the edge on, with the microseconds it held inside the window.
    fn held(&self, edge: Entry) -> impl Iterator<Item = (Sampled, i64)> + use<'a> {
        let end = self.end;
        let start = Entry { at: self.start, ..edge };
        let ends = self.inside().map(|entry| entry.at).chain(std::iter::once(end));
        std::iter::once(start)
            .chain(self.inside().copied())
            .zip(ends)
            .map(|(entry, until)| (entry.value, until - entry.at))
    }
}

/// Microseconds as seconds; exact division first, so that every machine rounds once and alike.
#[allow(clippy::cast_precision_loss)] // windows are at most 24 h: 8.64e10 µs, far below 2^53
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1_000_000.0
}
