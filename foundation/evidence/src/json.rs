//! The same file for people: JSON with every byte of the CBOR in it, and beside each byte string what stands in it.
//! Rules: `docs/formats/evidence-json.md`.
//!
//! The bytes alone are checked. What is shown beside them is made anew from them while reading, and every difference is
//! named, so that nobody reads one thing and verifies another.

use crate::cbor::{self, Cbor, CborFault};
use serde_json::{Map, Value as Json};

mod reads;
mod strict;

/// The member that says that a JSON text is one of these, and which form.
const MARK: &str = "tallystick-json";
/// Version of the form.
const FORM: u64 = 1;
/// The member that holds the bytes of a byte string.
const HEX: &str = "hex";
/// The member that shows what stands in them.
const READS: &str = "reads";

/// Why a text is not the JSON form of a file, or a file has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not strict CBOR.
    #[error("{0}")]
    Cbor(#[from] CborFault),
    /// Not JSON, or a member stands twice.
    #[error("not the JSON form of an evidence file: {0}")]
    Syntax(String),
    /// Another form.
    #[error("JSON form {0}; this program reads form {FORM}")]
    Form(String),
    /// Something that the form does not have.
    #[error("not the JSON form of an evidence file: `{path}` is {found}")]
    Shape {
        /// Members from the outside in: `entries/1/statement`.
        path: String,
        /// What it is.
        found: &'static str,
    },
}

/// A place where the text shows something else than the bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Members from the outside in: `entries/1/statement/reads/payload/at`.
    pub path: String,
    /// What the text shows, as JSON.
    pub shown: String,
    /// What the bytes say, as JSON; `None`: nothing there.
    pub said: Option<String>,
}

/// A file that was read from its JSON form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromJson {
    /// The file: exactly the bytes that [`to_json`] was given.
    pub cbor: Vec<u8>,
    /// Where what is shown is not what the bytes say.
    pub mismatches: Vec<Mismatch>,
}

/// Whether `file` is JSON rather than CBOR: a file's CBOR begins with the head of a map (0xa0 to 0xbf).
#[must_use]
pub fn is_json(file: &[u8]) -> bool {
    file.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// The JSON form of an evidence or coverage file: pretty, with a line end.
///
/// # Errors
/// [`JsonFault::Cbor`] when `file` is no deterministic CBOR; [`JsonFault::Shape`] when it holds what no file of ours does.
pub fn to_json(file: &[u8]) -> Result<String, JsonFault> {
    let mut json = carry(&cbor::decode(file)?, &mut Vec::new())?;
    let Json::Object(members) = &mut json else { return Err(shape(&[], "no map")) };
    members.insert(MARK.to_owned(), FORM.into());
    Ok(format!("{json:#}\n"))
}

/// Reads the JSON form: the bytes in it, and where it shows something else.
///
/// # Errors
/// [`JsonFault`].
pub fn from_json(text: &[u8]) -> Result<FromJson, JsonFault> {
    let mut json = strict::parse(text).map_err(|fault| JsonFault::Syntax(fault.to_string()))?;
    let Json::Object(members) = &mut json else { return Err(shape(&[], "no object")) };
    match members.remove(MARK) {
        Some(form) if form == FORM => {}
        Some(form) => return Err(JsonFault::Form(form.to_string())),
        None => return Err(JsonFault::Form("unknown".to_owned())),
    }
    let mut mismatches = Vec::new();
    let value = take(&json, &mut Vec::new(), &mut mismatches)?;
    Ok(FromJson { cbor: cbor::encode(&value), mismatches })
}

type Path = Vec<String>;

fn shape(path: &[String], found: &'static str) -> JsonFault {
    JsonFault::Shape { path: path.join("/"), found }
}

/// A step down and up again.
fn below<T>(path: &mut Path, step: impl ToString, work: impl FnOnce(&mut Path) -> T) -> T {
    path.push(step.to_string());
    let result = work(path);
    path.pop();
    result
}

/// CBOR as JSON without loss.
fn carry(value: &Cbor, path: &mut Path) -> Result<Json, JsonFault> {
    match value {
        Cbor::Text(text) => Ok(Json::String(text.clone())),
        Cbor::Integer(number) => {
            let number = i128::from(*number);
            let json = u64::try_from(number).map(Json::from).or_else(|_| i64::try_from(number).map(Json::from));
            json.map_err(|_| shape(path, "a number that JSON programs do not read"))
        }
        Cbor::Bytes(bytes) => Ok(carry_bytes(path.last().map(String::as_str), bytes)),
        Cbor::Array(items) => {
            let items = items.iter().enumerate();
            items
                .map(|(place, item)| below(path, place, |path| carry(item, path)))
                .collect::<Result<_, _>>()
                .map(Json::Array)
        }
        Cbor::Map(pairs) => {
            let mut members = Map::new();
            for (key, value) in pairs {
                let Cbor::Text(key) = key else { return Err(shape(path, "a map with keys that are no texts")) };
                if [HEX, MARK].contains(&key.as_str()) {
                    return Err(shape(path, "a map with a key that means something else in JSON"));
                }
                members.insert(key.clone(), below(path, key, |path| carry(value, path))?);
            }
            Ok(Json::Object(members))
        }
        _ => Err(shape(path, "neither text, whole number, byte string, array nor map")),
    }
}

/// `{"hex": …}`, and `reads` where there is something to read.
fn carry_bytes(name: Option<&str>, bytes: &[u8]) -> Json {
    let mut members = Map::new();
    members.insert(HEX.to_owned(), hex::encode(bytes).into());
    if let Some(reads) = reads::reads(name, bytes) {
        members.insert(READS.to_owned(), reads);
    }
    Json::Object(members)
}

/// The inverse of [`carry`].
fn take(json: &Json, path: &mut Path, mismatches: &mut Vec<Mismatch>) -> Result<Cbor, JsonFault> {
    match json {
        Json::String(text) => Ok(cbor::text(text.clone())),
        Json::Number(number) => {
            let number = number.as_u64().map(cbor::int).or_else(|| number.as_i64().map(cbor::int));
            number.ok_or_else(|| shape(path, "not a whole number below 2^64"))
        }
        Json::Array(items) => {
            let items = items.iter().enumerate();
            let items = items.map(|(place, item)| below(path, place, |path| take(item, path, mismatches)));
            items.collect::<Result<_, _>>().map(Cbor::Array)
        }
        Json::Object(members) => match members.get(HEX) {
            Some(hex) => take_bytes(hex, members, path, mismatches),
            None => {
                let pairs = members
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), below(path, key, |path| take(value, path, mismatches))?)));
                Ok(cbor::map(pairs.collect::<Result<Vec<_>, JsonFault>>()?))
            }
        },
        Json::Null | Json::Bool(_) => Err(shape(path, "neither text, whole number, array nor object")),
    }
}

