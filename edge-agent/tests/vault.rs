//! The vault by itself: numbers, times, leaves beyond memory, what it gives up and what it refuses to open.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::sync::Arc;
use tally_connector_api::{Batch, HistoricalBatch};
use tally_edge_agent::error::StoreError;
use tally_edge_agent::store::open_journal;
use tally_edge_agent::vault::{Contents, Keeping, Retained, Vault, VaultOpening, load_secret};
use tally_evidence::{ChainHead, decode_reading, root_of};
use tally_journal::Options;
use tally_journal::testing::MemStorage;
use tally_model::{DeviceId, LinkProtocol, LinkSecurity, Origin, PointId, Quality, Sample, Timestamp, Unit, Value};

fn device() -> DeviceId {
    DeviceId::try_new("press-01").unwrap()
}

fn open_with(disk: &MemStorage, secret: u8, watched: bool) -> Result<Vault<MemStorage>, StoreError> {
    let options = Options { segment_bytes_max: 5_000, ..Options::default() };
    let journal = open_journal("vault", disk.clone(), options)?;
    let watched: HashSet<_> = watched.then(device).into_iter().collect();
    VaultOpening::begin(journal, [secret; 32].into(), watched)?.replay(|_, _, _, _| Ok(()))
}

fn open(disk: &MemStorage) -> Vault<MemStorage> {
    open_with(disk, 9, true).unwrap()
}

/// `count` samples of points that take turns, received from `at` on, a millisecond apart.
fn batch(at: i64, count: usize) -> Batch {
    let samples = (0..count).map(|place| {
        let received = Timestamp::from_micros(at + i64::try_from(place).unwrap() * 1_000);
        Sample {
            seal: None,
            point: PointId::try_new(["p", "q"][place % 2]).unwrap(),
            outcome: Ok(Value::Integer(i64::try_from(place).unwrap())),
            unit: Unit::one(),
            quality: Quality::Good,
            source_time: received,
            received,
        }
    });
    Batch { device: device(), samples: samples.collect(), origin: None }
}

#[test]
fn a_clock_set_back_stops_neither_numbers_nor_times() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    let first = vault.keep(batch(1_000_000, 3), true).unwrap();
    let second = vault.keep(batch(400_000, 3), true).unwrap();
    vault.sync().unwrap();
    drop(vault);
    let third = open(&disk.power_cut(1)).keep(batch(0, 2), true).unwrap();
    let all: Vec<_> = [first, second, third].into_iter().flat_map(|kept| kept.readings).collect();
    let numbers: Vec<_> = all.iter().map(|kept| kept.reading.number).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert!(all.windows(2).all(|pair| pair[0].reading.sample.received <= pair[1].reading.sample.received));
    // The source time is the device's own word and stays as it is.
    assert_eq!(all[7].reading.sample.source_time, Timestamp::from_micros(1_000));
    let mut head = ChainHead::start(&device());
    for (number, kept) in all.iter().enumerate() {
        head = head.extend(&kept.leaf);
        assert_eq!(kept.head, head.0);
        // Each batch begins with `p` again.
        let of_point = all[..number].iter().filter(|other| other.reading.sample.point == kept.reading.sample.point);
        assert_eq!(kept.point_number, of_point.count() as u64);
    }
}

fn from(maker: &str) -> Arc<Origin> {
    let link = LinkSecurity::none(LinkProtocol::Modbus);
    Arc::new(Origin { link, identity: Some(maker.to_owned()) })
}

fn origins(vault: &Vault<MemStorage>, first: u64, last: u64) -> Vec<(u64, String)> {
    let found = vault.origins(&device(), first, last);
    found.into_iter().map(|stretch| (stretch.from, stretch.origin.identity.unwrap())).collect()
}

