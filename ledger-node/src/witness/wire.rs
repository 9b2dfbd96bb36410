//! The body of `POST add-checkpoint` (C2SP tlog-witness): who asks writes it, who witnesses reads it.
//!
//! ```text
//! old SIZE ⏎  base64(hash) ⏎ …at most 63  ⏎  the signed note
//! ```

use base64ct::{Base64, Encoding};
use tally_evidence::{Hash, NOTE_BYTES_MAX, NoteFault, SignedNote};

/// Bytes of the largest request: 63 hashes of 45 bytes and the longest note, rounded up.
pub const REQUEST_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;
/// Hashes of the longest path a client may send.
const PATH_MAX: usize = 63;

/// A request for a cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size that the witness is thought to have cosigned last.
    pub old: u64,
    /// Consistency path from it to the note's size.
    pub path: Vec<Hash>,
    /// The checkpoint.
    pub note: SignedNote,
}

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// Not UTF-8, or too long.
    #[error("the request is no text of at most {REQUEST_BYTES_MAX} bytes")]
    Text,
    /// The first line.
    #[error("the first line is not `old SIZE`")]
    Old,
    /// A line of the path.
    #[error("the path is not at most {PATH_MAX} lines of base64 of 32 bytes each, followed by an empty line")]
    Path,
    /// The note.
    #[error(transparent)]
    Note(#[from] NoteFault),
}

impl AddCheckpoint {
    /// The body.
    #[must_use]
    pub fn write(&self) -> String {
        let path: String = self.path.iter().map(|hash| Base64::encode_string(hash) + "\n").collect();
        format!("old {}\n{path}\n{}", self.old, self.note)
    }

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`WireFault`].
    pub fn read(body: &[u8]) -> Result<Self, WireFault> {
        let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= REQUEST_BYTES_MAX);
        let (old, mut rest) = text.ok_or(WireFault::Text)?.split_once('\n').ok_or(WireFault::Old)?;
        let old = old.strip_prefix("old ").and_then(decimal).ok_or(WireFault::Old)?;
        let mut path = Vec::new();
        loop {
            let (line, behind) = rest.split_once('\n').ok_or(WireFault::Path)?;
            rest = behind;
            if line.is_empty() {
                return Ok(Self { old, path, note: SignedNote::parse(rest)? });
            }
            let hash = Base64::decode_vec(line).ok().and_then(|hash| hash.try_into().ok());
            path.push(hash.filter(|_| path.len() < PATH_MAX).ok_or(WireFault::Path)?);
        }
    }
}

/// A decimal number without leading zeros.
pub fn decimal(digits: &str) -> Option<u64> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_evidence::{SigningKey, TreeNote};

    fn note() -> SignedNote {
        let note = TreeNote { origin: "press-line".to_owned(), size: 9, root: [7; 32] };
        SignedNote::parse(&note.seal(&SigningKey::from_secret(&[5; 32]).unwrap())).unwrap()
    }

    #[test]
    fn a_request_is_as_c2sp_writes_it_and_round_trips() {
        let request = AddCheckpoint { old: 4, path: vec![[1; 32], [2; 32]], note: note() };
        let body = request.write();
        let lines: Vec<_> = body.lines().take(6).collect();
        let hash = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        assert_eq!(lines[..2], ["old 4", hash]);
        assert_eq!((lines[3], lines[4], lines[5]), ("", "press-line", "9"));
        assert_eq!(AddCheckpoint::read(body.as_bytes()), Ok(request));
    }

    #[test]
    fn what_is_none_is_named() {
        let read = |text: &str| AddCheckpoint::read(text.as_bytes()).unwrap_err();
        let good = note();
        for wrong in
            ["", "old", "old 1", "old -1\n\n", "old 01\n\n", "old +1\n\n", "new 1\n\n", "old 99999999999999999999\n\n"]
        {
            assert_eq!(read(wrong), WireFault::Old, "{wrong:?}");
        }
        for wrong in ["old 0\n", "old 0\nAQ==\n\n", "old 0\nno base64\n\n", &format!("old 0\n{good}")] {
            assert_eq!(read(wrong), WireFault::Path, "{wrong:?}");
        }
        let many = AddCheckpoint { old: 0, path: vec![[0; 32]; 64], note: good.clone() }.write();
        assert_eq!(read(&many), WireFault::Path);
        assert!(matches!(read("old 0\n\nno note"), WireFault::Note(_)));
        assert_eq!(AddCheckpoint::read(&[0xff]), Err(WireFault::Text));
        let long = format!("old 0\n\n{}{good}", "x\n".repeat(REQUEST_BYTES_MAX));
        assert_eq!(read(&long), WireFault::Text);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_that_round_trips_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..300), lines in "(old [0-9]{1,3}\n)?([A-Za-z0-9=]{44}\n){0,2}\n?[ -~\n]{0,80}") {
            let _ = AddCheckpoint::read(&bytes);
            for body in [lines.clone(), format!("{lines}\n{}", note())] {
                if let Ok(request) = AddCheckpoint::read(body.as_bytes()) {
                    prop_assert_eq!(request.write(), body);
                }
            }
        }
    }
}
