//! Changes to bytes, as parsers of lengths and nestings fear them.

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Longest input.
pub const BYTES_MAX: usize = 8 << 10;

/// CBOR heads at the edges, lengths that lie, and words of our texts.
const PIECES: [&[u8]; 24] = [
    &[0x9f],
    &[0xbf],
    &[0x5f],
    &[0x7f],
    &[0xff],
    &[0xf6],
    &[0xf7],
    &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
    &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0],
    &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xd2, 0x84],
    &[0xc2, 0x40],
    &[0xa0],
    &[0x80],
    &[0x40],
    &[0x18, 0x17],
    b"- ",
    b": ",
    b"{",
    b"[",
    b"\n",
    b"&a *a",
];

/// `input` changed in one to four places; `other` is one to splice with.
pub fn mutate(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(4) {
        once(&mut bytes, other, dice);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn once(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    let inside = at.min(bytes.len().saturating_sub(1));
    match dice.below(9) {
        0 if !bytes.is_empty() => bytes[inside] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[inside] = dice.byte(),
        2 if !bytes.is_empty() => bytes[inside] = bytes[inside].wrapping_add([1, 255, 2, 254][dice.below(4)]),
        3 => {
            let piece = PIECES[dice.below(PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
        4 => {
            let end = (at + 1 + dice.below(16)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        5 => {
            // A part twice: keys in a map, lines in a file.
            let end = (at + 1 + dice.below(32)).min(bytes.len());
            let part = bytes[at.min(end)..end].to_vec();
            bytes.splice(at..at, part);
        }
        6 => bytes.truncate(at),
        7 if !other.is_empty() => {
            let from = dice.below(other.len());
            let end = (from + 1 + dice.below(64)).min(other.len());
            bytes.splice(at..at, other[from..end].iter().copied());
        }
        _ => bytes.insert(at, dice.byte()),
    }
}
