//! The types of expressions: CEL checks them only while it runs, a contract must be right before.

use crate::datum::FieldType;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators as op};
use std::collections::BTreeMap;

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Integer,
    Number,
    Bool,
    Text,
    List,
}

impl Type {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Integer => "a whole number",
            Self::Number => "a decimal number",
            Self::Bool => "true or false",
            Self::Text => "a text",
            Self::List => "a list of texts",
        }
    }

    pub(crate) fn takes(self, found: Self) -> bool {
        self == found
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Number)
    }
}

impl From<FieldType> for Type {
    fn from(kind: FieldType) -> Self {
        match kind {
            FieldType::Device | FieldType::Party | FieldType::Text => Self::Text,
            FieldType::Money | FieldType::Integer | FieldType::Time | FieldType::Duration => Self::Integer,
            FieldType::Bool => Self::Bool,
            FieldType::List => Self::List,
            FieldType::Number => Self::Number,
        }
    }
}

/// The names an expression may use, dotted ones whole (`args.amount`), with their types.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names<'a> {
    known: BTreeMap<String, Type>,
    outer: Option<&'a Names<'a>>,
}

impl<'a> Names<'a> {
    pub(crate) fn within(outer: &'a Names<'a>) -> Self {
        Self { known: BTreeMap::new(), outer: Some(outer) }
    }

    pub(crate) fn add(&mut self, name: impl Into<String>, kind: Type) -> &mut Self {
        self.known.insert(name.into(), kind);
        self
    }

    pub(crate) fn find(&self, name: &str) -> Option<Type> {
        self.known.get(name).copied().or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }

    fn all(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.known.keys().map(String::as_str).collect();
        all.extend(self.outer.map(Names::all).unwrap_or_default());
        all.sort_unstable();
        all
    }
}

