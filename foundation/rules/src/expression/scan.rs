//! A look at the text before the parser sees it: limits the parser needs, and slips it explains badly.
//!
//! The limit on brackets is not taste: the ANTLR parser under `cel` needs some 170 KB of stack for each level in debug
//! builds and overflows a 2 MiB thread at 11 levels, whatever its own recursion limit says.

use super::Fault;
use crate::rule::EXPRESSION_BYTES_MAX;

/// Deepest nesting of brackets.
const BRACKETS_MAX: usize = 8;

/// Words of other languages, and what CEL writes for them.
const WORDS: &[(&str, &str)] = &[("and", "&&"), ("or", "||"), ("not", "!"), ("xor", "!="), ("mod", "%")];

/// Everything wrong with the text itself. Only a text without such faults may go to the parser.
pub(super) fn scan(source: &str) -> Vec<Fault> {
    if source.len() > EXPRESSION_BYTES_MAX {
        let message = format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes, this one has {}", source.len());
        return vec![Fault::new(0, message)];
    }
    let mut scan = Scan { source, at: 0, depth: 0, faults: Vec::new() };
    while let Some(c) = scan.peek() {
        scan.step(c);
    }
    scan.faults
}

struct Scan<'a> {
    source: &'a str,
    at: usize,
    depth: usize,
    faults: Vec<Fault>,
}

impl Scan<'_> {
    fn rest(&self) -> &str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn step(&mut self, c: char) {
        match c {
            '\'' | '"' => self.text(c),
            '/' if self.rest().starts_with("//") => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
            '(' | '[' | '{' => self.open(),
            ')' | ']' | '}' => self.close(),
            '\\' => self.fault(1, "`\\` is not allowed in a rule", "write the character itself"),
            'a'..='z' | 'A'..='Z' | '_' => self.word(),
            '=' | '!' | '<' | '>' | '&' | '|' => self.operator(),
            '“' | '”' | '„' | '‘' | '’' | '‚' => {
                self.fault(c.len_utf8(), &format!("`{c}` is a printer's quote"), "write straight quotes: '");
            }
            c if !c.is_ascii() => {
                let message = format!("`{c}` is not allowed outside a text");
                self.fault(c.len_utf8(), &message, "texts stand in quotes: 'ö'");
            }
            _ => self.at += 1,
        }
    }

    fn fault(&mut self, length: usize, message: &str, hint: &str) {
        self.faults.push(Fault::new(self.at, message).hint(hint));
        self.at += length;
    }

    fn open(&mut self) {
        self.depth += 1;
        if self.depth == BRACKETS_MAX + 1 {
            let message = format!("brackets nest at most {BRACKETS_MAX} deep");
            self.faults.push(Fault::new(self.at, message).hint("split the rule in two triggers"));
        }
        self.at += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
    }

    /// A text ends on its line, at the next quote of its kind; what CEL could write otherwise (escapes, triple
    /// quotes, raw texts) is refused, so that this scan and the parser cannot disagree on what is a text.
    fn text(&mut self, quote: char) {
        if self.rest().starts_with(if quote == '"' { "\"\"\"" } else { "'''" }) {
            self.fault(3, "triple quotes are not allowed in a rule", "write one quote on each side: 'text'");
            self.at = self.source.len();
            return;
        }
        let body = self.rest().get(1..).unwrap_or_default();
        let end = body.find([quote, '\n', '\\']);
        match end.map(|end| (end, body.as_bytes()[end])) {
            Some((end, found)) if found == quote as u8 => self.at += end + 2,
            Some((end, b'\\')) => {
                self.at += end + 1;
                self.fault(
                    1,
                    "`\\` is not allowed in a rule",
                    "a text with ' in it stands in \" quotes, and the reverse",
                );
                self.at = self.source.len();
            }
            _ => {
                self.fault(1, "this text is never closed", &format!("put {quote} at its end"));
                self.at = self.source.len();
            }
        }
    }

    fn word(&mut self) {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default().to_owned();
        let quoted_next = rest.get(length..).is_some_and(|next| next.starts_with(['\'', '"']));
        if quoted_next {
            let message = format!("`{word}` before a quote is not allowed in a rule");
            self.faults.push(Fault::new(self.at, message).hint("write the text in plain quotes: 'text'"));
        } else if let Some((_, instead)) = WORDS.iter().find(|(other, _)| other.eq_ignore_ascii_case(&word)) {
            let hint = format!("write `{instead}`");
            self.faults.push(Fault::new(self.at, format!("`{word}` is not an operator of CEL")).hint(hint));
        }
        self.at += length;
    }

    fn operator(&mut self) {
        const TWO: &[&str] = &["==", "!=", "<=", ">=", "&&", "||"];
        let rest = self.rest();
        if TWO.iter().any(|two| rest.starts_with(two)) {
            self.at += 2;
            return;
        }
        match rest.as_bytes().first() {
            Some(b'=') => self.fault(1, "`=` does not compare", "write `==`"),
            Some(b'&') => self.fault(1, "`&` is not an operator of CEL", "write `&&`"),
            Some(b'|') => self.fault(1, "`|` is not an operator of CEL", "write `||`"),
            _ => self.at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[(usize, &str)]) {
        let faults = scan(source);
        let found: Vec<_> = faults.iter().map(|fault| (fault.offset, fault.message.as_str())).collect();
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn slips_of_the_keyboard_and_of_other_languages() {
        check("a = 5", &[(2, "`=` does not compare")]);
        check("a and b", &[(2, "`and` is not an operator of CEL")]);
        check("a & b | c", &[(2, "`&` is not an operator of CEL"), (6, "`|` is not an operator of CEL")]);
        check("state == “run”", &[(9, "`“` is a printer's quote"), (15, "`”` is a printer's quote")]);
        check("state == 'run", &[(9, "this text is never closed")]);
        check("größe > 1", &[(2, "`ö` is not allowed outside a text"), (4, "`ß` is not allowed outside a text")]);
        check("r'x'", &[(0, "`r` before a quote is not allowed in a rule")]);
        check("'a\\'b'", &[(2, "`\\` is not allowed in a rule")]);
        check("'''a'''", &[(0, "triple quotes are not allowed in a rule")]);
    }

    #[test]
    fn what_is_right_passes() {
        check("a >= 5 && b != 'ö((((((((((((' || !c // it's (((((((((((((((", &[]);
        check("state in ['run', \"it's\"] && x[0] <= 1", &[]);
    }

    #[test]
    fn limits() {
        check(&format!("{}1{}", "(".repeat(8), ")".repeat(8)), &[]);
        check(&format!("{}1{}", "(".repeat(9), ")".repeat(9)), &[(8, "brackets nest at most 8 deep")]);
        check(&" ".repeat(2049), &[(0, "an expression has at most 2048 bytes, this one has 2049")]);
    }
}
