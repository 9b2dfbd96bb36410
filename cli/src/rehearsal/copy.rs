//! A copy of a mapping whose devices are where their simulation is: the `connect:` of each that has moved is replaced, and
//! nothing else. The copy is loaded and held against what was meant before anybody uses it.

use super::quoted;
use crate::answer::Fault;
use tally_mappings::Plant;
use tally_model::{DeviceId, Endpoint};

/// The text of the plant file with the new places.
///
/// # Errors
/// When the `connect:` lines cannot be told apart; the text has to be changed by hand then.
pub fn moved_mapping(text: &str, plant: &Plant, moved: &[(DeviceId, Endpoint)]) -> Result<String, Fault> {
    let places = connects(text);
    if places.len() != plant.devices.len() {
        return Err(format!(
            "the mapping has {} devices and {} `connect:` that can be replaced; write one device after the other, each with its \
             own `connect:` on one line",
            plant.devices.len(),
            places.len()
        )
        .into());
    }
    let mut copy = String::with_capacity(text.len());
    let mut rest = 0;
    for ((start, end), device) in places.into_iter().zip(&plant.devices) {
        let Some((_, place)) = moved.iter().find(|(id, _)| *id == device.id) else { continue };
        copy.push_str(text.get(rest..start).unwrap_or_default());
        copy.push_str(&quoted(&place.to_string()));
        rest = end;
    }
    copy.push_str(text.get(rest..).unwrap_or_default());
    Ok(copy)
}

/// Where the values of the `connect:` keys stand, in file order.
fn connects(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let code = without_comment(line);
        for (key, _) in code.match_indices("connect:") {
            let before = code.get(..key).unwrap_or_default();
            let begins = before.trim_end().is_empty() || before.ends_with([' ', '{', ',', '-']);
            let value = code.get(key + "connect:".len()..).unwrap_or_default();
            if begins && value.starts_with(' ') {
                let start = key + "connect:".len() + (value.len() - value.trim_start().len());
                let end = start + value_length(code.get(start..).unwrap_or_default(), before.contains('{'));
                found.push((line_start + start, line_start + end));
            }
        }
        line_start += line.len();
    }
    found
}

/// Bytes of the scalar that begins the text; inside `{…}` a comma or brace ends it.
fn value_length(text: &str, in_braces: bool) -> usize {
    for quote in ['"', '\''] {
        if let Some(inside) = text.strip_prefix(quote) {
            return inside.find(quote).map_or(text.trim_end().len(), |end| end + 2);
        }
    }
    // `${NAME:-default}` has braces of its own.
    let mut depth = 0_u32;
    let end = text.char_indices().find(|(_, character)| match character {
        '{' => {
            depth += 1;
            false
        }
        '}' if depth > 0 => {
            depth -= 1;
            false
        }
        '}' | ',' => in_braces,
        _ => false,
    });
    text.get(..end.map_or(text.len(), |(end, _)| end)).unwrap_or(text).trim_end().len()
}

/// A line up to its comment: ` #` outside quotes is taken for one.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (place, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') if before.is_whitespace() => return line.get(..place).unwrap_or(line),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
        before = character;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_connect_is_found() {
        let text = "\
# connect: not this
devices:
  - id: a
    connect: modbus+tcp://${A:-10.0.0.1:502}?unit=1      # connect: nor this
  - {id: b, connect: modbus+tcp://${B:-h:1}?unit=2, use: x.yaml}
  - {id: c, connect: \"mqtt://x # y\"}
  - connect: 'opc.tcp://c'
    id: reconnect: no
";
        let found: Vec<&str> = connects(text).into_iter().map(|(start, end)| &text[start..end]).collect();
        assert_eq!(
            found,
            [
                "modbus+tcp://${A:-10.0.0.1:502}?unit=1",
                "modbus+tcp://${B:-h:1}?unit=2",
                "\"mqtt://x # y\"",
                "'opc.tcp://c'"
            ]
        );
    }
}
