//! From `cel`'s syntax tree to ours, with every fault found on the way.

mod functions;

use super::scan::scan;
use super::tree::{Arithmetic, Comparison, Kind, Node, Scalar, Slot};
use crate::near::nearest_name;
use cel::common::ast::{CallExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::parser::{Expression, ParseError, Parser};
use functions::FUNCTIONS;
use std::collections::BTreeMap;
use tally_model::{PointId, Unit, ValueKind};

/// Deepest chain of operators, so that walking the tree needs little stack.
const OPERATORS_DEEP_MAX: usize = 100;

/// One thing that is wrong, at a byte of the expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An expression that can run.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) node: Node,
    pub(crate) kind: Kind,
}

/// The points a rule may name; a point's place in it is its slot.
pub(crate) type Points = BTreeMap<PointId, (Option<ValueKind>, Unit)>;

/// Checks `source` against the points it may name.
pub(crate) fn check(source: &str, points: &Points) -> Result<Checked, Vec<Fault>> {
    let faults = scan(source);
    if !faults.is_empty() {
        return Err(faults);
    }
    if source.trim().is_empty() {
        return Err(vec![Fault::new(0, "the expression is empty").hint("write for example `oil_temp > 80`")]);
    }
    let (tree, info) =
        Parser::new().parse_with_source_info(source).map_err(|faults| syntax_faults(source, &faults.errors))?;
    let mut checker = Checker { source, info, points, faults: Vec::new(), depth: 0 };
    let (node, kind) = checker.any(&tree);
    if checker.faults.is_empty() { Ok(Checked { node, kind }) } else { Err(checker.faults) }
}

/// The parser's complaints, without the echoes it makes while it builds a tree from a broken text.
fn syntax_faults(source: &str, errors: &[ParseError]) -> Vec<Fault> {
    let real: Vec<_> = errors.iter().filter(|error| error.msg.starts_with(SYNTAX_ERROR)).collect();
    let shown = if real.is_empty() { errors.iter().collect() } else { real };
    shown.into_iter().map(|error| syntax_fault(source, error)).collect()
}

const SYNTAX_ERROR: &str = "Syntax error: ";

/// One complaint without its list of forty tokens. Its column counts characters.
fn syntax_fault(source: &str, fault: &ParseError) -> Fault {
    let place = |number: isize| usize::try_from(number).unwrap_or(1).max(1) - 1;
    let line_start: usize = source.split_inclusive('\n').take(place(fault.pos.0)).map(str::len).sum();
    let line = source.get(line_start..).unwrap_or_default();
    let column = line.char_indices().nth(place(fault.pos.1)).map_or(line.len(), |(offset, _)| offset);
    let message = fault.msg.trim_start_matches(SYNTAX_ERROR);
    let message = message.split(" expecting ").next().unwrap_or(message);
    let message = message.replace("mismatched input", "unexpected").replace("extraneous input", "unexpected");
    let message = message.replace("'<EOF>'", "end of the expression");
    Fault::new(line_start + column, message)
}

struct Checker<'a> {
    source: &'a str,
    info: SourceInfo,
    points: &'a Points,
    faults: Vec<Fault>,
    depth: usize,
}

type Typed = (Node, Kind);

