//! Running a checked expression. `None` is *unknown*: no value, too thin a window, or a number that is not finite.

use super::tree::{Arithmetic, Comparison, Node, Scalar, TextTest};
use crate::history::History;
use std::cmp::Ordering;

/// What `node` gives at the rule time of `history`.
pub(crate) fn evaluate<'a>(node: &'a Node, history: &'a History) -> Option<Scalar<'a>> {
    match node {
        Node::Literal(Scalar::Text(text)) => Some(Scalar::Text(text.as_ref().into())),
        Node::Literal(literal) => Some(literal.clone()),
        Node::Point(slot) => history.newest(*slot).map(Scalar::of),
        Node::Last(slot) => history.newest_usable(*slot).map(Scalar::of),
        Node::Window { function, slot, width } => history.window(*slot, *width).apply(*function).ok(),
        Node::Not(inner) => flag(inner, history).map(|flag| Scalar::Bool(!flag)),
        Node::And(left, right) => both(left, right, history, false),
        Node::Or(left, right) => both(left, right, history, true),
        Node::If(parts) => {
            let [condition, yes, no] = parts.as_ref();
            evaluate(if flag(condition, history)? { yes } else { no }, history)
        }
        Node::Negate(inner) => negate(evaluate(inner, history)?),
        Node::Absolute(inner) => absolute(evaluate(inner, history)?),
        Node::ToInteger(inner) => to_integer(evaluate(inner, history)?),
        Node::ToFloat(inner) => evaluate(inner, history)?.number().and_then(finite),
        Node::Arithmetic { operator, whole, sides } => arithmetic(*operator, *whole, sides, history),
        Node::Join(sides) => join(sides, history),
        Node::Compare(operator, sides) => {
            let ordering = compare(&evaluate(&sides[0], history)?, &evaluate(&sides[1], history)?)?;
            Some(Scalar::Bool(holds(*operator, ordering)))
        }
        Node::In(inner, list) => membership(inner, list, history),
        Node::TextTest(test, sides) => text_test(*test, sides, history),
    }
}

fn flag(node: &Node, history: &History) -> Option<bool> {
    match evaluate(node, history)? {
        Scalar::Bool(flag) => Some(flag),
        _ => None,
    }
}

/// `&&` (decided by false) and `||` (decided by true): one deciding side decides, whatever the other side is.
fn both<'a>(left: &Node, right: &Node, history: &History, decides: bool) -> Option<Scalar<'a>> {
    let left = flag(left, history);
    if left == Some(decides) {
        return Some(Scalar::Bool(decides));
    }
    let right = flag(right, history);
    if right == Some(decides) {
        return Some(Scalar::Bool(decides));
    }
    left.and(right).map(Scalar::Bool)
}

fn finite<'a>(number: f64) -> Option<Scalar<'a>> {
    number.is_finite().then_some(Scalar::Float(number))
}

/// Integers are those of `i64` and `u64` (CEL's int and uint); beyond them CEL says overflow, and so do we.
fn integer<'a>(number: i128) -> Option<Scalar<'a>> {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(Scalar::Integer(number))
}

fn negate(value: Scalar<'_>) -> Option<Scalar<'_>> {
    match value {
        Scalar::Integer(number) => integer(-number),
        Scalar::Float(number) => finite(-number),
        Scalar::Bool(_) | Scalar::Text(_) => None,
    }
}

fn absolute(value: Scalar<'_>) -> Option<Scalar<'_>> {
    match value {
        Scalar::Integer(number) => integer(number.abs()),
        Scalar::Float(number) => finite(number.abs()),
        Scalar::Bool(_) | Scalar::Text(_) => None,
    }
}

/// CEL's `int()`: cuts towards zero.
#[allow(clippy::cast_possible_truncation)] // `as` saturates far outside the range that `integer` then refuses
fn to_integer(value: Scalar<'_>) -> Option<Scalar<'_>> {
    match value {
        Scalar::Integer(number) => integer(number),
        Scalar::Float(number) => integer(number.trunc() as i128),
        Scalar::Bool(_) | Scalar::Text(_) => None,
    }
}

fn arithmetic<'a>(operator: Arithmetic, whole: bool, sides: &'a [Node; 2], history: &'a History) -> Option<Scalar<'a>> {
    let (left, right) = (evaluate(&sides[0], history)?, evaluate(&sides[1], history)?);
    if whole {
        let (Scalar::Integer(left), Scalar::Integer(right)) = (left, right) else { return None };
        return whole_arithmetic(operator, left, right).and_then(integer);
    }
    let (left, right) = (left.number()?, right.number()?);
    finite(match operator {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => return None,
    })
}

/// Division and remainder cut towards zero, as in CEL; by zero there is no answer.
fn whole_arithmetic(operator: Arithmetic, left: i128, right: i128) -> Option<i128> {
    match operator {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
    }
}

fn join<'a>(sides: &'a [Node; 2], history: &'a History) -> Option<Scalar<'a>> {
    match (evaluate(&sides[0], history)?, evaluate(&sides[1], history)?) {
        (Scalar::Text(left), Scalar::Text(right)) => Some(Scalar::Text(left + right)),
        _ => None,
    }
}

fn compare(left: &Scalar<'_>, right: &Scalar<'_>) -> Option<Ordering> {
    match (left, right) {
        (Scalar::Bool(left), Scalar::Bool(right)) => Some(left.cmp(right)),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        (Scalar::Integer(left), Scalar::Integer(right)) => Some(left.cmp(right)),
        (Scalar::Float(left), Scalar::Float(right)) => left.partial_cmp(right),
        (Scalar::Integer(left), Scalar::Float(right)) => Some(compare_mixed(*left, *right)),
        (Scalar::Float(left), Scalar::Integer(right)) => Some(compare_mixed(*right, *left).reverse()),
        _ => None,
    }
}

/// A whole number against a decimal one, exactly (CEL specification, "heterogeneous numeric comparison"): rounding
/// the whole number first would make 2^53 and 2^53 + 1 equal.
#[allow(clippy::cast_possible_truncation)] // `trunc` first, and `as` saturates beyond i128, where the order is still right
fn compare_mixed(whole: i128, decimal: f64) -> Ordering {
    let cut = decimal.trunc();
    whole.cmp(&(cut as i128)).then_with(|| 0.0_f64.partial_cmp(&(decimal - cut)).unwrap_or(Ordering::Equal))
}

const fn holds(operator: Comparison, ordering: Ordering) -> bool {
    match operator {
        Comparison::Equal => ordering.is_eq(),
        Comparison::NotEqual => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    }
}

fn membership<'a>(inner: &'a Node, list: &'a [Node], history: &'a History) -> Option<Scalar<'a>> {
    let value = evaluate(inner, history)?;
    let mut found = false;
    for item in list {
        // A value of another kind is not in the list; an unknown item leaves the answer unknown.
        found |= compare(&value, &evaluate(item, history)?).is_some_and(Ordering::is_eq);
    }
    Some(Scalar::Bool(found))
}

fn text_test<'a>(test: TextTest, sides: &'a [Node; 2], history: &'a History) -> Option<Scalar<'a>> {
    let (Scalar::Text(text), Scalar::Text(part)) = (evaluate(&sides[0], history)?, evaluate(&sides[1], history)?)
    else {
        return None;
    };
    Some(Scalar::Bool(match test {
        TextTest::Contains => text.contains(part.as_ref()),
        TextTest::StartsWith => text.starts_with(part.as_ref()),
        TextTest::EndsWith => text.ends_with(part.as_ref()),
    }))
}
