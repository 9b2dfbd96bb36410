//! One CEL expression of a contract: compiled once, its names and types checked, evaluated against a [`Scope`].
//!
//! What CEL offers and a ledger must not have is refused when the contract is loaded: maps and structs (their order of
//! iteration is not fixed), functions outside a short list, floats anywhere but in comparisons with a measured number.
//! Integer overflow and division by zero are errors of CEL, and become refusals.

use super::Scope;
use super::types::{Names, Type, check_depth, infer};
use crate::datum::{Datum, LIST_ITEMS_MAX, TEXT_BYTES_MAX};
use cel::common::ast::{Expr, LiteralValue};
use cel::{Context, Env, Program, Value};
use std::sync::{Arc, LazyLock};

/// Longest expression, bytes: conditions are read by people.
const EXPRESSION_BYTES_MAX: usize = 2_000;

/// Deepest brackets. The parser of CEL takes 150 kB of stack per bracket in a debug build, so its own limit of 96 comes too
/// late for a thread with 2 MiB.
const BRACKETS_MAX: usize = 8;

/// The standard functions of CEL, declared once per process.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    source: String,
    form: Form,
}

/// Most expressions are one name or one constant; these need no interpreter.
#[derive(Debug)]
enum Form {
    Constant(Datum),
    Name(String),
    Program(Box<Program>),
}

impl Expression {
    /// Compiles `source`, which must give a `wanted`.
    pub(crate) fn compile(source: &str, wanted: Type, names: &Names<'_>) -> Result<Self, String> {
        if source.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("has {} bytes, at most {EXPRESSION_BYTES_MAX} are allowed", source.len()));
        }
        check_brackets(source)?;
        let program = ENVIRONMENT.compile(source).map_err(|faults| {
            let first = faults.errors.first();
            first.map_or_else(String::new, |fault| {
                format!("is no CEL: {} (at {}:{} of it)", fault.msg.trim(), fault.pos.0, fault.pos.1)
            })
        })?;
        check_depth(program.expression())?;
        let found = infer(program.expression(), names)?;
        if !wanted.takes(found) {
            return Err(format!("gives {}, needed is {}", found.word(), wanted.word()));
        }
        let form = Form::of(program, names);
        Ok(Self { source: source.to_owned(), form })
    }

    /// A value that needs no computing.
    pub(crate) fn constant(datum: Datum) -> Self {
        Self { source: datum.to_string(), form: Form::Constant(datum) }
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The value, or why there is none.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Datum, String> {
        match &self.form {
            Form::Constant(datum) => Ok(datum.clone()),
            Form::Name(name) => scope.find(name).map(|found| found.to_datum()).ok_or_else(|| format!("no {name} here")),
            Form::Program(program) => {
                let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
                context.set_variable_resolver(scope);
                let value = program.execute(&context).map_err(|fault| fault.to_string())?;
                datum_of(value)
            }
        }
    }

    /// The value as an integer.
    pub(crate) fn integer(&self, scope: &Scope<'_>) -> Result<i64, String> {
        match self.evaluate(scope)? {
            Datum::Integer(number) => Ok(number),
            other => Err(format!("gives {other}, which is no whole number")),
        }
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, scope: &Scope<'_>) -> Result<bool, String> {
        match self.evaluate(scope)? {
            Datum::Bool(flag) => Ok(flag),
            other => Err(format!("gives {other}, which is neither true nor false")),
        }
    }
}

impl Form {
    fn of(program: Program, names: &Names<'_>) -> Self {
        match &program.expression().expr {
            Expr::Literal(LiteralValue::Int(number)) => Self::Constant(Datum::Integer(*number.inner())),
            Expr::Literal(LiteralValue::Boolean(flag)) => Self::Constant(Datum::Bool(*flag.inner())),
            Expr::Literal(LiteralValue::String(text)) => Self::Constant(Datum::Text(text.inner().to_owned())),
            _ => match super::types::dotted(program.expression()) {
                Some(name) if names.find(&name).is_some() => Self::Name(name),
                _ => Self::Program(Box::new(program)),
            },
        }
    }
}

/// Counts brackets, also those inside texts: nobody needs so many there either.
fn check_brackets(source: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Err(format!("has more than {BRACKETS_MAX} brackets inside each other"));
        }
    }
    Ok(())
}

fn datum_of(value: Value) -> Result<Datum, String> {
    let too_long = |what: &str, found: usize, max: usize| Err(format!("gives a {what} of {found}, at most {max}"));
    match value {
        Value::Int(number) => Ok(Datum::Integer(number)),
        Value::Bool(flag) => Ok(Datum::Bool(flag)),
        Value::Float(number) if number.is_finite() => Ok(Datum::Number(number)),
        Value::String(text) if text.len() > TEXT_BYTES_MAX => too_long("text", text.len(), TEXT_BYTES_MAX),
        Value::String(text) => Ok(Datum::Text(text.as_str().to_owned())),
        Value::List(items) if items.len() > LIST_ITEMS_MAX => too_long("list", items.len(), LIST_ITEMS_MAX),
        Value::List(items) => {
            let items = items.iter().map(|item| match item {
                Value::String(text) => Ok(text.as_str().to_owned()),
                other => Err(format!("gives a list with {other:?} in it")),
            });
            items.collect::<Result<_, _>>().map(Datum::List)
        }
        other => Err(format!("gives {other:?}")),
    }
}
