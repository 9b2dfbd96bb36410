//! A witness and a log that grows, forks, lies and is restored.

use super::*;
use crate::clock::Clock;
use crate::witness::config::WatchedLog;
use tally_evidence::{Algorithm, SigningKey, SplitFile, Tree, leaf_hash};
use tally_model::Timestamp;

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_790_000_000_000_000)
    }
}

/// A log with a tree of its own.
struct TestLog {
    key: SigningKey,
    tree: Tree,
}

impl TestLog {
    fn new(entries: &[&str]) -> Self {
        let mut tree = Tree::default();
        entries.iter().for_each(|entry| tree.push(leaf_hash(entry.as_bytes())));
        Self { key: SigningKey::from_secret(&[5; 32]).unwrap(), tree }
    }

    fn note(&self, size: u64) -> SignedNote {
        let root = self.tree.root_at(size).unwrap();
        SignedNote::parse(&TreeNote { origin: "press-line".to_owned(), size, root }.seal(&self.key)).unwrap()
    }

    fn asks(&self, old: u64, size: u64) -> Vec<u8> {
        let path = self.tree.consistency_path(old, size).unwrap_or_default();
        AddCheckpoint { old, path, note: self.note(size) }.write().into_bytes()
    }
}

fn witness(dir: &std::path::Path) -> Witness {
    let key = NoteSigningKey::from_secret(Algorithm::Ed25519, &[9; 32]).unwrap();
    let log = LogKey::new("press-line".to_owned(), TestLog::new(&[]).key.public().clone().into());
    let logs = vec![WatchedLog { file: dir.join("key"), key: log }];
    let metrics = WitnessMetrics::new().unwrap();
    Witness::open("w1".to_owned(), key, Records::open(dir).unwrap(), logs, metrics, Arc::new(Noon)).unwrap()
}

const ENTRIES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const FORKED: [&str; 8] = ["a", "X", "c", "d", "e", "f", "g", "h"];

#[track_caller]
fn is_cosigned(answer: &Answer, note: &SignedNote, witness: &Witness) {
    let Answer::Cosigned(lines) = answer else { panic!("{answer:?}") };
    let cosigned = SignedNote::parse(&format!("{note}{lines}")).unwrap();
    assert_eq!(witness.cosigner().unwrap().time_of(&cosigned), Ok(1_790_000_000));
}

#[test]
fn a_log_that_only_grows_is_cosigned_and_remembered_over_restarts() {
    let (dir, log) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES));
    let first = witness(dir.path());
    assert!(first.checkpoint(&hash_of("press-line")).is_none());
    is_cosigned(&first.add_checkpoint(&log.asks(0, 3)), &log.note(3), &first);
    is_cosigned(&first.add_checkpoint(&log.asks(3, 3)), &log.note(3), &first);
    is_cosigned(&first.add_checkpoint(&log.asks(3, 7)), &log.note(7), &first);
    drop(first);
    let again = witness(dir.path());
    assert_eq!(again.add_checkpoint(&log.asks(0, 8)), Answer::Conflict(7));
    assert_eq!(again.add_checkpoint(&log.asks(3, 8)), Answer::Conflict(7), "an old request, sent again");
    assert_eq!(again.add_checkpoint(&log.asks(3, 7)), Answer::Conflict(7));
    assert_eq!(again.add_checkpoint(&log.asks(3, 6)), Answer::Conflict(7), "never back");
    is_cosigned(&again.add_checkpoint(&log.asks(7, 8)), &log.note(8), &again);
    let served = again.checkpoint(&hash_of("press-line")).unwrap();
    assert_eq!((served.text(), served.lines().len()), (log.note(8).text(), 2));
    assert!(again.status()[0].alarm.is_none());
}

#[test]
fn what_is_not_the_logs_or_no_request_is_refused() {
    let (dir, log) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES));
    let witness = witness(dir.path());
    let stranger = TestLog { key: SigningKey::from_secret(&[6; 32]).unwrap(), tree: log.tree.clone() };
    assert_eq!(witness.add_checkpoint(&stranger.asks(0, 3)), Answer::NotSigned(NoteFault::Unsigned));
    let altered = String::from_utf8(log.asks(0, 3)).unwrap().replacen("\n3\n", "\n4\n", 1);
    assert_eq!(witness.add_checkpoint(altered.as_bytes()), Answer::NotSigned(NoteFault::Signature));
    let other = altered.replace("press-line", "other-line");
    assert_eq!(witness.add_checkpoint(other.as_bytes()), Answer::UnknownLog("other-line".to_owned()));
    assert!(matches!(witness.add_checkpoint(b"old 0\n"), Answer::Malformed(_)));
    assert!(matches!(witness.add_checkpoint(&log.asks(4, 3)), Answer::Malformed(_)), "old above the size");
    let path = AddCheckpoint { old: 0, path: vec![[0; 32]], note: log.note(3) }.write();
    assert!(matches!(witness.add_checkpoint(path.as_bytes()), Answer::Inconsistent(_)), "a path from nothing");
    assert!(witness.status()[0].last.is_none());
}

