//! Against the tree in memory, across openings, and with bytes flipped.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use tally_evidence::{StateTree as Reference, state_changes};

type Map = BTreeMap<u16, u16>;

fn disk(folder: &Path) -> IndexDisk {
    IndexDisk::File(folder.join("state.redb"))
}

fn hashed(batch: &[(u16, Option<u16>)]) -> Vec<StateChange> {
    let bytes: Vec<_> = batch.iter().map(|(key, value)| (key.to_be_bytes(), value.map(u16::to_be_bytes))).collect();
    state_changes(bytes.iter().map(|(key, value)| (&key[..], value.as_ref().map(|value| &value[..]))))
}

fn reference(map: &Map) -> Reference {
    let mut tree = Reference::default();
    let bytes: Vec<_> = map.iter().map(|(key, value)| (key.to_be_bytes(), value.to_be_bytes())).collect();
    tree.apply(bytes.iter().map(|(key, value)| (&key[..], Some(&value[..]))));
    tree
}

#[derive(Debug, Clone)]
enum Step {
    Change(Vec<(u16, Option<u16>)>),
    /// All pages leave memory.
    Evict,
    Commit,
    /// As after a crash: at the last commit.
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0u16..700, proptest::option::weighted(0.75, any::<u16>()));
    let step = prop_oneof![
        6 => proptest::collection::vec(change, 0..150).prop_map(Step::Change),
        2 => Just(Step::Evict),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_is_the_tree_in_memory_after_any_history(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let mut tree = StateTree::create(&disk).unwrap();
        let (mut map, mut kept, mut height) = (Map::new(), None::<(Map, u64)>, 0);
        for step in steps {
            match step {
                Step::Change(batch) => {
                    tree.apply(&hashed(&batch)).unwrap();
                    for (key, value) in batch {
                        match value {
                            Some(value) => drop(map.insert(key, value)),
                            None => drop(map.remove(&key)),
                        }
                    }
                }
                Step::Evict => tree.evict(0).unwrap(),
                Step::Commit => {
                    height += 1;
                    prop_assert_eq!(tree.commit(height).unwrap().write().unwrap(), height);
                    kept = Some((map.clone(), height));
                }
                Step::Reopen => {
                    let opened = StateTree::open(&disk, height + 3).unwrap();
                    prop_assert_eq!(opened.as_ref().map(|opened| opened.1), kept.as_ref().map(|kept| kept.1));
                    (tree, map) = match (opened, &kept) {
                        (Some((tree, _)), Some((map, _))) => (tree, map.clone()),
                        _ => (StateTree::create(&disk).unwrap(), Map::new()),
                    };
                }
            }
            prop_assert_eq!(tree.root(), reference(&map).root());
            prop_assert_eq!(tree.leaves, map.len() as u64);
        }
        let reference = reference(&map);
        for key in (0u16..800).step_by(7) {
            prop_assert_eq!(tree.prove(&key.to_be_bytes()).unwrap(), reference.prove(&key.to_be_bytes()));
        }
    }
}

/// Room is used again: a tree whose leaves change for ever does not grow.
#[test]
fn the_file_does_not_grow_with_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = StateTree::create(&disk(folder.path())).unwrap();
    let mut longest = 0;
    for round in 0..60u16 {
        let batch: Vec<_> = (0..3_000).map(|key| (key, Some(round))).collect();
        tree.apply(&hashed(&batch)).unwrap();
        tree.evict(0).unwrap();
        tree.commit(round.into()).unwrap().write().unwrap();
        if round == 5 {
            longest = tree.pages.bytes();
        }
    }
    assert!(tree.pages.bytes() <= longest, "{} after {longest}", tree.pages.bytes());
}

