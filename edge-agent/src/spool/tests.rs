//! What becomes a hole, and that no reading is neither told nor declared.

use super::drain::tests::{Plant, Scada, Telling};
use super::*;
use proptest::prelude::*;

#[test]
fn a_broker_that_was_away_leaves_one_hole_from_where_it_was_certain() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    spool.lost();
    spool.told(&plant.keep("a", 3));
    assert!(spool.is_empty(), "the first connection with nothing before it");
    let missed = plant.keep("a", 2);
    spool.lost();
    spool.missed(&missed);
    spool.missed(&plant.keep("b", 1));
    assert!(!spool.is_empty());
    spool.told(&plant.keep("a", 1));
    let holes: Vec<_> = spool.state().holes.iter().map(|hole| (hole.from.place, hole.to.place)).collect();
    // The second in doubt begins at the start: record 0 was told a moment ago only.
    assert_eq!(holes, [(0, 3)]);
}

#[test]
fn only_what_the_broker_has_answered_is_certain_however_long_ago_the_rest_was_sent() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    let start = Instant::now();
    let hours = |count: u64| start + Duration::from_secs(count * 3_600);
    let place = spool.told_at(&plant.keep("a", 3), start);
    assert_eq!(place, Some(1));
    assert_eq!(spool.told_at(&plant.keep("a", 3), start), None, "not twice within a second");
    // An agent that stood still for hours, and heard of nothing meanwhile.
    assert_eq!(spool.told_at(&plant.keep("a", 3), hours(1)), Some(3));
    spool.arrived(1);
    spool.lost();
    assert_eq!(spool.told_at(&plant.keep("a", 1), hours(2)), Some(4));
    let holes: Vec<_> = spool.state().holes.iter().map(|hole| (hole.from.place, hole.to.place)).collect();
    assert_eq!(holes, [(1, 3)]);
    for hour in 3..500 {
        spool.told_at(&plant.keep("a", 1), hours(hour));
    }
    assert_eq!(spool.state().recent.len(), MARKS_MAX, "a broker that never answers");
    assert_eq!(spool.state().certain().place, 3);
}

#[test]
fn a_batch_that_never_came_here_is_noticed_by_its_record() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    spool.told(&plant.keep("a", 3));
    let _lost_on_the_way = plant.keep("b", 3);
    spool.told(&plant.keep("a", 3));
    let holes: Vec<_> = spool.state().holes.iter().map(|hole| (hole.from.place, hole.to.place)).collect();
    assert_eq!(holes, [(1, 2)]);
}

#[test]
fn holes_stay_bounded() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    for _ in 0..500 {
        spool.missed(&plant.keep("a", 1));
        spool.told(&plant.keep("a", 1));
        spool.told(&plant.keep("b", 1));
    }
    assert_eq!(spool.state().holes.len(), HOLES_MAX);
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    assert!(scada.numbers("a").len() >= 500 && scada.gaps.is_empty());
}

#[test]
fn a_restart_tells_again_from_the_place_that_was_kept() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    spool.told(&plant.keep("a", 3));
    spool.keep().unwrap();
    // kill -9 here; the vault got more before it.
    plant.keep("a", 4);
    let spool = plant.spool(SpoolLimits::default());
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    assert_eq!(scada.numbers("a"), (0..7).collect::<Vec<_>>(), "the last seconds are in doubt, so they are told again");
    spool.keep().unwrap();
    let spool = plant.spool(SpoolLimits::default());
    assert!(spool.is_empty());
    // A first life that ended before its first look at the clock has a place, too.
    let first = Plant::new();
    let _spool = first.spool(SpoolLimits::default());
    first.keep("a", 3);
    first.drain(&first.spool(SpoolLimits::default()), &mut scada);
    assert_eq!(scada.numbers("a").len(), 7 + 3);
    // A file that is not ours costs what was missed, and nothing else.
    std::fs::write(plant.file(), b"{}").unwrap();
    assert!(plant.spool(SpoolLimits::default()).is_empty());
}

#[test]
fn what_devices_had_recorded_survives_kill_and_a_way_to_the_live_task_that_is_full() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    spool.told(&plant.keep("a", 3));
    spool.keep().unwrap();
    // The live task never heard of the first; the place was not written down after the second. Then kill -9.
    let _never_came = plant.keep_late("a", 0, 5);
    spool.missed(&plant.keep_late("a", 5, 5));
    let spool = plant.spool(SpoolLimits::default());
    let mut scada = Scada::default();
    plant.drain(&spool, &mut scada);
    assert_eq!(scada.recorded("a"), (0..10).collect::<Vec<_>>());
    // Told, and its place is written down: not told again.
    spool.keep().unwrap();
    assert!(plant.spool(SpoolLimits::default()).is_empty());
    // In one life, what never came is found by its record.
    let _never_came = plant.keep_late("a", 10, 5);
    spool.told(&plant.keep("a", 1));
    plant.drain(&spool, &mut scada);
    assert_eq!(scada.recorded("a"), (0..15).collect::<Vec<_>>());
}