#[test]
fn where_readings_come_from_is_known_again_after_a_restart() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    let keep = |vault: &mut Vault<MemStorage>, maker: Option<&str>| {
        vault.keep(Batch { origin: maker.map(from), ..batch(0, 10) }, true).unwrap();
    };
    // Before anybody said; then Acme, also over an outage; then another one, in the middle of which a snapshot is written.
    for maker in [None, Some("Acme"), Some("Acme"), None, Some("Other"), Some("Other")] {
        keep(&mut vault, maker);
    }
    vault.snapshot(true).unwrap();
    keep(&mut vault, Some("Acme"));
    vault.sync().unwrap();
    let expected: Vec<_> = [(10, "Acme"), (40, "Other"), (60, "Acme")].map(|(at, who)| (at, who.to_owned())).into();
    for vault in [vault, open(&disk.power_cut(1))] {
        assert_eq!(origins(&vault, 0, 69), expected);
        assert_eq!(origins(&vault, 5, 9), [], "nobody said");
        assert_eq!(origins(&vault, 15, 39), [(15, "Acme".to_owned())]);
        assert_eq!(origins(&vault, 45, 60), [(45, "Other".to_owned()), (60, "Acme".to_owned())]);
    }
    // What was not synced is lost with its origin; the numbers are given again, over another link.
    let disk = disk.restart();
    let mut vault = open(&disk);
    keep(&mut vault, Some("Lost"));
    drop(vault);
    let mut vault = open(&disk.power_cut(2));
    keep(&mut vault, Some("Other"));
    assert_eq!(origins(&vault, 65, 79), [(65, "Acme".to_owned()), (70, "Other".to_owned())]);
    vault.release(&device(), 72);
    assert_eq!(origins(&vault, 70, 79), [(70, "Other".to_owned())]);
    assert_eq!(vault.batches_from(0, 1_000).unwrap().0.len(), 8, "records of origins hold no readings");
}

#[test]
fn unsynced_readings_may_go_and_their_numbers_are_given_again() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    vault.keep(batch(0, 10), true).unwrap();
    vault.sync().unwrap();
    vault.keep(batch(50_000, 10), true).unwrap();
    drop(vault);
    let mut vault = open(&disk.power_cut(3));
    assert_eq!(vault.next_number(&device()), 10);
    assert_eq!(vault.keep(batch(60_000, 1), true).unwrap().readings[0].reading.number, 10);
}

#[test]
fn leaves_beyond_memory_come_from_disk() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    let mut leaves = Vec::new();
    for round in 0..60 {
        let kept = vault.keep(batch(round * 400_000, 400), true).unwrap();
        leaves.extend(kept.readings.into_iter().map(|kept| kept.leaf));
    }
    for (first, last) in [(0, 23_999), (100, 20_000), (7_000, 7_300), (23_000, 23_999), (5, 5)] {
        let found = vault.leaves(&device(), first, last).unwrap();
        let expected = &leaves[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        assert_eq!(root_of(&found), root_of(expected), "{first}..={last}");
    }
    vault.sync().unwrap();
    // After a restart as well.
    let vault = open(&disk.power_cut(2));
    assert_eq!(vault.leaves(&device(), 0, 23_999).unwrap(), leaves);
    let gone = vault.leaves(&device(), 23_000, 24_000).unwrap_err();
    assert!(matches!(gone, StoreError::NotKept { last: 24_000, .. }) && gone.is_passing());
}

#[test]
fn a_large_batch_becomes_several_records() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    let kept = vault.keep(batch(0, 25_000), true).unwrap();
    assert_eq!((kept.readings.len(), kept.place), (25_000, 2));
    vault.sync().unwrap();
    let vault = open(&disk.restart());
    assert_eq!(vault.next_number(&device()), 25_000);
    let (stored, _) = vault.read(&device(), 0, 9_999..=10_000, 100).unwrap();
    let numbers: Vec<_> =
        stored.iter().map(|stored| decode_reading(&device(), &stored.bytes).unwrap().0.number).collect();
    assert_eq!(numbers, [9_999, 10_000]);
}

fn filled(disk: &MemStorage) -> Vault<MemStorage> {
    let mut vault = open(disk);
    for round in 0..100 {
        vault.keep(batch(round * 1_000_000, 20), true).unwrap();
    }
    vault.sync().unwrap();
    vault
}

fn keeping(since_seconds: i64, bytes_max: u64, unsent: Option<u64>) -> Keeping {
    Keeping { since: Timestamp::from_micros(since_seconds * 1_000_000), bytes_max, unsent }
}

