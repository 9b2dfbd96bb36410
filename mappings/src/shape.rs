//! The tree against the schema: unknown keys, missing keys, wrong types. What is wrong is reported and taken out, so
//! that the rest can be filled into the as-written types and checked further.

use crate::fault::{Fault, did_you_mean};
use crate::yaml::{Content, Document, Node, Place, child, fault_at};
use serde_json::{Map, Number, Value};
use tally_rules::nearest_name;

/// Holds `document` against `schema`; gives what is right of it.
pub(crate) fn check_shape(document: &Document, schema: &Value) -> (Value, Vec<Fault>) {
    let mut shape = Shape { document, definitions: schema.get("$defs"), faults: Vec::new() };
    let right = shape.value(schema, &document.root, "");
    (right.unwrap_or_else(|| Value::Object(Map::new())), shape.faults)
}

struct Shape<'a> {
    document: &'a Document,
    definitions: Option<&'a Value>,
    faults: Vec<Fault>,
}

impl<'a> Shape<'a> {
    /// What is right of `node`; nothing when it is wrong as a whole.
    fn value(&mut self, schema: &'a Value, node: &Node, path: &str) -> Option<Value> {
        let schema = self.resolve(schema);
        if let Some(words) = words(schema) {
            return self.word(&words, node, path);
        }
        match (schema.get("type").and_then(Value::as_str), &node.content) {
            (_, Content::Broken) => None,
            (Some("object"), Content::Map(_)) => Some(self.map(schema, node, path)),
            (Some("array"), Content::List(items)) => self.list(schema, node, items, path),
            (Some("string"), Content::Scalar { text, plain }) if !(*plain && is_null(text)) => {
                Some(text.clone().into())
            }
            (Some("number"), Content::Scalar { text, plain: true }) => self.number(node, text, path),
            (Some("integer"), Content::Scalar { text, plain: true }) => self.integer(schema, node, text, path),
            (Some("boolean"), Content::Scalar { text, plain: true }) if is_flag(text) => {
                Some(text.eq_ignore_ascii_case("true").into())
            }
            (kind, _) => self.wrong_type(kind.unwrap_or_default(), node, path),
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        reference.and_then(|name| self.definitions?.get(name)).unwrap_or(schema)
    }

    fn fault(&mut self, place: &Place, path: &str, message: impl Into<String>) -> &mut Fault {
        self.faults.push(fault_at(&self.document.file, place, path, message));
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    fn map(&mut self, schema: &'a Value, node: &Node, path: &str) -> Value {
        let Content::Map(entries) = &node.content else { return Value::Null };
        let properties = schema.get("properties").and_then(Value::as_object);
        let free = schema.get("additionalProperties").filter(|schema| schema.is_object());
        let mut right = Map::new();
        for entry in entries {
            let entry_path = child(path, &entry.key);
            let known = properties.and_then(|properties| properties.get(&entry.key)).or(free);
            match known {
                Some(schema) => {
                    let value = self.value(schema, &entry.value, &entry_path);
                    right.extend(value.map(|value| (entry.key.clone(), value)));
                }
                None => self.unknown_key(properties, &entry.key, &entry.key_place, &entry_path),
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| node.get(key).is_none()) {
            let fault = fault_at(&self.document.file, &node.place, &child(path, key), format!("`{key}` is missing"));
            if !self.faults.iter().any(|known| fault.is_misspelt_in(known)) {
                self.faults.push(fault.maybe_hint(describe(properties, key)));
            }
        }
        Value::Object(right)
    }

    fn unknown_key(&mut self, properties: Option<&Map<String, Value>>, key: &str, place: &Place, path: &str) {
        let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let near = nearest_name(key, known.iter().copied()).map(did_you_mean);
        // `scale: 0,1` inside { } reads as the keys `scale` and `1`.
        let comma = || key.parse::<f64>().ok().map(|_| "a decimal number is written with a point: 0.1".to_owned());
        let fault = self.fault(place, path, format!("unknown key `{key}`"));
        fault.found = Some(quoted(key));
        fault.allowed = Some(known.join(", "));
        fault.hint = near.or_else(comma);
    }

    fn list(&mut self, schema: &'a Value, node: &Node, items: &[Node], path: &str) -> Option<Value> {
        if let Some(fixed) = schema.get("prefixItems").and_then(Value::as_array) {
            return self.fixed_list(fixed, node, items, path);
        }
        let schema = schema.get("items")?;
        let is_map = self.resolve(schema).get("type").is_some_and(|kind| kind == "object");
        let mut right = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match self.value(schema, item, &format!("{path}[{index}]")) {
                Some(value) => right.push(value),
                // Later items keep their index, because faults are named by it.
                None if is_map => right.push(Value::Object(Map::new())),
                None => {}
            }
        }
        Some(Value::Array(right))
    }

    fn fixed_list(&mut self, fixed: &'a [Value], node: &Node, items: &[Node], path: &str) -> Option<Value> {
        if items.len() != fixed.len() {
            let fault = self.fault(&node.place, path, format!("expected a list of {}", fixed.len()));
            fault.found = Some(format!("a list of {}", items.len()));
            fault.hint = Some("write for example `[0, 120]`".to_owned());
            return None;
        }
        let values = fixed.iter().zip(items).enumerate();
        let values: Vec<_> =
            values.map(|(index, (schema, item))| self.value(schema, item, &format!("{path}[{index}]"))).collect();
        values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
    }

    /// One of a fixed set of words.
    fn word(&mut self, words: &[&str], node: &Node, path: &str) -> Option<Value> {
        let Content::Scalar { text, .. } = &node.content else { return self.wrong_type("string", node, path) };
        if words.contains(&text.as_str()) {
            return Some(text.clone().into());
        }
        let near = nearest_name(text, words.iter().copied()).map(did_you_mean);
        let fault = self.fault(&node.place, path, "not one of the words allowed here");
        fault.found = Some(quoted(text));
        fault.allowed = Some(words.join(", "));
        fault.hint = near;
        None
    }

    fn number(&mut self, node: &Node, text: &str, path: &str) -> Option<Value> {
        let number = text
            .parse::<f64>()
            .ok()
            .filter(|_| text.starts_with(['-', '+', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']));
        match number.and_then(Number::from_f64) {
            Some(number) => Some(Value::Number(number)),
            None => self.wrong_type("number", node, path),
        }
    }

    fn integer(&mut self, schema: &'a Value, node: &Node, text: &str, path: &str) -> Option<Value> {
        let Ok(number) = text.parse::<i64>() else { return self.wrong_type("integer", node, path) };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let least = bound("minimum").unwrap_or(f64::from(i32::MIN));
        let most = bound("maximum").unwrap_or(f64::from(i32::MAX));
        #[allow(clippy::cast_precision_loss)] // compared with 32-bit bounds
        if !(least..=most).contains(&(number as f64)) {
            let fault = self.fault(&node.place, path, "the number is out of range");
            fault.found = Some(quoted(text));
            fault.allowed = Some(format!("{least} to {most}"));
            return None;
        }
        Some(number.into())
    }

    fn wrong_type(&mut self, kind: &str, node: &Node, path: &str) -> Option<Value> {
        let expected = match kind {
            "object" => "keys and values",
            "array" => "a list",
            "number" => "a number",
            "integer" => "a whole number",
            "boolean" => "`true` or `false`",
            _ => "a text",
        };
        let hint = type_hint(kind, &node.content);
        let fault = self.fault(&node.place, path, format!("expected {expected}"));
        fault.found = Some(found(&node.content));
        fault.hint = hint.map(str::to_owned);
        None
    }
}

/// The words of a schema that is a set of words.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return words.iter().map(Value::as_str).collect();
    }
    let options = schema.get("oneOf").and_then(Value::as_array)?;
    let mut words = Vec::new();
    for option in options {
        match (option.get("const"), option.get("enum").and_then(Value::as_array)) {
            (Some(word), _) => words.push(word.as_str()?),
            (None, Some(several)) => words.extend(several.iter().filter_map(Value::as_str)),
            (None, None) => return None,
        }
    }
    Some(words)
}

fn describe(properties: Option<&Map<String, Value>>, key: &str) -> Option<String> {
    let description = properties?.get(key)?.get("description")?.as_str()?;
    let description = description.split('\n').next().unwrap_or(description);
    Some(format!("`{key}:` {}", lower_first(description.trim_end_matches('.'))))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn type_hint(kind: &str, content: &Content) -> Option<&'static str> {
    let text = match content {
        Content::Scalar { text, plain } => Some((text.as_str(), *plain)),
        _ => None,
    };
    match (kind, text) {
        (_, Some((text, true))) if is_null(text) => Some("write a value behind the colon, or remove the key"),
        ("boolean", Some(_)) => Some("YAML 1.2 knows `true` and `false`, without quotes; yes, no, on, off are texts"),
        ("number" | "integer", Some((text, false))) if text.parse::<f64>().is_ok() => {
            Some("write the number without quotes")
        }
        ("number", Some((text, _))) if text.contains(',') => Some("a decimal number is written with a point: 0.1"),
        ("number" | "integer", Some(_)) => Some("write the number alone, without a unit"),
        ("array", _) => Some("begin each item with `- `, or write [a, b]"),
        ("object", Some(_)) => Some("write `key: value` lines, or {key: value}"),
        ("string", None) => Some("a text that begins with { or [ stands in quotes"),
        _ => None,
    }
}

fn found(content: &Content) -> String {
    match content {
        Content::Scalar { text, plain: true } if is_null(text) => "nothing".to_owned(),
        Content::Scalar { text, plain: true } => quoted(text),
        Content::Scalar { text, plain: false } => format!("the text {}", quoted(text)),
        Content::List(_) => "a list".to_owned(),
        Content::Map(_) | Content::Broken => "keys and values".to_owned(),
    }
}

/// At most 60 characters of what was written.
pub(crate) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("`{short}…`") } else { format!("`{short}`") }
}

/// YAML 1.2.2 §10.3.2, core schema.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// YAML 1.2.2 §10.3.2, core schema.
fn is_flag(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}
