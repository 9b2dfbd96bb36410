//! JSON Schema of the two kinds of file, for editors and for our own shape check.

use crate::written::{PlantFile, SheetFile};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;
use std::sync::LazyLock;

/// The schema of plant files; also kept in `mappings/schema/mapping.schema.json`.
#[must_use]
pub fn json_schema() -> Value {
    PLANT.clone()
}

/// The schema of data sheets; also kept in `mappings/schema/device.schema.json`.
#[must_use]
pub fn sheet_json_schema() -> Value {
    SHEET.clone()
}

pub(crate) static PLANT: LazyLock<Value> = LazyLock::new(generate::<PlantFile>);
pub(crate) static SHEET: LazyLock<Value> = LazyLock::new(generate::<SheetFile>);

fn generate<T: JsonSchema>() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>().to_value();
    forbid_null(&mut schema);
    schema
}

/// A key that is optional may be left out; writing it and then nothing behind it is a slip.
fn forbid_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(forbid_null),
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(one)] = any.as_slice() {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
            object.values_mut().for_each(forbid_null);
        }
        _ => {}
    }
}
