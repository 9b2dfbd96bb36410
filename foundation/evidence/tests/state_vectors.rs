//! `docs/formats/state-vectors.csv`: places, roots and proofs of both schemes, for whoever writes a verifier. Frozen: what stands in it has
//! to hold for ever. `TALLY_UPDATE=1` writes it anew, when rows come to it.
//!
//! `tests/interop/state_check.py --vectors` derives the table with nothing of ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use tally_evidence::{KeyScheme, StateProof, StateTree, group_of};

const HEAD: &str = "\
# The authenticated state (docs/formats/state.md): a small state, hashed by each of the two schemes. Everything is hexadecimal.
# scheme: 1 scattered, 2 grouped. value: what the key holds, `-` when it is not there. group: empty when the key has none.
# place: `k`. proof: of this key under `root`; it holds under no root of the other scheme.
scheme,root,key,value,group,place,proof
";

fn numbered(kind: &str, number: u64, behind: &[u8]) -> Vec<u8> {
    [kind.as_bytes(), b"mo\0", &number.to_be_bytes(), behind].concat()
}

/// Keys of every form that has a group, at its borders, and some that look like one.
fn keys() -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let step = |number: u64| numbered("h", 16, &number.to_be_bytes());
    let due = |number| [&b"t\x80\0\0\0\0\0\x03\xe8"[..], &numbered("", number, b"")].concat();
    let there = [
        b"g".to_vec(),
        b"dpress-01".to_vec(),
        b"aacme/EUR".to_vec(),
        b"aescrow:mo-16".to_vec(),
        b"aescrow:mo-31".to_vec(),
        b"aescrow:mo-032".to_vec(),
        numbered("m", 15, b""),
        numbered("m", 16, b""),
        numbered("m", 31, b""),
        numbered("m", 32, b""),
        due(16),
        due(32),
        step(2),
        step(7),
        step(8),
        numbered("h", 16, &[0, 0, 0, 0, 0, 0, 0, 2, 1]),
        [&b"Smo.attest\0"[..], &7_u64.to_be_bytes()].concat(),
        b"omaintenance-order\0press-01\0bearing-worn\0".to_vec(),
    ];
    let absent = [
        b"zagent-01".to_vec(),
        b"aescrow:mo-17".to_vec(),
        b"aescrow:mo-99999999999999999999".to_vec(),
        numbered("m", 17, b""),
        numbered("m", u64::MAX, b""),
        due(17),
        step(3),
    ];
    let value = |key: &[u8]| Some([b"value of ", key].concat());
    let there = there.into_iter().map(|key| (key.clone(), value(&key)));
    there.chain(absent.into_iter().map(|key| (key, None))).collect()
}

#[test]
fn the_table_is_what_both_schemes_give() {
    let (keys, mut table) = (keys(), HEAD.to_owned());
    for scheme in KeyScheme::ALL {
        let mut tree = StateTree::new(scheme);
        tree.apply(keys.iter().map(|(key, value)| (key.as_slice(), value.as_deref())));
        for (key, value) in &keys {
            let (root, place, group) = (tree.root(), scheme.key_hash(key), group_of(key).unwrap_or_default());
            let value = value.as_ref().map_or_else(|| "-".to_owned(), hex::encode);
            let proof = tree.prove(key).encode();
            let [root, key, group, place] = [&root[..], key, &group, &place].map(hex::encode);
            writeln!(table, "{},{root},{key},{value},{group},{place},{}", scheme.number(), hex::encode(proof)).unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/state-vectors.csv");
    if std::env::var_os("TALLY_UPDATE").is_some() {
        fs::write(&file, &table).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), table);
}

#[test]
fn the_rows_hold_by_themselves() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/state-vectors.csv"));
    let (table, mut held) = (table.unwrap(), 0);
    for row in table.lines().skip_while(|line| !line.starts_with("scheme,")).skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [root, key, proof] = [1, 2, 6].map(|cell| hex::decode(cells[cell]).unwrap());
        let value = (cells[3] != "-").then(|| hex::decode(cells[3]).unwrap());
        let root = root.try_into().unwrap();
        StateProof::decode(&proof).unwrap().verify(&root, &key, value.as_deref()).unwrap();
        held += 1;
    }
    assert_eq!(held, 2 * keys().len());
}