#[test]
fn old_readings_go_and_the_chain_goes_on() {
    let disk = MemStorage::new();
    let mut vault = filled(&disk);
    vault.release(&device(), 2_000);
    let before = vault.bytes_on_disk();
    assert_eq!(vault.retain(keeping(60, u64::MAX, None)).unwrap(), Retained::WithinLimits);
    assert!(vault.bytes_on_disk() < before * 2 / 3, "{} of {before}", vault.bytes_on_disk());
    let heads: Vec<_> = vault.heads().map(|(device, next, head)| (device.clone(), next, head)).collect();
    drop(vault);
    let mut vault = open(&disk.power_cut(5));
    assert_eq!(vault.heads().map(|(device, next, head)| (device.clone(), next, head)).collect::<Vec<_>>(), heads);
    let kept = vault.keep(batch(200_000_000, 2), true).unwrap();
    // Numbers of the device and of its points go on although the readings before them are gone.
    assert_eq!((kept.readings[0].reading.number, kept.readings[0].point_number), (2_000, 1_000));
}

#[test]
fn what_rules_or_unsent_triggers_need_is_kept_above_all_limits() {
    let disk = MemStorage::new();
    let mut vault = filled(&disk);
    vault.release(&device(), 100);
    let before = vault.bytes_on_disk();
    assert_eq!(vault.retain(keeping(1_000, 10_000, None)).unwrap(), Retained::HeldBack(Some(device())));
    vault.leaves(&device(), 100, 1_999).unwrap();
    assert!(vault.bytes_on_disk() > before / 2);
    vault.release(&device(), 2_000);
    assert_eq!(vault.retain(keeping(1_000, 10_000, Some(50))).unwrap(), Retained::HeldBack(None));
    assert!(!vault.read(&device(), 50, 1_000..=1_005, 100).unwrap().0.is_empty());
    assert_eq!(vault.retain(keeping(0, 30_000, None)).unwrap(), Retained::WithinLimits);
    assert!(vault.bytes_on_disk() <= 30_000);
}

#[test]
fn a_vault_that_cannot_grow_says_so_each_time_without_growing() {
    let disk = MemStorage::new();
    let mut vault = filled(&disk);
    vault.release(&device(), 100);
    vault.retain(keeping(1_000, 10_000, None)).unwrap();
    let before = vault.bytes_on_disk();
    for _ in 0..50 {
        vault.retain(keeping(1_000, 10_000, None)).unwrap();
    }
    assert_eq!(vault.bytes_on_disk(), before);
}

#[test]
fn another_secret_is_noticed() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    vault.keep(batch(0, 5), true).unwrap();
    vault.sync().unwrap();
    drop(vault);
    let fault = open_with(&disk.restart(), 8, true).err().unwrap();
    assert!(matches!(fault, StoreError::Chain { number: 0, .. }), "{fault}");
    open_with(&disk.restart(), 9, false).unwrap();
}

#[test]
fn a_secret_is_made_once_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.secret");
    let made = load_secret(&file, true).unwrap();
    assert_eq!(load_secret(&file, false).unwrap(), made);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(load_secret(&file, false).unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, b"short").unwrap();
    assert!(matches!(load_secret(&file, false).unwrap_err(), StoreError::SecretLost { .. }));
    std::fs::remove_file(&file).unwrap();
    assert!(load_secret(&file, false).unwrap_err().to_string().contains("restore it from backup"));
}

/// `count` values that a device had recorded an hour before they were told, at `at`.
fn recorded(at: i64, count: usize) -> HistoricalBatch {
    let Batch { device, mut samples, .. } = batch(at, count);
    for sample in &mut samples {
        sample.source_time = sample.received.minus(std::time::Duration::from_secs(3_600));
        sample.received = Timestamp::from_micros(at);
    }
    HistoricalBatch { device, samples }
}

/// Everything that came late and is still there, in the order in which it was kept, by batch.
fn late_in(vault: &Vault<MemStorage>) -> Vec<HistoricalBatch> {
    let (mut found, mut place) = (Vec::new(), vault.first_place());
    while place < vault.next_place() {
        let (batches, next) = vault.batches_from(place, 10).unwrap();
        for batch in batches {
            if let (device, Contents::Late(samples)) = batch.decode().unwrap() {
                found.push(HistoricalBatch { device, samples });
            }
        }
        place = next;
    }
    found
}