/// Pages that change here and there leave holes everywhere: what is left around them is moved together, and nothing is lost by it.
#[test]
fn sparse_segments_are_filled_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let (mut tree, mut map) = (StateTree::create(&disk).unwrap(), Map::new());
    let (mut number, mut kept) = (7_u64, Map::new());
    for round in 0..400_u64 {
        let batch: Vec<_> = (0..40)
            .map(|_| {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (u16::try_from(number >> 33 & 0x0fff).unwrap(), Some(u16::try_from(number >> 48).unwrap()))
            })
            .collect();
        tree.apply(&hashed(&batch)).unwrap();
        tree.evict(0).unwrap();
        map.extend(batch.into_iter().map(|(key, value)| (key, value.unwrap())));
        if round % 50 == 49 {
            tree.commit(round).unwrap().write().unwrap();
            kept = map.clone();
        }
    }
    let live: usize = tree.pages.extents().iter().map(|extent| extent.units as usize * pages::UNIT_BYTES).sum();
    assert!(tree.pages.bytes() < live * 4, "{} bytes for {live}", tree.pages.bytes());
    assert_eq!(tree.root(), reference(&map).root());
    // As after a crash: more was written and moved behind the top that counts.
    tree.apply(&hashed(&(0..0x0fff).step_by(3).map(|key| (key, None)).collect::<Vec<_>>())).unwrap();
    tree.evict(0).unwrap();
    drop(tree);
    let (tree, height) = StateTree::open(&disk, 1_000).unwrap().unwrap();
    assert_eq!((tree.root(), height), (reference(&kept).root(), 399));
    for key in kept.keys() {
        tree.prove(&key.to_be_bytes()).unwrap();
    }
}

/// A tree behind block 3 whose pages are all on disk.
fn kept(folder: &Path) -> (IndexDisk, Hash) {
    let disk = disk(folder);
    let mut tree = StateTree::create(&disk).unwrap();
    let batch: Vec<_> = (0..400).map(|key| (key, Some(key))).collect();
    tree.apply(&hashed(&batch)).unwrap();
    tree.commit(3).unwrap().write().unwrap();
    (disk, tree.root())
}

#[test]
fn a_flipped_bit_is_never_part_of_a_proof() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, root) = kept(folder.path());
    let file = folder.path().join("tree/state.pages");
    let whole = std::fs::read(&file).unwrap();
    let top = folder.path().join("tree/state.top.1");
    let whole_top = std::fs::read(&top).unwrap();
    let mut found = 0;
    for place in (0..whole.len()).step_by(1_009) {
        std::fs::write(&top, &whole_top).unwrap();
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(&file, damaged).unwrap();
        let (mut tree, _) = StateTree::open(&disk, 3).unwrap().unwrap();
        for key in (0..400u16).step_by(3) {
            let key = key.to_be_bytes();
            match tree.prove(&key) {
                Ok(proof) => assert_eq!(proof.verify(&root, &key, Some(&key)), Ok(())),
                Err(fault) => {
                    assert!(fault.to_string().contains("tree/state.pages"), "{fault}");
                    found += 1;
                }
            }
        }
        // Nor does it go into a root.
        let batch: Vec<_> = (0..400).map(|key| (key, Some(1))).collect();
        let is_seen = tree.apply(&hashed(&batch)).is_err();
        let is_put_away = StateTree::open(&disk, 3).unwrap().is_none();
        assert!(
            is_seen == is_put_away
                && (is_seen || tree.root() == reference(&(0..400).map(|key| (key, 1)).collect()).root())
        );
    }
    assert!(found > 20, "{found} proofs refused");
}

#[test]
fn half_a_top_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, root) = kept(folder.path());
    let (mut tree, _) = StateTree::open(&disk, 3).unwrap().unwrap();
    tree.apply(&hashed(&[(1, None)])).unwrap();
    tree.commit(4).unwrap().write().unwrap();
    let newer = tree.root();
    let opened = |height| StateTree::open(&disk, height).unwrap().map(|(tree, height)| (tree.root(), height));
    assert_eq!((opened(2), opened(3), opened(9)), (None, Some((root, 3)), Some((newer, 4))));
    let tops = ["tree/state.top.0", "tree/state.top.1"].map(|name| folder.path().join(name));
    let is_newer = |bytes: &[u8]| bytes[16] == 4;
    let top = tops.iter().find(|top| is_newer(&std::fs::read(top).unwrap())).unwrap();
    let whole = std::fs::read(top).unwrap();
    for cut in (0..whole.len()).step_by(13) {
        std::fs::write(top, &whole[..cut]).unwrap();
        assert_eq!(opened(9), Some((root, 3)));
        let mut flipped = whole.clone();
        flipped[cut] ^= 0x10;
        std::fs::write(top, flipped).unwrap();
        assert_eq!(opened(9), Some((root, 3)));
    }
}