/// A byte string, and whether what is shown beside it is so.
fn take_bytes(
    hex: &Json,
    members: &Map<String, Json>,
    path: &mut Path,
    mismatches: &mut Vec<Mismatch>,
) -> Result<Cbor, JsonFault> {
    let lower = |hex: &&str| !hex.bytes().any(|byte| byte.is_ascii_uppercase());
    let bytes = hex.as_str().filter(lower).and_then(|hex| hex::decode(hex).ok());
    let bytes = bytes.ok_or_else(|| shape(path, "not hexadecimal digits, in small letters"))?;
    let true_one = carry_bytes(path.last().map(String::as_str), &bytes);
    // Through text once, as what is compared with it has gone: a number has the same form on both sides.
    let true_one =
        strict::parse(true_one.to_string().as_bytes()).map_err(|fault| JsonFault::Syntax(fault.to_string()))?;
    compare(&Json::Object(members.clone()), Some(&true_one), path, mismatches);
    Ok(cbor::bytes(bytes))
}

/// Names every difference. What is not shown is no lie: an older program showed less.
fn compare(shown: &Json, said: Option<&Json>, path: &mut Path, mismatches: &mut Vec<Mismatch>) {
    match (shown, said) {
        (Json::Object(shown), Some(Json::Object(said))) => {
            for (key, shown) in shown {
                below(path, key, |path| compare(shown, said.get(key), path, mismatches));
            }
        }
        (Json::Array(shown), Some(Json::Array(said))) if shown.len() == said.len() => {
            for (place, (shown, said)) in shown.iter().zip(said).enumerate() {
                below(path, place, |path| compare(shown, Some(said), path, mismatches));
            }
        }
        _ if Some(shown) == said => {}
        _ => mismatches.push(Mismatch {
            path: path.join("/"),
            shown: shown.to_string(),
            said: said.map(ToString::to_string),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cbor::{bytes, int, map, text};
    use proptest::prelude::*;

    /// What files are made of; byte strings are now and then CBOR themselves.
    fn item() -> impl Strategy<Value = Cbor> {
        let name = "[a-z]{1,8}";
        let leaf = prop_oneof![
            ".{0,20}".prop_map(text),
            any::<u64>().prop_map(int),
            any::<i64>().prop_map(int),
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(bytes),
            (name, any::<i64>()).prop_map(|(key, number)| bytes(cbor::encode(&map([(key, int(number))])))),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Cbor::Array),
                proptest::collection::btree_map(name, inner.clone(), 0..5).prop_map(map),
                inner.prop_map(|inner| bytes(cbor::encode(&inner))),
            ]
        })
    }

    proptest! {
        #[test]
        fn there_and_back_gives_the_same_bytes(
            fields in proptest::collection::btree_map("[b-z]{1,8}", item(), 0..6),
        ) {
            let file = cbor::encode(&map(fields));
            match to_json(&file) {
                Ok(text) => {
                    let back = from_json(text.as_bytes()).unwrap();
                    prop_assert_eq!(back.cbor, file);
                    prop_assert_eq!(back.mismatches, vec![]);
                }
                // A field named `hex` by chance.
                Err(fault) => prop_assert!(fault.to_string().contains("means something else"), "{}", fault),
            }
        }

        #[test]
        fn random_text_never_panics(text in r#"[{}\[\]",:0-9a-fhex]{0,60}"#, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = from_json(text.as_bytes());
            let _ = from_json(format!("{{\"tallystick-json\": 1, \"a\": {text}}}").as_bytes());
            let _ = (from_json(&bytes), to_json(&bytes));
        }
    }

    #[test]
    fn what_no_file_of_ours_holds_is_refused() {
        for value in [Cbor::Float(1.5), Cbor::Null, Cbor::Tag(1, Box::new(int(0))), map([("hex", int(1))])] {
            let file = cbor::encode(&map([("x", value)]));
            assert!(matches!(to_json(&file), Err(JsonFault::Shape { path, .. }) if path == "x"));
        }
    }
}