#[test]
fn what_came_late_survives_a_power_cut_and_no_chain_knows_of_it() {
    let (disk, plain_disk) = (MemStorage::new(), MemStorage::new());
    let (mut vault, mut plain) = (open(&disk), open(&plain_disk));
    let mut told = Vec::new();
    for round in 0..50 {
        let at = round * 1_000_000;
        let kept = vault.keep(batch(at, 5), true).unwrap();
        assert_eq!(kept.readings, plain.keep(batch(at, 5), true).unwrap().readings, "numbers, leaves and heads");
        let late = recorded(at, 7);
        let kept = vault.keep_late(&late).unwrap();
        assert_eq!((kept.readings.len(), kept.place + 1), (0, vault.next_place()));
        told.push(late);
        if round % 20 == 7 {
            vault.snapshot(true).unwrap();
        }
    }
    vault.sync().unwrap();
    let heads = |vault: &Vault<MemStorage>| vault.heads().map(|(id, next, head)| (id.clone(), next, head)).collect();
    let expected: Vec<_> = heads(&plain);
    drop(vault);
    let mut disk = disk;
    for is_power_cut in [false, true] {
        disk = if is_power_cut { disk.power_cut(5) } else { disk.restart() };
        let vault = open(&disk);
        assert_eq!(heads(&vault), expected);
        assert_eq!(late_in(&vault), told);
        assert_eq!(vault.leaves(&device(), 0, 249).unwrap(), plain.leaves(&device(), 0, 249).unwrap());
        let (stored, _) = vault.read(&device(), 0, 0..=u64::MAX, 1_000).unwrap();
        assert_eq!(stored.len(), 250, "what disclosures are made of");
        let (walked, _) = vault.walk(0).unwrap();
        assert_eq!(walked.iter().map(|walked| walked.readings.len()).sum::<usize>(), 250, "what anchors are made of");
    }
    // A batch of a device that was never heard live makes no chain.
    let mut vault = open(&MemStorage::new());
    vault.keep_late(&recorded(0, 3)).unwrap();
    assert_eq!((vault.ends().count(), vault.next_number(&device())), (0, 0));
}

#[test]
fn rules_are_shown_nothing_of_what_came_late() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    for round in 0..5 {
        vault.keep(batch(round * 1_000, 1), true).unwrap();
        vault.keep_late(&recorded(round * 1_000, 100)).unwrap();
    }
    vault.sync().unwrap();
    drop(vault);
    let journal = open_journal("vault", disk.restart(), Options { segment_bytes_max: 5_000, ..Options::default() });
    let opening = VaultOpening::begin(journal.unwrap(), [9; 32].into(), [device()].into()).unwrap();
    let mut seen = Vec::new();
    opening
        .replay(|_, kept, _, _| {
            seen.push(kept.reading.number);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn what_came_late_goes_by_age_and_by_size_and_holds_nothing_back() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    for round in 0..100 {
        vault.keep_late(&recorded(round * 1_000_000, 20)).unwrap();
    }
    vault.keep(batch(100_000_000, 1), true).unwrap();
    vault.sync().unwrap();
    assert_eq!(vault.retain(keeping(60, u64::MAX, None)).unwrap(), Retained::WithinLimits);
    let left = late_in(&vault);
    assert!((40..60).contains(&left.len()), "{}", left.len());
    assert_eq!(left.last(), Some(&recorded(99_000_000, 20)));
    // A rule needs the one reading at the end, not what came late before it.
    assert_eq!(vault.retain(keeping(0, 12_000, None)).unwrap(), Retained::WithinLimits);
    assert!(vault.bytes_on_disk() <= 12_000 && late_in(&vault).len() < left.len());
    let vault = open(&disk.restart());
    assert_eq!((vault.next_number(&device()), vault.leaves(&device(), 0, 0).unwrap().len()), (1, 1));
}

#[test]
fn a_large_late_batch_becomes_several_records() {
    let disk = MemStorage::new();
    let mut vault = open(&disk);
    let late = recorded(0, 25_000);
    let kept = vault.keep_late(&late).unwrap();
    assert_eq!((kept.first_place, kept.place), (0, 2));
    let parts = late_in(&vault);
    assert_eq!(parts.iter().map(|part| part.samples.len()).collect::<Vec<_>>(), [10_000, 10_000, 5_000]);
    let all: Vec<_> = parts.into_iter().flat_map(|part| part.samples).collect();
    assert_eq!(all, late.samples);
}
