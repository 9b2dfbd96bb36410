//! Whoever asks the index finds a block that waits like one that is in its file.

use super::super::details::Details;
use super::super::pending::PendingBlock;
use super::tests::{LIMITS, disk, entries, id, write};
use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use tally_contracts::{Refusal, StateRead};
use tally_evidence::sha256;

/// What a block of the test holds.
#[derive(Debug, Clone)]
struct Content {
    entries: u64,
    changes: Vec<(u8, Option<u8>)>,
    /// Places of outcomes that are refusals.
    refused: Vec<usize>,
    /// Agreements of which a term ran out.
    terms: Vec<u8>,
    /// How many of the blocks that wait are then written, and whether durably.
    written: usize,
    durable: bool,
}

fn content() -> impl Strategy<Value = Content> {
    let changes = proptest::collection::vec((0u8..6, proptest::option::of(any::<u8>())), 0..5);
    let refused = proptest::collection::vec(0usize..4, 0..2);
    let terms = proptest::collection::vec(0u8..3, 0..3);
    (0u64..4, changes, refused, terms, 0usize..4, any::<bool>()).prop_map(
        |(entries, changes, refused, terms, written, durable)| Content {
            entries,
            changes,
            refused,
            terms,
            written,
            durable,
        },
    )
}

fn agreement(number: u8) -> AgreementId {
    AgreementId::try_new(format!("mo-{number}")).unwrap()
}

fn due(height: u64, place: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(height * 10 + place).unwrap())
}

fn block_of(height: u64, first_entry: u64, content: &Content) -> PendingBlock {
    let mut details = Details::default();
    for place in &content.refused {
        details.push(*place, &Refusal::UnknownDevice { device: format!("press-{height}") });
    }
    let mut block = PendingBlock { details, digest: sha256(&height.to_le_bytes()), ..PendingBlock::empty(height) };
    block.row.first_entry = first_entry;
    block.row.entries = entries(first_entry, content.entries);
    block.outcomes = (0..4u8).map(|place| vec![place; usize::try_from(height).unwrap()]).collect();
    block.terms = (0..).zip(&content.terms).map(|(place, of)| (agreement(*of), due(height, place))).collect();
    block.state = Arc::new(content.changes.iter().map(|(key, value)| (vec![*key], value.map(|v| vec![v]))).collect());
    block
}

/// All answers of an index of so many blocks and entries.
fn answers(index: &Index, blocks: u64, entries: u64) -> String {
    let state = index.state().unwrap();
    let keys: Vec<_> = (0u8..6).map(|key| state.get(&[key])).collect();
    let scans: Vec<_> = (0..8).map(|limit| state.scan(b"", limit)).collect();
    let of_blocks = (0..=blocks).map(|height| {
        let details = [0, 1, 2, 3].map(|place| index.detail(height, place).unwrap());
        let terms: Vec<_> = (0u8..3)
            .flat_map(|of| (0..3).map(move |place| (of, place)))
            .map(|(of, place)| index.term(&agreement(of), due(height, place)).unwrap())
            .collect();
        let (row, outcomes) = (index.block(height).unwrap(), index.outcomes(height).unwrap());
        (row, outcomes, details, terms, index.next_refusal(height).unwrap(), index.terms_since(due(height, 0)).unwrap())
    });
    let of_blocks: Vec<_> = of_blocks.collect();
    let of_entries: Vec<_> =
        (0..=entries).map(|entry| (index.height_of(entry).unwrap(), index.entry_of(&id(entry)).unwrap())).collect();
    let last: Vec<_> = (0u8..3).map(|of| index.last_term(&agreement(of)).unwrap()).collect();
    format!("{:?} {keys:?} {scans:?} {of_blocks:?} {of_entries:?} {last:?}", state.height())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whether a block waits or is in the file makes no difference to who asks.
    #[test]
    fn what_waits_is_found_like_what_is_written(contents in proptest::collection::vec(content(), 1..12)) {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (waits, written) = (Index::open(&disk(here.path())).unwrap(), Index::open(&disk(there.path())).unwrap());
        let (mut height, mut entries) = (0, 0);
        for content in contents {
            for index in [&waits, &written] {
                index.add(Arc::new(block_of(height, entries, &content)), None).unwrap();
            }
            (height, entries) = (height + 1, entries + content.entries);
            prop_assert_eq!(write(&written, 1, None), 0);
            prop_assert_eq!(write(&waits, content.written, content.durable.then_some(LIMITS)), waits.pending.count());
            prop_assert_eq!(answers(&waits, height, entries), answers(&written, height, entries));
        }
    }
}

/// What was asked for before stays as it was, wherever the blocks went meanwhile.
#[test]
fn a_view_of_the_state_stays() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(&disk(folder.path())).unwrap();
    let value = |height: u8| Content {
        entries: 0,
        changes: vec![(0, Some(height)), (height + 1, Some(height))],
        refused: Vec::new(),
        terms: Vec::new(),
        written: 0,
        durable: false,
    };
    let mut views = Vec::new();
    for height in 0..6 {
        index.add(Arc::new(block_of(u64::from(height), 0, &value(height))), None).unwrap();
        views.push(index.state().unwrap());
        if height % 2 == 1 {
            write(&index, index.pending.count() - 1, None);
        }
    }
    assert_eq!(write(&index, usize::MAX, None), 0);
    for (height, mut view) in (0..6).zip(views) {
        assert_eq!((view.height(), view.get(&[0])), (Some(u64::from(height)), Some(vec![height])));
        assert_eq!(view.scan(b"", 100).len(), usize::from(height) + 2);
        view.go_on(u64::from(height), &Arc::new([(vec![0], None)].into()));
        assert_eq!(view.get(&[0]), Some(vec![height]), "a block it has");
    }
}