#[test]
fn a_vault_from_a_backup_or_a_new_one_has_nothing_to_tell_of_what_was() {
    let plant = Plant::new();
    let spool = plant.spool(SpoolLimits::default());
    for _ in 0..10 {
        spool.missed(&plant.keep("a", 5));
    }
    spool.keep().unwrap();
    let mut other = Plant::new();
    other.adopt(&plant);
    let spool = other.spool(SpoolLimits::default());
    assert!(spool.is_empty());
    spool.told(&other.keep("a", 5));
    assert!(spool.is_empty());
}

/// One event of a life with a broker.
#[derive(Debug, Clone)]
enum Event {
    Told(bool, usize),
    Missed(bool, usize),
    NeverCame(bool, usize),
    Recorded(bool, usize),
    /// The broker takes so many of the batches that are on their way to it, and answers.
    Arrived(usize),
    Lost,
    /// A part of a hole is sent, which arrives later.
    Begun(usize),
    Ended,
    Drained,
    Killed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<bool>(), 1..5_usize).prop_map(|(device, count)| Event::Told(device, count)),
        3 => (any::<bool>(), 1..5_usize).prop_map(|(device, count)| Event::Missed(device, count)),
        1 => (any::<bool>(), 1..5_usize).prop_map(|(device, count)| Event::NeverCame(device, count)),
        1 => (any::<bool>(), 1..5_usize).prop_map(|(came, count)| Event::Recorded(came, count)),
        2 => (0..6_usize).prop_map(Event::Arrived),
        1 => Just(Event::Lost),
        2 => (1..6_usize).prop_map(Event::Begun),
        2 => Just(Event::Ended),
        1 => Just(Event::Drained),
        1 => Just(Event::Killed),
    ]
}

/// A connection to the broker: what was said on it and has not arrived, each batch perhaps with the place that was noted behind it.
#[derive(Default)]
struct Line(VecDeque<(Kept, Option<u64>)>);

impl Line {
    /// The first `count` arrive, and what was sent behind them is answered.
    fn arrive(&mut self, count: usize, spool: &Spool, scada: &mut Scada) {
        for (kept, place) in self.0.drain(..count.min(self.0.len())) {
            scada.hear(&kept);
            if let Some(place) = place {
                spool.arrived(place);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// The promise: every reading is told live, told later, or declared missing.
    #[test]
    fn no_reading_is_lost_in_silence(events in proptest::collection::vec(event(), 1..60), bytes in 200_u64..4_000) {
        let plant = Plant::new();
        let limits = SpoolLimits { bytes_max: bytes, ..SpoolLimits::default() };
        let (mut spool, mut scada, mut line) = (plant.spool(limits), Scada::default(), Line::default());
        let (mut recorded, mut now, mut telling) = (0_i64, Instant::now(), None::<Telling>);
        let name = |device| if device { "a" } else { "b" };
        for event in events {
            now += Duration::from_millis(400);
            match event {
                Event::Told(device, count) => {
                    let kept = plant.keep(name(device), count);
                    let place = spool.told_at(&kept, now);
                    line.0.push_back((kept, place));
                }
                Event::Arrived(count) => line.arrive(count, &spool, &mut scada),
                Event::Missed(device, count) => spool.missed(&plant.keep(name(device), count)),
                Event::NeverCame(device, count) => drop(plant.keep(name(device), count)),
                Event::Recorded(came, count) => {
                    let count = i64::try_from(count).unwrap();
                    let kept = plant.keep_late("a", recorded, count);
                    recorded += count;
                    if came {
                        spool.missed(&kept);
                    }
                }
                Event::Lost => {
                    line.0.clear();
                    spool.lost();
                }
                Event::Begun(count) if telling.is_none() => telling = plant.begin(&spool, count),
                Event::Begun(_) => {}
                Event::Ended => {
                    if let Some(telling) = telling.take() {
                        telling.end(&spool, &mut scada);
                    }
                }
                Event::Drained => {
                    // One after the other, as the task does it.
                    if let Some(telling) = telling.take() {
                        telling.end(&spool, &mut scada);
                    }
                    plant.drain(&spool, &mut scada);
                }
                Event::Killed => {
                    telling = None;
                    line.0.clear();
                    spool.keep().unwrap();
                    spool = plant.spool(limits);
                }
            }
        }
        if let Some(telling) = telling {
            telling.end(&spool, &mut scada);
        }
        line.arrive(usize::MAX, &spool, &mut scada);
        // One more batch each, so that what never came is noticed.
        for device in ["a", "b"] {
            let kept = plant.keep(device, 1);
            scada.hear(&kept);
            spool.told(&kept);
        }
        plant.drain(&spool, &mut scada);
        let told: std::collections::BTreeSet<_> = scada.recorded("a").into_iter().collect();
        // Given up or told; twice after a loss or a kill only.
        prop_assert!(told.len() as u64 + scada.given_up >= u64::try_from(recorded).unwrap(), "{:?}", scada);
        for device in ["a", "b"] {
            let known = scada.known(device);
            prop_assert_eq!(known.clone(), (0..plant.next(device)).collect::<Vec<_>>(), "{:?}", scada);
        }
    }
}