#[test]
fn two_roots_of_one_size_are_an_alarm_until_somebody_settles_it() {
    let (dir, log, fork) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES), TestLog::new(&FORKED));
    for (old, is_conflict) in [(5, false), (0, true)] {
        let dir = dir.path().join(old.to_string());
        let first = witness(&dir);
        is_cosigned(&first.add_checkpoint(&log.asks(0, 5)), &log.note(5), &first);
        let answer = first.add_checkpoint(&fork.asks(old, 5));
        assert!(if is_conflict { answer == Answer::Conflict(5) } else { matches!(answer, Answer::Inconsistent(_)) });
        let file = first.status()[0].alarm.clone().unwrap();
        let split = SplitFile::decode(&std::fs::read(&file).unwrap()).unwrap();
        assert!(split.check().unwrap().0.is_proved());
        assert_eq!(first.add_checkpoint(&log.asks(5, 6)), Answer::Conflict(5), "not even the true one");
        drop(first);
        let again = witness(&dir);
        assert_eq!(again.add_checkpoint(&log.asks(5, 6)), Answer::Conflict(5), "nor after a restart");
        drop(again);
        let kept = Records::open(&dir).unwrap().settle("press-line", false).unwrap().kept.unwrap();
        assert_eq!(SplitFile::decode(&std::fs::read(kept).unwrap()).unwrap(), split);
        let settled = witness(&dir);
        is_cosigned(&settled.add_checkpoint(&log.asks(5, 6)), &log.note(6), &settled);
    }
}

#[test]
fn a_path_that_proves_another_beginning_is_an_alarm_and_one_that_proves_nothing_is_not() {
    let (dir, log, fork) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES), TestLog::new(&FORKED));
    let witness = witness(dir.path());
    is_cosigned(&witness.add_checkpoint(&log.asks(0, 3)), &log.note(3), &witness);
    // Whoever has two honest notes can send this: it must not stop the log.
    let nonsense = AddCheckpoint { old: 3, path: vec![[7; 32]; 3], note: log.note(5) }.write();
    assert!(matches!(witness.add_checkpoint(nonsense.as_bytes()), Answer::Inconsistent(_)));
    let doubt = dir.path().join(format!("{}.doubt.split", hash_of("press-line")));
    assert!(!SplitFile::decode(&std::fs::read(doubt).unwrap()).unwrap().check().unwrap().0.is_proved());
    is_cosigned(&witness.add_checkpoint(&log.asks(3, 5)), &log.note(5), &witness);
    assert!(matches!(witness.add_checkpoint(&fork.asks(5, 7)), Answer::Inconsistent(_)));
    let alarm = witness.status()[0].alarm.clone().unwrap();
    let split = SplitFile::decode(&std::fs::read(alarm).unwrap()).unwrap();
    assert_eq!(split.check().unwrap().0, tally_evidence::Split::Rewritten);
    assert_eq!(witness.add_checkpoint(&log.asks(5, 7)), Answer::Conflict(5));
}

#[test]
fn a_ledger_restored_from_an_older_copy_is_cosigned_again_once_forgotten() {
    let (dir, log, fork) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES), TestLog::new(&FORKED));
    let first = witness(dir.path());
    is_cosigned(&first.add_checkpoint(&log.asks(0, 8)), &log.note(8), &first);
    assert_eq!(first.add_checkpoint(&fork.asks(0, 3)), Answer::Conflict(8));
    drop(first);
    assert!(Records::open(dir.path()).unwrap().settle("press-line", true).unwrap().is_forgotten);
    let again = witness(dir.path());
    is_cosigned(&again.add_checkpoint(&fork.asks(0, 3)), &fork.note(3), &again);
}

#[test]
fn after_a_failed_write_nothing_is_cosigned() {
    let (dir, log) = (tempfile::tempdir().unwrap(), TestLog::new(&ENTRIES));
    let folder = dir.path().join("w");
    let witness = witness(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(witness.add_checkpoint(&log.asks(0, 3)), Answer::Failed(_)));
    std::fs::create_dir(&folder).unwrap();
    assert!(matches!(witness.add_checkpoint(&log.asks(0, 3)), Answer::Failed(_)));
    assert!(witness.has_failed());
}
