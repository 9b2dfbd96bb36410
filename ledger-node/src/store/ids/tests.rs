//! Runs against a table in memory, damaged everywhere, merged and found again.

use super::run::{LABEL_BYTES, PAGE_BYTES, PAGE_ROWS};
use super::*;
use crate::store::disk::{IndexDisk, RUN_DIR};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tally_evidence::sha256;

const LIMITS: RunLimits = RunLimits { ids: 4, merge: 3 };

fn disk(folder: &Path) -> IndexDisk {
    IndexDisk::File(folder.join("state.redb"))
}

fn file(folder: &Path, number: u64) -> std::path::PathBuf {
    folder.join(RUN_DIR).join(format!("{number:08}.run"))
}

fn id(entry: u64) -> Id {
    sha256(&entry.to_le_bytes())
}

/// Ids of which many begin with the same bytes.
fn alike(entry: u64) -> Id {
    let mut id = id(entry);
    id[..8].copy_from_slice(&(entry / 300).to_be_bytes());
    id
}

fn write(folder: &Path, number: u64, entries: Range<u64>, id: fn(u64) -> Id) -> Run {
    let mut rows: Vec<_> = entries.clone().map(|entry| (id(entry), entry)).collect();
    rows.sort_unstable();
    let mut writer = Writer::new(&disk(folder), number, entries).unwrap();
    rows.iter().for_each(|(id, entry)| writer.push(id, *entry).unwrap());
    writer.finish().unwrap()
}

fn open(folder: &Path, run: &Run) -> Result<Run, IndexFault> {
    let label = Label::decode(&run.label.encode()).unwrap();
    let run = Run::open(run.number, label, disk(folder).run_file(run.number)?)?;
    run.verify()?;
    Ok(run)
}

fn merge_all(folder: &Path, number: u64, runs: Vec<Run>) -> Run {
    let runs: Vec<_> = runs.into_iter().map(Arc::new).collect();
    merge(&disk(folder), number, &runs, &AtomicBool::new(false)).unwrap().unwrap()
}

#[test]
fn what_was_written_is_found_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let page = PAGE_ROWS as u64;
    for id in [id as fn(u64) -> Id, alike] {
        for (number, count) in (0..).zip([1, 2, page - 1, page, page + 1, 5 * page, 1_700, 27_000]) {
            let first = 10 * number;
            let run = write(folder.path(), number, first..first + count, id);
            let length = fs::metadata(file(folder.path(), number)).unwrap().len();
            assert_eq!(length, run.bytes());
            for run in [&run, &open(folder.path(), &run).unwrap()] {
                assert!((first..first + count).all(|entry| run.find(&id(entry)).unwrap() == Some(entry)), "{count}");
                assert!(
                    (0..first)
                        .chain(first + count..first + count + 2_000)
                        .all(|entry| run.find(&id(entry)).unwrap().is_none())
                );
            }
        }
    }
}

/// It never was, as no statement is taken twice; should it ever be, the first one has the receipt.
#[test]
fn of_one_id_at_several_entries_the_first_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let same = |_| [7; 32];
    let run = write(folder.path(), 0, 5..500, same);
    assert_eq!(run.find(&[7; 32]).unwrap(), Some(5));
    let merged = merge_all(folder.path(), 2, vec![run, write(folder.path(), 1, 500..700, same)]);
    assert_eq!(merged.find(&[7; 32]).unwrap(), Some(5));
}

#[test]
fn any_flipped_bit_is_noticed_before_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let entries = 3..3 + PAGE_ROWS as u64 + 20;
    let run = write(folder.path(), 0, entries.clone(), id);
    let file = file(folder.path(), 0);
    let whole = fs::read(&file).unwrap();
    let (mut at_opening, mut at_asking) = (0, 0);
    // Not each byte of the pages: every damage is synced.
    let pages = (0..2 * PAGE_BYTES).step_by(23);
    for place in pages.clone().chain(2 * PAGE_BYTES..whole.len()) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&file, &bytes).unwrap();
        let label = run.label.clone();
        let Ok(opened) = Run::open(0, label, disk(folder.path()).run_file(0).unwrap()) else {
            at_opening += 1;
            continue;
        };
        // Each page is asked once before the first of them says that it is damaged.
        let mut answers = entries.clone().map(|entry| (entry, opened.find(&id(entry))));
        let fault = answers.find(|(entry, answer)| !matches!(answer, Ok(Some(found)) if found == entry));
        let (entry, fault) = fault.unwrap_or_else(|| panic!("byte {place} is of no matter"));
        assert!(fault.is_err(), "byte {place}: entry {entry} is {fault:?}");
        at_asking += 1;
        // And from then on it is none, whatever becomes of the bit.
        assert!(open(folder.path(), &run).is_err());
    }
    assert!(at_opening > LABEL_BYTES && at_asking == pages.len(), "{at_opening} and {at_asking}");
    for length in [0, 1, PAGE_BYTES, whole.len() - LABEL_BYTES, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(open(folder.path(), &run).is_err());
    }
    fs::write(&file, &whole).unwrap();
    assert!(open(folder.path(), &run).is_ok());
    // A whole run of other ids of the same entries is none either.
    let other = write(folder.path(), 1, entries, alike);
    fs::copy(super::tests::file(folder.path(), 1), &file).unwrap();
    assert!(open(folder.path(), &run).is_err() && open(folder.path(), &other).is_ok());
}

