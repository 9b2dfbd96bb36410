use super::*;

fn tree(size: u64) -> (Tree, Vec<Hash>) {
    let leaves: Vec<_> = (0..size).map(|index| leaf_hash(&index.to_be_bytes())).collect();
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    (tree, leaves)
}

#[test]
fn roots_of_every_earlier_size() {
    let (tree, leaves) = tree(70);
    for size in 0..=70 {
        assert_eq!(tree.root_at(size), Some(root_of(&leaves[..usize::try_from(size).unwrap()])), "{size}");
    }
    assert_eq!(tree.root_at(71), None);
}

#[test]
fn the_root_of_all_leaves_and_of_none() {
    for size in 0..70 {
        let (tree, leaves) = tree(size);
        assert_eq!(tree.root(), root_of(&leaves), "{size}");
    }
}

/// A root of nothing would prove anything.
#[test]
fn what_is_not_there_has_no_root() {
    let (mut tree, _) = tree(8);
    tree.levels[2].pop();
    assert_eq!((tree.range(4..8), tree.inclusion_path(1, 8), tree.consistency_path(4, 8)), (None, None, None));
    assert!(tree.range(0..4).is_some() && tree.inclusion_path(5, 8).is_some());
    assert_eq!((tree.range(6..10), tree.range(8..9)), (None, None));
}

#[test]
fn the_frontier_has_the_root_of_the_whole_tree() {
    let (_, leaves) = tree(70);
    let mut frontier = Frontier::default();
    for size in 0..70 {
        assert_eq!((frontier.root(), frontier.count()), (root_of(&leaves[..size]), size as u64));
        frontier.push(leaves[size]);
    }
}

#[test]
fn inclusion_of_every_leaf_in_every_size() {
    let (tree, leaves) = tree(40);
    for size in 1..=40 {
        for index in 0..size {
            let path = tree.inclusion_path(index, size).unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            assert_eq!(root_from_path(leaf, index, size, &path), tree.root_at(size));
            assert_ne!(root_from_path([0; 32], index, size, &path), tree.root_at(size));
            assert_ne!(root_from_path(leaf, (index + 1) % size, size, &path), tree.root_at(size).filter(|_| size > 1));
        }
    }
}

#[test]
fn consistency_of_every_pair_of_sizes() {
    let (tree, _) = tree(40);
    for new in 1..=40 {
        for old in 1..=new {
            let path = tree.consistency_path(old, new).unwrap();
            let (old_root, new_root) = (tree.root_at(old).unwrap(), tree.root_at(new).unwrap());
            assert_eq!(
                root_from_consistency_path(old, new, old_root, &path),
                Some((old_root, new_root)),
                "{old}→{new}"
            );
        }
    }
}
