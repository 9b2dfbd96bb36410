//! Against the tree in memory, across openings, and with bytes flipped.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use tally_evidence::StateTree as Reference;

type Map = BTreeMap<u16, u16>;

fn disk(folder: &Path) -> IndexDisk {
    IndexDisk::File(folder.join("state.redb"))
}

/// Keys of no group, and what is of agreements: 16 of them, 48 keys, are a group.
fn key(number: u16) -> Vec<u8> {
    let agreement = u64::from(number >> 2);
    match number & 3 {
        0 => [&b"o"[..], &number.to_be_bytes()].concat(),
        1 => [&b"mmo\0"[..], &agreement.to_be_bytes()].concat(),
        2 => format!("aescrow:mo-{agreement}").into_bytes(),
        _ => [&b"t01234567mo\0"[..], &agreement.to_be_bytes()].concat(),
    }
}

fn hashed(scheme: KeyScheme, batch: &[(u16, Option<u16>)]) -> Vec<StateChange> {
    let bytes: Vec<_> = batch.iter().map(|(number, value)| (key(*number), value.map(u16::to_be_bytes))).collect();
    state_changes(scheme, bytes.iter().map(|(key, value)| (&key[..], value.as_ref().map(|value| &value[..]))))
}

fn reference(scheme: KeyScheme, map: &Map) -> Reference {
    let mut tree = Reference::new(scheme);
    let bytes: Vec<_> = map.iter().map(|(number, value)| (key(*number), value.to_be_bytes())).collect();
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
    fn it_is_the_tree_in_memory_after_any_history(steps in steps(), scheme in proptest::sample::select(&KeyScheme::ALL[..])) {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let mut tree = StateTree::create(&disk, scheme).unwrap();
        let (mut map, mut kept, mut height) = (Map::new(), None::<(Map, u64)>, 0);
        for step in steps {
            match step {
                Step::Change(batch) => {
                    tree.apply(&hashed(scheme, &batch)).unwrap();
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
                    let opened = StateTree::open(&disk, scheme, height + 3).unwrap();
                    prop_assert_eq!(opened.as_ref().map(|opened| opened.1), kept.as_ref().map(|kept| kept.1));
                    (tree, map) = match (opened, &kept) {
                        (Some((tree, _)), Some((map, _))) => (tree, map.clone()),
                        _ => (StateTree::create(&disk, scheme).unwrap(), Map::new()),
                    };
                }
            }
            prop_assert_eq!(tree.root(), reference(scheme, &map).root());
            prop_assert_eq!(tree.leaves, map.len() as u64);
        }
        let reference = reference(scheme, &map);
        for number in (0u16..800).step_by(7) {
            prop_assert_eq!(tree.prove(&key(number)).unwrap(), reference.prove(&key(number)));
        }
    }
}

/// Room is used again: a tree whose leaves change for ever does not grow.
#[test]
fn the_file_does_not_grow_with_changes() {
    for scheme in KeyScheme::ALL {
        let folder = tempfile::tempdir().unwrap();
        let mut tree = StateTree::create(&disk(folder.path()), scheme).unwrap();
        let mut longest = 0;
        for round in 0..60u16 {
            let batch: Vec<_> = (0..3_000).map(|key| (key, Some(round))).collect();
            tree.apply(&hashed(scheme, &batch)).unwrap();
            tree.evict(0).unwrap();
            tree.commit(round.into()).unwrap().write().unwrap();
            if round == 5 {
                longest = tree.pages.bytes();
            }
        }
        assert!(tree.pages.bytes() <= longest, "{scheme:?}: {} after {longest}", tree.pages.bytes());
    }
}

/// Orders that come one behind the other: what a block of them changes lies in few pages, none of them large, and their hashes take
/// no more memory than those of scattered keys.
#[test]
fn what_is_grouped_fills_few_pages_of_fair_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut touched = KeyScheme::ALL.map(|scheme| {
        let folder = folder.path().join(scheme.number().to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut tree = StateTree::create(&disk(&folder), scheme).unwrap();
        let orders: Vec<u16> = (0..16_000).collect();
        for block in orders.chunks(400) {
            tree.apply(&hashed(scheme, &block.iter().map(|key| (*key, Some(1))).collect::<Vec<_>>())).unwrap();
        }
        let block: Vec<_> = (16_000..16_400).map(|key| (key, Some(1))).collect();
        let mut pages: Vec<_> = hashed(scheme, &block).iter().map(|(key, _)| tree.top.page_of(key)).collect();
        pages.sort_unstable();
        pages.dedup();
        let sizes: Vec<_> = (0..tree.top.len()).map(|page| tree.take(page).unwrap().len()).collect();
        (pages.len(), sizes)
    });
    let [(scattered, pages), (grouped, of_groups)] = &mut touched;
    // 100 keys of no group; of the others 7 groups.
    assert!(*scattered > 250 && *grouped < 115, "{scattered} pages, {grouped} pages");
    assert!(of_groups.len() < pages.len(), "{} pages, {}", of_groups.len(), pages.len());
    assert!(of_groups.iter().all(|leaves| *leaves <= 48 * 6), "{of_groups:?}");
    assert_eq!((of_groups.iter().sum::<usize>(), pages.iter().sum::<usize>()), (16_000, 16_000));
}

/// Pages that change here and there leave holes everywhere: what is left around them is moved together, and nothing is lost by it.
#[test]
fn sparse_segments_are_filled_again() {
    KeyScheme::ALL.into_iter().for_each(sparse_segments);
}

