//! The statement ids of an index, whatever became of their files: each id is found at its entry, always.

use super::super::Span;
use super::super::disk::RUN_DIR;
use super::super::pending::PendingBlock;
use super::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tally_evidence::{StatementId, sha256};

pub(super) const LIMITS: RunLimits = RunLimits { ids: 20, merge: 3 };
/// Entries of a block.
const ENTRIES_EACH: u64 = 7;

pub(super) fn id(entry: u64) -> StatementId {
    StatementId(sha256(&entry.to_le_bytes()))
}

pub(super) fn disk(data: &Path) -> IndexDisk {
    IndexDisk::File(data.join("state.redb"))
}

fn block(height: u64) -> PendingBlock {
    let mut block = PendingBlock::empty(height);
    block.row.first_entry = height * ENTRIES_EACH;
    block.row.entries = entries(block.row.first_entry, ENTRIES_EACH);
    block
}

/// So many entries of a block.
pub(super) fn entries(first: u64, count: u64) -> Vec<(Span, StatementId)> {
    (first..first + count).map(|entry| ((0, 0), id(entry))).collect()
}

fn apply(index: &Index, height: u64, durable: Option<RunLimits>) {
    index.add(Arc::new(block(height)), None).unwrap();
    write(index, 1, durable);
}

/// Writes the oldest of the blocks that wait; gives how many still do.
pub(super) fn write(index: &Index, count: usize, durable: Option<RunLimits>) -> usize {
    let blocks = index.pending.blocks();
    let count = count.min(blocks.len());
    index.write(&blocks[..count], None, durable).unwrap();
    index.pending.written(count);
    blocks.len() - count
}

/// Blocks, every second one durable.
fn fill(index: &Index, heights: std::ops::Range<u64>) {
    heights.for_each(|height| apply(index, height, height.is_multiple_of(2).then_some(LIMITS)));
}

/// Whether every entry up to the last block is found, and no other; gives the number of blocks.
fn all_are_found(index: &Index) -> u64 {
    let blocks = index.applied().unwrap().map_or(0, |(height, _)| height + 1);
    let end = blocks * ENTRIES_EACH;
    for entry in 0..end {
        assert_eq!(index.entry_of(&id(entry)).unwrap(), Some(entry), "of {blocks} blocks");
    }
    assert!((end..end + 500).all(|entry| index.entry_of(&id(entry)).unwrap().is_none()));
    blocks
}

/// The files of runs, by name.
fn runs(data: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join(RUN_DIR)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn listed(index: &Index) -> BTreeSet<String> {
    let list = index.db.begin_read().unwrap().open_table(RUNS).unwrap();
    list.iter().unwrap().map(|row| format!("{:08}.run", row.unwrap().0.value())).collect()
}

/// Waits until no merge is under way, so that the next durable block lists what it made.
fn merge_done(index: &Index) {
    while index.merging.is_working() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { assert!(fs::copy(entry.path(), to).is_ok()) }
    }
}

/// redb keeps what was never made durable when it is closed in order: the blocks are in then, and so must be their ids.
#[test]
fn a_block_that_is_in_has_its_statements_in() {
    let folder = tempfile::tempdir().unwrap();
    for height in 0..12 {
        let index = Index::open(&disk(folder.path())).unwrap();
        apply(&index, height, (height % 3 == 2).then_some(LIMITS));
        drop(index);
        let index = Index::open(&disk(folder.path())).unwrap();
        assert!(all_are_found(&index) > height / 3 * 3);
    }
}

/// The index grows over several merges; what counts is there, and nothing else stays.
#[test]
fn runs_are_written_and_merged_while_it_grows() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    let mut most = 0;
    for height in 0..120 {
        fill(&index, height..height + 1);
        merge_done(&index);
        most = most.max(listed(&index).len());
        if height % 10 == 0 {
            all_are_found(&index);
        }
    }
    let (written, count) = (index.next_run.load(std::sync::atomic::Ordering::SeqCst), listed(&index).len());
    assert!(written > 40 && most < 10 && count < 10, "{written} written, {count} at the end, {most} at most");
    assert_eq!(all_are_found(&index), 120);
    drop(index);
    let index = Index::open(&disk(folder.path())).unwrap();
    assert_eq!(all_are_found(&index), 120);
    assert_eq!(runs(folder.path()), listed(&index));
}

/// The moments at which a process may die, made from copies of the folder: the files on the disk are not those that the index lists.
#[test]
fn the_index_is_behind_or_ahead_of_the_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (data, before, between) = (folder.path().join("data"), folder.path().join("a"), folder.path().join("b"));
    fs::create_dir(&data).unwrap();
    let index = Index::open(&disk(&data)).unwrap();
    fill(&index, 0..9);
    merge_done(&index);
    drop(index);
    copy(&data, &before);
    let index = Index::open(&disk(&data)).unwrap();
    // Durable ones only, so that all of them are in the copies.
    (9..16).for_each(|height| apply(&index, height, Some(LIMITS)));
    merge_done(&index);
    drop(index);
    copy(&data, &between);
    let index = Index::open(&disk(&data)).unwrap();
    (16..40).for_each(|height| apply(&index, height, Some(LIMITS)));
    merge_done(&index);
    drop(index);
    let copies = [&before, &between, &data];
    for (of_index, of_runs) in (0..3).flat_map(|index| (0..3).map(move |runs| (index, runs))) {
        for is_united in [false, true] {
            let made = folder.path().join(format!("{of_index}-{of_runs}-{is_united}"));
            copy(copies[of_index], &made);
            if !is_united {
                fs::remove_dir_all(made.join(RUN_DIR)).unwrap();
            }
            // Old runs that were not removed yet, new ones that are not listed yet, and those of the same name in another form.
            copy(&copies[of_runs].join(RUN_DIR), &made.join(RUN_DIR));
            let index = Index::open(&disk(&made)).unwrap();
            assert_eq!(all_are_found(&index), [9, 16, 40][of_index]);
            assert_eq!(runs(&made), listed(&index), "what does not count is removed");
            let next = [9, 16, 40][of_index];
            (next..next + 9).for_each(|height| apply(&index, height, Some(LIMITS)));
            assert_eq!(all_are_found(&index), next + 9);
        }
    }
}

