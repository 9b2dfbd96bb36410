//! SQLite's functions of two texts, in time that grows with the sum of their lengths and not with their product. Within a call nothing
//! can be interrupted, and SQLite's own ones take minutes for two texts of half a mebibyte that nearly match.
//!
//! Results are those of <https://sqlite.org/lang_corefunc.html>; of arguments that are no text, too, except that numbers with a fraction are
//! written as Rust writes them.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error, Result, ffi};
use std::borrow::Cow;
use std::collections::HashSet;

/// Puts them in the place of SQLite's; `bytes_max` is the longest result.
pub fn install(connection: &Connection, bytes_max: usize) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("instr", 2, flags, |asked| Ok(instr(asked.get_raw(0), asked.get_raw(1))))?;
    connection.create_scalar_function("replace", 3, flags, move |asked| replace(asked, bytes_max))?;
    let trim: fn(&str, &HashSet<char>) -> String = |text, of| text.trim_matches(|c| of.contains(&c)).to_owned();
    let left: fn(&str, &HashSet<char>) -> String = |text, of| text.trim_start_matches(|c| of.contains(&c)).to_owned();
    let right: fn(&str, &HashSet<char>) -> String = |text, of| text.trim_end_matches(|c| of.contains(&c)).to_owned();
    for (name, cut) in [("trim", trim), ("ltrim", left), ("rtrim", right)] {
        connection.create_scalar_function(name, 2, flags, move |asked| {
            let (Some(text), Some(of)) = (text(asked.get_raw(0)), text(asked.get_raw(1))) else { return Ok(None) };
            Ok(Some(cut(&text, &of.chars().collect())))
        })?;
    }
    Ok(())
}

/// Where the second begins in the first, from 1, in characters, of two blobs in bytes; 0 when it is not in it.
fn instr(whole: ValueRef<'_>, part: ValueRef<'_>) -> Value {
    if let (ValueRef::Blob(whole), ValueRef::Blob(part)) = (whole, part) {
        // Each byte as the character of the same number, so that the search is the same one.
        let widened = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
        return place(&widened(whole), &widened(part));
    }
    match (text(whole), text(part)) {
        (Some(whole), Some(part)) => place(&whole, &part),
        _ => Value::Null,
    }
}

fn place(whole: &str, part: &str) -> Value {
    let characters = whole.split_once(part).map(|(before, _)| before.chars().count());
    Value::Integer(characters.and_then(|before| i64::try_from(before + 1).ok()).unwrap_or(0))
}

fn replace(asked: &Context<'_>, bytes_max: usize) -> Result<Option<String>> {
    let (Some(whole), Some(old)) = (text(asked.get_raw(0)), text(asked.get_raw(1))) else { return Ok(None) };
    if old.is_empty() {
        return Ok(Some(whole.into_owned()));
    }
    let Some(new) = text(asked.get_raw(2)) else { return Ok(None) };
    // Before it is made: it could be a mebibyte for each character.
    let times = whole.matches(&*old).count();
    let bytes = (whole.len() - times * old.len()).saturating_add(times.saturating_mul(new.len()));
    if bytes > bytes_max {
        return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_TOOBIG), None));
    }
    Ok(Some(whole.replace(&*old, &new)))
}

/// As SQLite makes a text of a value; of NULL none.
fn text(value: ValueRef<'_>) -> Option<Cow<'_, str>> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string().into()),
        ValueRef::Real(number) => Some(format!("{number:?}").into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ours() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        install(&connection, 1 << 20).unwrap();
        connection
    }

    /// NULL, numbers, blobs, and texts of few letters, so that much is found.
    fn argument() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            (-99_i64..99).prop_map(Value::Integer),
            "[abä1-]{0,6}".prop_map(Value::Text),
            "[ab]{0,4}".prop_map(|text| Value::Blob(text.into_bytes())),
        ]
    }

    proptest! {
        #[test]
        fn the_results_are_those_of_sqlite(a in argument(), b in argument(), c in argument()) {
            let (ours, theirs) = (ours(), Connection::open_in_memory().unwrap());
            for call in ["instr(?1, ?2)", "replace(?1, ?2, ?3)", "trim(?1, ?2)", "ltrim(?1, ?2)", "rtrim(?1, ?2)"] {
                // All three are used, so that all three can be given.
                let asked = format!("SELECT {call}, ?1 IS ?2 IS ?3");
                let ask = |connection: &Connection| -> Value {
                    connection.query_row(&asked, (&a, &b, &c), |row| row.get(0)).unwrap()
                };
                prop_assert_eq!(ask(&ours), ask(&theirs), "{} of {:?}, {:?}, {:?}", call, a, b, c);
            }
        }
    }

    #[test]
    fn a_result_that_would_be_too_long_is_not_made() {
        let asked = "SELECT replace(hex(zeroblob(100000)), '0', hex(zeroblob(100000)))";
        let fault = ours().query_row(asked, [], |row| row.get::<_, String>(0)).unwrap_err();
        assert_eq!(fault.sqlite_error_code(), Some(rusqlite::ErrorCode::TooBig));
    }
}
