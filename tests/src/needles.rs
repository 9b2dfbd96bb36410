//! What must not be found, in every spelling in which it could stand somewhere, and where it is looked for.

use base64ct::{Base64, Base64Unpadded, Base64UrlUnpadded, Encoding};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Texts and bytes to look for, each with its name.
#[derive(Debug, Default)]
pub struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// These bytes: as they are, from behind (as processors and big numbers have them), hexadecimal and base64.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        let from_behind: Vec<u8> = secret.iter().rev().copied().collect();
        for (how, spelling) in [
            ("as it is", secret.to_vec()),
            ("from behind", from_behind),
            ("in hexadecimal", hex::encode(secret).into_bytes()),
            ("in HEXADECIMAL", hex::encode_upper(secret).into_bytes()),
            ("in base64", Base64Unpadded::encode_string(secret).into_bytes()),
            ("in base64url", Base64UrlUnpadded::encode_string(secret).into_bytes()),
        ] {
            self.0.push((format!("{name} {how}"), spelling));
        }
    }

    /// A P-256 key as its file has it (PKCS#8, RFC 5915): the number, and the lines of PEM that tell it.
    ///
    /// # Panics
    /// When the text is no such key.
    pub fn add_key(&mut self, name: &str, pem: &str) {
        // What all of them begin with: algorithm and lengths. The public half comes behind.
        const SHARED: usize = 36;
        let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = Base64::decode_vec(&lines.concat()).expect("PEM is base64");
        self.add(name, der.get(SHARED..SHARED + 32).expect("a key is longer"));
        for (line, digits) in [(0, SHARED / 3 * 4..64), (1, 0..24)] {
            let told = lines.get(line).and_then(|line| line.get(digits)).expect("a key has two lines and more");
            self.0.push((format!("{name}, line {line} of its PEM"), told.as_bytes().to_vec()));
        }
    }

    /// The names of those that are there.
    #[must_use]
    pub fn in_bytes(&self, bytes: &[u8]) -> Vec<&str> {
        let there = self.0.iter().filter(|(_, needle)| memchr::memmem::find(bytes, needle).is_some());
        there.map(|(name, _)| name.as_str()).collect()
    }

    /// The names of those that stand in the memory of a process that it can write: heap, stacks and data (proc_pid_maps(5)).
    ///
    /// # Errors
    /// When the kernel does not let us look.
    pub fn in_memory(&self, pid: u32) -> io::Result<Vec<&str>> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let mut found: Vec<&str> = Vec::new();
        for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
            let range = line.split([' ', '-']).take(2).map(|end| u64::from_str_radix(end, 16));
            let Ok([from, to]) = <[u64; 2]>::try_from(range.collect::<Result<Vec<_>, _>>().unwrap_or_default()) else {
                continue;
            };
            self.in_range(&memory, from..to, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Most of what a program may write it never wrote: pieces of zeros are passed over.
    fn in_range<'n>(&'n self, memory: &File, range: std::ops::Range<u64>, found: &mut Vec<&'n str>) {
        const PIECE: usize = 64 << 10;
        // Longer than any needle: one that lies across two pieces is found in the second.
        const OVERLAP: usize = 256;
        let (mut bytes, zeros) = (vec![0; OVERLAP + PIECE], vec![0; PIECE]);
        let mut at = range.start;
        while at < range.end {
            let length = PIECE.min(usize::try_from(range.end - at).unwrap_or(PIECE));
            let before = bytes.len() - OVERLAP;
            bytes.copy_within(before.., 0);
            bytes.resize(OVERLAP + length, 0);
            let piece = &mut bytes[OVERLAP..];
            // What went meanwhile, and what devices show, cannot be read.
            if memory.read_exact_at(piece, at).is_err() {
                piece.fill(0);
            }
            if piece[..] != zeros[..length] {
                found.extend(self.in_bytes(&bytes));
            }
            at += length as u64;
        }
    }
}
