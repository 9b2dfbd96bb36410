//! The typed tree an expression becomes.

use std::borrow::Cow;
use tally_model::{Value, ValueKind};

/// Index of a point in the rule's sorted list of points.
pub(crate) type Slot = usize;

/// What is known about an expression before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Integer,
    Float,
    Text,
    /// A point whose kind only the device knows; checked again when it runs, a misfit is unknown.
    Any,
    /// Already reported as wrong; says nothing more.
    Broken,
}

impl Kind {
    pub(crate) fn of(kind: Option<ValueKind>) -> Self {
        match kind {
            None => Self::Any,
            Some(ValueKind::Bool) => Self::Bool,
            Some(ValueKind::Integer) => Self::Integer,
            Some(ValueKind::Float) => Self::Float,
            Some(ValueKind::Text) => Self::Text,
        }
    }

    pub(crate) const fn may_be_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Text)
    }

    pub(crate) const fn may_be_bool(self) -> bool {
        matches!(self, Self::Bool | Self::Any | Self::Broken)
    }

    pub(crate) const fn may_be_text(self) -> bool {
        matches!(self, Self::Text | Self::Any | Self::Broken)
    }

    /// In the words of the person who wrote it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bool => "a yes/no value",
            Self::Integer | Self::Float => "a number",
            Self::Text => "a text",
            Self::Any | Self::Broken => "a value",
        }
    }
}

/// A value while an expression runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    /// Wide enough for `i64` and `u64`; what leaves both ranges is unknown.
    Integer(i128),
    /// Finite.
    Float(f64),
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    pub(crate) fn of(value: &'a Value) -> Self {
        match value {
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Integer(number) => Self::Integer(i128::from(*number)),
            Value::Unsigned(number) => Self::Integer(i128::from(*number)),
            Value::Float(number) => Self::Float(*number),
            Value::Text(text) => Self::Text(Cow::Borrowed(text)),
        }
    }

    pub(crate) fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Bool(flag) => Value::Bool(flag),
            Self::Integer(number) => match i64::try_from(number) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Unsigned(u64::try_from(number).ok()?),
            },
            Self::Float(number) => Value::Float(number),
            Self::Text(text) => Value::Text(text.into_owned()),
        })
    }

    #[allow(clippy::cast_precision_loss)] // an integer beside a decimal number becomes the nearest double, as documented
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Min,
    Max,
    Mean,
    Sum,
    Count,
    Rate,
    Integral,
    TimeIn,
}

impl Function {
    pub(crate) const ALL: [(&'static str, Self); 8] = [
        ("min", Self::Min),
        ("max", Self::Max),
        ("mean", Self::Mean),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("rate", Self::Rate),
        ("integral", Self::Integral),
        ("time_in", Self::TimeIn),
    ];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, function)| *function == self).map_or("", |(word, _)| word)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    Contains,
    StartsWith,
    EndsWith,
}

/// One step of a checked expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Literal(Scalar<'static>),
    /// The newest reading of a point.
    Point(Slot),
    /// The newest usable value of a point.
    Last(Slot),
    /// A function over the last `width` microseconds of a point.
    Window {
        function: Function,
        slot: Slot,
        width: i64,
    },
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    If(Box<[Node; 3]>),
    Negate(Box<Node>),
    Absolute(Box<Node>),
    ToInteger(Box<Node>),
    ToFloat(Box<Node>),
    /// `whole` when both sides are known to be whole numbers; otherwise both become doubles.
    Arithmetic {
        operator: Arithmetic,
        whole: bool,
        sides: Box<[Node; 2]>,
    },
    Join(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    In(Box<Node>, Vec<Node>),
    TextTest(TextTest, Box<[Node; 2]>),
}

impl Node {
    /// Calls `visit` with every node that looks at a point: [`Node::Point`], [`Node::Last`], [`Node::Window`].
    pub(crate) fn each_look(&self, visit: &mut dyn FnMut(&Self)) {
        match self {
            Self::Literal(_) => {}
            Self::Point(_) | Self::Last(_) | Self::Window { .. } => visit(self),
            Self::Not(inner)
            | Self::Negate(inner)
            | Self::Absolute(inner)
            | Self::ToInteger(inner)
            | Self::ToFloat(inner) => inner.each_look(visit),
            Self::And(left, right) | Self::Or(left, right) => {
                left.each_look(visit);
                right.each_look(visit);
            }
            Self::If(parts) => parts.iter().for_each(|part| part.each_look(visit)),
            Self::Arithmetic { sides, .. } | Self::Join(sides) | Self::Compare(_, sides) | Self::TextTest(_, sides) => {
                sides.iter().for_each(|side| side.each_look(visit));
            }
            Self::In(inner, list) => {
                inner.each_look(visit);
                list.iter().for_each(|item| item.each_look(visit));
            }
        }
    }
}
