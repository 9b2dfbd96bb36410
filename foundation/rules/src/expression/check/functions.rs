//! Calls: the window functions with their point and duration, the small functions on numbers, the tests on texts.

use super::super::tree::{Function, Kind, Node, Slot, TextTest};
use super::{Checker, NOTHING, Typed};
use crate::near::nearest_name;
use crate::rule::WINDOW_MAX;
use cel::common::ast::{CallExpr, Expr, LiteralValue};
use cel::parser::Expression;
use std::time::Duration;
use tally_model::parse_duration;

pub(super) const FUNCTIONS: &[&str] =
    &["min", "max", "mean", "sum", "count", "rate", "integral", "time_in", "last", "abs", "int", "double"];
const METHODS: &[(&str, TextTest)] =
    &[("contains", TextTest::Contains), ("startsWith", TextTest::StartsWith), ("endsWith", TextTest::EndsWith)];

impl Checker<'_> {
    pub(super) fn function(&mut self, expression: &Expression, call: &CallExpr) -> Typed {
        let name = call.func_name.as_str();
        if let Some((_, function)) = Function::ALL.iter().find(|(word, _)| *word == name) {
            return self.window(expression, *function, &call.args);
        }
        match (name, call.args.as_slice()) {
            ("last", [point]) => match self.point_argument(expression, name, point) {
                Some((slot, kind)) => (Node::Last(slot), kind),
                None => NOTHING,
            },
            ("abs", [inner]) => self.same_number(inner, Node::Absolute),
            ("int", [inner]) => (Node::ToInteger(self.number(inner).0), Kind::Integer),
            ("double", [inner]) => (Node::ToFloat(self.number(inner).0), Kind::Float),
            ("last" | "abs" | "int" | "double", arguments) => {
                let message = format!("`{name}` takes one argument, not {}", arguments.len());
                self.broken(expression, message, format!("write `{name}(…)`"))
            }
            _ => {
                let hint = match nearest_name(name, FUNCTIONS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the functions are {}", FUNCTIONS.join(", ")),
                };
                self.broken(expression, format!("unknown function `{name}`"), hint)
            }
        }
    }

    fn window(&mut self, expression: &Expression, function: Function, arguments: &[Expression]) -> Typed {
        let name = function.word();
        let [point, width] = arguments else {
            let message = format!("`{name}` takes a point and a duration, not {} argument(s)", arguments.len());
            return self.broken(expression, message, format!("write `{name}(point, '10s')`"));
        };
        let point = self.point_argument(expression, name, point).and_then(|found| self.fits(function, point, found));
        let width = self.width(name, width);
        match (point, width) {
            (Some(slot), Some(width)) => {
                let kind = if function == Function::Count { Kind::Integer } else { Kind::Float };
                (Node::Window { function, slot, width }, kind)
            }
            _ => NOTHING,
        }
    }

    fn point_argument(&mut self, call: &Expression, name: &str, argument: &Expression) -> Option<(Slot, Kind)> {
        if let Expr::Ident(point) = &argument.expr {
            return self.slot(argument, point);
        }
        self.broken(
            call,
            format!("the first argument of `{name}` is the name of a point"),
            format!("write `{name}(point…)`"),
        );
        None
    }

    fn fits(&mut self, function: Function, argument: &Expression, (slot, kind): (Slot, Kind)) -> Option<Slot> {
        let (fits, wants) = match function {
            Function::Count => (true, ""),
            Function::TimeIn => (kind.may_be_bool(), "a yes/no point; for a number compare in the rule itself"),
            _ if kind == Kind::Bool => (false, "a number; for a yes/no point use `time_in`"),
            _ => (kind.may_be_number(), "a number"),
        };
        if !fits {
            let message = format!("`{}` cannot work on {}", function.word(), kind.word());
            self.broken(argument, message, format!("it wants {wants}"));
        }
        fits.then_some(slot)
    }

    fn width(&mut self, name: &str, argument: &Expression) -> Option<i64> {
        let Expr::Literal(LiteralValue::String(text)) = &argument.expr else {
            let message = format!("the second argument of `{name}` is a duration in quotes");
            self.broken(argument, message, "write for example '500ms', '10s' or '5min'");
            return None;
        };
        let width = match parse_duration(text.inner()) {
            Ok(width) => width,
            Err(fault) => {
                self.broken(argument, fault.to_string(), "write for example '500ms', '10s' or '5min'");
                return None;
            }
        };
        if width < Duration::from_micros(1) || width > WINDOW_MAX {
            let message = format!("a window of {} is not possible", text.inner());
            self.broken(argument, message, "windows are longer than nothing and at most 24h");
            return None;
        }
        i64::try_from(width.as_micros()).ok()
    }

    pub(super) fn method(&mut self, expression: &Expression, call: &CallExpr) -> Typed {
        let name = call.func_name.as_str();
        match (&call.target, METHODS.iter().find(|(method, _)| *method == name), call.args.as_slice()) {
            (Some(target), Some((_, test)), [argument]) => {
                let sides = Box::new([self.text(target), self.text(argument)]);
                (Node::TextTest(*test, sides), Kind::Bool)
            }
            _ => {
                let hint = "texts know contains, startsWith and endsWith, each with one text; all other functions are \
                            written in front: mean(vibration, '10s')";
                self.broken(expression, format!("unknown function `.{name}`"), hint)
            }
        }
    }
}
