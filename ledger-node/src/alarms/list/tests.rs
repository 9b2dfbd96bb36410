use super::*;
use crate::clock::WallClock;

fn news(kind: AlarmKind, subject: &str) -> News {
    News { kind, subject: subject.to_owned(), text: format!("about {subject}"), proof: None, entries: vec![3, 9] }
}

fn open(folder: &Path) -> Alarms {
    Alarms::open(Some(folder), Arc::new(WallClock)).unwrap()
}

#[test]
fn what_happened_is_told_once_until_somebody_looked_and_outlives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let alarms = open(dir.path());
    for _ in 0..3 {
        alarms.happened(news(AlarmKind::AnchorTwice, "press-01"));
    }
    alarms.happened(news(AlarmKind::AnchorTwice, "press-02"));
    assert_eq!(alarms.open_of(AlarmKind::AnchorTwice), 2);
    drop(alarms);
    let alarms = open(dir.path());
    let done = alarms.acknowledge(1, " anna ", "the vault was restored").unwrap();
    assert_eq!(done.acknowledged.as_ref().unwrap().by, "anna");
    assert!(matches!(alarms.acknowledge(1, "tom", "too"), Err(AlarmFault::Already(1, _))));
    assert!(matches!(alarms.acknowledge(7, "tom", "too"), Err(AlarmFault::Unknown(7))));
    assert!(matches!(alarms.acknowledge(2, "tom", "  "), Err(AlarmFault::Words { field: "words", .. })));
    let long = "x".repeat(WORDS_MAX.0 + 1);
    assert!(matches!(alarms.acknowledge(2, &long, "y"), Err(AlarmFault::Words { field: "by", .. })));
    // The next time is an alarm of its own; the old one stays.
    alarms.happened(news(AlarmKind::AnchorTwice, "press-01"));
    let shown = open(dir.path()).all();
    assert_eq!(shown, alarms.all());
    assert_eq!(shown.iter().map(|alarm| alarm.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(shown[0], done);
}

#[test]
fn what_stands_is_over_when_it_is_gone_and_only_when_that_is_certain() {
    let dir = tempfile::tempdir().unwrap();
    let alarms = open(dir.path());
    let stands = news(AlarmKind::WatchedHistory, "mill");
    alarms.standing(vec![stands.clone()], |_| true);
    alarms.acknowledge(1, "anna", "asked the mill").unwrap();
    // Acknowledged is not gone: it is no new alarm, also behind a restart.
    let alarms = open(dir.path());
    let proved = News { proof: Some("a.split".into()), ..stands.clone() };
    alarms.standing(vec![proved], |_| true);
    assert_eq!((alarms.all().len(), alarms.all()[0].proof.as_deref()), (1, Some(Path::new("a.split"))));
    alarms.standing(Vec::new(), |_| false);
    assert_eq!(alarms.all()[0].over, None);
    alarms.standing(Vec::new(), |_| true);
    assert!(alarms.all()[0].over.is_some());
    alarms.standing(vec![stands], |_| true);
    assert_eq!(alarms.all().len(), 2);
}

#[test]
fn another_file_is_refused_and_a_full_list_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "{}", "[]", r#"{"tallystick_alarms":2,"looked":0,"alarms":[]}"#] {
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let refused = Alarms::open(Some(dir.path()), Arc::new(WallClock)).err().unwrap();
        assert!(matches!(refused, AlarmFault::File { .. }), "{text}: {refused}");
    }
    let alarms = Alarms::open(None, Arc::new(WallClock)).unwrap();
    for number in 0..ALARMS_MAX + 1 {
        alarms.happened(news(AlarmKind::AnchorTwice, &format!("press-{number}")));
    }
    assert_eq!(alarms.all().len(), ALARMS_MAX);
}
