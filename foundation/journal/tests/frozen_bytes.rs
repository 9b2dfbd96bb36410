//! The bytes others must be able to check. Written by an independent program from the layout in the crate head; a change
//! here is a new format version, not a fix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::small_segments;
use tally_journal::Journal;
use tally_journal::testing::MemStorage;

const FIRST: &str = "\
    54414c4c594a4e4c 01000000 00000000 0000000000000000 \
    0000000000000000000000000000000000000000000000000000000000000000 00000000 ef7d9b77 \
    05000000 eb7a1f2f 68656c6c6f \
    00000000 6d61111a \
    ffffffff e72e3117 5500000000000000 0200000000000000 \
    05000000 57f80d3b 776f726c64";

const SECOND: &str = "\
    54414c4c594a4e4c 01000000 00000000 0300000000000000 \
    eaa178c7d129ce3ca5bf5321a2ce589e90e778d2dfe2439ddedd84693c5f3f9b 00000000 4f17f686 \
    28000000 78a26833 78787878787878787878787878787878787878787878787878787878787878787878787878787878 \
    ffffffff afa610bc 7000000000000000 0400000000000000";

const HEAD: &str = "45529e21716b2721d4ce48bbe7ff7a6051b6d49d8cd987c0376602344b6d7eed";

#[test]
fn two_segments() {
    let storage = MemStorage::new();
    let mut journal = Journal::open_on(storage.clone(), small_segments(150)).unwrap();
    journal.append_all([&b"hello"[..], b""]).unwrap();
    journal.sync().unwrap();
    journal.append_all([&b"world"[..], &[b'x'; 40]]).unwrap();
    journal.sync().unwrap();
    assert_eq!(hex(&journal.head_hash()), HEAD);
    drop(journal);
    assert_eq!(storage.names(), ["00000000000000000000.seg", "00000000000000000003.seg"]);
    assert_eq!(hex(&storage.contents("00000000000000000000.seg").unwrap()), FIRST.replace(' ', ""));
    assert_eq!(hex(&storage.contents("00000000000000000003.seg").unwrap()), SECOND.replace(' ', ""));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