impl Checker<'_> {
    fn any(&mut self, expression: &Expression) -> Typed {
        if self.depth >= OPERATORS_DEEP_MAX {
            let message = format!("the expression chains more than {OPERATORS_DEEP_MAX} operators");
            return self.broken(expression, message, "split the rule in two triggers");
        }
        self.depth += 1;
        let typed = match &expression.expr {
            Expr::Literal(literal) => self.literal(expression, literal),
            Expr::Ident(name) => self.point(expression, name),
            Expr::Call(call) => self.call(expression, call),
            Expr::List(_) => {
                self.broken(expression, "a list stands only after `in`", "write `state in ['run', 'idle']`")
            }
            Expr::Select(select) => self.broken(
                &select.operand,
                format!("`.{}`: points have no fields", select.field),
                "a rule sees the points of its own device; write the point id alone",
            ),
            Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                self.broken(expression, "a rule has no maps, structures or loops", "use the window functions")
            }
        };
        self.depth -= 1;
        typed
    }

    fn literal(&mut self, expression: &Expression, literal: &LiteralValue) -> Typed {
        let (scalar, kind) = match literal {
            LiteralValue::Boolean(flag) => (Scalar::Bool(*flag.inner()), Kind::Bool),
            LiteralValue::Int(number) => (Scalar::Integer(i128::from(*number.inner())), Kind::Integer),
            LiteralValue::UInt(number) => (Scalar::Integer(i128::from(*number.inner())), Kind::Integer),
            LiteralValue::Double(number) => (Scalar::Float(*number.inner()), Kind::Float),
            LiteralValue::String(text) => (Scalar::Text(text.inner().to_owned().into()), Kind::Text),
            LiteralValue::Null | LiteralValue::Bytes(_) => {
                let hint = "a point without a value makes the condition not true by itself";
                return self.broken(expression, "a rule has no `null` and no bytes", hint);
            }
        };
        (Node::Literal(scalar), kind)
    }

    fn point(&mut self, expression: &Expression, name: &str) -> Typed {
        match self.slot(expression, name) {
            Some((slot, kind)) => (Node::Point(slot), kind),
            None => NOTHING,
        }
    }

    /// The slot of the point called `name`, or a fault.
    fn slot(&mut self, expression: &Expression, name: &str) -> Option<(Slot, Kind)> {
        let known = self.points.iter().enumerate().find(|(_, (point, _))| point.as_str() == name);
        if let Some((slot, (_, (kind, _)))) = known {
            return Some((slot, Kind::of(*kind)));
        }
        let hint = match nearest_name(name, self.points.keys().map(PointId::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if FUNCTIONS.contains(&name) => format!("`{name}` is a function: write `{name}(…)`"),
            None => format!("a text stands in quotes: '{name}'; the points are {}", self.point_list()),
        };
        self.broken(expression, format!("unknown point `{name}`"), hint);
        None
    }

    fn point_list(&self) -> String {
        let names: Vec<_> = self.points.keys().map(PointId::as_str).take(12).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    fn call(&mut self, expression: &Expression, call: &CallExpr) -> Typed {
        match (call.func_name.as_str(), call.args.as_slice()) {
            _ if call.target.is_some() => self.method(expression, call),
            (operators::LOGICAL_NOT, [inner]) => (Node::Not(self.bool(inner)), Kind::Bool),
            (operators::LOGICAL_AND, [left, right]) => (Node::And(self.bool(left), self.bool(right)), Kind::Bool),
            (operators::LOGICAL_OR, [left, right]) => (Node::Or(self.bool(left), self.bool(right)), Kind::Bool),
            (operators::CONDITIONAL, [condition, yes, no]) => self.choice(expression, [condition, yes, no]),
            (operators::NEGATE, [inner]) => self.same_number(inner, Node::Negate),
            (operators::ADD, [left, right]) => self.sum_or_join(expression, [left, right]),
            (operators::SUBSTRACT, [left, right]) => self.arithmetic(Arithmetic::Subtract, [left, right]),
            (operators::MULTIPLY, [left, right]) => self.arithmetic(Arithmetic::Multiply, [left, right]),
            (operators::DIVIDE, [left, right]) => self.arithmetic(Arithmetic::Divide, [left, right]),
            (operators::MODULO, [left, right]) => self.remainder(expression, [left, right]),
            (operators::IN, [item, list]) => self.membership(expression, item, list),
            (name, [left, right]) if comparison(name).is_some() => self.compare(expression, name, [left, right]),
            (name, _) if name.starts_with(|c: char| c.is_ascii_alphabetic()) || name.contains("::") => {
                self.function(expression, call)
            }
            (name, _) => self.broken(
                expression,
                format!("`{name}` is not available in a rule"),
                "see the manual of the mapping file",
            ),
        }
    }

    fn choice(&mut self, expression: &Expression, [condition, yes, no]: [&Expression; 3]) -> Typed {
        let condition = *self.bool(condition);
        let (yes, yes_kind) = self.any(yes);
        let (no, no_kind) = self.any(no);
        if !comparable(yes_kind, no_kind) {
            let message = format!("the two results are {} and {}", yes_kind.word(), no_kind.word());
            return self.broken(expression, message, "both sides of `:` give the same kind");
        }
        (Node::If(Box::new([condition, yes, no])), joint(yes_kind, no_kind))
    }

    fn sum_or_join(&mut self, expression: &Expression, [left, right]: [&Expression; 2]) -> Typed {
        let (left_node, left_kind) = self.any(left);
        let (right_node, right_kind) = self.any(right);
        if left_kind == Kind::Text && right_kind == Kind::Text {
            return (Node::Join(Box::new([left_node, right_node])), Kind::Text);
        }
        for (side, kind) in [(left, left_kind), (right, right_kind)] {
            if !kind.may_be_number() {
                let message = format!("`+` adds two numbers or two texts, this is {}", kind.word());
                return self.broken(
                    if kind == Kind::Text { expression } else { side },
                    message,
                    "both sides are of one kind",
                );
            }
        }
        arithmetic(Arithmetic::Add, [(left_node, left_kind), (right_node, right_kind)])
    }

    fn arithmetic(&mut self, operator: Arithmetic, [left, right]: [&Expression; 2]) -> Typed {
        let (left_node, left_kind) = self.number(left);
        let (right_node, right_kind) = self.number(right);
        arithmetic(operator, [(*left_node, left_kind), (*right_node, right_kind)])
    }

    fn remainder(&mut self, expression: &Expression, sides: [&Expression; 2]) -> Typed {
        let (node, kind) = self.arithmetic(Arithmetic::Remainder, sides);
        if kind == Kind::Float {
            return self.broken(expression, "`%` works on whole numbers only", "cut them first: int(a) % int(b)");
        }
        (node, kind)
    }

    fn membership(&mut self, expression: &Expression, item: &Expression, list: &Expression) -> Typed {
        let (node, kind) = self.any(item);
        let Expr::List(list) = &list.expr else {
            return self.broken(expression, "after `in` comes a list", "write `state in ['run', 'idle']`");
        };
        let items = list.elements.iter().map(|element| {
            let (node, element_kind) = self.any(element);
            if !comparable(kind, element_kind) {
                let message = format!("{} is never in a list with {}", kind.word(), element_kind.word());
                self.broken(element, message, "list values of the same kind");
            }
            node
        });
        (Node::In(Box::new(node), items.collect()), Kind::Bool)
    }

    fn compare(&mut self, expression: &Expression, name: &str, [left, right]: [&Expression; 2]) -> Typed {
        let (left_node, left_kind) = self.any(left);
        let (right_node, right_kind) = self.any(right);
        let Some((operator, orders)) = comparison(name) else { return NOTHING };
        if !comparable(left_kind, right_kind) {
            let message = format!("{} cannot be compared with {}", left_kind.word(), right_kind.word());
            let bool_side = left_kind == Kind::Bool || right_kind == Kind::Bool;
            let hint =
                if bool_side { "a yes/no point stands alone: `running && …`" } else { "compare like with like" };
            return self.broken(expression, message, hint);
        }
        if orders && (left_kind == Kind::Bool || right_kind == Kind::Bool) {
            let hint = "a yes/no value stands alone, or with `!` in front";
            return self.broken(expression, "yes/no values have no order", hint);
        }
        (Node::Compare(operator, Box::new([left_node, right_node])), Kind::Bool)
    }

    fn bool(&mut self, expression: &Expression) -> Box<Node> {
        let (node, kind) = self.any(expression);
        if !kind.may_be_bool() {
            let message = format!("expected a condition, found {}", kind.word());
            self.broken(expression, message, "compare it with something, for example `> 0`");
        }
        Box::new(node)
    }

    fn number(&mut self, expression: &Expression) -> (Box<Node>, Kind) {
        let (node, kind) = self.any(expression);
        if !kind.may_be_number() {
            let message = format!("expected a number, found {}", kind.word());
            let hint = if kind == Kind::Bool { "write `flag ? 1 : 0`" } else { "a text is no number" };
            self.broken(expression, message, hint);
            return (Box::new(node), Kind::Broken);
        }
        (Box::new(node), kind)
    }

    /// A number that stays of its kind; a point of unknown kind becomes a double.
    fn same_number(&mut self, inner: &Expression, node: fn(Box<Node>) -> Node) -> Typed {
        let (inner, kind) = self.number(inner);
        match kind {
            Kind::Any => (node(Box::new(Node::ToFloat(inner))), Kind::Float),
            kind => (node(inner), kind),
        }
    }

    fn text(&mut self, expression: &Expression) -> Node {
        let (node, kind) = self.any(expression);
        if !kind.may_be_text() {
            self.broken(expression, format!("expected a text, found {}", kind.word()), "texts stand in quotes: 'run'");
        }
        node
    }

    fn broken(&mut self, expression: &Expression, message: impl Into<String>, hint: impl Into<String>) -> Typed {
        self.faults.push(Fault::new(self.offset(expression), message).hint(hint));
        NOTHING
    }

    /// Where an expression begins, for a call where its name begins (the parser notes its bracket or dot).
    fn offset(&self, expression: &Expression) -> usize {
        let noted = self.info.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
        let Expr::Call(call) = &expression.expr else { return noted };
        let before = self.source.get(..noted).unwrap_or_default().trim_end();
        before.strip_suffix(call.func_name.as_str()).map_or(noted, str::len)
    }
}

/// What stands in for an expression that was reported as wrong; it never runs.
const NOTHING: Typed = (Node::Literal(Scalar::Bool(false)), Kind::Broken);

fn arithmetic(operator: Arithmetic, [(left, left_kind), (right, right_kind)]: [Typed; 2]) -> Typed {
    let broken = left_kind == Kind::Broken || right_kind == Kind::Broken;
    let whole = left_kind == Kind::Integer && right_kind == Kind::Integer;
    let kind = match (broken, whole) {
        (true, _) => Kind::Broken,
        (_, true) => Kind::Integer,
        _ => Kind::Float,
    };
    (Node::Arithmetic { operator, whole, sides: Box::new([left, right]) }, kind)
}

fn comparison(name: &str) -> Option<(Comparison, bool)> {
    Some(match name {
        operators::EQUALS => (Comparison::Equal, false),
        operators::NOT_EQUALS => (Comparison::NotEqual, false),
        operators::LESS => (Comparison::Less, true),
        operators::LESS_EQUALS => (Comparison::LessOrEqual, true),
        operators::GREATER => (Comparison::Greater, true),
        operators::GREATER_EQUALS => (Comparison::GreaterOrEqual, true),
        _ => return None,
    })
}

fn comparable(left: Kind, right: Kind) -> bool {
    let loose = |kind| matches!(kind, Kind::Any | Kind::Broken);
    let number = |kind| matches!(kind, Kind::Integer | Kind::Float);
    loose(left) || loose(right) || left == right || (number(left) && number(right))
}

fn joint(left: Kind, right: Kind) -> Kind {
    match (left, right) {
        _ if left == right => left,
        (Kind::Broken, _) | (_, Kind::Broken) => Kind::Broken,
        (Kind::Any, _) | (_, Kind::Any) => Kind::Any,
        _ => Kind::Any,
    }
}
