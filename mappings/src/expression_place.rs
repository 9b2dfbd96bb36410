//! From a place inside an expression to the place in the file.

use crate::yaml::Place;

/// Where line `line`, column `column` (both from 1) of the scalar's value stand in `text`. The scalar was written at
/// `place`, in any of YAML's five styles.
pub(crate) fn place_in_file(text: &str, place: &Place, value: &str, line: u32, column: u32) -> Place {
    let raw = text.get(place.span.start..).unwrap_or_default();
    let target = char_index(value, line, column);
    let offset = place.span.start + raw_offset(raw, value, target);
    place_at(text, offset)
}

fn char_index(value: &str, line: u32, column: u32) -> usize {
    let before = value.split_inclusive('\n').take(line.saturating_sub(1) as usize);
    before.map(|line| line.chars().count()).sum::<usize>() + column.saturating_sub(1) as usize
}

/// Walks the written form along the value and skips what is notation: quotes, escapes, block headers, indentation.
fn raw_offset(raw: &str, value: &str, target: usize) -> usize {
    let mut written = raw.char_indices().peekable();
    if raw.starts_with(['\'', '"']) {
        written.next();
    }
    for (index, wanted) in value.chars().enumerate() {
        loop {
            let Some(&(offset, found)) = written.peek() else { return raw.trim_end().len() };
            let folded = wanted == ' ' && found == '\n';
            if found == wanted || folded {
                if index == target {
                    return offset;
                }
                written.next();
                break;
            }
            written.next();
        }
    }
    written.peek().map_or(raw.len(), |(offset, _)| *offset)
}

fn place_at(text: &str, offset: usize) -> Place {
    let offset = (0..=offset.min(text.len())).rev().find(|offset| text.is_char_boundary(*offset)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let rest = &text[offset..];
    let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let width = if word > 0 { word } else { rest.chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8) };
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: count(before.matches('\n').count() + 1),
        column: count(before[line_start..].chars().count() + 1),
        span: offset..offset + width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Content, Document};
    use std::path::Path;

    /// Where `wanted` of the value of `when` is found, as `line:column`, and that it really stands there.
    #[track_caller]
    fn check(yaml: &str, wanted: &str, expected: &str) {
        let text: std::sync::Arc<str> = yaml.into();
        let (document, _) = Document::parse(Path::new("x.yaml"), &text).unwrap();
        let node = document.root.get("when").unwrap();
        let Content::Scalar { text: value, .. } = &node.content else { panic!() };
        let before = &value[..value.find(wanted).unwrap()];
        let line = u32::try_from(before.matches('\n').count() + 1).unwrap();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = u32::try_from(before[line_start..].chars().count() + 1).unwrap();
        let place = place_in_file(&text, &node.place, value, line, column);
        assert_eq!(format!("{}:{}", place.line, place.column), expected);
        assert!(text[place.span.start..].starts_with(wanted));
    }

    #[test]
    fn all_five_styles() {
        check("when: a > 1 && bogus\n", "bogus", "1:16");
        check("when: 'state == ''ö'' && bogus'\n", "bogus", "1:26");
        check("when: \"state == \\\"ö\\\" && bogus\"\n", "bogus", "1:26");
        check("x: 1\nwhen: |\n  a > 1 &&\n  bogus > 2\n", "bogus", "4:3");
        check("when: >\n  a > 1 &&\n  bogus > 2\n", "bogus", "3:3");
        check("when: a > 1 &&\n  bogus > 2\n", "bogus", "2:3");
        check("when: '''run'' == bogus'\n", "bogus", "1:19");
        check("{when: \"'x' == bogus\"}", "'x'", "1:9");
    }
}