/// A file that is missing, empty, torn or rotten is made again from the blocks.
#[test]
fn a_run_that_is_no_good_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    fill(&index, 0..31);
    merge_done(&index);
    let names = listed(&index);
    assert!(names.len() > 2, "{names:?}");
    drop(index);
    let whole: Vec<_> = names.iter().map(|name| fs::read(folder.path().join(RUN_DIR).join(name)).unwrap()).collect();
    for damage in 0..5 {
        for (number, (name, bytes)) in names.iter().zip(&whole).enumerate() {
            let copied = tempfile::tempdir().unwrap();
            copy(folder.path(), copied.path());
            let file = copied.path().join(RUN_DIR).join(name);
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 3] ^= 16;
            match damage {
                0 => fs::remove_file(&file).unwrap(),
                1 => fs::write(&file, b"").unwrap(),
                2 => fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
                3 => fs::write(&file, flipped).unwrap(),
                _ => fs::remove_dir_all(copied.path().join(RUN_DIR)).unwrap(),
            }
            let index = Index::open(&disk(copied.path())).unwrap();
            assert_eq!(all_are_found(&index), 31, "damage {damage} of run {number}");
            assert_eq!(runs(copied.path()), listed(&index));
        }
    }
}

/// Damage that comes while the index is open is said, never answered over, and gone with the next opening.
#[test]
fn a_run_that_rots_while_it_is_open_gives_no_false_answer() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    fill(&index, 0..13);
    merge_done(&index);
    let file = folder.path().join(RUN_DIR).join(listed(&index).first().unwrap());
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let fault = index.entry_of(&id(0)).unwrap_err().to_string();
    assert!(fault.contains(RUN_DIR) && fault.contains("the next start builds it again"), "{fault}");
    // It goes on, without a merge over the damage.
    fill(&index, 13..41);
    merge_done(&index);
    fill(&index, 41..61);
    drop(index);
    assert_eq!(all_are_found(&Index::open(&disk(folder.path())).unwrap()), 61);
}

/// As an earlier version left it: the ids in a table of the index, no runs.
#[test]
fn an_index_of_the_version_with_a_table_of_ids_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    fill(&index, 0..30);
    // Three blocks behind what its table has.
    let in_table = 26;
    let write = index.db.begin_write().unwrap();
    let mut table = write.open_table(IDS).unwrap();
    for entry in 0..(in_table + 1) * ENTRIES_EACH {
        table.insert(&id(entry).0, entry).unwrap();
    }
    let mut meta = write.open_table(META).unwrap();
    meta.insert("format", (FORMAT_WITH_IDS, &[][..])).unwrap();
    meta.insert(STATEMENTS, (in_table, &[][..])).unwrap();
    meta.remove(statements::DURABLE).unwrap();
    drop((table, meta));
    write.delete_table(RUNS).unwrap();
    write.commit().unwrap();
    drop(index);
    fs::remove_dir_all(folder.path().join(RUN_DIR)).unwrap();
    for round in 0..2 {
        let index = Index::open(&disk(folder.path())).unwrap();
        assert_eq!(all_are_found(&index), 30);
        assert_eq!(index.written_behind().unwrap(), Some(in_table));
        let tables: Vec<_> = index.db.begin_read().unwrap().list_tables().unwrap().collect();
        assert!(!tables.iter().any(|table| redb::TableHandle::name(table) == "statements"), "round {round}");
    }
    let index = Index::open(&disk(folder.path())).unwrap();
    fill(&index, 30..50);
    assert_eq!(all_are_found(&index), 50);
}

/// An index of a version that nobody knows is none.
#[test]
fn an_index_of_another_version_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    fill(&index, 0..3);
    let write = index.db.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", (FORMAT + 1, &[][..])).unwrap();
    write.commit().unwrap();
    drop(index);
    let fault = Index::open(&disk(folder.path())).map(|_| ()).unwrap_err();
    assert!(fault.to_string().contains("format is 3"), "{fault}");
}

/// Up to where the state tree is durable, and no further; never much at once.
#[test]
fn what_the_state_tree_may_lack_is_forgotten_little_by_little() {
    let data = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(data.path())).unwrap();
    let kept = || {
        let changes = index.db.begin_read().unwrap().open_table(TREE_CHANGES).unwrap();
        changes.range(0..).unwrap().map(|row| row.unwrap().0.value()).collect::<Vec<_>>()
    };
    fill(&index, 0..40);
    assert_eq!(kept(), (0..40).collect::<Vec<_>>());
    for height in 40..50 {
        let before = kept();
        index.write(&[Arc::new(block(height))], Some(30), None).unwrap();
        let left = before.iter().filter(|height| kept().contains(height)).count();
        assert!(before.len() - left <= 4, "{before:?}, {:?}", kept());
    }
    assert_eq!(kept(), (31..50).collect::<Vec<_>>());
}
