//! A block as one record of the log: deterministic CBOR, written down in `docs/formats/block.cddl`.
//!
//! ```text
//! {"time": µs, "height": n, "checkpoint": bstr (sealed), "statements": [bstr, …]}      keys in this order (RFC 8949 §4.2.1)
//! ```
//! Record `n` of the journal is block `n`. It is written by hand and not through `cbor::encode`, because the index needs to
//! know where each statement lies, and because a block of 2,000 statements should not be copied three times.

use tally_evidence::cbor::{CborFault, Fields};
use tally_model::Timestamp;

/// One block, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRecord {
    /// Height, from 0.
    pub height: u64,
    /// Block time.
    pub time: Timestamp,
    /// The statements, in ledger order.
    pub statements: Vec<Vec<u8>>,
    /// The sealed checkpoint.
    pub checkpoint: Vec<u8>,
}

/// Where a statement lies in the bytes of its block: offset and length.
pub type Span = (u32, u32);

/// A block's bytes, and where its statements lie in them.
pub fn encode<'a>(
    height: u64,
    time: Timestamp,
    checkpoint: &[u8],
    statements: impl ExactSizeIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Vec<Span>) {
    let mut bytes = Vec::with_capacity(128 + checkpoint.len() + statements.len() * 512);
    bytes.push(0xa4);
    text(&mut bytes, "time");
    // A negative number is major type 1 with −1−n (RFC 8949 §3.1).
    match u64::try_from(time.as_micros()) {
        Ok(micros) => head(&mut bytes, 0, micros),
        Err(_) => head(&mut bytes, 1, time.as_micros().unsigned_abs() - 1),
    }
    text(&mut bytes, "height");
    head(&mut bytes, 0, height);
    text(&mut bytes, "checkpoint");
    byte_string(&mut bytes, checkpoint);
    text(&mut bytes, "statements");
    head(&mut bytes, 4, statements.len() as u64);
    let spans = statements.map(|statement| byte_string(&mut bytes, statement)).collect();
    (bytes, spans)
}

/// The head of an item: major type and argument, in the shortest form.
fn head(bytes: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let be = argument.to_be_bytes();
    match argument {
        0..24 => bytes.push(major | be[7]),
        24..=0xff => bytes.extend([major | 24, be[7]]),
        0x100..=0xffff => {
            bytes.push(major | 25);
            bytes.extend_from_slice(&be[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            bytes.push(major | 26);
            bytes.extend_from_slice(&be[4..]);
        }
        _ => {
            bytes.push(major | 27);
            bytes.extend_from_slice(&be);
        }
    }
}

fn text(bytes: &mut Vec<u8>, word: &str) {
    head(bytes, 3, word.len() as u64);
    bytes.extend_from_slice(word.as_bytes());
}

fn byte_string(bytes: &mut Vec<u8>, content: &[u8]) -> Span {
    head(bytes, 2, content.len() as u64);
    let offset = bytes.len();
    bytes.extend_from_slice(content);
    // A record has at most 16 MiB (see `log`): both fit.
    (u32::try_from(offset).unwrap_or(u32::MAX), u32::try_from(content.len()).unwrap_or(u32::MAX))
}

impl BlockRecord {
    /// Reads a record strictly.
    ///
    /// # Errors
    /// [`CborFault`].
    pub fn decode(record: &[u8]) -> Result<Self, CborFault> {
        let mut fields = Fields::decode(record)?;
        let fault = || CborFault::Type { field: "statements".to_owned(), expected: "byte strings" };
        let statements = fields.array("statements")?.into_iter().map(|item| item.into_bytes().map_err(|_| fault()));
        let block = Self {
            statements: statements.collect::<Result<_, _>>()?,
            height: fields.int("height")?,
            time: Timestamp::from_micros(fields.int("time")?),
            checkpoint: fields.bytes("checkpoint")?,
        };
        fields.finish()?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tally_evidence::cbor;

    proptest! {
        #[test]
        fn it_is_deterministic_cbor_and_the_spans_are_right(
            height in prop_oneof![Just(0), Just(23), Just(24), Just(65_536), any::<u64>()],
            time in any::<i64>(),
            checkpoint in proptest::collection::vec(any::<u8>(), 0..300),
            statements in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70), 0..30),
        ) {
            let time = Timestamp::from_micros(time);
            let (bytes, spans) = encode(height, time, &checkpoint, statements.iter().map(Vec::as_slice));
            let same = cbor::map([
                ("height", cbor::int(height)),
                ("time", cbor::int(time.as_micros())),
                ("checkpoint", cbor::bytes(checkpoint.clone())),
                ("statements", cbor::Cbor::Array(statements.iter().cloned().map(cbor::bytes).collect())),
            ]);
            prop_assert_eq!(&bytes, &cbor::encode(&same));
            for ((offset, length), statement) in spans.into_iter().zip(&statements) {
                prop_assert_eq!(&bytes[offset as usize..][..length as usize], statement.as_slice());
            }
            prop_assert_eq!(BlockRecord::decode(&bytes), Ok(BlockRecord { height, time, statements, checkpoint }));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = BlockRecord::decode(&bytes);
        }
    }
}
