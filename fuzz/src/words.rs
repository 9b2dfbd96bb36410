//! Words for libFuzzer's dictionary: what a target's seeds and schemas consist of, so that whole keys are put in and not letters.

use crate::Target;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Longest word, in bytes.
const WORD_MAX: usize = 40;
/// Words of a dictionary, at most: more than a few hundred are as good as none.
const WORDS_MAX: usize = 600;

/// The dictionary of a target in libFuzzer's form, one quoted word a line: runs of letters, digits, `-` and `_` in its seeds, each
/// also as a CBOR text where the seeds are CBOR; for mappings the words of their schemas.
#[must_use]
pub fn dictionary(target: &Target) -> String {
    let seeds = (target.seeds)();
    let is_text = seeds.iter().all(|seed| std::str::from_utf8(seed).is_ok());
    let mut words = BTreeSet::new();
    seeds.iter().for_each(|seed| words_of(seed, &mut words));
    if matches!(target.name, "mapping" | "sheet") {
        words_of(tally_mappings::json_schema().to_string().as_bytes(), &mut words);
        words_of(tally_mappings::sheet_json_schema().to_string().as_bytes(), &mut words);
    }
    let mut lines = String::new();
    for word in words.into_iter().take(WORDS_MAX) {
        let text = String::from_utf8_lossy(&word);
        let _ = writeln!(lines, "\"{text}\"");
        if let (false, Ok(length @ ..=23)) = (is_text, u8::try_from(word.len())) {
            let _ = writeln!(lines, "\"\\x{:02x}{text}\"", 0x60 | length);
        }
    }
    lines
}

fn words_of(bytes: &[u8], words: &mut BTreeSet<Vec<u8>>) {
    let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let found = bytes.split(|byte| !is_inside(byte)).filter(|word| (3..=WORD_MAX).contains(&word.len()));
    words.extend(found.filter(|word| word.iter().any(u8::is_ascii_lowercase)).map(<[u8]>::to_vec));
}