/// `a.b.c` as one name; `None` for anything else.
pub(crate) fn dotted(expression: &IdedExpr) -> Option<String> {
    match &expression.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

/// Deepest expression: the parser bounds brackets, but `1+1+1+…` is a tree as deep as it is long, and each level costs
/// stack when it is checked and when it is evaluated.
const DEPTH_MAX: usize = 64;

/// Refuses an expression that is too deep, without recursion.
pub(crate) fn check_depth(expression: &IdedExpr) -> Result<(), String> {
    let mut waiting = vec![(expression, 1)];
    while let Some((expression, depth)) = waiting.pop() {
        if depth > DEPTH_MAX {
            return Err(format!("is nested more than {DEPTH_MAX} deep"));
        }
        match &expression.expr {
            Expr::Call(call) => {
                waiting.extend(call.target.as_deref().into_iter().chain(&call.args).map(|child| (child, depth + 1)));
            }
            Expr::Select(select) => waiting.push((&select.operand, depth + 1)),
            Expr::List(list) => waiting.extend(list.elements.iter().map(|child| (child, depth + 1))),
            Expr::Comprehension(it) => {
                let parts = [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result];
                waiting.extend(parts.map(|child| (child, depth + 1)));
            }
            // Maps and structs are refused as such; names and literals have no children.
            _ => {}
        }
    }
    Ok(())
}

/// The type of an expression, or what is wrong with it.
pub(crate) fn infer(expression: &IdedExpr, names: &Names<'_>) -> Result<Type, String> {
    match &expression.expr {
        Expr::Literal(literal) => literal_type(literal),
        Expr::Ident(_) | Expr::Select(_) => {
            let name = dotted(expression).ok_or("uses `has` or selects from something that is no name")?;
            let unknown = || format!("names `{name}`, which is unknown here; known are: {}", names.all().join(", "));
            names.find(&name).ok_or_else(unknown)
        }
        Expr::Call(call) => call_type(call, names),
        Expr::List(list) => {
            for element in &list.elements {
                want(element, Type::Text, names)?;
            }
            Ok(Type::List)
        }
        Expr::Comprehension(comprehension) => comprehension_type(comprehension, names),
        Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err("uses a map or struct; contracts have none".into()),
    }
}

fn literal_type(literal: &LiteralValue) -> Result<Type, String> {
    match literal {
        LiteralValue::Boolean(_) => Ok(Type::Bool),
        LiteralValue::Int(_) => Ok(Type::Integer),
        LiteralValue::Double(_) => Ok(Type::Number),
        LiteralValue::String(_) => Ok(Type::Text),
        other => Err(format!("uses {other:?}; contracts have whole numbers, texts, flags and lists of texts")),
    }
}

fn want(expression: &IdedExpr, wanted: Type, names: &Names<'_>) -> Result<(), String> {
    let found = infer(expression, names)?;
    let mismatch = || format!("gives {} where {} is needed", found.word(), wanted.word());
    if wanted.takes(found) { Ok(()) } else { Err(mismatch()) }
}

fn call_type(call: &CallExpr, names: &Names<'_>) -> Result<Type, String> {
    let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
    match (call.func_name.as_str(), operands.as_slice()) {
        (op::LOGICAL_AND | op::LOGICAL_OR, all) => {
            all.iter().try_for_each(|operand| want(operand, Type::Bool, names)).map(|()| Type::Bool)
        }
        (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [one]) => want(one, Type::Bool, names).map(|()| Type::Bool),
        (op::NEGATE, [one]) => want(one, Type::Integer, names).map(|()| Type::Integer),
        (op::CONDITIONAL, [condition, yes, no]) => {
            want(condition, Type::Bool, names)?;
            let kind = infer(yes, names)?;
            want(no, kind, names).map(|()| kind)
        }
        (op::EQUALS | op::NOT_EQUALS, [left, right]) => comparable(left, right, names, |_| true),
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
            comparable(left, right, names, |kind| kind.is_number() || kind == Type::Text)
        }
        (op::ADD, [left, right]) => {
            let kind = infer(left, names)?;
            if !matches!(kind, Type::Integer | Type::Text | Type::List) {
                return Err(format!("adds {}", kind.word()));
            }
            want(right, kind, names).map(|()| kind)
        }
        (op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [left, right]) => {
            want(left, Type::Integer, names)?;
            want(right, Type::Integer, names).map(|()| Type::Integer)
        }
        (op::IN, [item, list]) => {
            want(item, Type::Text, names)?;
            want(list, Type::List, names).map(|()| Type::Bool)
        }
        ("size", [one]) => match infer(one, names)? {
            Type::Text | Type::List => Ok(Type::Integer),
            other => Err(format!("asks for the size of {}", other.word())),
        },
        ("contains" | "startsWith" | "endsWith", [text, part]) if call.target.is_some() => {
            want(text, Type::Text, names)?;
            want(part, Type::Text, names).map(|()| Type::Bool)
        }
        (name, _) => Err(format!(
            "uses `{name}`; allowed are + - * / % == != < <= > >= && || ! ?: in, size, contains, startsWith, endsWith, \
             exists, exists_one, all, filter, map"
        )),
    }
}

fn comparable(
    left: &IdedExpr,
    right: &IdedExpr,
    names: &Names<'_>,
    allowed: impl Fn(Type) -> bool,
) -> Result<Type, String> {
    let (left, right) = (infer(left, names)?, infer(right, names)?);
    let alike = left == right || left.is_number() && right.is_number();
    if alike && allowed(left) {
        return Ok(Type::Bool);
    }
    Err(format!("compares {} with {}", left.word(), right.word()))
}

/// `list.exists(x, …)` and its kin, as the macros write them. Only lists: the order of a map's keys is not fixed.
fn comprehension_type(macro_: &ComprehensionExpr, names: &Names<'_>) -> Result<Type, String> {
    want(&macro_.iter_range, Type::List, names)?;
    let kind = infer(&macro_.accu_init, names)?;
    let mut inner = Names::within(names);
    inner.add(macro_.accu_var.clone(), kind).add(macro_.iter_var.clone(), Type::Text);
    if macro_.iter_var2.is_some() {
        return Err("uses a macro with two variables".into());
    }
    want(&macro_.loop_cond, Type::Bool, &inner)?;
    want(&macro_.loop_step, kind, &inner)?;
    infer(&macro_.result, &inner)
}