#[test]
fn a_writer_that_is_given_too_little_or_out_of_order_makes_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let new = || Writer::new(&disk(folder.path()), 0, 0..2).unwrap();
    let mut writer = new();
    writer.push(&[1; 32], 0).unwrap();
    assert!(writer.finish().is_err());
    let mut writer = new();
    writer.push(&[1; 32], 0).unwrap();
    assert!(writer.push(&[0; 32], 1).is_err());
}

#[test]
fn a_merge_that_nobody_waits_for_ends() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..2)
        .map(|number| Arc::new(write(folder.path(), number, number * 40_000..(number + 1) * 40_000, id)))
        .collect();
    let is_over = AtomicBool::new(true);
    assert!(merge(&disk(folder.path()), 2, &runs, &is_over).unwrap().is_none());
}

/// A merge does not carry damage on under a good checksum.
#[test]
fn a_merge_over_damage_makes_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> =
        (0..3).map(|number| write(folder.path(), number, number * 500..(number + 1) * 500, id)).collect();
    let mut bytes = fs::read(file(folder.path(), 1)).unwrap();
    bytes[PAGE_BYTES + 50] ^= 4;
    fs::write(file(folder.path(), 1), bytes).unwrap();
    let runs: Vec<_> = runs.into_iter().map(Arc::new).collect();
    let merging = Merging::default();
    merging.begin(&disk(folder.path()), 3, runs.clone()).unwrap();
    let fault = loop {
        match merging.look() {
            Ok(None) => std::thread::sleep(std::time::Duration::from_millis(1)),
            other => break other.map(|_| ()).unwrap_err(),
        }
    };
    assert!(fault.to_string().contains("page 1"), "{fault}");
    let opened: Vec<_> = runs.iter().map(|run| open(folder.path(), run).is_ok()).collect();
    assert_eq!(opened, [true, false, true], "the next opening sees which one it was");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Runs of any size, merged as they become due, have every id at its entry, without a gap.
    #[test]
    fn the_runs_are_a_table_in_memory(sizes in proptest::collection::vec(1u64..400, 1..30), by in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let id = if by { alike } else { id };
        let (mut runs, mut next, mut end) = (Runs::default(), 0, 0);
        for size in sizes {
            runs.add(write(folder.path(), next, end..end + size, id));
            (next, end) = (next + 1, end + size);
            while let Some(due) = runs.due(LIMITS) {
                let run = merge(&disk(folder.path()), next, &due, &AtomicBool::new(false)).unwrap().unwrap();
                let of = due.iter().map(|run| run.number).collect();
                prop_assert_eq!(runs.replace(Merged { run, of }).len(), LIMITS.merge);
                next += 1;
            }
            prop_assert_eq!((runs.end(), runs.gaps(end), runs.gaps(end + 3)), (end, vec![], Vec::from_iter(once(end..end + 3))));
        }
        for run in runs.iter() {
            open(folder.path(), run).unwrap();
        }
        for entry in 0..end {
            prop_assert_eq!(runs.find(&id(entry)).unwrap(), Some(entry));
        }
        prop_assert!((end..end + 500).all(|entry| runs.find(&id(entry)).unwrap().is_none()));
    }

    #[test]
    fn random_bytes_are_no_label_and_no_run(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 1u64..9) {
        prop_assert_eq!(Label::decode(&bytes), None);
        let folder = tempfile::tempdir().unwrap();
        let run = write(folder.path(), 0, 0..rows, id);
        fs::write(file(folder.path(), 0), &bytes).unwrap();
        prop_assert!(open(folder.path(), &run).is_err());
    }
}

#[test]
fn gaps_are_what_no_run_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut runs = Runs::default();
    assert_eq!((runs.gaps(0), runs.gaps(9)), (vec![], Vec::from_iter(once(0..9))));
    for (number, entries) in [(0, 7..9), (1, 2..4), (2, 4..5)] {
        runs.add(write(folder.path(), number, entries, id));
    }
    assert_eq!(runs.gaps(11), [0..2, 5..7, 9..11]);
}