fn sparse_segments(scheme: KeyScheme) {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let (mut tree, mut map) = (StateTree::create(&disk, scheme).unwrap(), Map::new());
    let (mut number, mut kept) = (7_u64, Map::new());
    for round in 0..400_u64 {
        let batch: Vec<_> = (0..40)
            .map(|_| {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (u16::try_from(number >> 33 & 0x0fff).unwrap(), Some(u16::try_from(number >> 48).unwrap()))
            })
            .collect();
        tree.apply(&hashed(scheme, &batch)).unwrap();
        tree.evict(0).unwrap();
        map.extend(batch.into_iter().map(|(key, value)| (key, value.unwrap())));
        if round % 50 == 49 {
            tree.commit(round).unwrap().write().unwrap();
            kept = map.clone();
        }
    }
    let live: usize = tree.pages.extents().iter().map(|extent| extent.units as usize * pages::UNIT_BYTES).sum();
    // A page of groups takes half of a segment here, and what is left behind it is lost.
    let times = if scheme == KeyScheme::Grouped { 5 } else { 4 };
    assert!(tree.pages.bytes() < live * times, "{} bytes for {live}", tree.pages.bytes());
    assert_eq!(tree.root(), reference(scheme, &map).root());
    // As after a crash: more was written and moved behind the top that counts.
    tree.apply(&hashed(scheme, &(0..0x0fff).step_by(3).map(|key| (key, None)).collect::<Vec<_>>())).unwrap();
    tree.evict(0).unwrap();
    drop(tree);
    let (tree, height) = StateTree::open(&disk, scheme, 1_000).unwrap().unwrap();
    assert_eq!((tree.root(), height), (reference(scheme, &kept).root(), 399));
    for number in kept.keys() {
        tree.prove(&key(*number)).unwrap();
    }
}

/// What the system has dropped from memory is read from the disk, behind all that it has, and is in the root like the rest.
#[test]
fn what_is_not_at_hand_is_not_left_out() {
    let (folder, scheme) = (tempfile::tempdir().unwrap(), KeyScheme::Scattered);
    let disk = disk(folder.path());
    let (mut tree, mut map) = (StateTree::create(&disk, scheme).unwrap(), Map::new());
    let mut is_dropped = false;
    for round in 0..20_u16 {
        let batch: Vec<_> = (0..2_000_u16).map(|key| (key, Some(key.wrapping_mul(31) ^ round))).collect();
        tree.apply(&hashed(scheme, &batch)).unwrap();
        map.extend(batch.into_iter().map(|(key, value)| (key, value.unwrap())));
        assert_eq!(tree.root(), reference(scheme, &map).root(), "round {round}");
        tree.evict(0).unwrap();
        tree.commit(u64::from(round)).unwrap().write().unwrap();
        // A page is dropped when nobody uses it; where it never is, this says no more than the others.
        let file = std::fs::File::open(folder.path().join("tree/state.pages")).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        is_dropped |= !tree.pages().read_at_hand(0, &mut [0; 4096]).unwrap();
    }
    eprintln!("pages were dropped: {is_dropped}");
}

/// A tree behind block 3 whose pages are all on disk.
fn kept(folder: &Path, scheme: KeyScheme) -> (IndexDisk, Hash) {
    let disk = disk(folder);
    let mut tree = StateTree::create(&disk, scheme).unwrap();
    let batch: Vec<_> = (0..400).map(|key| (key, Some(key))).collect();
    tree.apply(&hashed(scheme, &batch)).unwrap();
    tree.commit(3).unwrap().write().unwrap();
    (disk, tree.root())
}

#[test]
fn a_flipped_bit_is_never_part_of_a_proof() {
    KeyScheme::ALL.into_iter().for_each(flipped_bits);
}

fn flipped_bits(scheme: KeyScheme) {
    let folder = tempfile::tempdir().unwrap();
    let (disk, root) = kept(folder.path(), scheme);
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
        let (mut tree, _) = StateTree::open(&disk, scheme, 3).unwrap().unwrap();
        for number in (0..400u16).step_by(3) {
            let key = key(number);
            match tree.prove(&key) {
                Ok(proof) => assert_eq!(proof.verify(&root, &key, Some(&number.to_be_bytes())), Ok(())),
                Err(fault) => {
                    assert!(fault.to_string().contains("tree/state.pages"), "{fault}");
                    found += 1;
                }
            }
        }
        // Nor does it go into a root.
        let batch: Vec<_> = (0..400).map(|key| (key, Some(1))).collect();
        let is_seen = tree.apply(&hashed(scheme, &batch)).is_err();
        let is_put_away = StateTree::open(&disk, scheme, 3).unwrap().is_none();
        let changed = reference(scheme, &(0..400).map(|key| (key, 1)).collect()).root();
        assert!(is_seen == is_put_away && (is_seen || tree.root() == changed));
    }
    assert!(found > 20, "{found} proofs refused");
}

#[test]
fn half_a_top_leaves_the_one_before() {
    let (folder, scheme) = (tempfile::tempdir().unwrap(), KeyScheme::Grouped);
    let (disk, root) = kept(folder.path(), scheme);
    let (mut tree, _) = StateTree::open(&disk, scheme, 3).unwrap().unwrap();
    tree.apply(&hashed(scheme, &[(1, None)])).unwrap();
    tree.commit(4).unwrap().write().unwrap();
    let newer = tree.root();
    let opened = |height| StateTree::open(&disk, scheme, height).unwrap().map(|(tree, height)| (tree.root(), height));
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

/// A tree on disk that is hashed by the other scheme is another tree: whoever opens it so finds another root, and builds it again.
#[test]
fn a_tree_of_the_other_scheme_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, root) = kept(folder.path(), KeyScheme::Scattered);
    let (tree, _) = StateTree::open(&disk, KeyScheme::Grouped, 3).unwrap().unwrap();
    assert_ne!(tree.root(), root);
}
